"""Datastreams, cities and properties by their ids: looked up, made under the quota, remembered once committed.

What a transaction learns becomes memory only once it committed: a sequence may hand a lost id to another device (rule
4). The statements run in the caller's transaction, those of `register` in one each.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg

from storage import devices
from storage.errors import Refused, Verdict, one_line, verdict
from storage.rows import NO_QUOTA, Batch, CityLimits, Describe, Facts, Property, Stream, StreamTable, clean
from storage.sheet import QUOTA, REJECTED

NAME_CHARACTERS = 300  # the table's own check
KEY_CHARACTERS = 300
HOUR = 3_600_000_000
DAY = 24 * HOUR
LAST_HOUR = 2**31 - 1  # since the epoch; still a time to PostgreSQL

FIND_CITIES = """
select key, name, ags, max_age, city_id, (extract(epoch from first_seen) * 1000000)::int8
  from store.city where key = any(%s)
"""
MAKE_CITIES = """
insert into store.city (key, name, ags, max_age)
select key, name, ags, max_age
  from unnest(%s::text[], %s::text[], %s::text[], %s::interval[]) as c (key, name, ags, max_age) order by key
on conflict (key) do update set name = excluded.name, ags = excluded.ags, max_age = excluded.max_age
"""
FIND_PROPERTIES = """
select key, unit, domain, kind, aggregation, minimum, maximum, property_id from store.property where key = any(%s)
"""
MAKE_PROPERTIES = """
insert into store.property (key, unit, domain, kind, aggregation, minimum, maximum)
select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::float8[])
       as p (key, unit, domain, kind, aggregation, minimum, maximum)
 order by key
on conflict (key) do nothing
"""

# One probe of the unique index a name. Without statistics, as in a young database, the planner would as gladly take the
# index on (property_id, city_id) and walk the whole city for each name: `+ 0` keeps it from that.
FIND = """
select n.place, d.datastream_id, d.raw_key, d.raw_unit, d.dialect
  from unnest(%s::int4[], %s::text[], %s::text[], %s::int4[])
       with ordinality as n (city_id, device, channel, property_id, place)
 cross join lateral (
   select * from store.datastream d
    where d.city_id = n.city_id and d.device = n.device and d.channel = n.channel and d.property_id + 0 = n.property_id
    limit 1) d
"""
# In the order of the key: two writers that make the same datastreams wait for each other, they do not deadlock.
MAKE = """
insert into store.datastream (city_id, device, channel, property_id, raw_key, raw_unit, dialect)
select * from unnest(%s::int4[], %s::text[], %s::text[], %s::int4[], %s::text[], %s::text[], %s::text[])
       as n (city_id, device, channel, property_id, raw_key, raw_unit, dialect)
 order by city_id, device, channel, property_id
on conflict (city_id, device, channel, property_id) do nothing
"""
LOCK_QUOTA = """
insert into store.datastream_quota as q (city_id, hour, used)
select city_id, 'epoch'::timestamptz + make_interval(hours => hour), 0
  from unnest(%s::int4[], %s::int4[]) as n (city_id, hour) order by city_id, hour
on conflict (city_id, hour) do update set used = q.used
returning city_id, (extract(epoch from hour) / 3600)::int4, used
"""
USE_QUOTA = """
update store.datastream_quota q set used = q.used + n.used
  from unnest(%s::int4[], %s::int4[], %s::int4[]) as n (city_id, hour, used)
 where q.city_id = n.city_id and q.hour = 'epoch'::timestamptz + make_interval(hours => n.hour)
"""
CHANGE = """
with changed as (
  select n.*
    from unnest(%s::int4[], %s::text[], %s::text[], %s::text[]) as n (datastream_id, raw_key, raw_unit, dialect)
    join store.datastream d using (datastream_id) order by datastream_id for no key update of d)
update store.datastream d set raw_key = c.raw_key, raw_unit = c.raw_unit, dialect = c.dialect
  from changed c where c.datastream_id = d.datastream_id
