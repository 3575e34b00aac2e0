"""What the status page and its metrics read of the database: bounded queries on one connection. Reads only."""

from datetime import datetime
from typing import Any, NamedTuple, Self

import psycopg

from storage import connection
from storage.errors import outcome

COUNTED_LETTERS = 10_000  # a reason's letters are counted up to here: enough to see, cheap with ten million of them
STATEMENT_SECONDS = 8

CITIES = """
select c.key, c.name, coalesce(sum(l.messages), 0)::int8, coalesce(sum(l.readings), 0)::int8,
       coalesce(sum(l.stored), 0)::int8, coalesce(sum(l.duplicate), 0)::int8,
       coalesce(sum(l.dead_messages + l.dead_readings), 0)::int8,
       coalesce(sum(l.ignored_messages + l.ignored_readings), 0)::int8, coalesce(sum(l.unaccounted), 0)::int8,
       coalesce((select b.open_bytes from store.dead_letter_bytes b where b.city_id = c.city_id), 0)
  from store.city c left join hanse.ledger l on l.city = c.key
 group by c.city_id order by c.key
"""
# A loose scan of the index dead_letter_state: one probe for each pair of city and reason there is.
LETTERS = """
with recursive pair as (
  (select city_id, reason from store.dead_letter where state = 'open' order by city_id, reason limit 1)
  union all
  select n.* from pair p cross join lateral (
    select l.city_id, l.reason from store.dead_letter l
     where l.state = 'open' and (l.city_id, l.reason) > (p.city_id, p.reason) order by l.city_id, l.reason limit 1) n)
select c.key, p.reason, (select count(*) from (select 1 from store.dead_letter l
    where l.state = 'open' and l.city_id = p.city_id and l.reason = p.reason limit %s) s)
  from pair p join store.city c using (city_id) order by 1, 2
"""
STREAMS = """
select c.key, (select count(*) from store.datastream d where d.city_id = c.city_id),
       (select count(*) from hanse.overdue o where o.city = c.key)
  from store.city c order by c.key
"""
# One of each device, so that a station with twenty values does not hide the others.
NEWEST = """
select city, property, unit, device, channel, phenomenon_time, value, quality, quality_tests, received_at
  from (select d.*, row_number() over (partition by city order by received_at desc, datastream_id) as place
          from (select l.*,
                       row_number() over (partition by city, device order by received_at desc, datastream_id) as nth
                  from hanse.latest l) d
         where nth = 1) s
 where place <= %s order by city, place
"""


class CityCounts(NamedTuple):
    """A city's ledger in all. `dead` and `ignored` count messages and readings; `dead_bytes` of open letters."""

    key: str
    name: str
    messages: int
    readings: int
    stored: int
    duplicate: int
    dead: int
    ignored: int
    unaccounted: int
    dead_bytes: int


class Letters(NamedTuple):
    """Open dead letters of one city and reason, counted up to COUNTED_LETTERS."""

    city: str
    reason: str
    letters: int


class Streams(NamedTuple):
    """How many datastreams a city has, and how many of them are overdue."""

    city: str
    datastreams: int
    overdue: int


class Newest(NamedTuple):
    """One of a city's newest readings."""

    city: str
    property: str
    unit: str
    device: str
    channel: str
    phenomenon_time: datetime
    value: float | None
    quality: int
    quality_tests: int
    received_at: datetime


class Overview:
    """One connection for looking; every method raises Unavailable or Refused."""

    def __init__(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self._conn = conn

    @classmethod
    async def open(cls, dsn: str) -> Self:
        """Connect; nothing this connection does may hold up the ingest."""
        conn = await connection.connect(dsn, "hanse-status")
        made = cls(conn)
        await made._ask(f"set statement_timeout = '{STATEMENT_SECONDS}s'")
        await made._ask("set default_transaction_read_only = on")
        return made

    async def close(self) -> None:
        """Close the connection."""
        await self._conn.close()

    async def cities(self) -> list[CityCounts]:
        """Every city with its counts."""
        return [CityCounts(*row) for row in await self._ask(CITIES)]

    async def letters(self) -> list[Letters]:
        """Open dead letters by city and reason."""
        return [Letters(*row) for row in await self._ask(LETTERS, COUNTED_LETTERS)]

    async def streams(self) -> list[Streams]:
        """Datastreams by city; up to a second where ten thousand are silent."""
        return [Streams(*row) for row in await self._ask(STREAMS)]

    async def newest(self, each: int) -> list[Newest]:
        """The newest readings of every city, so many each, of datastreams heard of last."""
        return [Newest(*row) for row in await self._ask(NEWEST, each)]

    async def _ask(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        try:
            cursor = await self._conn.execute(query, parameters or None)
            return await cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise outcome(error) from error
