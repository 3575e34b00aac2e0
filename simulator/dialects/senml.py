"""SenML (RFC 8428): climate masts that send packs in JSON, every second one in CBOR; one record is of a minute ago."""

from random import Random

import cbor2

from simulator.devices import Quantity, Unit
from simulator.dialects.network import MILLISECOND, Network, Sensor, Sent, Setting, measured, noisy, quiet
from simulator.expectation import Good

RECORDS = (  # name, unit
    ("outdoor_temperature", "Cel"),
    ("relative_humidity", "%RH"),
    ("noise_laeq", "dB"),
    ("battery", "%EL"),
    ("soil_moisture", "%"),
)
AGO = 60  # s: the soil is measured before the mast wakes up
PACK = (
    '[{"bn":"@device:","bt":%.3f,"n":"outdoor_temperature","u":"Cel","v":%s},{"n":"relative_humidity","u":"%%RH","v":%s},'
    '{"n":"noise_laeq","u":"dB","v":%s},{"n":"battery","u":"%%EL","v":%s},'
    '{"n":"soil_moisture","u":"%%","t":-60,"v":%s}]'
)
BASE_NAME, BASE_TIME, NAME, UNIT, VALUE, TIME = -2, -3, 0, 1, 2, 6  # labels of CBOR


def network(setting: Setting) -> Network:
    """Four masts."""
    sky = setting.sky
    quantities = (
        Quantity("air_temperature", Unit("Cel", decimals=2), noisy(sky.temperature, 0.2)),
        Quantity("relative_humidity", Unit("%RH"), noisy(sky.humidity, 1, 5, 100)),
        Quantity("noise_laeq", Unit("dB"), noisy(lambda t: 50 + sky.traffic(t) / 70, 1.5, 30)),
        Quantity("device_battery_level", Unit("%EL", decimals=0), quiet),
        Quantity("soil_moisture", Unit("%"), noisy(lambda t: 31 + sky.rain(t), 0.5, 0, 100)),
    )
    devices = [f"urn:dev:mac:0024befffe{setting.random.randrange(1 << 24):06x}" for _ in range(4)]
    return Network([_mast(device, n, quantities) for n, device in enumerate(devices)], late=True, copied=True)


def _mast(device: str, number: int, quantities: tuple[Quantity, ...]) -> Sensor:
    topic = f"senml/mast-{number + 1}"
    template = PACK.replace("@device", device)

    def make(time: int, random: Random, _now: int) -> Sent:
        numbers, good = measured(device, quantities, time, random)
        *fresh, soil = good
        before = Good(*soil[:3], time - AGO * 1_000_000, soil.value)
        payload = _cbor(device, time, numbers) if number % 2 else (template % (time / 1e6, *numbers)).encode()
        return Sent(topic, payload, (*fresh, before))

    return Sensor(topic, make, MILLISECOND)


def _cbor(device: str, time: int, numbers: list[float]) -> bytes:
    pack: list[dict[int, object]] = [
        {NAME: name, UNIT: unit, VALUE: number} for (name, unit), number in zip(RECORDS, numbers, strict=True)
    ]
    pack[0] |= {BASE_NAME: f"{device}:", BASE_TIME: time / 1e6}
    pack[-1][TIME] = -AGO
    return cbor2.dumps(pack)
