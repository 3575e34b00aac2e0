"""What maintenance drops, keeps and makes ahead, two maintainers at once, and the plans that the views rest on."""

import asyncio
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from storage import __main__ as command
from storage import lifecycle, maintain, rollups
from storage.errors import Refused
from storage.metrics import Upkeep
from storage.migrate import migrate
from storage.settings import Maintain, Retention

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
FILL = """
insert into store.city (key, name) values ('kiel', 'Kiel'), ('wismar', 'Wismar');
insert into store.property (key, unit, domain, kind, aggregation, minimum, maximum) values
  ('air_temperature', 'Cel', 'weather', 'gauge', 'mean', -50, 50),
  ('electric_energy_import', 'kW.h', 'energy', 'counter', 'counter', 0, 1e9);
insert into store.datastream (city_id, device, channel, property_id, raw_key, raw_unit, dialect)
select c, 'device ' || n, '', p, '', '', ''
  from generate_series(1, 2) c, generate_series(1, 2) p, generate_series(1, 50) n;
insert into store.observation
select d, 1, 0, t, 1, t
  from generate_series(1, 200) d, generate_series(now() - interval '20 days', now(), interval '6 hours') t;
update store.rollup_state set (threshold, materialized)
  = (date_trunc('hour', now(), 'UTC'), date_trunc('hour', now(), 'UTC'));
insert into store.observation_hour (datastream_id, good, unchecked, suspect, failed, missing, hour, total)
select d, 1, 0, 0, 0, 0, h, 1 from generate_series(1, 200) d,
       generate_series(date_trunc('hour', now(), 'UTC') - interval '100 days', now() - interval '1 hour', '1 day') h;
"""


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    migrate(database)
    with psycopg.connect(database, autocommit=True) as made:
        made.execute(FILL)
        made.execute("analyze")
        yield made


