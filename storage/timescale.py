"""The writer: one transaction a batch, on one connection. Rows, dead letters, ledger and offsets commit together.

The order: limits, compare-and-set, datastreams, tests over time, rows, state of dialects, dead letters, log of late
hours, ledger, commit; all that needs no answer travels in one round trip. A failed transaction leaves nothing behind,
neither in the database nor in memory. Retrying is the caller's, who also reads the positions again: after a lost
connection nobody knows whether the commit was.
"""

import asyncio
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import structlog

from storage import connection, deadletters, devices, following, offsets, replays, states
from storage.copying import INCOMING, Table
from storage.datastreams import Datastreams, register_cities, register_properties, write_changes
from storage.deadletters import refusals
from storage.errors import Fenced, Refused, Unavailable, outcome
from storage.metrics import COMMIT_SECONDS, PHASE_SECONDS, ROLLBACKS
from storage.rows import (
    Batch,
    CityLimits,
    Columns,
    Describe,
    Facts,
    Outcome,
    Position,
    Property,
    SpanOutcome,
    Stream,
    TopicPartition,
)
from storage.series import LimitsOf, Series
from storage.sheet import DUPLICATE, REASONS, STORED, Verdicts, screen

UNACCOUNTED = "select city, sum(unaccounted)::int8 from hanse.ledger group by city"
LOG_DIRTY = """
insert into store.rollup_dirty (datastream_id, hour)
select datastream_id, 'epoch'::timestamptz + make_interval(hours => hour)
  from unnest(%s::int4[], %s::int4[]) as d (datastream_id, hour)
"""
HOUR = 3_600_000_000
# A source that changes its spelling with every message must not cost an update with every batch.
PROVENANCE_SECONDS = 60.0

log = structlog.get_logger()


