"""Sorting, repeats and the binary encoding, without a database."""

import struct

import numpy as np

from storage.rows import Columns, columns
from storage.sheet import (
    CONFLICT,
    DUPLICATE,
    EPOCH_2000,
    QUOTA,
    REJECTED,
    RETENTION,
    STORED,
    Sheet,
    Verdicts,
    Written,
    arrange,
    encode,
    screen,
    settle,
)
from storage.timescale import late_hours, raise_newest

NAN = float("nan")
T = 1_795_435_200_000_000


def made(*rows: tuple[int, int, float]) -> Columns:
    """Columns of (stream, time, value)."""
    return columns([(s, T + t, v, 9 if np.isnan(v) else 1, 0, T, 0, n, 0, 0) for n, (s, t, v) in enumerate(rows)])


def test_a_copy_is_read_back_field_by_field_as_postgresql_would():
    sheet = Sheet(
        np.array([7, 8, 9], np.int32),
        np.array([T, T + 1, T - 10**15]),
        np.array([1.5, NAN, -0.0]),
        np.array([1, 9, 3], np.int16),
        np.array([0, 4, 512], np.int16),
        np.array([T + 5, T + 6, T + 7]),
    )
    raw = bytes(encode(sheet))
    assert raw.startswith(b"PGCOPY\n\xff\r\n\0" + bytes(8))
    at, rows = 19, []
    while (fields := struct.unpack_from(">h", raw, at)[0]) != -1:
        at, row = at + 2, []
        for _ in range(fields):
            (length,) = struct.unpack_from(">i", raw, at)
            at += 4
            row.append(None if length < 0 else raw[at : at + length])
            at += max(length, 0)
        rows.append(row)
    assert len(raw) == at + 2
    int4, int2, int8, float8 = ((lambda b, f=f: struct.unpack(f, b)[0]) for f in (">i", ">h", ">q", ">d"))
    kinds = (int4, int2, int2, int8, float8, int8)
    read = [tuple(None if b is None else kind(b) for kind, b in zip(kinds, row, strict=True)) for row in rows]
    assert read == [
        (7, 1, 0, T - EPOCH_2000, 1.5, T + 5 - EPOCH_2000),
        (9, 3, 512, T - 10**15 - EPOCH_2000, -0.0, T + 7 - EPOCH_2000),
        (8, 9, 4, T + 1 - EPOCH_2000, None, T + 6 - EPOCH_2000),
    ]


def test_rows_are_sorted_by_id_and_time_and_the_first_of_a_key_goes_on():
    given = made((0, 5, 1.0), (1, 9, 2.0), (0, 5, 3.0), (1, 1, 4.0), (0, 5, 1.0))
    arranged = arrange(given, np.array([20, 10], np.int32), np.arange(5))
    assert list(zip(arranged.sheet.ids.tolist(), arranged.sheet.times.tolist(), strict=True)) == [
        (10, T + 1),
        (10, T + 9),
        (20, T + 5),
    ]
    assert arranged.rows.tolist() == [3, 1, 0]
    assert list(zip(arranged.repeats.tolist(), arranged.repeated.tolist(), strict=True)) == [(2, 2), (4, 2)]


def test_repeats_are_judged_by_the_value_that_stands_and_null_equals_null():
    given = made((0, 0, 1.0), (0, 0, 2.0), (0, 0, 1.0), (1, 0, NAN), (1, 0, NAN), (1, 0, 0.0))
    arranged = arrange(given, np.array([1, 2], np.int32), np.arange(6))
    written, found = Written.of(arranged.sheet), Verdicts(np.zeros(6, np.int8))
    written.exists(np.array([0]), np.array([2.0]), arranged.sheet)  # the database had 2.0
    assert len(settle(given, arranged, written, found)) == 0
    assert found.codes.tolist() == [CONFLICT, DUPLICATE, CONFLICT, STORED, DUPLICATE, CONFLICT]
    assert found.details[5] == "this time already has the value null, not 0.0"


def test_repeats_of_a_rejected_row_are_still_to_be_written():
    given = made((0, 0, 1.0), (0, 0, 1.0), (1, 0, 1.0), (0, 0, 1.0))
    arranged = arrange(given, np.array([1, 2], np.int32), np.arange(4))
    written, found = Written.of(arranged.sheet), Verdicts(np.zeros(4, np.int8))
    written.codes[0] = REJECTED
    assert settle(given, arranged, written, found).tolist() == [1, 3]
    assert found.codes.tolist() == [REJECTED, STORED, STORED, STORED]


def test_rows_without_a_datastream_or_before_the_retention_are_screened_out():
    given = made((0, 0, 1.0), (1, 0, 1.0), (0, -10, 1.0), (2, 0, 1.0))
    found = screen(given, np.array([5, 0, 0], np.int32), {1: (QUOTA, "full"), 2: (REJECTED, "bad")}, T - 5)
    assert found.codes.tolist() == [STORED, QUOTA, RETENTION, REJECTED]
    assert found.details == {1: "full", 3: "bad"}


def test_the_newest_time_is_that_of_rows_that_are_there():
    given = made((0, 5, 1.0), (0, 9, 1.0), (1, 7, 1.0), (1, 8, 1.0))
    newest = np.array([T + 6, T], np.int64)
    raise_newest(newest, given, Verdicts(np.array([STORED, REJECTED, DUPLICATE, CONFLICT], np.int8)))
    assert newest.tolist() == [T + 6, T + 7]


def test_only_stored_rows_of_hours_summed_up_are_late_and_each_hour_is_named_once():
    hour = 3_600_000_000
    given = made((0, -1, 1.0), (0, -2, 1.0), (1, -hour - 1, 1.0), (1, -1, 1.0), (0, 0, 1.0))
    found = Verdicts(np.array([STORED, STORED, STORED, DUPLICATE, STORED], np.int8))
    late = late_hours(given, np.array([7, 8], np.int32), found, T)
    assert late.tolist() == [[7, T // hour - 1], [8, T // hour - 2]]
    assert len(late_hours(given, np.array([7, 8], np.int32), found, T - 3 * hour)) == 0
