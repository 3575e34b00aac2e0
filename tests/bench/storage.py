"""Figures of a filled database: `python -m tests.bench.storage --rows 50000000`. Never a test.

10,000 datastreams of 7 cities and 25 properties, readings evenly over 30 days; hours of one property over a year, and
the sums of cities over the same year for all properties. Rows lie as they would have come, hour by hour, so that a
datastream's or a city's are as far apart as in a database that grew. The readings are made on the server by two
sessions at once. Times are the best of five after a first one, results fetched to the client; beside them the CPU of
the server's process, which is what to look at on a machine that is not quiet.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from local import paths
from local.process import Identity
from local.servers import Postgres

from storage import lifecycle
from storage.migrate import migrate
from tests.bench.proc import Meter

DAYS = 30
CITIES, PROPERTIES, DEVICES = 7, 25, 57
STREAMS = CITIES * PROPERTIES * DEVICES
SESSIONS = 2
FILL_DIMENSIONS = """
insert into store.city (key, name) select 'city' || n, 'City ' || n from generate_series(1, 7) n;
insert into store.property (key, unit, domain, kind, aggregation, minimum, maximum)
select 'property' || n, 'Cel', 'weather', 'gauge', 'mean', -50, 50 from generate_series(1, 25) n;
insert into store.datastream (city_id, device, channel, property_id, raw_key, raw_unit, dialect)
select c, 'device' || n, '', p, 'k', 'u', 'hanse'
  from generate_series(1, 7) c, generate_series(1, 25) p, generate_series(1, 57) n;
"""
# By the hour, within it by datastream, as batches of live readings are; a value in tenths, as sensors round.
FILL_DAY = """
insert into store.observation
select d, 1, 0, %(day)s + make_interval(secs => (i + (d %% 97) / 97.0) * %(step)s),
       round((20 + 10 * sin(i + d))::numeric, 1),
       %(day)s + make_interval(secs => i * %(step)s)
  from generate_series(0, %(each)s - 1) i, generate_series(1, %(streams)s) d
"""
FILL_HOURS = """
insert into store.observation_hour (datastream_id, good, unchecked, suspect, failed, missing, hour, first_time,
                                    last_time, minimum, maximum, total)
select d.datastream_id, 4, 0, 0, 0, 0, h, h, h + interval '45 min', 10, 30, 80
  from generate_series(%(end)s - interval '365 days', %(end)s - interval '1 hour', interval '1 hour') h,
       store.datastream d
 where d.property_id = 1
on conflict do nothing
"""
# What the cities' hours of all properties would be, beside those that were made of hours, in the order of time.
SPREAD_CITIES = """
create temporary table made as select * from store.city_hour where property_id = 1;
delete from store.city_hour;
insert into store.city_hour
select m.city_id, p, m.datastreams, m.good, m.unchecked, m.suspect, m.failed, m.missing, m.hour, m.value, m.minimum,
       m.maximum, m.total from made m, generate_series(1, 25) p order by m.hour, m.city_id, p;
drop table made
"""
QUERIES = {
    "latest of a city": ("50 ms", "select * from hanse.latest where city = 'city3'"),
    "a month of one datastream, raw": (
        "50 ms",
        "select * from hanse.observations where datastream_id = 4321 and phenomenon_time >= now() - interval '31 days'",
    ),
    "a year by the hour, one property in one city": (
        "200 ms",
        """select * from hanse.city_hourly where city = 'city3' and property = 'property1'
            and hour >= now() - interval '365 days' order by hour""",
    ),
    "city comparison of a month by the hour": (
        "200 ms",
        """select * from hanse.city_comparison where resolution = 'hour' and property = 'property1'
            and begins >= now() - interval '31 days' order by begins, city""",
    ),
    "city comparison of a month by the day": (
        "200 ms",
        """select * from hanse.city_comparison where resolution = 'day' and property = 'property1'
            and begins >= now() - interval '31 days' order by begins, city""",
    ),
    "a year by the hour, one datastream": (
        "",
        """select hour, value from hanse.hourly where city = 'city3' and property = 'property1' and device = 'device7'
            and hour >= now() - interval '365 days' order by hour""",
    ),
    "the year of the city from its datastreams' hours": (
        "",
        """select hour, avg(value), min(minimum), max(maximum) from hanse.hourly where city = 'city3'
            and property = 'property1' and hour >= now() - interval '365 days' group by hour order by hour""",
    ),
}
SIZES = """
select table_bytes, index_bytes, (select count(*) from store.{0}) from hypertable_detailed_size('store.{0}')
"""


def timed(conn: psycopg.Connection[Any], query: str) -> tuple[float, float, float, float, int]:
    """In ms the first run, the best and the median of five more, the server's CPU of each of these; and the rows."""
    meter = Meter({"server": [conn.info.backend_pid]})
    took, cpu, rows = [], 0.0, 0
    for n in range(6):
        cpu = cpu if n != 1 else meter.cpu_s()["server"]
        began = time.perf_counter()
        rows = len(conn.execute(query).fetchall())
        took.append((time.perf_counter() - began) * 1_000)
    spent = (meter.cpu_s()["server"] - cpu) / 5 * 1_000
    return took[0], min(took[1:]), statistics.median(took[1:]), spent, rows


