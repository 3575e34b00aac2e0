"""Slots: what a reading means, found once per source, then remembered; and a batch normalised by them, by column.

A *slot* is the remembered answer for one (scope, device, channel, key, unit, property, model): the number of the
datastream and the affine conversion and gross range of its property, kept as parallel arrays. A scope is a city, a
dialect and what profiles see of the topic. What can't be mapped or converted is refused with its reason,
never guessed; that is `meaning`'s business.
"""

from collections.abc import Mapping as Mapping_
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from processors.clocks import TIME, dated
from processors.matching import NO_PROFILES, Matcher, Profiles
from processors.meaning import Meaning, Refused, Told, find
from processors.profiles import Key
from processors.standard import quality
from processors.standard.observation import Ignored, Leaf, Quality, Reading, Reason, Rejection
from processors.standard.vocabulary import VOCABULARY
from processors.standard.zones import Zones
from storage.rows import Stream, StreamTable

__all__ = ["Careful", "Mapping", "Normalised", "Refused", "models_of"]

Int16s = npt.NDArray[np.int16]
Int32s = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

_GROWTH = 4096
DEGREES = 360.0
MISSING = int(Quality.MISSING)
SENTINEL = Ignored("sentinel")
CLOSED = frozenset({"hanse"})  # dialects whose keys are the vocabulary's own or nothing

SlotKey = tuple[int, str, str, str, str | None, str | None, str]


Models = Mapping_[str, str]


def models_of(leaves: Sequence[Leaf]) -> Models:
    """The models of a message's devices, each as its first reading has it."""
    models: dict[str, str] = {}
    for leaf in leaves:
        if isinstance(leaf, Reading):
            models.setdefault(leaf.device, leaf.model)
    return models


class Careful(NamedTuple):
    """A slot whose values need a look of their own: enumerations, sentinels."""

    slot: int
    key: Key


class Normalised(NamedTuple):
    """A batch's readings in the standard. `finite` is false where the conversion overflowed.

    `origin`: the StreamTable's number of the raw key and unit that each came with.
    """

    stream: Int32s
    value: Floats
    quality: Int16s
    quality_tests: Int16s
    finite: npt.NDArray[np.bool_]
    origin: Int32s


class _Scope(NamedTuple):
    city: str
    dialect: str
    filters: frozenset[str]
    matcher: Matcher