class Writer:
    """Writes batches. One call at a time takes effect; others wait for it."""

    def __init__(self, dsn: str, *, application_name: str = "hanse-processor") -> None:
        self._dsn = dsn
        self._name = application_name
        self._conn: psycopg.AsyncConnection[Any] | None = None
        self._busy = asyncio.Lock()
        self._cities: dict[str, CityLimits] = {}
        self._properties: dict[str, Property] = {}
        self._city_ids: dict[str, int] = {}
        self._datastreams: Datastreams | None = None
        self._describe: Describe = lambda _city, _device: Facts()
        self._table = Table()
        self._series = Series()
        self._provenance_due = 0.0
        self._looks_on = False  # registers nothing

    async def connect(self) -> None:
        """Connect, or do nothing if connected. Raises Unavailable or Refused."""
        async with self._busy, self._guard():
            await self._ready()

    async def register(
        self,
        cities: Sequence[CityLimits],
        properties: Sequence[Property],
        describe: Describe = lambda _city, _device: Facts(),
        limits_of: LimitsOf | None = None,
    ) -> None:
        """Make the cities, properties and what is known of devices known to the database and to this writer.

        `limits_of`: how a datastream is tested over time; None: nothing is, as for an import.
        Raises Refused for a property whose unit is another there.
        """
        async with self._busy, self._guard():
            self._cities |= {c.key: c for c in cities}
            self._properties |= {p.key: p for p in properties}
            self._describe = describe
            self._series = Series(limits_of)
            self.forget()
            conn = await self._ready()
            await self._known(conn)
            await devices.place_all(conn, {c.key: self._city_ids[c.key] for c in cities}, describe)

    async def look(self, cities: Sequence[CityLimits], properties: Sequence[Property]) -> None:
        """Learn cities and properties from the database and write nothing: enough for `rehearse`.

        Raises Refused for a property that the database does not have, or in another unit.
        """
        async with self._busy, self._guard():
            self._cities |= {c.key: c for c in cities}
            self._properties |= {p.key: p for p in properties}
            self._looks_on = True
            self.forget()
            await self._known(await self._ready())

    async def positions(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Position]:
        """Position of each partition; one that the database does not know is absent."""
        async with self._busy, self._guard():
            return await offsets.positions(await self._ready(), partitions)

    async def unaccounted(self) -> dict[str, int]:
        """Records and readings that the ledger can't account for, by city: 0, or something was lost."""
        async with self._busy, self._guard():
            cursor = await (await self._ready()).execute(UNACCOUNTED)
            return dict(await cursor.fetchall())

    async def open_bytes(self, cities: Collection[str]) -> dict[str, int]:
        """What each city's open dead letters weigh."""
        async with self._busy, self._guard():
            return await deadletters.open_bytes(await self._ready(), cities)

    async def commit(self, batch: Batch) -> Outcome:
        """Write a batch whole, or nothing of it.

        Raises Fenced where the database stands elsewhere, Unavailable where a retry may pass, Refused where it can't.
        """
        async with self._busy, self._guard():
            conn = await self._ready()
            datastreams = await self._known(conn)
            started = time.perf_counter()
            written = await self._write(conn, batch, datastreams)
            COMMIT_SECONDS.observe(time.perf_counter() - started)
            return written

    async def rehearse(self, batch: Batch) -> Outcome:
        """What a commit would do with the batch's replays; nothing stays. Its spans need not be the next ones."""
        async with self._busy, self._guard():
            conn = await self._ready()
            return await self._write(conn, batch, await self._known(conn), rehearse=True)

    def forget(self) -> None:
        """Drop every id: the next commit looks them up again."""
        self._city_ids = {}
        self._datastreams = None
        self._series.forget()

    async def close(self) -> None:
        """Close the connection; a transaction under way is rolled back."""
        async with self._busy:
            await self._drop()

    def _guard(self) -> "_Guard":
        return _Guard(self)

    async def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()

    async def _ready(self) -> psycopg.AsyncConnection[Any]:
        if self._conn is None or self._conn.closed:
            self.forget()
            self._conn = await connection.connect(self._dsn, self._name)
            await self._conn.execute(INCOMING)
        return self._conn

    async def _known(self, conn: psycopg.AsyncConnection[Any]) -> Datastreams:
        if self._datastreams is None:
            write = not self._looks_on
            cities = await register_cities(conn, list(self._cities.values()), write=write)
            properties = await register_properties(conn, list(self._properties.values()), write=write)
            self._city_ids = {key: city.city_id for key, city in cities.items()}
            self._datastreams = Datastreams(cities, properties, self._describe)
        return self._datastreams

    async def _write(
        self, conn: psycopg.AsyncConnection[Any], batch: Batch, datastreams: Datastreams, *, rehearse: bool = False
    ) -> Outcome:
        with _phase("begin"):
            limits = await offsets.begin(conn, () if rehearse else batch.spans, self._city_ids)
        with _phase("datastreams"):
            resolved = await datastreams.resolve(conn, batch)
        with _phase("rows"):
            found = screen(batch.columns, resolved.ids, resolved.refused, limits.retained_from)
        course = None
        if not rehearse:
            with _phase("series"):
                course = await following.test(conn, self._series, batch, resolved, found, limits.retained_from)
                batch = batch if course is None else course.batch
        with _phase("rows"):
            await self._table.write(conn, batch.columns, resolved.ids, datastreams.newest, found)
        outcomes = count(batch, found)
        late = late_hours(batch.columns, resolved.ids, found, limits.threshold)
        settled = None
        if batch.replays is not None:
            with _phase("replays"):
                settled = await replays.write(
                    conn, batch, self._table, resolved, datastreams.newest, limits.retained_from, self._city_ids
                )
            for span, counts in settled.counts.items():
                outcomes[span].replayed = dict(counts)
            late = np.concatenate((late, late_hours(settled.columns, resolved.ids, settled.found, limits.threshold)))
        if rehearse:
            await conn.execute("rollback")
            return Outcome(outcomes, {}, replays=settled.words if settled else ())
        with _phase("state"):
            state_refused = await states.write(conn, batch.spans, batch.state)
        with _phase("finish"):
            due = time.monotonic() >= self._provenance_due
            changes = datastreams.changes(batch) if batch.streams.changed and due else {}
            letters = [*batch.dead, *refusals(batch.columns, batch.streams, found)]
            async with conn.pipeline():
                weighed = await deadletters.write(conn, batch.spans, letters, self._city_ids) if letters else None
                if course is not None:
                    await following.keep(conn, course, resolved.ids, found)
                if len(late):
                    await conn.execute(LOG_DIRTY, (late[:, 0].tolist(), late[:, 1].tolist()))
                if changes:
                    await write_changes(conn, changes)
                await offsets.finish(conn, batch.spans, outcomes)
                committed = await conn.execute("commit")
            assert committed.statusmessage == "COMMIT", committed.statusmessage
        datastreams.remember(resolved)
        if course is None:
            self._series.remember(batch, None, None)
        else:
            self._series.remember(batch, course.readings, course.followed.states)
        raise_newest(datastreams.newest, batch.columns, found)
        if changes:
            self._provenance_due = time.monotonic() + PROVENANCE_SECONDS
            _settle(batch, changes)
        open_bytes = self._by_city(settled.open_bytes if settled else [])
        if weighed is not None:
            open_bytes |= self._by_city(await weighed.fetchall())
        return Outcome(outcomes, open_bytes, state_refused, settled.words if settled else ())

    def _by_city(self, weights: list[tuple[int, int]]) -> dict[str, int]:
        keys = {city_id: key for key, city_id in self._city_ids.items()}
        return {keys[city_id]: weight for city_id, weight in weights}


