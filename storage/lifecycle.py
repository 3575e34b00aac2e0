"""What comes and goes in the database: chunks ahead of the readings, compression, and the end of what is old.

Every act is a few short transactions that leave nothing half-done and may be repeated; a reader or writer in the way
ends it by lock_timeout, and the next cycle tries again. `plan` says what would happen, without doing it. Hours are
`rollups`' business, the rhythm `maintain`'s.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import dict_row

from storage import letters, rollups
from storage.errors import Refused
from storage.settings import Retention

COMMUNITY = "timescale"

EDITION = "select current_setting('timescaledb.license', true)"
LONGEST_AGE = "select key, max_age from store.city order by max_age desc, key limit 1"
DOMAINS = "select distinct domain from store.property order by 1"

CHUNKS = """
select format('%%I.%%I', chunk_schema, chunk_name), range_start, range_end,
       pg_total_relation_size(format('%%I.%%I', chunk_schema, chunk_name)::regclass)
  from timescaledb_information.chunks
 where hypertable_schema = 'store' and hypertable_name = %s and range_end <= %s
 order by range_start
"""
# From the oldest reading that is accepted to the day after tomorrow: whoever makes a chunk holds up its other writers
# until the end of a batch, so it is done here and in no time.
MISSING_DAYS = """
with edges as (
  select greatest(retained_from, date_trunc('day', now() - (
           select coalesce(max(max_age), '31 days') from store.city), 'UTC')) as first,
         date_trunc('day', now() + interval '2 days', 'UTC') as last
    from store.rollup_state)
select d from edges e
 cross join lateral generate_series(e.first, e.last, interval '1 day') d
 where not exists (select from timescaledb_information.chunks c
   where c.hypertable_schema = 'store' and c.hypertable_name = 'observation' and c.range_start <= d and d < c.range_end)
 order by d desc
"""
# A reading of no datastream that is gone before anybody could see it.
MAKE_CHUNK = """
begin;
set local lock_timeout = '2s';
insert into store.observation (datastream_id, quality, quality_tests, phenomenon_time, value, received_at)
values (0, 9, 0, '{day}', null, '{day}');
delete from store.observation where datastream_id = 0 and phenomenon_time = '{day}';
commit
"""

FENCE = """
update store.rollup_state set retained_from = greatest(retained_from, %(edge)s) where materialized >= %(edge)s
"""
# Only where no late hour before the edge is left: its readings are about to go.
GIVE_UP = """
update store.rollup_state set dropped_before = greatest(dropped_before, %(edge)s)
 where not exists (select from store.rollup_dirty where hour < %(edge)s)
"""
DROP_CHUNKS = "select count(*) from drop_chunks('store.observation', older_than => %s::timestamptz)"
# Where every domain's hours are deleted, nothing is left but empty chunks.
OF_DOMAIN = """
from store.observation_hour h
 where h.hour >= %(first)s and h.hour < %(edge)s and h.datastream_id in (
   select datastream_id from store.datastream join store.property using (property_id) where domain = %(domain)s)
"""
DELETE_HOURS = f"delete {OF_DOMAIN}"
DELETE_CITIES = """
with of_domain as (select property_id from store.property where domain = %(domain)s),
hours as (delete from store.city_hour where hour < %(edge)s and property_id in (table of_domain))
delete from store.city_day where day_start < %(edge)s and property_id in (table of_domain)
"""
COUNT_HOURS = f"select count(*) {OF_DOMAIN}"
EXPIRED = """
select domain, coalesce(before, '2000-01-01Z'), date_trunc('day', now() - age, 'UTC')
  from unnest(%s::text[], %s::interval[]) as d (domain, age) left join store.rollup_expired using (domain)
 where before is null or before < date_trunc('day', now() - age, 'UTC')
"""
NOTE_EXPIRED = """
insert into store.rollup_expired values (%s, %s) on conflict (domain) do update set before = excluded.before
"""
# Where every domain's hours are deleted, nothing is left but empty chunks.
ALL_EXPIRED = """
select case when count(*) = count(before) then min(before) end
  from (select distinct domain from store.property) p left join store.rollup_expired using (domain)
"""
DROP_HOUR_CHUNKS = """
select (select count(*) from drop_chunks('store.observation_hour', older_than => %(before)s::timestamptz)),
       (select count(*) from drop_chunks('store.city_hour', older_than => %(before)s::timestamptz))
