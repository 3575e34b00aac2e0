"""What the pipeline makes of a message, and why, without any server: the very same intake, asked message by message.

Messages are lined up as Kafka records of one partition a city, decoded and normalised in one batch, and the rows,
letters and ignored leaves of it are sorted back to their messages. State of dialects carries on from one to the next.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ingest import wire
from ingest.city import City, Route
from processors.batching import Intake, Source
from processors.cursor import Bounds, Cursor
from processors.default_routes import default_routes, with_defaults
from processors.dialects import DIALECTS, Dialect
from processors.dialects.leaves import SECOND_COPY
from processors.dialects.strict_json import shown
from processors.mapping import Models, models_of
from processors.matching import NO_PROFILES, Profiles
from processors.meaning import Meaning
from processors.routes import Routes
from processors.standard.observation import Decoded, Ignored, Leaf, Reading, Reason, Rejection
from processors.stations import Stations
from storage.rows import Batch, DeadLetter, TopicPartition
from storage.series import Series, flagged, follow

NOBODY = "somewhere"  # the city of messages that name none
# The intake adds (offset mod 1000) microseconds to a receive time, to tell apart what came in a burst. Here the receive
# time is what the caller said, so the offsets are whole thousands.
STEP = 1000
_END = 2**62


class Told(NamedTuple):
    """A message to explain."""

    topic: str
    payload: bytes
    received_ms: int
    city: str | None = None
    retain: bool = False
    dup: bool = False


class Row(NamedTuple):
    """An observation as it would be stored. `value` None: missing. `meaning`: who knew it, how it converts."""

    place: int
    leaf: Reading
    meaning: Meaning
    value: float | None
    time: int
    quality: int
    tests: int


@dataclass(slots=True)
class Explained:
    """What became of a message. `ignored`: of the whole message; `left_out`: leaves, with their word."""

    told: Told
    dialect: str = ""  # none: no route takes the topic, or the message never came to its dialect
    rows: list[Row] = field(default_factory=list)
    letters: list[tuple[DeadLetter, Leaf | None]] = field(default_factory=list)
    left_out: list[tuple[Leaf, str]] = field(default_factory=list)
    ignored: str | None = None


class _Record(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class _Said(NamedTuple):
    """What a message's dialect said, and in which scope it is mapped."""

    source: Source
    decoded: Decoded
    models: Models


