"""A Parquet file of history, through pyarrow, which is an optional extra. Offsets are row numbers, from 1.

Times are timestamps with a zone, values numbers, names strings; another type refuses the file, since it would hold for
every row. What differs from row to row is a fault of that row.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from processors.history.chunk import NO_TIME, Chunk, Fault, FileError, Int16s, Int64s, check_columns, whole_flags
from processors.standard.observation import Reason
from storage.export import MISSING_EXTRA

NAMES = ("city", "device", "channel", "property", "unit")
FLAGS = frozenset({0, 1, 2, 3, 4, 9})


def _pyarrow() -> tuple[Any, Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415  (an optional extra)
        import pyarrow.compute as pc  # noqa: PLC0415
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise FileError(MISSING_EXTRA) from error
    return pa, pc, pq


class ParquetFile:
    """One file; its schema is read and checked at once. Raises FileError."""

    first = 1

    def __init__(self, path: Path) -> None:
        pa, _, pq = _pyarrow()
        self._path = path
        try:
            with pq.ParquetFile(path) as file:
                self._schema, self._rows = file.schema_arrow, file.metadata.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise FileError(f"no Parquet file: {error}") from error
        check_columns(self._schema.names)
        for name in self._schema.names:
            _check_type(pa, name, self._schema.field(name).type)

    def place(self, at: int) -> float:
        """How much of the file lies before row `at`."""
        return float((at - 1) / max(1, self._rows))

    def chunks(self, at: int, rows: int) -> Iterator[Chunk]:
        """The rows from row number `at` on; row groups before it are not read."""
        pa, _, pq = _pyarrow()
        with pq.ParquetFile(self._path) as file:
            first = 1
            groups: list[tuple[int, int]] = []
            for group in range(file.metadata.num_row_groups):
                end = (first if not groups else groups[-1][1]) + file.metadata.row_group(group).num_rows
                if not groups and end <= at:
                    first = end
                else:
                    groups.append((group, end))
            if not groups:
                return
            try:
                for whole in file.iter_batches(batch_size=rows, row_groups=[group for group, _ in groups]):
                    skipped = min(len(whole), max(0, at - first))
                    first += skipped
                    if batch := whole.slice(skipped):
                        yield self._chunk(batch, first)
                    first += len(whole) - skipped
            except (pa.ArrowInvalid, OSError) as error:
                raise FileError(f"row {first} or later can't be read: {error}") from error

    def _chunk(self, batch: Any, first: int) -> Chunk:
        pa, pc, _ = _pyarrow()
        count, faults = len(batch), dict[int, Fault]()
        given = dict(zip(batch.schema.names, batch.columns, strict=True))

        def texts(name: str) -> list[str]:
            return [text or "" for text in given[name].to_pylist()] if name in given else [""] * count

        def shorts(name: str) -> Int16s:
            whole = pc.fill_null(given[name].cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
            wrong = (whole < 0) | (whole >= 2**15)
            for row in np.flatnonzero(wrong).tolist():
                faults.setdefault(row, Fault(Reason.MALFORMED, f"{name} is {whole[row]}"))
            return np.where(wrong, 0, whole).astype(np.int16)

        def stamps(name: str) -> Int64s:
            cut = given[name].cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64())
            found: Int64s = pc.fill_null(cut, NO_TIME).to_numpy(zero_copy_only=False)
            return found

        value = given["value"].cast(pa.float64(), safe=False)
        null = value.is_null().to_numpy(zero_copy_only=False)
        numbers = np.array(pc.fill_null(value, np.nan).to_numpy(zero_copy_only=False))
        for row in np.flatnonzero(~np.isfinite(numbers) & ~null).tolist():
            faults[row] = Fault(Reason.NOT_FINITE, f"value is {numbers[row]}", str(numbers[row]))
        numbers[~np.isfinite(numbers)] = np.nan
        time = stamps("phenomenon_time")
        for row in np.flatnonzero(time == NO_TIME).tolist():
            faults.setdefault(row, Fault(Reason.INVALID_TIME, "phenomenon_time is null"))
        quality = shorts("quality") if "quality" in given else np.zeros(count, np.int16)
        for row in np.flatnonzero(~np.isin(quality, list(FLAGS))).tolist():
            detail = f"quality is {quality[row]}; it is one of 1, 2, 3, 4, 9"
            faults.setdefault(row, Fault(Reason.MALFORMED, detail))
            quality[row] = 0
        tests = shorts("quality_tests") if "quality_tests" in given else None
        whole_flags(numbers, quality, faults)
        names = {name: texts(name) for name in NAMES}
        for row in _unstorable(names):
            faults[row] = Fault(Reason.INVALID_TEXT, "a name holds a NUL")
        return Chunk(
            first, first + count, np.arange(first, first + count, dtype=np.int64), names["device"], names["channel"],
            names["property"], names["unit"], names["city"] if "city" in given else None, time, numbers, quality,
            tests, stamps("received_at") if "received_at" in given else None, faults, {}, 0,
            lambda at: json.dumps(batch.slice(at - first, 1).to_pylist()[0], default=str, ensure_ascii=False).encode(),
        )  # fmt: skip


def _unstorable(names: dict[str, list[str]]) -> set[int]:
    """Rows with a NUL in a name; looked for one by one only where there is one."""
    return {
        row
        for column in names.values()
        if any("\0" in text for text in set(column))
        for row, text in enumerate(column)
        if "\0" in text
    }


def _check_type(pa: Any, name: str, found: Any) -> None:
    kinds = pa.types
    if name in NAMES:
        plain = found.value_type if kinds.is_dictionary(found) else found
        right, wanted = kinds.is_string(plain) or kinds.is_large_string(plain), "strings"
    elif name in {"phenomenon_time", "received_at"}:
        right, wanted = kinds.is_timestamp(found) and found.tz is not None, "timestamps with a zone"
    elif name == "value":
        right = kinds.is_floating(found) or kinds.is_integer(found) or kinds.is_decimal(found)
        wanted = "numbers"
    else:
        right, wanted = kinds.is_integer(found), "integers"
    if not right:
        raise FileError(f"column {name!r} holds {found}, not {wanted}; write it as such")
