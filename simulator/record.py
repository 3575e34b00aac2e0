"""The simulator's own account, on disk: a line for every message before it is published, and running totals.

    DIR/<city>.jsonl   one `expectation.line` a message; the last line tells what the broker never acknowledged
    DIR/totals.json    counts by city, replaced whole, for a live page

A line is on its way to the disk before its message leaves, so that the record knows no less than any broker.
"""

import json
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from simulator.expectation import Publication, Recorded, line, read

TOTALS = "totals.json"


@dataclass(slots=True)
class Totals:
    """Counts of one city. `published` and what follows it are units: readings, or a message that has none to count."""

    messages: int = 0
    acknowledged: int = 0
    published: int = 0
    stored: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    ignored: int = 0
    kinds: dict[str, int] = field(default_factory=dict)

    def add(self, publication: Publication) -> None:
        """Count what must become of a message."""
        expected = publication.expected
        self.messages += 1
        self.published += expected.units
        if expected.copy:
            self.duplicate += len(expected.good)
        else:
            self.stored += len(expected.good)
        self.dead_lettered += len(expected.bad)
        self.ignored += expected.ignored
        self.kinds[expected.kind] = self.kinds.get(expected.kind, 0) + 1


class Record:
    """One city's file, written as messages go out."""

    def __init__(self, directory: Path, city: str) -> None:
        self.totals = Totals()
        self._file = (directory / f"{city}.jsonl").open("w", encoding="utf-8", buffering=1)

    def add(self, published: int, publication: Publication) -> int:
        """Write a message down (`published`: microseconds since the epoch); returns its sequence number."""
        self.totals.add(publication)
        self._file.write(line(self.totals.messages, published, publication))
        return self.totals.messages

    def close(self, unacknowledged: Collection[int]) -> None:
        """End the record, naming the messages whose fate is open."""
        told = {"end": self.totals.messages, "unacknowledged": sorted(unacknowledged)}
        self._file.write(json.dumps(told) + "\n")
        self._file.close()


def write_totals(directory: Path, totals: dict[str, Totals], *, ended: bool = False) -> None:
    """Replace the totals file at once, so that a reader never sees half of it."""
    told = {"at": time.time(), "ended": ended, "cities": {city: asdict(each) for city, each in totals.items()}}
    new = directory / f".{TOTALS}.new"
    new.write_text(json.dumps(told), encoding="utf-8")
    os.replace(new, directory / TOTALS)  # noqa: PTH105  (the atomic one)


def read_totals(directory: Path) -> dict[str, Any] | None:
    """The totals file, None before the first was written."""
    try:
        told: dict[str, Any] = json.loads((directory / TOTALS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return told


def read_record(path: Path) -> tuple[Iterator[Recorded], set[int]]:
    """A city's messages, and the sequence numbers never acknowledged (all, if the record has no end)."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 20)))
        last = file.read().splitlines()[-1:]
    told = json.loads(last[0]) if last else {}

    def messages() -> Iterator[Recorded]:
        with path.open(encoding="utf-8") as lines:
            for each in lines:
                if not each.startswith('{"end"'):
                    yield read(each)

    if "end" in told:
        return messages(), set(told["unacknowledged"])
    return messages(), {recorded.sequence for recorded in messages()}
