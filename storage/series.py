"""Tests over time: each reading against those before it in its datastream. Pure; numpy columns only.

What a reading is compared with is a state of five numbers a datastream, which follows from the rows in the table: the
newest witness, the newest good one, and since when the value has stood still. Witnesses are readings that no other
test doubts. A reading that is not newer than every witness before it is late: it is neither tested nor a witness.

    spike           further than `spike` from both the newest witness and the newest good one, if at most an hour old
    rate of change  further than `step` from both; `step` grows with the time between them beyond `step_us`
    flat line       the same value for `flat_us` or longer, with no gap longer than that

Good is a witness that neither spike nor rate of change doubts. Two references make a lasting change of level cost one
flag, and the return from an outlier none.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from storage.rows import Batch, Columns, Span, Stream, StreamTable, TimeLimits, TopicPartition

SPIKE, RATE, FLAT = 1 << 4, 1 << 5, 1 << 6  # in quality_tests
GOOD, NOT_EVALUATED, SUSPECT = 1, 2, 3
SPIKE_WITHIN_US = 3_600_000_000  # what is older is no neighbour
MEMORY_US = 24 * SPIKE_WITHIN_US  # nothing older is compared; a flat line is at most half of it
# Rows outside are refused by the table's own check; a reading from 2150 must not make all later ones late.
FIRST_US, END_US = 1_577_836_800_000_000, 4_102_444_800_000_000
NEVER = -np.inf

# Columns of a state. Times are floats: microseconds are whole numbers in a float8 until the year 2255.
LAST_TIME, LAST, GOOD_TIME, GOOD_VALUE, SINCE = range(5)
NOTHING = np.array((NEVER, np.nan, NEVER, np.nan, NEVER))

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Bits = npt.NDArray[np.int16]
Codes = npt.NDArray[np.int8]
States = npt.NDArray[np.float64]  # a row of five a datastream
LimitsOf = Callable[[Stream], TimeLimits | None]


class Followed(NamedTuple):
    """Tests fired by reading, which readings are witnesses (not late), and the states behind them."""

    fired: Bits
    witness: Bools
    states: States


def follow(
    group: npt.NDArray[np.intp], moment: tuple[Ints, Ints], time: Ints, value: Floats, limits: Floats, states: States
) -> Followed:
    """Test readings of several datastreams, in their order.

    group: 0, 1, … by datastream, each at least once. moment: offset and span of the message; the readings of one
    message are taken in the order of their times. limits: a row of TimeLimits by group. states: before, by group.
    """
    order = np.argsort(group, kind="stable")
    g, t = group[order], time[order].astype(np.float64)
    first, before = _before(g, t, states[:, LAST_TIME])
    if not (t > before).all():
        part = first.copy()  # where a message's readings of a datastream begin
        for key in moment:
            part[1:] |= key[order[1:]] != key[order[:-1]]
        again = np.lexsort((t, np.cumsum(part)))
        order, t = order[again], t[again]
        first, before = _before(g, t, states[:, LAST_TIME])
        if not (t > before).all():
            kept = _newest_so_far(g, t, states[:, LAST_TIME])
            order, g, t = order[kept], g[kept], t[kept]
            first, before = _before(g, t, states[:, LAST_TIME])
    v, limit = value[order], limits[g]
    fired, witness, after = np.zeros(len(group), np.int16), np.zeros(len(group), np.bool_), states.copy()
    if not len(order):
        return Followed(fired, witness, after)
    starts = np.flatnonzero(first)
    last = np.roll(v, 1)
    last[starts] = states[g[starts], LAST]
    ends = np.append(starts[1:], len(g)) - 1
    jumps = _jumps(limit, v, t, last, before, absent=False)
    if jumps.any():
        jumps = _against_the_good(jumps, first, (v, t, last, before, limit), states[g[starts]])
    at = np.arange(len(g))
    good = np.maximum.reduceat(np.where(jumps == 0, at, -1), starts)
    same = (v == last) & (t - before <= limit[:, 5])
    since = t
    if same.any():
        began = t.copy()
        on = starts[same[starts]]
        began[on] = states[g[on], SINCE]
        since = began[np.maximum.accumulate(np.where(first | ~same, at, 0))]
    fired[order] = jumps | ((t - since >= limit[:, 5]) * np.int16(FLAT))
    witness[order] = True
    who = g[starts]
    after[who, LAST_TIME], after[who, LAST], after[who, SINCE] = t[ends], v[ends], since[ends]
    known = good >= 0
    after[who[known], GOOD_TIME], after[who[known], GOOD_VALUE] = t[good[known]], v[good[known]]
    return Followed(fired, witness, after)


def _before(group: npt.NDArray[np.intp], time: Floats, last: Floats) -> tuple[Bools, Floats]:
    """Which readings are their group's first, and the time of the one before each; the groups stand together."""
    first = _first(group)
    before = np.roll(time, 1)
    before[first] = last[group[first]]
    return first, before


