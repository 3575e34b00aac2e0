"""History in and out. Never a test.

    python -m tests.bench.history import --rows 10000000
    python -m tests.bench.history export --rows 1000000,5000000

`import` writes a CSV or Parquet file of 1,000 datastreams, a reading a minute each, in the order of time, and has
`hanse-processor import` take it into an empty database: seconds, rows a second, CPU of the command and of the server.
`export` fills a city by as many readings of one day (the most that is ever sorted at once) as each number says, and has
`hanse-storage export` write them: the most memory that the command and its server process held.
"""

import argparse
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from local.servers import Postgres

from storage.migrate import migrate
from tests.bench.proc import Meter
from tests.bench.rollups import server

ROOT = Path(__file__).parents[2]
CITY_FILE = ROOT / "deploy" / "cities" / "rostock.toml"
STREAMS = 1_000
GOAL_ROWS, GOAL_SECONDS = 10_000_000, 120
HEAD = "city,device,channel,property,phenomenon_time,value,unit,quality,quality_tests,received_at\n"
DAY = datetime(2026, 1, 1, tzinfo=UTC)
# Made on the server and streamed to the file: a reading a minute of each datastream, as `export` would write it.
ROWS = """
select 'rostock' as city, 'd' || (s / 4) as device, '' as channel,
       (array['air_temperature', 'relative_humidity', 'noise_laeq', 'electric_energy_import'])[s %% 4 + 1] as property,
       to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as phenomenon_time,
       round((20 + 10 * sin(m / 60.0 + s))::numeric, 1) + case s %% 4 when 3 then m else 0 end as value,
       (array['Cel', '%%', 'dB', 'kW.h'])[s %% 4 + 1] as unit, 1 as quality, 0 as quality_tests,
       to_char((t + interval '1 second') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as received_at
  from generate_series(0, %(minutes)s - 1) m, generate_series(0, %(streams)s - 1) s,
       lateral (select %(begin)s::timestamptz + make_interval(mins => m, secs => s / 20.0) as t) l
"""
FILL = """
insert into store.city (key, name) values (%(city)s, 'City');
insert into store.property (key, unit, domain, kind, aggregation, minimum, maximum)
values ('air_temperature', 'Cel', 'weather', 'gauge', 'mean', -50, 50) on conflict do nothing;
with made as (
  insert into store.datastream (city_id, device, channel, property_id, raw_key, raw_unit, dialect)
  select c.city_id, 'd' || n, '', p.property_id, 'k', 'Cel', 'hanse'
    from store.city c, store.property p, generate_series(1, %(streams)s) n
   where c.key = %(city)s and p.key = 'air_temperature' returning datastream_id)
insert into store.observation
select datastream_id, 1, 0, %(day)s::timestamptz + make_interval(secs => (i + 0.5) * 86400.0 / %(each)s),
       i %% 100 / 10.0, %(day)s::timestamptz
  from generate_series(0, %(each)s - 1) i, made
"""


class Cost(NamedTuple):
    """Of one command: seconds on the clock, its CPU, the CPU of the server's processes, its peak memory in MiB."""

    seconds: float
    cpu: float
    server: float
    peak: float


def measured(postgres: Postgres, dsn: str, *argv: str | Path) -> Cost:
    """Run a command of the pipeline and say what it cost. Raises CalledProcessError."""
    root = int((postgres.directory / "data" / "postmaster.pid").read_text().split()[0])
    meter = Meter({"server": [root]})
    before, began = meter.cpu_s()["server"], time.perf_counter()
    command = [sys.executable, "-m", *map(str, argv)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "HANSE_DATABASE_DSN": dsn}, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command, stderr=said[-2_000:])
    peak = usage.ru_maxrss / 1024
    return Cost(took, usage.ru_utime + usage.ru_stime, meter.cpu_s()["server"] - before, peak)


