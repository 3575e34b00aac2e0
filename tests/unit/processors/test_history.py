"""What was announced when: replays are read by what was in force at their time."""

import pytest

from processors.dialects.history import HELD, VERSIONS, in_force, latest, learned
from processors.standard.observation import Message


def live():
    return Message("t", b"", 0)


def replay(at):
    return Message("t", b"", at, replayed=True)


def part_of(*announced, session=0):
    part = None
    for at, what in announced:
        part = learned(part, what, at, session) or part
    return part


def test_a_live_message_is_read_by_the_newest():
    assert in_force(part_of((10, "a"), (20, "b")), live()) == "b"


@pytest.mark.parametrize(("at", "what"), [(5, "a"), (10, "a"), (19, "a"), (20, "b"), (99, "b")])
def test_a_replay_is_read_by_what_held_then_or_came_first_after_it(at, what):
    assert in_force(part_of((10, "a"), (20, "b")), replay(at)) == what


def test_what_came_later_can_be_left_out():
    assert in_force(part_of((10, "a")), replay(5), later=False) is None


def test_the_same_announced_again_changes_nothing():
    assert learned(part_of((10, "a")), "a", 20) is None


def test_what_returns_is_kept_once_and_found_at_both_its_times():
    part = part_of((10, "a"), (20, "b"), (30, "a"))
    assert len(part) == 2
    assert [in_force(part, replay(at)) for at in (15, 25, 35)] == ["a", "b", "a"]


def test_taken_back_is_not_what_came_first_after_it():
    part = part_of((10, "a"), (20, None), (30, "b"))
    assert in_force(part, replay(25)) is None
    assert latest(part_of((10, "a"), (20, None))) is None


def test_to_take_back_what_was_never_announced_changes_nothing():
    assert learned(None, None, 10) is None


def test_sessions_do_not_see_each_other():
    part = learned(learned(None, "a", 10, 1), "b", 20, 2)
    assert [in_force(part, replay(15), session) for session in (1, 2, 3)] == ["a", "b", None]


def test_pieces_that_come_within_the_settling_time_are_one_announcement():
    part = learned(learned(None, "half", 10), "whole", 12, settle=5)
    assert in_force(part, replay(0)) == "whole"
    assert part == [{"is": "whole", "held": [[10, 0]]}]


def test_versions_and_their_times_are_bounded():
    part = None
    for at in range(10):
        part = learned(part, at, at)
    assert [version["is"] for version in part] == [6, 7, 8, 9]
    assert len(part) == VERSIONS
    part = None
    for session in range(HELD + 9):
        part = learned(part, "a", session, session)
    assert len(part[0]["held"]) == HELD


@pytest.mark.parametrize("part", [None, 7, "x", {}, [7], [{}], [{"is": 1, "held": 3}], [{"is": 1, "held": [[1]]}]])
def test_a_spoilt_part_is_no_announcement(part):
    assert in_force(part, live()) is None
    assert learned(part, "a", 1) == [{"is": "a", "held": [[1, 0]]}]
