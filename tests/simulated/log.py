"""A simulated Kafka topic log with rebalances, lost connections, truncation and holes."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ingest import wire
from processors.cursor import Bounds
from processors.pipeline import LogAwayError, OutOfRangeError
from storage.rows import TopicPartition


class SimulatedRecord(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass
class SimulatedTopics:
    """What survives every process: the records, by partition."""

    records: dict[TopicPartition, list[SimulatedRecord]] = field(default_factory=dict)
    starts: dict[TopicPartition, int] = field(default_factory=dict)
    away: bool = False

    def append(
        self,
        partition: TopicPartition,
        topic: str,
        payload: bytes,
        *,
        received_ms: int,
        retain: bool = False,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> int:
        log = self.records.setdefault(partition, [])
        offset = self.end(partition)
        made = wire.headers("gateway", qos=1, retain=retain, dup=False) if headers is None else headers
        log.append(SimulatedRecord(offset, received_ms, topic.encode(), payload, tuple(made)))
        return offset

    def start(self, partition: TopicPartition) -> int:
        return self.starts.get(partition, 0)

    def end(self, partition: TopicPartition) -> int:
        log = self.records.get(partition)
        return log[-1].offset + 1 if log else self.start(partition)

    def delete_before(self, partition: TopicPartition, offset: int) -> None:
        self.starts[partition] = offset
        self.records[partition] = [r for r in self.records.get(partition, []) if r.offset >= offset]


class SimulatedLog:
    """One consumer's view of the topics. Implements processors.pipeline.Log."""

    def __init__(self, topics: SimulatedTopics, partitions: Collection[TopicPartition], *, poll_records: int = 1000):
        self.topics = topics
        self.assignment_epoch = 1
        self.connection_epoch = 0
        self.reported: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self._owned = set(partitions)
        # Before a seek a consumer reads from the group's own offset, not the database's.
        self._positions: dict[TopicPartition, int] = dict.fromkeys(partitions, 0)
        self._poll_records = poll_records

    def rebalance(self, partitions: Collection[TopicPartition]) -> None:
        self.assignment_epoch += 1
        self._owned = set(partitions)
        self._positions = {p: self.reported.get(p, self.topics.start(p)) for p in partitions}
        self.paused.clear()

    def lose_connection(self) -> None:
        self.connection_epoch += 1

    def assigned(self) -> Collection[TopicPartition]:
        return set(self._owned)

    async def poll(self, seconds: float, max_records: int) -> Mapping[TopicPartition, Sequence[SimulatedRecord]]:
        await asyncio.sleep(0)
        found = self._found(max_records)
        while not found and seconds > 0:  # what is appended or sought meanwhile is brought, as by the real one
            await asyncio.sleep(0.05)
            seconds -= 0.05
            found = self._found(max_records)
        return found

    def _found(self, max_records: int) -> Mapping[TopicPartition, Sequence[SimulatedRecord]]:
        found: dict[TopicPartition, Sequence[SimulatedRecord]] = {}
        if not self.topics.away:
            for partition in sorted(self._owned - self.paused):
                position = self._positions[partition]
                if not self.topics.start(partition) <= position <= self.topics.end(partition):
                    raise OutOfRangeError(str(partition))
                log = self.topics.records.get(partition, [])
                records = [r for r in log if r.offset >= position][: min(max_records, self._poll_records)]
                if records:
                    self._positions[partition] = records[-1].offset + 1
                    found[partition] = records
        return found

    def seek(self, partition: TopicPartition, offset: int) -> None:
        if partition in self._owned:
            self._positions[partition] = offset

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self.paused -= set(partitions)

    async def bounds(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Bounds]:
        await asyncio.sleep(0)
        if self.topics.away:
            raise LogAwayError("simulated")
        return {p: Bounds(self.topics.start(p), self.topics.end(p)) for p in partitions}

    async def report(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.reported.update({p: o for p, o in offsets.items() if p in self._owned})
