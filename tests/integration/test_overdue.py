"""hanse.overdue on a real TimescaleDB: who is silent beyond its own usual interval."""

import json
from datetime import timedelta

import psycopg
import pytest

from storage.migrate import migrate

MINUTE, HOUR = 60, 3600


@pytest.fixture
def conn(database):
    migrate(database)
    with psycopg.connect(database, autocommit=True) as made:
        made.execute("insert into store.city (key, name) values ('kiel', 'Kiel')")
        made.execute(
            "insert into store.property (key, unit, domain, kind, aggregation, minimum, maximum)"
            " values ('air_temperature', 'Cel', 'weather', 'gauge', 'mean', -45, 50)"
        )
        yield made


def sensor(conn, device, ages, parameters=None, pack=None, dialect="hanse"):
    """A datastream with a reading received so many seconds ago each; `pack`: seconds between readings of one pack."""
    (stream,) = conn.execute(
        "insert into store.datastream (city_id, device, channel, property_id, raw_key, raw_unit, dialect, parameters)"
        " select city_id, %s, '', property_id, '', '', %s, %s from store.city, store.property returning datastream_id",
        (device, dialect, json.dumps(parameters or {})),
    ).fetchone()
    conn.execute(
        "insert into store.observation (datastream_id, quality, quality_tests, phenomenon_time, value, received_at)"
        " select %s, 1, 0, now() - make_interval(secs => age + %s * back), 1, now() - make_interval(secs => age)"
        "   from unnest(%s::int[]) age, generate_series(0, %s) back",
        (stream, pack or 0, list(ages), 5 if pack else 0),
    )


def overdue(conn):
    return {
        device: rest for device, *rest in conn.execute("select device, usual_interval, configured from hanse.overdue")
    }


def test_a_sensor_is_overdue_beyond_three_of_its_own_intervals(conn):
    sensor(conn, "slow", range(29 * MINUTE, 5 * HOUR, 10 * MINUTE))
    sensor(conn, "silent", range(31 * MINUTE, 5 * HOUR, 10 * MINUTE))
    sensor(conn, "hourly", range(2 * HOUR, 24 * HOUR, HOUR))
    assert overdue(conn) == {"silent": [timedelta(minutes=10), False]}


def test_a_fast_sensor_has_five_minutes_more_than_its_interval(conn):
    sensor(conn, "pausing", range(4 * MINUTE, 10 * MINUTE, 5))
    sensor(conn, "silent", range(6 * MINUTE, 12 * MINUTE, 5))
    assert list(overdue(conn)) == ["silent"]


def test_a_sensor_that_sends_packs_is_not_overdue_between_two(conn):
    sensor(conn, "packs", range(50 * MINUTE, 12 * HOUR, HOUR), pack=10 * MINUTE)
    assert overdue(conn) == {}


def test_one_long_gap_in_the_past_does_not_hide_a_silence(conn):
    ages = [*range(40 * MINUTE, 4 * HOUR, 10 * MINUTE), *range(30 * HOUR, 34 * HOUR, 10 * MINUTE)]
    sensor(conn, "after an outage", ages)
    assert list(overdue(conn)) == ["after an outage"]


def test_of_a_sensor_with_few_readings_nothing_is_said(conn):
    sensor(conn, "young", range(5 * HOUR, 10 * HOUR, HOUR))
    assert overdue(conn) == {}


def test_a_configured_interval_counts_from_the_first_reading(conn):
    sensor(conn, "told", [31 * MINUTE], {"interval_s": 600})
    sensor(conn, "patient", range(31 * MINUTE, 5 * HOUR, 10 * MINUTE), {"interval_s": 86400})
    assert overdue(conn) == {"told": [timedelta(minutes=10), True]}


def test_what_only_imports_filled_is_history_and_never_overdue(conn):
    sensor(conn, "history", range(40 * MINUTE, 5 * HOUR, 10 * MINUTE), dialect="import")
    sensor(conn, "live", range(40 * MINUTE, 5 * HOUR, 10 * MINUTE))
    assert list(overdue(conn)) == ["live"]


def test_a_sensor_that_the_city_file_calls_retired_is_not_overdue(conn):
    sensor(conn, "retired", range(40 * MINUTE, 5 * HOUR, 10 * MINUTE), {"retired": True})
    sensor(conn, "kept", range(40 * MINUTE, 5 * HOUR, 10 * MINUTE), {"retired": False})
    assert list(overdue(conn)) == ["kept"]


def test_a_sensor_silent_for_a_month_and_ten_times_what_is_allowed_counts_as_retired(conn):
    day = 24 * HOUR
    sensor(conn, "a month ago", range(31 * day, 31 * day + 5 * HOUR, 10 * MINUTE))
    sensor(conn, "lately", range(29 * day, 29 * day + 5 * HOUR, 10 * MINUTE))
    sensor(conn, "every fortnight", [50 * day], {"interval_s": 14 * day})
    assert set(overdue(conn)) == {"lately", "every fortnight"}


@pytest.mark.parametrize("told", ["1e400", "-1e400", '"often"', "null", "[1]", "0"])
def test_a_configured_interval_out_of_form_breaks_nothing(conn, told):
    conn.execute("set client_min_messages = 'error'")
    sensor(conn, "odd", range(40 * MINUTE, 5 * HOUR, 10 * MINUTE))
    conn.execute(f"update store.datastream set parameters = '{{\"interval_s\": {told}}}'")
    assert set(overdue(conn)) <= {"odd"}
    assert conn.execute("select device, age > allowed from hanse.overdue").fetchall() in ([], [("odd", True)])


def test_healthy_sensors_cost_one_index_probe_each(conn):
    """By the plan, not by the clock: the history of those heard of lately is never read."""
    sensor(conn, "healthy", range(0, 5 * HOUR, 10 * MINUTE))
    plan = conn.execute("explain (analyze, timing off, summary off, costs off) select * from hanse.overdue").fetchall()
    assert any("never executed" in line for (line,) in plan), "\n".join(line for (line,) in plan)
