"""A batch's readings while it is under construction: appended one by one, computed by column at the end. Pure.

Readings become entries of parallel lists as they are decoded, and one set of arrays when the batch is taken:
conversion, range, window and flags are computed by column. `number` says whose they are: 0, 1, … of a span of the
batch, -1, -2, … of a replayed record.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from processors.assembling import letter
from processors.mapping import Mapping as Slots
from processors.mapping import Models, Refused, models_of
from processors.meaning import Told
from processors.standard import quality, times
from processors.standard.observation import Ignored, Leaf, QualityTest, Reading, Reason, Rejection
from processors.standard.zones import Zones
from processors.stations import Stations
from storage.rows import Columns, DeadLetter, Replayed, Span

GATEWAY_TIME = int(QualityTest.GATEWAY_TIME)
TESTS_SHIFT = 4  # quality flags fit in four bits; both travel as one number until the batch is taken

Tally = Span | Replayed


class Heard(NamedTuple):
    """Where a message's readings come from: the city, their scope in the mapping, the zones of its clocks."""

    city: str
    scope: int
    zones: Zones


class Readings:
    """Rows and dead letters collected so far."""

    def __init__(self, slots: Slots, stations: Stations) -> None:
        self.slots = slots
        self._stations = stations
        self.clear()

    def clear(self) -> None:
        """Drop everything collected."""
        self.ignored: Counter[tuple[str, str]] = Counter()
        self.dead: list[DeadLetter] = []
        self._slot: list[int] = []
        self._value: list[float] = []
        self._time: list[int] = []
        self._flags: list[int] = []
        self._place: list[int] = []  # the reading's index in its message
        # one entry a message with rows: how many, whose, offset, receive time
        self._rows: list[int] = []
        self._row_span: list[int] = []
        self._row_offset: list[int] = []
        self._row_received: list[int] = []

    def __len__(self) -> int:
        return len(self._slot)

    def add(
        self,
        tally: Tally,
        number: int,
        heard: Heard,
        offset: int,
        received: int,
        leaves: Sequence[Leaf],
        first_place: int = 0,
    ) -> None:
        """Append a message's readings; on a bug in the mapping nothing of them stays."""
        begin = len(self._slot)
        dead_begin = len(self.dead)
        ignored: list[str] = []
        timed = False
        models: Models | None = None
        find, scope = self.slots.slot, heard.scope
        slot, values, stamps, flags, places = self._slot, self._value, self._time, self._flags, self._place
        try:
            for place, said in enumerate(leaves, first_place):
                leaf = said
                if said.__class__ is Rejection:
                    models = models_of(leaves) if models is None else models
                    leaf = self.slots.read(scope, said, models)
                if isinstance(leaf, Reading):
                    found = find(scope, leaf)
                    value = leaf[3]
                    if found.__class__ is not int or value is None or leaf[10].__class__ is bool:
                        timed = timed or isinstance(found, Told)
                        judged = self.slots.judged(found, leaf)
                        if isinstance(judged, Refused):
                            self._refuse_reading(number, offset, place, leaf, judged)
                            continue
                        if isinstance(judged, Ignored):
                            ignored.append(judged.why)
                            continue
                        found, value = judged
                    time = leaf[5]
                    slot.append(found)
                    values.append(np.nan if value is None else value)
                    if time is None:
                        # Distinct after an outage's burst, and the same in every replay.
                        stamps.append(received + offset % 1000)
                        flags.append(leaf[7] | (leaf[8] | GATEWAY_TIME) << TESTS_SHIFT)
                    else:
                        stamps.append(time)
                        flags.append(leaf[7] | leaf[8] << TESTS_SHIFT)
                    places.append(place)
                elif isinstance(leaf, Rejection):
                    self.dead.append(letter(number, offset, place, leaf))
                else:
                    ignored.append(leaf.why)
        except BaseException:
            self._undo(begin, dead_begin)
            raise
        if timed:  # rare: a profile found the time among the leaves, so once more with it
            self._undo(begin, dead_begin)
            leaves = self.slots.dated(scope, leaves, heard.zones, received)
            return self.add(tally, number, heard, offset, received, leaves, first_place)
        for why in ignored:
            self.ignored[heard.city, why] += 1
        tally.decoded += 1
        tally.readings += len(leaves)
        tally.ignored_readings += len(ignored)
        tally.dead_readings += len(self.dead) - dead_begin
        rows = len(slot) - begin
        if rows:
            self._rows.append(rows)
            self._row_span.append(number)
            self._row_offset.append(offset)
            self._row_received.append(received)
        return None

    def _undo(self, begin: int, dead_begin: int) -> None:
        """Take back what a message has left so far."""
        for column in (self._slot, self._value, self._time, self._flags, self._place):
            del column[begin:]
        del self.dead[dead_begin:]

    def refuse(self, tally: Tally, number: int, offset: int, rejection: Rejection, place: int | None = None) -> None:
        """Append the dead letter of a whole message; `place`: of the reading it was replayed for."""
        tally.dead_messages += 1
        self.dead.append(letter(number, offset, place, rejection))

    def _refuse_reading(self, number: int, offset: int, place: int, leaf: Reading, why: Refused) -> None:
        value = None if leaf.value is None else repr(leaf.value)
        told = Rejection(why.reason, why.detail, leaf.device, leaf.channel, leaf.key, value, leaf.unit, leaf.time)
        self.dead.append(letter(number, offset, place, told))

    def columns(self, tallies: Sequence[Tally], ages: Sequence[int], aheads: Sequence[int]) -> Columns:
        """All rows in the order they came; what is outside the window or not finite becomes a dead letter.

        The three arguments run parallel: a number picks from them as an index, so replayed records stand at their end,
        the last first. `ages` and `aheads` in microseconds.
        """
        slots = np.array(self._slot, np.int32)
        raw = np.array(self._value, np.float64)
        stamps = np.array(self._time, np.int64)
        flags = np.array(self._flags, np.int32)
        counts = np.array(self._rows, np.int64)
        span = np.repeat(np.array(self._row_span, np.int16), counts)
        offset = np.repeat(np.array(self._row_offset, np.int64), counts)
        received = np.repeat(np.array(self._row_received, np.int64), counts)
        place = np.array(self._place, np.int32)
        made = self.slots.normalise(
            slots, raw, (flags & (1 << TESTS_SHIFT) - 1).astype(np.int16), (flags >> TESTS_SHIFT).astype(np.int16)
        )
        station = self._stations.limits(self.slots.streams, made.stream)
        if station is not None:
            quality.assess_station(made.value, *station, made.quality, made.quality_tests)
        timely = (stamps >= received - np.array(ages, np.int64)[span]) & (
            stamps <= received + np.array(aheads, np.int64)[span]
        )
        good = timely & made.finite
        columns: tuple[npt.NDArray[np.generic], ...] = (
            made.stream,
            stamps,
            made.value,
            made.quality,
            made.quality_tests,
            received,
            span,
            offset,
            place,
            made.origin,
        )
        if not good.all():
            for row in np.flatnonzero(~good).tolist():
                self._refuse_row(row, tallies, int(span[row]), int(offset[row]), timely=bool(timely[row]))
            columns = tuple(column[good] for column in columns)
        return Columns(*columns)  # type: ignore[arg-type]  # ten of the types above

    def _refuse_row(self, row: int, tallies: Sequence[Tally], span: int, offset: int, *, timely: bool) -> None:
        stream = self.slots.source(self._slot[row])
        if timely:
            reason, detail = Reason.NOT_FINITE, "too large for a float8 in the canonical unit"
        else:
            reason = Reason.TIME_OUT_OF_RANGE
            detail = f"{times.rfc3339(self._time[row])} is outside the city's window around the receive time"
        tallies[span].dead_readings += 1
        self.dead.append(
            DeadLetter(
                span,
                offset,
                self._place[row],
                reason,
                detail,
                stream.device,
                stream.channel,
                stream.raw_key,
                repr(self._value[row]),
                stream.raw_unit,
                self._time[row],
            )
        )
