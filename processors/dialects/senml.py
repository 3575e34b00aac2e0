"""SenML (RFC 8428): a list of records in JSON or CBOR, on any topic.

A name is base name and name; base fields hold until they are set again, across devices, too. A time below 2**28 seconds
is relative to now. CBOR comes with the labels of the RFC or, as some encoders do, with JSON's names. What a name means
is left to the mapping, but for the one unit that says it (%EL, what a battery has left). A record with a field that
must be understood (its name ends in `_`) is refused, its neighbours are not.
"""

import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn

import cbor2

from processors.dialects.leaves import (
    NO_OBSERVATION,
    RETAINED,
    At,
    clipped,
    collected,
    device_name,
    leaf,
    refused,
    too_many,
)
from processors.dialects.strict_json import kind, load, shown, storable
from processors.standard.observation import Decoded, Leaf, Message, QualityTest, Reading, Reason, Rejection
from processors.standard.times import from_epoch

FILTERS: tuple[str, ...] = ()  # the RFC names no topics: a city routes its own here

_SECOND_US = 1_000_000
_RELATIVE = 2**28
_KNOWN_FEATURES = 0b11010  # versions are bits: 1 and 3 always (10), 4 secondary units (RFC 9100)

_LABELS = dict(enumerate(("bs", "bv", "bu", "bt", "bn", "bver", "n", "u", "v", "vs", "vb", "s", "t", "ut", "vd"), -6))
_BASES = {"bn": "", "bt": 0.0, "bu": None, "bv": 0.0, "bs": 0.0}
_NO_RECORD = _BASES.keys() | {"bver", "ut"}
_NUMBERS = frozenset({"bt", "bv", "bs", "v", "s", "t"})
_TYPES: dict[Any, Any] = {
    **dict.fromkeys(_NUMBERS, int | float),
    **dict.fromkeys(("bn", "bu", "n", "u", "vs", "vd"), str),
    "vb": bool,
}
_VALUES = ("v", "vb", "vs", "vd")
_TEXTS = frozenset({"bn", "bu", "n", "u", "vs"})
# Fields with values that need no further look, as almost all have.
_SOUND = {
    **dict.fromkeys(_NUMBERS, frozenset({int, float})),
    **dict.fromkeys(("bn", "n", "vs", "vd"), frozenset({str})),
    "vb": frozenset({bool}),
}
_UNSEEN: frozenset[type] = frozenset()

MEANINGS = {"%EL": ("device_battery_level", "%EL")}
# RFC 8428 (12.1, note 2): the name suggests a percentage, "it is however NOT a percentage, but the absolute ratio". Who
# sends more than 1 can't have meant that; below it nobody knows.
_RATIO = "by RFC 8428 % is a ratio up to 1, yet many send a percentage; say /, /100, %RH or %EL"
_POSITIONS = frozenset({"lat", "lon"})

# A device URN (RFC 9039) and what follows it.
_DEVICE_URN = re.compile(r"(urn:dev:[a-z]+:[^:/_]+)(?:[:/_](.*))?", re.DOTALL)

_SELF_DESCRIBED = b"\xd9\xd9\xf7"
_END = "end of payload"


class _Broken(str):
    """In place of a base field that can't be used: why."""

    __slots__ = ()


def decode(message: Message) -> Decoded:
    """Readings of a pack of records. Never raises."""
    records = _records(message)
    if isinstance(records, Rejection):
        return records
    base = dict(_BASES)
    names: dict[tuple[Any, Any], tuple[At, str] | Rejection] = {}  # a pack mostly repeats a few
    leaves = (found for record in records for found in _record(record, base, names, message))
    return collected(leaves, message, None)


def _records(message: Message) -> list[Any] | Rejection:
    payload = message.payload
    binary = payload[:1] >= b"\x80" and payload[:1] != b"\xef"  # JSON begins below, a byte order mark is no CBOR
    body = _cbor(payload) if binary else load(payload)
    if isinstance(body, Rejection):
        return body
    if not isinstance(body, list):
        return Rejection(Reason.MALFORMED, f"{kind(body)} where a list of records is expected")
    if len(body) > message.max_readings:
        return too_many(message, None)
    if binary:
        body = [_named_as_in_json(record) for record in body]
    for record in body:
        version = record.get("bver") if isinstance(record, dict) else None
        if version is not None and not _is_known(version):
            return Rejection(Reason.MALFORMED, f"version {shown(version):.40} has features unknown here")
    return body


