"""Shelly devices of the second generation and later: `<prefix>/events/rpc` and `<prefix>/status/<component>`, JSON.

NotifyStatus tells what changed, so what is absent is unknown and what is null is missing. Shelly documents unit and
meaning of a component's fields, energy in watt hours; this module knows them. Whatever it does not know is left to
profiles. Formats: Shelly API documentation, generation 2.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from processors.dialects.leaves import most_keys, too_many
from processors.dialects.strict_json import kind, load, load_object, number, shown, storable
from processors.standard.observation import Decoded, Ignored, Leaf, Message, Quality, Reading, Reason, Rejection

FILTERS = ("+/events/rpc", "+/status/+", "+/status", "+/online", "shellies/+/status/+", "shellies/+/online")
LONGEST_NAME = 255
LATEST_S = 253_402_300_799  # the end of year 9999

_POWER: dict[str, tuple[str | None, str]] = {
    "apower": ("electric_active_power", "W"),
    "act_power": ("electric_active_power", "W"),
    "aprtpower": ("electric_apparent_power", "V.A"),
    "aprt_power": ("electric_apparent_power", "V.A"),
    "voltage": ("electric_voltage", "V"),
    "current": ("electric_current", "A"),
    "pf": ("electric_power_factor", "1"),
    "freq": ("electric_frequency", "Hz"),
    "aenergy.total": ("electric_energy_import", "W.h"),
    "ret_aenergy.total": ("electric_energy_export", "W.h"),
    "temperature.tC": ("device_temperature", "Cel"),
    "temperature.tF": ("device_temperature", "[degF]"),
}
_SWITCHED: dict[str, tuple[str | None, str]] = {**_POWER, "output": ("switch_on", "1")}
# The brightness is a setting, which stays while the lamp is off.
_LIGHT: dict[str, tuple[str | None, str]] = {**_POWER, "output": ("lamp_on", "1"), "brightness": (None, "%")}
_RADIO: dict[str, tuple[str | None, str]] = {
    "battery": ("device_battery_level", "%"),
    "rssi": ("device_rssi", "dB{mW}"),
}
_PHASE = {name: _POWER[name] for name in ("act_power", "aprt_power", "voltage", "current", "pf", "freq")}
_ENERGY: dict[str, tuple[str | None, str]] = {
    "total_act_energy": ("electric_energy_import", "W.h"),
    "total_act_ret_energy": ("electric_energy_export", "W.h"),
}
# By type of component: what its fields mean. A property of None: the unit is fixed, the meaning is not.
FIELDS: dict[str, dict[str, tuple[str | None, str]]] = {
    "switch": _SWITCHED,
    **dict.fromkeys(("light", "rgb", "rgbw", "cct"), _LIGHT),
    "cover": {**_POWER, "current_pos": (None, "%"), "target_pos": (None, "%")},
    "pm1": _POWER,
    "em": {
        "total_act_power": ("electric_active_power", "W"),
        "total_aprt_power": ("electric_apparent_power", "V.A"),
        "total_current": (None, "A"),  # a sum over phases is no current that flows anywhere
        **{f"{phase}_{name}": meaning for phase in "abc" for name, meaning in _PHASE.items()},
        "c_active_power": _PHASE["act_power"],  # as the documentation's example has it
        "n_current": ("electric_current", "A"),
    },
    "emdata": {
        "total_act": ("electric_energy_import", "W.h"),
        "total_act_ret": ("electric_energy_export", "W.h"),
        **{f"{phase}_{name}": meaning for phase in "abc" for name, meaning in _ENERGY.items()},
    },
    "em1": dict(_PHASE),
    "em1data": dict(_ENERGY),
    "temperature": {"tC": (None, "Cel"), "tF": (None, "[degF]")},
    "humidity": {"rh": (None, "%")},
    "illuminance": {"lux": ("illuminance", "lx")},
    "devicepower": {"battery.V": ("device_battery_voltage", "V"), "battery.percent": ("device_battery_level", "%")},
    "flood": {"alarm": ("water_leak", "1")},
    "presencezone": {"value": ("presence_detected", "1")},
    "voltmeter": {"voltage": (None, "V")},
    "input": {"percent": (None, "%"), "freq": (None, "Hz")},
    "thermostat": {"current_C": (None, "Cel"), "target_C": (None, "Cel"), "current_humidity": (None, "%")},
    "bthomedevice": _RADIO,
    "blutrv": {**_RADIO, "current_C": (None, "Cel"), "target_C": (None, "Cel"), "pos": (None, "%")},
    "wifi": {"rssi": ("device_rssi", "dB{mW}")},
}
_PHASES = re.compile(r"[abcn]_")
# What a device says of itself: its clock ("time": "18:28"), network, firmware, scripts.
_ITSELF = {"sys", "wifi", "eth", "cloud", "mqtt", "ws", "ble", "bthome", "script", "schedule", "webhook", "kvs", "ui"}
_ITSELF |= {"plugs_ui", "ht_ui", "modbus", "matter", "knx", "zigbee"}
_NO_OBSERVATION = {"id", "source", "flags", "timer_started_at", "timer_duration", "mute", "calibration", "transition"}
_NO_OBSERVATION |= {"last_updated_ts", "last_update_ts", "packet_id", "paired", "rpc", "schedules", "tag"}
_STATES = frozenset({"switch_on", "lamp_on", "water_leak", "presence_detected"})
_MODEL = re.compile(r"(shelly[a-z0-9]+)-[0-9a-f]{6,12}", re.ASCII)


class _At(NamedTuple):
    """Whose leaves they are and when they were measured; `fault`: why the time that came can't be used."""

    device: str
    model: str
    time: int | None
    fault: tuple[Reason, str] | None