class _Watched(Intake):
    """The pipeline's intake, with a look at what the dialects said."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.said: dict[int, _Said] = {}
        super().__init__(*args, **options)

    def _decode(self, *args: Any) -> Any:
        source, decoded = super()._decode(*args)
        record = next(one for one in args if isinstance(one, _Record))
        models = {} if isinstance(decoded, Rejection | Ignored) else models_of(decoded)
        self.said[record.offset] = _Said(source, decoded, models)
        return source, decoded


def _once(explained: Explained, offset: int) -> list[tuple[Leaf, str]]:
    """Take out what a message says of one datastream and time for the second time: the copies, to be left out.

    The database keeps the first. The same value again is a duplicate there, another one a conflict.
    """
    kept: dict[tuple[str, str, str, int], Row] = {}
    copies: list[tuple[Leaf, str]] = []
    for row in sorted(explained.rows, key=lambda row: row.place):
        leaf, meaning = row.leaf, row.meaning
        first = kept.setdefault((leaf.device, meaning.channel, meaning.observed.key, row.time), row)
        if first is row:
            continue
        if first.value == row.value:
            copies.append((leaf, SECOND_COPY.why))
            continue
        detail = f"{first.leaf.key} of this message says {shown(first.value)} for the same datastream and time"
        raw = leaf.value if leaf.raw is None else leaf.raw
        key = (leaf.device, meaning.channel, leaf.key, shown(raw), meaning.unit, row.time)
        letter = DeadLetter(0, offset, row.place, Reason.CONFLICTING_VALUE, detail, *key)
        explained.letters.append((letter, leaf))
    explained.rows = list(kept.values())
    return copies


class Explainer:
    """Explains messages of the given cities, and of any other by the default routes of the dialects."""

    def __init__(
        self,
        cities: Sequence[City] = (),
        *,
        profiles: Profiles = NO_PROFILES,
        dialects: Mapping[str, Dialect] = DIALECTS,
    ) -> None:
        nobody = City.model_validate({"city": {"key": NOBODY, "name": NOBODY}, "route": default_routes(dialects)})
        known = {city.key: with_defaults(city, dialects) for city in cities}
        self._cities = {NOBODY: nobody, **known}
        self._alone = next(iter(known)) if len(known) == 1 else NOBODY
        self._intake = _Watched(list(self._cities.values()), dialects=dialects, profiles=profiles)
        self._series = Series(Stations(list(self._cities.values())).time_limits)
        self._dialects = dialects
        self._cursors: dict[str, Cursor] = {}
        self._headers: dict[tuple[bool, bool], tuple[tuple[str, bytes], ...]] = {}
        self._offset = 0

    def city(self, key: str | None) -> City:
        """The city whose file holds for a message: its own, the only one for messages that name none."""
        return self._cities.get(self._alone if key is None else key, self._cities[NOBODY])

    def route(self, told: Told) -> Route | None:
        """The route that takes a message."""
        return Routes(self.city(told.city), self._dialects).match(told.topic)

    def explain(self, messages: Sequence[Told]) -> list[Explained]:
        """What becomes of messages, in their order."""
        found: dict[int, Explained] = {}
        batches: dict[str, list[_Record]] = defaultdict(list)
        for told in messages:
            city = self.city(told.city)
            self._offset += STEP
            found[self._offset] = Explained(told)
            batches[city.key].append(self._record(told, city))
        for key, records in batches.items():
            self._intake.add(self._cursor(key), records)
        said, self._intake.said = self._intake.said, {}
        self._sort_back(self._tested(self._intake.take()), said, found)
        return list(found.values())

    def _tested(self, batch: Batch) -> Batch:
        """The batch with the flags of the tests over time, as the database would remember the messages before it."""
        readings = self._series.readings(batch, np.zeros(len(batch.columns), np.int8), None)
        if readings is None:
            return batch
        limits, states = self._series.limits(readings), self._series.states(readings)
        followed = follow(readings.group, readings.moment, readings.time, readings.value, limits, states)
        self._series.remember(batch, readings, followed.states)
        return flagged(batch, readings, followed)

    def _record(self, told: Told, city: City) -> _Record:
        headers = self._headers.get((told.retain, told.dup))
        if headers is None:
            made = wire.headers("explain", qos=1, retain=told.retain, dup=told.dup)
            headers = self._headers[told.retain, told.dup] = tuple(made)
        value = told.payload
        if len(value) > city.limits.max_payload_bytes:  # as the gateway does
            why = f"payload of {len(value)} bytes, at most {city.limits.max_payload_bytes} are forwarded"
            value, header = wire.refusal(value, why)
            headers = (*headers, header)
        return _Record(self._offset, told.received_ms, told.topic.encode("utf-8", "backslashreplace"), value, headers)

    def _cursor(self, city: str) -> Cursor:
        if city not in self._cursors:
            self._cursors[city] = Cursor(TopicPartition(wire.kafka_topic(city), 0), None, Bounds(0, _END))
        return self._cursors[city]

    def _sort_back(self, batch: Batch, said: Mapping[int, _Said], found: Mapping[int, Explained]) -> None:
        taken: dict[int, set[int]] = defaultdict(set)
        columns = batch.columns
        names = ("offset", "reading", "value", "time", "quality", "quality_tests")
        for offset, place, value, *flags in zip(*(getattr(columns, name).tolist() for name in names), strict=True):
            scope, leaf = said[offset].source.heard.scope, self._leaf(said[offset], place)
            meaning = self._intake.slots.meaning(scope, leaf) if isinstance(leaf, Reading) else None
            assert isinstance(leaf, Reading), "only readings become rows"
            assert isinstance(meaning, Meaning), "and only those with a meaning"
            taken[offset].add(place)
            found[offset].rows.append(Row(place, leaf, meaning, None if math.isnan(value) else value, *flags))
        for letter in batch.dead:
            if letter.reading is not None:
                taken[letter.offset].add(letter.reading)
            refused = None if letter.reading is None else self._leaf(said[letter.offset], letter.reading)
            found[letter.offset].letters.append((letter, refused))
        twice = {offset: _once(explained, offset) for offset, explained in found.items() if len(explained.rows) > 1}
        for explained in found.values():
            explained.letters.sort(key=lambda one: -1 if one[0].reading is None else one[0].reading)
        for offset, (source, decoded, _) in said.items():
            found[offset].dialect = source.dialect
            if isinstance(decoded, Ignored):
                found[offset].ignored = decoded.why
            elif not isinstance(decoded, Rejection):
                left = [self._leaf(said[offset], place) for place in range(len(decoded)) if place not in taken[offset]]
                if not any(letter.reading is None for letter, _ in found[offset].letters):
                    found[offset].left_out = [(leaf, self._why(source.heard.scope, leaf)) for leaf in left]
                    found[offset].left_out += twice.get(offset, ())

    def _why(self, scope: int, leaf: Leaf) -> str:
        if isinstance(leaf, Ignored):
            return leaf.why
        assert isinstance(leaf, Reading), "a rejected leaf is a letter"
        slots = self._intake.slots
        verdict = slots.judged(slots.slot(scope, leaf), leaf)
        assert isinstance(verdict, Ignored), "neither row nor letter"
        return verdict.why

    def _leaf(self, said: _Said, place: int) -> Leaf:
        assert not isinstance(said.decoded, Rejection | Ignored), "a whole message has no leaves"
        leaf = said.decoded[place]
        if not isinstance(leaf, Rejection):
            return leaf
        return self._intake.slots.read(said.source.heard.scope, leaf, said.models)
