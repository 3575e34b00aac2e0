"""Homie 5: the meters of public buildings. Everything is retained, nothing has a time; totals that only grow."""

import json
from random import Random

from simulator.curves import counted
from simulator.dialects.network import Network, Sensor, Sent, Setting
from simulator.expectation import Good

BUILDINGS = ("rathaus", "stadtbibliothek", "schwimmhalle")
# node/property: name, unit, mean an hour
METERS = {
    "water-meter/volume": ("water_volume_total", "m³", 0.4),
    "energy/import": ("electric_energy_import", "kWh", 14.0),
    "heat/energy": ("heat_energy_total", "kWh", 31.0),
}
TARGET = "heat/target"  # a set point
STEP = 0.0001  # a reading without a time of its own is told apart by its value, so those never repeat


def network(_: Setting) -> Network:
    """A device for each building, with three meters and a set point."""
    description = _description()

    def announced(_: int) -> list[Sent]:
        told = (("$state", b"init"), ("$description", description), ("$state", b"ready"), (TARGET, b"20.5"))
        return [
            Sent(f"homie/5/{building}/{what}", payload, ignored=1, retain=True)
            for building in BUILDINGS
            for what, payload in told
        ]

    sensors = [_meter(building, path, n + 1.0) for n, building in enumerate(BUILDINGS) for path in METERS]
    return Network(sensors, announced)


def _description() -> bytes:
    nodes: dict[str, dict[str, dict[str, object]]] = {}
    for path, (_, unit, _) in METERS.items():
        node, name = path.split("/")
        nodes.setdefault(node, {"properties": {}})["properties"][name] = {"datatype": "float", "unit": unit}
    node, name = TARGET.split("/")
    nodes[node]["properties"][name] = {"datatype": "float", "unit": "°C", "settable": True}
    body = {"homie": "5.0", "version": 1, "name": "Zählerschrank", "type": "Meters", "nodes": nodes}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _meter(building: str, path: str, size: float) -> Sensor:
    observed, _, mean = METERS[path]
    topic, last = f"homie/5/{building}/{path}", 0.0

    def make(time: int, _random: Random, _now: int) -> Sent:
        nonlocal last
        last = max(round(counted(time / 1e6, mean * size), 4), round(last + STEP, 4))
        return Sent(topic, b"%.4f" % last, (Good(building, "", observed, None, last),), retain=True)

    return Sensor(topic, make)
