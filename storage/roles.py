"""Who may do what: `hanse-storage init` makes the roles and shuts what PostgreSQL leaves open; `grant` opens the rest.

`init` needs a superuser and is one transaction: all of it or nothing, and running it again changes nothing. `grant`
runs as the owner of the tables, after every migration and at the end of `init`; it also makes each city's own views,
so a view that a migration adds reaches the cities by itself; and each city's own functions, which are those of schema
hanse with the city's views in their place, run with the reader's rights. Which addresses may connect, and that only
over TLS, is pg_hba.conf's (docs/operations/roles.md).
"""

import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from storage.connection import parameters, place, refusal
from storage.errors import Refused, outcome
from storage.schema import NEEDED

OWNER = "hanse_owner"
CITY = re.compile(r"[a-z][a-z0-9_]{0,31}")
RESERVED = frozenset({"alliance", "owner", "migrator", "ingest", "metrics", "reader"})

# A reader can set most of these away; connections and temporary files are what holds.
READER = {
    "statement_timeout": "30s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
    "default_transaction_read_only": "on",
    "temp_file_limit": "1GB",
}


class Role(NamedTuple):
    """A role that may log in. Settings aren't inherited from the group, so each has its own."""

    name: str
    connections: int
    settings: dict[str, str]
    reader: bool = False


MIGRATOR = Role("hanse_migrator", 6, {"role": OWNER})
INGEST = Role("hanse_ingest", 32, {})
METRICS = Role("hanse_metrics", 3, READER)
ALLIANCE = Role("hanse_reader_alliance", 10, READER | {"statement_timeout": "60s"}, reader=True)

SUPERUSER = "select rolsuper from pg_roles where rolname = current_user"
FOREIGN = """
select n.nspname, pg_get_userbyid(n.nspowner) from pg_namespace n
 where n.nspname in ('store', 'hanse') and pg_get_userbyid(n.nspowner) <> %s
"""
# What PUBLIC may do by default and nobody needs: temporary tables and large objects fill the disk, and an advisory
# lock in the wrong hands stops the ingest.
SHUT = """
do $$
declare f regprocedure;
begin
  execute format('revoke all on database %I from public', current_database());
  execute format('grant create, connect on database %I to hanse_owner', current_database());
  execute format('grant connect on database %I to hanse_migrator, hanse_ingest, hanse_metrics, hanse_reader',
                 current_database());
  execute format('grant temporary on database %I to hanse_ingest, hanse_owner', current_database());
  revoke all on schema public from public;
  grant usage on schema public to hanse_owner, hanse_metrics;  -- TimescaleDB's functions
  for f in select oid::regprocedure from pg_proc where pronamespace = 'pg_catalog'::regnamespace
                                         and proname in ('lo_creat', 'lo_create', 'lo_from_bytea') loop
    execute format('revoke execute on function %s from public', f);
  end loop;
  for f in select oid::regprocedure from pg_proc where pronamespace = 'pg_catalog'::regnamespace
                                         and proname ~ '^pg_(try_)?advisory_' loop
    execute format('revoke execute on function %s from public', f);
    execute format('grant execute on function %s to hanse_owner, hanse_ingest', f);
  end loop;
end $$
"""
# Nothing where the roles were not made, as in a database with one role for all.
GRANT = r"""
do $$
declare r record; v record; own text; shared text;
begin
  if current_user <> 'hanse_owner' or to_regnamespace('hanse') is null then return; end if;
  if (select max(version) from store.schema_migration) < NEEDED then return; end if;
  grant usage on schema store, hanse to hanse_ingest, hanse_metrics;
  grant usage on schema hanse to hanse_reader_alliance;

  grant select, insert on store.observation, store.property to hanse_ingest;
  grant update (value, quality, quality_tests, received_at) on store.observation to hanse_ingest;
  grant select, insert, update on store.city, store.datastream, store.datastream_quota, store.consumer_offset,
    store.ledger, store.dead_message, store.dead_letter, store.dead_letter_bytes to hanse_ingest;
  grant select, insert, update, delete on store.dialect_state to hanse_ingest;
  grant select, insert, update on store.series_state to hanse_ingest;
  grant insert on store.rollup_dirty to hanse_ingest;
  grant select on store.rollup_state, store.schema_migration, hanse.ledger to hanse_ingest;

  grant select on store.city, store.property, store.datastream, store.consumer_offset, store.ledger, store.dead_letter,
    store.dead_letter_bytes, store.dead_letter_purge, store.rollup_state, store.rollup_dirty, store.city_dirty,
    store.schema_migration to hanse_metrics;
  grant select (datastream_id, phenomenon_time) on store.observation to hanse_metrics;
  grant select on hanse.ledger, hanse.overdue, hanse.latest to hanse_metrics;  -- the status page shows the newest
  grant select on all tables in schema hanse to hanse_reader_alliance;

  for r in select rolname, substr(rolname, length('hanse_reader_') + 1) as city from pg_roles
            where rolname ~ '^hanse_reader_[a-z]' and rolname <> 'hanse_reader_alliance' loop
    own := format('%I', 'hanse_' || r.city);
    execute format('create schema if not exists %s', own);
    for v in select c.relname from pg_class c
              where c.relnamespace = 'hanse'::regnamespace and c.relkind = 'v'
                and exists (select from pg_attribute a
                             where a.attrelid = c.oid and a.attname = 'city' and not a.attisdropped) loop
      execute format('create or replace view %I.%I with (security_barrier) as select * from hanse.%I where city = %L',
                     'hanse_' || r.city, v.relname, v.relname, r.city);
    end loop;
    -- What says nothing of any city, by name: another view without the column might say something of all of them.
    foreach shared in array array['contract_version', 'warning_thresholds'] loop
      execute format('create or replace view %s.%I as select * from hanse.%I', own, shared, shared);
      execute format('grant select on %s.%I to %I', own, shared, r.rolname);
    end loop;
    -- Never as definer: what the reader may not see, the function does not see either.
    for v in select pg_get_functiondef(oid) as made from pg_proc
              where pronamespace = 'hanse'::regnamespace and prokind = 'f' and not prosecdef loop
      execute regexp_replace(v.made, '\mhanse\.', own || '.', 'g');
    end loop;
    execute format('revoke execute on all functions in schema %s from public', own);
    execute format('grant execute on all functions in schema %s to %I', own, r.rolname);
    execute format('grant usage on schema %I to %I', 'hanse_' || r.city, r.rolname);
    execute format('grant select on all tables in schema %I to %I', 'hanse_' || r.city, r.rolname);
  end loop;
end $$
"""

