"""What the database knows of the pipeline, for an operator: the ledger, and how much there is of what. Reads only."""

from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row
from rich.box import SIMPLE_HEAD
from rich.table import Table

from storage import connection
from storage.errors import outcome

# The hypertable is estimated from statistics: counting it would read all of it.
COUNTS = """
select (select count(*) from store.city) as cities,
       (select count(*) from store.property) as properties,
       (select count(*) from store.datastream) as datastreams,
       approximate_row_count('store.observation') as observations_estimated,
       (select count(*) from store.dead_letter where state = 'open') as open_dead_letters,
       (select coalesce(sum(open_bytes), 0)::int8 from store.dead_letter_bytes) as open_dead_letter_bytes,
       (select max(version) from store.schema_migration) as schema_version
"""
LIFECYCLE = """
select current_setting('timescaledb.license', true) as edition, threshold, materialized as hours_until,
       extract(epoch from now() - materialized)::float8 as rollup_lag_seconds, retained_from,
       (select count(*) from store.rollup_dirty) as late_hours_waiting, cities_from::text as cities_from,
       (select count(*) from store.city_dirty) as city_ranges_waiting, refreshed_at as maintained_at
  from store.rollup_state
"""
CHUNKS = """
select hypertable_name as "table", count(*) as chunks, count(*) filter (where is_compressed) as compressed,
       min(range_start) as first_chunk, max(range_end) as made_until,
       hypertable_size(format('store.%I', hypertable_name)::regclass) as bytes
  from timescaledb_information.chunks where hypertable_schema = 'store' group by hypertable_name order by 1
"""
# One probe of the index at each end of each datastream; the table itself is never read.
SPAN = """
select min(o.first) as oldest, max(o.last) as newest
  from store.datastream d
 cross join lateral (
   select (select phenomenon_time from store.observation where datastream_id = d.datastream_id
            order by phenomenon_time limit 1) as first,
          (select phenomenon_time from store.observation where datastream_id = d.datastream_id
            order by phenomenon_time desc limit 1) as last) o
"""
LEDGER = "select * from hanse.ledger order by city, topic, partition"
REASONS = """
select c.key as city, l.reason, count(*) as letters
  from store.dead_letter l join store.city c using (city_id) where l.state = 'open' group by 1, 2 order by 1, 2
"""
QUERIES = {
    "counts": COUNTS,
    "span": SPAN,
    "lifecycle": LIFECYCLE,
    "chunks": CHUNKS,
    "ledger": LEDGER,
    "open_dead_letters": REASONS,
}
WIDE = 110
NARROW = ("messages", "stored", "dead_readings", "next_offset", "unaccounted")  # what has room at 80 columns
SHOWN = (
    ("messages", "messages"),
    ("readings", "readings"),
    ("stored", "stored"),
    ("duplicate", "duplicate"),
    ("dead", "dead_readings"),
    ("ignored", "ignored_readings"),
    ("next offset", "next_offset"),
    ("unaccounted", "unaccounted"),
)


async def read(dsn: str) -> dict[str, Any]:
    """Counts, ledger and open dead letters by reason. Raises Unavailable or Refused."""
    conn = await connection.connect(dsn, "hanse-storage")
    try:
        found = {}
        for name, query in QUERIES.items():
            found[name] = await (await conn.cursor(row_factory=dict_row).execute(query)).fetchall()
    except psycopg.Error as error:
        raise outcome(error) from error
    finally:
        await conn.close()
    return found | {name: found[name][0] for name in ("counts", "span", "lifecycle")}


def tables(status: dict[str, Any], width: int) -> list[Table]:
    """The same for a terminal of so many columns; an unaccounted record is red."""
    wide = width >= WIDE
    columns = [(title, key) for title, key in SHOWN if wide or key in NARROW]
    title = "Ledger" if wide else f"Ledger (whole from {WIDE} columns on, and with --json)"
    ledger = Table("city", "part.", *(name for name, _ in columns), title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ledger.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in status["ledger"]:
        style = "bold red" if row["unaccounted"] else None
        ledger.add_row(row["city"], str(row["partition"]), *(f"{row[key]:,}" for _, key in columns), style=style)
    letters = Table("city", "reason", "letters", title="Open dead letters")
    for row in status["open_dead_letters"]:
        letters.add_row(row["city"], row["reason"], f"{row['letters']:,}")
    counts = Table("what", "count", title="Database")
    for name, value in (status["counts"] | status["span"] | status["lifecycle"]).items():
        counts.add_row(name.replace("_", " "), _text(value))
    chunks = Table("table", "chunks", "compressed", "from", "made until", "size", title="Chunks", box=SIMPLE_HEAD)
    for row in status["chunks"]:
        days = [f"{row[key]:%Y-%m-%d}" for key in ("first_chunk", "made_until")]
        shown = [*(_text(row[key]) for key in ("table", "chunks", "compressed")), *days]
        chunks.add_row(*shown, f"{row['bytes'] / 2**20:,.1f} MiB")
    return [counts, chunks, ledger, letters] if status["open_dead_letters"] else [counts, chunks, ledger]


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case float():
            return f"{value:,.0f}"
        case int():
            return f"{value:,}"
        case _:
            return str(value)
