"""What hours cost the ingest: `python -m tests.bench.rollups`. Never a test.

Paired: two databases on one server take the same batches by turns, a simulated hour each; one is refreshed beside the
writing, as `hanse-storage maintain` does it, with its late readings logged, the other is not and logs nothing. Who
comes first changes from hour to hour. The CPU of the writer's and the refresher's server processes and of this client
is what to look at on a machine that is not quiet; the rates mean something on one that is.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
from local import paths
from local.process import Identity
from local.servers import Postgres

from storage import maintain, rollups
from storage.migrate import migrate
from storage.rows import Batch, CityLimits, Columns, Property, Span, Stream, StreamTable, TopicPartition
from storage.timescale import Writer
from tests.bench.proc import Meter

CITY = CityLimits("kiel", "Kiel", "01002000", 5_000_000, 1_000_000)
PROPERTIES = [
    Property("air_temperature", "Cel", "weather", "gauge", "mean", -45, 50),
    Property("noise_laeq", "dB", "noise", "gauge", "energy", 0, 150),
    Property("wind_direction", "deg", "weather", "gauge", "direction", 0, 360),
    Property("electric_energy_import", "kW.h", "energy", "counter", "counter", 0, 1_000_000_000),
]
HOUR = 3_600_000_000
BATCH_ROWS = 10_000


@dataclass
class Side:
    """One of the two databases and what it cost so far, in seconds."""

    dsn: str
    refreshed: bool
    writer: Writer
    session: psycopg.AsyncConnection[object]
    next_offset: int = 0
    repair_due: float = 0.0
    wall: float = 0.0
    cpu: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("client", "writing", "refreshing"), 0.0))
    streams: StreamTable = field(default_factory=StreamTable)


@contextmanager
def server() -> Iterator[Postgres]:
    """A server of this run's own, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=paths.folder(paths.store())) as made:
        directory = Path(made)
        directory.chmod(0o755)
        postgres = Postgres(directory / "postgres", owner=Identity.of(os.getpid()))
        try:
            postgres.start()
            yield postgres
        finally:
            postgres.remove()