def decode(message: Message) -> Decoded:
    """Readings of a notification or of a component's status. Never raises."""
    components: Any = None
    time: Any = None
    if message.topic.endswith("/events/rpc"):
        prefix = message.topic.removesuffix("/events/rpc")
    elif message.topic.endswith("/status"):  # of all components, on the command status_update
        prefix = message.topic.removesuffix("/status")
        components = load_object(message.payload)
    elif "/status/" in message.topic:
        prefix, _, component = message.topic.rpartition("/status/")
        components = load(message.payload)
        components = components if isinstance(components, Rejection) else {component: components}
    else:
        return Ignored("no_observation")  # online, and what others send to the device
    if len(prefix) > LONGEST_NAME:
        detail = f"device has {len(prefix)} characters, at most {LONGEST_NAME} are taken"
        return Rejection(Reason.DEVICE_TOO_LONG, detail)
    if not prefix or not storable(message.topic):
        return Rejection(Reason.NO_DEVICE, f"topic {message.topic!r:.200} names no device")
    source: object = ""
    if components is None:
        body = load_object(message.payload)
        if isinstance(body, Rejection):
            return body._replace(device=prefix)
        if str(body.get("method")) not in {"NotifyStatus", "NotifyFullStatus"}:
            return Ignored("no_observation")
        components, source = body.get("params"), body.get("src")
        if not isinstance(components, dict):
            return Rejection(Reason.MALFORMED, f"params: {kind(components)} where an object is expected", prefix)
        time = components.get("ts")
    if isinstance(components, Rejection):
        return components._replace(device=prefix)
    return _leaves(components, _At(prefix, _model(source, prefix), *_time(time)), message)


def _model(source: object, prefix: str) -> str:
    """The product's name in the device's id, which is the topic prefix too unless that was changed."""
    for text in (source, prefix.rpartition("/")[2]):
        found = _MODEL.fullmatch(text) if isinstance(text, str) else None
        if found is not None:
            return f"Shelly/{found[1]}"
    return ""


def _time(seconds: Any) -> tuple[int | None, tuple[Reason, str] | None]:
    if seconds is None:
        return None, None
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= LATEST_S:
        return round(seconds * 1_000_000), None
    return None, (Reason.INVALID_TIME, f"ts {shown(seconds)!r} is no time in seconds")


def _leaves(components: dict[str, Any], at: _At, message: Message) -> Decoded:
    found: list[Leaf] = []
    for component, status in components.items():
        if component == "ts":
            continue
        for leaf in _component(component, status, at):
            if len(found) == most_keys(message):
                return too_many(message, at.device)
            retained = message.retain and isinstance(leaf, Reading) and leaf.time is None
            found.append(Ignored("retained") if retained else leaf)
    return found or Ignored("no_observation")


