"""A city's own JSON: containers that measure the air, in German, with decimal commas and a clock on the wall.

One key is anonymous; what it means says the city file's device profile.
"""

from random import Random

from simulator.devices import Quantity, Unit
from simulator.dialects.network import SECOND, Network, Sensor, Sent, Setting, berlin, measured, noisy

BODY = (
    '{"Zeitstempel":"%s","Messwerte":[{"name":"Stickstoffdioxid","Wert":"%s","Einheit":"µg/m³"},'
    '{"name":"Feinstaub PM10","Wert":"%s","Einheit":"µg/m³"},{"name":"Lufttemperatur","Wert":"%s °C"},'
    '{"name":"K7","Wert":"%s"}]}'
)


def network(setting: Setting) -> Network:
    """Three containers."""
    sky = setting.sky
    quantities = (
        Quantity("no2", Unit("µg/m³"), noisy(lambda t: 14 + sky.traffic(t) / 40, 2, 0)),
        Quantity("pm10", Unit("µg/m³"), noisy(lambda t: 15 + sky.traffic(t) / 90, 2, 0)),
        Quantity("air_temperature", Unit("°C"), noisy(sky.temperature, 0.2)),
        Quantity("co2", Unit("ppm"), noisy(lambda t: 1_020 + sky.traffic(t) / 10, 5, 410)),
    )
    return Network([_container(f"container-{n}", quantities) for n in (1, 2, 3)], copied=True, wall=True)


def german(number: float) -> str:
    """A number as it is written in Germany: 1.234,5."""
    return f"{number:,.1f}".translate({ord(","): ".", ord("."): ","})


def _container(name: str, quantities: tuple[Quantity, ...]) -> Sensor:
    topic = f"stadt/umwelt/{name}/daten"

    def make(time: int, random: Random, _now: int) -> Sent:
        numbers, good = measured(name, quantities, time, random)
        told = (f"{berlin(time):%d.%m.%Y %H:%M:%S}", *map(german, numbers))
        return Sent(topic, (BODY % told).encode(), good, ignored=1)  # the time

    return Sensor(topic, make, SECOND)
