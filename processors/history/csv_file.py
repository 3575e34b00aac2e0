"""A CSV file of history: UTF-8, commas, a header line, one row a line. Offsets are line numbers, as an editor has them.

A run of lines is taken column by column; only what does not fit is looked at again, line by line, so that a bad one
never stops its neighbours. A quoted cell may hold commas and quotes, not the end of a line.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from processors.history.chunk import NO_TIME, Chunk, Fault, FileError, Int64s, check_columns, whole_flags
from processors.standard import times
from processors.standard.observation import Reason

BLOCK = 1 << 20
LONGEST_LINE = 1 << 20
HEADER = 1  # its line number
NUMBER_SIGNS = frozenset("0123456789+-.eE")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
QUALITIES = {"": 0, "1": 1, "2": 2, "3": 3, "4": 4, "9": 9}
TESTS = re.compile(r"\d{1,5}", re.ASCII)
LARGEST_TESTS = 2**15 - 1
BOM = b"\xef\xbb\xbf"

T = TypeVar("T")


class CsvFile:
    """One file; the header is read and checked at once. Raises FileError."""

    first = HEADER + 1

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._size = max(1, path.stat().st_size)
        with path.open("rb") as file:
            head = file.readline(LONGEST_LINE).removeprefix(BOM)
        try:
            text = head.decode().rstrip("\r\n")
            names = next(csv.reader([text], strict=True), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise FileError(f"line 1 is no CSV header in UTF-8: {error}") from error
        if len(names) == 1 and ";" in text:
            raise FileError("the columns are separated by ';'; the format has commas, and points in numbers")
        check_columns(names)
        self._places = {name: place for place, name in enumerate(names)}
        self._width = len(names)

    def place(self, at: int) -> float:
        """About how much of the file has been read."""
        del at
        return self._read / self._size

    def chunks(self, at: int, rows: int) -> Iterator[Chunk]:
        """The rows from line `at` on."""
        with self._path.open("rb") as file:
            file.readline()
            number = self.first
            for lines in self._lines(file, rows):
                skipped = max(0, at - number)
                number += len(lines)
                if skipped < len(lines):
                    yield self._chunk(lines[skipped:], number - len(lines) + skipped)

    def _lines(self, file: BinaryIO, rows: int) -> Iterator[list[bytes]]:
        """Runs of at most `rows` whole lines, without their ends."""
        ready: list[bytes] = []
        tail, number, self._read = b"", self.first, 0
        while block := file.read(BLOCK):
            self._read += len(block)
            *whole, tail = (tail + block).split(b"\n")
            number += len(whole)
            if len(tail) > LONGEST_LINE:
                raise FileError(f"line {number} is longer than {LONGEST_LINE:,} bytes; is this a CSV file?")
            ready += whole
            while len(ready) >= rows:
                yield ready[:rows]
                del ready[:rows]
        if tail:
            ready.append(tail)
        if ready:
            yield ready

    def _chunk(self, lines: list[bytes], first: int) -> Chunk:
        broken: dict[int, Fault] = {}
        offset, rows, blank = self._rows(lines, first, broken)
        columns: list[tuple[str, ...]] = list(zip(*rows, strict=True)) or [()] * self._width
        count = len(rows)

        def cells(name: str) -> Sequence[str] | None:
            return columns[self._places[name]] if name in self._places else None

        def texts(name: str) -> list[str]:
            return list(cells(name) or [""] * count)

        faults: dict[int, Fault] = {}
        time = _times(texts("phenomenon_time"), "phenomenon_time", faults, required=True)
        received = cells("received_at")
        arrived = None if received is None else _times(received, "received_at", faults, required=False)
        value = np.array(_each(texts("value"), _number, _numbers, faults, np.nan), np.float64)
        quality = np.array(_each(texts("quality"), _quality, _qualities, faults, 0), np.int16)
        tests = cells("quality_tests")
        bits = None if tests is None else np.array(_each(tests, _bits, _all_bits, faults, 0), np.int16)
        whole_flags(value, quality, faults)
        city = cells("city")
        return Chunk(
            first, first + len(lines), offset, texts("device"), texts("channel"), texts("property"), texts("unit"),
            None if city is None else list(city), time, value, quality, bits, arrived, faults, broken, blank,
            lambda at: lines[at - first],
        )  # fmt: skip

    def _rows(self, lines: list[bytes], first: int, broken: dict[int, Fault]) -> tuple[Int64s, list[list[str]], int]:
        """Offsets and cells of the lines that have the right form; how many were blank."""
        try:
            text = b"\n".join(lines).decode()
            if "\0" not in text:
                rows = list(csv.reader(text.replace("\r\n", "\n").removesuffix("\r").split("\n"), strict=True))
                if len(rows) == len(lines) and all(len(row) == self._width for row in rows):
                    return np.arange(first, first + len(lines), dtype=np.int64), rows, 0
        except (UnicodeDecodeError, csv.Error):
            pass
        offset, kept, blank = [], [], 0
        for number, line in enumerate(lines, first):
            if not line.strip():
                blank += 1
                continue
            row = self._row(line)
            if isinstance(row, Fault):
                broken[number] = row
            else:
                offset.append(number)
                kept.append(row)
        return np.array(offset, np.int64), kept, blank

    def _row(self, line: bytes) -> list[str] | Fault:
        try:
            text = line.decode().removesuffix("\r")
            row = next(csv.reader([text], strict=True))
        except UnicodeDecodeError as error:
            return Fault(Reason.NOT_UTF8, f"not UTF-8 at byte {error.start + 1} of the line")
        except csv.Error as error:
            return Fault(Reason.MALFORMED, f"no CSV: {error}")
        if len(row) != self._width:
            return Fault(Reason.MALFORMED, f"{len(row)} cells where the header has {self._width}")
        if "\0" in text:
            return Fault(Reason.INVALID_TEXT, "the line holds a NUL")
        return row


def _each(
    cells: Sequence[str],
    one: Callable[[str], T | Fault],
    all_of: Callable[[Sequence[str]], list[T] | None],
    faults: dict[int, Fault],
    instead: T,
) -> list[T]:
    """All cells at once where they are as they should be, otherwise one by one, with the faults noted."""
    found = all_of(cells)
    if found is not None:
        return found
    slowly: list[T] = []
    for row, cell in enumerate(cells):
        value = one(cell)
        if isinstance(value, Fault):
            faults.setdefault(row, value)
            value = instead
        slowly.append(value)
    return slowly


def _numbers(cells: Sequence[str]) -> list[float] | None:
    if not NUMBER_SIGNS.issuperset("".join(cells)):
        return None
    try:
        found = [float(cell) if cell else np.nan for cell in cells]
    except ValueError:
        return None
    return None if np.inf in found or -np.inf in found else found


def _number(cell: str) -> float | Fault:
    text = cell.strip()
    if not text:
        return np.nan
    if not NUMBER.fullmatch(text):
        return Fault(Reason.NOT_A_NUMBER, f"value {cell[:80]!r} is no number", cell[:80])
    value = float(text)
    return value if np.isfinite(value) else Fault(Reason.NOT_FINITE, "value is too large for a double", cell[:80])


def _qualities(cells: Sequence[str]) -> list[int] | None:
    try:
        return [QUALITIES[cell] for cell in cells]
    except KeyError:
        return None


def _quality(cell: str) -> int | Fault:
    flag = QUALITIES.get(cell.strip())
    return Fault(Reason.MALFORMED, f"quality is {cell[:80]!r}; it is one of 1, 2, 3, 4, 9") if flag is None else flag


def _all_bits(cells: Sequence[str]) -> list[int] | None:
    found = {cell: _bits(cell) for cell in set(cells)}
    faultless = {cell: bits for cell, bits in found.items() if isinstance(bits, int)}
    return [faultless[cell] for cell in cells] if len(faultless) == len(found) else None


def _bits(cell: str) -> int | Fault:
    if not cell:
        return 0
    if not TESTS.fullmatch(cell) or int(cell) > LARGEST_TESTS:
        return Fault(Reason.MALFORMED, f"quality_tests is {cell[:80]!r}; it is a bit mask from 0 to {LARGEST_TESTS}")
    return int(cell)


def _times(cells: Sequence[str], name: str, faults: dict[int, Fault], *, required: bool) -> Int64s:
    parse = times.parse
    found = [parse(cell) if cell else NO_TIME for cell in cells]
    try:
        made = np.array(found, np.int64)
    except ValueError:  # a Reason among them
        made = np.array([NO_TIME if isinstance(time, Reason) else time for time in found], np.int64)
        for row, time in enumerate(found):
            if time is Reason.NAIVE_TIME:
                detail = f"{name} {cells[row][:80]!r} has no zone; end it in Z or an offset"
                faults.setdefault(row, Fault(Reason.NAIVE_TIME, detail, cells[row][:80]))
            elif isinstance(time, Reason):
                detail = f"{name} {cells[row][:80]!r} is no RFC 3339 time"
                faults.setdefault(row, Fault(time, detail, cells[row][:80]))
    if required:
        for row in np.flatnonzero(made == NO_TIME).tolist():
            faults.setdefault(row, Fault(Reason.INVALID_TIME, f"{name} is empty"))
    return made
