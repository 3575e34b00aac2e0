"""Sessions and sequence numbers of a Sparkplug edge node: what is older, what ended, what never came."""

import pytest

from processors.dialects import sparkplug
from processors.dialects import sparkplug_births as births
from processors.dialects.memory import merged
from processors.dialects.sparkplug_schema import Payload
from processors.standard.observation import Message, Reading, Reason, Rejection

MINUTE = 60_000_000


def live():
    return Message("t", b"", 0)


def after(*events):
    """State after births and deaths: (kind, bdSeq, own time, receive time)."""
    state = {}
    for kind, sequence, own, at in events:
        if kind == "birth":
            found = births.born(state, sequence, own, at)
            state = state if found is None else {"sessions": found[1]}
        else:
            found = births.died(state, sequence, at)
            state = state if found is None else {"sessions": found}
    return state


def test_a_session_lasts_from_its_birth_to_the_death_with_its_number():
    born = after(("birth", 7, 100, 100))
    assert births.session_of(born, live()) == 100
    assert births.session_of(after(("birth", 7, 100, 100), ("death", 7, None, 200)), live()) is None
    assert births.session_of(after(("birth", 7, 100, 100), ("death", 6, None, 200)), live()) == 100


def test_a_death_without_number_ends_whatever_is_there():
    assert births.session_of(after(("birth", 7, 100, 100), ("death", None, None, 200)), live()) is None


def test_a_birth_with_the_same_number_goes_on_with_its_session():
    assert births.session_of(after(("birth", 7, 100, 100), ("birth", 7, 150, 150)), live()) == 100


def test_after_its_death_the_same_number_is_a_new_session():
    state = after(("birth", 0, 100, 100), ("death", 0, None, 120), ("birth", 0, 150, 150))
    assert births.session_of(state, live()) == 150


@pytest.mark.parametrize(
    ("sequence", "own", "is_older"),
    [
        (6, 50, True),  # both say so
        (7, 50, True),  # a rebirth that came late
        (8, 50, True),  # the time counts more
        (0, 150, False),  # a node that lost its memory begins at 0 again
        (6, None, True),  # no time: the number decides
        (8, None, False),
        (6, 100, True),  # the same time: the number decides
        (None, 150, False),
    ],
)
def test_an_older_birth_never_replaces_a_newer_one(sequence, own, is_older):
    state = after(("birth", 7, 100, 100))
    assert (births.born(state, sequence, own, 200) is None) is is_older


@pytest.mark.parametrize(("known", "sequence", "is_older"), [(255, 0, False), (0, 255, True), (250, 3, False)])
def test_numbers_wrap_at_256(known, sequence, is_older):
    state = after(("birth", known, None, 100))
    assert (births.born(state, sequence, None, 200) is None) is is_older


def test_a_clock_that_fell_back_does_not_shut_a_node_out_for_ever():
    dead = after(("birth", 7, 100 * MINUTE, 1), ("death", 7, None, 2))
    assert births.born(dead, 8, 0, 3) is not None
    assert births.born(dead, 6, 0, 3) is None  # the birth of the session before, late


def test_data_without_birth_opens_a_session_that_the_next_birth_is_of():
    since, sessions = births.noticed({}, 100)
    found = births.born({"sessions": sessions}, 7, 150, 150)
    assert found is not None
    assert (since, found[0]) == (100, 100)


def test_a_replay_belongs_to_the_session_of_its_time():
    state = after(("birth", 7, 100, 100), ("death", 7, None, 200), ("birth", 8, 300, 300))
    times = {50: None, 100: 100, 200: 100, 250: None, 300: 300}
    assert {at: births.session_of(state, Message("t", b"", at, replayed=True)) for at in times} == times


def test_two_sessions_of_one_instant_stay_two():
    state = after(("birth", 7, 100, 100), ("birth", 8, 101, 100))
    assert births.session_of(state, live()) == 101


@pytest.mark.parametrize(
    ("last", "seq", "missed"),
    [(4, 5, 0), (4, 7, 2), (255, 0, 0), (254, 1, 2), (4, 4, None), (4, 2, None)],
)
def test_numbers_that_never_came_are_counted_and_repeated_ones_are_not(last, seq, missed):
    found = births.counted({"seq": {"last": last, "missed": 0}}, seq, birth=False)
    assert found == (None if missed is None else {"last": seq, "missed": missed})


def test_a_birth_starts_the_sequence_without_a_gap():
    assert births.counted({"seq": {"last": 90, "missed": 3}}, 0, birth=True) == {"last": 0, "missed": 3}


def test_each_message_says_how_many_of_its_node_are_missing_right_before_it_and_a_replay_says_nothing():
    state, missed = {}, []
    for kind, seq in (
        ("NBIRTH", 0),
        ("NDATA", 1),
        ("NDATA", 4),
        ("NDATA", 4),
        ("NDATA", 3),
        ("NDATA", 5),
        ("NDATA", 7),
    ):
        payload = Payload(seq=seq, timestamp=1).SerializeToString()
        message = Message(f"spBv1.0/g/{kind}/e", payload, 100)
        assert sparkplug.decode(message._replace(replayed=True), state).missed == 0
        step = sparkplug.decode(message, state)
        state = merged(state, step.changed)
        missed.append(step.missed)
    assert missed == [0, 0, 2, 0, 0, 0, 1]


@pytest.mark.parametrize("born", [False, True])
def test_more_aliases_without_a_name_than_a_message_may_have_keys_are_one_letter_that_a_birth_cures(born):
    count = 30

    def told(at, max_keys, *, birth, names):
        payload = Payload(seq=0)
        for number in range(count if names or not birth else 0):
            payload.metrics.add(name=b"m%d" % number if names else b"", alias=number, datatype=4, long_value=1)
        topic = f"spBv1.0/g/{'NBIRTH' if birth else 'NDATA'}/e"
        return Message(topic, payload.SerializeToString(), at, max_keys=max_keys)

    state = sparkplug.decode(told(1, 1_000, birth=True, names=False), {}).changed if born else {}
    whole = sparkplug.decode(told(2, count - 1, birth=False, names=False), state).decoded
    assert isinstance(whole, Rejection)
    assert (whole.reason, whole.key) == (Reason.UNKNOWN_STATE, None)
    single = sparkplug.decode(told(2, count, birth=False, names=False), state).decoded
    assert [leaf.reason for leaf in single] == [Reason.UNKNOWN_ALIAS] * count
    known = merged(state, sparkplug.decode(told(3, 1_000, birth=True, names=True), state).changed)
    cured = sparkplug.decode(told(4, count - 1, birth=False, names=False), known).decoded
    assert [type(leaf) for leaf in cured] == [Reading] * count
