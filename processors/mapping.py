"""What a reading means: its observed property, canonical unit and datastream. Found once per source, then remembered.

A *slot* is the remembered answer for one (city, dialect, device, channel, key, unit, property): the number of the
datastream and the affine conversion and gross range of its property, kept as parallel arrays so that a batch is
normalised column by column. What can't be mapped or converted is refused with its reason, never guessed.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from processors.standard import quality, units
from processors.standard.observation import Reading, Reason
from processors.standard.vocabulary import VOCABULARY, ObservedProperty
from storage.rows import Stream, StreamTable

Int16s = npt.NDArray[np.int16]
Int32s = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

_GROWTH = 4096
DEGREES = 360.0

SlotKey = tuple[str, str, str, str, str, str | None, str | None, str]


class Refused(NamedTuple):
    """Why a reading has no slot."""

    reason: Reason
    detail: str


class Normalised(NamedTuple):
    """A batch's readings in the standard. `finite` is false where the conversion overflowed."""

    stream: Int32s
    value: Floats
    quality: Int16s
    quality_tests: Int16s
    finite: npt.NDArray[np.bool_]


class Mapping:
    """Slots by source, and the vectors that normalise a batch of them."""

    def __init__(self, streams: StreamTable, *, limit: int = 2_000_000) -> None:
        self.streams = streams
        self.limit = limit
        self._slots: dict[SlotKey, int] = {}
        self._sources: list[tuple[str, Reading]] = []
        self._stream = np.zeros(_GROWTH, np.int32)
        self._numbers = np.zeros((_GROWTH, 5))  # factor, offset, minimum, maximum, suspect above (NaN: no such limit)
        self._direction = np.zeros(_GROWTH, np.bool_)

    def __len__(self) -> int:
        return len(self._slots)

    def slot(self, city: str, dialect: str, reading: Reading) -> int | Refused:
        """Number of a reading's slot, found or remembered. A refusal is not remembered: random keys would pile up."""
        key = (city, dialect, reading[0], reading[1], reading[2], reading[4], reading[6], reading[9])
        known = self._slots.get(key)
        if known is not None:
            return known
        property_key = reading.property
        observed = VOCABULARY.get(property_key) if property_key is not None else None
        if observed is None:
            return Refused(Reason.UNMAPPED_PROPERTY, f"no mapping knows what {reading.key!r:.80} means")
        if reading.unit is None:
            return Refused(Reason.UNKNOWN_UNIT, f"no unit; {observed.key} takes one convertible to {observed.unit}")
        conversion = units.conversion(reading.unit, observed)
        if isinstance(conversion, Reason):
            return Refused(
                conversion, f"unit {reading.unit!r:.40}; {observed.key} takes one convertible to {observed.unit}"
            )
        stream = Stream(city, reading.device, reading.channel, observed.key, reading.key, reading.unit, dialect)
        return self._add(key, stream, conversion, observed)

    def source(self, slot: int) -> Stream:
        """The datastream of a slot, as it was last seen."""
        return self.streams.streams[int(self._stream[slot])]

    def _add(self, key: SlotKey, stream: Stream, conversion: units.Affine, observed: ObservedProperty) -> int:
        slot = len(self._slots)
        if slot == len(self._stream):
            self._stream = np.resize(self._stream, slot * 2)
            self._numbers = np.resize(self._numbers, (slot * 2, 5))
            self._direction = np.resize(self._direction, slot * 2)
        self._stream[slot] = self.streams.number(stream)
        suspect = np.nan if observed.suspect_above is None else observed.suspect_above
        self._numbers[slot] = conversion.factor, conversion.offset, observed.minimum, observed.maximum, suspect
        self._direction[slot] = observed.aggregation == "direction"
        self._slots[key] = slot
        return slot

    def normalise(self, slots: Int32s, raw: Floats, source_quality: Int16s, tests: Int16s) -> Normalised:
        """Convert to canonical units and flag. NaN in `raw` is a declared missing value."""
        numbers = self._numbers[slots]
        with np.errstate(over="ignore", invalid="ignore"):
            value = raw * numbers[:, 0] + numbers[:, 1]
        direction = self._direction[slots]
        if direction.any():  # 0 and 360 are one direction; what lies outside stays, and fails its gross range
            value[direction & (value == DEGREES)] = 0.0
        flags, fired = quality.assess(value, numbers[:, 2], numbers[:, 3], source_quality, tests, numbers[:, 4])
        return Normalised(self._stream[slots], value, flags, fired, ~np.isinf(value))
