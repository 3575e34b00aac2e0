"""Rows into the hypertable: binary COPY, merge on conflict, bisection of bad rows. Says of every row what became of it.

Most readings are newer than anything their datastream has, so they go straight in by COPY, which stops at the first
existing key. What may exist already (late or repeated readings, told by a memory of newest times that need not be
right) goes through a temporary table with `on conflict do nothing`, about three times the cost. Should the guess be
wrong, the COPY is rolled back to its savepoint and everything merged. The statements run in the caller's transaction.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from storage.errors import Unavailable, Verdict, one_line, verdict
from storage.metrics import BISECTIONS, COLLISIONS, ROWS
from storage.rows import Columns
from storage.sheet import EPOCH_2000, REJECTED, STORED, Indices, Sheet, Verdicts, Written, arrange, encode, settle

INCOMING = """
create temporary table if not exists incoming (
  datastream_id int4, quality int2, quality_tests int2, phenomenon_time timestamptz, value float8,
  received_at timestamptz
) on commit delete rows
"""
COLUMNS = "(datastream_id, quality, quality_tests, phenomenon_time, value, received_at)"
COPY_STRAIGHT = f"copy store.observation {COLUMNS} from stdin (format binary)"
COPY_INCOMING = f"copy pg_temp.incoming {COLUMNS} from stdin (format binary)"

# Leaves in the temporary table what existed already.
MERGE = f"""
with inserted as (
  insert into store.observation {COLUMNS}
  select datastream_id, quality, quality_tests, phenomenon_time, value, received_at from pg_temp.incoming
   order by datastream_id, phenomenon_time
  on conflict (datastream_id, phenomenon_time) do nothing
  returning datastream_id, phenomenon_time)
delete from pg_temp.incoming i using inserted n
 where i.datastream_id = n.datastream_id and i.phenomenon_time = n.phenomenon_time
"""  # noqa: S608  (constants)

# A statement of its own: its snapshot sees what a concurrent writer committed while MERGE waited for it. LIMIT keeps
# the lookup one index probe a row; the constant range leaves out the chunks that can't match.
EXISTING = """
select i.datastream_id, (extract(epoch from i.phenomenon_time) * 1000000)::int8, o.value
  from pg_temp.incoming i
 cross join lateral (
   select o.value from store.observation o
    where o.datastream_id = i.datastream_id and o.phenomenon_time = i.phenomenon_time
      and o.phenomenon_time between %s::timestamptz and %s::timestamptz
    limit 1) o
