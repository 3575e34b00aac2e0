"""Hours and days on a real TimescaleDB: every aggregation, late readings, borders of hours and of days."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from storage import maintain, rollups
from storage.migrate import migrate
from tests.integration.rollups import AGGREGATIONS, HOUR, differences, shown

START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=30)
Put = Callable[..., None]


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    """A session on a migrated database with one datastream for each aggregation, numbered from 1 in that order."""
    migrate(database)
    with psycopg.connect(database, autocommit=True) as made:
        made.execute("set timezone = 'UTC'")
        made.execute("insert into store.city (key, name) values ('kiel', 'Kiel')")
        for aggregation in AGGREGATIONS:
            made.execute(
                "insert into store.property (key, unit, domain, kind, aggregation, minimum, maximum)"
                " values (%s, '1', %s, 'gauge', %s, 0, 1)",
                (aggregation, "energy" if aggregation == "counter" else "weather", aggregation),
            )
        made.execute(
            "insert into store.datastream (city_id, device, channel, property_id, raw_key, raw_unit, dialect)"
            " select 1, 'd', '', property_id, '', '', '' from store.property order by property_id"
        )
        begin(made, START - HOUR)
        yield made


def begin(conn: psycopg.Connection[Any], at: datetime) -> None:
    """Let the hours begin here, with nothing summed up."""
    conn.execute("update store.rollup_state set threshold = %s, materialized = %s", (at, at))


@pytest.fixture
def put(conn: psycopg.Connection[Any]) -> Put:
    """Write readings as (minutes after START, value, quality) of an aggregation's datastream, past the writer."""

    def write(aggregation: str, *readings: tuple[float, float | None] | tuple[float, float | None, int]) -> None:
        for minutes, value, *quality in readings:
            time = START + timedelta(minutes=minutes)
            stream = AGGREGATIONS.index(aggregation) + 1
            flag = quality[0] if quality else 1
            conn.execute(
                "insert into store.observation values (%s, %s, 0, %s, %s, %s)", (stream, flag, time, value, time)
            )
            conn.execute(
                "insert into store.rollup_dirty select %s, date_trunc('hour', %s::timestamptz) from store.rollup_state"
                " where %s < threshold",
                (stream, time, time),
            )

    return write


async def refreshed(database: str, upto: datetime | None = None) -> tuple[int, int]:
    conn = await maintain.connect(database)
    try:
        return await rollups.refresh(conn, upto)
    finally:
        await conn.close()


def hours(conn: psycopg.Connection[Any], aggregation: str) -> list[tuple[float, float | None]]:
    """(hours after START, value)"""
    stream = AGGREGATIONS.index(aggregation) + 1
    found = sorted((hour, e.value) for (of, hour), e in shown(conn).items() if of == stream)
    return [((hour - START) / HOUR, None if value is None else round(value, 9)) for hour, value in found]


# What each aggregation makes of its readings, and the same whether summed up before or computed in the view.
CASES = {
    "mean": ([(0, 1.0), (5, 2.0), (59, 6.0), (61, -4.0)], [(0, 3.0), (1, -4.0)]),
    "sum": ([(0, 0.2), (30, 0.4), (60, 1.5)], [(0, 0.6), (1, 1.5)]),
    "max": ([(0, 3.0), (30, 9.0), (45, 4.0)], [(0, 9.0)]),
    # 50 and 60 dB by turns: (1e5 + 1e6) / 2, not 55 dB.
    "energy": ([(0, 50.0), (30, 60.0)], [(0, round(57.403626894942434, 9))]),
    # 350 and 10 degrees are north, not south; opposite winds have no direction.
    "direction": ([(0, 350.0), (30, 10.0), (60, 90.0), (90, 270.0)], [(0, 0.0), (1, None)]),
    # Over the border of the hour, over an empty hour, and a reset to 0 in between.
    "counter": ([(0, 100.0), (50, 110.0), (65, 113.0), (190, 120.0), (200, 4.0)], [(0, 10.0), (1, 3.0), (3, 11.0)]),
    # On from minute 15 to 30 of the 45 that are known.
    "state": ([(15, 1.0), (30, 0.0), (75, 1.0)], [(0, round(15 / 45, 9)), (1, 1.0)]),
}


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
async def test_an_hour_is_the_same_before_and_after_it_is_summed_up(database, conn, put, aggregation):
    readings, expected = CASES[aggregation]
    put(aggregation, *readings)
    assert hours(conn, aggregation) == expected
    assert await refreshed(database) > (0, 0)
    assert conn.execute("select count(*) from store.observation_hour").fetchone() == (len(expected),)
    assert hours(conn, aggregation) == expected
    assert differences(conn) == {}


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
async def test_only_good_and_unchecked_readings_enter_and_every_flag_is_counted(database, conn, put, aggregation):
    put(aggregation, (0, 1.0, 1), (10, 1.0, 2), (20, 99.0, 3), (30, 99.0, 4), (40, None, 9), (70, 99.0, 4))
    for _ in range(2):
        found = shown(conn)
        first, second = (found[AGGREGATIONS.index(aggregation) + 1, START + n * HOUR] for n in (0, 1))
        assert first.flags == (1, 1, 1, 1, 1)
        assert (first.minimum, first.maximum) == (1.0, 1.0)
        assert first.value == {"sum": 2.0, "counter": 0.0}.get(aggregation, pytest.approx(1.0))
        assert second == (None, None, None, (0, 0, 0, 1, 0))
        await refreshed(database)


