"""Tests over time: by column as one by one, and the same however the readings are cut into batches."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.rows import (
    Batch,
    Span,
    Stream,
    StreamTable,
    TimeLimits,
    TopicPartition,
    columns,
)
from storage.series import FLAT, NOTHING, RATE, SPIKE, Series, flagged, follow
from tests.one_by_one import OneByOne, Point

T0 = 1_795_435_200_000_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
LIMITS = TimeLimits(6.0, 3.0, MINUTE, 8.0, 60 * MINUTE, 30 * MINUTE)

# Minutes of very different sizes, so that neighbours, memories and flat lines all have an end.
minutes = st.one_of(st.integers(0, 5), st.integers(0, 90), st.integers(0, 3_000))
values = st.sampled_from([0.0, 1.0, 3.5, 4.0, 7.0, 7.5, 20.0])
readings = st.tuples(st.integers(0, 2), minutes, values)
messages = st.lists(st.lists(readings, min_size=1, max_size=4), max_size=25)


def run(told, cuts=(), limits=LIMITS):
    """Bits by message and reading (None: late), the messages cut into batches at `cuts`."""
    found, states = {}, np.tile(NOTHING, (3, 1))
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(told)}), len(told)]
    for begin, end in itertools.pairwise(bounds):
        rows = [(m, n, *one) for m in range(begin, end) for n, one in enumerate(told[m])]
        if not rows:
            continue
        moment, _, stream, at, value = (np.array(column) for column in zip(*rows, strict=True))
        streams, group = np.unique(stream, return_inverse=True)
        done = follow(
            group,
            (moment, np.zeros_like(moment)),
            T0 + at.astype(np.int64) * MINUTE,
            value.astype(np.float64),
            np.tile(np.array(limits), (len(streams), 1)),
            states[streams],
        )
        states[streams] = done.states
        for row, bits, witness in zip(rows, done.fired.tolist(), done.witness.tolist(), strict=True):
            found[row[:2]] = bits if witness else None
    return found


def reference(told, limits=LIMITS):
    streams = [OneByOne(limits) for _ in range(3)]
    found = {}
    for m, message in enumerate(told):
        for n, (stream, at, value) in sorted(enumerate(message), key=lambda one: one[1][1]):
            found[m, n] = streams[stream].bits(Point(T0 + at * MINUTE, value))
    return found


def series(*points):
    return [[(0, at, value)] for at, value in points]


@given(messages, st.lists(st.integers(0, 25)))
@example(series((0, 0.0), (1, 20.0), (2, 20.0), (3, 0.0), (4, 20.0), (5, 0.0)), [2, 4])
def test_however_the_messages_are_cut_into_batches_the_flags_are_those_of_one_by_one(told, cuts):
    assert run(told, cuts) == reference(told)


@given(messages, st.sampled_from(["spike", "step", "other_step", "flat_us"]))
def test_a_test_that_is_not_asked_for_fires_never_and_disturbs_no_other(told, left_out):
    limits = LIMITS._replace(**{left_out: math.nan})
    assert run(told, limits=limits) == reference(told, limits)


@given(messages)
def test_a_message_that_comes_again_changes_nothing(told):
    again = [message for message in told for _ in range(2)]
    found = run(again)
    once = run(told)
    assert {(m // 2, n): bits for (m, n), bits in found.items() if m % 2 == 0} == once
    assert {bits for (m, _), bits in found.items() if m % 2} <= {None}


def bits(*points):
    return [found for _, found in sorted(run(series(*points)).items())]


def test_an_outlier_is_flagged_and_the_return_from_it_is_not():
    assert bits((0, 1.0), (1, 20.0), (2, 1.0), (3, 1.5)) == [0, SPIKE | RATE, 0, 0]


def test_a_lasting_change_of_level_costs_one_flag():
    assert bits((0, 1.0), (1, 20.0), (2, 20.5), (3, 20.0)) == [0, SPIKE | RATE, 0, 0]


def test_every_other_reading_of_a_loose_contact_is_flagged():
    assert bits(*((at, 20.0 if at % 2 else 1.0) for at in range(8))) == [0, SPIKE | RATE] * 4


def test_a_step_may_grow_with_the_time_between_and_a_spike_has_no_neighbour_an_hour_later():
    assert bits((0, 0.0), (1, 3.1)) == [0, RATE]
    assert bits((0, 0.0), (2, 3.1)) == [0, 0]
    assert bits((0, 0.0), (60, 6.5)) == [0, SPIKE]
    assert bits((0, 0.0), (61, 6.5)) == [0, 0]
    assert bits((0, 0.0), (1, 3.0)) == [0, 0]


def test_a_value_that_stands_still_for_long_enough_is_a_flat_line_until_it_moves():
    assert bits((0, 1.0), (10, 1.0), (29, 1.0), (30, 1.0), (31, 1.0), (32, 1.1), (33, 1.1)) == [
        0,
        0,
        0,
        FLAT,
        FLAT,
        0,
        0,
    ]


def test_nobody_knows_what_was_in_a_long_gap_so_it_ends_a_flat_line():
    assert bits((0, 1.0), (20, 1.0), (51, 1.0), (80, 1.0), (81, 1.0)) == [0, 0, 0, 0, FLAT]


def test_readings_of_one_message_are_taken_in_the_order_of_their_times():
    told = [[(0, 3, 1.0), (0, 2, 20.0), (0, 1, 1.0), (0, 0, 1.0)]]
    assert run(told) == {(0, 0): 0, (0, 1): SPIKE | RATE, (0, 2): 0, (0, 3): 0}


KIEL = TopicPartition("hanse.raw.kiel", 0)
TABLE = StreamTable()
NUMBER = TABLE.number(Stream("kiel", "a", "", "air_temperature", "t", "Cel", "hanse"))


def batch(*rows, first=0, table=TABLE):
    span = Span(KIEL, "kiel", first, first + len(rows), 0, b"", lambda offset: None)
    return Batch(
        [span],
        columns(
            [(0, T0 + at * MINUTE, value, flag, 0, T0, 0, first + n, 0, 0) for n, (at, value, flag) in enumerate(rows)]
        ),
        table,
    )


def judged(memory, one):
    asked = memory.readings(one, np.zeros(len(one.columns), np.int8), None)
    done = follow(asked.group, asked.moment, asked.time, asked.value, memory.limits(asked), memory.states(asked))
    memory.remember(one, asked, done.states)
    return flagged(one, asked, done).columns


@pytest.mark.parametrize("flag", [3, 4, 9])
def test_a_reading_that_another_test_doubts_is_neither_tested_nor_compared_with(flag):
    value = math.nan if flag == 9 else 40.0
    found = judged(Series(lambda stream: LIMITS), batch((0, 1.0, 1), (1, value, flag), (2, 1.0, 1)))
    assert found.quality.tolist() == [1, flag, 1]
    assert found.quality_tests.tolist() == [0, 0, 0]


def test_a_doubted_reading_is_suspect_and_the_batch_that_was_decoded_stays_as_it_was():
    one = batch((0, 1.0, 1), (1, 20.0, 2))
    found = judged(Series(lambda stream: LIMITS), one)
    assert (found.quality.tolist(), found.quality_tests.tolist()) == ([1, 3], [0, SPIKE | RATE])
    assert (one.columns.quality.tolist(), one.columns.quality_tests.tolist()) == ([1, 2], [0, 0])


def test_a_reading_from_beyond_the_tables_range_does_not_make_the_later_ones_late():
    year_2150 = (5_680_281_600_000_000 - T0) // MINUTE
    found = judged(Series(lambda stream: LIMITS), batch((0, 1.0, 1), (year_2150, 1.0, 1), (1, 20.0, 1)))
    assert found.quality_tests.tolist() == [0, 0, SPIKE | RATE]


def test_a_batch_without_tested_datastreams_asks_for_nothing():
    memory = Series(lambda stream: None)
    assert memory.readings(batch((0, 1.0, 1)), np.zeros(1, np.int8), None) is None
    assert Series().readings(batch((0, 1.0, 1)), np.zeros(1, np.int8), None) is None


def test_states_are_worth_nothing_once_somebody_else_moved_the_partition():
    memory = Series(lambda stream: LIMITS)
    judged(memory, batch((0, 1.0, 1)))
    on = batch((1, 1.0, 1), first=1)
    asked = memory.readings(on, np.zeros(1, np.int8), None)
    assert memory.unknown(asked, on.spans).tolist() == []
    later = batch((1, 1.0, 1), first=7)
    assert memory.unknown(asked, later.spans).tolist() == [0]


def test_an_error_drops_the_states():
    memory = Series(lambda stream: LIMITS)
    judged(memory, batch((0, 1.0, 1)))
    memory.forget()
    on = batch((1, 1.0, 1), first=1)
    asked = memory.readings(on, np.zeros(1, np.int8), None)
    assert memory.unknown(asked, on.spans).tolist() == [0]
