"""OGC SensorThings over MQTT: a server's Datastreams once, then its observations; means of a minute as an interval."""

import json
from random import Random
from typing import NamedTuple

from simulator.devices import Quantity, Unit
from simulator.dialects.network import MILLISECOND, Network, Sensor, Sent, Setting, measured, noisy, utc

MINUTE = 60_000_000


class Datastream(NamedTuple):
    """What the server says of a Datastream. `mean`: its results are of the minute that ends then."""

    name: str
    unit: tuple[str, str]
    quantity: Quantity
    mean: bool = False


def network(setting: Setting) -> Network:
    """Four Datastreams; the observations of every second one come on the collection's own topic."""
    sky = setting.sky
    particles = Quantity("pm2_5", Unit("µg/m³"), noisy(lambda t: 7 + sky.traffic(t) / 150, 1.5, 0))
    streams = (
        Datastream(
            "Lufttemperatur",
            ("degree Celsius", "°C"),
            Quantity("air_temperature", Unit("°C"), noisy(sky.temperature, 0.2)),
        ),
        Datastream("Feinstaub PM25", ("microgram per cubic metre", "µg/m³"), particles, mean=True),
        Datastream(
            "Fahrbahntemperatur",
            ("degree Fahrenheit", "°F"),
            Quantity(
                "road_surface_temperature", Unit("°F", 5 / 9, -160 / 9), noisy(lambda t: sky.temperature(t) + 1, 0.3)
            ),
        ),
        Datastream(
            "Windgeschwindigkeit",
            ("kilometre per hour", "km/h"),
            Quantity("wind_speed", Unit("km/h", 1 / 3.6), noisy(sky.wind, 0.4, 0)),
        ),
    )

    def announced(_: int) -> list[Sent]:
        return [
            Sent(f"v1.1/Datastreams({number})", _entity(number, stream), ignored=1)
            for number, stream in enumerate(streams, start=1)
        ]

    return Network([_stream(*told) for told in enumerate(streams, start=1)], announced, late=True, copied=True)


def _entity(number: int, stream: Datastream) -> bytes:
    name, symbol = stream.unit
    body = {
        "@iot.id": number,
        "name": f"{stream.name} am Markt",
        "observationType": "http://www.opengis.net/def/observationType/OGC-OM/2.0/OM_Measurement",
        "unitOfMeasurement": {"name": name, "symbol": symbol, "definition": ""},
        "ObservedProperty": {"name": stream.name, "definition": "", "description": ""},
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _stream(number: int, stream: Datastream) -> Sensor:
    device, topic, inner = f"Datastreams({number})", f"v1.1/Datastreams({number})/Observations", ""
    if number % 2 == 0:
        topic, inner = "v1.1/Observations", f',"Datastream":{{"@iot.id":{number}}}'
    template = '{"phenomenonTime":"%s","result":%s' + inner + "}"

    def make(time: int, random: Random, _now: int) -> Sent:
        numbers, good = measured(device, (stream.quantity,), time, random)
        when = f"{utc(time - MINUTE)}/{utc(time)}" if stream.mean else utc(time)
        return Sent(topic, (template % (when, *numbers)).encode(), good)

    return Sensor(f"sensorthings/{number}", make, MILLISECOND)
