"""Zigbee2MQTT: windows and air in public buildings; what a property is measured in says the bridge's retained list."""

import json
from random import Random
from typing import Any

from simulator.devices import Quantity, Unit
from simulator.dialects.network import MILLISECOND, Network, Sensor, Sent, Setting, measured, noisy, quiet, utc
from simulator.expectation import Good

Exposes = list[dict[str, Any]]


def _numeric(name: str, unit: str) -> dict[str, Any]:
    return {"type": "numeric", "name": name, "property": name, "access": 1, "unit": unit}


CONTACT: Exposes = [
    _numeric("battery", "%") | {"value_min": 0, "value_max": 100},
    {"type": "binary", "name": "contact", "property": "contact", "access": 1, "value_on": False, "value_off": True},
    _numeric("device_temperature", "°C"),
    _numeric("voltage", "mV"),
    _numeric("linkquality", "lqi"),
]
AIR: Exposes = [
    _numeric("temperature", "°C"),
    _numeric("humidity", "%"),
    _numeric("pm25", "µg/m³"),
    _numeric("linkquality", "lqi"),
]
IGNORED = 2  # last_seen and linkquality
BATTERY = '{"battery":%s,"contact":%s,"device_temperature":%d,"last_seen":"%s","linkquality":%d,"voltage":%d}'
AS_TEXT = BATTERY.replace('"battery":%s', '"battery":"%.2f"')  # what some converters make of it
VINDSTYRKA = '{"humidity":%s,"last_seen":"%s","linkquality":%d,"pm25":%s,"temperature":%s}'


def network(_: Setting) -> Network:
    """Two window contacts, of which one writes its battery's charge as text, and a sensor of air quality."""
    windows = ["Rathaus/Fenster 1", "Rathaus/Fenster 2"]
    listed = [{"ieee_address": "0x00124b0014d9a1b2", "type": "Coordinator", "friendly_name": "Coordinator"}]
    for number, name in enumerate(windows):
        listed.append(_described(name, number, "Aqara", "MCCGQ11LM", CONTACT))
    listed.append(_described("Bürgersaal", 7, "IKEA", "E2112", AIR))
    devices = json.dumps(listed, ensure_ascii=False, separators=(",", ":")).encode()

    def announced(_: int) -> list[Sent]:
        retained = [("bridge/state", b'{"state":"online"}'), ("bridge/devices", devices)]
        retained += [(f"{name}/availability", b'{"state":"online"}') for name in (*windows, "Bürgersaal")]
        return [Sent(f"zigbee2mqtt/{what}", payload, ignored=1, retain=True) for what, payload in retained]

    sensors = [_window(windows[0], BATTERY), _window(windows[1], AS_TEXT), _air("Bürgersaal")]
    return Network(sensors, announced, copied=True)


def _described(name: str, number: int, vendor: str, model: str, exposes: Exposes) -> dict[str, Any]:
    definition = {"vendor": vendor, "model": model, "description": model, "exposes": exposes}
    return {
        "ieee_address": f"0x00158d000{number:07x}",
        "type": "EndDevice",
        "friendly_name": name,
        "supported": True,
        "definition": definition,
    }


def _window(name: str, template: str) -> Sensor:
    topic = f"zigbee2mqtt/{name}"
    volts = Quantity("device_battery_voltage", Unit("mV", 0.001, decimals=0), noisy(lambda _: 3.005, 0.01))
    warmth = Quantity("device_temperature", Unit("°C", decimals=0), noisy(lambda _: 22, 1))
    charge = Quantity("device_battery_level", Unit("%", decimals=0), quiet)

    def make(time: int, random: Random, _now: int) -> Sent:
        (battery, warm, millivolts), good = measured(name, (charge, warmth, volts), time, random)
        closed = random.random() < 0.8  # noqa: PLR2004  (mostly)
        told = (battery, "true" if closed else "false", warm, utc(time), random.randrange(40, 200), millivolts)
        shut = Good(name, "", "contact_open", time, float(not closed))
        return Sent(topic, (template % told).encode(), (*good, shut), IGNORED)

    return Sensor(topic, make, MILLISECOND)


def _air(name: str) -> Sensor:
    topic = f"zigbee2mqtt/{name}"
    quantities = (
        Quantity("indoor_relative_humidity", Unit("%", decimals=0), noisy(lambda _: 47, 2)),
        Quantity("pm2_5", Unit("µg/m³", decimals=0), noisy(lambda _: 8, 3, 0)),
        Quantity("indoor_temperature", Unit("°C"), noisy(lambda _: 20.8, 0.3)),
    )

    def make(time: int, random: Random, _now: int) -> Sent:
        (humid, dust, warm), good = measured(name, quantities, time, random)
        told = (humid, utc(time), random.randrange(40, 200), dust, warm)
        return Sent(topic, (VINDSTYRKA % told).encode(), good, IGNORED)

    return Sensor(topic, make, MILLISECOND)
