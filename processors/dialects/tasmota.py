"""Tasmota: telemetry on `tele/{topic}/SENSOR` and `STATE`, answers on `stat/{topic}/STATUS8`, `10` and `11`, JSON.

The place of the prefix is configurable (FullTopic): what is left of the topic without prefix and last level is the
device. Each driver has an object of its own, whose name is the channel; within it keys and units are Tasmota's own
where this module knows them. A temperature may be a room's, the Baltic's or a heating pipe's, so it has no property
here; the chip's own is the device's. Smart meters (SML) have keys that their owner chose. Keys and units as in
HATasmota's sensor table (PyPI) and Tasmota's sources (ResponseGetTime for the forms of the time).
"""

import re
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
from processors.dialects.vzlogger import register
from processors.standard.observation import Decoded, Leaf, Message, Reason, Rejection
from processors.standard.times import from_epoch, local

# The prefix stands first, behind one or two levels, or between them (FullTopic tasmota/%prefix%/%topic%/).
PLACES = ("{}/+", "+/{}", "+/+/{}", "+/{}/+")
FILTERS = (
    "tele/+/+/SENSOR",  # of two levels: a Zigbee bridge with SetOption89
    *(f"{place.format('tele')}/{kind}" for place in PLACES for kind in ("SENSOR", "STATE")),
    *(f"{place.format('stat')}/STATUS{number}" for place in PLACES for number in ("0", "8", "10", "11")),
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
CURRENT_TRANSFORMER = {
    "Energy": ENERGY["Total"],
    **{name: ENERGY[name] for name in ("Power", "Voltage", "Current")},
}
# Sums that the next report or midnight sets back to zero; the totals say the same.
_DERIVED = frozenset(
    {"Today", "Yesterday", "Period", "TotalStartTime"}
    | {f"{day}Sum{way}" for day in ("Today", "Yesterday") for way in ("Import", "Export")}
)

# Keys whose meaning is one, whichever driver has it. eCO2 is none of them: it is guessed from organic vapours.
ANYWHERE = {
    "CarbonDioxide": ("co2", "ppm"),
    "PM1": ("pm1", "ug/m3"),
    "PM1_0": ("pm1", "ug/m3"),
    "PM2.5": ("pm2_5", "ug/m3"),
    "PM2_5": ("pm2_5", "ug/m3"),
    "PM4": ("pm4", "ug/m3"),
    "PM4_0": ("pm4", "ug/m3"),
    "PM10": ("pm10", "ug/m3"),
    "Battery": ("device_battery_level", "%"),
    "BatteryPercentage": ("device_battery_level", "%"),
    "BatteryVoltage": ("device_battery_voltage", "V"),
}
BAROMETERS = ("BMP", "BME", "HP303B", "LPS35HW", "QMP6988", "SPL06")  # MS5837 hangs in water
PRESSURES = {"Pressure": "air_pressure", "SeaPressure": "air_pressure_sea_level"}
ELECTRICAL = ("INA2", "INA3")
ANEMOMETERS = ("TX2", "WINDMETER")
WIND = {
    ("Speed", "Avg"): ("wind_speed", None),
    ("Speed", "Max"): ("wind_speed_gust", None),
    ("Dir", "Avg"): ("wind_direction", "deg"),
}
# Of one driver: a battery's gauge, a dosimeter.
OF_DRIVER = {
    "Voltage": ("MAX1704", ("device_battery_voltage", "V", "")),
    "Percentage": ("MAX1704", ("device_battery_level", "%", "")),
    "RadiationAvg10Min": ("GDK101", ("ambient_dose_rate", "uSv/h", "10 min")),
    "RadiationAvg1Min": ("GDK101", ("ambient_dose_rate", "uSv/h", "1 min")),
}
# Sensors that Bluetooth brings are named after their model and the end of their address.
_BLUETOOTH = re.compile(r"(.+)-[0-9a-f]{6}")
BLUETOOTH = {"RSSI": ("device_rssi", "dBm"), "PIR": ("presence_detected", "1"), "Leak": ("water_leak", "1")}
IN_SOIL = {"Moisture": ("soil_moisture", "%"), "Fertility": ("soil_conductivity", "uS/cm")}  # of a Flora
# What a bridge says of its Zigbee devices: the standard's sensors of occupancy, contact (1 is open) and water.
ZIGBEE = {"Occupancy": "presence_detected", "Contact": "contact_open", "Water": "water_leak"}
_TRUTHS = {True: 1.0, False: 0.0}
# Keys of a smart meter are its owner's, but for those that name unit and phase.
_OF_PHASE = re.compile(r"(volt|amp|ampere|watt)_[lp]([123])", re.IGNORECASE)
# Or that are OBIS codes: 32_7_0. The code does not fix whether power is in W and energy in kWh: those are a profile's.
_OBIS = re.compile(r"[0-9]{1,3}_[0-9]{1,3}_[0-9]{1,3}")
_NO_UNIT = {"power": "", "energy": ""}
_BY_UNIT = {"v": ("electric_voltage", "V"), "a": ("electric_current", "A"), "w": ("electric_active_power", "W")}
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
    **dict.fromkeys(("DewPoint", "HeatIndex", "ProbeTemperature", "ReferenceTemperature"), "TempUnit"),
    "Pressure": "PressureUnit",
    "SeaPressure": "PressureUnit",
    "Speed": "SpeedUnit",
}
# A flow meter, whose name is translated, states its units within.
FLOW_METER = {"Rate": "Unit", "AmountToday": "AmountUnit"}
# The laser rangers (VL53…, HRXL) printed whole millimetres once and print centimetres now: which, nobody can tell.
_CENTIMETRES = ("SR04", "ME007", "LD2410")

