"""Figures of a table full of dead letters: `python -m tests.bench.letters --letters 10000000`. Never a test.

Letters of 7 cities, 8 reasons and 21,000 topics over 90 days, a small payload each; one reason and one topic are rare.
Every filter of `hanse-storage dead-letters list`, the first page and a deep one. Times are the best of five after a
first one, results fetched to the client, and the server's CPU time, which is the figure on a machine that others use.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from local import paths
from local.process import Identity
from local.servers import Postgres

from storage import letters
from storage.errors import Unavailable
from storage.letters import Wanted
from storage.migrate import migrate

AT_ONCE = 1_000_000
DEVICES = 3_000
DAYS = 90
PAGE = 50
RUNS = 5
REASONS = (
    "unknown_unit",
    "unmapped_property",
    "no_route",
    "invalid_json",
    "malformed",
    "time_out_of_range",
    "conflicting_value",
)
FILL_CITIES = "insert into store.city (key, name) select 'city' || n, 'City ' || n from generate_series(1, 7) n"
# Each message has one letter; of a thousand letters one is closed, of a million one is of our own fault.
FILL = """
with made as (
  select n, 1 + n %% 7 as city, n / 7 %% %(devices)s as device,
         %(begin)s::timestamptz + n * %(step)s::interval as at
    from generate_series(%(first)s::int8, %(last)s::int8) n),
messages as (
  insert into store.dead_message (topic, partition, "offset", received_at, city_id, mqtt_topic, retained, stub, payload)
  select 'hanse.raw.city' || city, n %% 6, n, at, city,
         case when n %% 1000000 = 17 then 'v3/city' || city || '/devices/rare/down'
              else 'v3/city' || city || '/devices/dev' || device || '/up' end,
         false, false, convert_to('{"temperature":"' || n || '","battery":3.6}', 'UTF8')
    from made)
insert into store.dead_letter (topic, partition, "offset", received_at, city_id, reason, detail, device, state)
select 'hanse.raw.city' || city, n %% 6, n, at, city,
       case when n %% 1000000 = 17 then 'internal_error' else (%(reasons)s::text[])[1 + n / 11 %% 7] end,
       'no unit of this name', 'dev' || device, case when n %% 1000 = 7 then 'closed' else 'open' end
  from made
"""


def fill(conn: psycopg.Connection[tuple[object, ...]], count: int, begin: datetime) -> None:
    """Letters in the order of their receipt."""
    conn.execute(FILL_CITIES)
    began = time.perf_counter()
    for first in range(0, count, AT_ONCE):
        values = {
            "first": first,
            "last": min(count, first + AT_ONCE) - 1,
            "devices": DEVICES,
            "reasons": list(REASONS),
            "begin": begin,
            "step": timedelta(days=DAYS) / count,
        }
        conn.execute(FILL, values)
    print(f"{count:,} letters in {time.perf_counter() - began:.0f} s", flush=True)
    conn.execute("vacuum analyze store.dead_letter")
    conn.execute("vacuum analyze store.dead_message")


def filters(begin: datetime) -> dict[str, Wanted]:
    """What an operator may ask."""
    middle = begin + timedelta(days=DAYS / 2)
    hour = {"since": middle, "until": middle + timedelta(hours=1)}
    return {
        "all": Wanted(),
        "closed": Wanted(state="closed"),
        "a city": Wanted(cities=("city3",)),
        "a reason": Wanted(reasons=("no_route",)),
        "a rare reason": Wanted(reasons=("internal_error",)),
        "city and reason": Wanted(cities=("city3", "city5"), reasons=("no_route", "malformed")),
        "an hour in the middle": Wanted(**hour),
        "city, reason and hour": Wanted(cities=("city3",), reasons=("no_route",), **hour),
        "a time without letters": Wanted(until=begin - timedelta(days=1)),
        "a topic": Wanted(topic="v3/city3/devices/dev17/up"),
        "a topic that is not there": Wanted(topic="v3/city3/devices/none/up"),
        "topic v3/+/devices/dev17/up": Wanted(topic="v3/+/devices/dev17/up"),
        "topic v3/city3/#": Wanted(topic="v3/city3/#"),
        "topic #": Wanted(topic="#"),
        "topic +/+/+/dev17/#": Wanted(topic="+/+/+/dev17/#"),
        "topic v3/+/devices/rare/#": Wanted(topic="v3/+/devices/rare/#"),
        "topic v3/+/devices/+/down (rare)": Wanted(topic="v3/+/devices/+/down"),
        "topic +/+/+/+/none (nothing)": Wanted(topic="+/+/+/+/none"),
        "topic v3/city3/# of another city": Wanted(topic="v3/city3/#", cities=("city4",)),
        "topic v3/+/devices/dev17/up, reason": Wanted(topic="v3/+/devices/dev17/up", reasons=("no_route",)),
        "topic v3/+/devices/dev17/up, hour": Wanted(topic="v3/+/devices/dev17/up", **hour),
        "topic v3/city3/#, rare reason": Wanted(topic="v3/city3/#", reasons=("internal_error",)),
        "one letter by id": Wanted(ids=(4_711,)),
    }


def cpu(pid: int) -> float:
    """Milliseconds of CPU that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000 / os.sysconf("SC_CLK_TCK")


async def measure(dsn: str, begin: datetime) -> None:
    """Print a line for each filter."""
    deep = letters.Place((begin + timedelta(days=DAYS / 3)).isoformat(), 1)
    for name, wanted in filters(begin).items():
        for place, after in (("", None), (", deep", deep)):
            if place and (wanted.since or wanted.until or wanted.ids):
                continue
            try:
                async with letters.opened(dsn) as conn:
                    print(f"{name + place}: {await timed(conn, wanted, after)}", flush=True)
            except Unavailable as error:
                print(f"{name + place}: {error}", flush=True)
    async with letters.opened(dsn) as conn:
        began = time.perf_counter()
        await letters.stats(conn)
        print(f"stats: {(time.perf_counter() - began) * 1_000:.0f} ms")


async def timed(conn: letters.Connection, wanted: Wanted, after: letters.Place | None) -> str:
    took, found, spent = [], [], 0.0
    for number in range(1 + RUNS):
        spent = spent if number != 1 else cpu(conn.info.backend_pid)
        began = time.perf_counter()
        found = await letters.page(conn, wanted, limit=PAGE, after=after)
        took.append((time.perf_counter() - began) * 1_000)
    spent = (cpu(conn.info.backend_pid) - spent) / RUNS
    return (
        f"{min(took[1:]):.1f} ms (median {statistics.median(took[1:]):.1f}, first {took[0]:.1f}), "
        f"{spent:.0f} ms of CPU, {len(found)} letters"
    )


def run(count: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=paths.folder(paths.store())))
    directory.chmod(0o755)
    postgres = Postgres(directory / "postgres", owner=Identity.of(os.getpid()))
    try:
        postgres.start()
        dsn = postgres.create_database("hanse")
        migrate(dsn)
        begin = datetime.now(UTC) - timedelta(days=DAYS)
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("set synchronous_commit = off")
            fill(conn, count, begin)
            for table in ("dead_message", "dead_letter"):
                sizes = f"select pg_table_size('store.{table}'), pg_indexes_size('store.{table}')"
                heap, index = conn.execute(sizes).fetchone() or (0, 0)
                print(f"{table}: {heap / 2**30:.2f} + {index / 2**30:.2f} GiB (heap + indexes)", flush=True)
        asyncio.run(measure(dsn, begin))
    finally:
        postgres.remove()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--letters", type=int, default=10_000_000)
    run(parser.parse_args().letters)
