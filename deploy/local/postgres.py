"""PostgreSQL 17 with TimescaleDB: safe writes (fsync on), passwords made anew, databases with the extension in 0.1 s.

The first use makes a template cluster that every later one is copied from; in it a template database holds the
extension, so that creating a database is a copy too. Tests that are not about rights use the role `hanse`, which owns
its databases and is no superuser; the stack uses the roles that `hanse-storage init` makes.
"""

import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from local import fetch
from local.paths import OWNED, LocalError, account, as_account, give
from local.process import Identity
from local.server import Server

ROLE = "hanse"
TEMPLATE = "hanse_template"
CONF = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 60
superuser_reserved_connections = 5
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
timescaledb.max_background_workers = 0
max_worker_processes = 8
max_locks_per_transaction = 256
shared_buffers = '256MB'
max_wal_size = '4GB'
min_wal_size = '256MB'
checkpoint_timeout = '10min'
wal_compression = lz4
jit = off
tcp_keepalives_idle = 10
tcp_keepalives_interval = 5
tcp_keepalives_count = 3
tcp_user_timeout = '20s'
client_connection_check_interval = '5s'
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %u@%d '
log_min_messages = warning
lc_messages = 'C'
"""
HBA = "host all all 127.0.0.1/32 scram-sha-256\n"


class Postgres(Server):
    """One cluster. `settings` are lines for postgresql.conf, after ours."""

    kind = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends sessions, writes a checkpoint; SIGTERM would wait for clients
    discard_signal = (
        signal.SIGQUIT
    )  # "immediate": frees its shared memory, which SIGKILL would leave, and writes nothing

    def __init__(self, directory: Path, *, settings: str = "", **common: Any) -> None:
        super().__init__(directory, **common)
        self._settings = settings

    @property
    def passfile(self) -> Path:
        """Passwords of superuser and `hanse`, readable by the owner only."""
        return self.directory / "passfile"

    @property
    def passfiles(self) -> Path:
        """The folder of password files that `hanse-storage init` writes; they live and die with the cluster."""
        return self.directory / "passfiles"

    def dsn(self, database: str, *, superuser: bool = False, role: str | None = None) -> str:
        """The address of a database, its password by passfile; `role`: one that `hanse-storage init` made."""
        passfile = self.passfiles / f"{role}.pgpass" if role else self.passfile
        user = role or ("postgres" if superuser else ROLE)
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}?passfile={quote(str(passfile), safe='')}"

    def create_database(self, name: str, *, owner: str = ROLE) -> str:
        """Create a database with the extension and give its address for the role `hanse`."""
        with self.superuser() as connection:
            connection.execute(
                sql.SQL("create database {} template {} owner {}").format(
                    sql.Identifier(name), sql.Identifier(TEMPLATE), sql.Identifier(owner)
                )
            )
        return self.dsn(name)

    def ensure_database(self, name: str) -> None:
        """Create the database, the superuser's, unless it is there."""
        with self.superuser() as connection:
            there = connection.execute("select from pg_database where datname = %s", [name]).fetchone() is not None
        if not there:
            self.create_database(name, owner="postgres")

    def drop_database(self, name: str) -> None:
        """Drop a database and cut who is connected to it."""
        with self.superuser() as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def superuser(self, database: str = "postgres") -> "psycopg.Connection[Any]":
        """A connection of the superuser that commits by itself."""
        return psycopg.connect(self.dsn(database, superuser=True), autocommit=True)

    def prepare(self, programs: fetch.Installation) -> list[str | Path]:
        """Copy the template cluster if the data folder is new; write the configuration."""
        data = self.directory / "data"
        if not data.exists():
            source = template(programs)
            part = self.directory / "data.part"  # an interrupted copy is not taken for a cluster
            shutil.rmtree(part, ignore_errors=True)
            subprocess.run(["cp", "-a", "--reflink=auto", source / "data", part], check=True)
            shutil.copy(source / "passfile", self.passfile)
            part.rename(data)
        self.write("data/postgresql.conf", CONF.format(port=self.port) + self._settings, mode=0o600)
        self.write("data/pg_hba.conf", HBA, mode=0o600)
        return [programs.postgres / "postgres", "-D", "data"]

    def ready(self) -> bool:
        """Ready by its own word, and a session of the superuser."""
        if not self.logged("ready to accept connections"):  # asking too early only fills the log
            return False
        try:
            self.superuser().close()
        except psycopg.OperationalError:
            return False
        return True


def furnish(server: Postgres, password: str) -> None:
    """Make the role `hanse` and the template database with the extension, in a cluster that has neither."""
    with server.superuser() as connection:
        connection.execute(sql.SQL("create role {} login password {}").format(sql.Identifier(ROLE), password))
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
    with server.superuser(TEMPLATE) as connection:
        connection.execute("create extension if not exists timescaledb")
        # The Apache edition's one built-in job can only fail.
        connection.execute("select _timescaledb_functions.stop_background_workers()")
    with server.superuser() as connection:
        connection.execute(
            sql.SQL("alter database {} with is_template true allow_connections false").format(sql.Identifier(TEMPLATE))
        )


def template(programs: fetch.Installation) -> Path:
    """The folder of the cluster all others are copied from, made at first use (about 3 s)."""
    owner = account()
    recipe = b"1" + os.fsencode(programs.postgres) + (owner.name if owner else "").encode()
    return fetch.part("cluster", recipe, lambda temporary, _: _make_template(programs, temporary))


def _make_template(programs: fetch.Installation, folder: Path) -> None:
    give(folder)
    passwords = {role: secrets.token_urlsafe(24) for role in ("postgres", ROLE)}
    server = Postgres(folder, run=OWNED, name=f"template-{os.getpid()}", owner=Identity.of(os.getpid()))
    server.write("passfile", "".join(f"*:*:*:{role}:{password}\n" for role, password in passwords.items()), mode=0o600)
    server.write("initial", passwords["postgres"], mode=0o600)
    initdb = subprocess.run(
        [
            *(programs.postgres / "initdb", "--pgdata=data", "--username=postgres", "--pwfile=initial"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"),
            *("--no-sync", "--no-instructions"),
        ],
        cwd=folder,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        **as_account(),
    )
    if initdb.returncode:
        raise LocalError(f"initdb failed:\n{initdb.stdout}{initdb.stderr}")
    (folder / "initial").unlink()
    server.start()
    try:
        furnish(server, passwords[ROLE])
    finally:
        server.stop()
    for needless in ("postgres.log", "port"):
        (folder / needless).unlink(missing_ok=True)