def parquet(csv: Path, file: Path) -> None:
    """The same rows as the exporter types them."""
    import pyarrow as pa
    import pyarrow.csv as reader
    import pyarrow.parquet as writer

    stamp = pa.timestamp("us", tz="UTC")
    kinds = {"phenomenon_time": stamp, "received_at": stamp, "quality": pa.int16(), "quality_tests": pa.int16()}
    kinds |= {"value": pa.float64(), "channel": pa.string()}
    options = reader.ConvertOptions(column_types=kinds, strings_can_be_null=False)
    with reader.open_csv(csv, convert_options=options) as batches, writer.ParquetWriter(file, batches.schema) as out:
        for batch in batches:
            out.write_batch(batch, row_group_size=200_000)


def run_import(rows: int, kind: str) -> None:
    """Make the file, import it, print what it cost."""
    minutes = max(1, rows // STREAMS)
    begin = (datetime.now(UTC) - timedelta(minutes=minutes + 120)).replace(second=0, microsecond=0)
    with server() as postgres:
        dsn = postgres.create_database("import")
        migrate(dsn)
        file = postgres.directory / "history.csv"
        with psycopg.connect(dsn) as conn, file.open("wb") as out:
            out.write(HEAD.encode())
            query = psycopg.ClientCursor(conn).mogrify(ROWS, {"minutes": minutes, "streams": STREAMS, "begin": begin})
            with conn.cursor().copy(f"copy ({query}) to stdout (format csv)") as copy:
                for block in copy:
                    out.write(block)
        if kind == "parquet":
            parquet(file, file.with_suffix(".parquet"))
            file = file.with_suffix(".parquet")
        size = file.stat().st_size / 2**20
        cost = measured(postgres, dsn, "processors", "import", CITY_FILE, file)
        with psycopg.connect(dsn) as conn:
            stored = conn.execute("select sum(stored)::int8, sum(unaccounted)::int8 from hanse.ledger").fetchone()
        assert stored == (minutes * STREAMS, 0), stored
    count = minutes * STREAMS
    print(
        f"{count:,} rows of {kind} ({size:,.0f} MiB) in {cost.seconds:.1f} s: {count / cost.seconds:,.0f} rows/s; "
        f"CPU {cost.cpu / count * 1e6:.2f} µs a row in the command, {cost.server / count * 1e6:.2f} in the server; "
        f"peak {cost.peak:.0f} MiB"
    )
    ahead = GOAL_ROWS / count
    print(
        f"{GOAL_ROWS:,} rows: {cost.seconds * ahead:.0f} s at this rate (wanted < {GOAL_SECONDS}); by CPU alone, "
        f"command and server side by side, {max(cost.cpu, cost.server) * ahead:.0f} s"
    )


def run_export(sizes: list[int]) -> None:
    """The same day of ever more readings, and what the command held of it."""
    with server() as postgres:
        dsn = postgres.create_database("export")
        migrate(dsn)
        for rows in sizes:
            city = f"city{rows}"
            with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as conn:
                fill: dict[str, Any] = {"city": city, "streams": STREAMS, "each": rows // STREAMS, "day": DAY}
                conn.execute("set synchronous_commit = off")
                conn.execute(FILL, fill)
                conn.execute("analyze store.observation")
            for kind in ("csv", "parquet"):
                file = postgres.directory / f"out.{kind}"
                chosen = ("--city", city, "--from", "2026-01-01", "--to", "2026-01-02")
                cost = measured(postgres, dsn, "storage", "export", *chosen, "--format", kind, "--output", file)
                print(
                    f"{rows:,} rows of one day to {kind}: peak {cost.peak:.0f} MiB, {cost.seconds:.1f} s, CPU "
                    f"{cost.cpu:.1f} s and {cost.server:.1f} s in the server, {file.stat().st_size / 2**20:,.0f} MiB",
                    flush=True,
                )
                file.unlink()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("import", "export"))
    parser.add_argument("--rows", default="10000000", help="of the import; of the export, a list")
    parser.add_argument("--kind", choices=("csv", "parquet"), default="csv")
    given = parser.parse_args()
    if given.what == "import":
        run_import(int(given.rows), given.kind)
    else:
        run_export([int(n) for n in given.rows.split(",")])
