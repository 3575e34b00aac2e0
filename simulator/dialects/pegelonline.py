"""PEGELONLINE over EDIS: federal gauges, a topic for each parameter; levels in cm above the gauge's zero."""

from collections.abc import Callable
from random import Random

from simulator.devices import Quantity, Unit
from simulator.dialects.network import SECOND, Network, Sensor, Sent, Setting, berlin, measured, noisy

BODY = (
    '{"uuid":"UUID","number":"9650043","shortname":"HAFEN","longname":"HAFEN","km":1.2,"agency":"WSA OSTSEE",'
    '"water":{"shortname":"OSTSEE","longname":"OSTSEE"},"timeseries":{"shortname":"NAME","longname":"LONG",'
    '"unit":"UNIT","equidistance":1,"measurement":{"timestamp":"%s","value":%s}}}'
)


def network(setting: Setting) -> Network:
    """Level and water temperature of every federal gauge that the city file names."""
    sky = setting.sky
    sensors = []
    for uuid, mean in setting.stations:

        def level(t: float, mean: float = mean) -> float:
            return mean + sky.seiche(t)

        sensors += [
            _series(uuid, "W", "WASSERSTAND ROHDATEN", "cm", level, "water_level", 0.004, 0.01),
            _series(uuid, "WT", "WASSERTEMPERATUR", "°C", sky.water_temperature, "water_temperature", 0.05, 1.0),
        ]
    return Network(sensors, copied=True)


def _series(
    uuid: str,
    name: str,
    longname: str,
    unit: str,
    curve: Callable[[float], float],
    observed: str,
    sigma: float,
    factor: float,
) -> Sensor:
    quantities = (Quantity(observed, Unit(unit, factor), noisy(curve, sigma)),)
    topic = f"edis/pegelonline/ostsee/küste/hafen/wsa_ostsee/{uuid}/{name.lower()}"
    template = BODY.replace("UUID", uuid).replace("NAME", name).replace("LONG", longname).replace("UNIT", unit)

    def make(time: int, random: Random, _now: int) -> Sent:
        numbers, good = measured(uuid, quantities, time, random)
        return Sent(topic, (template % (berlin(time).isoformat(), *numbers)).encode(), good)

    return Sensor(f"pegelonline/{uuid}/{name}", make, SECOND)
