"""The order of effects: read, decode, commit, and what happens when one of them fails. No Kafka and no SQL in here.

One batch commits while the next is decoded. Everything in memory is a guess about what the database holds; any failure,
any rebalance and any lost Kafka connection makes it worthless: the commit under way is awaited, everything decoded is
dropped, positions are read again from the database and the log is sought there. Compare-and-set in the database fences
whatever slips through, so the worst a mistake of memory can cost is work done twice.

Trouble outside (`Unavailable`) is retried for ever with capped, jittered backoff. A partition that keeps failing is
committed alone, and rests, while the others go on. `LogError` and `Refused` end the process: a person must decide.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

import structlog

from ingest.city import City
from ingest.wire import city_of
from processors.assembling import split
from processors.batching import Intake
from processors.cursor import Bounds, Cursor, LogError, Record, Seek
from service.backoff import backoff
from storage.errors import Fenced, Unavailable
from storage.rows import Batch, Outcome, Position, TopicPartition

log = structlog.get_logger()

SLICE_RECORDS = 200  # decoded between two turns of the event loop: a few milliseconds
SLICE_BYTES = 262_144
POLL_SECONDS = 0.2
HOUSEKEEPING_SECONDS = 5.0
FAILURES_UNTIL_ALONE = 2


class OutOfRangeError(Exception):
    """The log no longer has, or never had, the offset that was sought."""


class LogAwayError(Exception):
    """Kafka can't be reached, or refuses for now."""


