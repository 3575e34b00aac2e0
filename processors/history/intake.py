"""Chunks of a file to batches: the same mapping, units, ranges and flags as for what comes live. No I/O and no clock.

One row is one message with one reading: the ledger's identities hold for a file as they do for a partition.
"""

import hashlib
from typing import NamedTuple

import numpy as np

from ingest.city import City
from processors.history.chunk import NO_TIME, Chunk, Fault, Int16s
from processors.mapping import Mapping, Refused
from processors.standard import quality, times
from processors.standard.observation import QualityTest, Reading, Reason
from processors.stations import Stations
from storage.rows import IMPORT_TOPIC, Batch, Columns, DeadLetter, RawMessage, Span, StreamTable, TopicPartition

DIALECT = "import"
LONGEST_NAME = 255
MICROSECONDS = 1_000_000
# Tests that explain a flag: a row that names one was judged by this standard before, nobody else flagged it.
JUDGED = np.int16(
    QualityTest.GROSS_RANGE
    | QualityTest.STATION_RANGE
    | QualityTest.SPIKE
    | QualityTest.RATE_OF_CHANGE
    | QualityTest.FLAT_LINE
    | QualityTest.VALUE_CLIPPED
)
FLAGGED = np.int16(QualityTest.SOURCE_FLAGGED)


class Origin(NamedTuple):
    """A file as the ledger and the dead letters name it."""

    name: str
    sha256: str

    @property
    def partition(self) -> TopicPartition:
        """Its key in ledger and offsets: the same bytes are the same import, whatever the file is called."""
        return TopicPartition(IMPORT_TOPIC + self.sha256, 0)


class Window(NamedTuple):
    """Which times are taken, in microseconds since the epoch. `now` stands for a receive time that a row lacks."""

    since: int
    now: int


class _Unchanging(set[int]):
    """History says nothing of how a datastream publishes today: its provenance stays as last seen live."""

    def add(self, element: int, /) -> None:
        """Leave it."""