def fill(dsn: str, rows: int) -> None:
    """Readings of DAYS days, by sessions beside each other, a day at a time."""
    each = max(1, rows // STREAMS // DAYS)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(FILL_DIMENSIONS)
        found = conn.execute("select date_trunc('day', now(), 'UTC')").fetchone()
        assert found is not None
        begin: datetime = found[0] - timedelta(days=DAYS)
        conn.execute("update store.rollup_state set threshold = %s, materialized = %s", (begin, begin))

        for day_ in range(DAYS):  # else each session would wait for the other's chunk until that one's day is in
            conn.execute(lifecycle.MAKE_CHUNK.format(day=(begin + timedelta(days=day_)).isoformat()))

    def day(number: int) -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("set synchronous_commit = off")
            at = begin + timedelta(days=number)
            conn.execute(FILL_DAY, {"day": at, "step": 86_400 / each, "streams": STREAMS, "each": each})

    began = time.perf_counter()
    with ThreadPoolExecutor(SESSIONS) as pool:
        list(pool.map(day, range(DAYS)))
    print(f"{STREAMS * each * DAYS:,} readings of {STREAMS:,} datastreams in {time.perf_counter() - began:.0f} s")


def rollup(conn: psycopg.Connection[Any], hours: int) -> None:
    """The newest `hours` whole hours, as maintain sums them up; the year of one property is put in as it is."""
    found = conn.execute("select date_trunc('hour', now(), 'UTC')").fetchone()
    assert found is not None
    end: datetime = found[0]
    conn.execute(FILL_HOURS, {"end": end - timedelta(hours=hours)})
    conn.execute("vacuum analyze store.observation_hour")
    took = {"rollup_hour": 0.0, "sum_up_cities": 0.0}
    for back in range(hours, 0, -1):
        hour = end - timedelta(hours=back)
        with conn.transaction():
            conn.execute("update store.rollup_state set threshold = %s, materialized = %s", (hour, hour))
            began = time.perf_counter()
            conn.execute("select store.rollup_hour(%s)", (hour,))
            took["rollup_hour"] += time.perf_counter() - began
            conn.execute("update store.rollup_state set materialized = %s", (hour + timedelta(hours=1),))
            began = time.perf_counter()
            conn.execute("select store.sum_up_cities()")
            took["sum_up_cities"] += time.perf_counter() - began
    for name, seconds in took.items():
        print(f"one hour of all datastreams: {name} {seconds / hours * 1_000:,.0f} ms")
    conn.execute(
        "update store.rollup_state set cities_from = date_trunc('day', materialized, 'Europe/Berlin') + interval '1 d'"
    )
    began, days, longest = time.perf_counter(), 0, 0.0
    while True:
        one = time.perf_counter()
        if conn.execute("select store.fill_cities()").fetchone() != (True,):
            break
        days, longest = days + 1, max(longest, time.perf_counter() - one)
    print(
        f"cities of {days} days filled in within {time.perf_counter() - began:.0f} s, a day in {longest:.2f} s at most"
    )
    conn.execute(SPREAD_CITIES)
    for name in ("observation", "observation_hour", "city_hour"):
        conn.execute(f"vacuum analyze store.{name}")


def sizes(conn: psycopg.Connection[Any]) -> None:
    """Bytes a row, as they lie on the disk."""
    for name in ("observation", "observation_hour", "city_hour"):
        found = conn.execute(SIZES.format(name)).fetchone()
        assert found is not None
        table, index, count = found
        print(f"{name}: {table / count:.1f} + {index / count:.1f} bytes a row (heap + index), {count:,} rows")
    found = conn.execute("select pg_database_size(current_database())").fetchone()
    assert found is not None
    print(f"the database takes {found[0] / 2**30:.2f} GiB")


def run(rows: int, hours: int, folder: Path) -> None:
    """Fill, measure, remove."""
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=folder))
    directory.chmod(0o755)
    postgres = Postgres(directory / "postgres", owner=Identity.of(os.getpid()))
    began = time.perf_counter()
    try:
        postgres.start()
        dsn = postgres.create_database("hanse")
        migrate(dsn)
        fill(dsn, rows)
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("set synchronous_commit = off")
            rollup(conn, hours)
            sizes(conn)
            for name, (wanted, query) in QUERIES.items():
                first, best, median, cpu, answer = timed(conn, query)
                aim = f", wanted < {wanted}" if wanted else ""
                print(
                    f"{name}: {best:.1f} ms (median {median:.1f}, first {first:.1f}, server's CPU {cpu:.0f}),"
                    f" {answer:,} rows{aim}",
                    flush=True,
                )
        used = sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())
        print(f"{used / 2**30:.2f} GiB on disk with WAL, {time.perf_counter() - began:.0f} s in all", flush=True)
    finally:
        postgres.remove()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--hours", type=int, default=24, help="hours of all datastreams to sum up")
    given = parser.parse_args()
    run(given.rows, given.hours, paths.folder(paths.store()))
