"""Deliveries into Kafka: one lane a partition, one batch of it under way, the next one filling meanwhile.

A lane keeps its records until Kafka has them, so a producer that failed or stood still is replaced and the same records
are sent again, in order: nothing has to come from MQTT a second time. Knows Kafka by the small protocol below and MQTT
not at all. Rules 8 and 10 of the path are here.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple, Protocol

import structlog

from ingest import wire
from ingest.metrics import CityMetrics
from ingest.routing import Headers
from service.backoff import backoff

RECORD_OVERHEAD = 256  # bytes a record in flight costs beside its payload: key, tuple, numbers
BATCH_RECORDS = 8_192
REFUSALS = 3  # of one record alone, before a stub takes its place
CLOSE_SECONDS = 3.0

Record = tuple[bytes, bytes, int, Headers]  # key, value, ms since the epoch, headers
log = structlog.get_logger()


class KafkaTroubleError(Exception):
    """Kafka does not take writes now, whatever they are; one line that says why."""


class RecordsRefusedError(Exception):
    """Kafka does not take this batch for what is in it."""


class Batch(NamedTuple):
    """Records ready to send: how many, and what the producer made of them."""

    taken: int
    built: Any


class Producer(Protocol):
    """What a lane needs of Kafka. `batch` takes at least one record; any error of `send` ends the producer's life."""

    def batch(self, records: Iterable[Record]) -> Batch: ...  # noqa: D102
    async def send(self, partition: int, batch: Batch) -> None: ...  # noqa: D102
    async def close(self, limit: float) -> None: ...  # noqa: D102


