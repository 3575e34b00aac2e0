"""A file into the database: read, map and commit, the next batch in a thread while this one commits.

The database holds how far the file is in (its ledger key is the file's hash), so an import that was interrupted, or is
started twice, goes on where it stands. Trouble outside is retried; what the file says wrongly never is.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog

from processors.history.chunk import HistoryFile
from processors.history.intake import Intake
from service.backoff import backoff
from storage.errors import Fenced, Unavailable
from storage.rows import LETTER_BYTES, Batch, DeadLetter, Outcome, Position, TopicPartition

BATCH_ROWS = 50_000
SMALLEST_BATCH = 500
SHOWN = 20  # rejected rows a report names; the dead letters have them all
READ_BYTES = 1 << 20

log = structlog.get_logger()


class StoppedError(Exception):
    """The import stopped before the end of its file, at a point from which it can go on; one sentence."""


class Store(Protocol):
    """What an import asks of the database (storage.timescale.Writer)."""

    async def positions(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Position]:
        """Where the file stands; absent before its first batch."""

    async def commit(self, batch: Batch) -> Outcome:
        """Write everything or nothing."""


@dataclass(slots=True)
class Report:
    """What became of the rows that this run took in."""

    before: int = 0  # rows that were in already when it started
    rows: int = 0
    stored: int = 0
    duplicate: int = 0
    blank: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    rejected_bytes: int = 0  # what their dead letters weigh, as far as the file's reader refused them
    shown: list[DeadLetter] = field(default_factory=list)

    def add(self, batch: Batch, outcome: Outcome | None) -> None:
        """Count a batch that is in, or that was only tried."""
        span = batch.spans[0]
        self.rows += span.messages
        self.blank += span.ignored_messages
        self.rejected.update(str(letter.reason) for letter in batch.dead)
        self.rejected_bytes += sum(len(span.messages_at(letter.offset).payload) + LETTER_BYTES for letter in batch.dead)
        self.shown += batch.dead[: SHOWN - len(self.shown)]
        if outcome is None:
            self.stored += len(batch.columns)
            return
        self.stored += outcome.spans[0].stored
        self.duplicate += outcome.spans[0].duplicate
        self.rejected.update(outcome.spans[0].dead)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What stops an import before it fills the dead letters: rows refused in this run, and what these weigh.

    The second is as much as the city's own letters may weigh, but counted apart: a file's never pause the city.
    """

    rejected: int
    dead_letter_bytes: int


def sha256(path: Path, watch: Callable[[int], None] = lambda _: None) -> str:
    """Hash of a file's bytes; `watch` is told how many were read."""
    made, read = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            made.update(block)
            read += len(block)
            watch(read)
    return made.hexdigest()


class Load:
    """One file's import. `watch(report, share of the file)` is called after each commit."""

    def __init__(
        self,
        file: HistoryFile,
        partition: TopicPartition,
        intake: Intake,
        store: Store,
        *,
        bounds: Bounds,
        watch: Callable[[Report, float], None],
        rows: int = BATCH_ROWS,
    ) -> None:
        self._file = file
        self._partition = partition
        self._intake = intake
        self._store = store
        self._bounds = bounds
        self._watch = watch
        self._rows = rows
        self.report = Report()

    async def run(self) -> Report:
        """Import what is not in yet. Raises FileError, StoppedError, Refused."""
        failures, first = 0, True
        while True:
            before = self.report.rows
            try:
                position = (await self._store.positions([self._partition])).get(self._partition)
                if first:
                    self.report.before = 0 if position is None else position.next_offset - position.first_offset
                    first = False
                await self._from(position)
            except (Unavailable, Fenced) as error:
                failures = 0 if self.report.rows > before else failures + 1
                if isinstance(error, Unavailable) and error.halve:
                    self._rows = max(SMALLEST_BATCH, self._rows // 2)
                log.warning("rolled back, the import goes on from what is in", why=str(error), retrying=True)
                await asyncio.sleep(backoff(failures))
            else:
                return self.report

    async def _from(self, position: Position | None) -> None:
        """All that follows a position, the next batch made while one commits."""
        at = self._file.first if position is None else position.next_offset
        batches = self._batches(at, new=position is None)
        ahead = asyncio.create_task(asyncio.to_thread(next, batches, None))
        try:
            while (batch := await ahead) is not None:
                ahead = asyncio.create_task(asyncio.to_thread(next, batches, None))
                outcome = await self._store.commit(batch)
                self.report.add(batch, outcome)
                self._watch(self.report, self._file.place(batch.spans[0].next_offset))
                self._check(batch)
        finally:
            await asyncio.gather(ahead, return_exceptions=True)  # a thread can't be cancelled: it ends its batch
            batches.close()

    def _batches(self, at: int, *, new: bool) -> Generator[Batch, None, None]:
        for chunk in self._file.chunks(at, self._rows):
            yield self._intake.batch(chunk, new=new)
            new = False

    def _check(self, batch: Batch) -> None:
        span, refused = batch.spans[0], self.report.rejected.total()
        at = f"everything up to row {span.next_offset - 1} is in; run the same command again to go on"
        if refused > self._bounds.rejected:
            raise StoppedError(f"{refused:,} rows were refused, --max-rejected is {self._bounds.rejected:,}: {at}")
        weight = self.report.rejected_bytes
        if weight > self._bounds.dead_letter_bytes:
            raise StoppedError(
                f"the rows refused weigh {weight:,} bytes, more than limits.dead_letter_bytes = "
                f"{self._bounds.dead_letter_bytes:,} of {span.city}: correct the file, or raise it; {at}"
            )


def rehearse(file: HistoryFile, intake: Intake, watch: Callable[[Report, float], None]) -> Report:
    """What an import would make of the file, as far as that needs no database."""
    report = Report()
    for chunk in file.chunks(file.first, BATCH_ROWS):
        batch = intake.batch(chunk, new=True)
        report.add(batch, None)
        watch(report, file.place(batch.spans[0].next_offset))
    return report
