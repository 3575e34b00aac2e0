"""Connections to the database, with the session settings the guarantees rest on.

A failed attempt becomes one sentence: `Unavailable` where waiting may help, `Refused` where it can't. Never the
password. Retrying is the caller's.
"""

import logging
import re
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo

from storage.errors import Refused, Unavailable, one_line, outcome
from storage.metrics import CONNECTIONS
from storage.schema import STATE_OF_SCHEMA, fault_of_schema

# It warns of a pipeline that ends after its first error, which is raised anyway.
logging.getLogger("psycopg").setLevel(logging.ERROR)

# A frozen owner of a partition must lose its locks, and a half-open connection must be noticed (rule 6).
SESSION = {
    "synchronous_commit": "off",  # a crash loses rows and offset together, and Kafka replays both
    "transaction_timeout": "30s",
    "idle_in_transaction_session_timeout": "10s",
    "lock_timeout": "15s",
    "default_transaction_isolation": "read committed",  # the merge needs a fresh snapshot a statement
    "timezone": "UTC",
    "client_min_messages": "warning",
    "jit": "off",
}
TRANSPORT = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}

# libpq gives a failed attempt no SQLSTATE, only the server's sentence, in English or in the server's language.
REFUSALS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), cure)
    for pattern, cure in (
        (
            r"password authentication failed|Passwort-Authentifizierung",
            "correct the password file and the user in HANSE_DATABASE_DSN",
        ),
        (
            r"no password supplied",
            "name a password file: passfile=… in HANSE_DATABASE_DSN, one host:port:database:user:password a line",
        ),
        (r'role ".*" (does not exist|is not permitted)|Rolle ».*« ', "create the role, or correct HANSE_DATABASE_DSN"),
        (
            r'database ".*" does not exist|Datenbank ».*« existiert',
            "create the database, or correct HANSE_DATABASE_DSN",
        ),
        (r"pg_hba\.conf", "pg_hba.conf must let this user in from this host, over TLS if it says hostssl"),
        (r"permission denied for|keine Berechtigung", "grant connect on the database to the role"),
        (r"certificate|SSL|channel binding", "correct sslmode, sslrootcert or channel_binding in HANSE_DATABASE_DSN"),
        (r"unrecognized configuration parameter", "PostgreSQL 17 or newer is needed"),
        (r"invalid .* value|invalid port number|could not (translate|parse)", "correct HANSE_DATABASE_DSN"),
    )
)
# A name that does not resolve and a server that hangs up may both be about to come back.
PASSING = re.compile(r"could not translate host name|failed to resolve|SSL SYSCALL|SSL connection has been closed")


def parameters(dsn: str, application_name: str, *, session: bool = True) -> dict[str, Any]:
    """Connection parameters: the address's own win over the transport's, the session's are always set."""
    given: dict[str, Any] = dict(conninfo.conninfo_to_dict(dsn))
    if session:
        options = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in SESSION.items())
        given["options"] = f"{given['options']} {options}" if given.get("options") else options
    return TRANSPORT | given | {"application_name": application_name}


def place(params: dict[str, Any]) -> str:
    """Where a connection goes, in words: no secret."""
    host, port = params.get("host", "the local socket"), params.get("port", 5432)
    return f"database {params.get('dbname', '')!r} at {host}:{port} as {params.get('user', '')!r}"


def passfile_fault(params: dict[str, Any]) -> str | None:
    """What is wrong with the named password file; libpq leaves one that others may read aside without a word."""
    named = params.get("passfile")
    if not named:
        return None
    path = Path(str(named))
    try:
        mode = path.stat().st_mode
        path.open("rb").close()
    except OSError as error:
        return f"password file {path}: {error.strerror}; name a readable file"
    if mode & 0o077:
        return f"password file {path} has mode {mode & 0o777:04o}, and libpq ignores it above 0600; chmod 600 it"
    return None


def refusal(error: BaseException, params: dict[str, Any]) -> Refused | Unavailable:
    """The verdict on a failed attempt to connect."""
    text = one_line(error)
    where = place(params)
    if not PASSING.search(text):
        for pattern, cure in REFUSALS:
            if pattern.search(text):
                return Refused(f"{where}: {text}; {cure}")
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return Unavailable(f"{where}: {text}", state)


async def connect(
    dsn: str, application_name: str, *, session: bool = True, checked: bool = True
) -> psycopg.AsyncConnection[Any]:
    """Connect in autocommit; `checked` refuses a schema that this code can't work with.

    Raises Unavailable or Refused.
    """
    params = parameters(dsn, application_name, session=session)
    if fault := passfile_fault(params):
        raise Refused(fault)
    try:
        # Nothing is prepared by itself: an aborted pipeline leaves the client believing in statements that the server
        # never saw. Planning anew costs nothing that could be measured.
        conn: psycopg.AsyncConnection[Any] = await psycopg.AsyncConnection.connect(
            autocommit=True, prepare_threshold=None, **params
        )
    except (psycopg.Error, OSError) as error:
        raise refusal(error, params) from error
    try:
        if checked:
            await _check(conn, where=place(params))
    except BaseException:
        await conn.close()
        raise
    CONNECTIONS.inc()
    return conn


async def _check(conn: psycopg.AsyncConnection[Any], *, where: str) -> None:
    """Raise Refused for a schema that is missing, too old or made for newer code."""
    try:
        cursor = await conn.execute(STATE_OF_SCHEMA)
        row = await cursor.fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        row = None
    except psycopg.Error as error:
        raise outcome(error) from error
    if fault := fault_of_schema(*(row or (None, None))):
        raise Refused(f"{where}: {fault}")
