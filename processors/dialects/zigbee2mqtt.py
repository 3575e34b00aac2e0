"""Zigbee2MQTT: `<base>/<friendly name>`, flat JSON; what a property is measured in says `<base>/bridge/devices` alone.

That retained list is remembered per device, under its whole topic, so that friendly names and bases may hold slashes.
A device that it does not name is `unknown_state`: one name has several units (voltage is mV on battery devices and V on
mains). Formats as documented on zigbee2mqtt.io, "MQTT topics and messages" and "Exposes".
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from processors.dialects.free_text import Missing, Quantity, read
from processors.dialects.history import in_force, latest, learned
from processors.dialects.leaves import most_keys, too_many
from processors.dialects.memory import State, Step
from processors.dialects.strict_json import kind, load, number, shown, storable
from processors.standard.observation import Decoded, Ignored, Leaf, Message, Quality, Reading, Reason, Rejection
from processors.standard.times import parse
from processors.standard.units import LONGEST as LONGEST_UNIT

FILTERS = ("zigbee2mqtt/#",)
KEY_LEVELS = (0,)  # the devices' units come from one topic of the bridge
LONGEST_NAME = 255
LATEST_MS = 253_402_300_799_999  # the end of year 9999

_NO_OBSERVATION = frozenset({"linkquality", "last_seen", "elapsed", "update", "update_available", "device"})
_PUBLISHED, _SETTABLE = 1, 2  # bits of an expose's access
# Settable, but what is published is the state reached.
_STATES = frozenset({"local_temperature", "brightness", "position", "state"})
# What exposes' presets fix: name and unit together, or the name of a boolean.
_MEANING = {
    ("battery", "%"): "device_battery_level",
    ("device_temperature", "°C"): "device_temperature",
    ("cpu_temperature", "°C"): "device_temperature",
    ("pressure", "hPa"): "air_pressure",  # "the measured atmospheric pressure"; a pipe's is in kPa or bar
    ("co2", "ppm"): "co2",
    ("pm25", "µg/m³"): "pm2_5",
    ("pm10", "µg/m³"): "pm10",
    ("illuminance", "lx"): "illuminance",
    ("illuminance_lux", "lx"): "illuminance",
    ("soil_moisture", "%"): "soil_moisture",
}
# The presets of electrical measurement, where the device has one of the second table: energy alone may be heat or gas,
# and a voltage that of a battery.
_ELECTRICAL = {
    ("power", "W"): "electric_active_power",
    ("power_apparent", "VA"): "electric_apparent_power",
    ("power_reactive", "VAR"): "electric_reactive_power",
    ("power_factor", None): "electric_power_factor",
    ("power_factor", "%"): "electric_power_factor",
    ("voltage", "V"): "electric_voltage",
    ("current", "A"): "electric_current",
    ("current", "mA"): "electric_current",
    ("ac_frequency", "Hz"): "electric_frequency",
    ("energy", "kWh"): "electric_energy_import",
    ("energy", "Wh"): "electric_energy_import",
    ("produced_energy", "kWh"): "electric_energy_export",
    ("energy_produced", "kWh"): "electric_energy_export",
}
_ELECTRICITY = {"W": "power", "A": "current", "mA": "current", "Hz": "ac_frequency"}
_PHASE = re.compile(
    r"(.+?)_(?:phase_([abc])|(neutral|[abcXYZ]|l[123]))"
)  # of a Tuya meter's `a` nobody says if it is L1
_PHASES = {"a": "L1", "b": "L2", "c": "L3"}
# The state of a relay and of a lamp; settings that are switches, too, have properties of other names.
_ON_OFF = {"switch": "switch_on", "light": "lamp_on"}
_BOOLEANS = {"occupancy": "presence_detected", "presence": "presence_detected", "water_leak": "water_leak"}
_CONTACT = "contact"  # true is closed


class _At(NamedTuple):
    """Whose leaves they are; `exposes` by path; `fault`: why the time that came can't be used.

    `electrical`: whether the device measures electricity.
    """

    device: str
    time: int | None
    model: str
    exposes: dict[str, Any]
    fault: tuple[Reason, str] | None
    electrical: bool


class _Meaning(NamedTuple):
    property: str | None
    unit: str | None
    channel: str


_NOTHING = _Meaning(None, None, "")


def source(topic: str) -> str | None:
    """All of a base topic, whose first level this is."""
    return topic.split("/", 1)[0] if "/" in topic else None


def decode(message: Message, state: State) -> Step:
    """Leaves of a device's state, and what the bridge says of its devices. Never raises."""
    topic = message.topic
    base, bridge, what = topic.partition("/bridge/")
    if bridge:
        if what not in {"devices", "groups"}:
            return Step(Ignored("no_observation"))
        return _listed(message, state, base, what)
    if _is_command(topic, state):
        return Step(Ignored("no_observation"))
    found = _found(message, state)
    if found is None:
        if any(topic in names for names in _groups(state)):
            return Step(Ignored("no_observation"))
        detail = f"no bridge/devices named {topic!r:.200}: units are not known; replay this once it did"
        device = source(topic) and topic.split("/", 1)[1][:LONGEST_NAME]
        return Step(Rejection(Reason.UNKNOWN_STATE, detail, device))
    device, described, attribute = found
    if not message.payload:
        return Step(Ignored("no_observation"))  # a retained state that was cleared
    return Step(_state(message, device, described, attribute))