Connection = psycopg.Connection[Any]


class Done(NamedTuple):
    """What `init` did: files written, and roles that nobody can log in as yet."""

    passfiles: list[Path]
    without_password: list[str]


def reader(city: str) -> Role:
    """The role of a city's own services. Raises Refused for a key that no city file may have."""
    if CITY.fullmatch(city) is None or city in RESERVED:
        raise Refused(f"{city!r} is no city's key: a to z, 0 to 9 and _, as in the city file")
    return Role(f"hanse_reader_{city}", 5, READER, reader=True)


def init(dsn: str, cities: Sequence[str], passfiles: Path | None = None) -> Done:
    """Make roles, extension and rights. Raises Refused or Unavailable.

    With `passfiles`, a folder, every role that has no password gets one: from its file there, or made up and written.
    """
    roles = [MIGRATOR, INGEST, METRICS, ALLIANCE, *map(reader, cities)]
    params = parameters(dsn, "hanse-storage init", session=False)
    try:
        conn = psycopg.connect(**params)
    except psycopg.Error as error:
        raise refusal(error, params) from error
    made: list[Path] = []
    try:
        with conn:
            _require(conn, where=place(params))
            conn.execute("set local client_min_messages = 'warning'")
            conn.execute("create extension if not exists timescaledb")
            for role in roles:
                _make(conn, role)
            conn.execute(SHUT)
            if passfiles is not None:
                _passwords(conn, roles, passfiles, made)
            conn.execute(f"set local role {OWNER}")
            grant(conn)
            conn.execute("reset role")
            without = [role.name for role in roles if not _has_password(conn, role)]
    except BaseException as error:
        for file in made:
            file.unlink(missing_ok=True)
        if isinstance(error, psycopg.Error):
            raise outcome(error) from error
        raise
    return Done(made, without)


def grant(conn: Connection) -> None:
    """Give the roles their rights on what is there, and the cities their views; as the owner, otherwise nothing.

    On a schema older than this code nothing either: before an upgrade `init` comes first, and `migrate` does it then.
    """
    conn.execute(GRANT.replace("NEEDED", str(NEEDED)))


def _require(conn: Connection, *, where: str) -> None:
    if conn.execute(SUPERUSER).fetchone() != (True,):
        raise Refused(f"{where} is no superuser, and making roles and the extension needs one; connect as postgres")
    for schema, owner in conn.execute(FOREIGN, (OWNER,)).fetchall():
        raise Refused(
            f"schema {schema} belongs to {owner!r}, not to {OWNER!r}: create role {OWNER}, then run "
            f"`reassign owned by {owner} to {OWNER}` in this database, and this again"
        )


def _make(conn: Connection, role: Role) -> None:
    for group in (OWNER, "hanse_reader"):
        if not _exists(conn, group):
            conn.execute(sql.SQL("create role {} nologin").format(sql.Identifier(group)))
    name = sql.Identifier(role.name)
    if not _exists(conn, role.name):
        conn.execute(sql.SQL("create role {}").format(name))
    conn.execute(
        sql.SQL(
            "alter role {} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls connection limit {}"
        ).format(name, sql.Literal(role.connections))
    )
    if role is MIGRATOR:
        conn.execute(sql.SQL("alter role {} noinherit").format(name))
        conn.execute(sql.SQL("grant {} to {} with inherit false, set true").format(sql.Identifier(OWNER), name))
    if role.reader:
        conn.execute(sql.SQL("grant hanse_reader to {}").format(name))
    for setting, value in role.settings.items():
        conn.execute(sql.SQL("alter role {} set {} = {}").format(name, sql.Identifier(setting), sql.Literal(value)))


def _exists(conn: Connection, name: str) -> bool:
    return conn.execute("select from pg_roles where rolname = %s", (name,)).fetchone() is not None


def _has_password(conn: Connection, role: Role) -> bool:
    found = conn.execute("select rolpassword is not null from pg_authid where rolname = %s", (role.name,)).fetchone()
    return found == (True,)


def _passwords(conn: Connection, roles: Sequence[Role], folder: Path, made: list[Path]) -> None:
    """A password for each role that has none; only its SCRAM verifier reaches the server and its log.

    Files written are added to `made`.
    """
    for role in roles:
        if _has_password(conn, role):
            continue
        file = folder / f"{role.name}.pgpass"
        try:
            if file.exists():
                password = file.read_text().strip().rpartition(":")[2]
            else:
                password = secrets.token_urlsafe(24)
                with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                    out.write(f"*:*:*:{role.name}:{password}\n")
                made.append(file)
        except OSError as error:
            raise Refused(f"password file {file}: {error.strerror}; name a folder that can be written") from error
        verifier = conn.pgconn.encrypt_password(password.encode(), role.name.encode(), b"scram-sha-256").decode()
        conn.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role.name), sql.Literal(verifier)))
