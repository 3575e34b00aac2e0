"""What a city's open dead letters weigh, kept right by whatever opens, closes, moves or deletes letters.

A message weighs its payload while at least one of its letters is open, and each open letter 256 bytes. What an import
refused weighs nothing here: a file's bad rows must not pause the living city (the import has a bound of its own, and
nothing of it can be replayed through Kafka). Whoever changes letters locks their messages first, in the order of the
key, so that of two that close a message's last letters one sees the other's. The statements run in the caller's
transaction.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg

from storage.rows import IMPORT_TOPIC, LETTER_BYTES

AT = "'epoch'::timestamptz + received_ms * interval '1 millisecond'"
_ASKED = f"""
unnest(%s::text[], %s::int4[], %s::int8[], %s::int8[]) as a (topic, partition, "offset", received_ms)
  join store.dead_message m on m.topic = a.topic and m.partition = a.partition and m."offset" = a."offset"
                           and m.received_at = {AT}
"""
IN_ORDER = 'order by m.topic, m.partition, m."offset", m.received_at for update of m'
LOCK = f"select from {_ASKED} {IN_ORDER}"
WEIGH = f"""
select m.city_id, sum(case when l.letters > 0 and not starts_with(m.topic, '{IMPORT_TOPIC}')
                           then octet_length(m.payload) + l.letters * {LETTER_BYTES} end)::int8
  from {_ASKED}
 cross join lateral (
   select count(*) as letters from store.dead_letter l
    where l.topic = m.topic and l.partition = m.partition and l."offset" = m."offset" and l.received_at = m.received_at
      and l.state = 'open') l
 group by m.city_id
"""  # noqa: S608  (constants)
CHANGE = """
with locked as (
  select b.city_id, n.change from store.dead_letter_bytes b
    join unnest(%s::int4[], %s::int8[]) as n (city_id, change) using (city_id) order by b.city_id for update of b)
update store.dead_letter_bytes b set open_bytes = greatest(0, b.open_bytes + l.change)
  from locked l where l.city_id = b.city_id
returning b.city_id, b.open_bytes
"""

Connection = psycopg.AsyncConnection[Any]


class MessageKey(NamedTuple):
    """Where a dead message came from; `received_ms` since the epoch."""

    topic: str
    partition: int
    offset: int
    received_ms: int


class Scales:
    """The messages whose letters are about to change: `lock`, change the letters, then `settle`."""

    def __init__(self, messages: Sequence[MessageKey]) -> None:
        self._columns = [list(column) for column in zip(*sorted(set(messages)), strict=True)] or [[], [], [], []]
        self._before: Counter[int] = Counter()

    async def lock(self, conn: Connection) -> None:
        """Lock the messages and note what they weigh."""
        await conn.execute(LOCK, self._columns)
        self._before = await self._weigh(conn)

    async def settle(self, conn: Connection) -> list[tuple[int, int]]:
        """Add what changed to the cities' sums; gives (city_id, open bytes) of those that changed."""
        after = await self._weigh(conn)
        changes = {city: after[city] - self._before[city] for city in after | self._before}
        changes = {city: change for city, change in sorted(changes.items()) if change}
        if not changes:
            return []
        cursor = await conn.execute(CHANGE, (list(changes), list(changes.values())))
        return await cursor.fetchall()

    async def _weigh(self, conn: Connection) -> Counter[int]:
        cursor = await conn.execute(WEIGH, self._columns)
        return Counter({city: weight or 0 for city, weight in await cursor.fetchall()})
