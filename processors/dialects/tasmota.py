"""Tasmota: telemetry on `tele/{topic}/SENSOR` and `STATE`, answers on `stat/{topic}/STATUS8`, `10` and `11`, JSON.

The place of the prefix is configurable (FullTopic): what is left of the topic without prefix and last level is the
device. Each driver has an object of its own, whose name is the channel; within it keys and units are Tasmota's own
where this module knows them. A temperature may be a room's, the Baltic's or a heating pipe's, so it has no property
here; the chip's own is the device's. Smart meters (SML) have keys that their owner chose. Keys and units as in
HATasmota's sensor table (PyPI) and Tasmota's sources (ResponseGetTime for the forms of the time).
"""

from collections.abc import Iterator
from typing import Any

from processors.dialects.leaves import (
    NO_OBSERVATION,
    SECOND_COPY,
    At,
    clipped,
    collected,
    device_name,
    flat,
    leaf,
    most_keys,
    on,
    state,
)
from processors.dialects.strict_json import load_object, shown
from processors.standard.observation import Decoded, Leaf, Message, Reason, Rejection
from processors.standard.times import from_epoch, local

FILTERS = (
    "tele/+/SENSOR",
    "tele/+/STATE",
    "stat/+/STATUS8",
    "stat/+/STATUS10",
    "stat/+/STATUS11",
    "+/tele/SENSOR",
    "+/tele/STATE",
)

_PREFIXES = ("tele", "stat")
_SECOND_US = 1_000_000

# Energy monitoring. A list has a value per phase or relay, a tariff list one per tariff.
ENERGY = {
    "Total": ("electric_energy_import", "kWh"),
    "TotalTariff": ("electric_energy_import", "kWh"),
    "ImportActive": ("electric_energy_import", "kWh"),
    "ExportActive": ("electric_energy_export", "kWh"),
    "ExportTariff": ("electric_energy_export", "kWh"),
    "Power": ("electric_active_power", "W"),
    "ApparentPower": ("electric_apparent_power", "VA"),
    "ReactivePower": ("electric_reactive_power", "var"),
    "Factor": ("electric_power_factor", "1"),
    "Frequency": ("electric_frequency", "Hz"),
    "Voltage": ("electric_voltage", "V"),
    "Current": ("electric_current", "A"),
    "CurrentNeutral": ("electric_current", "A"),
}
# Beside a list or total of the same property these need a channel of their own.
_ENERGY_CHANNELS = {"CurrentNeutral": "neutral", "ImportActive": "meter", "ExportActive": "meter"}
# Sums that the next report or midnight sets back to zero; the totals say the same.
_DERIVED = frozenset({"Today", "Yesterday", "Period", "TotalStartTime"})

# Keys whose meaning is one, whichever driver has it. eCO2 is none of them: it is guessed from organic vapours.
ANYWHERE = {
    "CarbonDioxide": ("co2", "ppm"),
    "PM1": ("pm1", "ug/m3"),
    "PM2.5": ("pm2_5", "ug/m3"),
    "PM10": ("pm10", "ug/m3"),
    "Battery": ("device_battery_level", "%"),
    "BatteryPercentage": ("device_battery_level", "%"),
    "BatteryVoltage": ("device_battery_voltage", "V"),
}
BAROMETERS = ("BMP", "BME")
PRESSURES = {"Pressure": "air_pressure", "SeaPressure": "air_pressure_sea_level"}
ELECTRICAL = ("INA2", "INA3")
WIND = {
    ("Speed", "Avg"): ("wind_speed", None),
    ("Speed", "Max"): ("wind_speed_gust", None),
    ("Dir", "Avg"): ("wind_direction", "deg"),
}
# Units of keys whose meaning is left open.
UNITS = {
    "Humidity": "%",
    "Moisture": "%",
    "Illuminance": "lx",
    "Ambient": "lx",
    "eCO2": "ppm",
    "TVOC": "ppb",
    "CF1": "ug/m3",
    "CF2.5": "ug/m3",
    "CF10": "ug/m3",
    "CCT": "K",
}
_UNIT_MEMBERS = {
    "Temperature": "TempUnit",
    "DewPoint": "TempUnit",
    "Pressure": "PressureUnit",
    "SeaPressure": "PressureUnit",
    "Speed": "SpeedUnit",
}
# The laser rangers (VL53…, HRXL) printed whole millimetres once and print centimetres now: which, nobody can tell.
_CENTIMETRES = ("SR04", "ME007", "LD2410")

_NO_READINGS = frozenset({"TempUnit", "PressureUnit", "SpeedUnit", "PN532", "RDM6300"})
_TIMES = frozenset({"Time", "Epoch"})
_IDENTITY = frozenset(
    {"Id", "Address", "Update threshold", "Device", "Name", "Endpoint", "Group", "LinkQuality", "Type", "mac"}
    | {"Meter_Number", "Meter_number", "Meter_id", "meter_id", "Server_ID", "Server_id", "server_id", "Serial"}
)
_ON_OFF = {"OFF": 0.0, "ON": 1.0}


def decode(message: Message) -> Decoded:
    """Readings of a telemetry message. Never raises."""
    body = load_object(message.payload)
    if isinstance(body, Rejection):
        return body
    device = device_name(*_device(message.topic))
    if isinstance(device, Rejection):
        return device
    of_sensors, of_state = body.get("StatusSNS"), body.get("StatusSTS")
    if isinstance(of_sensors, dict):
        body = of_sensors
    elif isinstance(of_state, dict):
        body = of_state
    at = _timed(At(device), body, message)
    if message.topic.endswith("/STATE") or isinstance(of_state, dict):
        return collected(_state(body, at), message, device, pack=False)
    return collected(_sensors(body, at, most_keys(message)), message, device, pack=False)