"""

OLD_LETTERS = """
select letter_id, topic, partition, "offset", (extract(epoch from received_at) * 1000)::int8 as received_ms
  from store.dead_letter where state = %s and created_at < %s order by letter_id limit %s
"""
COUNT_LETTERS = "select count(*) from store.dead_letter where created_at < %s"
EXPIRE_QUOTAS = "delete from store.datastream_quota where hour < now() - interval '2 days'"

COMPRESSED = """
select compression_enabled from timescaledb_information.hypertables
 where hypertable_schema = 'store' and hypertable_name = 'observation'
"""
ENABLE_COMPRESSION = """
alter table store.observation set (
  timescaledb.compress, timescaledb.compress_segmentby = 'datastream_id',
  timescaledb.compress_orderby = 'phenomenon_time')
"""
# Also those that got readings after they were compressed (bit 8: partial).
UNCOMPRESSED = """
select format('%%I.%%I', i.chunk_schema, i.chunk_name)
  from timescaledb_information.chunks i
  join _timescaledb_catalog.chunk c on c.schema_name = i.chunk_schema and c.table_name = i.chunk_name
 where i.hypertable_schema = 'store' and i.hypertable_name = 'observation' and i.range_end <= %s
   and (not i.is_compressed or c.status & 8 > 0)
 order by i.range_start
"""

Connection = psycopg.AsyncConnection[Any]


class Plan(NamedTuple):
    """What the next cycle would do away with, or compress."""

    edition: str
    raw_before: datetime
    chunks: list[tuple[str, datetime, datetime, int]]
    hours: list[tuple[str, datetime, int]]
    letters: int
    compress: list[str]


async def _all(conn: Connection, query: str, values: Any = None) -> list[tuple[Any, ...]]:
    return await (await conn.execute(query, values)).fetchall()


async def _one(conn: Connection, query: str, values: Any = None) -> Any:
    rows = await _all(conn, query, values)
    return rows[0][0] if rows else None


async def edition(conn: Connection) -> str:
    """`timescale` for Community, `apache` otherwise."""
    return str(await _one(conn, EDITION) or "apache")


async def check(conn: Connection, keep: Retention) -> None:
    """Refuse settings under which accepted readings would find their chunk gone (rule 20), or that name no domain."""
    longest = await _all(conn, LONGEST_AGE)
    city, age = longest[0] if longest else ("none yet", timedelta(days=31))
    least = age + keep.kafka_retention
    if keep.raw_retention < least:
        raise Refused(
            f"HANSE_RAW_RETENTION = {_days(keep.raw_retention)} is less than the longest max_age of a city "
            f"({_days(age)}, {city}) and HANSE_KAFKA_RETENTION ({_days(keep.kafka_retention)}) together: readings that "
            f"still wait in Kafka would be refused; set {_days(least)} or more"
        )
    if keep.compress_after < age:
        raise Refused(
            f"HANSE_COMPRESS_AFTER = {_days(keep.compress_after)} is less than the longest max_age of a city "
            f"({_days(age)}, {city}): late readings would go into compressed chunks; set {_days(age)} or more"
        )
    domains = [row[0] for row in await _all(conn, DOMAINS)]
    unknown = sorted(set(keep.rollup_retention_by_domain) - set(domains)) if domains else []
    if unknown:
        raise Refused(
            f"HANSE_ROLLUP_RETENTION_BY_DOMAIN: {unknown[0]!r} is no domain; it is one of {', '.join(domains)}"
        )


def _days(length: timedelta) -> str:
    return f"P{length / timedelta(days=1):g}D"


async def _edge(conn: Connection, age: timedelta) -> datetime:
    """The begin of the day that lies `age` back, by the database's clock."""
    found: datetime = await _one(conn, "select date_trunc('day', now() - %s::interval, 'UTC')", (age,))
    return found


