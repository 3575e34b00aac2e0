"""Brings the schema up to date: numbered plain SQL, in order, each in a transaction of its own.

A migration whose header says `-- statement by statement` runs without one, each statement by itself: an index on a
hypertable that is in use has to be built chunk by chunk (`with (timescaledb.transaction_per_chunk)`), else it keeps
writers out until all chunks are done. Its statements must bear being run again, since a failure leaves the first ones
behind.

Under one advisory lock, with a short lock_timeout so that running ingest never waits for a migration, and with the
checksum of what was applied: an altered migration is refused. Running twice is a no-op.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, NamedTuple

import psycopg
import stamina
import structlog

from storage import roles
from storage.connection import parameters, place, refusal
from storage.errors import Refused, Unavailable, Verdict, one_line, outcome, verdict
from storage.schema import CODE_LEVEL, fault_of_schema

FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
HEADER = re.compile(r"^-- oldest-code: (\d+)$", re.MULTILINE)
BY_STATEMENT = re.compile(r"^-- statement by statement$", re.MULTILINE)
END_OF_STATEMENT = re.compile(r";[ \t]*$", re.MULTILINE)
LOCK = (7353, 3)  # one migrator at a time; 1 and 2 belong to the rollups

BOOKKEEPING = """
create schema if not exists store;
create table if not exists store.schema_migration (
  version      int4 primary key,
  name         text not null,
  checksum     bytea not null,
  oldest_code  int4 not null,
  applied_at   timestamptz not null default now()
);
comment on table store.schema_migration is 'what was applied, and the oldest code that works with it';
"""

log = structlog.get_logger()

Progress = Callable[["Migration", int, int], None]  # what begins, its place from 0 on, and how many there are


class Migration(NamedTuple):
    """One file: its number, its name, its text and the oldest code that works once it is applied."""

    version: int
    name: str
    sql: str
    oldest_code: int

    @property
    def statements(self) -> list[str]:
        """What is sent at once: the whole text in its transaction, or its statements, which end where a line does."""
        if BY_STATEMENT.search(self.sql) is None:
            return [self.sql]
        return [s for s in END_OF_STATEMENT.split(self.sql) if re.sub(r"^\s*--.*$", "", s, flags=re.MULTILINE).strip()]

    @property
    def checksum(self) -> bytes:
        """SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).digest()


def migration(file: str, sql: str) -> Migration:
    """A migration from its file's name and text. Raises ValueError for a name or header out of form."""
    named, header = FILE.fullmatch(file), HEADER.search(sql)
    if named is None or header is None:
        raise ValueError(f"{file}: a migration is called 0001_name.sql and says `-- oldest-code: N` in its header")
    return Migration(int(named[1]), named[2], sql, int(header[1]))


def packaged() -> list[Migration]:
    """The migrations of this version, in order, numbered without a hole."""
    folder = resources.files("storage") / "migrations"
    found = sorted(migration(f.name, f.read_text("utf-8")) for f in folder.iterdir() if f.name.endswith(".sql"))
    if [m.version for m in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations are not numbered 1 to {len(found)}: {[m.version for m in found]}")
    return found


def pending(migrations: Sequence[Migration], applied: dict[int, tuple[str, bytes, int]]) -> list[Migration]:
    """What is still to be applied. Raises Refused where database and code disagree on what was."""
    newest = max(applied, default=None)
    if newest is not None and newest > len(migrations):
        fault = fault_of_schema(newest, max(oldest for _, _, oldest in applied.values()))
        if fault:
            raise Refused(fault)
    for known in migrations:
        done = applied.get(known.version)
        if done is not None and done[1] != known.checksum:
            raise Refused(
                f"migration {known.version:04d}_{known.name} is not the one that was applied ({done[0]}); "
                "restore the file, and put the change into a new migration"
            )
    todo = [m for m in migrations if m.version not in applied]
    if any(m.oldest_code > CODE_LEVEL for m in todo):
        raise ValueError(f"a migration names an oldest code above this code's level {CODE_LEVEL}")
    return todo


@stamina.retry(on=Unavailable, attempts=None, timeout=60, wait_initial=0.2, wait_max=5)
def _connect(dsn: str) -> psycopg.Connection[Any]:
    """Connect; a server that is still starting gets a minute."""
    params = parameters(dsn, "hanse-storage", session=False)
    try:
        return psycopg.connect(autocommit=True, **params)
    except psycopg.Error as error:
        raise refusal(error, params) from error


def migrate(
    dsn: str, migrations: Sequence[Migration] | None = None, *, progress: Progress | None = None
) -> list[Migration]:
    """Apply what is missing and say what that was; `progress` is told of every step. Raises Refused or Unavailable."""
    known = packaged() if migrations is None else migrations
    try:
        with _connect(dsn) as conn:
            _require_extension(conn, where=place(parameters(dsn, "")))
            conn.execute("set lock_timeout = '60s'")
            conn.execute("select pg_advisory_lock(%s, %s)", LOCK)
            conn.execute("set lock_timeout = '500ms'")
            if conn.execute("select to_regclass('store.schema_migration')").fetchone() == (None,):
                conn.execute(BOOKKEEPING)
            todo = pending(known, _applied(conn))
            for place_in_line, one in enumerate(todo):
                if progress is not None:
                    progress(one, place_in_line, len(todo))
                _apply(conn, one)
                log.info("migration applied", version=one.version, name=one.name)
            roles.grant(conn)
    except psycopg.Error as error:
        raise outcome(error) from error
    return todo


def _require_extension(conn: psycopg.Connection[Any], *, where: str) -> None:
    found = conn.execute("select 1 from pg_extension where extname = 'timescaledb'").fetchone()
    if found is None:
        raise Refused(
            f"{where} lacks TimescaleDB; run `hanse-storage init` (or `create extension timescaledb`) as a superuser"
        )


def _applied(conn: psycopg.Connection[Any]) -> dict[int, tuple[str, bytes, int]]:
    rows = conn.execute("select version, name, checksum, oldest_code from store.schema_migration").fetchall()
    return {version: (name, bytes(checksum), oldest) for version, name, checksum, oldest in rows}


def _passing(error: Exception) -> bool:
    return isinstance(error, psycopg.Error) and verdict(error) is Verdict.RETRY


@stamina.retry(on=_passing, attempts=20, timeout=60, wait_initial=0.1, wait_max=2)
def _apply(conn: psycopg.Connection[Any], one: Migration) -> None:
    """Apply one migration; a table in use is tried again rather than waited for, so that ingest is never held up."""
    whole = len(one.statements) == 1 and one.statements[0] == one.sql
    try:
        with conn.transaction() if whole else contextlib.nullcontext():
            for statement in one.statements:
                conn.execute(statement.encode())
            conn.execute(
                "insert into store.schema_migration (version, name, checksum, oldest_code) values (%s, %s, %s, %s)",
                (one.version, one.name, one.checksum, one.oldest_code),
            )
    except psycopg.Error as error:
        if verdict(error) is Verdict.RETRY:
            raise
        left = "nothing of it was applied" if whole else "the statements before it were applied, and may be run again"
        raise Refused(f"migration {one.version:04d}_{one.name}: {one_line(error)}; {left}") from error
