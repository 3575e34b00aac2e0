"""What the database knows of the pipeline, for an operator: the ledger, and how much there is of what. Reads only."""

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
LEDGER = "select * from hanse.ledger order by city, topic, partition"
REASONS = """
select c.key as city, l.reason, count(*) as letters
  from store.dead_letter l join store.city c using (city_id) where l.state = 'open' group by 1, 2 order by 1, 2
"""
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
        for name, query in (("counts", COUNTS), ("ledger", LEDGER), ("open_dead_letters", REASONS)):
            found[name] = await (await conn.cursor(row_factory=dict_row).execute(query)).fetchall()
    except psycopg.Error as error:
        raise outcome(error) from error
    finally:
        await conn.close()
    return found | {"counts": found["counts"][0]}


def tables(status: dict[str, Any]) -> list[Table]:
    """The same for a terminal; an unaccounted record is red."""
    ledger = Table("city", "part.", *(title for title, _ in SHOWN), title="Ledger", box=SIMPLE_HEAD, padding=0)
    for column in ledger.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in status["ledger"]:
        style = "bold red" if row["unaccounted"] else None
        ledger.add_row(row["city"], str(row["partition"]), *(f"{row[key]:,}" for _, key in SHOWN), style=style)
    letters = Table("city", "reason", "letters", title="Open dead letters")
    for row in status["open_dead_letters"]:
        letters.add_row(row["city"], row["reason"], f"{row['letters']:,}")
    counts = Table("what", "count", title="Database")
    for name, value in status["counts"].items():
        counts.add_row(name.replace("_", " "), f"{value:,}")
    return [counts, ledger, letters] if status["open_dead_letters"] else [counts, ledger]
