"""Hours and days of cities on a real TimescaleDB: every aggregation, what changes them later, what fills them in."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import connection, lifecycle, maintain, rollups
from storage.forget import Forgetting
from storage.migrate import migrate, packaged
from storage.rows import StreamTable
from storage.settings import Retention
from storage.timescale import Writer
from tests.integration.batches import KIEL, TEMPERATURE, R, batch
from tests.integration.rollups import AGGREGATIONS, HOUR, city_differences, differences

BEFORE_CITIES = 6  # the last migration without them
BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
START = (NOW - timedelta(hours=50)).astimezone(BERLIN).replace(hour=0).astimezone(UTC)
STREAMS = 3  # of each aggregation: two in Kiel, one in Wismar
DIMENSIONS = """
insert into store.city (key, name) values ('kiel', 'Kiel'), ('wismar', 'Wismar');
insert into store.property (key, unit, domain, kind, aggregation, minimum, maximum)
select a, '1', case a when 'counter' then 'energy' else 'weather' end, 'gauge', a, 0, 1
  from unnest('{mean,sum,max,energy,direction,counter,state}'::text[]) with ordinality as u (a, n) order by n;
insert into store.datastream (city_id, device, channel, property_id, raw_key, raw_unit, dialect)
select c, d, '', p, '', '', '' from generate_series(1, 7) p,
       (values (1, 'one', 1), (1, 'two', 2), (2, 'one', 3)) as v (c, d, n) order by p, n