def _first(group: npt.NDArray[np.signedinteger[Any]]) -> Bools:
    """Whether a reading is its group's first; the groups stand together."""
    first = np.ones(len(group), np.bool_)
    first[1:] = group[1:] != group[:-1]
    return first


def _newest_so_far(group: npt.NDArray[np.intp], time: Floats, last: Floats) -> Bools:
    """Whether a reading is newer than all before it in its group; the groups stand together, in order."""
    _, rank = np.unique(np.concatenate((last, time)), return_inverse=True)
    width = len(rank)
    key, base = group * width + rank[len(last) :], np.arange(len(last)) * width + rank[: len(last)]
    before = np.where(_first(group), base[group], np.roll(key, 1))
    return key > np.maximum.accumulate(before)


def _jumps(limit: Floats, v: Floats, t: Floats, v0: Floats, t0: Floats, *, absent: bool) -> Bits:
    """Bits of the tests that find a reading too far from another; `absent`: what holds where there is no other."""
    apart, age = np.abs(v - v0), t - t0
    rate = apart > limit[:, 1] * np.maximum(1.0, age / limit[:, 2])
    rate |= apart > limit[:, 3] * np.maximum(1.0, age / limit[:, 4])
    spike = np.where(age <= SPIKE_WITHIN_US, apart > limit[:, 0], absent)
    rate = np.where(age <= MEMORY_US, rate, absent)
    return spike * np.int16(SPIKE) | rate * np.int16(RATE)


def _against_the_good(
    jumps: Bits, first: Bools, rows: tuple[Floats, Floats, Floats, Floats, Floats], states: States
) -> Bits:
    """Of the jumps from the reading before, those that are one from the newest good reading too.

    Where the reading before made no jump it is itself the good one, so only jumps in a row wait for each other.
    """
    v, t, last, before, limit = rows
    good, good_time = last.copy(), before.copy()
    good[first], good_time[first] = states[:, GOOD_VALUE], states[:, GOOD_TIME]
    waits = (jumps != 0) & ~first
    waits[1:] &= jumps[:-1] != 0
    fired = np.zeros_like(jumps)
    todo = np.flatnonzero((jumps != 0) & ~waits)
    while len(todo):
        too = _jumps(limit[todo], v[todo], t[todo], good[todo], good_time[todo], absent=True)
        fired[todo] = jumps[todo] & too
        todo = todo[todo + 1 < len(jumps)]
        todo = todo[waits[todo + 1]]
        doubted = todo[fired[todo] != 0]  # then the good one stays the same
        good[doubted + 1], good_time[doubted + 1] = good[doubted], good_time[doubted]
        todo = todo + 1
    return fired


class Readings(NamedTuple):
    """A batch's readings that are tested, by datastream and there in the order of their records.

    place: in the batch's columns, or behind their end in those of its replays. group: number of the datastream in
    `streams`. moment: as `follow` takes it.
    """

    place: Ints
    group: npt.NDArray[np.intp]
    moment: tuple[Ints, Ints]
    time: Ints
    value: Floats
    streams: npt.NDArray[np.int32]


