"""Figures of a filled database: `python -m tests.bench.storage --rows 20000000`. Never a test.

10,000 datastreams of 7 cities and 25 properties, readings evenly over 30 days, hours of one property over a year in all
cities. Times are the best of five after a first one, results fetched to the client.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
from local import paths
from local.process import Identity
from local.servers import Postgres

from storage.migrate import migrate

DAYS = 30
STREAMS = 10_000
FILL_DIMENSIONS = """
insert into store.city (key, name) select 'city' || n, 'City ' || n from generate_series(1, 7) n;
insert into store.property (key, unit, domain, kind, aggregation, minimum, maximum)
select 'property' || n, 'Cel', 'weather', 'gauge', 'mean', -50, 50 from generate_series(1, 25) n;
insert into store.datastream (city_id, device, channel, property_id, raw_key, raw_unit, dialect)
select c, 'device' || n, '', p, 'k', 'u', 'hanse'
  from generate_series(1, 7) c, generate_series(1, 25) p, generate_series(1, %(devices)s) n;
"""
FILL_DAY = """
insert into store.observation
select d, 1, 0, %(day)s + make_interval(secs => (i + (d %% 97) / 97.0) * %(step)s),
       round((20 + 10 * sin(i + d))::numeric, 1),
       %(day)s + make_interval(secs => i * %(step)s)
  from generate_series(1, %(streams)s) d, generate_series(0, %(each)s - 1) i
"""
FILL_HOURS = """
insert into store.observation_hour (datastream_id, good, unchecked, suspect, failed, missing, hour, first_time,
                                    last_time, minimum, maximum, total)
select d.datastream_id, 4, 0, 0, 0, 0, h, h, h + interval '45 min', 10, 30, 80
  from store.datastream d,
       generate_series(%(end)s - interval '365 days', %(end)s - interval '1 hour', interval '1 hour') h
 where d.property_id = 1
on conflict do nothing
"""
QUERIES = {
    "latest of a city (1,425 datastreams)": "select * from hanse.latest where city = 'city3'",
    "a month of one datastream, raw": (
        "select * from hanse.observations where datastream_id = 4321 and phenomenon_time >= now() - interval '31 days'"
    ),
    "a year by the hour, one property in one city, hour by hour": (
        "select hour, avg(value), min(minimum), max(maximum) from hanse.hourly where city = 'city3' and property ="
        " 'property1' and hour >= now() - interval '365 days' group by hour order by hour"
    ),
    "the same, one datastream": (
        "select hour, value from hanse.hourly where city = 'city3' and property = 'property1' and device = 'device7'"
        " and hour >= now() - interval '365 days' order by hour"
    ),
    "a month by the hour, one property in all cities, averaged by city": (
        "select city, hour, avg(value) from hanse.hourly where property = 'property1'"
        " and hour >= now() - interval '31 days' group by 1, 2"
    ),
    "a month by the day, one property in all cities, averaged by city": (
        "select city, day, avg(value) from hanse.daily where property = 'property1'"
        " and day_start >= now() - interval '31 days' group by 1, 2"
    ),
}


def timed(conn: psycopg.Connection[Any], query: str) -> tuple[float, float, int]:
    """(best, median) in ms of five runs, and rows."""
    took, rows = [], 0
    for _ in range(6):
        began = time.perf_counter()
        rows = len(conn.execute(query).fetchall())
        took.append((time.perf_counter() - began) * 1_000)
    return min(took[1:]), statistics.median(took[1:]), rows


def fill(conn: psycopg.Connection[Any], rows: int) -> None:
    streams = STREAMS // 175 * 175
    conn.execute(FILL_DIMENSIONS.replace("%(devices)s", str(STREAMS // 175)))
    each = max(1, rows // streams // DAYS)
    (today,) = conn.execute("select date_trunc('day', now(), 'UTC')").fetchone() or (None,)
    begin = conn.execute("select %s - make_interval(days => %s)", (today, DAYS)).fetchone()
    assert begin is not None
    began = time.perf_counter()
    for day in range(DAYS):
        at = conn.execute("select %s + make_interval(days => %s)", (begin[0], day)).fetchone()
        assert at is not None
        conn.execute(FILL_DAY, {"day": at[0], "step": 86_400 / each, "streams": streams, "each": each})
    took = time.perf_counter() - began
    print(f"{streams * each * DAYS:,} readings of {streams:,} datastreams in {took:.0f} s")
    conn.execute("update store.rollup_state set threshold = %s, materialized = %s", (begin[0], begin[0]))


def rollup(conn: psycopg.Connection[Any], hours: int) -> None:
    """The newest `hours` whole hours, as maintain sums them up; the year of one property is put in as it is."""
    end = conn.execute("select date_trunc('hour', now(), 'UTC')").fetchone()
    assert end is not None
    began = time.perf_counter()
    for back in range(hours, 0, -1):
        conn.execute("select store.rollup_hour(%s - make_interval(hours => %s))", (end[0], back))
    print(f"one hour of all datastreams is summed up in {(time.perf_counter() - began) / hours * 1_000:,.0f} ms")
    conn.execute(FILL_HOURS, {"end": end[0]})
    conn.execute("update store.rollup_state set threshold = %s, materialized = %s", (end[0], end[0]))


def run(rows: int, hours: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=paths.folder(paths.store())))
    directory.chmod(0o755)
    postgres = Postgres(directory / "postgres", owner=Identity.of(os.getpid()))
    try:
        postgres.start()
        dsn = postgres.create_database("hanse")
        migrate(dsn)
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("set synchronous_commit = off")
            fill(conn, rows)
            rollup(conn, hours)
            conn.execute("vacuum analyze store.observation")
            conn.execute("vacuum analyze store.observation_hour")
            for name in ("observation", "observation_hour"):
                found = conn.execute(
                    f"select table_bytes, index_bytes, (select count(*) from store.{name})"
                    f" from hypertable_detailed_size('store.{name}')"
                ).fetchone()
                assert found is not None
                table, index, count = found
                print(f"{name}: {table / count:.1f} + {index / count:.1f} bytes a row (heap + index), {count:,} rows")
            for name, query in QUERIES.items():
                best, median, answer = timed(conn, query)
                print(f"{name}: {best:.1f} ms (median {median:.1f}), {answer:,} rows")
    finally:
        postgres.remove()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--hours", type=int, default=24, help="hours of all datastreams to sum up")
    given = parser.parse_args()
    run(given.rows, given.hours)
