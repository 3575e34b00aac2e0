"""Where each partition stands, and what became of its records: consumer_offset and ledger, read and moved.

Compare-and-set is the guard of the whole path: a batch whose first offset is not the database's next one changes
nothing. The statements run in the caller's transaction.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import psycopg

from storage.errors import Fenced
from storage.rows import REPLAY_OUTCOMES, Position, SourceState, Span, SpanOutcome, TopicPartition

# One statement, one snapshot: the state is the one that belongs to the offset (rule 21). A source's parts come as the
# text of one JSON object, unread until a message of the source asks for them.
POSITIONS = """
select o.topic, o.partition, o.first_offset, o.next_offset, o.last_timestamp, o.last_hash,
       s.dialect, s.source, s.format, s.parts
  from store.consumer_offset o
  join unnest(%s::text[], %s::int4[]) as asked (topic, partition) using (topic, partition)
  left join lateral (
    select dialect, source, max(format) as format,
           '{' || string_agg('"' || part || '":' || state::text, ',') || '}' as parts
      from store.dialect_state s where s.topic = o.topic and s.partition = o.partition
     group by dialect, source) s on true
 order by o.topic, o.partition
"""

LIMITS = """
select (extract(epoch from threshold) * 1000000)::int8, (extract(epoch from retained_from) * 1000000)::int8
  from store.batch_limits()
"""

# Both rows of a new partition, or neither: a partition somebody else began is not returned.
BEGIN_PARTITIONS = """
with begun as (
  insert into store.consumer_offset (topic, partition, first_offset, next_offset)
  select topic, partition, first_offset, first_offset
    from unnest(%s::text[], %s::int4[], %s::int8[]) as new (topic, partition, first_offset)
   order by topic, partition
  on conflict do nothing
  returning topic, partition)
insert into store.ledger (topic, partition, city_id)
select topic, partition, city_id
  from begun join unnest(%s::text[], %s::int4[], %s::int2[]) as new (topic, partition, city_id) using (topic, partition)
returning topic, partition
"""

# Every writer locks in this order, which is the database's own collation of the topics.
LOCK_PARTITIONS = """
select o.topic, o.partition, o.next_offset
  from store.consumer_offset o
  join unnest(%s::text[], %s::int4[]) as asked (topic, partition) using (topic, partition)
 order by o.topic, o.partition
   for update of o
"""

MOVE = """
update store.consumer_offset o
   set next_offset = n.next_offset, last_timestamp = n.last_timestamp, last_hash = n.last_hash
  from unnest(%s::text[], %s::int4[], %s::int8[], %s::int8[], %b::bytea[])
    as n (topic, partition, next_offset, last_timestamp, last_hash)
 where o.topic = n.topic and o.partition = n.partition
"""

COUNT = """
update store.ledger l
   set messages = l.messages + n.messages, decoded = l.decoded + n.decoded,
       dead_messages = l.dead_messages + n.dead_messages, ignored_messages = l.ignored_messages + n.ignored_messages,
       readings = l.readings + n.readings, stored = l.stored + n.stored, duplicate = l.duplicate + n.duplicate,
       dead_readings = l.dead_readings + n.dead_readings, ignored_readings = l.ignored_readings + n.ignored_readings,
       skipped = l.skipped + n.skipped
  from unnest(%s::text[], %s::int4[], %s::int8[], %s::int8[], %s::int8[], %s::int8[], %s::int8[], %s::int8[],
              %s::int8[], %s::int8[], %s::int8[], %s::int8[])
    as n (topic, partition, messages, decoded, dead_messages, ignored_messages, readings, stored, duplicate,
          dead_readings, ignored_readings, skipped)
 where l.topic = n.topic and l.partition = n.partition
"""

COUNT_REPLAYS = """
update store.ledger l
   set replayed = l.replayed + n.replayed, replayed_stored = l.replayed_stored + n.stored,
       replayed_duplicate = l.replayed_duplicate + n.duplicate, replayed_corrected = l.replayed_corrected + n.corrected,
       replayed_dead = l.replayed_dead + n.dead, replayed_ignored = l.replayed_ignored + n.ignored
  from unnest(%s::text[], %s::int4[], %s::int8[], %s::int8[], %s::int8[], %s::int8[], %s::int8[], %s::int8[])
    as n (topic, partition, replayed, stored, duplicate, corrected, dead, ignored)
 where l.topic = n.topic and l.partition = n.partition
