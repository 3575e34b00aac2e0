import pytest

from processors.cursor import HOLE_TRIES, Bounds, Cursor, LogReplacedError, RangeLostError, Seek, digest
from storage.rows import Position, TopicPartition
from tests.simulated.log import SimulatedRecord

P = TopicPartition("hanse.raw.kiel", 3)


def record(offset: int, value: bytes = b"x") -> SimulatedRecord:
    return SimulatedRecord(offset, 1000 + offset, b"topic", value, ())


def committed(next_offset: int, value: bytes = b"x") -> Position:
    last = record(next_offset - 1, value)
    return Position(0, next_offset, last.timestamp, digest(last))


def test_a_partition_without_a_row_starts_at_the_log_start() -> None:
    cursor = Cursor(P, None, Bounds(40, 50))
    assert cursor.wanted == 40
    assert cursor.admit([record(40), record(41)])[0] == [record(40), record(41)]
    assert cursor.span_started(40) == (40, 0, True)
    assert cursor.span_started(42) == (42, 0, False)


def test_reading_starts_with_the_record_that_was_committed_last_and_drops_it() -> None:
    cursor = Cursor(P, committed(10), Bounds(0, 20))
    assert cursor.wanted == 9
    taken, seek = cursor.admit([record(9), record(10), record(11)])
    assert (list(taken), seek) == ([record(10), record(11)], Seek.NO)
    assert cursor.next_offset == 12


def test_another_record_before_the_next_offset_means_the_log_was_replaced() -> None:
    cursor = Cursor(P, committed(10), Bounds(0, 20))
    with pytest.raises(LogReplacedError, match="hanse.raw.kiel/3: offset 9 holds another record"):
        cursor.admit([record(9, b"other"), record(10)])


def test_the_same_bytes_at_another_time_are_another_record() -> None:
    cursor = Cursor(P, committed(10), Bounds(0, 20))
    with pytest.raises(LogReplacedError):
        cursor.admit([record(9)._replace(timestamp=5)])


def test_a_log_that_ends_before_the_database_was_rebuilt() -> None:
    with pytest.raises(LogReplacedError, match="stands at offset 10, but the log ends at 4"):
        Cursor(P, committed(10), Bounds(0, 4))


def test_deleted_records_stop_the_process_and_name_the_range() -> None:
    with pytest.raises(RangeLostError, match="offsets 10 to 14 were deleted"):
        Cursor(P, committed(10), Bounds(15, 20))


def test_with_the_explicit_flag_a_deleted_range_is_skipped_and_counted() -> None:
    cursor = Cursor(P, committed(10), Bounds(15, 20), accept_loss=True)
    assert cursor.wanted == 15
    cursor.admit([record(15)])
    assert cursor.span_started(15) == (10, 5, False)


def test_where_retention_removed_the_record_before_it_is_not_asked_for() -> None:
    cursor = Cursor(P, committed(10), Bounds(10, 20))
    assert cursor.wanted == 10
    assert list(cursor.admit([record(10)])[0]) == [record(10)]


def test_records_from_before_the_seek_are_dropped() -> None:
    cursor = Cursor(P, committed(10), Bounds(0, 20))
    assert cursor.admit([record(2), record(3)]) == ((), Seek.NO)
    assert list(cursor.admit([record(8), record(9), record(10)])[0]) == [record(10)]


def test_a_slipped_consumer_is_sent_back() -> None:
    cursor = Cursor(P, None, Bounds(0, 20))
    assert cursor.admit([record(5)]) == ((), Seek.AGAIN)
    assert cursor.wanted == 0
    taken, seek = cursor.admit([record(0), record(1), record(3)])
    assert (list(taken), seek, cursor.wanted) == ([record(0), record(1)], Seek.AGAIN, 2)


def test_a_hole_that_stays_is_a_loss() -> None:
    cursor = Cursor(P, None, Bounds(0, 20))
    cursor.admit([record(0)])
    for _ in range(HOLE_TRIES):
        assert cursor.admit([record(5)])[1] is Seek.AGAIN
    with pytest.raises(RangeLostError, match="offsets 1 to 4 are missing"):
        cursor.admit([record(5)])


def test_a_hole_at_the_very_start_can_be_given_up_explicitly() -> None:
    cursor = Cursor(P, committed(1), Bounds(0, 20), accept_loss=True)
    cursor.admit([record(0)])
    for _ in range(HOLE_TRIES + 1):
        assert cursor.admit([record(5)])[1] is Seek.AGAIN
    assert list(cursor.admit([record(5)])[0]) == [record(5)]
    assert cursor.span_started(5) == (1, 4, False)


def test_what_was_given_back_is_admitted_again() -> None:
    cursor = Cursor(P, None, Bounds(0, 20))
    cursor.admit([record(0), record(1), record(2)])
    cursor.give_back(1)
    assert list(cursor.admit([record(1), record(2)])[0]) == [record(1), record(2)]
