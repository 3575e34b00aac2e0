"""JSON or bare numbers of networks that have no dialect: shapes are understood, meanings are left to profiles.

Flat or nested objects, `{"value": …, "unit": …}` under a key, `{"name", "value", "unit"}` triplets, arrays of readings,
and a number alone. What can't be known from the message is said by the route's options: which topic levels or member
are the device, the unit of an epoch, its time key, its model. An epoch whose unit nobody declared is `invalid_time`.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from processors.dialects import options
from processors.dialects.free_text import Missing, Quantity, read
from processors.dialects.leaves import NO_OBSERVATION, SECOND_COPY, collected
from processors.dialects.shapes import (
    AGGREGATES,
    IDENTITIES,
    SAID,
    TIMES,
    VALUES,
    Names,
    first,
    is_alone,
    lowered,
    medium,
    room_of,
    triplet,
    unit_of,
    units_beside,
)
from processors.dialects.strict_json import kind, load, number, shown, storable
from processors.standard.observation import Decoded, Leaf, Message, Quality, Reading, Reason, Rejection
from processors.standard.times import local, rfc3339
from processors.standard.zones import UTC, Zones

FILTERS: tuple[str, ...] = ()  # nothing is generic by its topic: a route has to say so
LONGEST_NAME = 255
LATEST_US = 253_402_300_799_999_999  # the end of year 9999

OPTIONS = {
    "device_levels": options.levels("that name the device; else it is the topic, less a bare value's own level"),
    "device_key": options.text("path of the member that names the device, in the object or in each reading"),
    "epoch": options.one_of(
        "unit of times that are numbers; profile: the device's profile knows which key is a time",
        *("s", "ms", "us", "ns", "profile"),
    ),
    "time_key": options.text("name of the member that is the time, where it is none of the usual"),
    "model": options.text("brand/model of the devices, for profiles to match"),
    "ignore": options.texts("key paths that are no observations"),
}
_EPOCHS = {"s": (1_000_000, 1), "ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}  # times and by: microseconds
_NUMBERED = frozenset({"ts", "values"})  # ThingsBoard's telemetry, whose API says that ts is in milliseconds
_GERMAN = re.compile(r"(\d\d?)\.(\d\d?)\.(\d{4})(?:[ ,T]+(\d\d?):(\d\d)(?::(\d\d))?)?", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class _At(NamedTuple):
    """What holds for the leaves of an object; `fault`: why the time that came can't be used; `clock`: it as it came."""

    device: str
    time: int | None
    tests: int
    fault: tuple[Reason, str] | None
    model: str
    message: Message
    clock: tuple[Any, bool] | None = None  # and whether it is in UTC
    channel: str = ""


def decode(message: Message) -> Decoded:
    """Leaves of whatever came. Never raises."""
    body = load(message.payload)
    model = message.options.get("model", medium(body))
    model = model if isinstance(model, str) and len(model) <= LONGEST_NAME and storable(model) else ""
    if isinstance(body, Rejection):
        text = _bare(message.payload)
        if text is None:
            return body
        body = text
    alone = isinstance(body, dict) and is_alone(body)
    bare = alone or not isinstance(body, dict | list)
    device = _topic_device(message, bare=bare)
    at = _At(device, None, 0, None, model, message)
    key = message.topic.rpartition("/")[2]
    if alone:
        body = {key: body}
    leaves = [_leaf(key, body, None, at)] if bare and not alone else _walk(body, "", at)
    found = collected(leaves, message, device or None)
    return _once(found) if isinstance(found, list) else found


def _once(found: list[Leaf]) -> list[Leaf]:
    """Without second copies of one reading."""
    seen = set()
    for place, leaf in enumerate(found):
        if not isinstance(leaf, Reading):
            continue
        reading = (leaf.device, leaf.channel, leaf.key, leaf.time, leaf.value, leaf.unit)
        if reading in seen:
            found[place] = SECOND_COPY
        seen.add(reading)
    return found


def _bare(payload: bytes) -> str | None:
    """A short text that is no JSON, as sensors publish that print their number: "23,5 °C"."""
    if len(payload) > LONGEST_NAME:
        return None
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError:
        return None
    return text if isinstance(read(text, comma=True), Quantity) else None


def _topic_device(message: Message, *, bare: bool) -> str:
    levels = message.topic.split("/")
    chosen = message.options.get("device_levels")
    if isinstance(chosen, list | tuple) and chosen:
        places = [place for place in chosen if type(place) is int and 0 <= place < len(levels)]
        return "/".join(levels[place] for place in places)
    return "/".join(levels[:-1]) if bare and len(levels) > 1 else message.topic


def _walk(node: Any, prefix: str, at: _At) -> Iterator[Leaf]:
    """Leaves of an object or array. The parser bounds the depth."""
    if isinstance(node, list):
        for place, entry in enumerate(node):
            yield from _entry(place, entry, prefix, at)
    elif node:
        names = lowered(node)
        here, used = _of(node, names, at)
        yield from _members(node, names, used, prefix, here)