@pytest.fixture
def run(database: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("HANSE_DATABASE_DSN", database)
    return lambda *args: CliRunner().invoke(command.main, args)


def count(conn: psycopg.Connection[Any], query: str) -> Any:
    return (conn.execute(query).fetchone() or (None,))[0]


def plan(conn: psycopg.Connection[Any], query: str) -> str:
    return "\n".join(row[0] for row in conn.execute(f"explain {query}"))


def test_old_readings_go_with_their_chunks_and_their_hours_stay(conn, run, monkeypatch):
    conn.execute("update store.city set max_age = '5 days'")
    monkeypatch.setenv("HANSE_RAW_RETENTION", "P10D")
    monkeypatch.setenv("HANSE_KAFKA_RETENTION", "P5D")
    shown = run("maintain", "--dry-run").stdout
    assert shown.count("drop readings") == 10 or shown.count("drop readings") == 11
    assert count(conn, "select count(*) from store.observation where phenomenon_time < now() - interval '11 days'") > 0
    hours = count(conn, "select count(*) from hanse.hourly")
    assert run("maintain", "--once").exit_code == 0
    assert count(conn, "select count(*) from store.observation where phenomenon_time < now() - interval '11 days'") == 0
    assert count(conn, "select count(*) from store.observation where phenomenon_time > now() - interval '10 days'") > 0
    assert count(conn, "select count(*) from hanse.hourly") == hours
    assert "drop readings" not in run("maintain", "--dry-run").stdout


async def test_hours_go_by_domain_and_chunks_that_every_domain_has_left_go_whole(database, conn):
    keep = Retention(
        database_dsn=database,
        raw_retention=timedelta(days=45),
        rollup_retention=timedelta(days=90),
        rollup_retention_by_domain={"energy": timedelta(days=50)},
    )
    session = await maintain.connect(database)
    planned = (await lifecycle.plan(session, keep)).hours
    gone = await lifecycle.expire_hours(session, keep)
    assert gone == sum(hours for _, _, hours in planned) > 0
    oldest = dict(
        conn.execute(
            "select domain, now() - min(hour) from store.observation_hour join store.datastream using (datastream_id)"
            " join store.property using (property_id) group by 1"
        ).fetchall()
    )
    assert timedelta(days=49) < oldest["energy"] < timedelta(days=52)
    assert timedelta(days=89) < oldest["weather"] < timedelta(days=92)
    assert await lifecycle.expire_hours(session, keep) == 0
    assert (await lifecycle.plan(session, keep)).hours == []
    await session.close()


def test_dead_letters_go_with_their_messages_give_their_bytes_back_and_are_noted(conn, run):
    for offset, (age, state) in enumerate([(100, "open"), (100, "closed"), (1, "open")]):
        at = NOW + timedelta(seconds=offset)
        conn.execute(
            "insert into store.dead_message "
            "values ('t', 0, %s, %s, 1, 'x', false, false, false, repeat('a', 1000)::bytea)",
            (offset, at),
        )
        conn.execute(
            'insert into store.dead_letter (topic, partition, "offset", received_at, city_id, reason, detail, state,'
            " created_at) values ('t', 0, %s, %s, 1, 'r', '', %s, now() - make_interval(days => %s))",
            (offset, at, state, age),
        )
    conn.execute("insert into store.dead_letter_bytes values (1, 2512)")
    assert "delete dead letters" in run("maintain", "--dry-run").stdout
    assert run("maintain", "--once").exit_code == 0
    left = conn.execute('select "offset", open_bytes from store.dead_letter, store.dead_letter_bytes').fetchall()
    assert left == [(2, 1256)]
    assert count(conn, "select count(*) from store.dead_message") == 1
    noted = conn.execute("select state, letters from store.dead_letter_purge order by 1").fetchall()
    assert noted == [("closed", 1), ("open", 1)]


def test_chunks_are_there_before_their_readings_and_leave_no_row(conn, run):
    rows = count(conn, "select count(*) from store.observation")
    assert run("maintain", "--once").exit_code == 0
    first, last = conn.execute(
        "select min(range_start), max(range_end) from timescaledb_information.chunks"
        " where hypertable_name = 'observation'"
    ).fetchone() or (NOW, NOW)
    assert first <= NOW - timedelta(days=30)
    assert last >= NOW + timedelta(days=2)
    assert count(conn, "select count(*) from store.observation") == rows


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("RAW_RETENTION", "P44D", r"HANSE_RAW_RETENTION = P44D is less than .*\(P31D, kiel\).*P14D.*set P45D or more"),
        ("COMPRESS_AFTER", "P30D", r"HANSE_COMPRESS_AFTER = P30D is less than .*\(P31D, kiel\).*set P31D or more"),
        ("ROLLUP_RETENTION", "P100D", "HANSE_ROLLUP_RETENTION is shorter than HANSE_RAW_RETENTION"),
        ("ROLLUP_RETENTION_BY_DOMAIN", "energi=P999D", "'energi' is no domain; it is one of energy, weather"),
        ("ROLLUP_RETENTION_BY_DOMAIN", "energy", "not a list like energy=P1095D"),
        ("RAW_RETENTION", "half a year", "HANSE_RAW_RETENTION = .half a year.: should be an ISO 8601 duration"),
    ],
)
def test_settings_that_would_lose_readings_are_refused_with_the_cure(conn, run, monkeypatch, setting, value, said):
    monkeypatch.setenv(f"HANSE_{setting}", value)
    refused = run("maintain", "--once")
    assert refused.exit_code in {1, 78}
    assert re.search(said.replace(" P31D, kiel", r" \(P31D, kiel").replace(" P14D", r" \(P14D"), refused.stderr), (
        refused.stderr
    )
    assert len(refused.stderr.splitlines()) == 1


async def test_a_city_that_asks_for_more_later_stops_the_dropping(database, conn):
    conn.execute("update store.city set max_age = '60 days' where key = 'wismar'")
    session = await maintain.connect(database)
    with pytest.raises(Refused, match="wismar"):
        await lifecycle.drop_observations(session, Retention(database_dsn=database, raw_retention=timedelta(days=50)))
    await session.close()


def worker(database: str, **settings: Any) -> maintain.Maintainer:
    given = {"database_dsn": database, "maintain_interval": timedelta(seconds=1), **settings}
    return maintain.Maintainer(Maintain(**given), Upkeep(CollectorRegistry()))


HERE = "datname = current_database() and application_name = 'hanse-storage maintain'"
SESSIONS = f"select count(*) from pg_stat_activity where {HERE}"
HOLDER = (
    "select min(pid) from pg_locks join pg_stat_activity using (pid)"
    f" where {HERE} and locktype = 'advisory' and granted"
)


async def test_of_two_maintainers_one_works_and_the_other_takes_over(database, conn):
    first, second = worker(database), worker(database)
    one = asyncio.create_task(first.run())
    while (holder := count(conn, HOLDER)) is None:
        await asyncio.sleep(0.05)
    other = asyncio.create_task(second.run())
    while count(conn, SESSIONS) != 2:
        await asyncio.sleep(0.05)
    assert count(conn, HOLDER) == holder
    first.stop()
    await one
    while count(conn, HOLDER) in {None, holder}:
        await asyncio.sleep(0.05)
    assert list(second.unready()) == []
    second.stop()
    await other