class Lane:
    """One partition's records that Kafka does not have yet, oldest first, and what is suspected of them.

    Bisection: after Kafka refused a batch of n records one of the first n is at fault. Half of the suspects are sent;
    what passes is cleared, what is refused is the new, smaller suspicion, until one record stands alone.
    """

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.records: list[Record] = []
        self.numbers: list[int] = []  # sequence numbers of the ack tracker
        self.sending = 0  # so many of the first are under way
        self.suspects = 0
        self.refusals = 0  # of the one suspect that is left
        self.trouble: str | None = None  # why Kafka takes nothing now
        self.failures = 0  # for that reason, in a row
        self.filled = asyncio.Event()

    def next_size(self) -> int:
        """How many records to send at most."""
        return max(1, self.suspects // 2) if self.suspects else BATCH_RECORDS

    def refused(self, count: int) -> bool:
        """Kafka refused the first `count` records; True if it is one record, and refused often enough."""
        self.suspects = count
        self.refusals = self.refusals + 1 if count == 1 else 0
        return self.refusals >= REFUSALS

    def passed(self, count: int) -> tuple[list[int], int]:
        """Kafka has the first `count` records: forget them; return their numbers and size."""
        self.suspects = max(0, self.suspects - count)
        self.refusals = 0
        self.failures = 0
        self.trouble = None
        self.sending = 0
        size = size_of(self.records[:count])
        numbers = self.numbers[:count]
        del self.records[:count], self.numbers[:count]
        return numbers, size

    def forget(self, comes_again: Callable[[int], bool]) -> tuple[int, int]:
        """Give up records not under way that the broker sends again; return how many and their size."""
        head = max(self.sending, self.suspects)
        waiting = list(zip(self.records[head:], self.numbers[head:], strict=True))
        kept = [(record, number) for record, number in waiting if not comes_again(number)]
        given_up = size_of(record for record, _ in waiting) - size_of(record for record, _ in kept)
        self.records[head:] = [record for record, _ in kept]
        self.numbers[head:] = [number for _, number in kept]
        return len(waiting) - len(kept), given_up


def size_of(records: Iterable[Record]) -> int:
    """Bytes that records count against the bound."""
    return sum(len(record[1]) + RECORD_OVERHEAD for record in records)


def stub(record: Record, why: str, timestamp: int) -> Record:
    """What stands for a record that Kafka never takes."""
    key, payload, _, headers = record
    value, refused = wire.refusal(payload, why)
    return key, value, timestamp, [*headers, refused]


class Forwarder:
    """All lanes of a city and the producer they share.

    `made()` makes a producer, however long that takes. `kept(numbers, size)` is called when Kafka has messages,
    `resized(bytes)` when a stub took a record's place.
    """

    def __init__(
        self,
        partitions: int,
        made: Callable[[], Awaitable[Producer]],
        kept: Callable[[list[int], int], None],
        resized: Callable[[int], None],
        metrics: CityMetrics,
    ) -> None:
        self.lanes = [Lane(partition) for partition in range(partitions)]
        self.last_success = time.monotonic()
        self._made = made
        self._kept = kept
        self._resized = resized
        self._metrics = metrics
        self._producer: Producer | None = None
        self._replacing = asyncio.Lock()
        self._idle = asyncio.Event()

    @property
    def trouble(self) -> str | None:
        """Why Kafka takes nothing now, of any lane."""
        return next((lane.trouble for lane in self.lanes if lane.trouble is not None), None)

    @property
    def busy(self) -> bool:
        """Whether anything waits or is under way."""
        return any(lane.records for lane in self.lanes)

    async def run(self) -> None:
        """Send, until cancelled."""
        self._producer = await self._made()
        async with asyncio.TaskGroup() as group:
            for lane in self.lanes:
                group.create_task(self._run(lane))

    async def drain(self, limit: float) -> bool:
        """Wait until Kafka has everything, `limit` seconds at most; whether it has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while self.busy:
                    self._idle.clear()
                    await self._idle.wait()
        return not self.busy

    async def close(self, limit: float) -> None:
        """Close the producer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close(limit)

    async def replace(self, why: str) -> None:
        """Replace a producer that stands still."""
        if self._producer is not None:
            await self._replace(self._producer, why)

    def forget(self, comes_again: Callable[[int], bool]) -> tuple[int, int]:
        """Give up what waits here and the broker sends again; return how many messages and bytes."""
        given_up = [lane.forget(comes_again) for lane in self.lanes]
        return sum(count for count, _ in given_up), sum(size for _, size in given_up)

    async def _run(self, lane: Lane) -> None:
        while True:
            if not lane.records:
                lane.filled.clear()
                self._idle.set()
                await lane.filled.wait()
            producer = self._producer
            if producer is None:
                async with self._replacing:  # wait for the new one
                    continue
            await self._send(lane, producer)

    async def _send(self, lane: Lane, producer: Producer) -> None:
        batch = producer.batch(islice(lane.records, lane.next_size()))
        lane.sending = batch.taken
        began = time.monotonic()
        try:
            await producer.send(lane.partition, batch)
        except (RecordsRefusedError, KafkaTroubleError) as error:
            lane.sending = 0
            if producer is not self._producer:
                return  # its end is known; the same records go to the next one
            if isinstance(error, RecordsRefusedError):
                self._refused(lane, batch.taken, str(error))
            else:
                lane.trouble = str(error)
            await self._replace(producer, str(error))
            if lane.trouble is not None:
                lane.failures += 1
                await asyncio.sleep(backoff(lane.failures))
        else:
            self._passed(lane, batch.taken, began)

    def _passed(self, lane: Lane, count: int, began: float) -> None:
        self.last_success = time.monotonic()
        self._metrics.produce.observe(self.last_success - began)
        self._metrics.forwarded.inc(count)
        self._kept(*lane.passed(count))

    def _refused(self, lane: Lane, count: int, why: str) -> None:
        """Narrow the suspicion; a stub takes the place of one record refused often enough.

        The stub is stamped now, for its time may be what is refused. If Kafka refuses the stub too, the trouble is not
        the record's, and the lane waits.
        """
        log.warning("Kafka refuses records", partition=lane.partition, records=count, why=why)
        if not lane.refused(count):
            return
        record = lane.records[0]
        if any(name == "refused" for name, _ in record[3]):
            lane.trouble = f"Kafka refuses even a stub: {why}"
            return
        lane.records[0] = stub(record, f"Kafka refuses it: {why}", time.time_ns() // 1_000_000)
        lane.refusals = 0
        self._metrics.refused["kafka"].inc()
        self._resized(size_of(lane.records[:1]) - size_of([record]))

    async def _replace(self, producer: Producer, why: str) -> None:
        """Put a new producer in the place of this one, once, however many lanes ask."""
        async with self._replacing:
            if producer is not self._producer:
                return
            log.warning("Kafka producer is replaced", why=why)
            self._producer = None
            await producer.close(CLOSE_SECONDS)
            self._producer = await self._made()
            self.last_success = time.monotonic()
            self._metrics.rebuilds.inc()
