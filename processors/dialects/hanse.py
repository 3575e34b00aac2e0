"""The native message of the shared standard: topic `hanse/<city>/<domain>/<device>`, JSON, profile version 1.

A message that is right takes the fast way: pydantic checks it whole in one call, a loop makes the readings. Only what
that refuses is read again, slowly and reading by reading, so that one bad reading never stops its neighbours and each
verdict says what a person needs. Both ways give the same for what both take. Units are the mapping's business.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from processors.dialects.strict_json import kind, load_object, number, shown, storable
from processors.standard.observation import Decoded, Ignored, Leaf, Message, Quality, Reading, Reason, Rejection
from processors.standard.times import parse
from processors.standard.units import LONGEST as LONGEST_UNIT
from processors.standard.vocabulary import VOCABULARY

VERSION = 1
LONGEST_NAME = 255  # characters of a device or channel

_FLAGS = frozenset(int(flag) for flag in Quality)
_MISSING = int(Quality.MISSING)
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_PLAIN = 3  # a reading of property, value and unit only
_TUPLE = tuple.__new__  # a Reading without the detour through its Python-level constructor

Channel = Annotated[str, Field(max_length=LONGEST_NAME)]
Scalar = FiniteFloat | str | bool | None


@with_config(_STRICT)
class RawReading(TypedDict):
    """A reading of the native message."""

    property: Literal[tuple(VOCABULARY)]  # type: ignore[valid-type] # the vocabulary is data, not source
    value: FiniteFloat | None
    unit: Annotated[str, Field(max_length=LONGEST_UNIT)]
    time: NotRequired[str | None]
    channel: NotRequired[Channel | None]
    quality: NotRequired[int | None]
    parameters: NotRequired[dict[str, Scalar] | None]


@with_config(_STRICT)
class RawMessage(TypedDict):
    """The native message; docs/schema is made from it."""

    v: Annotated[int, Field(ge=VERSION, le=VERSION)]
    device: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    time: NotRequired[str | None]
    readings: Annotated[list[RawReading], Field(min_length=1, fail_fast=True)]


_validate = TypeAdapter(RawMessage).validator.validate_json


class _Head(NamedTuple):
    """What holds for every reading of a message."""

    device: str
    time: int | None
    fault: tuple[Reason, str] | None  # why a reading without a time of its own is refused
    retained: bool


def decode(message: Message) -> Decoded:
    """Readings of a native message. Never raises."""
    payload = message.payload
    # The fast parser lets NaN tokens pass where nobody looks, and escaped NULs everywhere. One byte tells most messages
    # apart from those that need the longer search.
    if not (
        (b"N" in payload and b"NaN" in payload)
        or (b"I" in payload and b"Infinity" in payload)
        or (b"\\" in payload and b"\\u0000" in payload)
    ):
        try:
            body = _validate(payload)
        except ValidationError:
            pass
        else:
            leaves = _decode_fast(body, message)
            if leaves is not None:
                return leaves
    return decode_slowly(message)


def _decode_fast(body: Any, message: Message) -> list[Leaf] | None:
    """Readings of a validated message; None where something is left that needs a verdict of its own."""
    device, raw_readings, text = body["device"], body["readings"], body.get("time")
    if len(raw_readings) > message.max_readings or _topic_disagrees(message.topic, device):
        return None
    message_time = None if text is None else parse(text)
    if type(message_time) is Reason or (message_time is None and message.retain):
        return None
    leaves: list[Leaf] = []
    append = leaves.append
    for raw in raw_readings:
        key, value = raw["property"], raw["value"]
        if len(raw) == _PLAIN:
            if value is None:
                return None
            append(_TUPLE(Reading, (device, "", key, value, raw["unit"], message_time, key, 0, 0, "", None)))
            continue
        get = raw.get
        quality, text = get("quality"), get("time")
        if (value is None) is not (quality == _MISSING) or (quality is not None and quality not in _FLAGS):
            return None
        time = message_time if text is None else parse(text)
        if type(time) is Reason:
            return None
        channel = get("channel") or ""
        append(_TUPLE(Reading, (device, channel, key, value, raw["unit"], time, key, quality or 0, 0, "", None)))
    return leaves


def decode_slowly(message: Message) -> Decoded:
    """The same with a verdict on every fault."""
    body = load_object(message.payload)
    if isinstance(body, Rejection):
        return body
    head = _head(body, message)
    if isinstance(head, Rejection):
        return head
    readings = body.get("readings")
    if not isinstance(readings, list):
        return _malformed(f"readings: {kind(readings)} where an array is expected")
    if not readings:
        return _malformed("readings is empty")
    if len(readings) > message.max_readings:
        detail = f"{len(readings)} readings in one message, at most {message.max_readings} are taken"
        return Rejection(Reason.TOO_MANY_READINGS, detail, head.device)
    if sum(not isinstance(raw, dict) or not raw for raw in readings) > message.max_keys:
        return _malformed(f"more than {message.max_keys} readings are none", head.device)
    return [_leaf(raw, head) for raw in readings]


def _head(body: dict[str, Any], message: Message) -> _Head | Rejection:
    version, device, text = body.get("v"), body.get("device"), body.get("time")
    if isinstance(version, bool) or version != VERSION:
        told = "missing" if version is None else f"{kind(version)} {shown(version)!r}"
        return _malformed(f"v is {told}; this is profile version {VERSION}")
    if device is None or device == "":
        return Rejection(Reason.NO_DEVICE, "device is missing or empty")
    if not isinstance(device, str):
        return _malformed(f"device: {kind(device)} where a string is expected")
    if len(device) > LONGEST_NAME:
        return Rejection(
            Reason.DEVICE_TOO_LONG, f"device has {len(device)} characters, at most {LONGEST_NAME} are taken"
        )
    if _topic_disagrees(message.topic, device):
        return _malformed(f"device is {shown(device)!r}, but the topic says {shown(message.topic.split('/', 3)[3])!r}")
    time, fault = _time(text)
    return _Head(device, time, fault, message.retain)


def _topic_disagrees(topic: str, device: str) -> bool:
    if not topic.startswith("hanse/"):
        return False  # a city may route other topics here; those say nothing of the device
    levels = topic.split("/", 3)
    return len(levels) > 3 and levels[3] != device  # noqa: PLR2004 - hanse, city, domain, device


def _time(text: object) -> tuple[int | None, tuple[Reason, str] | None]:
    """A time member: absent and null are the same."""
    if text is None:
        return None, None
    if not isinstance(text, str):
        return None, (Reason.INVALID_TIME, f"time: {kind(text)} where an RFC 3339 string is expected")
    time = parse(text)
    if not isinstance(time, Reason):
        return time, None
    if time is Reason.NAIVE_TIME:
        return None, (time, f"time {shown(text)!r} has no zone; end it in Z or an offset")
    return None, (time, f"time {shown(text)!r} is no RFC 3339 time")


def _leaf(raw: Any, head: _Head) -> Leaf:
    if not isinstance(raw, dict):
        return _malformed(f"reading: {kind(raw)} where an object is expected", head.device, shown(raw))
    time, fault = (head.time, head.fault) if raw.get("time") is None else _time(raw["time"])
    if head.retained and time is None and fault is None:
        return Ignored("retained")
    get: Callable[[str], Any] = raw.get
    channel, key, unit, value, quality = map(get, ("channel", "property", "unit", "value", "quality"))
    found = _fault_of_names(head.device, channel, key, unit) or _fault_of_value(value, quality) or fault
    found = found or _fault_of_parameters(raw.get("parameters"))
    if found is None:
        result = None if value is None else number(value)
        return Reading(head.device, channel or "", key, result, unit, time, key, quality or 0)
    reason, detail = found
    return Rejection(
        reason,
        detail,
        head.device,
        None if channel is None else shown(channel),
        None if key is None else shown(key),
        shown(value) if "value" in raw else None,
        None if unit is None else shown(unit),
        time,
    )


def _fault_of_names(device: str, channel: object, key: object, unit: object) -> tuple[Reason, str] | None:
    for name, text in (("device", device), ("channel", channel), ("property", key), ("unit", unit)):
        if isinstance(text, str) and not storable(text):
            return Reason.INVALID_TEXT, f"{name} holds a NUL or half a surrogate pair"
    if not isinstance(channel, str | None):
        return Reason.MALFORMED, f"channel: {kind(channel)} where a string is expected"
    if channel is not None and len(channel) > LONGEST_NAME:
        return Reason.MALFORMED, f"channel has {len(channel)} characters, at most {LONGEST_NAME} are taken"
    if not isinstance(key, str):
        return Reason.MALFORMED, f"property: {kind(key)} where a string is expected"
    if key not in VOCABULARY:
        return Reason.UNMAPPED_PROPERTY, f"property {shown(key)!r} is not in the vocabulary"
    if not isinstance(unit, str):
        return Reason.UNKNOWN_UNIT, "unit is missing" if unit is None else f"unit: {kind(unit)} is no unit"
    if len(unit) > LONGEST_UNIT:
        return Reason.UNKNOWN_UNIT, f"unit has {len(unit)} characters, at most {LONGEST_UNIT} are taken"
    return None


def _fault_of_value(value: object, quality: object) -> tuple[Reason, str] | None:
    if quality is not None and (type(quality) is not int or quality not in _FLAGS):
        return Reason.MALFORMED, f"quality is {shown(quality)!r}; it is one of {', '.join(map(str, sorted(_FLAGS)))}"
    if value is None:
        return None if quality == _MISSING else (Reason.NOT_A_NUMBER, "value is missing or null without quality 9")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Reason.NOT_A_NUMBER, f"value: {kind(value)} where a number is expected"
    if number(value) is None:
        return Reason.NOT_FINITE, "value is too large for a double"
    if quality == _MISSING:
        return Reason.NOT_A_NUMBER, f"quality 9 says that the value is missing, but it is {shown(value)}; send null"
    return None


def _fault_of_parameters(parameters: object) -> tuple[Reason, str] | None:
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        return Reason.MALFORMED, f"parameters: {kind(parameters)} where an object is expected"
    for name, value in parameters.items():
        if isinstance(value, dict | list):
            return Reason.MALFORMED, f"parameters[{shown(name)!r}]: {kind(value)} where a scalar is expected"
        if not storable(name) or (isinstance(value, str) and not storable(value)):
            return Reason.INVALID_TEXT, "parameters hold a NUL or half a surrogate pair"
    return None


def _malformed(detail: str, device: str | None = None, value: str | None = None) -> Rejection:
    return Rejection(Reason.MALFORMED, detail, device, value=value)
