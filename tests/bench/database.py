"""What the harness asks the database: how far it is, how the books stand, and how fast a bare COPY of the rows is.

One session in autocommit, whose own cost is kept out of the figures by its pid.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg

COPY_ROWS = 2_000_000
COPY_PIECE = 262_144  # bytes of one write of the baseline


class Progress(NamedTuple):
    """What is visible in SQL. `by_city`: messages."""

    by_city: dict[str, int]
    messages: int
    readings: int
    wal: int


class Ledger(NamedTuple):
    """Sums over the whole ledger."""

    messages: int
    readings: int
    stored: int
    duplicate: int
    dead: int
    ignored: int
    unaccounted: int


class Database:
    """The harness's session."""

    def __init__(self, dsn: str) -> None:
        self._session = psycopg.connect(dsn, autocommit=True, application_name="bench", prepare_threshold=1)
        self.pid = self._session.info.backend_pid

    def _all(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._session.execute(sql, values, binary=True).fetchall()

    def progress(self) -> Progress:
        """A look cheap enough for ten a second: a row a partition."""
        rows = self._all("select topic, messages, readings from store.ledger")
        wal = self._all("select (pg_current_wal_lsn() - '0/0')::int8")
        by_city: dict[str, int] = {}
        for topic, messages, _ in rows:
            city = topic.rpartition(".")[2]
            by_city[city] = by_city.get(city, 0) + messages
        return Progress(by_city, sum(by_city.values()), sum(row[2] for row in rows), wal[0][0])

    def positions(self) -> dict[tuple[str, int], int]:
        """Next offset of every partition, as committed."""
        rows = self._all("select topic, partition, next_offset from store.consumer_offset")
        return {(topic, partition): offset for topic, partition, offset in rows}

    def ledger(self) -> Ledger:
        """The books' own sums, and what they call unaccounted."""
        sql = """
            select coalesce(sum(messages), 0)::int8, coalesce(sum(readings), 0)::int8, coalesce(sum(stored), 0)::int8,
                   coalesce(sum(duplicate), 0)::int8, coalesce(sum(dead_readings + dead_messages), 0)::int8,
                   coalesce(sum(ignored_readings + ignored_messages), 0)::int8, coalesce(sum(unaccounted), 0)::int8
              from hanse.ledger"""
        return Ledger(*self._all(sql)[0])

    def reasons(self) -> list[tuple[str, str, int]]:
        """Reasons of dead letters with an example each, for a report of what went wrong."""
        sql = "select reason, min(detail), count(*) from store.dead_letter group by reason order by count(*) desc"
        return [(row[0], row[1], row[2]) for row in self._all(sql)]

    def rows(self) -> int:
        """An independent count: the rows themselves."""
        return int(self._all("select count(*) from store.observation")[0][0])

    def copy_rows_per_s(self, most: int = COPY_ROWS) -> float:
        """The ceiling: rows of the run, as they lie in the table, copied as they are into a table of the same shape.

        The same server, unique index, chunks and checks; one session, one transaction, nothing decoded or counted. The
        rows wait in memory before the clock starts.
        """
        data = bytearray()
        with self._session.cursor().copy(
            f"copy (select * from store.observation limit {int(most)}) to stdout (format binary)"
        ) as out:
            for piece in out:
                data += piece
        self._session.execute("create table store.bench_copy (like store.observation including constraints)")
        self._session.execute(
            "select create_hypertable('store.bench_copy', by_range('phenomenon_time', interval '1 day'),"
            " create_default_indexes => false)"
        )
        self._session.execute("create unique index on store.bench_copy (datastream_id, phenomenon_time)")
        self._session.execute("set synchronous_commit = off")
        cursor, view = self._session.cursor(), memoryview(data)
        began = time.monotonic()
        with cursor.copy("copy store.bench_copy from stdin (format binary)") as into:
            for at in range(0, len(view), COPY_PIECE):
                into.write(view[at : at + COPY_PIECE])
        took = time.monotonic() - began
        self._session.execute("drop table store.bench_copy")
        return cursor.rowcount / took

    def close(self) -> None:
        """End the session."""
        self._session.close()
