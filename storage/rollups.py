"""Keeps the hours right: the threshold that batches go by, the hours behind it, and hours that got late readings.

The order is the protocol. Raising the threshold waits for running batches and holds new ones back (the exclusive lock
against `batch_limits`' shared one), so a reading of an hour before it is either seen by whoever sums the hour up, or
its batch logs the hour in rollup_dirty. Entries of the log are deleted first and summed up afterwards, in one
transaction of several statements: each statement's snapshot is newer than the entries it makes up for.

Hours and days of cities are made of the datastreams' hours. What changes an hour logs its city's in city_dirty, and
`store.sum_up_cities` makes them anew as the transaction's last statement, so both levels are right at every commit.

One at a time may do this (`only_one`). Errors are psycopg's own; retrying is the caller's.
"""

from datetime import datetime
from typing import Any

import psycopg

LIMITS_LOCK = (7353, 1)  # batch_limits takes it shared
MAINTAINER_LOCK = (7353, 2)
# Entries of the log a transaction: some thousand hours of one datastream, or one hour of some thousand datastreams.
REPAIR_ENTRIES = 20_000
# Made up for in every cycle, an hour would be summed up again for each few of its late readings, and its cities too.
# So late hours wait until making up for them takes a thirtieth of the time, an hour at most; few of them a moment.
REPAIR_SHARE = 1 / 30
REPAIR_WAIT = 3_600.0

# Late by this much is still cheap: an hour is summed up once, and what comes later is logged.
SETTLED = "select date_trunc('hour', clock_timestamp() - interval '10 minutes', 'UTC')"
THRESHOLD_BEHIND = "select threshold < %s from store.rollup_state"
RAISE_THRESHOLD = "update store.rollup_state set threshold = greatest(threshold, %s)"
NEXT_HOUR = """
select greatest(materialized, dropped_before) from store.rollup_state
 where greatest(materialized, dropped_before) < threshold
"""
MATERIALIZED = "update store.rollup_state set materialized = %s::timestamptz + interval '1 hour'"
ROLLUP = "select store.rollup_hour(%s)"
REPAIR = "select store.repair_hours(%s)"
SUM_UP_CITIES = "select store.sum_up_cities()"
FILL_CITIES = "select store.fill_cities()"

Connection = psycopg.AsyncConnection[Any]


async def only_one(conn: Connection) -> bool:
    """Whether this session is now the one maintainer; it stays so until its connection ends."""
    row = await (await conn.execute("select pg_try_advisory_lock(%s, %s)", MAINTAINER_LOCK)).fetchone()
    assert row is not None
    return bool(row[0])


async def settled(conn: Connection) -> datetime:
    """The end of the last hour that is over for long enough, by the database's clock."""
    row = await (await conn.execute(SETTLED)).fetchone()
    assert row is not None
    found: datetime = row[0]
    return found


async def fence(conn: Connection) -> None:
    """Wait for running batches and hold new ones until this transaction ends; gives up rather than stall the ingest."""
    await conn.execute("set local lock_timeout = '2s'")
    await conn.execute("select pg_advisory_xact_lock(%s, %s)", LIMITS_LOCK)


async def advance(conn: Connection, upto: datetime) -> None:
    """Move the threshold to `upto`, never back; batches notice only when it moves."""
    row = await (await conn.execute(THRESHOLD_BEHIND, (upto,))).fetchone()
    if row is not None and row[0]:
        async with conn.transaction():
            await fence(conn)
            await conn.execute(RAISE_THRESHOLD, (upto,))


async def materialize_next(conn: Connection) -> bool:
    """Sum up the next hour before the threshold, in one transaction; False where none is left."""
    async with conn.transaction():
        row = await (await conn.execute(NEXT_HOUR)).fetchone()
        if row is None:
            return False
        await conn.execute(ROLLUP, (row[0],))
        await conn.execute(MATERIALIZED, (row[0],))
        await conn.execute(SUM_UP_CITIES)
    return True


def next_repair(began: float, ended: float) -> float:
    """When to make up for late hours again after it took from `began` to `ended`; all in seconds."""
    return ended + min(REPAIR_WAIT, (ended - began) / REPAIR_SHARE)


async def repair_some(conn: Connection) -> int:
    """Sum up again some of the hours that got late readings, in one transaction; how many entries went, 0 for none.

    Hours whose readings are dropped keep the sums they have.
    """
    async with conn.transaction():
        row = await (await conn.execute(REPAIR, (REPAIR_ENTRIES,))).fetchone()
        assert row is not None
        await conn.execute(SUM_UP_CITIES)
    return int(row[0])


async def sum_up_cities(conn: Connection) -> int:
    """What else city_dirty holds, after a datastream was forgotten or a modulus corrected; how many entries went."""
    entries = some = await _entries(conn)
    while some:
        entries += (some := await _entries(conn))
    return entries


async def _entries(conn: Connection) -> int:
    row = await (await conn.execute(SUM_UP_CITIES)).fetchone()
    assert row is not None
    return int(row[0])


async def fill_cities(conn: Connection) -> bool:
    """Sum up cities for one more day before those that are; False where nothing older is left. In one transaction."""
    row = await (await conn.execute(FILL_CITIES)).fetchone()
    assert row is not None
    return bool(row[0])


async def cities_from(conn: Connection) -> str:
    """Since when cities are summed up; `-infinity` once all is filled in."""
    row = await (await conn.execute("select cities_from::text from store.rollup_state")).fetchone()
    assert row is not None
    return str(row[0])


async def refresh(conn: Connection, upto: datetime | None = None) -> tuple[int, int]:
    """All of it, up to `upto` or what is settled: hours summed up, and entries of the log made up for."""
    await advance(conn, upto or await settled(conn))
    hours = 0
    while await materialize_next(conn):
        hours += 1
    entries = await repair(conn)
    await sum_up_cities(conn)
    return hours, entries


async def repair(conn: Connection) -> int:
    """Make up for what the log holds by now; what comes meanwhile may wait, or this would never end."""
    entries = some = await repair_some(conn)
    while some == REPAIR_ENTRIES:
        entries += (some := await repair_some(conn))
    return entries
