"""What most dialects do with the leaves of a JSON value: name them by their path, and make a verdict of each. Pure.

A leaf is given a meaning here only where the caller names a property; otherwise the mapping looks for one.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

from processors.dialects import free_text
from processors.dialects.strict_json import kind, number, shown, storable
from processors.standard.observation import Decoded, Ignored, Leaf, Message, Quality, Reading, Reason, Rejection
from processors.standard.units import LONGEST as LONGEST_UNIT

LONGEST_NAME = 255  # characters of a device, a channel or a path

# Why a leaf is no observation: the words are labels in metrics.
RETAINED = Ignored("retained")  # a copy the broker kept, without a time that says when it was measured
SIMULATED = Ignored("simulated")
NO_OBSERVATION = Ignored("no_observation")  # configuration, identity, radio metadata, counters of frames
SENTINEL = Ignored("sentinel")  # a number by which the network says that it has no value
SECOND_COPY = Ignored("second_copy")  # the same reading once more in one payload, in another unit or under another name

_MISSING = int(Quality.MISSING)
_TUPLE = tuple.__new__  # a Reading without the detour through its Python-level constructor


class At(NamedTuple):
    """Whose leaves they are and when they were measured; `fault` is why a time that came can't be used."""

    device: str
    time: int | None = None
    fault: tuple[Reason, str] | None = None
    channel: str = ""
    model: str = ""
    tests: int = 0


def device_name(name: object, where: str) -> str | Rejection:
    """The device that a payload or topic names, or why it is none."""
    if name is None or name == "":
        return Rejection(Reason.NO_DEVICE, f"{where} is missing or empty")
    if not isinstance(name, str):
        return Rejection(Reason.MALFORMED, f"{where}: {kind(name)} where a string is expected")
    if len(name) > LONGEST_NAME:
        return Rejection(Reason.DEVICE_TOO_LONG, f"device has {len(name)} characters, at most {LONGEST_NAME}")
    if not storable(name):
        return Rejection(Reason.INVALID_TEXT, f"{where} holds a NUL or half a surrogate pair", name)
    return name


def model_name(*parts: object) -> str:
    """What a network says of a device's model, by brand and model or by one name; nothing where a part is no name."""
    if not all(isinstance(part, str) and 0 < len(part) <= LONGEST_NAME and storable(part) for part in parts):
        return ""
    return "/".join(map(str, parts))


def clipped(key: str) -> str:
    """A path no longer than any name."""
    return key if len(key) <= LONGEST_NAME else f"{key[: LONGEST_NAME - 1]}…"


def flat(node: Any, limit: int) -> list[tuple[str, Any]]:
    """Leaves with their dotted paths, in order, one more than `limit` at most. What has too long a path is one leaf.

    The parser bounds the depth.
    """
    found: list[tuple[str, Any]] = []
    _walk(node, "", found, limit)
    return found


def _walk(node: Any, prefix: str, found: list[tuple[str, Any]], limit: int) -> None:
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        path = f"{prefix}{name}"
        if len(path) > LONGEST_NAME:
            found.append((clipped(path), value))
        elif isinstance(value, dict | list):
            _walk(value, f"{path}.", found, limit)
        else:
            found.append((path, value))
        if len(found) > limit:
            return


def on(at: At, channel: str) -> At:
    """The same place on another channel."""
    return at if at[3] == channel else _TUPLE(At, (*at[:3], channel, *at[4:]))


def leaf(
    key: str, value: Any, at: At, name: str | None = None, unit: str | None = None, *, comma: bool = False
) -> Leaf:
    """The verdict on a JSON value: a number, a boolean, null, or a text that holds a number and perhaps a unit.

    name, unit: where the dialect fixes what the key means; a unit glued to the number counts before it.
    comma: whether texts may have a decimal comma.
    """
    device, time, fault, channel, model, tests = at
    raw: str | bool | None = None
    quality = 0
    result: float | None
    if isinstance(value, str):
        read = free_text.read(value, comma=comma)
        if isinstance(read, free_text.Quantity):
            raw, result, unit = value, read[0], read[1] or unit
        elif isinstance(read, free_text.Missing):
            raw, result, quality = value, None, _MISSING
        elif read.reason is Reason.NOT_FINITE:
            return refused(read.reason, f"{key}: {read.detail}", key, value, at, unit)
        else:
            return _no_number(key, value, at, name)
    elif value is None:
        result, quality = None, _MISSING
    elif value is True or value is False:
        if name is not None:
            return refused(Reason.NOT_A_NUMBER, f"{key}: boolean where a number is expected", key, value, at, unit)
        raw, result = value, float(value)
    elif isinstance(value, int | float):
        result = number(value)
        if result is None:
            what = "no number (NaN)" if value != value else "too large for a double"  # noqa: PLR0124 - NaN's mark
            return refused(Reason.NOT_FINITE, f"{key} is {what}", key, value, at, unit)
    else:
        return _no_number(key, value, at, name)
    if fault is not None:
        return refused(*fault, key, value, at, unit)
    if not key or (not (key.isascii() and "\0" not in key) and not storable(key)):
        return refused(
            Reason.INVALID_TEXT, "the key is empty or holds a NUL or half a surrogate pair", key, value, at, unit
        )
    return _TUPLE(Reading, (device, channel, key, result, unit, time, name, quality, tests, model, raw))


