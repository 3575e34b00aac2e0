"""What each role may do and what it is refused, on a real server with the roles that `hanse-storage init` makes."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from click.testing import CliRunner
from local.servers import Postgres
from psycopg import errors

from storage import __main__ as command
from storage import letters
from storage.errors import Refused, Unavailable
from storage.migrate import migrate, packaged
from storage.overview import Overview
from storage.roles import init
from storage.rows import DeadLetter, Property, StreamTable, TimeLimits
from storage.timescale import Writer
from tests.integration.batches import HOUR, KIEL, TEMPERATURE, WISMAR, R, batch
from tests.servers import Servers

SQL = Path(__file__).parents[2] / "docs/sql.md"
As = Callable[[str], psycopg.Connection[Any]]
GUST = Property("wind_speed_gust", "m/s", "weather", "max", "max", 0, 90)


class Cluster:
    """A cluster of its own, since roles belong to it whole; one migrated database with readings of two cities."""

    def __init__(self, postgres: Postgres, passfiles: Path) -> None:
        self.postgres = postgres
        self.passfiles = passfiles
        self.superuser = postgres.dsn("city", superuser=True)

    def dsn(self, role: str, database: str = "city") -> str:
        passfile = quote(str(self.passfiles / f"{role}.pgpass"))
        return f"postgresql://{role}@127.0.0.1:{self.postgres.port}/{database}?passfile={passfile}"


@pytest.fixture(scope="module")
def cluster(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    postgres = servers.postgres()
    with postgres.superuser() as conn:
        conn.execute("create database city")
    made = Cluster(postgres, tmp_path_factory.mktemp("passfiles"))
    init(made.superuser, ["kiel"], made.passfiles)
    migrate(made.dsn("hanse_migrator"))
    init(made.superuser, ["wismar"], made.passfiles)
    yield made
    servers.remove(postgres)


@pytest.fixture
async def filled(cluster: Cluster) -> Cluster:
    """Both cities have readings, those of kiel are 77, written by the ingest role itself."""
    made = Writer(cluster.dsn("hanse_ingest"))
    await made.register([KIEL, WISMAR], [TEMPERATURE])
    for city, value in (("kiel", 77.0), ("wismar", 12.0)):
        positions = await made.positions([span_of(city)])
        at = positions[span_of(city)].next_offset if positions else 0
        await made.commit(batch(StreamTable(), [R("a", HOUR * at, value)], at=at, city=city, new=not positions))
    await made.close()
    return cluster


def span_of(city: str) -> Any:
    return batch(StreamTable(), [], city=city).spans[0].partition


@pytest.fixture
def as_role(cluster: Cluster) -> Iterator[As]:
    opened = []

    def connect(role: str) -> psycopg.Connection[Any]:
        opened.append(psycopg.connect(cluster.dsn(role), autocommit=True))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def test_making_the_roles_again_changes_nothing(cluster):
    with psycopg.connect(cluster.superuser) as conn:
        look = (
            "select array_agg(a order by oid) from pg_authid a where rolname like 'hanse%'",
            "select array_agg(s order by setdatabase, setrole) from pg_db_role_setting s",
            "select array_agg(proacl::text order by oid) from pg_proc",
            "select array_agg(relacl::text order by oid) from pg_class",
            "select array_agg(datacl::text order by oid) from pg_database",
        )
        before = [conn.execute(query).fetchone() for query in look]
        conn.rollback()
        assert init(cluster.superuser, ["kiel", "wismar"], cluster.passfiles) == ([], [])
        assert [conn.execute(query).fetchone() for query in look] == before


def test_before_an_upgrade_the_roles_are_made_first_and_migrate_gives_the_rights(cluster):
    with cluster.postgres.superuser() as conn:
        conn.execute("create database upgraded")
    superuser = cluster.postgres.dsn("upgraded", superuser=True)
    init(superuser, ["kiel"], cluster.passfiles)
    migrate(cluster.dsn("hanse_migrator", "upgraded"), packaged()[:4])
    init(superuser, ["kiel"], cluster.passfiles)
    migrate(cluster.dsn("hanse_migrator", "upgraded"))
    with psycopg.connect(superuser) as conn:
        found = conn.execute("select has_table_privilege('hanse_ingest', 'store.series_state', 'insert')").fetchone()
    assert found == (True,)


def test_everything_belongs_to_a_role_that_nobody_logs_in_as(as_role):
    conn = as_role("hanse_migrator")
    owners = conn.execute(
        "select distinct pg_get_userbyid(relowner) from pg_class where relnamespace::regnamespace::text"
        " in ('store', 'hanse', 'hanse_kiel') or relname like '\\_hyper%'"
    ).fetchall()
    assert owners == [("hanse_owner",)]
    assert conn.execute("select rolcanlogin from pg_roles where rolname = 'hanse_owner'").fetchone() == (False,)


async def test_the_ingest_role_can_do_all_that_the_write_path_does(cluster):
    made, table = Writer(cluster.dsn("hanse_ingest")), StreamTable()
    kiel = KIEL._replace(name="Kiel an der Förde")
    await made.register([kiel, WISMAR], [TEMPERATURE], limits_of=lambda _: TimeLimits(spike=9.0))
    (partition,) = (batch(table, [], partition=7).spans[0].partition,)
    first = batch(table, [R("b", n, 1.0) for n in range(5)], partition=7)
    assert (await made.commit(first)).spans[0].stored == 5
    late = [R("b", 0, 1.0), R("b", 1, 2.0), R("b", -900 * HOUR, 1.0), R("new", 0, 1.0, unit="K")]
    dead = DeadLetter(0, 9, None, "malformed", "for the test")
    done = await made.commit(batch(table, late, at=5, partition=7, dead=[dead]))
    assert (done.spans[0].stored, done.spans[0].duplicate, done.spans[0].dead) == (2, 1, {"conflicting_value": 1})
    assert (await made.positions([partition]))[partition].next_offset == 10
    assert (await made.unaccounted())["kiel"] == 0
    made.forget()  # the states of its datastreams are read again
    await made.commit(batch(table, [R("b", HOUR, 1.0)], at=10, partition=7))
    with psycopg.connect(cluster.dsn("hanse_ingest"), autocommit=True) as conn:
        conn.execute("update store.observation set value = 3 where value = 2")  # a correction
        conn.execute("update store.datastream set parameters = '{\"modulus\": 10}' where device = 'b'")
        assert conn.execute("delete from store.dialect_state").rowcount == 0
        assert conn.execute("select count(*) from store.series_state").fetchone() == (1,)
    await made.close()


INGEST_IS_REFUSED = {
    "readings can't be deleted": "delete from store.observation",
    "nor their time be changed": "update store.observation set phenomenon_time = now()",
    "nor the table be emptied": "truncate store.observation",
    "nor dropped": "drop table store.observation",
    "chunks can't be dropped": "select public.drop_chunks('store.observation', older_than => now())",
    "the ledger can't be deleted": "delete from store.ledger",
    "dead letters can't be deleted": "delete from store.dead_letter",
    "the fence can't be moved": "update store.rollup_state set retained_from = now()",
    "hours can't be written": "insert into store.observation_hour values (1, 1, 1, 1, 1, 1, now())",
    "tables can't be made": "create table store.own (a int)",
    "nor functions": "create function hanse.own() returns int language sql return 1",
    "nor can it become the owner": "set role hanse_owner",
    "nor make large objects": "select lo_create(0)",
}


@pytest.mark.parametrize("statement", INGEST_IS_REFUSED.values(), ids=INGEST_IS_REFUSED.keys())
def test_the_ingest_role_is_refused_the_rest(filled, as_role, statement):
    with pytest.raises(errors.InsufficientPrivilege):
        as_role("hanse_ingest").execute(statement)


@pytest.mark.parametrize("view", ["observations", "latest", "hourly", "daily", "ledger"])
def test_a_citys_reader_sees_its_own_city_alone(filled, as_role, view):
    for city in ("kiel", "wismar"):
        found = as_role(f"hanse_reader_{city}").execute(f"select distinct city from hanse_{city}.{view}").fetchall()
        assert found == [(city,)]
    both = as_role("hanse_reader_alliance").execute(f"select distinct city from hanse.{view} order by 1").fetchall()
    assert both == [("kiel",), ("wismar",)]


READER_IS_REFUSED = {
    "the alliance's views": "select * from hanse.observations",
    "another city's views": "select * from hanse_kiel.observations",
    "the base table": "select * from store.observation",
    "the hours' table": "select * from store.observation_hour",
    "the function behind the hours": "select store.rollup_hour('2026-11-23T12:00:00Z')",
    "an advisory lock": "select pg_advisory_lock(7353, 1)",
    "a shared one for the transaction": "select pg_try_advisory_xact_lock_shared(7353, 1)",
    "a large object": "select lo_create(0)",
    "one from bytes": "select lo_from_bytea(0, 'x')",
    "a temporary table": "create temp table t (a int)",
    "the alliance's events": "select * from hanse.weather_events('-infinity', 'infinity')",
    "another city's events": "select * from hanse_kiel.weather_events('-infinity', 'infinity')",
    "another city's filled hours": "select * from hanse_kiel.hourly_filled(1, now(), now())",
    "a function of its own": "create function hanse_wismar.f() returns int language sql return 1",
    "the password table": "select * from pg_authid",
}


@pytest.mark.parametrize("statement", READER_IS_REFUSED.values(), ids=READER_IS_REFUSED.keys())
def test_a_citys_reader_is_refused_everything_else(filled, as_role, statement):
    conn = as_role("hanse_reader_wismar")
    conn.execute("set default_transaction_read_only = off")  # a reader may
    with pytest.raises(errors.InsufficientPrivilege):
        conn.execute(statement)


def test_a_reader_is_refused_every_chunk(filled, as_role):
    chunks = as_role("hanse_migrator").execute("select show_chunks('store.observation')::text").fetchall()
    conn = as_role("hanse_reader_alliance")
    assert chunks
    for (chunk,) in chunks:
        with pytest.raises(errors.InsufficientPrivilege):
            conn.execute(f"select * from {chunk}")


# Fails on kiel's value alone; a plan that reads all readings and joins the city afterwards would meet it.
LEAK = "1 / (value::int - 77) > -9"
ATTACK = "set enable_nestloop = off; set enable_mergejoin = off"


@pytest.mark.parametrize("view", ["observations", "latest", "hourly", "daily"])
def test_a_condition_that_fails_on_another_citys_value_never_meets_it(filled, as_role, view):
    conn = as_role("hanse_reader_wismar")
    conn.execute(ATTACK)
    found = conn.execute(f"select distinct value from hanse_wismar.{view} where {LEAK}").fetchall()
    assert found == [(12.0,)]


def test_without_the_barrier_that_condition_tells_the_other_citys_value(filled):
    with psycopg.connect(filled.superuser) as conn:
        conn.execute("create view store.open as select * from hanse.observations where city = 'wismar'")
        conn.execute(ATTACK)
        with pytest.raises(errors.DivisionByZero):
            conn.execute(f"select value from store.open where {LEAK}").fetchall()
        conn.rollback()


async def windy(cluster: Cluster) -> None:
    """A storm in both cities, written by the ingest role."""
    made = Writer(cluster.dsn("hanse_ingest"))
    await made.register([KIEL, WISMAR], [TEMPERATURE, GUST])
    for city, value in (("kiel", 40.0), ("wismar", 30.0)):
        positions = await made.positions([span_of(city)])
        at = positions[span_of(city)].next_offset if positions else 0
        gust = R("mast", HOUR * at, value, property="wind_speed_gust", unit="m/s")
        await made.commit(batch(StreamTable(), [gust], at=at, city=city, new=not positions))
    await made.close()


async def test_a_citys_functions_know_its_own_rows_alone(filled, as_role):
    await windy(filled)
    migrator = as_role("hanse_migrator")
    streams = dict(migrator.execute("select city, min(datastream_id) from hanse.datastreams group by 1").fetchall())
    for city, value, level in (("kiel", 40.0, 4), ("wismar", 30.0, 3)):
        conn = as_role(f"hanse_reader_{city}")
        events = f"select distinct city, level, peak from hanse_{city}.weather_events('2020-01-01', '2100-01-01'"
        assert conn.execute(events + ") where hazard = 'gust'").fetchall() == [(city, level, value)]
        assert conn.execute(events + f", 'kiel') where city <> '{city}'").fetchall() == []
        filled_hours = f"select distinct source from hanse_{city}.hourly_filled(%s, '2026-11-23', '2026-11-24')"
        found = {name: conn.execute(filled_hours, (stream,)).fetchall() for name, stream in streams.items()}
        assert {name for name, sources in found.items() if ("measured",) in sources} == {city}
        assert {name for name, sources in found.items() if sources == [("gap",)]} == {"kiel", "wismar"} - {city}
    alliance = as_role("hanse_reader_alliance")
    both = "select distinct city from hanse.weather_events('2020-01-01', '2100-01-01') order by 1"
    assert alliance.execute(both).fetchall() == [("kiel",), ("wismar",)]


async def test_a_condition_on_a_function_never_meets_another_citys_value(filled, as_role):
    await windy(filled)
    conn = as_role("hanse_reader_wismar")
    conn.execute(ATTACK)
    leak = "1 / (peak::int - 40) > -9"
    events = "select distinct peak from hanse_wismar.weather_events('2020-01-01', '2100-01-01')"
    assert conn.execute(f"{events} where {leak}").fetchall() == [(30.0,)]


def test_a_citys_functions_run_with_the_readers_rights_and_are_no_one_elses(filled, as_role):
    conn = as_role("hanse_migrator")
    found = conn.execute(
        "select p.proname, p.prosecdef, has_function_privilege('hanse_reader_kiel', p.oid, 'execute'),"
        " p.prosrc ~ '\\mhanse\\.' from pg_proc p where pronamespace = 'hanse_wismar'::regnamespace order by 1"
    ).fetchall()
    assert found == [("hourly_filled", False, False, False), ("weather_events", False, False, False)]


def test_a_reader_has_a_timeout_and_few_connections(filled, cluster, as_role):
    conn = as_role("hanse_reader_wismar")
    assert conn.execute("show statement_timeout").fetchone() == ("30s",)
    with pytest.raises(errors.InsufficientPrivilege):
        conn.execute("set temp_file_limit = -1")
    held = [psycopg.connect(cluster.dsn("hanse_reader_wismar")) for _ in range(4)]
    with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
        psycopg.connect(cluster.dsn("hanse_reader_wismar"))
    for one in held:
        one.close()


def test_a_stranger_without_a_role_of_ours_gets_no_connection(cluster):
    with cluster.postgres.superuser() as conn:
        conn.execute("create role stranger login password 'x'")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(f"postgresql://stranger:x@127.0.0.1:{cluster.postgres.port}/city")


@pytest.fixture
def run(cluster, monkeypatch):
    def invoke(role: str | None, *args: str) -> Any:
        monkeypatch.setenv("HANSE_DATABASE_DSN", cluster.superuser if role is None else cluster.dsn(role))
        return CliRunner().invoke(command.main, args)

    return invoke


def test_the_migrator_maintains_and_the_metrics_role_reads_the_state(filled, run):
    assert (done := run("hanse_migrator", "maintain", "--once")).exit_code == 0, done.output
    assert (done := run("hanse_metrics", "status", "--json")).exit_code == 0, done.output
    refused = run("hanse_metrics", "maintain", "--once")
    assert refused.exit_code == 78, (refused.output, refused.exception)
    assert "the database refuses: permission denied" in refused.stderr


async def test_the_metrics_role_reads_all_that_the_status_page_shows(filled):
    overview = await Overview.open(filled.dsn("hanse_metrics"))
    assert [one.key for one in await overview.cities()] == ["kiel", "wismar"]
    await overview.letters()
    assert {one.city: one.datastreams > 0 for one in await overview.streams()} == {"kiel": True, "wismar": True}
    assert {one.city for one in await overview.newest(1)} == {"kiel", "wismar"}
    await overview.close()


def test_a_city_that_comes_later_gets_its_role_and_views(cluster, run, as_role):
    made = run(None, "init", "--city", "stralsund", "--passfiles", str(cluster.passfiles))
    assert made.exit_code == 0, made.output
    assert f"wrote {cluster.passfiles / 'hanse_reader_stralsund.pgpass'}" in made.stdout
    assert as_role("hanse_reader_stralsund").execute("select * from hanse_stralsund.hourly").fetchall() == []


def test_without_a_folder_for_passwords_it_says_who_has_none(cluster, run):
    made = run(None, "init", "--city", "schwerin")
    assert "without a password, so nobody can log in as them yet: hanse_reader_schwerin" in made.stdout


@pytest.mark.parametrize("city", ["alliance", "Kiel", "kiel; drop", "", "1a"])
def test_a_name_that_is_no_citys_is_refused(cluster, city):
    with pytest.raises(Refused, match="is no city's key"):
        init(cluster.superuser, [city])


def test_who_is_no_superuser_is_refused_and_nothing_is_half_done(cluster, run):
    refused = run("hanse_migrator", "init", "--city", "kiel")
    assert refused.exit_code == 1
    assert "is no superuser, and making roles and the extension needs one; connect as postgres" in refused.stderr


def test_a_schema_of_another_owner_is_refused_with_the_cure(cluster):
    with cluster.postgres.superuser() as conn:
        conn.execute("create database older template hanse_template owner hanse")
    migrate(cluster.postgres.dsn("older"))
    with pytest.raises(Refused, match="belongs to 'hanse'.*`reassign owned by hanse to hanse_owner`"):
        init(cluster.postgres.dsn("older", superuser=True), [])
    with cluster.postgres.superuser("older") as conn:
        conn.execute("reassign owned by hanse to hanse_owner")
        init(cluster.postgres.dsn("older", superuser=True), ["kiel"])
        assert conn.execute("select count(*) from hanse_kiel.observations").fetchone() == (0,)


def run_as(cluster: Cluster, role: str, folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "kiel.toml").write_text(
        '[city]\nkey = "kiel"\nname = "Kiel"\n[[route]]\nfilter = "#"\ndialect = "hanse"\n'
    )
    (folder / "h.csv").write_text(
        "device,property,phenomenon_time,value,unit\nold,air_temperature,2026-10-01T00:00:00Z,1,Cel\nold,x,2026-10-01T00:00:00Z,1,Cel\n"
    )
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "HANSE_DATABASE_DSN": cluster.dsn(role)},
    )  # fmt: skip


async def test_history_is_imported_by_ingest_exported_by_a_reader_and_forgotten_by_the_owner_alone(filled, tmp_path):
    taken = run_as(filled, "hanse_ingest", tmp_path, "processors", "import", "kiel.toml", "h.csv")
    assert (taken.returncode, "h.csv:3: unmapped_property" in taken.stderr) == (3, True), taken.stderr
    selection = ("--city", "kiel", "--from", "2026-10-01", "--to", "2026-10-02")
    out = run_as(filled, "hanse_reader_alliance", tmp_path, "storage", "export", *selection)
    assert (out.returncode, len(out.stdout.splitlines())) == (0, 2), out.stderr
    for role in ("hanse_ingest", "hanse_reader_alliance"):
        refused = run_as(filled, role, tmp_path, "storage", "forget", "--city", "kiel", "--device", "old", "--yes")
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].startswith("hanse-storage: the database refuses: permission denied")
        assert "Traceback" not in refused.stderr
    writer = Writer(filled.dsn("hanse_ingest"))
    await writer.register([KIEL, WISMAR], [TEMPERATURE])
    at = (await writer.positions([span_of("kiel")]))[span_of("kiel")].next_offset
    await writer.commit(batch(StreamTable(), [R("a", HOUR * at, 77.0)], at=at, new=False))
    gone = run_as(filled, "hanse_migrator", tmp_path, "storage", "forget", "--city", "kiel", "--device", "old", "--yes")
    assert gone.returncode == 0, gone.stderr
    with pytest.raises(Unavailable):  # the ingest role ends its own session, and so forgets the ids
        await writer.commit(batch(StreamTable(), [R("a", HOUR * (at + 1), 77.0)], at=at + 1, new=False))
    await writer.commit(batch(StreamTable(), [R("a", HOUR * (at + 1), 77.0)], at=at + 1, new=False))
    await writer.close()


async def test_letters_are_replayed_with_the_rights_of_ingest_and_purged_by_the_owner_alone(filled):
    writer = Writer(filled.dsn("hanse_ingest"))
    await writer.register([KIEL, WISMAR], [TEMPERATURE])
    at = (await writer.positions([span_of("kiel")]))[span_of("kiel")].next_offset
    dead = [DeadLetter(0, at, None, "no_route", "for the test")]
    await writer.commit(batch(StreamTable(), [], at=at, new=False, dead=dead))
    await writer.close()
    wanted = letters.Wanted(reasons=["no_route"])
    async with letters.opened(filled.dsn("hanse_ingest")) as conn:
        found = await letters.page(conn, wanted, limit=10)
        assert list((await letters.payloads(conn, found)).values()) == [b"payload %d" % at]
        await letters.mark(conn, found)
        marked = await letters.page(conn, wanted._replace(state="replaying"), limit=10)
        assert [one["letter_id"] for one in marked] == [one["letter_id"] for one in found]
    with pytest.raises(Refused, match="permission denied"):
        async with letters.opened(filled.dsn("hanse_ingest")) as conn:
            await letters.purge(conn, marked, "replaying")
    async with letters.opened(filled.dsn("hanse_migrator")) as conn:
        assert await letters.purge(conn, marked, "replaying") == 1


@pytest.mark.parametrize("role", ["hanse_reader_alliance", "hanse_reader_kiel"])
def test_every_example_of_the_documentation_runs_for_a_reader_in_its_own_schema(filled, as_role, role):
    conn = as_role(role)
    examples = re.findall(r"^```sql\n(.*?)^```", SQL.read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) > 10
    for example in examples:
        conn.execute(example if role.endswith("alliance") else example.replace("hanse.", "hanse_kiel."))


@pytest.mark.parametrize("role", ["hanse_reader_alliance", "hanse_reader_kiel"])
def test_a_reader_reads_every_view_of_the_contract_that_is_its_own(filled, as_role, role):
    schema = "hanse" if role.endswith("alliance") else "hanse_kiel"
    with psycopg.connect(filled.superuser) as conn:
        views = conn.execute("select viewname from pg_views where schemaname = %s order by 1", (schema,)).fetchall()
    conn = as_role(role)
    for (view,) in views:
        conn.execute(f"select * from {schema}.{view} limit 1")
    assert {"observations", "city_comparison", "extreme_weather", "ngsi_ld_entities"} <= {view for (view,) in views}
    conn.execute(f"select * from {schema}.weather_events(now() - interval '1 day', now())")
    conn.execute(f"select * from {schema}.hourly_filled(1, now() - interval '1 day', now())")
