"""The lifecycle on the Community edition: the same hours, and old chunks compressed by datastream."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from storage import __main__ as command
from storage.forget import Forgetting
from storage.replays import CORRECT
from tests.community.engine import NoEngineError, running
from tests.integration.rollups import AGGREGATIONS, city_differences, differences

# Readings of 40 days, an hour apart and rounded as sensors do, past the writer: this engine knows no COPY from afar.
FILL = """
insert into store.observation
select s, case when i % 50 = 0 then 3 else 1 end, 0,
       date_trunc('hour', now()) - make_interval(hours => i) + make_interval(mins => s),
       case s when 6 then 1000 - i when 7 then i % 2 else round((20 + 10 * sin(i / 20.0))::numeric, 1) end, now()
  from generate_series(1, 7) s, generate_series(1, 40 * 24) i
"""
LIFECYCLE = Path(__file__).parents[2] / "docs/operations/lifecycle.md"
PARTIAL = "select count(*) from _timescaledb_catalog.chunk where status & 8 > 0"
COMPRESSED = """
select count(*) filter (where is_compressed), count(*) filter (where range_end < now() - interval '32 days')
  from timescaledb_information.chunks where hypertable_name = 'observation'
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    """The address of an empty database of the Community edition, one connection at a time."""
    try:
        with running(tmp_path) as dsn:
            yield dsn
    except NoEngineError as error:
        pytest.fail(str(error))


@pytest.fixture
def run(engine: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("HANSE_DATABASE_DSN", engine)
    monkeypatch.setenv("HANSE_COMPRESS_AFTER", "P32D")

    def invoke(*args: str) -> str:
        done = CliRunner().invoke(command.main, args)
        assert done.exit_code == 0, done.output
        return done.output

    return invoke


def one(engine: str, query: str) -> tuple[Any, ...] | None:
    with psycopg.connect(engine, autocommit=True) as conn:
        cursor = conn.execute(query)
        return cursor.fetchone() if cursor.description else None


def fill(engine: str) -> None:
    """A datastream of each aggregation, 40 days long; stream and device have the property's number."""
    with psycopg.connect(engine, autocommit=True) as conn:
        conn.execute("insert into store.city (key, name, max_age) values ('kiel', 'Kiel', '31 days')")
        for aggregation in AGGREGATIONS:
            conn.execute(
                "insert into store.property (key, unit, domain, kind, aggregation, minimum, maximum)"
                f" values ('{aggregation}', '1', 'weather', 'gauge', '{aggregation}', 0, 1)"
            )
        conn.execute(
            "insert into store.datastream (city_id, device, channel, property_id, raw_key, raw_unit, dialect)"
            " select 1, 'd' || property_id, '', property_id, '', '', '' from store.property order by property_id"
        )
        conn.execute(FILL)


def test_old_chunks_are_compressed_take_late_readings_and_are_dropped_without_their_hours(engine, run, monkeypatch):
    run("migrate")
    fill(engine)
    assert "compress" in run("maintain", "--dry-run")
    run("maintain", "--once")
    compressed, old = one(engine, COMPRESSED) or (0, 0)
    assert compressed == old > 3
    with psycopg.connect(engine, autocommit=True) as conn:
        conn.execute("set timezone = 'UTC'")
        assert differences(conn) == city_differences(conn) == {}
        hour = conn.execute("select min(hour) + interval '1 hour' from store.observation_hour").fetchone()
        assert hour is not None
        at = hour[0] + timedelta(minutes=30)
        conn.execute("select store.batch_limits()")
        conn.execute("insert into store.observation values (1, 1, 0, %s, 99, %s)", (at, at))
        conn.execute("insert into store.rollup_dirty values (1, %s)", (hour[0],))
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute("insert into store.observation values (1, 1, 0, %s, 98, %s)", (at, at))
        merged = "insert into store.observation values (1, 1, 0, %s, 98, %s) on conflict do nothing"
        assert conn.execute(merged, (at, at)).rowcount == 0
        assert conn.execute(PARTIAL).fetchone() == (1,)
    run("maintain", "--once")
    assert one(engine, PARTIAL) == (0,)
    with psycopg.connect(engine, autocommit=True) as conn:
        conn.execute("set timezone = 'UTC'")
        assert differences(conn) == city_differences(conn) == {}
        assert conn.execute(
            "select maximum from store.observation_hour where hour = %s and datastream_id = 1", (hour[0],)
        ).fetchone() == (99.0,)

    # The city asks for less by now, so less may be kept; the hours stay.
    hours = one(engine, "select count(*) from store.observation_hour")
    one(engine, "update store.city set max_age = '10 days'")
    monkeypatch.setenv("HANSE_RAW_RETENTION", "P33D")
    assert "drop readings" in run("maintain", "--dry-run")
    run("maintain", "--once")
    assert one(engine, "select min(phenomenon_time) >= now() - interval '34 days' from store.observation") == (True,)
    assert one(engine, "select count(*) from store.observation_hour") == hours


def back_to_apache() -> list[str]:
    """The statements of the documentation, in order."""
    [block] = re.findall(r"```sql\n(select decompress_chunk.*?)```", LIFECYCLE.read_text(), re.DOTALL)
    return block.splitlines()


def test_compressed_readings_are_corrected_forgotten_and_unpacked_to_go_back(engine, run):
    run("migrate")
    fill(engine)
    run("maintain", "--once")
    old = "select min(phenomenon_time) + interval '2 hours' from store.observation where datastream_id = 1"
    with psycopg.connect(engine, autocommit=True) as conn:
        (at,) = conn.execute(old).fetchone() or (None,)
        assert at is not None
        moment = round(at.timestamp() * 1e6)
        before = conn.execute("select count(*), sum(value) from store.observation where datastream_id = 1").fetchone()
        standing = "select value from store.observation where datastream_id = 1 and phenomenon_time = %s"
        (was,) = conn.execute(standing, (at,)).fetchone() or (0,)
        # What a replay does with a conflicting value that is right (storage/replays.py).
        assert conn.execute(CORRECT, ([1], [moment], [was + 50], [1], [0], [moment])).rowcount == 1
        conn.execute("insert into store.rollup_dirty values (1, date_trunc('hour', %s::timestamptz))", (at,))
        after = conn.execute("select count(*), sum(value) from store.observation where datastream_id = 1").fetchone()
        assert before is not None
        assert after == (before[0], pytest.approx(before[1] + 50))
    run("maintain", "--once")
    with psycopg.connect(engine, autocommit=True) as conn:
        conn.execute("set timezone = 'UTC'")
        assert differences(conn) == city_differences(conn) == {}
    others = "select count(*), sum(datastream_id) from store.observation where datastream_id <> 2"
    kept = one(engine, others)
    with Forgetting(engine, "kiel", "d2") as forgetting:
        record = forgetting.run()
    assert (record["observations"], record["datastreams"]) == (40 * 24, 1)
    assert one(engine, "select count(*) from store.observation where datastream_id = 2") == (0,)
    assert one(engine, "select count(*) from store.observation_hour where datastream_id = 2") == (0,)
    assert one(engine, others) == kept
    for statement in back_to_apache():
        one(engine, statement)
    assert one(engine, "select count(*) filter (where is_compressed) from timescaledb_information.chunks") == (0,)
    assert one(engine, "select compression_enabled from timescaledb_information.hypertables "
                       "where hypertable_name = 'observation'") == (False,)  # fmt: skip
    assert one(engine, others) == kept