async def test_a_late_reading_enters_its_hour_and_the_counter_over_the_next_border(database, conn, put):
    put("mean", (0, 1.0))
    put("counter", (10, 100.0), (130, 160.0))
    await refreshed(database)
    assert hours(conn, "counter") == [(0, 0.0), (2, 60.0)]
    put("mean", (20, 3.0))
    put("counter", (70, 130.0))
    assert (await refreshed(database))[1] == 2
    assert hours(conn, "mean") == [(0, 2.0)]
    assert hours(conn, "counter") == [(0, 0.0), (1, 30.0), (2, 30.0)]
    assert differences(conn) == {}


async def test_a_late_hour_in_a_month_without_a_chunk_is_seen_by_the_next_hour(database, conn, put):
    put("counter", (0, 200.0))
    await refreshed(database)
    put("counter", (-60 * 24 * 60, 150.0))
    await refreshed(database)
    assert hours(conn, "counter") == [(-60 * 24, 0.0), (0, 50.0)]


async def test_a_correction_that_empties_an_hour_moves_the_counters_border(database, conn, put):
    put("counter", (0, 100.0), (60, 110.0), (120, 130.0))
    await refreshed(database)
    assert hours(conn, "counter") == [(0, 0.0), (1, 10.0), (2, 20.0)]
    conn.execute("update store.observation set quality = 4 where value = 110")
    conn.execute("insert into store.rollup_dirty values (6, %s)", (START + HOUR,))
    await refreshed(database)
    assert hours(conn, "counter") == [(0, 0.0), (1, None), (2, 30.0)]
    assert differences(conn) == {}


async def test_a_counter_with_a_modulus_rolls_over_and_one_that_is_set_later_is_applied(database, conn, put):
    put("counter", (0, 990.0), (30, 5.0), (60, 995.0), (90, 999.0), (119, 2.0))
    await refreshed(database)
    assert hours(conn, "counter") == [(0, 5.0), (1, 996.0)]
    conn.execute("update store.datastream set parameters = '{\"modulus\": 1000}' where datastream_id = 6")
    await refreshed(database)
    # 990 to 5 is 15 around; 5 to 995 is what it says; 999 to 2 is 3 around.
    assert hours(conn, "counter") == [(0, 15.0), (1, 997.0)]
    assert differences(conn) == {}


@pytest.mark.parametrize("modulus", ['"1000"', "-5", "0", "null", "[]"])
async def test_a_modulus_that_is_no_positive_number_is_none(conn, put, modulus):
    conn.execute("update store.datastream set parameters = format('{\"modulus\": %%s}', %s::text)::jsonb", (modulus,))
    put("counter", (0, 990.0), (30, 5.0))
    assert hours(conn, "counter") == [(0, 5.0)]


@pytest.mark.parametrize(("day", "length"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-07-01", 24)])
async def test_a_day_is_berlins_with_23_and_25_hours(database, conn, day, length):
    # From Berlin's midnight on, a reading an hour, and one in each of the days beside it.
    first = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
    conn.execute(
        "insert into store.observation select s, 1, 0, t, 1, t from generate_series(1, 7) s,"
        " generate_series(%s, %s, interval '1 hour') t",
        (first - HOUR, first + length * HOUR),
    )
    begin(conn, first - 2 * HOUR)
    for _ in range(2):
        found = conn.execute(
            "select aggregation, day_start, hours, value, count from hanse.daily where day = %s::date", (day,)
        ).fetchall()
        values = {"sum": pytest.approx(length), "counter": 0.0}
        assert {row[0]: row[1:] for row in found} == {
            a: (first, length, values.get(a, pytest.approx(1.0)), length) for a in AGGREGATIONS
        }
        await refreshed(database, first + (length + 1) * HOUR)


async def test_days_weigh_by_readings_levels_by_energy_and_states_by_time(database, conn, put):
    midnight = 60 * (24 - START.astimezone(ZoneInfo("Europe/Berlin")).hour) - 24 * 60
    put("energy", (midnight, 50.0), (midnight + 70, 60.0), (midnight + 71, 60.0), (midnight + 72, 60.0))
    put("direction", (midnight, 350.0), (midnight + 70, 10.0))
    put("state", (midnight + 45, 1.0), (midnight + 60, 0.0))
    begin(conn, START - 25 * HOUR)
    for _ in range(2):
        values = dict(conn.execute("select aggregation, value from hanse.daily").fetchall())
        # (1e5 + 3e6) / 4; the mean vector; on for a quarter of an hour of the one and a quarter that are known.
        north = min(values["direction"], 360 - values["direction"])
        assert (values["energy"], north, values["state"]) == pytest.approx((58.893017, 0, 0.2), abs=1e-6)
        await refreshed(database)


async def test_refreshing_twice_changes_nothing(database, conn, put):
    for aggregation, (readings, _) in CASES.items():
        put(aggregation, *readings)
    await refreshed(database)
    before = conn.execute("select * from store.observation_hour order by 1, 7").fetchall()
    assert await refreshed(database) == (0, 0)
    conn.execute("insert into store.rollup_dirty select datastream_id, hour from store.observation_hour")
    assert (await refreshed(database))[1] == len(before)
    assert conn.execute("select * from store.observation_hour order by 1, 7").fetchall() == before


def test_values_far_beyond_any_level_are_summed_up_too(conn, put):
    """Feeding into the grid, power is far below zero; the sum that levels are made of must not stop at it."""
    put("mean", (0, -9_000.0), (10, -1e7), (20, 1e7), (70, -4_000.0))

    assert differences(conn) == {}

    begin(conn, START + 2 * HOUR)
    for hour in (START, START + HOUR):
        conn.execute("select store.rollup_hour(%s)", (hour,))

    assert differences(conn) == {}
    assert shown(conn)[1, START].value == pytest.approx(-3_000.0)
