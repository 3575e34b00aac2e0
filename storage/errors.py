"""SQLSTATE to verdict: one table, and the exceptions by which the write path tells its caller what to do.

Bad data is bisected to its row, trouble outside is retried, a wrong set-up is refused with a sentence, anything else is
a bug and stays the error it was. Nothing here waits or retries.
"""

import re
from collections.abc import Collection
from enum import Enum

import psycopg

from storage.rows import TopicPartition


class Verdict(Enum):
    """What an error means for the batch that met it."""

    DATA = "data"  # this row can't be stored, others can
    RETRY = "retry"  # the environment; the same batch will pass later
    REFUSE = "refuse"  # set up wrongly; waiting does not help
    CRASH = "crash"  # a bug


# The longest prefix wins: five characters are a condition, two are its class.
VERDICTS = {
    "08": Verdict.RETRY,  # connection exception
    "22": Verdict.DATA,  # data exception
    "2200H": Verdict.CRASH,  # sequence exhausted: the ids are used up, no row is at fault
    "23502": Verdict.DATA,  # not null
    "23514": Verdict.DATA,  # check
    "25006": Verdict.RETRY,  # read-only: a standby, until the failover is through
    "25P03": Verdict.RETRY,  # idle in transaction for too long
    "25P04": Verdict.RETRY,  # transaction_timeout
    "28": Verdict.REFUSE,  # role or password
    "3D000": Verdict.REFUSE,  # no such database
    "3F000": Verdict.REFUSE,  # no such schema
    "40": Verdict.RETRY,  # serialization failure, deadlock
    "42501": Verdict.REFUSE,  # no right
    "42703": Verdict.REFUSE,  # no such column: another version's schema
    "42704": Verdict.REFUSE,  # no such object or setting: an older server
    "42883": Verdict.REFUSE,  # no such function
    "42P01": Verdict.REFUSE,  # no such table
    "53": Verdict.RETRY,  # disk, memory, connections
    "54000": Verdict.DATA,  # program limit: a value too wide for its index
    "55P03": Verdict.RETRY,  # lock_timeout
    "55006": Verdict.RETRY,  # object in use
    "57": Verdict.RETRY,  # cancelled, shut down, starting up
    "58": Verdict.RETRY,  # system error: input and output
}

# Chunks dropped under a writer show as an internal error (storage.md, choice 6).
DROPPED_CHUNK = re.compile(r"could not open relation with OID", re.IGNORECASE)

# The transaction did not fit its time: half the batch might.
TOO_LONG = frozenset({"25P03", "25P04", "55P03"})


def verdict(error: BaseException) -> Verdict:
    """Class of an error met while talking to the database.

    Without a SQLSTATE it happened in the client: text that can't be encoded is data, a lost connection is retried.
    """
    if isinstance(error, UnicodeError):
        return Verdict.DATA
    if not isinstance(error, psycopg.Error):
        return Verdict.CRASH
    state = error.sqlstate
    if state is None:
        if isinstance(error, psycopg.DataError):
            return Verdict.DATA
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return Verdict.RETRY if lost else Verdict.CRASH
    if state == "XX000" and DROPPED_CHUNK.search(str(error)):
        return Verdict.RETRY
    return VERDICTS.get(state) or VERDICTS.get(state[:2], Verdict.CRASH)


def one_line(error: BaseException) -> str:
    """The first line of what an error says, with its class where it says nothing."""
    text = str(error).strip().split("\n", 1)[0]
    return " ".join(text.split()) or type(error).__name__


class Fenced(Exception):  # noqa: N818  (a verdict, not an accident)
    """Compare-and-set failed: the database stands elsewhere on these partitions. Read the positions again and seek."""

    def __init__(self, partitions: Collection[TopicPartition]) -> None:
        self.partitions = sorted(partitions)
        super().__init__("fenced: " + ", ".join(f"{p.topic}/{p.partition}" for p in self.partitions))


class Unavailable(Exception):  # noqa: N818  (a verdict, not an accident)
    """The environment is in the way; retry with backoff.

    `halve`: the transaction took too long, half the batch may pass. `sqlstate` is None for a lost connection.
    """

    def __init__(self, message: str, sqlstate: str | None = None, *, halve: bool = False) -> None:
        self.sqlstate = sqlstate
        self.halve = halve
        super().__init__(message if sqlstate is None else f"{message} ({sqlstate})")

    @classmethod
    def of(cls, error: BaseException) -> "Unavailable":
        """The verdict for an error of class retry."""
        state = error.sqlstate if isinstance(error, psycopg.Error) else None
        return cls(one_line(error), state, halve=state in TOO_LONG)


class Refused(Exception):  # noqa: N818  (a verdict, not an accident)
    """The set-up is wrong; one sentence says what and the cure. Retrying does not help."""


def outcome(error: BaseException) -> BaseException:
    """What to raise in an error's stead: the verdict for the caller, or the error itself where it is a bug."""
    if isinstance(error, Fenced | Unavailable | Refused):
        return error
    match verdict(error):
        case Verdict.RETRY:
            return Unavailable.of(error)
        case Verdict.REFUSE:
            state = (error.sqlstate if isinstance(error, psycopg.Error) else None) or ""
            return Refused(f"the database refuses: {one_line(error)} ({state}); {CURES.get(state, CURE)}")
        case _:
            return error


CURE = "check that `hanse-storage migrate` ran with this version and that the role has its grants"
CURES = {
    "3D000": "create the database, or correct HANSE_DATABASE_DSN",
    "42501": "connect as the role that may (docs/operations/roles.md), or run `hanse-storage migrate`, which grants",
}