class Series:
    """A writer's memory: the limits of datastreams, and the states behind the batches it committed.

    A state is used only by a batch whose spans begin where the last one of the same partition ended, which
    compare-and-set has confirmed: after a rebalance or an outage all of them are read again.
    """

    def __init__(self, limits_of: LimitsOf | None = None) -> None:
        self._limits_of = limits_of
        self._table: StreamTable | None = None
        self._streams = 0
        self._limits = np.zeros((0, len(TimeLimits._fields)))
        self._tested = np.zeros(0, np.bool_)
        self._known = np.zeros(0, np.bool_)
        self._states = np.zeros((0, len(NOTHING)))
        self._ends: dict[TopicPartition, int] = {}

    def forget(self) -> None:
        """Drop the states."""
        self._known[:] = False
        self._ends.clear()

    def readings(self, batch: Batch, verdicts: Codes, of_replays: Codes | None) -> Readings | None:
        """What is to be tested of a batch; None for nothing. The verdicts: 0 where nothing speaks against a row yet."""
        if self._limits_of is None:
            return None
        self._learn(batch.streams, self._limits_of)
        columns = batch.columns
        place = self._witnesses(columns, verdicts)
        stream, time, value = columns.stream[place], columns.time[place], columns.value[place]
        span, offset = columns.span[place].astype(np.int64), columns.offset[place]
        if batch.replays is not None and of_replays is not None:
            again, records = batch.replays.columns, batch.replays.records
            more = self._witnesses(again, of_replays)
            if len(more):
                mine = again.span[more]
                stream, time = np.append(stream, again.stream[more]), np.append(time, again.time[more])
                value = np.append(value, again.value[more])
                span = np.append(span, np.array([record.span for record in records])[mine])
                offset = np.append(offset, np.array([record.at for record in records])[mine])
                place = np.append(place, more + len(columns))
                order = np.lexsort((place, offset, span))
                stream, time, value, place = stream[order], time[order], value[order], place[order]
                span, offset = span[order], offset[order]
        if not len(place):
            return None
        order = np.argsort(stream, kind="stable")
        stream = stream[order]
        first = _first(stream)
        moment = offset[order], span[order]
        return Readings(place[order], np.cumsum(first) - 1, moment, time[order], value[order], stream[first])

    def _witnesses(self, columns: Columns, verdicts: Codes) -> Ints:
        """Places of the rows that other tests do not doubt, of datastreams that are tested."""
        rows = np.flatnonzero(self._tested[columns.stream])
        if not len(rows):
            return rows
        quality, time = columns.quality[rows], columns.time[rows]
        sound = (quality == GOOD) | (quality == NOT_EVALUATED)
        kept: Ints = rows[sound & (verdicts[rows] == 0) & (time >= FIRST_US) & (time < END_US)]
        return kept

    def _learn(self, table: StreamTable, limits_of: LimitsOf) -> None:
        """Find the limits of datastreams not seen before."""
        if table is not self._table:
            self._table, self._streams = table, 0
            self.forget()
        count = len(table.streams)
        if count > len(self._tested):
            more = count - len(self._tested) + max(4096, count // 2)
            self._limits = np.concatenate((self._limits, np.full((more, len(TimeLimits._fields)), np.nan)))
            self._tested = np.concatenate((self._tested, np.zeros(more, np.bool_)))
            self._known = np.concatenate((self._known, np.zeros(more, np.bool_)))
            self._states = np.concatenate((self._states, np.tile(NOTHING, (more, 1))))
        for number in range(self._streams, count):
            limits = limits_of(table.streams[number])
            self._tested[number] = limits is not None
            if limits is not None:
                self._limits[number] = limits
        self._streams = count

    def unknown(self, readings: Readings, spans: Sequence[Span]) -> npt.NDArray[np.intp]:
        """Groups whose state has to be read."""
        if any(self._ends.get(span.partition, span.first_offset) != span.first_offset for span in spans):
            self._known[:] = False
        return np.flatnonzero(~self._known[readings.streams])

    def limits(self, readings: Readings) -> Floats:
        """Limits by group."""
        return self._limits[readings.streams]

    def states(self, readings: Readings) -> States:
        """States by group, as far as they are known."""
        return self._states[readings.streams]

    def remember(self, batch: Batch, readings: Readings | None, states: States | None) -> None:
        """Keep what a batch left behind, once it is committed."""
        if batch.replays is not None and len(self._known):
            self._known[batch.replays.columns.stream] = False  # a correction may have changed a witness
        if readings is not None and states is not None:
            self._states[readings.streams] = states
            self._known[readings.streams] = True
        for span in batch.spans:
            self._ends[span.partition] = span.next_offset


def flagged(batch: Batch, readings: Readings, followed: Followed) -> Batch:
    """The batch with the flags of the readings that a test found suspect."""
    if not followed.fired.any():
        return batch
    own = len(batch.columns)
    mine = readings.place < own
    columns = _marked(batch.columns, readings.place[mine], followed.fired[mine])
    replays = batch.replays
    if replays is not None:
        marked = _marked(replays.columns, readings.place[~mine] - own, followed.fired[~mine])
        replays = dataclasses.replace(replays, columns=marked)
    return dataclasses.replace(batch, columns=columns, replays=replays)


def _marked(columns: Columns, place: Ints, fired: Bits) -> Columns:
    quality, tests = columns.quality.copy(), columns.quality_tests.copy()
    quality[place[fired != 0]] = SUSPECT
    tests[place] |= fired
    return dataclasses.replace(columns, quality=quality, quality_tests=tests)