def _component(component: str, status: Any, at: _At) -> Iterator[Leaf]:
    if not storable(component) or len(component) > LONGEST_NAME:
        detail = "a component's name is too long, or holds a NUL or half a surrogate pair"
        yield Rejection(Reason.INVALID_TEXT, detail, at.device, "", shown(component))
        return
    if not isinstance(status, dict):
        if status is not None or ":" in component:  # null: the device has no such component any more
            detail = f"{component}: {kind(status)} where an object is expected"
            yield Rejection(Reason.MALFORMED, detail, at.device, component, component, shown(status), None, at.time)
        return
    sort = component.partition(":")[0]
    fields = FIELDS.get(sort, {})
    leaves = list(_flat(status))
    celsius = {path for path, value in leaves if path.endswith("tC") and value is not None}
    for path, value in leaves:
        meaning = fields.get(path)
        name = path.partition(".")[0]
        if path.endswith("tF") and (f"{path[:-2]}tC" in celsius or value is None):
            yield Ignored("second_copy")
        elif path == "rssi" and value == 0:
            yield Ignored("sentinel")  # not connected
        elif (meaning is None and sort in _ITSELF) or _is_aside(name, path):
            yield Ignored("no_observation")
        else:
            phase = f"{component}/{path[0]}" if sort in {"em", "emdata"} and _PHASES.match(path) else component
            yield _leaf(f"{component}.{path}"[:LONGEST_NAME], phase, value, meaning, at)


def _is_aside(name: str, path: str) -> bool:
    return (
        name in _NO_OBSERVATION
        or name.endswith("errors")
        or "by_minute" in path
        or path.endswith(("minute_ts", "_rst_ts"))
    )


def _leaf(key: str, channel: str, value: Any, meaning: tuple[str | None, str] | None, at: _At) -> Leaf:
    name, unit = meaning if meaning is not None else (None, None)
    if not storable(key):
        return _rejected(Reason.INVALID_TEXT, "a key holds a NUL or half a surrogate pair", key, channel, value, at)
    if at.fault is not None:
        return _rejected(*at.fault, key, channel, value, at, unit)
    if value is None:
        return Reading(at.device, channel, key, None, unit, at.time, name, int(Quality.MISSING), 0, at.model)
    if name is not None and isinstance(value, bool) is not (name in _STATES):
        expected = "boolean" if name in _STATES else "number"
        detail = f"{key}: {kind(value)} where a {expected} is expected"
        return _rejected(Reason.NOT_A_NUMBER, detail, key, channel, value, at, unit)
    if isinstance(value, bool):
        return Reading(at.device, channel, key, float(value), unit, at.time, name, 0, 0, at.model, value)
    if isinstance(value, str):
        if meaning is not None:
            detail = f"{key}: string where a number is expected"
            return _rejected(Reason.NOT_A_NUMBER, detail, key, channel, value, at, unit)
        detail = f"{key}: string, and nothing says what it means"
        return _rejected(Reason.UNMAPPED_PROPERTY, detail, key, channel, value, at)
    result = number(value) if isinstance(value, int | float) else None
    if result is None or not math.isfinite(result):
        return _rejected(Reason.NOT_FINITE, f"{key} is too large for a double", key, channel, value, at, unit)
    return Reading(at.device, channel, key, result, unit, at.time, name, 0, 0, at.model)


def _rejected(
    reason: Reason, detail: str, key: str, channel: str, value: Any, at: _At, unit: str | None = None
) -> Rejection:
    return Rejection(reason, detail, at.device, channel, key, shown(value), unit, at.time, at.model)


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves with their dotted paths. The parser bounds the depth; what has too long a path is one leaf."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        path = f"{prefix}{name}"
        if len(path) > LONGEST_NAME:
            yield f"{path[: LONGEST_NAME - 1]}…", shown(value)
        elif isinstance(value, dict | list):
            yield from _flat(value, f"{path}.")
        else:
            yield path, value
