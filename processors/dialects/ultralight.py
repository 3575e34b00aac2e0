"""FIWARE UltraLight 2.0: `/ul/{API key}/{device}/attrs`, text: `t|15|k|abc`, groups parted by `#`, a time in front.

Everything is text without units. A position (`43.46/-3.80`) and the result of a command (`device@ping|done`) are no
observations. Where a group can't be cut into names and values it is refused alone. Form as in the agent's manual
(telefonicaid/iotagent-ul, docs/usermanual.md) and its tests.
"""

import re
from collections.abc import Iterator

from processors.dialects.fiware import Address, address, timed
from processors.dialects.leaves import NO_OBSERVATION, At, clipped, collected, leaf
from processors.dialects.strict_json import shown
from processors.standard.observation import Decoded, Leaf, Message, Reason, Rejection
from processors.standard.times import instant

FILTERS = ("/ul/+/+/attrs", "/ul/+/+/attrs/+", "ul/+/+/attrs", "ul/+/+/attrs/+")

_POSITION = re.compile(r"\s*-?[0-9]+(?:\.[0-9]+)?\s*/\s*-?[0-9]+(?:\.[0-9]+)?\s*")


def decode(message: Message) -> Decoded:
    """Readings of a measure message. Never raises."""
    to = address(message.topic)
    if not isinstance(to, Address):
        return to
    if not message.payload:
        return Rejection(Reason.EMPTY_PAYLOAD, "the message has no payload", to.device)
    try:
        text = message.payload.decode()
    except UnicodeDecodeError as error:
        return Rejection(Reason.NOT_UTF8, f"byte {error.start} is not UTF-8: {error.reason}", to.device)
    at = At(to.device)
    if to.attribute is not None:
        return collected([_value(to.attribute, text, at)], message, to.device)
    leaves = (found for group in text.rstrip("\r\n").split("#") for found in _group(group, at))
    return collected(leaves, message, to.device)


def _group(group: str, at: At) -> Iterator[Leaf]:
    parts = group.split("|")
    if len(parts) % 2 and _is_time(parts[0]):
        at = timed(at, parts.pop(0), "the group's time")
    if not parts or len(parts) % 2:
        detail = f"a group of {len(parts)} parts is no list of names and values"
        yield Rejection(Reason.MALFORMED, detail, at.device, value=shown(group))
        return
    for name, value in zip(parts[::2], parts[1::2], strict=True):
        yield _value(name.strip(), value, at)


def _is_time(text: str) -> bool:
    return instant(text.strip()) is not Reason.INVALID_TIME


def _value(name: str, value: str, at: At) -> Leaf:
    if not name:
        return Rejection(Reason.MALFORMED, "a value without a name", at.device, value=shown(value))
    if "@" in name or _POSITION.fullmatch(value):
        return NO_OBSERVATION
    return leaf(clipped(name), value, at, comma=True)
