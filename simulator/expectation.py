"""What the simulator publishes together with what must become of it, and how that is written down.

An expectation names every leaf of its message once: a good reading by its identity and canonical value, a bad one by
its place and reason. The published units are those leaves; a message refused or ignored whole counts one.
"""

import hashlib
import json
from typing import Any, NamedTuple


class Good(NamedTuple):
    """A reading that must become exactly one row.

    `time` in microseconds since the epoch, None where the gateway's receive time stands in. `value` in the property's
    canonical unit, None for a declared missing value. `quality` is the flag it must carry.
    """

    device: str
    channel: str
    property: str
    time: int | None
    value: float | None
    quality: int = 1


class Bad(NamedTuple):
    """A reading (by its place in the message) or, with None, a whole message that must become a dead letter."""

    reading: int | None
    reason: str


class Expectation(NamedTuple):
    """What must become of one message. `kind` names the class of message it belongs to.

    `copy`: its good readings were published before, so they are duplicates. `kept`: sha256 of the bytes that its dead
    letters must hold, None where there are none. Of a message without a bad reading: of the bytes that a dead letter
    may hold should it be redelivered after the session that it belongs to, when it can't be read.
    """

    kind: str
    good: tuple[Good, ...] = ()
    bad: tuple[Bad, ...] = ()
    ignored: int = 0
    copy: bool = False
    kept: str | None = None

    @property
    def units(self) -> int:
        """Readings in the message, or one."""
        return len(self.good) + len(self.bad) + self.ignored


class Publication(NamedTuple):
    """One message for the broker."""

    topic: str
    payload: bytes
    retain: bool
    expected: Expectation


class Recorded(NamedTuple):
    """A line of the simulator's record. `published` in microseconds since the epoch."""

    sequence: int
    topic: str
    published: int
    expected: Expectation


def digest(payload: bytes) -> str:
    """How dead letters are told apart: sha256 in hex."""
    return hashlib.sha256(payload).hexdigest()


def line(sequence: int, published: int, publication: Publication) -> str:
    """One line of the record, ended by a newline; what is empty is left out."""
    expected = publication.expected
    told: dict[str, Any] = {"n": sequence, "at": published, "topic": publication.topic, "kind": expected.kind}
    if expected.good:
        told["good"] = expected.good
    if expected.bad:
        told["bad"] = expected.bad
    if expected.kept is not None:
        told["kept"] = expected.kept
    if expected.ignored:
        told["ignored"] = expected.ignored
    if expected.copy:
        told["copy"] = True
    return json.dumps(told, separators=(",", ":")) + "\n"


def read(line: str) -> Recorded:
    """The inverse of `line`."""
    told = json.loads(line)
    return Recorded(
        told["n"],
        told["topic"],
        told["at"],
        Expectation(
            kind=told["kind"],
            good=tuple(Good(*each) for each in told.get("good", ())),
            bad=tuple(Bad(*each) for each in told.get("bad", ())),
            ignored=told.get("ignored", 0),
            copy=told.get("copy", False),
            kept=told.get("kept"),
        ),
    )
