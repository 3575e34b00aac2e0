"""Observations out of the database into a file, in the very format that `hanse-processor import` reads.

Day by day, each in the order of datastream and time: memory stays constant on both sides, no transaction is held open
for long, and the same rows make the same file. Only the public view is read, so a reader's role is enough.
"""

import csv
import io
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import psycopg
from psycopg import sql

from storage.connection import parameters, passfile_fault, place, refusal
from storage.errors import Refused, outcome

COLUMNS = (
    *("city", "device", "channel", "property", "phenomenon_time", "value", "unit", "quality", "quality_tests"),
    "received_at",
)
TIMES = frozenset({"phenomenon_time", "received_at"})
KEPT = (
    "select min(range_start), max(range_end) from timescaledb_information.chunks "
    "where hypertable_schema = 'store' and hypertable_name = 'observation'"
)
FETCH_ROWS = 20_000
ROW_GROUP = 200_000
MISSING_EXTRA = (
    "Parquet needs pyarrow, which is not installed; run `pip install 'hanse-sensor-pipeline[history]'`, or use CSV"
)

Watch = Callable[[int, float], None]


class Selection(NamedTuple):
    """What is exported: one city, some properties (none named: all), times in [begin, end)."""

    city: str
    properties: Collection[str]
    begin: datetime
    end: datetime

    def days(self) -> Iterator[tuple[datetime, datetime]]:
        """The range cut at midnight UTC, as the table's chunks are."""
        begin = self.begin.astimezone(UTC)
        while begin < self.end:
            midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            yield begin, min(midnight, self.end)
            begin = midnight


class Sink(Protocol):
    """Where the rows of one day after the other go. Returns how many there were."""

    def day(self, conn: psycopg.Connection[Any], chosen: Selection, begin: datetime, end: datetime) -> int:
        """Write the rows of [begin, end)."""

    def close(self) -> None:
        """Finish the file."""


def time_of(text: str) -> datetime:
    """A day (its beginning in UTC) or a time with a zone. Raises Refused."""
    with suppress(ValueError, OverflowError):
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
        if len(text) == len("2026-01-01"):
            return found.replace(tzinfo=UTC)
    raise Refused(f"{text!r} is neither a day (2026-01-01) nor a time with a zone (2026-01-01T00:00:00Z)")


def _query(columns: sql.Composable, chosen: Selection, begin: datetime, end: datetime) -> sql.Composed:
    """Constants, not parameters: COPY takes none, and the planner leaves the other chunks out."""
    wanted: sql.Composable = sql.SQL("")
    if chosen.properties:
        wanted = sql.SQL(" and property = any ({})").format(sql.Literal(sorted(chosen.properties)))
    return sql.SQL(
        "select {} from hanse.observations where city = {} and phenomenon_time >= {} and phenomenon_time < {}{} "
        "order by datastream_id, phenomenon_time"
    ).format(columns, sql.Literal(chosen.city), sql.Literal(begin), sql.Literal(end), wanted)


class Csv:
    """CSV by COPY: what the server sends is the file."""

    _COLUMNS = sql.SQL(", ").join(
        sql.SQL("""to_char({0} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as {0}""").format(
            sql.Identifier(name)
        )
        if name in TIMES
        else sql.Identifier(name)
        for name in COLUMNS
    )

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        head = io.StringIO()
        csv.writer(head, lineterminator="\n").writerow(COLUMNS)
        file.write(head.getvalue().encode())

    def day(self, conn: psycopg.Connection[Any], chosen: Selection, begin: datetime, end: datetime) -> int:
        """Write the rows of [begin, end)."""
        query = _query(self._COLUMNS, chosen, begin, end)
        with conn.cursor() as cursor:
            with cursor.copy(sql.SQL("copy ({}) to stdout (format csv)").format(query)) as copy:
                for block in copy:
                    self._file.write(block)
            return cursor.rowcount

    def close(self) -> None:
        """Nothing is left to do."""
        self._file.flush()