def backend(dsn: str, application: str) -> int:
    """The process of the one session that has this name."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        row = conn.execute(
            "select pid from pg_stat_activity where application_name = %s and datname = current_database()",
            (application,),
        ).fetchone()
    assert row is not None
    return int(row[0])


async def side(postgres: Postgres, name: str, begin: int, *, refreshed: bool) -> Side:
    """An empty database whose hours begin at `begin` (microseconds since 1970)."""
    dsn = postgres.create_database(name)
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "update store.rollup_state set (threshold, materialized) = (to_timestamp(%(at)s), to_timestamp(%(at)s))",
            {"at": begin / 1e6},
        )
    writer = Writer(dsn)
    await writer.register([CITY], PROPERTIES)
    return Side(dsn, refreshed, writer, await maintain.connect(dsn))


def batches(hour: int, devices: int, late: float, random: np.random.Generator) -> Iterator[tuple[np.ndarray, ...]]:
    """A reading a minute of every datastream, in the order of time; some come one to five hours late."""
    streams = devices * len(PROPERTIES)
    stream = np.tile(np.arange(streams, dtype=np.int32), 60)
    time_ = hour + np.repeat(np.arange(60, dtype=np.int64) * 60_000_000, streams) + stream % 50_000
    back = np.where(random.random(len(stream)) < late, random.integers(1, 6, len(stream)), 0)
    # A late one is nobody's double: its own microsecond, counted from the hour that it is late for.
    time_ = time_ - back * HOUR + back * 100_000
    value = np.round(random.random(len(stream)) * 30, 1)
    for at in range(0, len(stream), BATCH_ROWS):
        yield stream[at : at + BATCH_ROWS], time_[at : at + BATCH_ROWS], value[at : at + BATCH_ROWS]


def made(one: Side, devices: int, stream: np.ndarray, time_: np.ndarray, value: np.ndarray) -> Batch:
    """A batch of one message a reading."""
    if not one.streams.streams:
        for n in range(devices * len(PROPERTIES)):
            prop = PROPERTIES[n % len(PROPERTIES)]
            one.streams.number(Stream(CITY.key, f"d{n // len(PROPERTIES)}", "", prop.key, "k", prop.unit, "hanse"))
    rows, zeros = len(stream), np.zeros(len(stream), np.int16)
    offsets = np.arange(one.next_offset, one.next_offset + rows, dtype=np.int64)
    span = Span(
        partition=TopicPartition("hanse.raw.kiel", 0),
        city=CITY.key,
        first_offset=one.next_offset,
        next_offset=one.next_offset + rows,
        last_timestamp=1_795_435_200_000,
        last_hash=b"12345678",
        messages_at=lambda at: (_ for _ in ()).throw(KeyError(at)),
        new=one.next_offset == 0,
        messages=rows,
        decoded=rows,
        readings=rows,
    )
    one.next_offset += rows
    received, last = time_ + 1_000_000, np.full(rows, one.streams.origin("k", ""), np.int32)
    columns = Columns(
        stream, time_, value, zeros + np.int16(1), zeros, received, zeros, offsets, np.zeros(rows, np.int32), last
    )
    return Batch([span], columns, one.streams, [])


async def made_up(one: Side) -> None:
    """Late hours summed up again."""
    began = time.monotonic()
    await rollups.repair(one.session)
    one.repair_due = rollups.next_repair(began, time.monotonic())


async def hour_of(one: Side, hour: int, work: list[tuple[np.ndarray, ...]], devices: int, *, paced: bool) -> None:
    """One simulated hour: written, and meanwhile the hour before summed up and, when it is time, late ones."""
    ready = [made(one, devices, *part) for part in work]
    meter = Meter({"writing": [backend(one.dsn, "hanse-processor")], "refreshing": [backend(one.dsn, maintain.NAME)]})
    before, client, began = meter.cpu_s(), time.process_time(), time.perf_counter()

    async def write() -> float:
        for batch in ready:
            await one.writer.commit(batch)
        return time.perf_counter() - began

    async def refresh() -> None:
        if one.refreshed:
            await rollups.advance(one.session, datetime.fromtimestamp(hour / 1e6, UTC))
            while await rollups.materialize_next(one.session):
                pass
            if not paced or time.monotonic() >= one.repair_due:
                await made_up(one)

    one.wall += (await asyncio.gather(write(), refresh()))[0]
    one.cpu["client"] += time.process_time() - client
    for kind, seconds in meter.cpu_s().items():
        one.cpu[kind] += seconds - before[kind]


async def measure(hours: int, devices: int, late: float, *, paced: bool) -> None:
    """Both sides by turns, then what each cost."""
    random = np.random.default_rng(1)
    begin = (int(time.time()) // 3_600 * 3_600 - 10 * 86_400) * 1_000_000
    with server() as postgres:
        sides = [await side(postgres, name, begin, refreshed=name == "on") for name in ("off", "on")]
        for n in range(hours):
            work = list(batches(begin + n * HOUR, devices, late if n > 5 else 0.0, random))
            for one in sides if n % 2 else sides[::-1]:
                await hour_of(one, begin + n * HOUR, work, devices, paced=paced)
        on = sides[1]
        last = Meter({"refreshing": [backend(on.dsn, maintain.NAME)]})
        before = last.cpu_s()["refreshing"]
        await made_up(on)  # what waits by now is part of the cost
        on.cpu["refreshing"] += last.cpu_s()["refreshing"] - before
        readings = on.next_offset
        print(f"{readings:,} readings of {devices * len(PROPERTIES):,} datastreams in {hours} hours, {late:.0%} late")
        total = {}
        for one in sides:
            name = "on" if one.refreshed else "off"
            each = {kind: seconds / readings * 1e6 for kind, seconds in one.cpu.items()}
            total[name] = sum(each.values())
            shown = ", ".join(f"{kind} {cost:.2f}" for kind, cost in each.items())
            print(
                f"hours {name}: {total[name]:.2f} µs of CPU a reading ({shown}), {readings / one.wall:,.0f} readings/s"
            )
        rate = {one.refreshed: readings / one.wall for one in sides}
        print(f"CPU: {total['on'] / total['off'] - 1:+.1%} of writing alone; rate: {rate[True] / rate[False] - 1:+.1%}")
        for one in sides:
            await one.writer.close()
            await one.session.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=24, help="simulated; each side writes all of them")
    parser.add_argument("--devices", type=int, default=500, help="of four datastreams each, a reading a minute")
    parser.add_argument("--late", type=float, default=0.02, help="share of readings that come hours late")
    parser.add_argument(
        "--each-hour",
        action="store_true",
        help="make up for late readings once a simulated hour, not at maintain's pace",
    )
    given = parser.parse_args()
    asyncio.run(measure(given.hours, given.devices, given.late, paced=not given.each_hour))
