"""What FIWARE's two IoT agents have in common: topics, times and values that are text which people configured."""

from typing import Any, NamedTuple

from processors.dialects.leaves import NO_OBSERVATION, At, device_name
from processors.dialects.strict_json import shown
from processors.standard.observation import Ignored, Reason, Rejection
from processors.standard.times import instant

_ATTRIBUTES = "attrs"
_COMMANDS = frozenset({"cmd", "cmdexe", "commands", "values"})


class Address(NamedTuple):
    """What a topic says: the device, and the attribute where the body is the value of one."""

    device: str
    attribute: str | None


def address(topic: str) -> Address | Rejection | Ignored:
    """Read `[/protocol]/{API key}/{device}/attrs[/{attribute}]`. The key is a secret and goes no further."""
    levels = topic.split("/")
    if levels[-1] in _COMMANDS:
        return NO_OBSERVATION
    if _ATTRIBUTES not in levels[1:]:
        return Rejection(Reason.NO_DEVICE, "the topic is not …/{device}/attrs or …/{device}/attrs/{attribute}")
    place = levels.index(_ATTRIBUTES, 1)
    device = device_name(levels[place - 1], "the topic's device")
    if isinstance(device, Rejection):
        return device
    return Address(device, "/".join(levels[place + 1 :]) or None)


def timed(at: At, text: Any, name: str) -> At:
    """The same place with the time that a measure brings, or why that is none. Null: it brings none."""
    if text is None:
        return at
    time = instant(text.strip()) if isinstance(text, str) else Reason.INVALID_TIME
    if isinstance(time, Reason):
        detail = f"{name} {shown(text)!r:.60} is no ISO 8601 time with a zone"
        return at._replace(time=None, fault=(time, detail))
    return at._replace(time=time, fault=None)