def _entry(place: int, entry: Any, prefix: str, at: _At) -> Iterator[Leaf]:
    """An array's entry: what has a time, a name or a device of its own is told apart by it, the rest by its place."""
    if isinstance(entry, list):
        yield from _walk(entry, f"{prefix}{place}.", at)
    elif not isinstance(entry, dict):
        yield _leaf(f"{prefix}{place}"[:LONGEST_NAME], entry, None, at)
    elif entry:
        names = lowered(entry)
        here, used = _of(entry, names, at)
        own = bool(used) or triplet(entry, names) is not None
        identity = None if own else first(names, IDENTITIES)
        if identity is not None and isinstance(entry[identity], str) and storable(entry[identity]):
            here = here._replace(channel=entry[identity][:LONGEST_NAME])
            used = {*used, identity}
        if prefix and not own and is_alone(entry):  # {"power": [{"value": 1.2, "unit": "kW"}]}
            yield _leaf(
                f"{prefix}{place}"[:LONGEST_NAME], entry[str(first(names, VALUES))], unit_of(entry, names), here
            )
            return
        yield from _members(entry, names, used, prefix if own else f"{prefix}{place}.", here, one_of_many=True)


def _members(
    node: dict[str, Any], names: Names, used: set[str], prefix: str, at: _At, *, one_of_many: bool = False
) -> Iterator[Leaf]:
    named = triplet(node, names)
    if named is not None:
        name, value, unit = named
        path = f"{prefix}{name}"[:LONGEST_NAME]
        yield _leaf(path, node[value], unit, at)
        yield from _beside(node, f"{path}." if one_of_many else prefix, used, at)
        return
    units = units_beside(node, names)
    for name, value in node.items():
        path = f"{prefix}{name}"
        if name in used or (units and name in units.values()):
            yield NO_OBSERVATION
        elif len(path) > LONGEST_NAME:
            yield _leaf(f"{path[: LONGEST_NAME - 1]}…", shown(value), None, at)
        elif isinstance(value, dict):
            inner = lowered(value)
            measured = first(inner, VALUES)
            here, taken = _of(value, inner, at)
            if measured is None or isinstance(value[measured], dict | list):
                yield from _members(value, inner, taken, f"{path}.", here)
            else:
                said = [value[inner[one]] for one in AGGREGATES if one in inner]
                full = ".".join([path, *(one for one in said if isinstance(one, str))])[:LONGEST_NAME]
                yield _leaf(full, value[measured], unit_of(value, inner), here)
                yield from _beside(value, f"{path}.", taken, here)
        elif isinstance(value, list):
            yield from _walk(value, f"{path}.", at)
        else:
            yield _leaf(path, value, node[units[name]] if name in units else None, at)


def _beside(node: dict[str, Any], prefix: str, used: set[str], at: _At) -> Iterator[Leaf]:
    """What stands beside a value and is not its name, unit, time or a text about it: a battery, a minimum, a place."""
    for name, value in node.items():
        if value is None or isinstance(value, str) or name in used or name.lower() in SAID:
            continue
        if isinstance(value, dict | list):
            yield from _walk(value, f"{prefix}{name}.", at)
        else:
            yield _leaf(f"{prefix}{name}"[:LONGEST_NAME], value, None, at)


def _of(node: dict[str, Any], names: Names, at: _At) -> tuple[_At, set[str]]:
    """Device and time that an object gives its leaves, and the members that said so."""
    used: set[str] = set()
    path = at.message.options.get("device_key")
    if isinstance(path, str):
        device: Any = node
        for part in path.split("."):
            device = device.get(part) if isinstance(device, dict) else None
        if isinstance(device, str) or (type(device) is int and abs(device) < 1 << 64):
            at = _on(str(device), at)
            used.add(path.split(".", maxsplit=1)[0])
    room = room_of(node, names)
    if room is not None:
        at = at._replace(channel=room)
    name = _time_member(node, names, at)
    if name is None:
        return at, used
    used.add(name)
    text = node[name]
    clock = first(names, ("time", "zeit"))
    if isinstance(text, str) and _DAY.fullmatch(text) and clock not in {None, name} and isinstance(node[clock], str):
        used.add(str(clock))  # {"date": "2026-11-23", "time": "10:00:00"}
        text = f"{text} {node[clock]}"
    if node.keys() == _NUMBERED and type(text) is int and 0 <= text <= LATEST_US // 1000:
        text = text if "epoch" in at.message.options else rfc3339(text * 1000)
    return _timed(at, text, utc=name.lower() == "dateutc"), used


def _on(device: str, at: _At) -> _At:
    """The same for another device: a clock above it that says no zone is read in its own."""
    here = at._replace(device=device)
    if at.clock is None or at.message.zones.same(device, at.device):
        return here
    return _timed(here, at.clock[0], utc=at.clock[1])