_NO_READINGS = frozenset({"TempUnit", "PressureUnit", "SpeedUnit", "PN532", "RDM6300"})
_TIMES = frozenset({"Time", "Epoch"})
# In lower case and without `_`.
_IDENTITY = frozenset(
    {"id", "address", "update threshold", "device", "name", "endpoint", "group", "linkquality", "type", "mac", "model"}
    | {"modelid", "manufacturer", "uid", "major", "minor", "firmware", "serial", "serverid", "meterid", "meternumber"}
    | {"zaehlernummer", "zählernummer"}
)
_LONGEST_NAME = 64  # of a key that may mean something
_ON_OFF = {"OFF": 0.0, "ON": 1.0}


def decode(message: Message) -> Decoded:
    """Readings of a telemetry message. Never raises."""
    body = load_object(message.payload)
    if isinstance(body, Rejection):
        return body
    device = device_name(*_device(message.topic))
    if isinstance(device, Rejection):
        return device
    return collected(_parts(body, At(device), message), message, device, pack=False)


def _parts(body: dict[str, Any], at: At, message: Message) -> Iterator[Leaf]:
    """Sensors or the state, each of which an answer wraps; the answer to Status 0 has both, and much beside them."""
    of_sensors, of_state = body.get("StatusSNS"), body.get("StatusSTS")
    wrapped = isinstance(of_sensors, dict) or isinstance(of_state, dict)
    if not wrapped:
        of_sensors, of_state = (None, body) if message.topic.endswith("/STATE") else (body, None)
    elif message.topic.endswith("/STATUS0"):
        yield from (NO_OBSERVATION for name in body if name not in {"StatusSNS", "StatusSTS"})
    if isinstance(of_sensors, dict):
        yield from _sensors(of_sensors, _timed(at, of_sensors, message), most_keys(message))
    if isinstance(of_state, dict):
        yield from _state(of_state, _timed(at, of_state, message))


def _device(topic: str) -> tuple[str, str]:
    """What is left of a topic without the kind of message and the prefix: the first level, the last one, or between."""
    levels = topic.split("/")[:-1]
    places = (0, -1, *range(1, len(levels) - 1))
    found = next((place for place in places if levels and levels[place] in _PREFIXES), None)
    if found is not None:
        del levels[found]
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
                yield from _zigbee(_key(sensor, address), one, on(at, clipped(address)), limit)
        else:
            channel = clipped(sensor) if isinstance(value, dict) and sensor != "ENERGY" else ""
            yield from _driver(sensor, value, on(at, channel), body, limit)


def _driver(sensor: str, value: Any, at: At, body: dict[str, Any], limit: int) -> Iterator[Leaf]:
    if isinstance(value, dict):
        stated = FLOW_METER if isinstance(value.get("Rate"), float | int | list) and "Unit" in value else {}
        for name, path, one in _members(value, limit):
            if name in stated:
                yield leaf(_key(sensor, name, path), one, at, None, _stated(value.get(stated[name])))
            elif stated and name in stated.values():
                yield NO_OBSERVATION
            else:
                yield _member(sensor, name, path, one, at, body)
    elif isinstance(value, list):
        for path, one in flat(value, limit):
            yield leaf(_key(sensor, path), one, at)
    else:
        yield leaf(_key(sensor), value, at, None, _unit(sensor, body))