def _device(topic: str) -> tuple[str, str]:
    """What is left of a topic without the prefix, first or last but one, and the kind of message."""
    levels = topic.split("/")[:-1]
    if levels and levels[0] in _PREFIXES:
        levels = levels[1:]
    elif levels and levels[-1] in _PREFIXES:
        levels = levels[:-1]
    return "/".join(levels), "the topic's device"


def _timed(at: At, body: dict[str, Any], message: Message) -> At:
    """The time of a telemetry message: `Epoch` where it comes, or `Time`: the device's wall clock, or epoch seconds."""
    for text in (body.get("Epoch"), body.get("Time")):
        if isinstance(text, int | float) and not isinstance(text, bool):
            time = from_epoch(text, _SECOND_US)
            if not isinstance(time, Reason):
                return at._replace(time=time)
        elif isinstance(text, str):
            read = local(text, message.zones, at.device, message.received_us)
            if not isinstance(read, Reason):
                return at._replace(time=read[0], tests=read[1])
        if text is not None:
            return at._replace(fault=(Reason.INVALID_TIME, f"Time {shown(text)!r:.60} is no local time"))
    return at


def _sensors(body: dict[str, Any], at: At, limit: int) -> Iterator[Leaf]:
    for sensor, value in body.items():
        if sensor in _TIMES:
            continue
        if sensor in _NO_READINGS:
            yield NO_OBSERVATION
        elif sensor == "ZbReceived" and isinstance(value, dict):
            for address, one in value.items():  # a bridge speaks for its Zigbee devices
                yield from _driver(_key(sensor, address), one, on(at, clipped(address)), body, limit)
        else:
            channel = clipped(sensor) if isinstance(value, dict) and sensor != "ENERGY" else ""
            yield from _driver(sensor, value, on(at, channel), body, limit)


def _driver(sensor: str, value: Any, at: At, body: dict[str, Any], limit: int) -> Iterator[Leaf]:
    if isinstance(value, dict):
        for name, path, one in _members(value, limit):
            yield _member(sensor, name, path, one, at, body)
    elif isinstance(value, list):
        for path, one in flat(value, limit):
            yield leaf(_key(sensor, path), one, at)
    else:
        yield leaf(_key(sensor), value, at)


def _members(body: dict[str, Any], limit: int) -> Iterator[tuple[str, str, Any]]:
    """Leaves of a driver's object: name, path below it, value; apart, because names have points in them (PM2.5)."""
    for name, value in body.items():
        if isinstance(value, dict | list):
            for path, one in flat(value, limit):
                yield name, path, one
        else:
            yield name, "", value


def _member(sensor: str, name: str, path: str, value: Any, at: At, body: dict[str, Any]) -> Leaf:
    if name in _IDENTITY:
        return NO_OBSERVATION
    key = _key(sensor, name, path)
    if sensor == "ENERGY":
        return _energy(key, name, path, value, at)
    if sensor == "ESP32" and name == "Temperature":
        return leaf(key, value, on(at, ""), "device_temperature", _unit(name, body))
    if sensor.startswith(BAROMETERS) and name in PRESSURES:
        return leaf(key, value, at, PRESSURES[name], _unit(name, body))
    if sensor.startswith(ELECTRICAL) and name in {"Voltage", "Current", "Power"}:
        number = f"{sensor} {int(path) + 1}" if path.isdecimal() else sensor
        return leaf(key, value, on(at, number), *ENERGY[name])
    if sensor.startswith("TX2") and (name, path) in WIND:
        meaning, unit = WIND[name, path]
        return leaf(key, value, at, meaning, unit or _unit(name, body))
    if sensor.startswith("TX2") and path in {"Card", "AvgCard"}:
        return SECOND_COPY  # the direction in words
    if not path and name in ANYWHERE:
        return leaf(key, value, at, *ANYWHERE[name])
    if name == "Distance":
        return leaf(key, value, at, None, "cm" if sensor.startswith(_CENTIMETRES) else None)
    return leaf(key, value, at, None, _unit(name, body))


def _energy(key: str, name: str, path: str, value: Any, at: At) -> Leaf:
    if name in _DERIVED:
        return NO_OBSERVATION
    meaning = ENERGY.get(name)
    if meaning is None or (path and not path.isdecimal()):
        return leaf(key, value, at)
    channel = _ENERGY_CHANNELS.get(name, "")
    if path:
        number = str(int(path) + 1)
        channel = f"tariff {number}" if name.endswith("Tariff") else f"{channel} {number}".strip()
    return leaf(key, value, on(at, channel), *meaning)


def _state(body: dict[str, Any], at: At) -> Iterator[Leaf]:
    """Relays, the radio's level and the battery; the rest of a state is the device's own business."""
    for name, value in body.items():
        if name in _TIMES:
            continue
        number = name[5:]
        if name.startswith("POWER") and (not number or number.isdecimal()):
            yield state(name, value, on(at, number), "switch_on", _ON_OFF)
        elif name == "BatteryPercentage":
            yield leaf(name, value, at, "device_battery_level", "%")
        elif name == "Wifi" and isinstance(value, dict) and "Signal" in value:
            yield leaf("Wifi.Signal", value["Signal"], at, "device_rssi", "dBm")
        else:
            yield NO_OBSERVATION


def _unit(name: str, body: dict[str, Any]) -> str | None:
    member = _UNIT_MEMBERS.get(name)
    unit = body.get(member) if member else UNITS.get(name)
    return unit if isinstance(unit, str) and unit.isprintable() else None


def _key(*names: str) -> str:
    return clipped(".".join(name for name in names if name))
