"""Migrations on a real TimescaleDB: once, twice, at once, altered, and between versions."""

import asyncio
import io
import json
import re
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from rich.console import Console

from storage import __main__ as command
from storage import connection, status
from storage.errors import Refused, Unavailable
from storage.migrate import Migration, migrate, packaged
from storage.rows import StreamTable
from storage.timescale import Writer
from tests.integration.batches import KIEL, TEMPERATURE, R, batch


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        cursor = conn.execute(query)
        return cursor.fetchall() if cursor.description else []


def following(sql: str, oldest_code: int = 1) -> list[Migration]:
    known = packaged()
    return [*known, Migration(len(known) + 1, "next", sql, oldest_code)]


def test_migrating_twice_is_a_no_op(database):
    assert [m.version for m in packaged()] == [m.version for m in migrate(database)]
    applied = rows(database, "select version, name, applied_at from store.schema_migration order by 1")
    assert migrate(database) == []
    assert applied == rows(database, "select version, name, applied_at from store.schema_migration order by 1")


def test_two_migrators_at_once_apply_everything_once(database):
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(len(migrate(database)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [0, 0, len(packaged())] == sorted(done)


def test_an_altered_migration_is_refused_by_name(database):
    migrate(database)
    known = packaged()
    altered = [known[0]._replace(sql=known[0].sql + "\n"), *known[1:]]
    with pytest.raises(Refused, match="0001_foundation.*put the change into a new migration"):
        migrate(database, altered)


def test_a_migration_that_fails_leaves_nothing_of_itself(database):
    with pytest.raises(Refused, match="_next: .*nope.*nothing of it was applied"):
        migrate(database, following("create table store.half (a int); select nope;"))
    assert rows(database, "select to_regclass('store.half')") == [(None,)]
    assert [(len(packaged()),)] == rows(database, "select max(version) from store.schema_migration")
    assert [m.name for m in migrate(database, following("create table store.half (a int);"))] == ["next"]


def test_a_table_in_use_is_tried_again_instead_of_waited_for(database):
    migrate(database)
    with psycopg.connect(database) as busy:
        busy.execute("lock table store.ledger in access share mode")
        release = threading.Timer(1.5, busy.rollback)
        release.start()
        migrate(database, following("alter table store.ledger add column extra int"))
        release.join()
    assert rows(database, "select max(extra) from store.ledger") == [(None,)]


ADD_COLUMN = "alter table store.observation add column extra int2"
# A chunk's writers wait while its part of the index is built, the other chunks' don't.
ADD_INDEX = """-- statement by statement
drop index if exists store.observation_received;
create index observation_received on store.observation (received_at) with (timescaledb.transaction_per_chunk);
"""


async def test_ingest_never_waits_two_seconds_for_a_column_and_an_index(database, monkeypatch):
    migrate(database)
    monkeypatch.setitem(connection.SESSION, "lock_timeout", "2s")  # else it would be 15 s, and this could not fail
    writer, table, at = Writer(database), StreamTable(), 0
    await writer.register([KIEL], [TEMPERATURE])
    known = packaged()
    steps = [
        Migration(len(known) + 1, "column", ADD_COLUMN, 1),
        Migration(len(known) + 2, "index", ADD_INDEX, 1),
    ]
    for n in range(20):  # twenty chunks
        rows(
            database,
            "insert into store.observation select d, 1, 0, now() - make_interval(days => %s, secs => d), 1, now()"
            " from generate_series(100000, 105000) d" % (n + 40),
        )
    with psycopg.connect(database) as busy:  # a reader makes the migration try again
        busy.execute("select count(*) from store.observation")
        migration = asyncio.create_task(asyncio.to_thread(migrate, database, [*known, *steps]))
        for n in range(10_000):
            await writer.commit(batch(table, [R("a", n, 1.0)], at=at))
            at += 1
            if n == 200:
                busy.rollback()
            if migration.done():
                break
    assert [m.name for m in await migration] == ["column", "index"]
    assert rows(
        database, "select count(*) from pg_index where indisvalid and indexrelid::regclass::text like '%received%'"
    )[0] >= (21,)
    assert rows(database, "select stored from store.ledger") == [(at,)]
    await writer.close()


def test_a_statement_by_itself_that_fails_is_named_and_the_whole_may_be_run_again(database):
    migrate(database)
    broken = (
        "-- statement by statement\ndrop table if exists store.half;\ncreate table store.half (a int);\nselect nope;\n"
    )
    with pytest.raises(Refused, match="_next: .*nope.*the statements before it were applied, and may be run again"):
        migrate(database, following(broken))
    assert [m.name for m in migrate(database, following(broken.replace("nope", "1")))] == ["next"]


async def test_a_schema_that_needs_newer_code_refuses_the_writer_and_the_migrator(database):
    migrate(database)
    writer = Writer(database)
    await writer.connect()
    await writer.register([KIEL], [TEMPERATURE])
    rows(database, "insert into store.schema_migration values (99, 'future', '', 2)")
    with pytest.raises(Refused, match="needs code level 2 or newer, this code is 1; upgrade"):
        await Writer(database).connect()
    with pytest.raises(Refused, match="code level 2"):
        migrate(database)
    rows(
        database,
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'hanse-processor' "
        "and datname = current_database()",
    )
    with pytest.raises(Unavailable):  # the lost connection
        await writer.commit(batch(StreamTable(), [R("a", 0, 1.0)]))
    with pytest.raises(Refused, match="code level 2"):  # and at the reconnect
        await writer.commit(batch(StreamTable(), [R("a", 0, 1.0)]))
    await writer.close()


async def test_a_newer_schema_that_works_with_this_code_is_used(database):
    migrate(database, following("alter table store.ledger add column extra int"))
    assert migrate(database) == []
    writer = Writer(database)
    await writer.register([KIEL], [TEMPERATURE])
    assert (await writer.commit(batch(StreamTable(), [R("a", 0, 1.0)]))).spans[0].stored == 1
    await writer.close()


def test_a_database_without_the_extension_is_refused_with_the_cure(postgres, database):
    rows(
        postgres.dsn(psycopg.conninfo.conninfo_to_dict(database)["dbname"], superuser=True),
        "drop extension timescaledb",
    )
    with pytest.raises(Refused, match="create extension timescaledb.*as a superuser"):
        migrate(database)


def test_the_hot_table_has_one_index_day_chunks_and_no_foreign_key(database):
    migrate(database)
    assert rows(
        database, "select indexname from pg_indexes where schemaname = 'store' and tablename = 'observation'"
    ) == [("observation_key",)]
    assert rows(
        database,
        "select time_interval::text from timescaledb_information.dimensions where hypertable_name = 'observation'",
    ) == [("1 day",)]
    assert (
        rows(
            database,
            "select conname from pg_constraint where conrelid = 'store.observation'::regclass and contype = 'f'",
        )
        == []
    )


async def test_the_counters_of_a_partition_are_updated_in_place(database):
    migrate(database)
    writer, table = Writer(database), StreamTable()
    await writer.register([KIEL], [TEMPERATURE])
    for n in range(100):
        await writer.commit(batch(table, [R("a", n, 1.0)], at=n))
    await writer.close()
    # The closed session has flushed its statistics once it is gone.
    here = "application_name = 'hanse-processor' and datname = current_database()"
    while rows(database, f"select count(*) from pg_stat_activity where {here}") != [(0,)]:
        await asyncio.sleep(0.01)
    counted = rows(
        database,
        "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname in ('ledger', 'consumer_offset')",
    )
    assert counted == [(100, 100), (100, 100)]


@pytest.fixture
def run(database, monkeypatch):
    monkeypatch.setenv("HANSE_DATABASE_DSN", database)
    return lambda *args: CliRunner().invoke(command.main, args)


def test_migrate_says_what_it_applied(run):
    told = "".join(f"applied {m.version:04d}_{m.name}\n" for m in packaged())
    assert ((done := run("migrate")).exit_code, done.stdout) == (0, told)
    assert run("migrate").stdout == "the schema is up to date\n"


def test_status_of_an_empty_database_and_of_one_that_lost_a_record(run, database):
    refused = run("status")
    assert refused.exit_code == 1
    assert "hanse-storage migrate" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    run("migrate")
    told = json.loads(run("status", "--json").stdout)
    assert set(told) == {"counts", "span", "lifecycle", "chunks", "ledger", "open_dead_letters"}
    assert told["span"] == {"oldest": None, "newest": None}
    assert run("maintain", "--once").exit_code == 0
    told = json.loads(run("status", "--json").stdout)
    assert [(c["table"], c["compressed"]) for c in told["chunks"]] == [("observation", 0)]
    assert told["chunks"][0]["chunks"] >= 33  # the accepted 31 days, and two to come
    assert told["chunks"][0]["bytes"] > 0
    assert told["lifecycle"]["rollup_lag_seconds"] < 3600 + 600 + 60
    assert told["lifecycle"]["maintained_at"] is not None
    rows(
        database,
        "insert into store.city (key, name) values ('kiel', 'Kiel');"
        "insert into store.consumer_offset (topic, partition, first_offset, next_offset) values ('t', 0, 0, 5);"
        "insert into store.ledger (topic, partition, city_id, messages, decoded) values ('t', 0, 1, 4, 4)",
    )
    shown = run("status", "--json")
    assert shown.exit_code == 2
    assert json.loads(shown.stdout)["ledger"][0]["unaccounted"] == 1
    assert "unaccounted" in run("status").stdout
    for width in (80, 200):
        console = Console(width=width, record=True, file=io.StringIO())
        for table in status.tables(asyncio.run(status.read(database)), width):
            console.print(table)
        assert re.search(r"(?m)^ *kiel .* 4 .* 1 *$", console.export_text()), "city, messages, unaccounted"


def test_every_migration_ships_with_the_package():
    files = sorted(p.name for p in (Path(command.__file__).parent / "migrations").glob("*.sql"))
    assert files == [f"{m.version:04d}_{m.name}.sql" for m in packaged()]
