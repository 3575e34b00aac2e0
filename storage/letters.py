"""Dead letters as an operator sees them: pages, counts, one in full, purged for good, or marked as being replayed.

A page starts after the last letter of the one before (its receive time and id) and probes the index once for each city
and reason, so that it costs the same at any depth and with ten million letters. Of an MQTT topic no letter knows, so a
page by topic is looked for where it is cheapest: among the chosen letters if they are few, else among the newest
messages, else by the topics that the filter takes. Purging works in small transactions and tells dead_letter_purge what
the ledger goes on counting.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import dict_row

from storage import connection, topics
from storage.errors import Refused, outcome
from storage.weights import MessageKey, Scales

PURGE_AT_ONCE = 2_000
FEW = 5_000  # letters, or messages, that are gone through one by one in no time
STATES = ("open", "replaying", "closed")

_COLUMNS = """
l.letter_id, c.key as city, l.reason, l.detail, l.device, l.channel, l.raw_key, l.raw_value, l.raw_unit,
l.phenomenon_time, l.received_at, l.created_at, l.state, l.replayed_at, l.outcome, l.topic, l.partition, l."offset",
l.reading, m.mqtt_topic, m.retained, m.stub, m.masked, (extract(epoch from l.received_at) * 1000)::int8 as received_ms
"""
_MESSAGE = """
left join store.dead_message m on m.topic = l.topic and m.partition = l.partition and m."offset" = l."offset"
                              and m.received_at = l.received_at
"""
_WHERE = """
l.state = %(state)s and (%(cities)s::text[] is null or c.key = any(%(cities)s))
  and (%(reasons)s::text[] is null or l.reason = any(%(reasons)s))
  and (%(ids)s::int8[] is null or l.letter_id = any(%(ids)s))
  and l.received_at >= %(since)s and l.received_at < %(until)s
"""
# Known before a letter is looked up.
_OF_CITIES = """
(%(cities)s::text[] is null
 or m.city_id in (select k.city_id from store.city k where k.key = any(%(cities)s)))
"""
# A scalar: a join might be turned round, and read all messages first.
_MATCHING = """
and (select n.mqtt_topic ~ %(regex)s from store.dead_message n
      where n.topic = l.topic and n.partition = l.partition and n."offset" = l."offset"
        and n.received_at = l.received_at)
"""
# Every pair of city and reason that has letters, found by skipping through the index.
_PAIRS = """
with recursive pair as (
  (select city_id, reason from store.dead_letter where state = %(state)s order by city_id, reason limit 1)
  union all
  select n.city_id, n.reason from pair p cross join lateral (
    select l.city_id, l.reason from store.dead_letter l
     where l.state = %(state)s and (l.city_id, l.reason) > (p.city_id, p.reason)
     order by l.city_id, l.reason limit 1) n)
"""
_BY_PAIR = """
{pairs}
select {columns} from (
  select l.* from pair
    join store.city c using (city_id)
   cross join lateral (
     select l.* from store.dead_letter l
      where l.state = %(state)s and l.city_id = pair.city_id and l.reason = pair.reason
        and l.received_at >= %(since)s and l.received_at < %(until)s
        and (l.received_at, l.letter_id) {after} (%(at)s, %(id)s)
        {matching}
      order by l.received_at {way}, l.letter_id {way} limit %(limit)s) l
   where (%(cities)s::text[] is null or c.key = any(%(cities)s))
     and (%(reasons)s::text[] is null or pair.reason = any(%(reasons)s))
   order by l.received_at {way}, l.letter_id {way} limit %(limit)s) l
  join store.city c on c.city_id = l.city_id
  {message}
 order by l.received_at {way}, l.letter_id {way}
"""
# Whether no more than a few letters are chosen by all but the topic.
_CHOSEN = """
{pairs}
select count(*) from (
  select from pair join store.city c using (city_id)
   cross join lateral (
     select from store.dead_letter l
      where l.state = %(state)s and l.city_id = pair.city_id and l.reason = pair.reason
        and l.received_at >= %(since)s and l.received_at < %(until)s limit %(few)s + 1) l
   where (%(cities)s::text[] is null or c.key = any(%(cities)s))
     and (%(reasons)s::text[] is null or pair.reason = any(%(reasons)s)) limit %(few)s + 1) l