def _is_known(version: Any) -> bool:
    if not isinstance(version, int) or isinstance(version, bool):
        return False
    return version <= 10 or version & ~_KNOWN_FEATURES == 0  # noqa: PLR2004 - RFC 8428, section 4.4


def _cbor(payload: bytes) -> Any:
    """The list that CBOR bytes are, or why they are none."""
    payload = payload.removeprefix(_SELF_DESCRIBED)
    marked = b"\x82" + payload + cbor2.dumps(_END)  # what follows the payload shows where it ended
    try:
        body, end = cbor2.loads(marked, semantic_decoders=_REFUSED, max_depth=64)
    except (cbor2.CBORError, EOFError, ValueError, TypeError, OverflowError) as error:
        return Rejection(Reason.MALFORMED, f"no CBOR: {str(error)[:120]}")
    if end != _END:
        return Rejection(Reason.MALFORMED, "no CBOR: bytes after the list")
    if not isinstance(body, list):
        return Rejection(Reason.MALFORMED, "CBOR that is no list of records")
    return body


def _named_as_in_json(record: Any) -> Any:
    """A record with JSON's names and values."""
    if not isinstance(record, dict):
        return _plain(record)
    named = {_LABELS.get(name, "") if type(name) is int else name: value for name, value in record.items()}
    # What is no text must not pass for one by the name of its type.
    return {name: [_plain(value)] if _is_no_text(name, value) else _plain(value) for name, value in named.items()}


def _is_no_text(name: Any, value: Any) -> bool:
    return name in _TEXTS and not isinstance(value, str) and isinstance(_plain(value), str)


def _refuse(*_: Any) -> NoReturn:
    raise ValueError("a tag that SenML does not use")


# Every tag that the library would make an object of: none is a number, some are expensive, some tie knots.
_TAGS = (0, 1, 2, 3, 5, 25, 28, 29, 30, 35, 36, 37, 43, 52, 54, 100, 256, 258, 260, 261, 1004, 43000)
_REFUSED = dict.fromkeys(_TAGS, _refuse)


