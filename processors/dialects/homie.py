"""Homie 5 and 4: `homie/5/<device>/<node>/<property>` (4: without the `5`), a bare value; all else is announced apart.

Datatypes and units stand in the retained `$description` (4: in `$datatype`, `$unit` and `$settable` of each property);
`$state` says whether a device is there, and a root's `lost` holds for its children. Every value is retained by default,
so a copy on subscribing is state and no observation. Conventions 5.0.0 and 4.0.0 of homieiot.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from processors.dialects.history import in_force, latest, learned
from processors.dialects.leaves import unit_text
from processors.dialects.memory import State, Step
from processors.dialects.strict_json import load_object, number, shown, storable
from processors.standard.observation import Decoded, Ignored, Message, Quality, Reading, Reason, Rejection
from processors.standard.units import LONGEST as LONGEST_UNIT

FILTERS = ("homie/#",)
KEY_LEVELS = (0, 1)  # in version 5 a root's state holds for devices of other topics: all of them in one partition
LONGEST_NAME = 255
LONGEST_VALUE = 400  # characters of a number; the largest integer that a double holds has 309 digits

_FIVE = "5"
_THERE = frozenset({"ready", "alert", "sleeping"})
_NUMBERS = {
    "integer": re.compile(r"-?[0-9]+", re.ASCII),
    "float": re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII),
}
_BOOLEANS = {"true": True, "false": False}
# Version 4 announces piece by piece: what comes within this time is one announcement.
_SETTLE_US = 10_000_000


class _Topic(NamedTuple):
    """A topic in its parts; `attribute` is what comes after a $."""

    version: int
    device: str
    path: str  # node/property; empty for attributes of a device
    attribute: str


def source(topic: str) -> str | None:
    """The base topic with its version (5), or a device (4)."""
    levels = topic.split("/")
    return f"{levels[0]}/{levels[1]}" if len(levels) > 2 else None  # noqa: PLR2004 - base, version or device, more


def decode(message: Message, state: State) -> Step:
    """The value of a property, or what is announced of a device. Never raises."""
    topic = _parsed(message.topic)
    if topic is None:
        detail = f"topic {message.topic!r:.200} is no <base>/5/<device>/<node>/<property>"
        return Step(Rejection(Reason.MALFORMED, detail))
    if len(topic.device) > LONGEST_NAME:
        detail = f"device has {len(topic.device)} characters, at most {LONGEST_NAME} are taken"
        return Step(Rejection(Reason.DEVICE_TOO_LONG, detail))
    if topic.attribute and message.replayed:
        return Step(Ignored("no_observation"))
    if topic.attribute == "state" and not topic.path:
        return _states(topic, message, state)
    if topic.attribute == "description" and topic.version == int(_FIVE):
        return _description(topic, message, state)
    if topic.attribute:
        announced = topic.path and topic.attribute in {"datatype", "unit", "settable"}
        return Step(Ignored("no_observation"), _attribute(topic, message, state) if announced else {})
    return Step(_value(topic, message, state))


def _parsed(topic: str) -> _Topic | None:
    base, *levels = topic.split("/")
    version = 4
    if levels[:1] == [_FIVE]:
        version, levels = int(_FIVE), levels[1:]
    if not base or not levels or not levels[0] or not storable(topic):
        return None
    marked = next((place for place, level in enumerate(levels) if level.startswith("$")), None)
    if marked is not None:
        return _Topic(version, levels[0], "/".join(levels[1:marked]), "/".join(levels[marked:])[1:] or "$")
    if len(levels) == 4 and levels[3] == "set":  # noqa: PLR2004 - device, node, property, set
        return _Topic(version, levels[0], "/".join(levels[1:3]), "set")
    return _Topic(version, levels[0], "/".join(levels[1:]), "") if len(levels) == 3 else None  # noqa: PLR2004


def _states(topic: _Topic, message: Message, state: State) -> Step:
    """$state; without payload the device is removed, and its description is void."""
    text = message.payload.decode(errors="replace")
    changed: dict[str, Any] = {}
    if not message.payload:
        void = learned(state.get(f"description:{topic.device}"), None, message.received_us)
        if void is not None:
            changed[f"description:{topic.device}"] = void
        if f"attributes:{topic.device}" in state:
            changed[f"attributes:{topic.device}"] = None
    said = text if 0 < len(text) <= LONGEST_UNIT and storable(text) else None
    part = learned(state.get(f"state:{topic.device}"), said, message.received_us)
    if part is not None:
        changed[f"state:{topic.device}"] = part
    if topic.version != int(_FIVE) and said in _THERE:
        changed |= _whole(topic, message, state, _attributes(topic, state))
    return Step(Ignored("no_observation"), changed)


def _description(topic: _Topic, message: Message, state: State) -> Step:
    """$description, whole each time. Its version number need not grow, so the last one to arrive holds."""
    name = f"description:{topic.device}"
    if not message.payload:
        part = learned(state.get(name), None, message.received_us)
        return Step(Ignored("no_observation"), {} if part is None else {name: part})
    body = load_object(message.payload)
    if isinstance(body, Rejection):
        return Step(body._replace(device=topic.device))
    properties = {}
    for node, about in _named(body.get("nodes")):
        for key, entry in _named(about.get("properties")):
            properties[f"{node}/{key}"] = _property(entry)
            if len(properties) > message.max_keys:  # what it costs must not hold up the neighbours
                detail = f"describes more than the {message.max_keys} properties that are taken from one message"
                return Step(Rejection(Reason.TOO_MANY_READINGS, detail, topic.device))
    what: dict[str, Any] = {"root": None, "type": None, "properties": properties}
    for member in ("root", "type"):
        text = body.get(member)
        if _is_name(text):
            what[member] = text
    part = learned(state.get(name), what, message.received_us)
    return Step(Ignored("no_observation"), {} if part is None else {name: part})


def _named(members: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Nodes or properties by their ids: an object in 5.0, in its drafts an array of objects with an id."""
    if isinstance(members, list):
        members = {entry["id"]: entry for entry in members if isinstance(entry, dict) and _is_name(entry.get("id"))}
    for name, entry in members.items() if isinstance(members, dict) else ():
        if isinstance(entry, dict) and _is_name(name):
            yield name, entry