"""

Connection = psycopg.AsyncConnection[Any]


class City(NamedTuple):
    """A city as the database knows it; `first_seen` in microseconds since the epoch."""

    city_id: int
    first_seen: int
    new_datastreams_per_hour: int


class Names(NamedTuple):
    """A datastream as the table would hold it, with its number in the StreamTable and its first receive hour."""

    number: int
    city: str
    city_id: int
    device: str
    channel: str
    property_id: int
    stream: Stream
    received: int
    counted: bool  # on the quota; what a replay brings is exempt (rule 18)

    @property
    def hour(self) -> tuple[int, int]:
        """City and hour of receive time, on which the quota is counted; a gateway's clock may say anything."""
        return self.city_id, min(max(self.received // HOUR, 0), LAST_HOUR)


class Resolved(NamedTuple):
    """Ids by stream number, and the numbers that got none: verdict and detail. `made`: numbers of the new ones."""

    ids: npt.NDArray[np.int32]
    refused: dict[int, tuple[int, str]]
    made: npt.NDArray[np.int32] = np.zeros(0, np.int32)


async def register_cities(conn: Connection, cities: Sequence[CityLimits], *, write: bool = True) -> dict[str, City]:
    """Insert the cities that are missing, correct names, and return all of them by key.

    `write` False: nothing is changed, and one that is missing is left out.
    """
    keys = [c.key for c in cities]
    found = {row[0]: row for row in await (await conn.execute(FIND_CITIES, (keys,))).fetchall()}
    stale = [c for c in cities if c.key not in found or found[c.key][1:4] != (c.name, c.ags, c.max_age)]
    if stale and write:
        columns = [[c.key for c in stale], [c.name for c in stale], [c.ags for c in stale], [c.max_age for c in stale]]
        await conn.execute(MAKE_CITIES, columns)
        found = {row[0]: row for row in await (await conn.execute(FIND_CITIES, (keys,))).fetchall()}
    there = [c for c in cities if c.key in found]
    return {c.key: City(found[c.key][4], found[c.key][5], c.new_datastreams_per_hour) for c in there}


async def register_properties(
    conn: Connection, properties: Sequence[Property], *, write: bool = True
) -> dict[str, int]:
    """Insert the properties that are missing and return the ids of all by key.

    `write` False: nothing is changed, and one that is missing is refused. Raises Refused where the database holds
    another unit or aggregation: its rows are in that unit.
    """
    keys = [p.key for p in properties]
    found = {row[0]: row for row in await (await conn.execute(FIND_PROPERTIES, (keys,))).fetchall()}
    missing = [p for p in properties if p.key not in found]
    if missing and not write:
        raise Refused(
            f"property {missing[0].key!r} is new in this version; start a processor of it, or an import, before this"
        )
    if missing:
        await conn.execute(MAKE_PROPERTIES, [list(column) for column in zip(*missing, strict=True)])
        found = {row[0]: row for row in await (await conn.execute(FIND_PROPERTIES, (keys,))).fetchall()}
    for asked in properties:
        known = Property(*found[asked.key][:7])
        for what in ("unit", "aggregation"):
            there, here = getattr(known, what), getattr(asked, what)
            if there != here:
                raise Refused(
                    f"property {asked.key!r} has the {what} {there!r} in the database and {here!r} in the vocabulary; "
                    "stored rows can't change it: give the new meaning a name of its own"
                )
    return {key: row[7] for key, row in found.items()}


class Datastreams:
    """The memory of one writer: ids and newest times by stream number; `newest` is a guess that costs, never harms."""

    def __init__(
        self,
        cities: Mapping[str, City],
        properties: Mapping[str, int],
        describe: Describe = lambda _city, _device: Facts(),
    ) -> None:
        self._cities = cities
        self._describe = describe
        self._properties = properties
        self._table: StreamTable | None = None
        self._ids = np.zeros(0, np.int32)
        self.newest = np.zeros(0, np.int64)

    def _grow(self, batch: Batch) -> None:
        if batch.streams is not self._table:
            self._table, self._ids, self.newest = batch.streams, np.zeros(0, np.int32), np.zeros(0, np.int64)
        missing = len(batch.streams.streams) - len(self._ids)
        if missing > 0:  # half as much again, so that growing stays linear
            missing += len(self._ids) // 2
            self._ids = np.concatenate((self._ids, np.zeros(missing, np.int32)))
            self.newest = np.concatenate((self.newest, np.full(missing, np.iinfo(np.int64).min)))

    async def resolve(self, conn: Connection, batch: Batch) -> Resolved:
        """Ids of the batch's datastreams, made where they are new. The caller remembers them once it committed."""
        self._grow(batch)
        numbers, times = batch.columns.stream, batch.columns.received
        if batch.replays is not None:
            numbers = np.concatenate((numbers, batch.replays.columns.stream))
            times = np.concatenate((times, batch.replays.columns.received))
        unknown = self._ids[numbers] == 0
        if not unknown.any():
            return Resolved(self._ids, {})
        ids, refused = self._ids.copy(), dict[int, tuple[int, str]]()
        rows = np.flatnonzero(unknown)
        fresh, first = np.unique(numbers[rows], return_index=True)
        order = np.argsort(first)  # as they came: the quota goes to the first
        fresh, rows = fresh[order], rows[first[order]]
        counted = rows < len(batch.columns)
        asked = zip(fresh.tolist(), times[rows].tolist(), counted.tolist(), strict=True)
        names = self._names(batch.streams, asked, refused)
        await _find(conn, names, ids, batch.streams)
        missing = await self._within_quota(conn, [n for n in names if not ids[n.number]], refused)
        if missing:
            await _make(conn, missing, refused)
            await _find(conn, missing, ids, batch.streams)
            await devices.place(conn, {(n.city, n.city_id, n.device) for n in missing if ids[n.number]}, self._describe)
        await conn.execute("savepoint rows")
        return Resolved(ids, refused, np.array([n.number for n in missing], np.int32))

    def _names(
        self, table: StreamTable, numbers: Iterable[tuple[int, int, bool]], refused: dict[int, tuple[int, str]]
    ) -> list[Names]:
        names = []
        for number, received, counted in numbers:
            stream = table.streams[number]
            device, channel = clean(stream.device, NAME_CHARACTERS + 1), clean(stream.channel, NAME_CHARACTERS + 1)
            if max(len(device), len(channel)) > NAME_CHARACTERS:  # clipped, two devices might become one
                refused[number] = REJECTED, f"device or channel longer than {NAME_CHARACTERS} characters"
                continue
            city_id, property_id = self._cities[stream.city].city_id, self._properties[stream.property]
            names.append(Names(number, stream.city, city_id, device, channel, property_id, stream, received, counted))
        return names

    async def _within_quota(
        self, conn: Connection, names: list[Names], refused: dict[int, tuple[int, str]]
    ) -> list[Names]:
        """Those that may be made; the others are refused. Counts in rows locked until the transaction ends."""
        counted = [
            n
            for n in names
            if n.counted
            and self._cities[n.city].new_datastreams_per_hour != NO_QUOTA
            and n.received >= self._cities[n.city].first_seen + DAY
        ]
        if not counted:
            return names
        hours = sorted({n.hour for n in counted})
        cursor = await conn.execute(LOCK_QUOTA, ([h[0] for h in hours], [h[1] for h in hours]))
        left = {(city_id, hour): -used for city_id, hour, used in await cursor.fetchall()}
        granted: Counter[tuple[int, int]] = Counter()
        for name in counted:
            limit = self._cities[name.city].new_datastreams_per_hour
            if granted[name.hour] < limit + left[name.hour]:
                granted[name.hour] += 1
            else:
                refused[name.number] = QUOTA, f"{name.city} already has {limit} new datastreams in this hour"
        if granted:
            keys = sorted(granted)
            uses = [k[0] for k in keys], [k[1] for k in keys], [granted[k] for k in keys]
            await conn.execute(USE_QUOTA, uses)
        return [n for n in names if n.number not in refused]

    def remember(self, resolved: Resolved) -> None:
        """Keep ids that are committed."""
        self._ids = resolved.ids

    def changes(self, batch: Batch) -> dict[int, tuple[int, Stream]]:
        """Datastreams whose provenance is another than the table's: id and stream by number."""
        wanted = [n for n in list(batch.streams.changed) if n < len(self._ids) and self._ids[n]]
        return {n: (int(self._ids[n]), batch.streams.streams[n]) for n in wanted}


def _key_text(stream: Stream) -> tuple[str, str, str]:
    return clean(stream.raw_key, KEY_CHARACTERS), clean(stream.raw_unit, KEY_CHARACTERS), stream.dialect


async def _find(conn: Connection, names: list[Names], ids: npt.NDArray[np.int32], table: StreamTable) -> None:
    """Set the ids of those that exist; note where the provenance is another."""
    if not names:
        return
    params = [n.city_id for n in names], [n.device for n in names], [n.channel for n in names]
    cursor = conn.cursor(binary=True)
    await cursor.execute(FIND, (*params, [n.property_id for n in names]))
    for place, datastream_id, *provenance in await cursor.fetchall():
        name = names[place - 1]
        ids[name.number] = datastream_id
        if tuple(provenance) != _key_text(name.stream):
            table.changed.add(name.number)


async def _make(conn: Connection, names: list[Names], refused: dict[int, tuple[int, str]]) -> None:
    """Insert new datastreams; those that the database refuses are found by halving."""
    pieces = [names]
    while pieces:
        piece = pieces.pop()
        await conn.execute("savepoint datastreams")
        try:
            columns = zip(
                *((n.city_id, n.device, n.channel, n.property_id, *_key_text(n.stream)) for n in piece), strict=True
            )
            await conn.execute(MAKE, [list(column) for column in columns])
        except (psycopg.Error, UnicodeError) as error:
            if verdict(error) is not Verdict.DATA:
                raise
            await conn.execute("rollback to savepoint datastreams")
            if len(piece) == 1:
                refused[piece[0].number] = REJECTED, one_line(error)
            else:
                middle = len(piece) // 2
                pieces += [piece[middle:], piece[:middle]]
        await conn.execute("release savepoint datastreams")


async def write_changes(conn: Connection, changes: Mapping[int, tuple[int, Stream]]) -> None:
    """Store raw key, unit and dialect as last seen; may run within a pipeline."""
    ids = [datastream_id for datastream_id, _ in changes.values()]
    texts = [_key_text(stream) for _, stream in changes.values()]
    await conn.execute(CHANGE, (ids, *([t[i] for t in texts] for i in range(3))))