def state(key: str, value: Any, at: At, name: str, states: dict[Any, float]) -> Leaf:
    """The verdict on a word or boolean that stands for 0 or 1."""
    if value is None:
        return leaf(key, None, at, name, "1")
    if not isinstance(value, bool | str) or value not in states:
        either = " or ".join(map(shown, states))
        return refused(Reason.NOT_A_NUMBER, f"{key} is {shown(value)!r}, not {either}", key, value, at)
    found = leaf(key, states[value], at, name, "1")
    if isinstance(found, Rejection):
        return refused(found.reason, found.detail, key, value, at)
    return found._replace(raw=value) if isinstance(found, Reading) else found


def refused(reason: Reason, detail: str, key: str, value: Any, at: At, unit: str | None = None) -> Rejection:
    """A leaf's dead letter, with its value as it came."""
    return _TUPLE(Rejection, (reason, detail, at.device, at.channel, key, shown(value), unit, at.time, at.model))


def unit_text(said: Any) -> str | None:
    """What a message says as a unit, where it is a text that can be one and be kept."""
    return said if isinstance(said, str) and 0 < len(said) <= LONGEST_UNIT and storable(said) else None


def collected(leaves: Iterable[Leaf], message: Message, device: str | None, *, pack: bool = True) -> Decoded:
    """A message's leaves, unless they are too many or none; a retained copy's count only with a time of their own.

    pack: whether it may hold many readings of a few keys. What has thousands of keys is no pack, nor what has thousands
    of parts that are broken: making as many letters of one message would hold up its neighbours.
    """
    if pack:
        read = _pack(leaves, message, device)
        if isinstance(read, Rejection):
            return read
        found = read
    else:
        most = most_keys(message)
        found = list(islice(leaves, most + 1))
        if len(found) > most:
            return too_many(message, device)
    return kept(found, message, device)


def kept(found: list[Leaf], message: Message, device: str | None) -> Decoded:
    """A message's leaves, unless they are none; a retained copy's count only with a time of their own."""
    if message.retain:
        found = [RETAINED if isinstance(leaf, Reading) and leaf.time is None else leaf for leaf in found]
    return found or Rejection(Reason.MALFORMED, "the payload has no measurement", device)


def _pack(leaves: Iterable[Leaf], message: Message, device: str | None) -> list[Leaf] | Rejection:
    found: list[Leaf] = []
    keys: set[str] = set()
    most, room = message.max_readings, message.max_keys
    timeless = 0  # readings of the device that only their keys can tell apart
    for one in leaves:
        if len(found) == most:
            return too_many(message, device)
        found.append(one)
        if isinstance(one, Reading):
            keys.add(one.key)
            timeless += one.time is None and one.device == device
        elif isinstance(one, Rejection):
            if one.reason is not Reason.UNMAPPED_PROPERTY:
                room -= 1
            elif one.key:
                keys.add(one.key)
            if room < 0:
                return Rejection(Reason.MALFORMED, f"more than {message.max_keys} broken parts: {one.detail}", device)
        if len(keys) > message.max_keys or timeless > message.max_keys:
            return too_many(message, device)
    return found


def most_keys(message: Message) -> int:
    """How many leaves a message may have whose leaves all have keys of their own: the report of one device."""
    return min(message.max_keys, message.max_readings)


def too_many(message: Message, device: str | None) -> Rejection:
    """The verdict on a message with more leaves than the city takes."""
    detail = (
        f"more than the {message.max_readings} readings, or {message.max_keys} keys, that are taken from one message"
    )
    return Rejection(Reason.TOO_MANY_READINGS, detail, device)


def _no_number(key: str, value: Any, at: At, name: str | None) -> Rejection:
    """What is no number; where nothing says what the key means, the meaning is what is missing."""
    if name is None:
        return refused(
            Reason.UNMAPPED_PROPERTY, f"{key}: {kind(value)}, and nothing says what it means", key, value, at
        )
    return refused(Reason.NOT_A_NUMBER, f"{key} is {shown(value)!r:.40}, not a number", key, value, at)