"""
# Full only where the filter takes much; those of one receive time stay together.
_AMONG_NEWEST = """
select {columns} from (
  select * from store.dead_message m
   where m.received_at >= %(since)s and m.received_at < %(until)s and m.received_at {after}= %(at)s
   order by m.received_at {way} fetch first %(few)s rows with ties) m
  join store.dead_letter l on l.topic = m.topic and l.partition = m.partition and l."offset" = m."offset"
                          and l.received_at = m.received_at
  join store.city c on c.city_id = l.city_id
 where m.mqtt_topic ~ %(regex)s and {of_cities} and {where} and (l.received_at, l.letter_id) {after} (%(at)s, %(id)s)
 order by l.received_at {way}, l.letter_id {way} limit %(limit)s
"""
_OF_A_TOPIC = """
select {what} from store.dead_message m
  join store.dead_letter l on l.topic = m.topic and l.partition = m.partition and l."offset" = m."offset"
                          and l.received_at = m.received_at
  join store.city c on c.city_id = l.city_id
 where left(m.mqtt_topic, 200) collate "C" = t.topic and m.mqtt_topic ~ %(regex)s and {of_cities}
   and m.received_at >= %(since)s and m.received_at < %(until)s and m.received_at {after}= %(at)s
   and {where} and (l.received_at, l.letter_id) {after} (%(at)s, %(id)s)
 order by m.received_at {way}, l.letter_id {way}
"""
# A page of so many letters is of the so many topics whose own next letter comes first.
_TOPICS_AHEAD = """
select t.topic from unnest(%(topics)s::text[]) as t (topic)
 cross join lateral ({of_a_topic} limit 1) l
 order by l.received_at {way}, l.letter_id {way} limit %(limit)s
"""
_BY_TOPIC = """
select {columns} from unnest(%(topics)s::text[]) as t (topic)
 cross join lateral ({of_a_topic} limit %(limit)s) l
 cross join lateral (select l.mqtt_topic, l.retained, l.stub, l.masked) m
  join store.city c on c.city_id = l.city_id
 order by l.received_at {way}, l.letter_id {way} limit %(limit)s
"""
_BY_ID = """
select {columns} from store.dead_letter l join store.city c using (city_id) {message}
 where {where} and (l.received_at, l.letter_id) {after} (%(at)s, %(id)s)
 order by l.received_at {way}, l.letter_id {way} limit %(limit)s
"""
ONE = f"""
select {_COLUMNS}, m.payload from store.dead_letter l join store.city c using (city_id) {_MESSAGE}
 where l.letter_id = %s
"""  # noqa: S608  (constants)
PAYLOADS = """
select topic, partition, "offset", (extract(epoch from received_at) * 1000)::int8, payload
  from store.dead_message join unnest(%s::text[], %s::int4[], %s::int8[], %s::int8[])
       as a (topic, partition, "offset", received_ms) using (topic, partition, "offset")
 where received_at = 'epoch'::timestamptz + received_ms * interval '1 millisecond'
"""
STATS = """
select c.key as city, l.state, l.reason, count(*) as letters, min(l.received_at) as oldest, max(l.received_at) as newest
  from store.dead_letter l join store.city c using (city_id)
 where %(cities)s::text[] is null or c.key = any(%(cities)s) group by 1, 2, 3 order by 1, 2, 3
"""
PURGED = """
select c.key as city, p.state, p.reason, sum(p.letters)::int8 as letters, max(p.purged_at) as last
  from store.dead_letter_purge p join store.city c using (city_id)
 where %(cities)s::text[] is null or c.key = any(%(cities)s) group by 1, 2, 3 order by 1, 2, 3
