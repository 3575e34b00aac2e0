import pytest

from ingest.acks import AckTracker, InFlight


def test_nothing_is_acknowledged_before_an_older_message_is_kept():
    tracker = AckTracker()
    tracker.receive([b"1", b"2", b"3"])
    assert tracker.complete([1, 2]) == b""
    assert tracker.complete([0]) == b"123"


def test_acks_go_out_in_receive_order_once_each():
    tracker = AckTracker()
    tracker.receive([b"1", b"2"])
    tracker.receive([b"3"])
    assert tracker.complete([0]) == b"1"
    assert tracker.complete([2]) == b""
    assert tracker.complete([1]) == b"23"
    assert len(tracker) == 0


def test_a_message_owed_no_ack_still_holds_back_the_later_ones():
    tracker = AckTracker()
    tracker.receive([b"", b"2"])
    assert tracker.complete([1]) == b""
    assert tracker.complete([0]) == b"2"


def test_what_came_by_an_earlier_connection_is_never_acknowledged():
    tracker = AckTracker()
    tracker.receive([b"old", b"old"])
    tracker.new_epoch()
    first = tracker.receive([b"new"])
    assert tracker.complete([0, 1]) == b""
    assert tracker.complete([0, 1, first]) == b"new"


def test_only_what_is_owed_an_ack_in_this_epoch_comes_again():
    tracker = AckTracker()
    tracker.receive([b"old"])
    tracker.new_epoch()
    first = tracker.receive([b"", b"ack"])
    assert [tracker.comes_again(number) for number in (0, first, first + 1)] == [False, False, True]


@pytest.mark.parametrize(("messages", "size"), [(10, 0), (0, 1_000)])
def test_either_bound_makes_the_gateway_hold_back_until_a_quarter_is_free(messages, size):
    flight = InFlight(10, 1_000)
    flight.add(messages, size)
    assert flight.full
    flight.release(messages // 5, size // 5)
    assert not flight.full
    assert not flight.relaxed
    flight.release(messages // 10, size // 10)
    assert flight.relaxed