class Log(Protocol):
    """What the pipeline asks of Kafka.

    `assignment_epoch` changes with every (re)assignment, `connection_epoch` with every lost connection; after either,
    nothing read before may be trusted.
    """

    @property
    def assignment_epoch(self) -> int: ...  # noqa: D102
    @property
    def connection_epoch(self) -> int: ...  # noqa: D102
    def assigned(self) -> Collection[TopicPartition]:
        """Partitions this process owns now."""

    async def poll(self, seconds: float, max_records: int) -> Mapping[TopicPartition, Sequence[Record]]:
        """Records since the last seek, in order; none after `seconds`. Raises OutOfRangeError, LogAwayError."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from there; does nothing for a partition no longer owned."""

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Stop delivering, until `resume` or a rebalance."""

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver again."""

    async def bounds(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Bounds]:
        """First and next offset of each. Raises LogAwayError."""

    async def report(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Leave the offsets where lag tools look; best effort, never relied on."""


class Store(Protocol):
    """What the pipeline asks of the database. Every method raises Unavailable when it is away, Refused for good."""

    async def positions(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Position]:
        """Where each partition stands, and the state of dialects there; a partition without a row is absent."""

    async def commit(self, batch: Batch) -> Outcome:
        """Write everything or nothing. Raises Fenced where another writer was there first."""

    async def unaccounted(self) -> dict[str, int]:
        """What the ledger can't account for, by city."""

    async def open_bytes(self, cities: Collection[str]) -> dict[str, int]:
        """Bytes of open dead letters, by city."""

    def forget(self) -> None:
        """Drop every remembered id."""


class Observer(Protocol):
    """Where counts and states go; the metrics in production."""

    def committed(self, batch: Batch, outcome: Outcome, ignored: Mapping[tuple[str, str], int]) -> None:
        """Count a committed batch; its latency counts from the receive times to now."""

    def failed(self, error: Exception) -> None:
        """Count a rolled-back batch, or an unreachable server."""

    def database(self, *, reachable: bool) -> None:
        """Note whether the last call reached the database."""

    def positioned(self, offsets: Mapping[TopicPartition, tuple[int, int | None]]) -> None:
        """Note which partitions are read, from which offset, and when (ms) the record before it was received."""

    def unaccounted(self, by_city: Mapping[str, int]) -> None:
        """Note what the ledger says."""

    def paused(self, cities: Collection[str]) -> None:
        """Note which cities rest because of their dead letters."""

    def halted(self, partitions: Mapping[TopicPartition, str]) -> None:
        """Note which partitions stand still until this code is upgraded, and why."""


class Bound(Protocol):
    """How large a batch may get before it waits for the one that commits."""

    @property
    def batch_messages(self) -> int: ...  # noqa: D102
    @property
    def batch_readings(self) -> int: ...  # noqa: D102
    @property
    def batch_bytes(self) -> int: ...  # noqa: D102


class Pipeline:
    """One processor's loop. `run` returns after `stop`, and raises what a person must decide."""

    def __init__(
        self,
        source: Log,
        store: Store,
        cities: Sequence[City],
        *,
        intake: Intake,
        observer: Observer,
        bound: Bound,
        accept_loss: bool = False,
    ) -> None:
        self._log = source
        self._store = store
        self._budgets = {city.key: city.limits.dead_letter_bytes for city in cities}
        self._intake = intake
        self._observer = observer
        self._bound = bound
        self._accept_loss = accept_loss
        self._cursors: dict[TopicPartition, Cursor] = {}
        self._pending: deque[tuple[TopicPartition, Sequence[Record]]] = deque()
        self._epochs: tuple[int, int] | None = None
        self._poll: asyncio.Task[Mapping[TopicPartition, Sequence[Record]]] | None = None
        self._poll_outdated = False  # it began before positions were read again
        self._commit: asyncio.Task[Exception | None] | None = None
        self._failures = 0
        self._shrink = 1  # batches are this many times smaller after a timeout in the database
        self._alone = False
        self._faults: dict[TopicPartition, int] = {}  # failures in a row of partitions that were committed alone
        self._resting: dict[TopicPartition, float] = {}  # those of them that are left alone, and until when
        self._halted: dict[TopicPartition, str] = {}  # partitions with a state that only newer code reads, and why
        self._distrusted = False  # the database did not keep all of what dialects remember in memory
        self._full: set[str] = set()  # cities beyond their dead-letter budget
        self._reported: dict[TopicPartition, int] = {}
        self._housekept = 0.0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the commit under way."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`."""
        try:
            while not self._stopping.is_set():
                await self._turn()
        except LogError:
            # What was read before the fault is good; keep it, so that a restart stands exactly at the fault.
            await self._settle()
            if self._intake.messages:
                self._start_commit()
                await self._settle()
            raise
        finally:
            if self._poll is not None:
                self._poll.cancel()
                await asyncio.gather(self._poll, return_exceptions=True)
        await self._settle()

    async def _turn(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            if self._stale(now):
                await self._position(now)
            if now - self._housekept > HOUSEKEEPING_SECONDS and self._commit is None:
                self._housekept = now
                await self._housekeeping()
            await self._work()
        except OutOfRangeError:
            self._drop()
        except (Unavailable, Fenced, LogAwayError) as error:
            self._note_failure(error)
            await self._rest()

    def _stale(self, now: float) -> bool:
        if self._epochs != (self._log.assignment_epoch, self._log.connection_epoch):
            return True
        return any(until <= now for until in self._resting.values())

    def _drop(self) -> None:
        """Forget everything in memory; the next turn reads positions again."""
        self._epochs = None
        self._poll_outdated = self._poll is not None
        self._cursors.clear()
        self._pending.clear()
        self._intake.drop()

    async def _position(self, now: float) -> None:
        """Read where every owned partition stands, and seek there."""
        await self._settle()
        self._drop()
        if len(self._intake.slots) > self._intake.slots.limit:
            self._intake.forget()
            self._store.forget()
        epochs = (self._log.assignment_epoch, self._log.connection_epoch)
        owned = set(self._log.assigned())
        self._resting = {p: until for p, until in self._resting.items() if p in owned and until > now}
        self._faults = {p: failures for p, failures in self._faults.items() if p in owned}
        wanted = sorted(owned - set(self._resting))
        # The log's end after the database's offsets: what another process commits meanwhile must not seem ahead of it.
        positions = await self._store.positions(wanted) if wanted else {}
        bounds = await self._log.bounds(wanted) if wanted else {}
        self._observer.database(reachable=True)
        if epochs != (self._log.assignment_epoch, self._log.connection_epoch):
            return  # rebalanced meanwhile: what was read belongs to another assignment
        self._halted.clear()
        for partition in wanted:
            position = positions.get(partition)
            fault = None if position is None else self._intake.remember(partition, position.state)
            if fault is not None:
                self._halted[partition] = fault
                continue
            cursor = Cursor(partition, position, bounds[partition], accept_loss=self._accept_loss)
            self._cursors[partition] = cursor
            self._log.seek(partition, cursor.wanted)
        self._log.resume(wanted)
        self._log.pause([p for p in owned if p not in self._cursors or city_of(p.topic) in self._full])
        self._observer.halted(self._halted)
        self._epochs = epochs
        if epochs[0]:
            at = {
                p: (c.next_offset, positions[p].last_timestamp if p in positions else None)
                for p, c in self._cursors.items()
            }
            self._observer.positioned(at)

    async def _work(self) -> None:
        """One step: take records in, or see a commit end; start the next commit when none is under way."""
        if self._pending and not self._filled():
            await self._take_in()
        elif self._poll is None and not self._pending and not self._filled():
            self._poll = asyncio.create_task(self._log.poll(POLL_SECONDS, self._bound.batch_messages))
        waiting = {task for task in (self._poll, self._commit) if task is not None}
        if waiting and not (self._pending and not self._filled()):
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self._poll is not None and self._poll.done():
            self._receive()
            await self._take_in()
        if self._commit is not None and self._commit.done():
            await self._settle()
        if self._commit is None and self._intake.messages and self._epochs is not None:
            self._start_commit()

    def _receive(self) -> None:
        """Queue what a poll brought, unless the world changed while it ran."""
        assert self._poll is not None
        poll, self._poll = self._poll, None
        records = poll.result()
        outdated, self._poll_outdated = self._poll_outdated, False
        if outdated:
            # It may have waited through the seek and brought what was sought: the log would not bring that again.
            for partition in records:
                if partition in self._cursors:
                    self._log.seek(partition, self._cursors[partition].wanted)
        elif self._epochs == (self._log.assignment_epoch, self._log.connection_epoch):
            self._pending.extend(records.items())

    def _filled(self) -> bool:
        return (
            self._intake.messages * self._shrink >= self._bound.batch_messages
            or self._intake.readings * self._shrink >= self._bound.batch_readings
            or self._intake.bytes * self._shrink >= self._bound.batch_bytes
        )

    async def _take_in(self) -> None:
        """Decode what is pending, in slices, so that the commit under way and Kafka's heartbeat get their turns."""
        while self._pending and not self._filled():
            partition, records = self._pending.popleft()
            cursor = self._cursors.get(partition)
            if cursor is None:
                continue
            taken, seek = cursor.admit(records)
            if seek is Seek.AGAIN:
                self._log.seek(partition, cursor.wanted)
            rest: Sequence[Record] = ()
            for begin, end in slices(taken, max(1, SLICE_RECORDS // self._shrink)):
                self._intake.add(cursor, taken[begin:end])
                await asyncio.sleep(0)
                if self._filled():
                    rest = taken[end:]
                    break
            if rest:
                cursor.give_back(rest[0].offset)
                self._pending.appendleft((partition, rest))

    def _start_commit(self) -> None:
        ignored = self._intake.ignored
        batch = self._intake.take()
        self._commit = asyncio.create_task(self._write(batch, ignored))

    async def _write(self, batch: Batch, ignored: Mapping[tuple[str, str], int]) -> Exception | None:
        """Commit; return why a partition failed alone, which then rests while the others go on."""
        if not self._alone:
            self._written(batch, await self._store.commit(batch), ignored)
            return None
        failure: Exception | None = None
        parts = split(batch) if len(batch.spans) > 1 else [batch]
        for part in parts:
            partition = part.spans[0].partition
            try:
                self._written(part, await self._store.commit(part), ignored if len(parts) == 1 else {})
                self._faults.pop(partition, None)
            except (Unavailable, Fenced) as error:
                failure = error
                failures = self._faults[partition] = self._faults.get(partition, -1) + 1
                self._resting[partition] = asyncio.get_running_loop().time() + backoff(failures)
                log.warning("partition rests", topic=partition.topic, partition=partition.partition, why=str(error))
        return failure

    def _written(self, batch: Batch, outcome: Outcome, ignored: Mapping[tuple[str, str], int]) -> None:
        for span in batch.spans:
            self._reported[span.partition] = span.next_offset
        self._pause_cities(self._full | self._over(outcome.open_bytes))
        self._distrusted = self._distrusted or outcome.state_refused > 0
        self._observer.committed(batch, outcome, ignored)

    async def _settle(self) -> None:
        """Wait for the commit under way, and face its result."""
        if self._commit is None:
            return
        task, self._commit = self._commit, None
        try:
            failure = await task
        except (Unavailable, Fenced) as error:
            self._note_failure(error)
            await self._rest()
        else:
            self._failures = 0
            if failure is None:
                self._shrink = max(1, self._shrink // 2)
                self._alone = self._alone and bool(self._faults)
                if self._distrusted:
                    self._distrusted = False
                    self._drop()
            else:
                self._lost(failure)

    def _lost(self, error: Exception) -> None:
        """A transaction failed: what is in memory is worth nothing."""
        self._drop()
        self._observer.failed(error)
        if isinstance(error, Unavailable):
            if error.halve:
                self._shrink = min(self._shrink * 2, 1024)
            self._observer.database(reachable=False)

    def _note_failure(self, error: Unavailable | Fenced | LogAwayError) -> None:
        self._failures += 1
        self._lost(error)
        if self._failures >= FAILURES_UNTIL_ALONE:
            self._alone = True
        log.warning("rolled back, reading positions again", why=str(error), failures=self._failures)

    async def _rest(self) -> None:
        """Back off, but hear `stop`."""
        try:
            await asyncio.wait_for(self._stopping.wait(), backoff(self._failures - 1))
        except TimeoutError:
            return

    async def _housekeeping(self) -> None:
        self._observer.unaccounted(await self._store.unaccounted())
        if self._reported:
            reported, self._reported = self._reported, {}
            await self._log.report(reported)
        self._pause_cities(self._over(await self._store.open_bytes(self._budgets)))

    def _over(self, sizes: Mapping[str, int]) -> set[str]:
        """Cities whose open dead letters weigh more than their budget."""
        return {city for city, size in sizes.items() if size > self._budgets[city]}

    def _pause_cities(self, full: set[str]) -> None:
        """Pause these cities and no other; whoever restarts a process is told too."""
        more, free = full - self._full, self._full - full
        self._full = full
        if more:
            log.error(
                "dead letters beyond the city's budget: paused until purged, replayed or raised", cities=sorted(more)
            )
            self._log.pause([p for p in self._cursors if city_of(p.topic) in more])
        if free:
            log.info("dead letters within the city's budget again: reading on", cities=sorted(free))
            self._log.resume([p for p in self._cursors if city_of(p.topic) in free])
        if more or free:
            self._observer.paused(full)


def slices(records: Sequence[Record], most: int = SLICE_RECORDS) -> Iterator[tuple[int, int]]:
    """Cut records into runs that decode in a few milliseconds, of at most `most`; every run has at least one."""
    begin = size = 0
    for end, record in enumerate(records, 1):
        size += len(record.value or b"")
        if end - begin >= most or size >= SLICE_BYTES:
            yield begin, end
            begin, size = end, 0
    if begin < len(records):
        yield begin, len(records)


async def patiently(act: Callable[[], Awaitable[None]]) -> None:
    """Retry until the server is there, saying each time what is missing and where."""
    failures = 0
    while True:
        try:
            return await act()
        except (Unavailable, LogAwayError) as error:
            log.error(str(error), retrying=True)  # noqa: TRY400  (one line for a person, no traceback)
            await asyncio.sleep(backoff(failures))
            failures += 1