class _Guard:
    """Turns whatever ends a call into its verdict, and leaves neither transaction nor memory behind."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def __aenter__(self) -> None:
        """Nothing to prepare."""

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        writer = self._writer
        writer.forget()
        ROLLBACKS.labels(_cause(outcome(error))).inc()
        try:
            conn = writer._conn  # noqa: SLF001  (a part of the writer)
            if conn is None or conn.closed or not isinstance(error, Exception):
                await writer._drop()  # noqa: SLF001  (as above; a cancelled call leaves the wire in an unknown state)
            elif conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                await conn.execute("rollback")
        except (psycopg.Error, OSError):
            await writer._drop()  # noqa: SLF001  (as above)
        raised = outcome(error)
        if raised is not error:
            raise raised from error


def _cause(error: BaseException) -> str:
    match error:
        case Fenced():
            return "fenced"
        case Unavailable():
            return "retry"
        case Refused():
            return "refuse"
        case asyncio.CancelledError():
            return "cancelled"
        case _:
            return "crash"


@contextmanager
def _phase(name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    PHASE_SECONDS.labels(name).inc(time.perf_counter() - started)


def count(batch: Batch, found: Verdicts) -> list[SpanOutcome]:
    """What became of each span's rows."""
    kinds = max(REASONS) + 1
    counts = np.bincount(batch.columns.span * np.int64(kinds) + found.codes, minlength=kinds * len(batch.spans))
    return [
        SpanOutcome(
            stored=int(row[STORED]),
            duplicate=int(row[DUPLICATE]),
            dead={reason: int(row[code]) for code, reason in REASONS.items() if row[code]},
        )
        for row in counts.reshape(len(batch.spans), kinds)
    ]


def late_hours(columns: Columns, ids: npt.NDArray[np.int32], found: Verdicts, threshold: int) -> npt.NDArray[np.int64]:
    """Distinct (datastream, hour since the epoch) of stored or corrected rows in hours that are summed up already."""
    late = (found.codes <= STORED) & (columns.time < threshold)
    if not late.any():
        return np.zeros((0, 2), np.int64)
    streams = ids[columns.stream[late]].astype(np.int64)
    return np.unique(np.column_stack((streams, columns.time[late] // HOUR)), axis=0)


def raise_newest(newest: npt.NDArray[np.int64], columns: Columns, found: Verdicts) -> None:
    """Note the newest time that each stream number has a row for; a refused row's time may be anything."""
    there = found.codes <= DUPLICATE
    np.maximum.at(newest, columns.stream[there], columns.time[there])


def _settle(batch: Batch, changes: dict[int, tuple[int, Stream]]) -> None:
    """Take what was written off the list, unless it changed again meanwhile."""
    for number, (_, written) in changes.items():
        if batch.streams.streams[number] is written:
            batch.streams.changed.discard(number)