async def test_late_hours_wait_until_making_up_for_them_takes_little_of_the_time(database, conn, monkeypatch):
    monkeypatch.setattr(rollups, "REPAIR_SHARE", 1e-9)
    refreshed, waiting = "select refreshed_at from store.rollup_state", "select count(*) from store.rollup_dirty"
    made = worker(database)
    task = asyncio.create_task(made.run())
    while count(conn, refreshed) is None:
        await asyncio.sleep(0.05)
    conn.execute("insert into store.rollup_dirty select 7, date_trunc('hour', now() - interval '2 days', 'UTC')")
    for _ in range(2):  # the first of them may have begun before
        before = count(conn, refreshed)
        while count(conn, refreshed) == before:
            await asyncio.sleep(0.05)
    assert count(conn, waiting) == 1
    made.stop()
    await task
    await worker(database).once()
    assert count(conn, waiting) == 0


async def test_a_reader_in_the_way_costs_one_step_of_a_cycle_and_no_more(database, conn):
    conn.execute("update store.city set max_age = '5 days'")
    made = worker(database, raw_retention=timedelta(days=10), kafka_retention=timedelta(days=5))
    with psycopg.connect(database) as reader:
        reader.execute("select count(*) from store.observation")
        await made.once()
        assert [f.split(":")[0] for f in made.failed] == ["chunks_dropped"]
    await made.once()
    assert made.failed == []
    assert count(conn, "select count(*) from store.observation where phenomenon_time < now() - interval '11 days'") == 0


async def test_a_session_that_is_lost_is_made_again(database, conn):
    made = worker(database)
    task = asyncio.create_task(made.run())
    while (first := count(conn, HOLDER)) is None:
        await asyncio.sleep(0.05)
    conn.execute("select pg_terminate_backend(%s)", (first,))
    while count(conn, HOLDER) in {None, first}:
        await asyncio.sleep(0.05)
    made.stop()
    await task


RECENT = {
    "readings of one datastream": "datastream_id = 7",
    "readings of a property in a city": "city = 'kiel' and property = 'air_temperature'",
}


@pytest.mark.parametrize("query", RECENT.values(), ids=RECENT.keys())
@pytest.mark.parametrize("since", ["now() - interval '2 days'", f"'{NOW - timedelta(days=2)}'"])
def test_a_range_of_time_leaves_the_other_chunks_out_of_the_plan(conn, query, since):
    conn.execute("set enable_seqscan = off")
    shown = conn.execute(
        "explain (analyze, costs off, timing off) select * from hanse.observations"
        f" where {query} and phenomenon_time >= {since}"
    ).fetchall()
    text = "\n".join(row[0] for row in shown)
    # Of 21 days, the three that the range touches; the planner may still name those that execution leaves out.
    assert 1 <= len(set(re.findall(r"_hyper_1_\d+_chunk", text))) <= 4, text


def test_hours_of_a_month_read_the_index_of_the_months_chunks_alone(conn):
    conn.execute("set enable_seqscan = off")
    text = plan(
        conn,
        "select hour, value from hanse.hourly where city = 'kiel' and property = 'air_temperature'"
        f" and device = 'device 7' and hour >= '{NOW - timedelta(days=20)}'",
    )
    # r is the hours' table in the view; e, a counter's look back, is stopped by its LIMIT.
    assert 1 <= len(re.findall(r"Index Scan using _hyper_2_\d+_chunk_observation_hour_key on \w+ r", text)) <= 2, text
    assert "Seq Scan on _hyper" not in text


# Counts what this session has not reported yet too, so it is read before and after.
SCANS = r"select relname, seq_scan + idx_scan from pg_stat_xact_user_tables where relname like '\_hyper\_1\_%'"
OF_SOME = """
select store.rollup_late(array(
  select (datastream_id, date_trunc('hour', %s::timestamptz))::store.rollup_dirty from store.datastream))
"""


@pytest.mark.parametrize("sum_up", ["select store.rollup_hour(date_trunc('hour', %s::timestamptz))", OF_SOME])
def test_summing_up_an_hour_reads_the_chunk_of_that_hour_alone(conn, sum_up):
    with conn.transaction():
        before = set(conn.execute(SCANS).fetchall())
        conn.execute(sum_up, (NOW - timedelta(hours=30),))
        assert len(set(conn.execute(SCANS).fetchall()) - before) == 1
