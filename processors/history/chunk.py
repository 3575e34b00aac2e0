"""What a file of history is: its columns, and a run of its rows as parallel columns. No I/O.

The format is the shared standard as a table, one row a reading; `hanse-storage export` writes it. The readers of files
(CSV, Parquet) make chunks, `intake` makes batches of them.
"""

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from processors.standard.observation import Reason

REQUIRED = ("device", "property", "phenomenon_time", "value", "unit")
OPTIONAL = ("city", "channel", "quality", "quality_tests", "received_at")
COLUMNS = (*REQUIRED, *OPTIONAL)

NO_TIME = np.iinfo(np.int64).min  # stands for a time that is missing, or bad with a fault beside it

Texts = list[str]
Int16s = npt.NDArray[np.int16]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class FileError(Exception):
    """The file can't be read as history; one sentence with the cure."""


class Fault(NamedTuple):
    """Why a row, or its reading, is refused. `value`: the raw text, where that is what is wrong."""

    reason: Reason
    detail: str
    value: str | None = None


class Chunk(NamedTuple):
    """A dense run of a file's rows, [first, end) by offset. The columns hold the rows that have the right form.

    Times in microseconds since the epoch, NO_TIME where absent; NaN is a missing value; quality 0 is none given.
    `faults` of readings by place in the columns, `broken` rows by offset.
    """

    first: int
    end: int
    offset: Int64s
    device: Texts
    channel: Texts
    property: Texts
    unit: Texts
    city: Texts | None
    time: Int64s
    value: Floats
    quality: Int16s
    tests: Int16s | None
    received: Int64s | None
    faults: dict[int, Fault]
    broken: dict[int, Fault]
    blank: int
    raw: Callable[[int], bytes]


class HistoryFile(Protocol):
    """A file that can be read from any of its rows on."""

    first: int  # offset of the first row: its line or row number, as a person counts

    def chunks(self, at: int, rows: int) -> Iterator[Chunk]:
        """The rows from offset `at` on, in runs of at most `rows`. Raises FileError."""

    def place(self, at: int) -> float:
        """About how much of the file, from 0 to 1, lies before the offset that was read last."""


def check_columns(found: Collection[str]) -> None:
    """Raise FileError unless these are columns of the format, with all that are required."""
    if missing := [name for name in REQUIRED if name not in found]:
        raise FileError(f"column {missing[0]!r} is missing; the required ones are {', '.join(REQUIRED)}")
    if unknown := sorted(set(found) - set(COLUMNS)):
        raise FileError(f"column {unknown[0]!r} is not of the format; rename or remove it ({', '.join(COLUMNS)})")
    if len(set(found)) != len(found):
        raise FileError("a column appears twice; remove one of them")


def whole_flags(value: Floats, quality: Int16s, faults: dict[int, Fault]) -> None:
    """A value is missing with quality 9 and only then: note the rows that say otherwise."""
    missing = np.isnan(value)
    for row in np.flatnonzero(missing != (quality == 9)).tolist():  # noqa: PLR2004  (QARTOD's flag for it)
        detail = "no value, but quality is not 9" if missing[row] else "quality 9 says that the value is missing"
        faults.setdefault(row, Fault(Reason.NOT_A_NUMBER, detail))