def _is_command(topic: str, state: State) -> bool:
    """Whether a topic is a device's availability or a command; unless it is the name of a device itself."""
    levels = topic.split("/")
    if levels[-1] in {"availability", "set", "get"} or levels[-2:-1] in (["set"], ["get"]):
        return not isinstance(latest(state.get(f"device:{topic}")), dict)
    return False


def _found(message: Message, state: State) -> tuple[str, dict[str, Any], str | None] | None:
    """Name and description of the topic's device, and the one attribute where each has a topic of its own."""
    parent, _, last = message.topic.rpartition("/")
    for topic, attribute in ((message.topic, None), (parent, last)):
        described = in_force(state.get(f"device:{topic}"), message)
        if not isinstance(described, dict) or not _text(described.get("name"), LONGEST_NAME):
            continue
        if attribute is None or attribute in _exposes(described):
            return described["name"], described, attribute
    return None


def _exposes(described: dict[str, Any]) -> dict[str, Any]:
    exposes = described.get("exposes")
    return exposes if isinstance(exposes, dict) else {}


def _groups(state: State) -> Iterator[list[Any]]:
    return (part for name, part in state.items() if name.startswith("groups:") and isinstance(part, list))


def _listed(message: Message, state: State, base: str, what: str) -> Step:
    """Devices or groups as the bridge lists them, whole each time."""
    body = load(message.payload)
    if isinstance(body, Rejection):
        return Step(body)
    if not isinstance(body, list):
        return Step(Rejection(Reason.MALFORMED, f"bridge/{what}: {kind(body)} where an array is expected"))
    named: dict[str, dict[str, Any]] = {}
    for entry in body:
        if isinstance(entry, dict) and _text(entry.get("friendly_name"), LONGEST_NAME):
            named[entry["friendly_name"]] = entry
    if message.replayed:
        return Step(Ignored("no_observation"))
    if what == "groups":
        groups = sorted(f"{base}/{name}" for name in named)
        return Step(
            Ignored("no_observation"), {} if state.get(f"groups:{base}") == groups else {f"groups:{base}": groups}
        )
    now = {f"device:{base}/{name}": _described(name, entry) for name, entry in named.items()}
    gone = {name: None for name in state if name.startswith(f"device:{base}/") and name not in now}
    changed = {}
    for name, described in {**now, **gone}.items():
        part = learned(state.get(name), described, message.received_us)
        if part is not None:
            changed[name] = part
    return Step(Ignored("no_observation"), changed)


