"""A batch's rows as the table will take them: sorted, each key once, encoded for binary COPY. Pure; numpy columns only.

What needs no database is decided here: rows without a datastream or before the retention, and rows that repeat another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from storage.rows import BEFORE_RETENTION, CONFLICTING_VALUE, DATASTREAM_QUOTA, REJECTED_BY_DATABASE, Columns

# What became of a row.
STORED, DUPLICATE, CONFLICT, QUOTA, RETENTION, REJECTED = range(6)
REASONS = {
    CONFLICT: CONFLICTING_VALUE,
    QUOTA: DATASTREAM_QUOTA,
    RETENTION: BEFORE_RETENTION,
    REJECTED: REJECTED_BY_DATABASE,
}

# Binary COPY: signature, flags, length of the header's extension; per row the number of fields, then each with its
# length; at the end a row of -1 fields. Times are microseconds since 2000.
HEADER = np.frombuffer(b"PGCOPY\n\xff\r\n\0" + bytes(8), np.uint8)
TRAILER = np.frombuffer(b"\xff\xff", np.uint8)
EPOCH_2000 = 946_684_800_000_000
_BEFORE = [("fields", ">i2"), ("l1", ">i4"), ("id", ">i4"), ("l2", ">i4"), ("quality", ">i2"), ("l3", ">i4")]
_BEFORE += [("tests", ">i2"), ("l4", ">i4"), ("time", ">i8"), ("l5", ">i4")]
_AFTER = [("l6", ">i4"), ("received", ">i8")]
ROW = np.dtype([*_BEFORE, ("value", ">f8"), *_AFTER])
NULL_ROW = np.dtype([*_BEFORE, *_AFTER])
TEMPLATE = np.array((6, 4, 0, 2, 0, 2, 0, 8, 0, 8, 0.0, 8, 0), ROW)
NULL_TEMPLATE = np.array((6, 4, 0, 2, 0, 2, 0, 8, 0, -1, 8, 0), NULL_ROW)

Indices = npt.NDArray[np.intp]


@dataclass(slots=True)
class Sheet:
    """Rows to be written, sorted by (id, time), each key once. Times in microseconds since the epoch."""

    ids: npt.NDArray[np.int32]
    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    quality: npt.NDArray[np.int16]
    tests: npt.NDArray[np.int16]
    received: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, places: Indices) -> "Sheet":
        """The rows at these places."""
        return Sheet(
            self.ids[places],
            self.times[places],
            self.values[places],
            self.quality[places],
            self.tests[places],
            self.received[places],
        )


@dataclass(slots=True)
class Verdicts:
    """What became of each row, and for the refused ones why."""

    codes: npt.NDArray[np.int8]
    details: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class Written(Verdicts):
    """The same of a sheet's rows, with the values that now stand under their keys."""

    standing: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, sheet: Sheet) -> "Written":
        """All stored, until something else is found."""
        return cls(np.zeros(len(sheet), np.int8), standing=sheet.values.copy())

    def exists(self, places: Indices, values: npt.NDArray[np.float64], sheet: Sheet) -> None:
        """These keys existed already, with these values."""
        self.standing[places] = values
        _judge(self, places, values, sheet.values[places])


class Arranged(NamedTuple):
    """A sheet, the batch's row behind each of its places, and the rows that repeat a key with that key's place."""

    sheet: Sheet
    rows: Indices
    repeats: Indices
    repeated: Indices


def encode(sheet: Sheet) -> memoryview:
    """A whole binary COPY of the rows, NaN as null, in one buffer; rows with null come last, being shorter."""
    null = np.isnan(sheet.values)
    nulls = int(np.count_nonzero(null))
    full = len(sheet) - nulls
    first, last = len(HEADER), len(HEADER) + full * ROW.itemsize
    buffer = np.empty(last + nulls * NULL_ROW.itemsize + len(TRAILER), np.uint8)
    buffer[:first] = HEADER
    buffer[-len(TRAILER) :] = TRAILER
    records = buffer[first:last].view(ROW)
    records[:] = TEMPLATE
    if nulls:
        shorter = buffer[last : -len(TRAILER)].view(NULL_ROW)
        shorter[:] = NULL_TEMPLATE
        _fill(shorter, sheet.at(np.flatnonzero(null)))
        sheet = sheet.at(np.flatnonzero(~null))
    _fill(records, sheet)
    records["value"] = sheet.values
    return buffer.data


def _fill(records: npt.NDArray[np.void], sheet: Sheet) -> None:
    records["id"] = sheet.ids
    records["quality"] = sheet.quality
    records["tests"] = sheet.tests
    records["time"] = sheet.times - EPOCH_2000
    records["received"] = sheet.received - EPOCH_2000


def screen(
    columns: Columns, ids: npt.NDArray[np.int32], refused: Mapping[int, tuple[int, str]], retained_from: int
) -> Verdicts:
    """Verdicts on the rows that need no database. `ids` by stream number, 0 where `refused` says why."""
    found = Verdicts(np.zeros(len(columns), np.int8))
    early = columns.time < retained_from
    if early.any():
        found.codes[early] = RETENTION
    if refused:
        for row in np.flatnonzero(ids[columns.stream] == 0).tolist():
            found.codes[row], found.details[row] = refused[int(columns.stream[row])]
    return found


def arrange(columns: Columns, ids: npt.NDArray[np.int32], rows: Indices) -> Arranged:
    """These rows of a batch by (id, time); of one key the first in the batch goes to the sheet."""
    row_ids, times = ids[columns.stream[rows]], columns.time[rows]
    order = np.lexsort((times, row_ids))  # stable: the first in the batch stays first
    row_ids, times, rows = row_ids[order], times[order], rows[order]
    repeats = repeated = np.zeros(0, np.intp)
    again = np.zeros(len(rows), np.bool_)
    again[1:] = (row_ids[1:] == row_ids[:-1]) & (times[1:] == times[:-1])
    if again.any():
        repeats, repeated = rows[again], (np.cumsum(~again) - 1)[again]
        row_ids, times, rows = row_ids[~again], times[~again], rows[~again]
    sheet = Sheet(
        row_ids, times, columns.value[rows], columns.quality[rows], columns.quality_tests[rows], columns.received[rows]
    )
    return Arranged(sheet, rows, repeats, repeated)


def settle(columns: Columns, arranged: Arranged, written: Written, found: Verdicts) -> Indices:
    """Carry a sheet's verdicts over to the batch's rows and judge the repeats by the values that stand.

    Returns the repeats of rows that were rejected: none of their key is stored yet.
    """
    found.codes[arranged.rows] = written.codes
    found.details |= {int(arranged.rows[place]): detail for place, detail in written.details.items()}
    orphaned = written.codes[arranged.repeated] == REJECTED
    rows, places = arranged.repeats[~orphaned], arranged.repeated[~orphaned]
    _judge(found, rows, written.standing[places], columns.value[rows])
    return np.sort(arranged.repeats[orphaned])


def _judge(found: Verdicts, rows: Indices, standing: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> None:
    """Rows whose key has a value already are duplicates of it, or in conflict with it; null is equal to null."""
    same = (standing == values) | (np.isnan(standing) & np.isnan(values))
    found.codes[rows] = np.where(same, DUPLICATE, CONFLICT)
    for row, kept, value in zip(rows[~same].tolist(), standing[~same].tolist(), values[~same].tolist(), strict=True):
        found.details[row] = f"this time already has the value {_text(kept)}, not {_text(value)}"


def _text(value: float) -> str:
    return "null" if np.isnan(value) else repr(value)
