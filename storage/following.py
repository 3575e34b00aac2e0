"""Tests over time in a batch's transaction: the states that memory lacks are read, and written where rows can't tell.

A datastream's state follows from its rows: witnesses are told by their flags, and each was newer than all before. So
nothing is written as long as readings come in order. Where the batch brought a late witness, one that was not stored,
or a replayed one, the state behind it is kept (`store.series_state`): from it the newer rows lead on. The statements
run in the caller's transaction.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg

from storage.datastreams import Resolved
from storage.rows import Batch
from storage.series import (
    FLAT,
    GOOD_TIME,
    GOOD_VALUE,
    LAST,
    LAST_TIME,
    MEMORY_US,
    NEVER,
    NOTHING,
    RATE,
    SINCE,
    SPIKE,
    Followed,
    Readings,
    Series,
    States,
    flagged,
    follow,
)
from storage.sheet import STORED, Verdicts, screen

DOUBTED_BEFORE = 1 | 2 | 8  # gross range, station range, source: the tests that make a reading no witness
TIME = "'epoch'::timestamptz + make_interval(secs => {0} / 1000000) + ({0} %% 1000000) * interval '1 microsecond'"
US = "(extract(epoch from {0}) * 1000000)::int8"
WITNESSES = f"""
store.observation o where o.datastream_id = a.id and o.phenomenon_time > f.floor
  and o.phenomenon_time > {TIME.format("%(oldest)s::int8")}
  and (o.quality in (1, 2)
       or o.quality = 3 and o.quality_tests & {SPIKE | RATE | FLAT} <> 0 and o.quality_tests & {DOUBTED_BEFORE} = 0)
"""
# The constant bound leaves out the chunks that can't matter. Only the rows of a value that stands still are walked.
LOAD = f"""
select a.place, {US.format("q.last_time")}, q.last_value, {US.format("q.good_time")}, q.good_value,
       {US.format("q.since")}, q.last_time >= f.oldest, {US.format("n.time")}, n.value, {US.format("g.time")}, g.value,
       {US.format("r.since")}, {US.format("r.first")}, c.time is not null
  from unnest(%(ids)s::int4[], %(floors)s::int8[], %(flats)s::int8[]) with ordinality as a (id, floor, flat, place)
  left join store.series_state q on q.datastream_id = a.id
 cross join lateral (
   select {TIME.format("a.floor")} as oldest, greatest({TIME.format("a.floor")}, q.last_time) as floor) f
  left join lateral (
   select o.phenomenon_time as time, o.value from {WITNESSES} order by o.phenomenon_time desc limit 1) n on true
  left join lateral (
   select o.phenomenon_time as time, o.value from {WITNESSES} and o.quality_tests & {SPIKE | RATE} = 0
      and n.time is not null order by o.phenomenon_time desc limit 1) g on true
  left join lateral (
   select o.phenomenon_time as time from {WITNESSES} and o.value <> n.value
      and a.flat > 0 order by o.phenomenon_time desc limit 1) c on true
  left join lateral (
   select max(s.time) filter (where s.gap is null or s.gap > a.flat / 1000000.0) as since, min(s.time) as first
     from (select o.phenomenon_time as time, extract(epoch from o.phenomenon_time
                    - lag(o.phenomenon_time) over (order by o.phenomenon_time)) as gap
             from {WITNESSES} and o.phenomenon_time > coalesce(c.time, '-infinity') and a.flat > 0) s
    where n.time is not null) r on true
"""  # noqa: S608  (constants)
KEEP = f"""
insert into store.series_state (datastream_id, last_time, last_value, good_time, good_value, since)
select id, {TIME.format("last_time")}, last_value, {TIME.format("good_time")}, good_value, {TIME.format("since")}
  from unnest(%s::int4[], %s::int8[], %s::float8[], %s::int8[], %s::float8[], %s::int8[])
    as s (id, last_time, last_value, good_time, good_value, since)
 order by id
on conflict (datastream_id) do update set last_time = excluded.last_time, last_value = excluded.last_value,
   good_time = excluded.good_time, good_value = excluded.good_value, since = excluded.since