"""

MAX_HOLD = 64  # batches merged whole before a COPY is tried again, after it failed time and again

Connection = psycopg.AsyncConnection[Any]


class Table:
    """The hypertable as a writer sees it; remembers only how well guessing went."""

    def __init__(self) -> None:
        self._failures = 0
        self._hold = 0

    async def write(
        self,
        conn: Connection,
        columns: Columns,
        ids: npt.NDArray[np.int32],
        newest: npt.NDArray[np.int64],
        found: Verdicts,
    ) -> None:
        """Write the batch's rows that `found` does not refuse yet, and note there what became of them.

        `ids` and `newest` (times believed to exist) by stream number. The savepoint `rows` must have been set.
        Raises psycopg's errors but for class data, which ends in REJECTED rows.
        """
        rows = np.flatnonzero(found.codes == STORED)
        while len(rows):
            arranged = arrange(columns, ids, rows)
            fresh = arranged.sheet.times > newest[columns.stream[arranged.rows]]
            written = await self._write_sheet(conn, arranged.sheet, fresh)
            rows = settle(columns, arranged, written, found)
            if len(rows):
                await conn.execute("savepoint rows")

    async def _write_sheet(self, conn: Connection, sheet: Sheet, fresh: npt.NDArray[np.bool_]) -> Written:
        """Write rows of different keys; `fresh` marks those believed not to exist."""
        found = Written.of(sheet)
        if self._hold:
            self._hold -= 1
            fresh = np.zeros(len(sheet), np.bool_)
        straight, doubtful = np.flatnonzero(fresh), np.flatnonzero(~fresh)
        try:
            if len(straight) and not await self._copy_straight(conn, sheet, straight):
                doubtful = np.arange(len(sheet))
            if len(doubtful):
                await _merge(conn, sheet, doubtful, found)
        except psycopg.Error as error:
            if verdict(error) is not Verdict.DATA:
                raise
            BISECTIONS.inc()
            found = Written.of(sheet)
            await conn.execute("rollback to savepoint rows")
            await _bisect(conn, sheet, found)
        return found

    async def _copy_straight(self, conn: Connection, sheet: Sheet, places: Indices) -> bool:
        """Whether none of the rows existed; otherwise none is written, and the next batches are more careful."""
        try:
            await _copy(conn, COPY_STRAIGHT, sheet if len(places) == len(sheet) else sheet.at(places))
        except psycopg.errors.UniqueViolation:
            await conn.execute("rollback to savepoint rows")
            COLLISIONS.inc()
            self._failures += 1
            self._hold = min(2 ** (self._failures - 1) - 1, MAX_HOLD)  # not after the first failure
            return False
        self._failures = 0
        ROWS.labels("optimistic").inc(len(places))
        return True


async def _copy(conn: Connection, statement: str, sheet: Sheet) -> None:
    async with conn.cursor() as cursor, cursor.copy(statement) as copy:
        await copy.write(encode(sheet))


async def _merge(conn: Connection, sheet: Sheet, places: Indices, found: Written) -> None:
    """Write rows that may exist; those that do are duplicates or conflicts."""
    rows = sheet.at(places)
    await _copy(conn, COPY_INCOMING, rows)
    first, last = _timestamp(int(rows.times.min())), _timestamp(int(rows.times.max()))
    async with conn.pipeline():
        merged = await conn.execute(MERGE)
        existing = conn.cursor(binary=True)
        await existing.execute(EXISTING, (first, last))
        await conn.execute("delete from pg_temp.incoming")
    ROWS.labels("merge").inc(len(places))
    there = await existing.fetchall()
    if merged.rowcount + len(there) != len(places):
        raise Unavailable("rows that stood in the way of a merge are gone; the batch is written again")
    if there:
        keys = zip(rows.ids.tolist(), rows.times.tolist(), strict=True)
        place_of = dict(zip(keys, places.tolist(), strict=True))
        here = np.array([place_of[stream, time] for stream, time, _ in there], np.intp)
        values = np.array([np.nan if value is None else value for _, _, value in there], np.float64)
        found.exists(here, values, sheet)


def _timestamp(microseconds: int) -> str:
    """A time as PostgreSQL text, exact and for any year it knows; beyond those COPY has failed before."""
    days, rest = divmod(microseconds - EPOCH_2000, 86_400_000_000)
    day = np.datetime64("2000-01-01", "D") + np.timedelta64(days, "D")
    hours, rest = divmod(rest, 3_600_000_000)
    minutes, rest = divmod(rest, 60_000_000)
    return f"{day}T{hours:02}:{minutes:02}:{rest // 1_000_000:02}.{rest % 1_000_000:06}Z"


async def _bisect(conn: Connection, sheet: Sheet, found: Written) -> None:
    """Write all rows but those that the database refuses, found by halving: at most two merges a row."""
    pieces: list[Indices] = [np.arange(len(sheet))]
    while pieces:
        piece = pieces.pop()
        await conn.execute("savepoint piece")
        try:
            await _merge(conn, sheet, piece, found)
        except psycopg.Error as error:
            if verdict(error) is not Verdict.DATA:
                raise
            await conn.execute("rollback to savepoint piece")
            if len(piece) == 1:
                found.codes[piece[0]] = REJECTED
                found.details[int(piece[0])] = f"{one_line(error)} ({error.sqlstate})"
            else:
                middle = len(piece) // 2
                pieces += [piece[middle:], piece[:middle]]
        await conn.execute("release savepoint piece")