def _described(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    definition = entry.get("definition")
    maker = (entry.get("manufacturer"), entry.get("model_id"))
    exposes: dict[str, Any] = {}
    if isinstance(definition, dict):
        maker = (definition.get("vendor"), definition.get("model"))
        _collect(definition.get("exposes"), "", exposes)
    model = "/".join(str(part) for part in maker if _text(part, LONGEST_NAME))
    return {"name": name, "model": model, "exposes": exposes}


def _collect(exposed: Any, prefix: str, found: dict[str, Any], of: Any = None) -> None:
    """Types and units by path. Lights, switches and the like have their features at the top, composites below them."""
    for entry in exposed if isinstance(exposed, list) else ():
        if not isinstance(entry, dict):
            continue
        name, features = entry.get("property"), entry.get("features")
        path = f"{prefix}{name}"
        if isinstance(features, list):
            _collect(features, f"{path}." if _text(name, LONGEST_NAME) else prefix, found, entry.get("type"))
        elif _text(name, LONGEST_NAME) and len(path) <= LONGEST_NAME:
            found[path] = _property(entry, of)


def _property(entry: dict[str, Any], of: Any) -> dict[str, Any]:
    access, unit, what, name = (entry.get(member) for member in ("access", "unit", "type", "name"))
    access = access if type(access) is int else _PUBLISHED
    settable = bool(access & _SETTABLE) and what != "binary" and not (_text(name, LONGEST_NAME) and name in _STATES)
    about: dict[str, Any] = {"type": what if _text(what, LONGEST_UNIT) else ""}
    if _text(unit, LONGEST_UNIT):
        about["unit"] = unit
    if settable or entry.get("category") == "config":
        about["no_observation"] = True
    if _text(name, LONGEST_NAME) and name != entry["property"]:  # power_l1 is the power of the endpoint l1
        about["name"] = name
    if _text(entry.get("endpoint"), LONGEST_NAME):
        about["endpoint"] = entry["endpoint"]
    if entry.get("category") == "diagnostic" and name == "voltage":
        about["diagnostic"] = True
    if isinstance(of, str) and of in _ON_OFF:
        about["of"] = of
    for side in ("value_on", "value_off"):
        if _text(entry.get(side), LONGEST_NAME):
            about[side] = entry[side]
    return about


def _text(value: Any, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest and storable(value)


def _state(message: Message, device: str, described: dict[str, Any], attribute: str | None) -> Decoded:
    body = load(message.payload)
    if attribute is not None:
        text = message.payload.decode(errors="replace")
        body = {attribute: text if isinstance(body, Rejection) else body}
    if isinstance(body, Rejection):
        return body._replace(device=device)
    if not isinstance(body, dict):
        return Rejection(Reason.NOT_AN_OBJECT, f"JSON {kind(body)} where an object is expected", device)
    time, fault = _last_seen(body.get("last_seen"))
    model = described.get("model")
    exposes = _exposes(described)
    at = _At(device, time, model if isinstance(model, str) else "", exposes, fault, _measures_electricity(exposes))
    found: list[Leaf] = []
    for path, value in _flat(body):
        if len(found) == most_keys(message):
            return too_many(message, device)
        leaf = _leaf(path, value, at)
        retained = message.retain and isinstance(leaf, Reading) and leaf.time is None
        found.append(Ignored("retained") if retained else leaf)
    return found or Ignored("no_observation")


def _last_seen(value: Any) -> tuple[int | None, tuple[Reason, str] | None]:
    """When the coordinator heard the device: RFC 3339 text, or milliseconds."""
    if value is None:
        return None, None
    if isinstance(value, str):
        time = parse(value)
        if not isinstance(time, Reason):
            return time, None
        return None, (time, f"last_seen {shown(value)!r} is no RFC 3339 time with a zone")
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LATEST_MS:
        return round(value * 1000), None
    return None, (Reason.INVALID_TIME, f"last_seen {shown(value)!r} is no time")


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves with their dotted paths. The parser bounds the depth; what has too long a path is one leaf."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        path = f"{prefix}{name}"
        if len(path) > LONGEST_NAME:
            yield f"{path[: LONGEST_NAME - 1]}…", shown(value)
        elif isinstance(value, dict | list) and path not in _NO_OBSERVATION:
            yield from _flat(value, f"{path}.")
        else:
            yield path or "(no name)", value


def _measures_electricity(exposes: dict[str, Any]) -> bool:
    return any(
        _quantity(_said(about, "name") or path)[0] == _ELECTRICITY[unit]
        for path, about in exposes.items()
        if isinstance(about, dict) and isinstance(unit := about.get("unit"), str) and unit in _ELECTRICITY
    )


def _quantity(name: str) -> tuple[str, str]:
    """A quantity and the phase or channel that its name ends in."""
    phase = _PHASE.fullmatch(name)
    return (name, "") if phase is None else (phase[1], phase[3] or _PHASES[phase[2]])


def _leaf(path: str, value: Any, at: _At) -> Leaf:
    about = at.exposes.get(path)
    about = about if isinstance(about, dict) else {}
    if path in _NO_OBSERVATION or about.get("no_observation"):
        return Ignored("no_observation")
    if not storable(path):
        return _rejected(Reason.INVALID_TEXT, "a key holds a NUL or half a surrogate pair", path, value, at)
    means = _meaning(path, about, at)
    if at.fault is not None:
        return _rejected(*at.fault, path, value, at, means)
    if value is None:
        return _missing(path, at, means)
    if isinstance(value, str):
        return _from_text(path, value, about, means, at)
    if isinstance(value, bool):
        return _from_bool(path, value, about, means, at)
    return _number(path, value, means, at)


def _meaning(path: str, about: dict[str, Any], at: _At) -> _Meaning:
    """What a numeric property means by its expose, whose name lacks the endpoint that the property's may end in."""
    name, unit, channel = _said(about, "name") or path, _said(about, "unit"), _said(about, "endpoint") or ""
    found = _MEANING.get((name, unit or ""))
    if found is None and name == "voltage" and (about.get("diagnostic") or (unit == "mV" and "battery" in at.exposes)):
        found = "device_battery_voltage"
    elif found is None and at.electrical and path in at.exposes:
        quantity, phase = _quantity(name)
        found = _ELECTRICAL.get((quantity, unit))
        if quantity == "power" and any(other.startswith("energy_flow") for other in at.exposes):
            found = None  # its direction stands beside it
        elif found is not None:
            channel = channel or phase
    if found is not None and unit is None:
        unit = "1"
    return _Meaning(found, unit, channel)


def _said(about: dict[str, Any], member: str) -> str | None:
    text = about.get(member)
    if text is None:
        return None
    return text if _text(text, LONGEST_UNIT if member == "unit" else LONGEST_NAME) else None


def _from_bool(path: str, value: Any, about: dict[str, Any], means: _Meaning, at: _At) -> Leaf:
    name = _said(about, "name") or path
    meaning = _BOOLEANS.get(name) if path in at.exposes else None
    if name == "presence" and "occupancy" in at.exposes:
        meaning = None  # two sensors of one device; which of them is meant is a profile's to say
    result = float(value)
    if name == _CONTACT and path in at.exposes:
        meaning, result = "contact_open", float(not value)
    return _reading(path, result, means._replace(property=meaning, unit="1" if meaning else None), at, value)


def _from_text(path: str, value: str, about: dict[str, Any], means: _Meaning, at: _At) -> Leaf:
    """ON and OFF of a binary, or a number that a converter left as text."""
    for side, result in (("value_on", 1.0), ("value_off", 0.0)):
        if about.get(side) == value and storable(value):
            state = path in {"state", f"state_{means.channel}"}
            meaning = _ON_OFF.get(_said(about, "of") or "") if state else None
            return _reading(path, result, means._replace(property=meaning, unit="1" if meaning else None), at, value)
    if about.get("type") == "numeric":
        said = read(value, unit=False)
        if isinstance(said, Quantity):
            return _number(path, said.value, means, at, value)
        if isinstance(said, Missing):
            return _missing(path, at, means, value)
        return _rejected(said.reason, f"{path}: {said.detail}", path, value, at, means)
    return _rejected(Reason.UNMAPPED_PROPERTY, f"{path}: string, and nothing says what it means", path, value, at)


def _number(path: str, value: Any, means: _Meaning, at: _At, raw: str | None = None) -> Leaf:
    if not isinstance(value, int | float):
        detail = f"{path}: {kind(value)} where a number is expected"
        return _rejected(Reason.NOT_A_NUMBER, detail, path, value, at, means)
    result = number(value)
    if result is None:
        return _rejected(Reason.NOT_FINITE, f"{path} is too large for a double", path, value, at, means)
    return _reading(path, result, means, at, raw)


def _reading(path: str, value: float, means: _Meaning, at: _At, raw: Any = None) -> Reading:
    name, unit, channel = means
    return Reading(at.device, channel, path, value, unit, at.time, name, 0, 0, at.model, raw)


def _missing(path: str, at: _At, means: _Meaning, raw: str | None = None) -> Reading:
    name, unit, channel = means
    return Reading(at.device, channel, path, None, unit, at.time, name, int(Quality.MISSING), 0, at.model, raw)


def _rejected(reason: Reason, detail: str, path: str, value: Any, at: _At, means: _Meaning = _NOTHING) -> Rejection:
    _, unit, channel = means
    return Rejection(reason, detail, at.device, channel, path, shown(value), unit, at.time, at.model)