"""  # noqa: S608  (constants)

Connection = psycopg.AsyncConnection[Any]


class Course(NamedTuple):
    """What the tests over time made of a batch; `batch` has their flags."""

    readings: Readings
    followed: Followed
    batch: Batch


async def test(
    conn: Connection, series: Series, batch: Batch, resolved: Resolved, found: Verdicts, retained_from: int
) -> Course | None:
    """Flag what is suspect beside the readings before it; None where the batch has nothing to test."""
    of_replays = None
    if batch.replays is not None:
        of_replays = screen(batch.replays.columns, resolved.ids, resolved.refused, retained_from).codes
    readings = series.readings(batch, found.codes, of_replays)
    if readings is None:
        return None
    unknown = series.unknown(readings, batch.spans)
    states, limits = series.states(readings), series.limits(readings)
    states[unknown] = NOTHING
    old = unknown[~np.isin(readings.streams[unknown], resolved.made)]  # what the batch makes has no rows yet
    if len(old):
        first = np.full(len(readings.streams), np.iinfo(np.int64).max)
        np.minimum.at(first, readings.group, readings.time)
        flats = np.nan_to_num(limits[old, 5]).astype(np.int64)
        states[old] = await _load(conn, resolved.ids[readings.streams[old]], first[old] - MEMORY_US - 1, flats)
    followed = follow(readings.group, readings.moment, readings.time, readings.value, limits, states)
    return Course(readings, followed, flagged(batch, readings, followed))


async def _load(
    conn: Connection, ids: npt.NDArray[np.int32], floors: npt.NDArray[np.int64], flats: npt.NDArray[np.int64]
) -> States:
    """The states of datastreams, from what is kept and the rows since; nothing before `floors` matters."""
    states = np.tile(NOTHING, (len(ids), 1))
    params = {"ids": ids.tolist(), "floors": floors.tolist(), "flats": flats.tolist(), "oldest": int(floors.min())}
    cursor = conn.cursor(binary=True)
    await cursor.execute(LOAD, params)
    for place, *row in await cursor.fetchall():
        states[place - 1] = _state(*row, flat=int(flats[place - 1]))
    return states


def _state(
    kept_time: int | None,
    kept: float | None,
    kept_good_time: int | None,
    kept_good: float | None,
    kept_since: int | None,
    leads_on: bool | None,  # noqa: FBT001  (a column of the row)
    time: int | None,
    value: float | None,
    good_time: int | None,
    good: float | None,
    since: int | None,
    first: int | None,
    changed: bool,  # noqa: FBT001  (a column of the row)
    *,
    flat: int,
) -> tuple[Any, ...]:
    """A state from the one that is kept and what the newer rows say."""
    if good_time is None:
        good_time, good = kept_good_time, kept_good
    if time is None:
        time, value, since = kept_time, kept, kept_since
    elif since is None:
        since = time
    elif since == first and not changed and leads_on and value == kept:
        assert kept_time is not None, "leads on"
        since = kept_since if since - kept_time <= flat else since
    nan = float("nan")
    return (
        NEVER if time is None else time,
        nan if value is None else value,
        NEVER if good_time is None else good_time,
        nan if good is None else good,
        NEVER if since is None else since,
    )


async def keep(conn: Connection, course: Course, ids: npt.NDArray[np.int32], found: Verdicts) -> None:
    """Write the states that the rows will not tell; may run within a pipeline."""
    readings, followed = course.readings, course.followed
    own = readings.place < len(course.batch.columns)
    apart = ~own
    apart[own] = followed.witness[own] != (found.codes[readings.place[own]] == STORED)
    groups = np.unique(readings.group[apart])
    if not len(groups):
        return
    states = followed.states[groups]
    good = (states[:, GOOD_TIME] != NEVER).tolist()
    good_time = np.where(good, states[:, GOOD_TIME], 0).astype(np.int64).tolist()
    await conn.execute(
        KEEP,
        (
            ids[readings.streams[groups]].tolist(),
            states[:, LAST_TIME].astype(np.int64).tolist(),
            states[:, LAST].tolist(),
            [one if known else None for one, known in zip(good_time, good, strict=True)],
            [one if known else None for one, known in zip(states[:, GOOD_VALUE].tolist(), good, strict=True)],
            states[:, SINCE].astype(np.int64).tolist(),
        ),
    )