class Mapping:
    """Slots by source, and the vectors that normalise a batch of them."""

    def __init__(self, streams: StreamTable, profiles: Profiles = NO_PROFILES, *, limit: int = 2_000_000) -> None:
        self.streams = streams
        self.limit = limit
        self.profiles = profiles
        self._matchers: dict[str, Matcher] = {}
        self._scopes: list[_Scope] = []
        self._numbers_of_scopes: dict[tuple[str, str, frozenset[str]], int] = {}
        self._slots: dict[SlotKey, int | Careful] = {}
        self._stream = np.zeros(_GROWTH, np.int32)
        self._origin = np.zeros(_GROWTH, np.int32)
        self._numbers = np.zeros((_GROWTH, 6))  # factor, offset, divisor, minimum, maximum, suspect above (NaN: none)
        self._direction = np.zeros(_GROWTH, np.bool_)

    def __len__(self) -> int:
        return len(self._slots)

    def scope(self, city: str, dialect: str, topic: str) -> int:
        """Number of the scope of a topic's readings."""
        matcher = self._matchers.get(city)
        if matcher is None:
            matcher = self._matchers[city] = Matcher(self.profiles, city)
        place = (city, dialect, matcher.filters(topic))
        number = self._numbers_of_scopes.setdefault(place, len(self._scopes))
        if number == len(self._scopes):
            self._scopes.append(_Scope(*place, matcher))
        return number

    def slot(self, scope: int, reading: Reading) -> int | Careful | Told | Refused | Ignored:
        """Number of a reading's slot, found or remembered; otherwise what `judged` needs to know.

        Only slots are remembered: random keys would pile up.
        """
        key = (scope, reading[0], reading[1], reading[2], reading[4], reading[6], reading[9])
        known = self._slots.get(key)
        if known is not None:
            return known
        found = self.meaning(scope, reading)
        if not isinstance(found, Meaning):
            return found
        told = self._scopes[scope]
        stream = Stream(
            told.city, reading.device, found.channel, found.observed.key, reading.key, found.unit, told.dialect
        )
        number = self._add(stream, found)
        slot = self._slots[key] = number if found.key is None else Careful(number, found.key)
        return slot

    def meaning(self, scope: int, reading: Reading) -> Meaning | Told | Refused | Ignored:
        """What a reading's key means, and who knew."""
        told = self._scopes[scope]
        return find(told.matcher, told.dialect, told.filters, reading)

    def judged(
        self, found: int | Careful | Told | Refused | Ignored, reading: Reading
    ) -> tuple[int, float | None] | Refused | Ignored:
        """Slot and value of a reading whose value needs a look: an enumeration, a sentinel, a text."""
        if isinstance(found, Refused | Ignored):
            return found
        if isinstance(found, Told):
            return TIME
        if reading.raw.__class__ is bool and not (isinstance(found, Careful) and found.key.values):
            observed = self.source(found.slot if isinstance(found, Careful) else found).property
            if VOCABULARY[observed].kind != "state":
                return Refused(Reason.NOT_A_NUMBER, f"{str(reading.raw).lower()} is no number; {observed} is no state")
        if isinstance(found, Careful):
            return _looked_up(found, reading)
        if reading.value is not None or reading.quality == MISSING:
            return found, reading.value
        return Refused(Reason.NOT_A_NUMBER, f"{reading.raw!r:.80} is no number, and no profile says what it stands for")

    def read(self, scope: int, leaf: Leaf, models: Models) -> Leaf:
        """A text that its dialect could make nothing of, as a reading, where its key has a meaning; else the leaf.

        A dialect rejects such a leaf (`unmapped_property`); where it does not say the model, that of a neighbour holds:
        `models` are those of its message.
        """
        if not isinstance(leaf, Rejection) or leaf.reason is not Reason.UNMAPPED_PROPERTY or leaf.value is None:
            return leaf
        if self._scopes[scope].dialect in CLOSED:
            return leaf
        device, key = leaf.device, leaf.key
        if device is None or key is None:
            return leaf
        model, text = leaf.model or models.get(device, ""), leaf.value
        reading = Reading(device, leaf.channel or "", key, None, leaf.unit, leaf.time, model=model, raw=text)
        return leaf if isinstance(self.meaning(scope, reading), Refused) else reading

    def dated(self, scope: int, leaves: Sequence[Leaf], zones: Zones, received_us: int) -> Sequence[Leaf]:
        """The leaves with the times that profiles find among them."""
        models = models_of(leaves)
        read = [self.read(scope, leaf, models) for leaf in leaves]
        return dated(read, lambda reading: self.slot(scope, reading), zones, received_us)

    def source(self, slot: int) -> Stream:
        """The datastream of a slot, by the slot's own key and unit."""
        raw_key, raw_unit = self.streams.origins[int(self._origin[slot])]
        return self.streams.streams[int(self._stream[slot])]._replace(raw_key=raw_key, raw_unit=raw_unit)

    def _add(self, stream: Stream, meaning: Meaning) -> int:
        slot = len(self._slots)
        if slot == len(self._stream):
            self._stream = np.resize(self._stream, slot * 2)
            self._origin = np.resize(self._origin, slot * 2)
            self._numbers = np.resize(self._numbers, (slot * 2, 6))
            self._direction = np.resize(self._direction, slot * 2)
        self._origin[slot] = self.streams.origin(stream.raw_key, stream.raw_unit)
        self._stream[slot] = self.streams.number(stream)
        observed, conversion = meaning.observed, meaning.conversion
        suspect = np.nan if observed.suspect_above is None else observed.suspect_above
        self._numbers[slot] = *conversion, observed.minimum, observed.maximum, suspect
        self._direction[slot] = observed.aggregation == "direction"
        return slot

    def normalise(self, slots: Int32s, raw: Floats, source_quality: Int16s, tests: Int16s) -> Normalised:
        """Convert to canonical units and flag. NaN in `raw` is a declared missing value."""
        numbers = self._numbers[slots]
        with np.errstate(over="ignore", invalid="ignore"):
            value = (raw * numbers[:, 0] + numbers[:, 1]) / numbers[:, 2]
        direction = self._direction[slots]
        if direction.any():  # 0 and 360 are one direction; what lies outside stays, and fails its gross range
            value[direction & (value == DEGREES)] = 0.0
        flags, fired = quality.assess(value, numbers[:, 3], numbers[:, 4], source_quality, tests, numbers[:, 5])
        return Normalised(self._stream[slots], value, flags, fired, ~np.isinf(value), self._origin[slots])


def _looked_up(careful: Careful, reading: Reading) -> tuple[int, float | None] | Refused | Ignored:
    """The value that a profile's lists make of a raw one."""
    key, raw, value = careful.key, reading.raw, reading.value
    if raw in key.drop or (value is not None and value in key.drop):
        return SENTINEL
    for text in _spellings(reading):
        stands_for = key.values.get(text)
        if stands_for == "drop":
            return SENTINEL
        if stands_for is not None:
            return careful.slot, None if stands_for == "missing" else stands_for
    if reading.quality == MISSING or (value is not None and not key.values):
        return careful.slot, value
    told = value if raw is None else raw
    if not key.values:
        return Refused(Reason.NOT_A_NUMBER, f"{told!r:.80} is no number")
    return Refused(Reason.NOT_A_NUMBER, f"{told!r:.80} is none of the profile's values: {', '.join(key.values):.200}")


def _spellings(reading: Reading) -> Sequence[str]:
    """How a profile may write a raw value."""
    raw, value = reading.raw, reading.value
    spellings = [raw] if isinstance(raw, str) else [] if raw is None else [str(raw).lower()]
    if value is not None:
        spellings.append(f"{value:.0f}" if value.is_integer() else repr(value))
    return spellings
