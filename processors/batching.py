"""Records to one batch of columns: route, decode, map. No I/O and no clock; it never raises on any bytes.

Readings become entries of parallel lists as they are decoded, and one set of arrays when the batch is taken:
conversion, range, window and flags are computed by column. A message that a bug stumbles over is a dead letter
`internal_error` with its traceback; its neighbours go on.
"""

import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ingest import wire
from ingest.city import City
from processors.assembling import letter, ordered
from processors.cursor import Cursor, Record, digest
from processors.dialects import DIALECTS, Decode, Dialect
from processors.dialects.memory import Stateful
from processors.mapping import Mapping as Slots
from processors.mapping import Refused
from processors.routes import IGNORE, Routes
from processors.standard import times
from processors.standard.observation import Decoded, Ignored, Leaf, Message, QualityTest, Reading, Reason, Rejection
from processors.state import NOTHING, Memory, unreadable
from storage.rows import (
    Batch,
    Columns,
    DeadLetter,
    RawMessage,
    SourceState,
    Span,
    StreamTable,
    TopicPartition,
    stored_name,
)

SOURCES_REMEMBERED = 200_000
MICROSECONDS = 1_000_000
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
GATEWAY_TIME = int(QualityTest.GATEWAY_TIME)
TESTS_SHIFT = 4  # quality flags fit in four bits; both travel as one number until the batch is taken


class Source(NamedTuple):
    """Where the messages of one MQTT topic go; found once and remembered."""

    topic: str
    dialect: str
    decode: Decode | None
    zone: str
    options: Mapping[str, Any]
    stateful: Stateful | None = None
    name: str | None = None  # of what a stateful dialect remembers; None: nothing is


class _Seen(NamedTuple):
    """What a record's headers say, remembered by headers: the same few come with every record."""

    retain: bool
    refused: str | None
    topic: bytes | None  # where the key is not the MQTT topic
    foreign: str | None


class _City:
    """A city's routes and limits, in the units of the hot path."""

    __slots__ = ("ahead_us", "key", "max_age_us", "max_readings", "routes", "sources", "zone")

    def __init__(self, city: City, dialects: Mapping[str, Dialect]) -> None:
        self.key = city.key
        self.routes = Routes(city, dialects)
        self.zone = city.city.timezone
        self.max_age_us = round(city.limits.max_age.total_seconds() * MICROSECONDS)
        self.ahead_us = round(city.limits.max_ahead.total_seconds() * MICROSECONDS)
        self.max_readings = city.limits.max_readings
        self.sources: dict[bytes | None, Source] = {}


def _messages_at(first: int, records: list[Record]) -> Callable[[int], RawMessage]:
    def at(offset: int) -> RawMessage:
        index = offset - first
        if not 0 <= index < len(records):
            raise KeyError(offset)
        record = records[index]
        seen = wire.envelope(record.key, record.headers)
        topic = seen.topic if isinstance(seen, wire.Envelope) else ""
        return RawMessage(topic, record.value or b"", record.timestamp)

    return at


