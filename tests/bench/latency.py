"""Latency of every message of a schedule: from when it was due at the sensor to when SQL showed it.

Two records are joined. While the schedule runs, `Watch` looks at the committed offsets every few milliseconds (offsets
commit with the rows, so an offset passed is a row visible). Afterwards Kafka is read again: each record's payload says
when it was due and the record says its offset. A message counts as visible at the first look that *ended* after its
commit, so the figures err on the slow side by up to one interval.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench.database import Database
from tests.bench.figures import visible_at
from tests.bench.packets import TIME_BYTES

LOOK_EVERY_S = 0.003
MARK = b'"time":"'

Partition = tuple[str, int]


def due_us(payload: bytes) -> np.datetime64:
    """The first time in a message: when it was due."""
    at = payload.index(MARK) + len(MARK)
    return np.datetime64(payload[at : at + TIME_BYTES - 1].decode(), "us")


class Due(NamedTuple):
    """Offsets of a partition and when their messages were due (seconds since the epoch)."""

    offsets: npt.NDArray[np.int64]
    due: npt.NDArray[np.float64]


class Watch:
    """Committed offsets over time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: list[tuple[float, dict[Partition, int]]] = []
        self.begin = database.positions()

    def look(self) -> dict[Partition, int]:
        """One look; then a pause, so that the looks stay a small load."""
        positions = self._database.positions()
        self._seen.append((time.time(), positions))
        time.sleep(LOOK_EVERY_S)
        return positions

    def latencies_ms(self, due: Mapping[Partition, Due], since: float) -> npt.NDArray[np.float64]:
        """Sorted latencies of the messages that were due at `since` or later."""
        times = np.array([at for at, _ in self._seen])
        found = []
        for partition, (offsets, when) in due.items():
            positions = np.array([seen.get(partition, 0) for _, seen in self._seen], dtype=np.int64)
            late = (visible_at(offsets, positions, times) - when) * 1e3
            found.append(late[when >= since])
        return np.sort(np.concatenate(found))


async def _read(bootstrap: str, spans: Mapping[Partition, tuple[int, int]]) -> dict[Partition, Due]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="none")
    await consumer.start()
    try:
        wanted = {TopicPartition(*partition): span for partition, span in spans.items() if span[1] > span[0]}
        consumer.assign(list(wanted))
        for partition, (first, _) in wanted.items():
            consumer.seek(partition, first)
        offsets: dict[Partition, list[int]] = {tuple(partition): [] for partition in wanted}
        times: dict[Partition, list[np.datetime64]] = {tuple(partition): [] for partition in wanted}
        while wanted:
            for partition, records in (await consumer.getmany(timeout_ms=1_000)).items():
                key, last = tuple(partition), spans[tuple(partition)][1]
                inside = [record for record in records if record.offset < last]
                offsets[key] += [record.offset for record in inside]
                times[key] += [due_us(record.value) for record in inside]
                if records[-1].offset >= last - 1:
                    wanted.pop(partition, None)
                    consumer.pause(partition)
    finally:
        await consumer.stop()
    return {
        key: Due(np.array(offsets[key]), np.array(times[key], "datetime64[us]").astype(np.int64) / 1e6)
        for key in offsets
    }


def due_from_kafka(
    bootstrap: str, begin: Mapping[Partition, int], end: Mapping[Partition, int]
) -> dict[Partition, Due]:
    """Read the records between two sets of positions."""
    return asyncio.run(_read(bootstrap, {key: (begin.get(key, 0), stop) for key, stop in end.items()}))


async def _count(bootstrap: str, topics: Iterable[str]) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
    await consumer.start()
    try:
        total = 0
        for topic in topics:
            await consumer._client.add_topic(topic)  # a consumer without assignment knows no partition
            await consumer._client.force_metadata_update()
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            ends = await consumer.end_offsets(partitions)
            total += sum(ends.values()) - sum((await consumer.beginning_offsets(partitions)).values())
        return total
    finally:
        await consumer.stop()


def records_in_kafka(bootstrap: str, topics: Iterable[str]) -> int:
    """Records in all partitions of the topics, by Kafka's own offsets."""
    return asyncio.run(_count(bootstrap, topics))