def _zigbee(sensor: str, value: Any, at: At, limit: int) -> Iterator[Leaf]:
    """What a bridge says of a device, whose units stand beside its values."""
    if not isinstance(value, dict):
        yield from _driver(sensor, value, at, {}, limit)
        return
    for name, path, one in _members(value, limit):
        key = _key(sensor, name, path)
        if name in _UNIT_MEMBERS.values():
            yield NO_OBSERVATION
        elif name in ZIGBEE and not path:
            yield (
                state(key, one, at, ZIGBEE[name], _TRUTHS)
                if isinstance(one, bool)
                else leaf(key, one, at, ZIGBEE[name], "1")
            )
        elif name in PRESSURES and not path and (unit := _unit(name, value)):
            yield leaf(key, one, at, PRESSURES[name], unit)
        elif name == "Illuminance":
            yield leaf(key, one, at)  # the standard's 10000 log10 lx + 1 of one device, and lx of the next
        else:
            yield _member(sensor, name, path, one, at, value)


def _members(body: dict[str, Any], limit: int) -> Iterator[tuple[str, str, Any]]:
    """Leaves of a driver's object: name, path below it, value; apart, because names have points in them (PM2.5)."""
    for name, value in body.items():
        if isinstance(value, dict | list):
            for path, one in flat(value, limit):
                yield name, path, one
        else:
            yield name, "", value


def _member(sensor: str, name: str, path: str, value: Any, at: At, body: dict[str, Any]) -> Leaf:
    key = _key(sensor, name, path)
    if len(name) > _LONGEST_NAME:
        return leaf(key, value, at)
    if name.lower().replace("_", "") in _IDENTITY:
        return NO_OBSERVATION
    if sensor == "ENERGY":
        return _energy(key, name, path, value, at)
    if sensor == "ESP32" and name == "Temperature":
        return leaf(key, value, on(at, ""), "device_temperature", _unit(name, body))
    if sensor.startswith(BAROMETERS) and name in PRESSURES:
        return leaf(key, value, at, PRESSURES[name], _unit(name, body))
    if sensor.startswith(ELECTRICAL) and name in {"Voltage", "Current", "Power"}:
        number = f"{sensor} {int(path) + 1}" if path.isdecimal() else sensor
        return leaf(key, value, on(at, number), *ENERGY[name])
    if sensor == "ANALOG" and name.startswith("CTEnergy"):  # a current transformer
        return leaf(key, value, on(at, f"{sensor} {name}"), *CURRENT_TRANSFORMER.get(path, (None, None)))
    if sensor.upper().startswith(ANEMOMETERS):
        return _wind(key, name, path, value, at, body)
    found = None if path else _by_name(sensor, name)
    if found is not None:
        meaning, unit, place = found
        return leaf(key, value, on(at, f"{at.channel} {place}".strip()), meaning, unit)
    if name == "Distance":
        return leaf(key, value, at, None, "cm" if sensor.startswith(_CENTIMETRES) else None)
    if name == "Moisture" and sensor.startswith("CHIRP"):
        return leaf(key, value, at)  # a capacitance, whatever unit others have
    return leaf(key, value, at, None, _unit(name, body))


def _wind(key: str, name: str, path: str, value: Any, at: At, body: dict[str, Any]) -> Leaf:
    if (name, path) in WIND:
        meaning, unit = WIND[name, path]
        return leaf(key, value, at, meaning, unit or _unit(name, body))
    if path in {"Card", "AvgCard"}:
        return SECOND_COPY  # the direction in words
    return leaf(key, value, at, None, "deg" if name == "Dir" else _unit(name, body))


def _by_name(sensor: str, name: str) -> tuple[str | None, str, str] | None:
    """Property, unit and the end of the channel of a key that its name, or its driver with it, makes certain."""
    if name in ANYWHERE:
        return *ANYWHERE[name], ""
    if name in BLUETOOTH or name in IN_SOIL:
        driver = _BLUETOOTH.fullmatch(sensor)
        known = BLUETOOTH.get(name) or (IN_SOIL.get(name) if driver and driver[1] == "Flora" else None)
        return (*known, "") if driver and known else None
    if name in OF_DRIVER:
        start, found = OF_DRIVER[name]
        return found if sensor.startswith(start) else None
    if "_" not in name:
        return None
    if phase := _OF_PHASE.fullmatch(name):
        return *_BY_UNIT[phase[1][0].lower()], f"L{phase[2]}"
    if _OBIS.fullmatch(name) and (coded := register(name.replace("_", "."), _NO_UNIT)) and coded.unit:
        return coded.meaning, coded.unit, coded.channel
    return None


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
    if name not in UNITS:
        name = name.rstrip("0123456789")  # the second of several, at an analogue input: Temperature2
    member = _UNIT_MEMBERS.get(name)
    return _stated(body.get(member) if member else UNITS.get(name))


def _stated(unit: Any) -> str | None:
    return unit if isinstance(unit, str) and unit.isprintable() else None


def _key(*names: str) -> str:
    return clipped(".".join(name for name in names if name))
