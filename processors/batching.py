"""Records to one batch of columns: route, decode, map. No I/O and no clock; it never raises on any bytes.

A message that a bug stumbles over is a dead letter `internal_error` with its traceback; its neighbours go on. A record
that replays a dead letter goes the same way, but stands apart in the batch, and writes no state.
"""

import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ingest import wire
from ingest.city import City
from processors.assembling import chosen, ordered, set_apart
from processors.cursor import Cursor, Record, digest
from processors.dialects import DIALECTS, Decode, Dialect
from processors.dialects.memory import Stateful
from processors.mapping import Mapping as Slots
from processors.matching import NO_PROFILES, Profiles
from processors.readings import Heard, Readings, Tally
from processors.routes import IGNORE, Routes
from processors.secrets import masked, masked_topic
from processors.standard.observation import Decoded, Ignored, Message, Reason, Rejection
from processors.standard.zones import Zones
from processors.state import NOTHING, Memory, unreadable
from processors.stations import Stations
from storage.rows import (
    Batch,
    RawMessage,
    Replayed,
    SourceState,
    Span,
    StreamTable,
    TopicPartition,
    stored_name,
)

SOURCES_REMEMBERED = 200_000
MICROSECONDS = 1_000_000
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
LAST_MS = 2**53 - 1  # of a receive time; a gateway's clock may say anything


class Source(NamedTuple):
    """Where the messages of one MQTT topic go; found once and remembered."""

    topic: str
    dialect: str
    decode: Decode | None
    options: Mapping[str, Any]
    heard: Heard
    stateful: Stateful | None = None
    name: str | None = None  # of what a stateful dialect remembers; None: nothing is


NOWHERE = Source("", "", None, NO_OPTIONS, Heard("", 0, Zones("UTC")))


class _Seen(NamedTuple):
    """What a record's headers say, remembered by headers: the same few come with every record."""

    retain: bool
    refused: str | None
    topic: bytes | None  # where the key is not the MQTT topic
    foreign: str | None
    replay: wire.Replay | None


class _City:
    """A city's routes and limits, in the units of the hot path."""

    __slots__ = ("ahead_us", "key", "max_age_us", "max_keys", "max_readings", "routes", "sources", "zones")

    def __init__(self, city: City, dialects: Mapping[str, Dialect]) -> None:
        self.key = city.key
        self.routes = Routes(city, dialects)
        self.max_age_us = round(city.limits.max_age.total_seconds() * MICROSECONDS)
        self.ahead_us = round(city.limits.max_ahead.total_seconds() * MICROSECONDS)
        self.max_readings = city.limits.max_readings
        self.max_keys = city.limits.max_keys
        self.sources: dict[bytes | None, Source] = {}
        own = [(device.match, device.timezone) for device in city.device if device.timezone]
        named = {route.timezone for route in city.route} | {None}
        self.zones = {zone: Zones(zone or city.city.timezone, own) for zone in named}


def _messages_at(first: int, records: list[Record]) -> Callable[[int], RawMessage]:
    def at(offset: int) -> RawMessage:
        index = offset - first
        if not 0 <= index < len(records):
            raise KeyError(offset)
        record = records[index]
        seen = wire.envelope(record.key, record.headers)
        topic, retained, stub = "", False, False
        if isinstance(seen, wire.Envelope):
            topic, retained, stub = seen.topic, seen.retain, seen.refused is not None
        value = record.value or b""
        shown, kept = masked_topic(topic), masked(value)
        return RawMessage(shown, kept, record.timestamp, retained, stub, (shown, kept) != (topic, value))

    return at


