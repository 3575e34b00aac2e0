"""The plans that the promised answers rest on: what they read, and which chunks they leave out."""

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from storage.migrate import migrate
from tests.integration.test_lifecycle import FILL

# Two years of a city's hours in chunks of 90 days, as if they had been summed up; readings and hours as in FILL.
FILL_CITIES = """
insert into store.city_hour
select c, p, 50, 50, 0, 0, 0, 0, h, 1, 1, 1, null from generate_series(1, 2) c, generate_series(1, 2) p,
       generate_series(date_trunc('hour', now(), 'UTC') - interval '730 days', now() - interval '1 hour', '6 hours') h
"""


@pytest.fixture(scope="module")
def conn(postgres: Any) -> Iterator[psycopg.Connection[Any]]:
    dsn = postgres.create_database("plans")
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as made:
        made.execute(FILL)
        made.execute(FILL_CITIES)
        made.execute("vacuum analyze")
        yield made
    postgres.drop_database("plans")


def run(conn: psycopg.Connection[Any], query: str) -> tuple[str, dict[str, set[str]]]:
    """The plan, and the chunks of each hypertable that were really read."""
    rows = conn.execute(f"explain (analyze, costs off, timing off) {query}").fetchall()
    read: dict[str, set[str]] = {"observation": set(), "observation_hour": set(), "city_hour": set()}
    names = dict(
        conn.execute(
            "select chunk_name, hypertable_name from timescaledb_information.chunks where hypertable_schema = 'store'"
        ).fetchall()
    )
    for (line,) in rows:
        if (found := re.search(r" on (_hyper_\d+_\d+_chunk)", line)) and "never executed" not in line:
            read[names[found[1]]].add(found[1])
    return "\n".join(row[0] for row in rows), read


def chunks(conn: psycopg.Connection[Any], table: str) -> int:
    row = conn.execute(
        "select count(*) from timescaledb_information.chunks where hypertable_name = %s", (table,)
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_the_latest_of_a_city_looks_into_the_newest_chunks_alone(conn):
    text, read = run(conn, "select * from hanse.latest where city = 'kiel'")
    assert chunks(conn, "observation") > 20
    assert 1 <= len(read["observation"]) <= 2, text


def test_a_range_of_one_datastreams_readings_looks_into_its_days_alone(conn):
    text, read = run(
        conn,
        "select * from hanse.observations where datastream_id = 7 and phenomenon_time >= now() - interval '5 days'",
    )
    assert 5 <= len(read["observation"]) <= 6, text
    assert "observation_key" in text


def test_a_year_of_a_city_is_read_from_its_own_index_and_from_no_datastreams_hours(conn):
    text, read = run(
        conn,
        "select * from hanse.city_hourly where city = 'kiel' and property = 'air_temperature'"
        " and hour >= now() - interval '365 days'",
    )
    assert chunks(conn, "city_hour") >= 9
    assert 4 <= len(read["city_hour"]) <= 6, text
    assert len(re.findall(r"Index Only Scan using _hyper_\d+_\d+_chunk_city_hour_key", text)) >= len(read["city_hour"])
    assert read["observation_hour"] == set(), text
    assert len(read["observation"]) <= 2, text  # the hour under way


@pytest.mark.parametrize("resolution", ["hour", "day"])
def test_a_month_of_all_cities_is_read_from_their_own_hours_and_days(conn, resolution):
    text, read = run(
        conn,
        f"select * from hanse.city_comparison where resolution = '{resolution}' and property = 'air_temperature'"
        " and begins >= now() - interval '31 days'",
    )
    assert 1 <= len(read["city_hour"]) <= 2 if resolution == "hour" else read["city_hour"] == set(), text
    # A day under way is made of its datastreams' hours.
    assert len(read["observation_hour"]) <= (0 if resolution == "hour" else 2), text
    assert len(read["observation"]) <= 2, text