class Parquet:
    """Parquet by a cursor on the server, in row groups; needs pyarrow. Raises Refused without it."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415  (an optional extra)
            import pyarrow.parquet as pq  # noqa: PLC0415
        except ImportError as error:
            raise Refused(MISSING_EXTRA) from error
        self._pa = pa
        name, short = pa.dictionary(pa.int32(), pa.string()), pa.int16()
        stamp = pa.timestamp("us", tz="UTC")
        kinds = {"value": pa.float64(), "quality": short, "quality_tests": short} | dict.fromkeys(TIMES, stamp)
        self._schema = pa.schema([(column, kinds.get(column, name)) for column in COLUMNS])
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")

    def day(self, conn: psycopg.Connection[Any], chosen: Selection, begin: datetime, end: datetime) -> int:
        """Write the rows of [begin, end)."""
        columns = sql.SQL(", ").join(
            sql.SQL("(extract(epoch from {}) * 1000000)::int8").format(sql.Identifier(name))
            if name in TIMES
            else sql.Identifier(name)
            for name in COLUMNS
        )
        count = 0
        with conn.transaction(), conn.cursor("export", binary=True) as cursor:
            cursor.execute(_query(columns, chosen, begin, end))
            group: list[Any] = []
            while rows := cursor.fetchmany(FETCH_ROWS):
                count += len(rows)
                turned = zip(self._schema, zip(*rows, strict=True), strict=True)
                arrays = [self._pa.array(cells, field.type) for field, cells in turned]
                group.append(self._pa.record_batch(arrays, schema=self._schema))
                if len(group) * FETCH_ROWS >= ROW_GROUP:
                    self._write(group)
            self._write(group)
        return count

    def _write(self, group: list[Any]) -> None:
        if group:
            table = self._pa.Table.from_batches(group).unify_dictionaries()
            self._writer.write_table(table, row_group_size=ROW_GROUP)
            group.clear()

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


SINKS: dict[str, Callable[[BinaryIO], Sink]] = {"csv": Csv, "parquet": Parquet}


def export(dsn: str, chosen: Selection, kind: str, file: BinaryIO, watch: Watch = lambda *_: None) -> int:
    """Write the selection to a file and return the number of rows; `watch` hears rows and share after each day.

    Nothing is written before the selection is known to be right. Raises Refused, Unavailable, OSError.
    """
    if chosen.begin >= chosen.end:
        raise Refused(f"--from {chosen.begin.isoformat()} is not before --to {chosen.end.isoformat()}")
    params = parameters(dsn, "hanse-export", session=False)
    if fault := passfile_fault(params):
        raise Refused(fault)
    try:
        conn = psycopg.connect(autocommit=True, **params)
    except psycopg.Error as error:
        raise refusal(error, params) from error
    rows = 0
    try:
        with conn:
            conn.execute("set timezone = 'UTC'")
            _check(conn, chosen, where=place(params))
            sink = SINKS[kind](file)
            there = _kept(conn, chosen)
            for begin, end in there.days():
                rows += sink.day(conn, chosen, begin, end)
                watch(rows, (end - there.begin) / (there.end - there.begin))
    except psycopg.Error as error:
        raise outcome(error) from error
    sink.close()
    return rows


def _kept(conn: psycopg.Connection[Any], chosen: Selection) -> Selection:
    """What of the selection the table has chunks for: of the centuries before and after, no day is asked for."""
    begin, end = conn.execute(KEPT).fetchone() or (None, None)
    if begin is None or end is None:
        return chosen._replace(end=chosen.begin)
    return chosen._replace(begin=max(chosen.begin, begin), end=min(chosen.end, end))


def _check(conn: psycopg.Connection[Any], chosen: Selection, *, where: str) -> None:
    """A name that the database does not know would make an empty file: say so instead."""
    known = conn.execute("select distinct city, property from hanse.datastreams").fetchall()
    cities = sorted({city for city, _ in known})
    if chosen.city not in cities:
        raise Refused(f"{where} has no readings of a city {chosen.city!r}; it has {', '.join(cities) or 'none at all'}")
    there = {key for city, key in known if city == chosen.city}
    if missing := sorted(set(chosen.properties) - there):
        raise Refused(f"{chosen.city} has no {missing[0]!r}; it has {', '.join(sorted(there))}")


def part_of(path: Path) -> Path:
    """Where a file is written until it is whole."""
    return path.with_name(path.name + ".part")
