"""vzlogger: an SML meter's registers, with the time switched on; what a channel is, is announced once and retained."""

from random import Random

from simulator.curves import counted
from simulator.devices import Quantity, Unit
from simulator.dialects.network import MILLISECOND, Network, Sensor, Sent, Setting, measured, noisy


def network(setting: Setting) -> Network:
    """Import and export in Wh, the power and a phase's voltage."""
    sky = setting.sky
    registers = {
        "1-0:1.8.0": Quantity("electric_energy_import", Unit("Wh", 0.001), lambda t, _: counted(t, 5.2)),
        "1-0:2.8.0": Quantity("electric_energy_export", Unit("Wh", 0.001), lambda t, _: counted(t, 1.9, swing=1)),
        "1-0:16.7.0": Quantity("electric_active_power", Unit("W"), noisy(lambda t: 5_200 * sky.load(t), 60)),
        "1-0:32.7.0": Quantity("electric_voltage", Unit("V"), noisy(lambda _: 231, 1), channel="L1"),
    }
    channels = {f"vzlogger/chn{number}": code for number, code in enumerate(registers)}

    def announced(_: int) -> list[Sent]:
        told = []
        for number, (channel, code) in enumerate(channels.items()):
            told.append(Sent(f"{channel}/id", code.encode(), ignored=1, retain=True))
            uuid = f"0c8d7f20-5c1e-11ee-8c99-{number:012x}"
            told.append(Sent(f"{channel}/uuid", uuid.encode(), ignored=1, retain=True))
        return told

    sensors = [_channel(channel, (registers[code],)) for channel, code in channels.items()]
    return Network(sensors, announced, copied=True)


def _channel(channel: str, quantities: tuple[Quantity, ...]) -> Sensor:
    def make(time: int, random: Random, _now: int) -> Sent:
        (number,), good = measured(channel, quantities, time, random)
        return Sent(f"{channel}/raw", b'{"timestamp":%d,"value":%.1f}' % (time // 1_000, number), good)

    return Sensor(channel, make, MILLISECOND)