"""
DELETE = """
with gone as (delete from store.dead_letter where letter_id = any(%s) and state = %s returning city_id, reason, state)
insert into store.dead_letter_purge (city_id, reason, state, letters)
select city_id, reason, state, count(*) from gone group by city_id, reason, state order by 1, 2
returning letters
"""
DELETE_MESSAGES = """
delete from store.dead_message m using unnest(%s::text[], %s::int4[], %s::int8[], %s::int8[])
       as a (topic, partition, "offset", received_ms)
 where m.topic = a.topic and m.partition = a.partition and m."offset" = a."offset"
   and m.received_at = 'epoch'::timestamptz + a.received_ms * interval '1 millisecond'
   and not exists (select from store.dead_letter l where l.topic = m.topic and l.partition = m.partition
                      and l."offset" = m."offset" and l.received_at = m.received_at)
"""
# Only letters that nobody replayed, and no processor handled, since they were read.
MARK = """
update store.dead_letter l set state = 'replaying'
  from unnest(%s::int8[], %s::timestamptz[]) as a (letter_id, replayed_at)
 where l.letter_id = a.letter_id and l.state = 'open' and l.replayed_at is not distinct from a.replayed_at
"""
HANDLED = """
select letter_id, state, outcome from store.dead_letter where letter_id = any(%s) and state <> 'replaying'
"""

Letter = dict[str, Any]
Connection = psycopg.AsyncConnection[Any]


class Wanted(NamedTuple):
    """Which letters; None or empty takes all. `topic`: an MQTT topic, or a filter with + and #."""

    state: str = "open"
    cities: Sequence[str] = ()
    reasons: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    topic: str | None = None
    ids: Sequence[int] = ()


class Place(NamedTuple):
    """Where a page ends, and the next one goes on."""

    received_at: str
    letter_id: int

    @classmethod
    def of(cls, letter: Letter) -> "Place":
        """The place of a letter."""
        return cls(letter["received_at"].isoformat(), letter["letter_id"])


NEWEST, OLDEST = Place("infinity", 2**63 - 1), Place("-infinity", 0)


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Connection]:
    """A connection for an operator's command; its errors leave as Unavailable or Refused."""
    try:
        conn = await connection.connect(dsn, "hanse-letters")
        try:
            yield conn
        finally:
            await conn.close()
    except (psycopg.Error, OSError) as error:
        raised = outcome(error)
        if raised is error:
            raise
        raise raised from error


async def check_cities(conn: Connection, cities: Sequence[str]) -> None:
    """Raise Refused for a city that the database does not know: it would choose nothing, and say so of all."""
    known = [key for (key,) in await (await conn.execute("select key from store.city order by key")).fetchall()]
    if unknown := sorted(set(cities) - set(known)):
        raise Refused(f"the database has no city {unknown[0]!r}; it has {', '.join(known) or 'none at all'}")


async def page(
    conn: Connection, wanted: Wanted, *, limit: int, after: Place | None = None, oldest_first: bool = False
) -> list[Letter]:
    """The next letters after a place, without their payloads."""
    words = {
        "pairs": _PAIRS,
        "columns": _COLUMNS,
        "message": _MESSAGE,
        "where": _WHERE,
        "of_cities": _OF_CITIES,
        "way": "asc" if oldest_first else "desc",
        "after": ">" if oldest_first else "<",
        "matching": "",
    }
    # The index is entered at the place, so the place must be no further away than the time asked for.
    first = wanted.since if oldest_first else wanted.until
    at = after or (OLDEST if oldest_first else NEWEST)
    if after is None and first is not None:
        at = Place(first.isoformat(), 0)
    values = _values(wanted) | {"at": at.received_at, "id": at.letter_id, "limit": limit, "few": FEW}
    if wanted.ids:
        return await _letters(conn, _BY_ID.format(**words), values)
    if wanted.topic is None:
        return await _letters(conn, _BY_PAIR.format(**words), values)
    values["regex"] = topics.regex(wanted.topic)
    if not topics.is_exact(wanted.topic):
        chosen = await (await conn.execute(_CHOSEN.format(**words), values)).fetchone()
        assert chosen is not None
        if chosen[0] <= FEW:
            return await _letters(conn, _BY_PAIR.format(**words | {"matching": _MATCHING}), values)
        found = await _letters(conn, _AMONG_NEWEST.format(**words), values)
        if len(found) == limit:
            return found
    return await _by_topic(conn, wanted.topic, words, values)