def _timed(at: _At, text: Any, *, utc: bool) -> _At:
    time, tests, fault = _time(text, at, UTC if utc else at.message.zones)
    return _At(at.device, time, tests, fault, at.model, at.message, (text, utc), at.channel)


def _time_member(node: dict[str, Any], names: Names, at: _At) -> str | None:
    chosen = at.message.options.get("time_key")
    date = names.get("date")
    if at.message.options.get("epoch") == "profile":
        return None  # a leaf like any other, for the mapping to date the others by
    if isinstance(chosen, str):
        name = chosen if chosen in node else None
    elif date is not None and isinstance(node[date], str) and _DAY.fullmatch(node[date]):
        name = date
    else:
        name = first(names, TIMES)
    return None if name is None or isinstance(node[name], dict | list) else name


def _time(value: Any, at: _At, zones: Zones) -> tuple[int | None, int, tuple[Reason, str] | None]:
    """A time as text, in the device's zone where it has none; or as a number in the unit that the route declares."""
    if value is None or value == "":
        return None, 0, None
    if isinstance(value, str) and value.isascii() and value.replace(".", "", 1).isdigit() and len(value) < 32:  # noqa: PLR2004
        value = float(value) if "." in value else int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        epoch = _EPOCHS.get(str(at.message.options.get("epoch")))
        if epoch is None:
            return None, 0, (Reason.INVALID_TIME, f"time {shown(value)}: say its unit in the route's options: epoch")
        us = -1
        if 0 <= value <= LATEST_US * 1000:
            us = value * epoch[0] // epoch[1] if isinstance(value, int) else round(value * epoch[0] / epoch[1])
        if not 0 <= us <= LATEST_US:
            return None, 0, (Reason.INVALID_TIME, f"time {shown(value)} is after the year 9999 or before 1970")
        return us, 0, None
    if isinstance(value, str):
        read_as = local(_wall_clock(value) or value.strip(), zones, at.device, at.message.received_us)
        if not isinstance(read_as, Reason):
            return (*read_as, None)
    return None, 0, (Reason.INVALID_TIME, f"time {shown(value)!r} is no time")


def _wall_clock(text: str) -> datetime | None:
    """23.11.2026 10:00:00, as German software writes it; the day alone is no time."""
    found = _GERMAN.fullmatch(text.strip())
    if found is None or found[4] is None:
        return None
    day, month, year, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - its zone is the device's
    except ValueError:
        return None


def _leaf(key: str, value: Any, unit: str | None, at: _At) -> Leaf:
    ignored = at.message.options.get("ignore")
    if ignored is not None and isinstance(ignored, list | tuple) and key in ignored:
        return NO_OBSERVATION
    fault = _fault(key, at)
    if fault is not None:
        return _rejected(*fault, key, value, unit, at)
    if type(value) is float or type(value) is int:
        result = number(value)
        if result is None:
            return _rejected(Reason.NOT_FINITE, f"{key} is too large for a double", key, value, unit, at)
        return Reading(at.device, at.channel, key, result, unit, at.time, None, 0, at.tests, at.model)
    if isinstance(value, str):
        said = read(value, comma=True)
        if isinstance(said, Missing):
            return _reading(key, None, unit, at, value if storable(value) else None)
        if isinstance(said, Quantity):
            return _reading(key, said.value, unit or said.unit, at, value)
        if said.reason is Reason.NOT_A_NUMBER and unit is None:
            detail = f"{key}: string, and nothing says what it means"
            return _rejected(Reason.UNMAPPED_PROPERTY, detail, key, value, unit, at)
        return _rejected(said.reason, said.detail, key, value, unit, at)
    if value is None:
        return _reading(key, None, unit, at)
    if isinstance(value, bool):
        return _reading(key, float(value), unit, at, value)
    return _rejected(Reason.NOT_A_NUMBER, f"{key}: {kind(value)} where a number is expected", key, value, unit, at)


def _fault(key: str, at: _At) -> tuple[Reason, str] | None:
    if not at.device:
        return Reason.NO_DEVICE, "the topic levels or the member that name the device are empty"
    if len(at.device) > LONGEST_NAME:
        return Reason.DEVICE_TOO_LONG, f"device has {len(at.device)} characters, at most {LONGEST_NAME} are taken"
    if not (storable(key) and storable(at.device)):
        return Reason.INVALID_TEXT, "device or key hold a NUL or half a surrogate pair"
    if not key:
        return Reason.MALFORMED, "a value without a name"
    return at.fault


def _reading(key: str, value: float | None, unit: str | None, at: _At, raw: Any = None) -> Reading:
    quality = int(Quality.MISSING) if value is None else 0
    return Reading(at.device, at.channel, key, value, unit, at.time, None, quality, at.tests, at.model, raw)


def _rejected(reason: Reason, detail: str, key: str, value: Any, unit: str | None, at: _At) -> Rejection:
    return Rejection(reason, detail, at.device, at.channel, key, shown(value), unit, at.time)