"""
Put = Callable[..., None]


def prepare(conn: psycopg.Connection[Any]) -> None:
    conn.execute("set timezone = 'UTC'")
    conn.execute(DIMENSIONS)
    conn.execute("update store.rollup_state set (threshold, materialized) = (%s, %s)", (START, START))


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    migrate(database)
    with psycopg.connect(database, autocommit=True) as made:
        prepare(made)
        yield made


def stream_of(aggregation: str, number: int) -> int:
    return AGGREGATIONS.index(aggregation) * STREAMS + number


def put(conn: psycopg.Connection[Any], aggregation: str, number: int, *readings: tuple[Any, ...]) -> None:
    """Readings as (minutes after START, value[, quality]) of an aggregation's first, second or third datastream, past
    the writer."""
    for minutes, value, *quality in readings:
        time, stream = START + timedelta(minutes=minutes), stream_of(aggregation, number)
        conn.execute(
            "insert into store.observation values (%s, %s, 0, %s, %s, %s)"
            " on conflict (datastream_id, phenomenon_time)"
            " do update set value = excluded.value, quality = excluded.quality",
            (stream, quality[0] if quality else 1, time, value, time),
        )
        conn.execute(
            "insert into store.rollup_dirty select %s, date_trunc('hour', %s::timestamptz) from store.rollup_state"
            " where %s < threshold",
            (stream, time, time),
        )


async def refreshed(database: str, upto: datetime) -> None:
    conn = await maintain.connect(database)
    try:
        await rollups.refresh(conn, upto)
    finally:
        await conn.close()


def values(conn: psycopg.Connection[Any], aggregation: str, city: str = "kiel", level: str = "hour") -> list[Any]:
    """(hours after START, value, total, datastreams)"""
    view, begins = ("city_hourly", "hour") if level == "hour" else ("city_daily", "day_start")
    found = conn.execute(
        f"select {begins}, value, total, datastreams from hanse.{view} where city = %s and property = %s order by 1",
        (city, aggregation),
    ).fetchall()
    return [
        ((at - START) / HOUR, *(None if v is None else round(v, 6) for v in (value, total)), streams)
        for at, value, total, streams in found
    ]


# Two datastreams of a city in one hour: what each has, and what the city makes of both.
CASES: dict[str, tuple[list[Any], list[Any], tuple[Any, ...]]] = {
    "mean": ([(0, 1.0), (1, 3.0), (2, 8.0)], [(5, 10.0)], (7.0, None, 2)),  # of stations, not of readings
    "sum": ([(0, 1.0), (1, 2.0)], [(5, 5.0)], (4.0, 8.0, 2)),
    "max": ([(0, 1.0), (1, 2.0)], [(5, 5.0)], (3.5, None, 2)),
    "energy": ([(0, 50.0)], [(5, 60.0)], (57.403627, None, 2)),
    "direction": ([(0, 350.0)], [(5, 30.0)], (10.0, None, 2)),
    "counter": ([(0, 100.0), (30, 104.0)], [(5, 7.0), (40, 1.0)], (2.5, 5.0, 2)),
    "state": ([(0, 1.0), (30, 0.0)], [(0, 1.0)], (0.75, None, 2)),
}


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
async def test_a_city_is_the_mean_of_its_datastreams_before_and_after_it_is_summed_up(database, conn, aggregation):
    first, second, (value, total, streams) = CASES[aggregation]
    put(conn, aggregation, 1, *first)
    put(conn, aggregation, 2, *second, (6, 99.0, 4), (7, None, 9))
    put(conn, aggregation, 3, (3, 200.0))  # another city's
    assert values(conn, aggregation) == [(0, value, total, streams)]
    assert values(conn, aggregation, level="day") == [(0, value, total, streams)]
    assert city_differences(conn) == {}
    await refreshed(database, START + HOUR)  # the hour is summed up, its day is under way
    assert conn.execute("select count(*) from store.city_hour").fetchone() == (2,)
    assert values(conn, aggregation) == values(conn, aggregation, level="day") == [(0, value, total, streams)]
    await refreshed(database, START + 26 * HOUR)  # the day too, though nothing came in its last hours
    assert conn.execute("select count(*) from store.city_day").fetchone() == (2,)
    assert values(conn, aggregation) == values(conn, aggregation, level="day") == [(0, value, total, streams)]
    assert city_differences(conn) == {}
    flags = conn.execute("select good, suspect, failed, missing, count from hanse.city_daily where city = 'kiel'")
    count = len(first) + len(second)
    assert flags.fetchall() == [(count, 0, 1, 1, count)]


@pytest.mark.parametrize("aggregation", ["mean", "sum", "max", "counter", "state", "direction"])
async def test_no_value_of_another_aggregation_stops_the_hours(database, conn, aggregation):
    """10 to the power of -5,000 W or 50,000 lx is no number, and nobody asked for it."""
    put(conn, aggregation, 1, (0, -50_000.0), (20, 50_000.0), (61, 90_000.0))
    for hours in (1, 30):
        assert differences(conn) == city_differences(conn) == {}
        shown = conn.execute("select resolution, datastreams from hanse.city_comparison order by 1").fetchall()
        assert shown == [("day", 1), ("hour", 1), ("hour", 1)]
        await refreshed(database, START + hours * HOUR)


async def test_a_level_far_out_of_range_stops_no_hour(database, conn):
    put(conn, "energy", 1, (0, -40_000.0), (20, 40_000.0))
    await refreshed(database, START + HOUR)
    assert conn.execute("select count(value) from hanse.city_hourly").fetchone() == (1,)


async def test_a_late_reading_enters_its_citys_hour_its_ended_day_and_the_counters_next_hour(database, conn):
    put(conn, "mean", 1, (0, 1.0))
    put(conn, "counter", 1, (10, 100.0), (130, 160.0))
    await refreshed(database, START + 30 * HOUR)
    assert values(conn, "counter") == [(0, 0.0, 0.0, 1), (2, 60.0, 60.0, 1)]
    put(conn, "mean", 2, (20, 3.0))
    put(conn, "counter", 1, (70, 130.0))
    await refreshed(database, START + 30 * HOUR)
    assert values(conn, "mean") == values(conn, "mean", level="day") == [(0, 2.0, None, 2)]
    assert values(conn, "counter") == [(0, 0.0, 0.0, 1), (1, 30.0, 30.0, 1), (2, 30.0, 30.0, 1)]
    assert city_differences(conn) == {}


async def test_a_corrected_modulus_reaches_hours_whose_readings_are_gone(database, conn):
    put(conn, "counter", 1, (0, 990.0), (61, 5.0))
    await refreshed(database, START + 30 * HOUR)
    assert values(conn, "counter") == [(0, 0.0, 0.0, 1), (1, 5.0, 5.0, 1)]
    conn.execute("delete from store.observation")
    conn.execute(
        "update store.datastream set parameters = '{\"modulus\": 1000}' where datastream_id = %s",
        (stream_of("counter", 1),),
    )
    await refreshed(database, START + 30 * HOUR)
    assert values(conn, "counter") == [(0, 0.0, 0.0, 1), (1, 15.0, 15.0, 1)]
    assert values(conn, "counter", level="day") == [(0, 15.0, 15.0, 1)]


async def test_a_forgotten_device_leaves_its_citys_sums_before_the_command_ends(database, conn):
    for n, value in ((1, 1.0), (2, 3.0), (3, 5.0)):
        put(conn, "mean", n, (0, value), (26 * 60, value), (45 * 60, value))
    put(conn, "sum", 1, (0, 1.0))  # this property's only datastream in Kiel that has readings
    await refreshed(database, START + 40 * HOUR)
    with Forgetting(database, "kiel", "one") as forgetting:
        forgetting.run()
    assert conn.execute("select count(*) from store.city_dirty").fetchone() == (0,)
    assert [row[1:] for row in values(conn, "mean")] == [(3.0, None, 1)] * 3
    assert [row[1:] for row in values(conn, "mean", level="day")] == [(3.0, None, 1)] * 2
    assert values(conn, "sum") == values(conn, "sum", level="day") == []
    assert [row[1:] for row in values(conn, "mean", "wismar")] == [(5.0, None, 1)] * 3
    assert city_differences(conn) == {}


async def test_a_device_forgotten_while_its_hour_is_summed_up_does_not_stay_in_the_citys(database, conn):
    for n, value in ((1, 1.0), (2, 3.0)):
        put(conn, "mean", n, (0, value))
    session = await maintain.connect(database)
    with Forgetting(database, "kiel", "one") as forgetting:
        async with session.transaction():
            await session.execute(rollups.ROLLUP, (START,))
            await session.execute(rollups.MATERIALIZED, (START,))
            await session.execute(rollups.SUM_UP_CITIES)
            running = asyncio.create_task(asyncio.to_thread(forgetting.run))
            while conn.execute("select count(*) from pg_locks where not granted").fetchone() == (0,):
                assert not running.done()
                await asyncio.sleep(0.01)
            with psycopg.connect(database) as other:
                other.execute("set lock_timeout = '100ms'")
                with pytest.raises(psycopg.errors.LockNotAvailable):  # each would lose what the other did not commit
                    other.execute(rollups.SUM_UP_CITIES)
        await running
    await session.close()
    assert values(conn, "mean") == [(0, 3.0, None, 1)]
    assert conn.execute("select value, datastreams from store.city_hour").fetchall() == [(3.0, 1)]


async def test_cities_hours_and_days_go_with_their_domain(database, conn):
    first = NOW - timedelta(days=120)
    conn.execute("update store.rollup_state set (threshold, materialized) = (%s, %s)", (first, first))
    for aggregation in ("mean", "counter"):
        minutes = [(first - START + n * timedelta(days=1)) / timedelta(minutes=1) for n in range(100)]
        put(conn, aggregation, 1, *((m, 1.0) for m in minutes))
    await refreshed(database, NOW)
    keep = Retention(
        database_dsn=database,
        raw_retention=timedelta(days=45),
        rollup_retention=timedelta(days=90),
        rollup_retention_by_domain={"energy": timedelta(days=50)},
    )
    session = await maintain.connect(database)
    await lifecycle.expire_hours(session, keep)
    await session.close()
    for table, begins in (("city_hour", "hour"), ("city_day", "day_start")):
        oldest = dict(
            conn.execute(
                f"select domain, now() - min({begins}) from store.{table} join store.property using (property_id)"
                " group by 1"
            ).fetchall()
        )
        assert timedelta(days=49) < oldest["energy"] < timedelta(days=52)
        assert timedelta(days=88) < oldest["weather"] < timedelta(days=92)


def downgraded(database: str, days: int) -> None:
    """A database from before there were hours of cities, with hours of some days."""
    migrate(database, packaged()[:BEFORE_CITIES])
    with psycopg.connect(database, autocommit=True) as conn:
        prepare(conn)
        conn.execute(
            "insert into store.observation select d, 1, 0, t, 50 + d, t from generate_series(1, 21) d,"
            " generate_series(%s, %s, interval '50 minutes') t",
            (START, START + timedelta(days=days)),
        )
        for n in range(days * 24):
            hour = START + n * HOUR
            conn.execute("select store.rollup_hour(%s)", (hour,))
        end = START + timedelta(days=days) - 5 * HOUR  # a day is under way
        conn.execute("delete from store.observation_hour where hour >= %s", (end,))
        conn.execute("update store.rollup_state set (threshold, materialized) = (%s, %s)", (end, end))


async def test_hours_from_before_a_migration_are_shown_at_once_and_filled_in_by_days(database):
    downgraded(database, 2)
    migrate(database)
    session = await maintain.connect(database)
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("set timezone = 'UTC'")
        assert city_differences(conn) == {}
        put(conn, "mean", 1, (30, -40.0))  # late, before its day is filled in
        await rollups.refresh(session, START + timedelta(days=2) - 3 * HOUR)
        assert city_differences(conn) == {}
        days = 0
        while await rollups.fill_cities(session):
            days += 1
            assert city_differences(conn) == {}
            put(conn, "mean", 1, (60 * days + 31, -40.0))
            await rollups.refresh(session)
        assert days > 1
        assert await rollups.cities_from(session) == "-infinity"
        assert city_differences(conn) == {}
        stored = conn.execute("select count(*), (select count(*) from store.city_day) from store.city_hour").fetchone()
        shown = conn.execute(
            "select (select count(*) from hanse.city_hourly), (select count(*) from hanse.city_daily)"
        ).fetchone()
        assert stored is not None
        assert shown is not None
        assert stored[0] == shown[0]  # everything is summed up by now: refresh went to the present
    await session.close()


async def test_ingest_never_waits_two_seconds_for_the_migration(database, monkeypatch):
    downgraded(database, 2)
    monkeypatch.setitem(connection.SESSION, "lock_timeout", "2s")
    monkeypatch.setattr("storage.schema.NEEDED", BEFORE_CITIES)  # a writer that was there before
    writer, table, at = Writer(database), StreamTable(), 0
    await writer.register([KIEL], [TEMPERATURE])
    migration = asyncio.create_task(asyncio.to_thread(migrate, database))
    while not migration.done() or at < 50:
        await writer.commit(batch(table, [R("a", at, 1.0)], at=at))
        at += 1
    assert await migration == packaged()[BEFORE_CITIES:]
    await writer.close()


# Anything may happen in any order; at the end cities equal their readings.
MINUTES = st.integers(0, 40 * 60)
STEP = st.one_of(
    st.tuples(
        st.just("put"),
        st.sampled_from(AGGREGATIONS),
        st.integers(1, STREAMS),
        MINUTES,
        st.integers(0, 300),
        st.sampled_from([1, 1, 2, 4]),
    ),
    st.tuples(st.just("refresh"), st.integers(0, 45)),
    st.tuples(st.just("modulus"), st.integers(1, STREAMS), st.sampled_from([100, 1000])),
    st.tuples(st.just("forget"), st.sampled_from(["kiel", "wismar"]), st.sampled_from(["one", "two"])),
    st.tuples(st.just("interrupted")),
)


@pytest.fixture(scope="module")
def played(postgres: Any) -> Iterator[str]:
    dsn = postgres.create_database("cities_played")
    migrate(dsn)
    yield dsn
    postgres.drop_database("cities_played")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, min_size=5, max_size=30))
def test_cities_equal_their_readings_whatever_happens_in_whatever_order(played, steps):
    with psycopg.connect(played, autocommit=True) as conn:
        conn.execute(
            "truncate store.observation, store.observation_hour, store.city_hour, store.city_day, store.rollup_dirty,"
            " store.city_dirty, store.city, store.property, store.datastream, store.forgotten, store.ledger,"
            " store.dead_message, store.dead_letter, store.dead_letter_bytes, store.dead_letter_purge,"
            " store.datastream_quota restart identity"
        )
        prepare(conn)
        for step in steps:
            play(played, conn, step)
        asyncio.run(refreshed(played, START + 45 * HOUR))
        assert differences(conn) == city_differences(conn) == {}
        assert conn.execute("select count(*) from store.city_dirty").fetchone() == (0,)


def play(dsn: str, conn: psycopg.Connection[Any], step: tuple[Any, ...]) -> None:
    match step:
        case ("put", aggregation, number, minutes, value, flag):
            if (
                conn.execute(
                    "select from store.datastream where datastream_id = %s", (stream_of(aggregation, number),)
                ).fetchone()
                is not None
            ):
                put(conn, aggregation, number, (minutes, float(value), flag))
        case ("refresh", hours):
            asyncio.run(refreshed(dsn, START + hours * HOUR))
        case ("modulus", number, modulus):
            change = "update store.datastream set parameters = jsonb_build_object('modulus', %s::int)"
            with psycopg.connect(dsn, autocommit=True) as fresh:  # one that saw no datastream go
                fresh.execute(f"{change} where datastream_id = %s", (modulus, stream_of("counter", number)))
        case ("forget", city, device):
            with Forgetting(dsn, city, device) as forgetting:
                forgetting.run()
        case _:  # a refresher that dies before its transaction ends
            asyncio.run(given_up(dsn))


async def given_up(dsn: str) -> None:
    session = await maintain.connect(dsn)
    async with session.transaction() as transaction:
        await rollups.repair_some(session)
        raise psycopg.Rollback(transaction)
    await session.close()