class Intake:
    """Makes batches of one file's chunks; remembers the slots of its datastreams."""

    def __init__(self, city: City, origin: Origin, window: Window) -> None:
        self._city = city.key
        self._ahead = round(city.limits.max_ahead.total_seconds() * MICROSECONDS)
        self._origin = origin
        self._window = window
        streams = StreamTable()
        streams.changed = _Unchanging()
        self._slots = Mapping(streams)
        self._scope = self._slots.scope(city.key, DIALECT, "")
        self._stations = Stations([city])
        self._known: dict[tuple[str, str, str, str], int] = {}

    def batch(self, chunk: Chunk, *, new: bool) -> Batch:
        """The batch of one chunk, whose span is all its offsets. `new`: the database knows nothing of the file yet."""
        slots = self._resolve(chunk)
        good = np.ones(len(slots), np.bool_)
        good[list(chunk.faults)] = False
        received = np.full(len(slots), self._window.now) if chunk.received is None else chunk.received
        received = np.where(received == NO_TIME, self._window.now, received)
        timely = (chunk.time >= self._window.since) & (chunk.time <= received + self._ahead)
        for row in np.flatnonzero(good & ~timely).tolist():
            chunk.faults[row] = Fault(Reason.TIME_OUT_OF_RANGE, self._late(int(chunk.time[row])))
        good &= timely
        rows = np.flatnonzero(good)
        given = np.zeros(len(rows), np.int16) if chunk.tests is None else chunk.tests[rows]
        made = self._slots.normalise(slots[rows], chunk.value[rows], chunk.quality[rows], given)
        station = self._stations.limits(self._slots.streams, made.stream)
        if station is not None:
            quality.assess_station(made.value, *station, made.quality, made.quality_tests)
        tests = _explained(made.quality_tests, given)
        columns = Columns(
            made.stream,
            chunk.time[rows],
            made.value,
            made.quality,
            tests,
            received[rows],
            np.zeros(len(rows), np.int16),
            chunk.offset[rows],
            np.zeros(len(rows), np.int32),
            made.origin,
        )
        if not made.finite.all():
            for row in rows[~made.finite].tolist():
                chunk.faults[row] = Fault(Reason.NOT_FINITE, "too large for a float8 in the canonical unit")
            columns = Columns(*(getattr(columns, name)[made.finite] for name in Columns.__dataclass_fields__))
        return Batch([self._span(chunk, new=new)], columns, self._slots.streams, self._letters(chunk))

    def _late(self, time: int) -> str:
        window = f"{times.rfc3339(self._window.since)} (--since) to its receive time"
        return f"{times.rfc3339(time)} is outside the import's window, {window}"

    def _resolve(self, chunk: Chunk) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """Slot of each row, 0 beside a fault."""
        keys = list(zip(chunk.device, chunk.channel, chunk.property, chunk.unit, strict=True))
        get = self._known.get
        found = [get(key) for key in keys]
        refused: dict[tuple[str, str, str, str], Fault] = {}
        if None in found:
            for row, slot in enumerate(found):
                if slot is None:
                    answer = get(keys[row]) or refused.get(keys[row]) or self._look(keys[row])
                    if isinstance(answer, Fault):
                        refused[keys[row]] = answer
                        chunk.faults.setdefault(row, answer)
                    found[row] = 1 if isinstance(answer, Fault) else answer
        if chunk.city is not None and set(chunk.city) - {self._city, ""}:
            for row, city in enumerate(chunk.city):
                if city not in {self._city, ""}:
                    detail = f"the row is of city {city[:80]!r}, the import of {self._city!r}"
                    chunk.faults.setdefault(row, Fault(Reason.MALFORMED, detail))
        return np.array(found, np.int32) - 1

    def _look(self, key: tuple[str, str, str, str]) -> int | Fault:
        """One more than the slot of a new combination of names, remembered, or why it has none."""
        device, channel, name, unit = key
        if not device:
            return Fault(Reason.NO_DEVICE, "device is empty")
        if len(device) > LONGEST_NAME:
            return Fault(
                Reason.DEVICE_TOO_LONG, f"device has {len(device)} characters, at most {LONGEST_NAME} are taken"
            )
        if len(channel) > LONGEST_NAME:
            return Fault(Reason.MALFORMED, f"channel has {len(channel)} characters, at most {LONGEST_NAME} are taken")
        slot = self._slots.slot(self._scope, Reading(device, channel, name, None, unit or None, None, name))
        if isinstance(slot, Refused):
            return Fault(slot.reason, slot.detail)
        assert isinstance(slot, int), "a named property is neither looked up nor left out"
        self._known[key] = slot + 1
        return slot + 1

    def _span(self, chunk: Chunk, *, new: bool) -> Span:
        topic, received_ms = f"import/{self._origin.name}", self._window.now // 1_000

        def message(offset: int) -> RawMessage:
            if not chunk.first <= offset < chunk.end:
                raise KeyError(offset)
            return RawMessage(topic, chunk.raw(offset), received_ms)

        decoded = len(chunk.offset)
        return Span(
            partition=self._origin.partition,
            city=self._city,
            first_offset=chunk.first,
            next_offset=chunk.end,
            last_timestamp=received_ms,
            last_hash=hashlib.blake2b(chunk.raw(chunk.end - 1), digest_size=16).digest(),
            messages_at=message,
            new=new,
            messages=chunk.end - chunk.first,
            decoded=decoded,
            dead_messages=len(chunk.broken),
            ignored_messages=chunk.blank,
            readings=decoded,
            dead_readings=len(chunk.faults),
        )

    def _letters(self, chunk: Chunk) -> list[DeadLetter]:
        letters = [DeadLetter(0, at, None, fault.reason, fault.detail) for at, fault in sorted(chunk.broken.items())]
        for row, fault in sorted(chunk.faults.items()):
            time = int(chunk.time[row])
            value = None if np.isnan(chunk.value[row]) else repr(float(chunk.value[row]))
            letters.append(
                DeadLetter(
                    0,
                    int(chunk.offset[row]),
                    0,
                    fault.reason,
                    fault.detail,
                    chunk.device[row],
                    chunk.channel[row],
                    chunk.property[row],
                    fault.value or value,
                    chunk.unit[row],
                    None if time == NO_TIME else time,
                )
            )
        return letters


def _explained(fired: Int16s, given: Int16s) -> Int16s:
    """Test bits without the mark of a foreign flag where the row's own bits say which test flagged it."""
    judged = (given & JUDGED).astype(np.bool_) & ~(given & FLAGGED).astype(np.bool_)
    return np.where(judged, fired & ~FLAGGED, fired) if judged.any() else fired