async def plan(conn: Connection, keep: Retention) -> Plan:
    """What a cycle would do away with, now; reads only."""
    raw_before, known = await _edge(conn, keep.raw_retention), await edition(conn)
    hours = []
    for domain, first, edge in await _expired(conn, keep):
        hours.append((domain, edge, await _one(conn, COUNT_HOURS, {"first": first, "edge": edge, "domain": domain})))
    compress = [r[0] for r in await _all(conn, UNCOMPRESSED, (await _edge(conn, keep.compress_after),))]
    return Plan(
        known,
        raw_before,
        [(r[0], r[1], r[2], r[3]) for r in await _all(conn, CHUNKS, ("observation", raw_before))],
        [found for found in hours if found[2]],
        await _one(conn, COUNT_LETTERS, (await _edge(conn, keep.dead_letter_retention),)),
        compress if known == COMMUNITY else [],
    )


async def _expired(conn: Connection, keep: Retention) -> list[tuple[str, datetime, datetime]]:
    """Domains that have hours to delete: from where on, and up to where."""
    ages = {row[0]: keep.rollup_age(row[0]) for row in await _all(conn, DOMAINS)}
    return [(r[0], r[1], r[2]) for r in await _all(conn, EXPIRED, (list(ages), list(ages.values())))]


async def make_chunks(conn: Connection) -> int:
    """Make the chunks that readings may need next, one a transaction; how many were missing."""
    days = [row[0] for row in await _all(conn, MISSING_DAYS)]
    for day in days:
        try:
            await conn.execute(MAKE_CHUNK.format(day=day.isoformat()))
        except psycopg.Error:
            if not conn.closed:
                await conn.execute("rollback")
            raise
    return len(days)


async def drop_observations(conn: Connection, keep: Retention) -> int:
    """Drop the chunks of readings that are older than what is kept; how many went.

    First the fence: batches under way end, and later ones refuse readings before the edge. Then the last late hours
    before it are summed up, and only then the chunks go.
    """
    await check(conn, keep)  # a city's file may ask for more by now
    edge = await _edge(conn, keep.raw_retention)
    if not await _all(conn, CHUNKS, ("observation", edge)):
        return 0
    async with conn.transaction():
        await rollups.fence(conn)
        if not (await conn.execute(FENCE, {"edge": edge})).rowcount:
            return 0  # not summed up yet; the next cycle comes
    await rollups.repair(conn)
    if not (await conn.execute(GIVE_UP, {"edge": edge})).rowcount:
        return 0
    return int(await _one(conn, DROP_CHUNKS, (edge,)))


async def expire_hours(conn: Connection, keep: Retention) -> int:
    """Delete hours of each domain that are older than what is kept, chunk by chunk; how many went."""
    gone = 0
    for domain, first, edge in await _expired(conn, keep):
        for _, begin, end, _ in await _all(conn, CHUNKS, ("observation_hour", "infinity")):
            if first < end and begin < edge:
                part = {"first": max(first, begin), "edge": min(end, edge), "domain": domain}
                gone += (await conn.execute(DELETE_HOURS, part)).rowcount
        await conn.execute(DELETE_CITIES, {"edge": edge, "domain": domain})
        await conn.execute(NOTE_EXPIRED, (domain, edge))
    before = await _one(conn, ALL_EXPIRED)
    if before is not None:
        await conn.execute(DROP_HOUR_CHUNKS, {"before": before})
    return gone


async def expire_letters(conn: Connection, keep: Retention) -> int:
    """Purge dead letters that are older than what is kept, whatever their state; how many went."""
    before, gone = await _edge(conn, keep.dead_letter_retention), 0
    for state in letters.STATES:
        while True:
            cursor = conn.cursor(row_factory=dict_row)
            old = await (await cursor.execute(OLD_LETTERS, (state, before, letters.PURGE_AT_ONCE))).fetchall()
            gone += await letters.purge(conn, old, state) if old else 0
            if len(old) < letters.PURGE_AT_ONCE:
                break
    await conn.execute(EXPIRE_QUOTAS)
    return gone


async def compress(conn: Connection, keep: Retention) -> int:
    """Compress old chunks by datastream, where the edition can; how many were compressed."""
    if await edition(conn) != COMMUNITY:
        return 0
    if not await _one(conn, COMPRESSED):
        await conn.execute(ENABLE_COMPRESSION)
    chunks = [r[0] for r in await _all(conn, UNCOMPRESSED, (await _edge(conn, keep.compress_after),))]
    for chunk in chunks:
        await conn.execute("select compress_chunk(%s::regclass, if_not_compressed => true)", (chunk,))
    return len(chunks)
