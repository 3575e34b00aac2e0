"""A simulated database: positions, rows, dead letters and ledger, changed only by a whole commit."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from storage.errors import Fenced, Unavailable
from storage.rows import CONFLICTING_VALUE, Batch, Outcome, Position, SourceState, SpanOutcome, TopicPartition

Source = tuple[TopicPartition, str, str]  # partition, dialect, source
Key = tuple[str, str, str, str, int]  # city, device, channel, property, phenomenon time


@dataclass
class SimulatedTables:
    """What survives every process."""

    positions: dict[TopicPartition, Position] = field(default_factory=dict)
    rows: dict[Key, float] = field(default_factory=dict)
    dead: list[tuple[TopicPartition, int, int | None, str]] = field(default_factory=list)
    payloads: dict[tuple[TopicPartition, int], bytes] = field(default_factory=dict)
    ledger: dict[TopicPartition, Counter[str]] = field(default_factory=dict)
    state: dict[Source, dict[str, tuple[int, str]]] = field(default_factory=dict)  # part: format, JSON

    def state_of(self, partition: TopicPartition) -> tuple[SourceState, ...]:
        return tuple(
            SourceState(
                dialect,
                source,
                max(form for form, _ in parts.values()),
                "{" + ",".join(f'"{part}":{text}' for part, (_, text) in parts.items()) + "}",
            )
            for (where, dialect, source), parts in self.state.items()
            if where == partition
        )

    def unaccounted(self) -> int:
        wrong = 0
        for partition, position in self.positions.items():
            n = self.ledger[partition]
            wrong += abs(position.next_offset - position.first_offset - n["messages"] - n["skipped"])
            wrong += abs(n["messages"] - n["decoded"] - n["dead_messages"] - n["ignored_messages"])
            wrong += abs(n["readings"] - n["stored"] - n["duplicate"] - n["dead_readings"] - n["ignored_readings"])
        return wrong


class SimulatedStore:
    """One writer's connection to the tables. Implements processors.pipeline.Store.

    `fault` is called with the name of each step and may raise; a raise after `committed` is a commit of unknown fate.
    """

    def __init__(self, tables: SimulatedTables, *, fault: Callable[[str], None] = lambda step: None) -> None:
        self.tables = tables
        self.fault = fault
        self.away = False
        self.forgotten = 0

    def _reach(self, step: str) -> None:
        self.fault(step)
        if self.away:
            raise Unavailable("simulated outage")

    async def positions(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Position]:
        await asyncio.sleep(0)
        self._reach("positions")
        return {
            p: self.tables.positions[p]._replace(state=self.tables.state_of(p))
            for p in partitions
            if p in self.tables.positions
        }

    async def commit(self, batch: Batch) -> Outcome:
        self._reach("begin")
        await asyncio.sleep(0)
        fenced = [
            span.partition
            for span in batch.spans
            if (None if span.new else span.first_offset)
            != getattr(self.tables.positions.get(span.partition), "next_offset", None)
        ]
        if fenced:
            raise Fenced(fenced)
        self._reach("copied")
        outcome = self._apply(batch)
        await asyncio.sleep(0)
        self._reach("committed")
        return outcome

    def _apply(self, batch: Batch) -> Outcome:
        outcomes = [SpanOutcome() for _ in batch.spans]
        c = batch.columns
        for row in range(len(c)):
            stream = batch.streams.streams[c.stream[row]]
            key = (*stream[:4], int(c.time[row]))
            value = float(c.value[row])
            what = outcomes[c.span[row]]
            if key not in self.tables.rows:
                self.tables.rows[key] = value
                what.stored += 1
            elif self.tables.rows[key] == value or (math.isnan(self.tables.rows[key]) and math.isnan(value)):
                what.duplicate += 1
            else:
                what.dead[CONFLICTING_VALUE] = what.dead.get(CONFLICTING_VALUE, 0) + 1
                self._letter(batch, int(c.span[row]), int(c.offset[row]), int(c.reading[row]), CONFLICTING_VALUE)
        for letter in batch.dead:
            self._letter(batch, letter.span, letter.offset, letter.reading, letter.reason)
        for change in batch.state:
            source = (batch.spans[change.span].partition, change.dialect, change.source)
            parts = self.tables.state.setdefault(source, {})
            if change.state is None:
                parts.pop(change.part, None)
            else:
                parts[change.part] = (change.format, change.state)
            if not parts:
                del self.tables.state[source]
        for span, what in zip(batch.spans, outcomes, strict=True):
            old = self.tables.positions.get(span.partition)
            first = span.first_offset if old is None else old.first_offset
            self.tables.positions[span.partition] = Position(
                first, span.next_offset, span.last_timestamp, span.last_hash
            )
            self.tables.ledger.setdefault(span.partition, Counter()).update(
                messages=span.messages,
                decoded=span.decoded,
                dead_messages=span.dead_messages,
                ignored_messages=span.ignored_messages,
                readings=span.readings,
                stored=what.stored,
                duplicate=what.duplicate,
                dead_readings=span.dead_readings + sum(what.dead.values()),
                ignored_readings=span.ignored_readings,
                skipped=span.skipped,
            )
        return Outcome(outcomes, {})

    def _letter(self, batch: Batch, span: int, offset: int, reading: int | None, reason: str) -> None:
        partition = batch.spans[span].partition
        self.tables.dead.append((partition, offset, reading, reason))
        self.tables.payloads[partition, offset] = batch.spans[span].messages_at(offset).payload

    async def unaccounted(self) -> dict[str, int]:
        self._reach("unaccounted")
        return {}

    async def open_bytes(self, cities: Collection[str]) -> dict[str, int]:
        self._reach("open_bytes")
        return dict.fromkeys(cities, 0)

    def forget(self) -> None:
        self.forgotten += 1