class Intake:
    """The batch under construction. `readings` and `bytes` bound it; `take` closes it and starts the next."""

    def __init__(
        self, cities: Sequence[City], *, dialects: Mapping[str, Dialect] = DIALECTS, profiles: Profiles = NO_PROFILES
    ) -> None:
        self._cities = {wire.kafka_topic(city.key): _City(city, dialects) for city in cities}
        self._dialects = dialects
        self._seen: dict[Sequence[tuple[str, bytes]], _Seen] = {}
        self._memory = Memory()
        self._rows = Readings(Slots(StreamTable(), profiles), Stations(cities))
        self.clear()

    def clear(self) -> None:
        """Drop everything decoded so far."""
        self.bytes = 0
        self.messages = 0
        self._rows.clear()
        self._spans: dict[TopicPartition, Span] = {}
        self._numbers: dict[TopicPartition, int] = {}
        self._kept: dict[TopicPartition, list[Record]] = {}
        self._replayed: list[Replayed] = []

    @property
    def slots(self) -> Slots:
        """What is known of the sources of readings."""
        return self._rows.slots

    @property
    def ignored(self) -> Counter[tuple[str, str]]:
        """Messages and readings left out knowingly, by city and why."""
        return self._rows.ignored

    def drop(self) -> None:
        """Drop what is decoded, and with it what dialects remember: both are ahead of the database."""
        self.clear()
        self._memory.drop()

    def remember(self, partition: TopicPartition, states: Sequence[SourceState]) -> str | None:
        """Take over the state that belongs to a partition's position; or say why this code can't read it."""
        fault = unreadable(states, self._dialects)
        if fault is None:
            self._memory.load(partition, states)
        return fault

    def forget(self) -> None:
        """Drop the remembered slots too; only with nothing decoded or in flight."""
        self._rows.slots = Slots(StreamTable(), self.slots.profiles, limit=self.slots.limit)
        for city in self._cities.values():
            city.sources.clear()  # they hold numbers of scopes

    @property
    def readings(self) -> int:
        """Rows collected so far."""
        return len(self._rows)

    @property
    def partitions(self) -> Sequence[TopicPartition]:
        """Partitions with a span in the batch."""
        return list(self._spans)

    def add(self, cursor: Cursor, records: Sequence[Record]) -> None:
        """Decode records that `cursor.admit` let pass."""
        city = self._cities[cursor.partition.topic]
        span = self._spans.get(cursor.partition)
        if span is None:
            span = self._open(cursor, city, records)
        number = self._numbers[cursor.partition]
        self._kept[cursor.partition].extend(records)
        for record in records:
            try:
                self._message(span, number, city, record)
            except Exception:  # noqa: BLE001  (a bug in one dialect must not take every processor in turn)
                self._rows.refuse(span, number, record.offset, _bug())
                span.messages += 1
        self.messages += len(records)
        last = records[-1]
        span.next_offset = last.offset + 1
        span.last_timestamp = last.timestamp

    def _open(self, cursor: Cursor, city: _City, records: Sequence[Record]) -> Span:
        first, skipped, new = cursor.span_started(records[0].offset)
        kept: list[Record] = []
        span = Span(
            partition=cursor.partition,
            city=city.key,
            first_offset=first,
            next_offset=records[0].offset,
            last_timestamp=0,
            last_hash=b"",
            messages_at=_messages_at(records[0].offset, kept),
            new=new,
            skipped=skipped,
        )
        self._numbers[cursor.partition] = len(self._spans)
        self._spans[cursor.partition] = span
        self._kept[cursor.partition] = kept
        return span

    def _headers(self, record: Record) -> _Seen:
        told = wire.envelope(record.key, record.headers)
        if isinstance(told, wire.Foreign):
            return _Seen(retain=False, refused=None, topic=None, foreign=told.detail, replay=None)
        seen = _Seen(told.retain, told.refused, dict(record.headers).get("topic"), None, told.replay)
        if seen.refused is None and seen.replay is None:
            if len(self._seen) >= SOURCES_REMEMBERED:
                self._seen.clear()
            self._seen[record.headers] = seen
        return seen

    def _source(self, city: _City, record: Record, name: bytes | None) -> Source:
        told = wire.envelope(record.key, record.headers)
        topic = told.topic if isinstance(told, wire.Envelope) else ""
        route = city.routes.match(topic)
        if route is None:
            source = NOWHERE._replace(topic=topic)
        else:
            heard = Heard(city.key, self.slots.scope(city.key, route.dialect, topic), city.zones[route.timezone])
            dialect = None if route.dialect == IGNORE else self._dialects[route.dialect]
            if isinstance(dialect, Stateful):
                named = dialect.source(topic)
                known = None if named is None else stored_name(named)
                source = Source(topic, route.dialect, None, route.options, heard, dialect, known)
            else:
                source = Source(topic, route.dialect, dialect, route.options, heard)
        if len(city.sources) >= SOURCES_REMEMBERED:
            city.sources.clear()
        city.sources[name] = source
        return source

    def _decode(
        self, partition: TopicPartition, number: int, city: _City, record: Record, seen: _Seen, received: int
    ) -> tuple[Source, Decoded]:
        """Source and verdict of one record."""
        if seen.foreign is not None:
            return NOWHERE, Rejection(Reason.MALFORMED, seen.foreign)
        if seen.refused is not None:
            return NOWHERE, Rejection(Reason.TOO_LARGE, f"the gateway kept only the beginning: {seen.refused}")
        name = record.key if seen.topic is None else seen.topic
        source = city.sources.get(name) or self._source(city, record, name)
        if source.decode is None and source.stateful is None:
            if source.dialect:
                return source, Ignored(IGNORE)
            return source, Rejection(Reason.NO_ROUTE, f"no route takes {masked_topic(source.topic)!r:.200}")
        message = Message(
            source.topic,
            record.value or b"",
            received,
            seen.retain,
            source.heard.zones,
            city.max_readings,
            source.options,
            seen.replay is not None,
            city.max_keys,
        )
        if source.decode is not None:
            return source, source.decode(message)
        assert source.stateful is not None, "one of the two"
        return source, self._step(partition, number, city, source, source.stateful, message)

    def _step(
        self,
        partition: TopicPartition,
        number: int,
        city: _City,
        source: Source,
        stateful: Stateful,
        message: Message,
    ) -> Decoded:
        """Decode by what is remembered of the source, and remember what changed, unless the message is a replay."""
        if source.name is None:
            return stateful.decode(message, NOTHING).decoded
        step = stateful.decode(message, self._memory.of(partition, source.dialect, source.name))
        self._spans[partition].missed += step.missed
        if step.changed and not message.replayed:
            beyond = self._memory.change(number, partition, source.dialect, source.name, stateful.format, step.changed)
            if beyond:
                self.ignored[city.key, "state_not_kept"] += beyond
        return step.decoded

    def _message(self, span: Span, number: int, city: _City, record: Record) -> None:
        self.bytes += len(record.value or b"")
        seen = self._seen.get(record.headers) or self._headers(record)
        if seen.replay is not None:
            self._replay(span, number, city, record, seen, seen.replay)
            return
        received = min(max(record.timestamp, 0), LAST_MS) * 1000
        source, decoded = self._decode(span.partition, number, city, record, seen, received)
        if isinstance(decoded, Rejection):
            self._rows.refuse(span, number, record.offset, decoded)
        elif isinstance(decoded, Ignored):
            span.ignored_messages += 1
            self.ignored[city.key, decoded.why] += 1
        else:
            self._rows.add(span, number, source.heard, record.offset, received, decoded)
        span.messages += 1

    def _replay(self, span: Span, number: int, city: _City, record: Record, seen: _Seen, replay: wire.Replay) -> None:
        """Decode a dead letter's message once more, as of its original receive time, and of it only that reading."""
        mine = -1 - len(self._replayed)
        told = Replayed(number, replay.letter, replay.offset, replay.received_ms, replay.reading, replay.correct)
        told.at = record.offset
        self._replayed.append(told)
        span.replayed += 1
        received = replay.received_ms * 1000
        try:
            source, decoded = self._decode(span.partition, number, city, record, seen, received)
            if replay.reading is not None and not isinstance(decoded, Rejection | Ignored):
                # Whole before it is cut: a profile's times and a text's model stand elsewhere in the message.
                whole = self.slots.dated(source.heard.scope, decoded, source.heard.zones, received)
                decoded = chosen(whole, replay.reading, replay.key)
            if isinstance(decoded, Rejection):
                self._rows.refuse(told, mine, replay.offset, decoded, replay.reading)
            elif isinstance(decoded, Ignored):
                told.ignored_messages, told.ignored = 1, decoded.why
            else:
                place = replay.reading or 0
                self._rows.add(told, mine, source.heard, replay.offset, received, decoded, place)
        except Exception:  # noqa: BLE001  (as for any message)
            self._rows.refuse(told, mine, replay.offset, _bug(), replay.reading)

    def take(self) -> Batch:
        """Close the batch: columns computed, spans in partition order. The intake is empty afterwards."""
        spans = list(self._spans.values())
        # A replayed record's number is -1, -2, …: as an index it picks from the end.
        tallies: list[Tally] = [*spans, *reversed(self._replayed)]
        limits = [self._cities[one.partition.topic] for one in spans]
        limits += [limits[one.span] for one in reversed(self._replayed)]
        columns = self._rows.columns(tallies, [city.max_age_us for city in limits], [city.ahead_us for city in limits])
        for one, records in zip(spans, self._kept.values(), strict=True):
            one.last_hash = digest(records[-1])
        replays = None
        dead = self._rows.dead
        if self._replayed:
            columns, dead, replays = set_apart(columns, dead, self._replayed)
        batch = ordered(Batch(spans, columns, self.slots.streams, dead, self._memory.take(), replays))
        self.clear()
        return batch


def _bug() -> Rejection:
    return Rejection(Reason.INTERNAL_ERROR, traceback.format_exc()[-2000:])