"""

Connection = psycopg.AsyncConnection[Any]


class Limits(NamedTuple):
    """What the rollups ask of a batch, in microseconds since the epoch; fixed until its transaction ends."""

    threshold: int  # hours before it are summed up already
    retained_from: int  # rows before it are not taken any more


async def positions(conn: Connection, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Position]:
    """Position of each partition that has one, with the state of dialects at it."""
    asked = sorted(partitions)
    cursor = conn.cursor(binary=True)
    await cursor.execute(POSITIONS, ([p.topic for p in asked], [p.partition for p in asked]))
    found: dict[TopicPartition, Position] = {}
    for (topic, partition, *position), rows in groupby(await cursor.fetchall(), key=lambda row: row[:6]):
        found[TopicPartition(topic, partition)] = Position(*position)._replace(
            state=tuple(SourceState(*row[6:]) for row in rows if row[6] is not None)
        )
    return found


async def begin(conn: Connection, spans: Sequence[Span], city_ids: Mapping[str, int]) -> Limits:
    """Open the transaction, lock the limits, then the partitions, and compare. Raises Fenced.

    Leaves the savepoint `rows` set.
    """
    new = [span for span in spans if span.new]
    old = [span for span in spans if not span.new]
    begun = locked = None
    async with conn.pipeline():
        await conn.execute("begin")
        limits = await conn.execute(LIMITS)
        if new:
            names = [s.partition.topic for s in new], [s.partition.partition for s in new]
            firsts = [s.first_offset for s in new]
            begun = await conn.execute(BEGIN_PARTITIONS, (*names, firsts, *names, [city_ids[s.city] for s in new]))
        if old:
            locked = await conn.execute(
                LOCK_PARTITIONS, ([s.partition.topic for s in old], [s.partition.partition for s in old])
            )
        await conn.execute("savepoint rows")
    stands: dict[tuple[str, int], int] = {}
    if begun is not None:
        firsts_by = {s.partition: s.first_offset for s in new}
        stands |= {(t, p): firsts_by[TopicPartition(t, p)] for t, p in await begun.fetchall()}
    if locked is not None:
        stands |= {(t, p): offset for t, p, offset in await locked.fetchall()}
    fenced = [s.partition for s in spans if stands.get(s.partition) != s.first_offset]
    if fenced:
        raise Fenced(fenced)
    row = await limits.fetchone()
    assert row is not None, "batch_limits returns one row"
    return Limits(*row)


async def finish(conn: Connection, spans: Sequence[Span], outcomes: Sequence[SpanOutcome]) -> None:
    """Move every partition to its next offset and add up its counts; to be called within a pipeline."""
    topics, numbers = [s.partition.topic for s in spans], [s.partition.partition for s in spans]
    await conn.execute(
        MOVE,
        (
            topics,
            numbers,
            [s.next_offset for s in spans],
            [s.last_timestamp for s in spans],
            [s.last_hash for s in spans],
        ),
    )
    await conn.execute(
        COUNT,
        (
            topics,
            numbers,
            [s.messages for s in spans],
            [s.decoded for s in spans],
            [s.dead_messages for s in spans],
            [s.ignored_messages for s in spans],
            [s.readings for s in spans],
            [o.stored for o in outcomes],
            [o.duplicate for o in outcomes],
            [s.dead_readings + sum(o.dead.values()) for s, o in zip(spans, outcomes, strict=True)],
            [s.ignored_readings for s in spans],
            [s.skipped for s in spans],
        ),
    )
    replayed = [(s, o) for s, o in zip(spans, outcomes, strict=True) if s.replayed]
    if replayed:
        counts = [[o.replayed.get(what, 0) for _, o in replayed] for what in REPLAY_OUTCOMES]
        places = [s.partition.topic for s, _ in replayed], [s.partition.partition for s, _ in replayed]
        await conn.execute(COUNT_REPLAYS, (*places, [s.replayed for s, _ in replayed], *counts))