def _plain(value: Any) -> Any:
    """CBOR's values as JSON has them; what JSON has not is told by its type's name."""
    if isinstance(value, Decimal):
        return float(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return f"({type(value).__name__})"


def _record(
    record: Any, base: dict[str, Any], names: dict[tuple[Any, Any], tuple[At, str] | Rejection], message: Message
) -> Iterator[Leaf]:
    if not isinstance(record, dict):
        yield Rejection(Reason.MALFORMED, "a record that is no object", value=shown(record))
        return
    doubtful = [pair for pair in record.items() if type(pair[1]) not in _SOUND.get(pair[0], _UNSEEN)]
    faults = [(name, value) for name, value in doubtful if not isinstance(value, _TYPES.get(name, object))]
    faults += [(name, value) for name, value in doubtful if _is_odd(name, value)]
    if not _BASES.keys().isdisjoint(record):
        broken = dict(faults)
        for name in _BASES.keys() & record.keys():
            # What a broken base field would have meant is unknown until it is set again.
            base[name] = _Broken(_fault(name, broken[name])) if name in broken else record[name]
        if record.keys() <= _NO_RECORD:
            return  # base fields alone are no record
    divided = (base["bn"], record.get("n", ""))
    named = names.get(divided) if isinstance(divided[1], str) else None
    if named is None:
        named = _named(*divided, message.topic)
        if isinstance(divided[1], str):
            names[divided] = named
    values = [one for one in _VALUES if one in record]
    fault = _fault(*faults[0]) if faults else None
    if fault is None and _Broken in map(type, base.values()):
        fault = next(b for b in base.values() if type(b) is _Broken)
    if fault is None and len(values) > 1:
        fault = f"more than one value: {', '.join(values)}"
    if fault is None and not values and "s" not in record:
        fault = "no value"
    if isinstance(named, Rejection):
        yield named
        return
    if fault is not None:
        yield _malformed(named, fault, record)
        return
    unit = record.get("u", base["bu"])
    if unit in _POSITIONS:
        yield NO_OBSERVATION
        return
    at, key = named
    yield from _readings(record, base, _timed(at, record, base, message), key, unit, message)


def _readings(
    fields: dict[str, Any], base: dict[str, Any], at: At, key: str, unit: str | None, message: Message
) -> Iterator[Leaf]:
    meaning, fixed = MEANINGS.get(unit or "", (None, unit))
    found: list[Leaf] = []
    if "v" in fields:
        resolved = _sum(base["bv"], fields["v"])
        if unit == "%" and 0 < abs(resolved) <= 1:
            found.append(refused(Reason.UNKNOWN_UNIT, f"{key}: {_RATIO}", key, fields["v"], at, unit))
        else:
            found.append(leaf(key, resolved, at, meaning, fixed))
    elif "vb" in fields:
        found.append(leaf(key, fields["vb"], at, None, unit))
    elif "vs" in fields or "vd" in fields:
        value = fields.get("vs", fields.get("vd"))
        detail = f"{key}: {'string' if 'vs' in fields else 'data'}, and nothing says what it means"
        found.append(
            Rejection(Reason.UNMAPPED_PROPERTY, detail, at.device, at.channel, key, shown(value), unit, at.time)
        )
    if "s" in fields:  # the value's integral over the time
        of_time = None if unit is None else f"{unit}.s"
        found.append(leaf(clipped(f"{key}.s"), _sum(base["bs"], fields["s"]), at, None, of_time))
    for one in found:
        # A copy that the broker kept has a relative time only as long ago as nobody knows.
        relative = message.retain and isinstance(one, Reading) and one.tests & QualityTest.GATEWAY_TIME
        yield RETAINED if relative else one


def _is_odd(name: Any, value: Any) -> bool:
    """What the type alone does not tell: a field to be understood, a boolean for a number, a unit nobody can store."""
    if name in _NUMBERS:
        return isinstance(value, bool)
    if name in {"u", "bu"}:
        return isinstance(value, str) and not storable(value)
    return isinstance(name, str) and name.endswith("_")


def _fault(name: str, value: Any) -> str:
    if name.endswith("_"):
        return f"field {shown(name)!r:.60} must be understood and is not"
    if name in {"u", "bu"} and isinstance(value, str):
        return f"{name} holds a NUL or half a surrogate pair"
    what = "number" if name in _NUMBERS else "boolean" if name == "vb" else "string"
    return f"{name} is {shown(value)!r:.40} where a {what} is expected"


def _named(prefix: Any, rest: Any, topic: str) -> tuple[At, str] | Rejection:
    """Device and key. However a pack divides a name into base and rest, the same name gives the same two."""
    prefix = "" if type(prefix) is not str else prefix
    rest = "" if type(rest) is not str else rest
    urn = _DEVICE_URN.fullmatch(prefix + rest)
    if urn is not None:
        device, key = urn.groups()
    elif prefix:
        device, key = prefix.rstrip(":/_-."), rest
    else:
        head, found, tail = rest.rpartition("/" if "/" in rest else ":")
        device, key = (head, tail) if found and head and tail else (topic, rest)
    name = device_name(device, "the name")
    if isinstance(name, Rejection):
        return name
    return At(name), clipped(key or "v")


def _timed(at: At, fields: dict[str, Any], base: dict[str, Any], message: Message) -> At:
    time = _sum(base["bt"], fields.get("t", 0))
    if not time:
        return at  # now
    if time >= _RELATIVE or math.isnan(time):
        absolute = from_epoch(time, _SECOND_US)
        if isinstance(absolute, Reason):
            return at._replace(fault=(absolute, "t: no time in the years 1 to 9999"))
        return at._replace(time=absolute)
    relative = from_epoch(time, _SECOND_US)
    if isinstance(relative, Reason):
        return at._replace(fault=(relative, "t: more years ago than there were"))
    return at._replace(time=message.received_us + relative, tests=int(QualityTest.GATEWAY_TIME))


def _sum(base: float, value: float) -> float:
    """Base value and value; beyond a double it is infinite, which costs the reading."""
    try:
        return base + value if base else value
    except OverflowError:
        return math.inf


def _malformed(named: tuple[At, str], detail: str, fields: dict[str, Any]) -> Rejection:
    at, key = named
    value = next((fields[name] for name in (*_VALUES, "s") if name in fields), None)
    return Rejection(Reason.MALFORMED, detail, at.device, at.channel, key, None if value is None else shown(value))
