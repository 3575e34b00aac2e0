"""The independent check: what the simulator published against what the database holds, by identity. No I/O.

It knows what must be stored from the simulator's own record alone. Every acknowledged good reading is one row with its
value and flag, every bad one has a dead letter with its bytes and reason, and nothing else exists. What was never
acknowledged may or may not have arrived. Where messages were redelivered a dead letter may be there more often, a
reading without a time of its own may be stored again, and a message that comes again after its session has ended may
be a dead letter beside its rows.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from simulator.devices import stamp
from simulator.expectation import Good, Recorded

RELATIVE = 1e-9  # between two ways to convert a unit in double precision
ABSOLUTE = 1e-9
UNREADABLE = frozenset({"unknown_alias", "unknown_state"})  # of a message outside its session
RECEIVE_TIME_STEP = 1_000  # the gateway tells milliseconds: a receive time may lie so far before the publication


class Row(NamedTuple):
    """A stored observation of the city. `time` in microseconds since the epoch."""

    device: str
    channel: str
    property: str
    time: int
    value: float | None
    quality: int


class Letter(NamedTuple):
    """A dead letter of the city: `kept` is the sha256 of the bytes it holds."""

    kept: str
    reading: int | None
    reason: str


@dataclass(slots=True)
class Counts:
    """Units by outcome where nothing is redelivered."""

    published: int = 0
    stored: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    ignored: int = 0


def count(published: Iterable[Recorded]) -> Counts:
    """What the ledger must say of these messages if each arrived once."""
    counts = Counts()
    for _, _, _, expected in published:
        counts.published += expected.units
        counts.dead_lettered += len(expected.bad)
        counts.ignored += expected.ignored
        if expected.copy:
            counts.duplicate += len(expected.good)
        else:
            counts.stored += len(expected.good)
    return counts


@dataclass(slots=True)
class _Due:
    """A reading that must be there once. `published`: not before then, for one that takes the gateway's time."""

    good: Good
    published: int
    required: bool
    seen: int = 0


@dataclass(slots=True)
class _Account:
    timed: dict[tuple[str, str, str, int], _Due] = field(default_factory=dict)
    untimed: dict[tuple[str, str, str, float | None], _Due] = field(default_factory=dict)
    letters: Counter[Letter] = field(default_factory=Counter)
    optional: Counter[Letter] = field(default_factory=Counter)
    sessions: set[str] = field(default_factory=set)  # sha256 of messages that can be read in their session alone

    def add(self, recorded: Recorded, *, required: bool) -> None:
        """Take a message into account; copies of a reading are due once."""
        expected = recorded.expected
        for good in expected.good:
            fresh = _Due(good, recorded.published, required)
            if good.time is None:
                due = self.untimed.setdefault((*good[:3], good.value), fresh)
            else:
                due = self.timed.setdefault((*good[:3], good.time), fresh)
            due.required |= required
        if expected.kept is not None and not expected.bad:
            self.sessions.add(expected.kept)
        for bad in expected.bad:
            letter = Letter(expected.kept or "", bad.reading, bad.reason)
            (self.letters if required else self.optional)[letter] += 1

    def find(self, row: Row) -> _Due | None:
        """What a row was published as."""
        due = self.timed.get(row[:4])
        return due if due is not None else self.untimed.get((*row[:3], row.value))


def _name(row: Row | Good) -> str:
    time = "at the gateway's time" if row.time is None else stamp(row.time)
    return f"{row.device}/{row.channel}/{row.property} {time} = {row.value!r}, quality {row.quality}"


def _same(stored: float | None, published: float | None) -> bool:
    if stored is None or published is None:
        return stored is published
    return math.isclose(stored, published, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _check_rows(account: _Account, rows: Iterable[Row], *, redelivered: bool) -> Iterable[str]:
    for row in rows:
        due = account.find(row)
        if due is None:
            yield f"row that was never published: {_name(row)}"
            continue
        due.seen += 1
        if not _same(row.value, due.good.value):
            yield f"other value: {_name(row)}, published {due.good.value!r}"
        elif row.quality != due.good.quality:
            yield f"other quality: {_name(row)}, expected {due.good.quality}"
        elif due.seen > 1 and not (redelivered and due.good.time is None):
            yield f"stored {due.seen} times: {_name(row)}"
        elif due.good.time is None and row.time < due.published - RECEIVE_TIME_STEP:
            yield f"received before it was published: {_name(row)}, published {stamp(due.published)}"
    for due in (*account.timed.values(), *account.untimed.values()):
        if due.required and not due.seen:
            yield f"missing row: {_name(due.good)}"


def _check_letters(account: _Account, letters: Iterable[Letter], *, redelivered: bool) -> Iterable[str]:
    found = Counter(letters)
    for letter in sorted(found.keys() | account.letters.keys(), key=repr):
        least, there = account.letters[letter], found[letter]
        most = least + account.optional[letter]
        if there < least:
            yield f"missing dead letter: {there} of {least} with {letter}"
        elif redelivered and letter.kept in account.sessions and letter.reason in UNREADABLE:
            continue
        elif not most:
            yield f"dead letter that was never due: {there} with {letter}"
        elif there > most and not redelivered:
            yield f"dead letter too often: {there} instead of {most} with {letter}"


def verify(
    published: Iterable[Recorded],
    rows: Iterable[Row],
    letters: Iterable[Letter],
    *,
    unacknowledged: Collection[int] = (),
    redelivered: bool = False,
) -> list[str]:
    """Every disagreement between one city's record and its database, a sentence each; empty if there is none."""
    account = _Account()
    for recorded in published:
        account.add(recorded, required=recorded.sequence not in unacknowledged)
    return [
        *_check_rows(account, rows, redelivered=redelivered),
        *_check_letters(account, letters, redelivered=redelivered),
    ]