def _is_name(text: Any) -> bool:
    return isinstance(text, str) and 0 < len(text) <= LONGEST_NAME and storable(text)


def _property(entry: dict[str, Any]) -> list[Any]:
    unit, datatype = entry.get("unit"), entry.get("datatype")
    return [
        datatype if _is_name(datatype) else "string",
        unit_text(unit),
        entry.get("settable") is True or entry.get("settable") == "true",
    ]


def _attributes(topic: _Topic, state: State) -> dict[str, dict[str, str]]:
    part = state.get(f"attributes:{topic.device}")
    return {path: about for path, about in part.items() if isinstance(about, dict)} if isinstance(part, dict) else {}


def _attribute(topic: _Topic, message: Message, state: State) -> dict[str, Any]:
    """An attribute of a property in version 4. Together they are a description once the device is ready."""
    if topic.version == int(_FIVE) or not _is_name(topic.path):
        return {}
    known = _attributes(topic, state)
    text = message.payload.decode(errors="replace")[:LONGEST_UNIT]
    about = {name: said for name, said in known.get(topic.path, {}).items() if name != topic.attribute}
    if text and storable(text):
        about[topic.attribute] = text
    now = {**known, topic.path: about}
    changed = {} if now == known else {f"attributes:{topic.device}": now}
    return changed | (
        _whole(topic, message, state, now) if str(latest(state.get(f"state:{topic.device}"))) in _THERE else {}
    )


def _whole(topic: _Topic, message: Message, state: State, attributes: dict[str, dict[str, str]]) -> dict[str, Any]:
    properties = {path: _property(about) for path, about in attributes.items() if "datatype" in about}
    what = {"root": None, "type": None, "properties": properties}
    name = f"description:{topic.device}"
    part = learned(state.get(name), what, message.received_us, settle=_SETTLE_US) if properties else None
    return {} if part is None else {name: part}


def _value(topic: _Topic, message: Message, state: State) -> Decoded:
    if not message.payload:
        return Ignored("no_observation")  # the value is deleted
    if message.retain:
        return Ignored("retained")
    described = in_force(state.get(f"description:{topic.device}"), message)
    described = described if isinstance(described, dict) else {}
    properties = described.get("properties")
    about = properties.get(topic.path) if isinstance(properties, dict) else None
    if not isinstance(about, list) or [type(member) for member in about[::2]] != [str, bool]:
        detail = f"no description names {topic.path!r:.200}; replay this once the device announced it"
        return Rejection(Reason.UNKNOWN_STATE, detail, topic.device)
    datatype, unit, settable = about
    unit = unit if isinstance(unit, str) and len(unit) <= LONGEST_UNIT and storable(unit) else None
    if settable and datatype != "boolean":
        return Ignored("no_observation")  # a set point
    try:
        text = message.payload.decode()
    except UnicodeDecodeError as error:
        return Rejection(Reason.NOT_UTF8, f"byte {error.start} is not UTF-8: {error.reason}", topic.device)
    model = str(described["type"]) if _is_name(described.get("type")) else ""
    lost = _is_lost(topic, described, message, state)
    at = Reading(
        topic.device,
        "",
        topic.path,
        0.0,
        unit,
        None,
        quality=int(Quality.SUSPECT) if lost else 0,
        model=model,
    )
    return [_read(text, datatype, at)]


def _is_lost(topic: _Topic, described: dict[str, Any], message: Message, state: State) -> bool:
    """Whether the device, or its root, was last said to be lost: then nobody vouches for what still arrives."""
    return any(
        in_force(state.get(f"state:{device}"), message, later=False) == "lost"
        for device in (topic.device, described.get("root"))
        if isinstance(device, str)
    )


def _read(text: str, datatype: str, at: Reading) -> Reading | Rejection:
    if datatype == "boolean":
        value = _BOOLEANS.get(text)
        if value is None:
            return _rejected(Reason.NOT_A_NUMBER, f"{shown(text)!r} is neither true nor false", text, at)
        return at._replace(value=float(value), raw=value)
    form = _NUMBERS.get(datatype)
    if form is None:
        detail = f"{at.key}: {shown(datatype)}, and nothing says what it means"
        return _rejected(Reason.UNMAPPED_PROPERTY, detail, text, at)
    if len(text) > LONGEST_VALUE or not form.fullmatch(text):
        return _rejected(Reason.NOT_A_NUMBER, f"{shown(text)!r} is no {datatype}", text, at)
    result = number(float(text))
    if result is None:
        return _rejected(Reason.NOT_FINITE, f"{at.key} is too large for a double", text, at)
    return at._replace(value=result)


def _rejected(reason: Reason, detail: str, text: str, at: Reading) -> Rejection:
    return Rejection(reason, detail, at.device, "", at.key, shown(text), at.unit)
