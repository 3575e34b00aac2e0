"""Tasmota: metering plugs and weather sensors in town halls; local time without an offset, one device in Fahrenheit."""

from random import Random

from simulator.curves import City, counted
from simulator.devices import Quantity, Unit
from simulator.dialects.network import SECOND, Network, Sensor, Sent, Setting, berlin, measured, noisy
from simulator.expectation import Good

ENERGY = (
    '{"Time":"%s","ENERGY":{"TotalStartTime":"2024-01-01T00:00:00","Total":%s,"Yesterday":1.234,"Today":0.567,'
    '"Period":3,"Power":%d,"ApparentPower":%d,"ReactivePower":%d,"Factor":%s,"Voltage":%d,"Current":%s}}'
)
ENERGY_IGNORED = 4  # when counting began, and what is set back to zero
CLIMATE = (
    '{"Time":"%s","BME280":{"Temperature":%s,"Humidity":%s,"DewPoint":%s,"Pressure":%s},"PressureUnit":"hPa",'
    '"TempUnit":"UNIT"}'
)
CLIMATE_IGNORED = 2  # the units
BME280 = "BME280"  # a driver is a channel
STATE = (
    '{"Time":"%s","Uptime":"3T04:05:06","UptimeSec":273906,"Heap":25,"SleepMode":"Dynamic","Sleep":50,"LoadAvg":19,'
    '"MqttCount":1,"POWER":"%s","Wifi":{"AP":1,"SSId":"iot","BSSId":"AA:BB:CC:DD:EE:FF","Channel":6,"Mode":"11n",'
    '"RSSI":%d,"Signal":%d,"LinkCount":1,"Downtime":"0T00:00:03"}}'
)
STATE_IGNORED = 7  # all but the time, the relay and the radio's level


def network(setting: Setting) -> Network:
    """Two plugs with their states, two weather sensors."""
    sensors = []
    for number, cel in ((1, Unit("C")), (2, Unit("F", 5 / 9, -160 / 9))):
        plug, outside = f"rathaus-steckdose-{number}", f"klima-{number}"
        sensors += [
            _telemetry(plug, ENERGY, _plug(setting.sky, 120.0 * number), ENERGY_IGNORED),
            _state(plug),
            _telemetry(outside, CLIMATE.replace("UNIT", cel.spelling), _outside(setting.sky, cel), CLIMATE_IGNORED),
        ]

    def announced(_: int) -> list[Sent]:
        names = [f"rathaus-steckdose-{number}" for number in (1, 2)] + [f"klima-{number}" for number in (1, 2)]
        return [Sent(f"tele/{name}/LWT", b"Online", ignored=1, retain=True) for name in names]

    return Network(sensors, announced, copied=True, wall=True)


def _plug(sky: City, watts: float) -> tuple[Quantity, ...]:
    return (
        Quantity("electric_energy_import", Unit("kWh", decimals=3), lambda t, _: counted(t, watts / 1_000)),
        Quantity("electric_active_power", Unit("W", decimals=0), noisy(lambda t: watts * sky.load(t), 4, 0)),
        Quantity("electric_apparent_power", Unit("VA", decimals=0), noisy(lambda _: 1.1 * watts, 4, 0)),
        Quantity("electric_reactive_power", Unit("var", decimals=0), noisy(lambda _: 0.3 * watts, 3, 0)),
        Quantity("electric_power_factor", Unit("1", decimals=2), noisy(lambda _: 0.91, 0.01, 0, 1)),
        Quantity("electric_voltage", Unit("V", decimals=0), noisy(lambda _: 231, 1)),
        Quantity("electric_current", Unit("A", decimals=3), noisy(lambda _: watts / 231, 0.01, 0)),
    )


def _outside(sky: City, cel: Unit) -> tuple[Quantity, ...]:
    return (
        Quantity("air_temperature", cel, noisy(sky.temperature, 0.2), BME280),
        Quantity("relative_humidity", Unit("%"), noisy(sky.humidity, 1, 5, 100), BME280),
        Quantity("dew_point_temperature", cel, noisy(lambda t: sky.temperature(t) - 3, 0.2), BME280),
        Quantity("air_pressure", Unit("hPa"), noisy(sky.pressure, 0.2), BME280),
    )


def _wall(time: int) -> str:
    return f"{berlin(time):%Y-%m-%dT%H:%M:%S}"


def _telemetry(name: str, template: str, quantities: tuple[Quantity, ...], ignored: int) -> Sensor:
    def make(time: int, random: Random, _now: int) -> Sent:
        numbers, good = measured(name, quantities, time, random)
        return Sent(f"tele/{name}/SENSOR", (template % (_wall(time), *numbers)).encode(), good, ignored)

    return Sensor(f"tasmota/{name}", make, SECOND)


def _state(name: str) -> Sensor:
    def make(time: int, random: Random, _now: int) -> Sent:
        on, level = random.random() < 0.9, random.randrange(-78, -52)  # noqa: PLR2004  (mostly on)
        good = (
            Good(name, "", "switch_on", time, float(on)),
            Good(name, "", "device_rssi", time, float(level)),
        )
        payload = STATE % (_wall(time), "ON" if on else "OFF", 2 * (level + 100), level)
        return Sent(f"tele/{name}/STATE", payload.encode(), good, STATE_IGNORED)

    return Sensor(f"tasmota/{name}/state", make, SECOND)