class Intake:
    """The batch under construction. `readings` and `bytes` bound it; `take` closes it and starts the next."""

    def __init__(self, cities: Sequence[City], *, dialects: Mapping[str, Dialect] = DIALECTS) -> None:
        self._cities = {wire.kafka_topic(city.key): _City(city, dialects) for city in cities}
        self._dialects = dialects
        self._seen: dict[Sequence[tuple[str, bytes]], _Seen] = {}
        self._memory = Memory()
        self.slots = Slots(StreamTable())
        self.clear()

    def clear(self) -> None:
        """Drop everything decoded so far."""
        self.bytes = 0
        self.messages = 0
        self.ignored: Counter[tuple[str, str]] = Counter()
        self._spans: dict[TopicPartition, Span] = {}
        self._numbers: dict[TopicPartition, int] = {}
        self._kept: dict[TopicPartition, list[Record]] = {}
        self._dead: list[DeadLetter] = []
        self._slot: list[int] = []
        self._value: list[float] = []
        self._time: list[int] = []
        self._flags: list[int] = []
        self._place: list[int] = []  # the reading's index in its message
        # one entry a message with rows: how many, of which span, offset, receive time
        self._rows: list[int] = []
        self._row_span: list[int] = []
        self._row_offset: list[int] = []
        self._row_received: list[int] = []

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
        self.slots = Slots(StreamTable(), limit=self.slots.limit)

    @property
    def readings(self) -> int:
        """Rows collected so far."""
        return len(self._slot)

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
                self._refuse_message(
                    span, number, record.offset, Rejection(Reason.INTERNAL_ERROR, traceback.format_exc()[-2000:])
                )
        self.messages += len(records)
        span.messages += len(records)
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
            return _Seen(retain=False, refused=None, topic=None, foreign=told.detail)
        seen = _Seen(told.retain, told.refused, dict(record.headers).get("topic"), None)
        if seen.refused is None:
            if len(self._seen) >= SOURCES_REMEMBERED:
                self._seen.clear()
            self._seen[record.headers] = seen
        return seen

    def _source(self, city: _City, record: Record, name: bytes | None) -> Source:
        told = wire.envelope(record.key, record.headers)
        topic = told.topic if isinstance(told, wire.Envelope) else ""
        route = city.routes.match(topic)
        if route is None:
            source = Source(topic, "", None, city.zone, NO_OPTIONS)
        else:
            zone = route.timezone or city.zone
            dialect = None if route.dialect == IGNORE else self._dialects[route.dialect]
            if isinstance(dialect, Stateful):
                named = dialect.source(topic)
                known = None if named is None else stored_name(named)
                source = Source(topic, route.dialect, None, zone, route.options, dialect, known)
            else:
                source = Source(topic, route.dialect, dialect, zone, route.options)
        if len(city.sources) >= SOURCES_REMEMBERED:
            city.sources.clear()
        city.sources[name] = source
        return source

    def _decode(
        self, span: Span, number: int, city: _City, record: Record, value: bytes, received: int
    ) -> tuple[str, Decoded]:
        """Dialect and verdict of one record."""
        seen = self._seen.get(record.headers) or self._headers(record)
        if seen.foreign is not None:
            return "", Rejection(Reason.MALFORMED, seen.foreign)
        if seen.refused is not None:
            return "", Rejection(Reason.TOO_LARGE, f"the gateway kept only the beginning: {seen.refused}")
        name = record.key if seen.topic is None else seen.topic
        source = city.sources.get(name) or self._source(city, record, name)
        if source.decode is not None:
            message = Message(
                source.topic, value, received, seen.retain, source.zone, city.max_readings, source.options
            )
            return source.dialect, source.decode(message)
        if source.stateful is not None:
            message = Message(
                source.topic, value, received, seen.retain, source.zone, city.max_readings, source.options
            )
            return source.dialect, self._step(span.partition, number, city, source, source.stateful, message)
        if source.dialect:
            return source.dialect, Ignored(IGNORE)
        return "", Rejection(Reason.NO_ROUTE, f"no route takes {source.topic!r:.200}")

    def _step(
        self,
        partition: TopicPartition,
        number: int,
        city: _City,
        source: Source,
        stateful: Stateful,
        message: Message,
    ) -> Decoded:
        """Decode by what is remembered of the source, and remember what changed."""
        if source.name is None:
            return stateful.decode(message, NOTHING).decoded
        step = stateful.decode(message, self._memory.of(partition, source.dialect, source.name))
        if step.changed:
            beyond = self._memory.change(number, partition, source.dialect, source.name, stateful.format, step.changed)
            if beyond:
                self.ignored[city.key, "state_not_kept"] += beyond
        return step.decoded

    def _message(self, span: Span, number: int, city: _City, record: Record) -> None:
        value = record.value or b""
        self.bytes += len(value)
        received = record.timestamp * 1000
        dialect, decoded = self._decode(span, number, city, record, value, received)
        if isinstance(decoded, Rejection):
            self._refuse_message(span, number, record.offset, decoded)
        elif isinstance(decoded, Ignored):
            span.ignored_messages += 1
            self.ignored[city.key, decoded.why] += 1
        else:
            self._leaves(span, number, city, dialect, record.offset, received, decoded)

    def _leaves(
        self, span: Span, number: int, city: _City, dialect: str, offset: int, received: int, leaves: Sequence[Leaf]
    ) -> None:
        """Append a message's readings; on a bug in the mapping nothing of them stays."""
        begin = len(self._slot)
        dead_begin = len(self._dead)
        ignored = 0
        find = self.slots.slot
        slot, values, stamps, flags, places = self._slot, self._value, self._time, self._flags, self._place
        try:
            for place, leaf in enumerate(leaves):
                if isinstance(leaf, Reading):
                    found = find(city.key, dialect, leaf)
                    if not isinstance(found, Refused):
                        time = leaf[5]
                        value = leaf[3]
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
                    else:
                        self._refuse_reading(number, offset, place, leaf, found)
                elif isinstance(leaf, Rejection):
                    self._dead.append(letter(number, offset, place, leaf))
                else:
                    ignored += 1
                    self.ignored[city.key, leaf.why] += 1
        except BaseException:
            for column in (slot, values, stamps, flags, places):
                del column[begin:]
            del self._dead[dead_begin:]
            raise
        span.decoded += 1
        span.readings += len(leaves)
        span.ignored_readings += ignored
        span.dead_readings += len(self._dead) - dead_begin
        rows = len(slot) - begin
        if rows:
            self._rows.append(rows)
            self._row_span.append(number)
            self._row_offset.append(offset)
            self._row_received.append(received)

    def _refuse_message(self, span: Span, number: int, offset: int, rejection: Rejection) -> None:
        span.dead_messages += 1
        self._dead.append(letter(number, offset, None, rejection))

    def _refuse_reading(self, number: int, offset: int, place: int, leaf: Reading, why: Refused) -> None:
        value = None if leaf.value is None else repr(leaf.value)
        self._dead.append(
            DeadLetter(
                number,
                offset,
                place,
                why.reason,
                why.detail,
                leaf.device,
                leaf.channel,
                leaf.key,
                value,
                leaf.unit,
                leaf.time,
            )
        )

    def take(self) -> Batch:
        """Close the batch: columns computed, spans in partition order. The intake is empty afterwards."""
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
        spans = list(self._spans.values())
        limits = [self._cities[one.partition.topic] for one in spans]
        ages = np.array([city.max_age_us for city in limits], np.int64)[span]
        aheads = np.array([city.ahead_us for city in limits], np.int64)[span]
        timely = (stamps >= received - ages) & (stamps <= received + aheads)
        good = timely & made.finite
        columns = (made.stream, stamps, made.value, made.quality, made.quality_tests, received, span, offset, place)
        if not good.all():
            for row in np.flatnonzero(~good).tolist():
                self._refuse_row(row, spans, int(span[row]), int(offset[row]), timely=bool(timely[row]))
            columns = tuple(column[good] for column in columns)  # type: ignore[assignment]  # nine of them still
        for one, records in zip(spans, self._kept.values(), strict=True):
            one.last_hash = digest(records[-1])
        state = self._memory.take()
        batch = ordered(Batch(spans, Columns(*columns), self.slots.streams, self._dead, state))
        self.clear()
        return batch

    def _refuse_row(self, row: int, spans: Sequence[Span], span: int, offset: int, *, timely: bool) -> None:
        stream = self.slots.source(self._slot[row])
        if timely:
            reason, detail = Reason.NOT_FINITE, "too large for a float8 in the canonical unit"
        else:
            reason = Reason.TIME_OUT_OF_RANGE
            detail = f"{times.rfc3339(self._time[row])} is outside the city's window around the receive time"
        spans[span].dead_readings += 1
        self._dead.append(
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