async def _letters(conn: Connection, query: str, values: Mapping[str, Any]) -> list[Letter]:
    cursor = conn.cursor(row_factory=dict_row)
    await cursor.execute(query, values)
    return await cursor.fetchall()


async def _by_topic(
    conn: Connection, topic_filter: str, words: Mapping[str, str], values: Mapping[str, Any]
) -> list[Letter]:
    """A page of the topics that a filter takes, however few letters they have."""
    known = (
        [topic_filter[: topics.KNOWN]] if topics.is_exact(topic_filter) else await topics.matching(conn, topic_filter)
    )
    if len(known) > 1:
        ahead = _OF_A_TOPIC.format(**words, what="l.received_at, l.letter_id")
        cursor = await conn.execute(_TOPICS_AHEAD.format(**words, of_a_topic=ahead), {**values, "topics": known})
        known = [name for (name,) in await cursor.fetchall()]
    whole = _OF_A_TOPIC.format(**words, what="l.*, m.mqtt_topic, m.retained, m.stub, m.masked")
    return await _letters(conn, _BY_TOPIC.format(**words, of_a_topic=whole), {**values, "topics": known})


def _values(wanted: Wanted) -> dict[str, Any]:
    return {
        "state": wanted.state,
        "cities": list(wanted.cities) or None,
        "reasons": list(wanted.reasons) or None,
        "ids": list(wanted.ids) or None,
        "since": wanted.since or "-infinity",
        "until": wanted.until or "infinity",
    }


async def one(conn: Connection, letter_id: int) -> Letter | None:
    """A letter with its payload (None where it was purged), or None."""
    cursor = conn.cursor(row_factory=dict_row)
    await cursor.execute(ONE, (letter_id,))
    return await cursor.fetchone()


def key_of(letter: Letter) -> MessageKey:
    """The message that a letter belongs to."""
    return MessageKey(letter["topic"], letter["partition"], letter["offset"], letter["received_ms"])


async def payloads(conn: Connection, letters: Collection[Letter]) -> Mapping[MessageKey, bytes]:
    """The payloads of letters, once a message; what was purged is absent."""
    keys = sorted({key_of(letter) for letter in letters})
    cursor = conn.cursor(binary=True)
    await cursor.execute(PAYLOADS, [list(column) for column in zip(*keys, strict=True)] or [[], [], [], []])
    return {MessageKey(*key): payload for *key, payload in await cursor.fetchall()}


async def stats(conn: Connection, cities: Sequence[str] = ()) -> dict[str, list[Letter]]:
    """Letters by city, state and reason, and those purged."""
    cursor = conn.cursor(row_factory=dict_row)
    values = {"cities": list(cities) or None}
    found = await (await cursor.execute(STATS, values)).fetchall()
    return {"letters": found, "purged": await (await cursor.execute(PURGED, values)).fetchall()}


async def purge(conn: Connection, letters: Collection[Letter], state: str) -> int:
    """Delete letters that are still in this state, and messages that have none left; returns how many letters."""
    keys = sorted({key_of(letter) for letter in letters})
    scales = Scales(keys)
    async with conn.transaction():
        await scales.lock(conn)
        cursor = await conn.execute(DELETE, ([letter["letter_id"] for letter in letters], state))
        gone = sum(int(count) for (count,) in await cursor.fetchall())
        await scales.settle(conn)
        await conn.execute(DELETE_MESSAGES, [list(column) for column in zip(*keys, strict=True)] or [[], [], [], []])
    return gone


async def mark(conn: Connection, letters: Collection[Letter]) -> None:
    """Note that Kafka has these letters once more; those that a processor has handled already stay as they are."""
    scales = Scales([key_of(letter) for letter in letters])
    async with conn.transaction():
        await scales.lock(conn)
        values = [letter["letter_id"] for letter in letters], [letter["replayed_at"] for letter in letters]
        await conn.execute(MARK, values)
        await scales.settle(conn)


async def handled(conn: Connection, ids: Collection[int]) -> dict[int, tuple[str, str]]:
    """State and outcome of those letters that are not on their way any more."""
    cursor = await conn.execute(HANDLED, (list(ids),))
    return {letter_id: (state, told or "") for letter_id, state, told in await cursor.fetchall()}
