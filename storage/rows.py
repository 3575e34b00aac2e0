"""What the write path takes: a batch of columns, and what it gives back: exact counts. No I/O.

A batch covers a dense span of offsets of each of its partitions. Observations travel as parallel columns, never as
objects; a row names its datastream by a process-local number of the `StreamTable`, and the writer turns those into ids.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

# The reasons that only the database can give (the rest of the closed list is processors.standard.observation.Reason).
CONFLICTING_VALUE = "conflicting_value"
DATASTREAM_QUOTA = "datastream_quota"
BEFORE_RETENTION = "before_retention"
REJECTED_BY_DATABASE = "rejected_by_database"

# What can become of a replayed reading, or of a whole replayed message that is dead or ignored.
REPLAY_OUTCOMES = ("stored", "duplicate", "corrected", "dead", "ignored")
# No letter is open for a replayed record: it was replayed before, or purged.
REPLAY_REPEATED = "replay_repeated"

# Begins the topic under which an imported file has its offsets, its ledger and its dead letters.
IMPORT_TOPIC = "import:"
# What a dead letter weighs besides its payload: a city's budget must also bound floods of tiny messages.
LETTER_BYTES = 256

# An index entry holds 2,704 bytes, and source and part share one with the topic.
STATE_NAME_BYTES = 1_000


class TopicPartition(NamedTuple):
    """A Kafka topic and partition; sorts in the order in which rows are locked."""

    topic: str
    partition: int


class SourceState(NamedTuple):
    """What a dialect remembers of one source: a JSON object of its parts, and the newest format among them."""

    dialect: str
    source: str
    format: int
    parts: str


class StateChange(NamedTuple):
    """One part as the batch leaves it: its JSON in ASCII, or None where it is forgotten.

    `span` is the number of its partition's span in the batch; `source` and `part` come from `stored_name`.
    """

    span: int
    dialect: str
    source: str
    part: str
    format: int
    state: str | None


class Position(NamedTuple):
    """Where a partition stands in the database. `next_offset` is the first record not yet accounted.

    `last_timestamp` (ms) and `last_hash` are those of the record at next_offset - 1 (None before the first): another
    record there means that the log was replaced. `state` is what dialects remembered at that offset.
    """

    first_offset: int
    next_offset: int
    last_timestamp: int | None
    last_hash: bytes | None
    state: Sequence[SourceState] = ()


class Stream(NamedTuple):
    """A datastream by its names. The first four identify it; the others are as last seen."""

    city: str
    device: str
    channel: str
    property: str
    raw_key: str
    raw_unit: str
    dialect: str


class StreamTable:
    """Process-local numbers for datastreams: `number` interns, `streams[n]` reads back.

    `changed` holds numbers whose raw key, unit or dialect is another than when the writer last looked; the writer
    empties it. `origin` interns a raw key and unit: several may feed one datastream.
    """

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.origins: list[tuple[str, str]] = []
        self._numbers_of_origins: dict[tuple[str, str], int] = {}
        self.changed: set[int] = set()
        self._numbers: dict[tuple[str, str, str, str], int] = {}

    def number(self, stream: Stream) -> int:
        """Number of a datastream, new or known."""
        known = self._numbers.get(stream[:4])
        if known is None:
            self._numbers[stream[:4]] = len(self.streams)
            self.streams.append(stream)
            return len(self.streams) - 1
        if self.streams[known] != stream:
            self.streams[known] = stream
            self.changed.add(known)
        return known

    def origin(self, raw_key: str, raw_unit: str) -> int:
        """Number of a raw key and unit, new or known; `origins[n]` reads back."""
        known = self._numbers_of_origins.setdefault((raw_key, raw_unit), len(self.origins))
        if known == len(self.origins):
            self.origins.append((raw_key, raw_unit))
        return known


class RawMessage(NamedTuple):
    """A message as it came: kept whole once, whatever the number of its dead letters. `received_ms` since the epoch."""

    topic: str  # MQTT topic
    payload: bytes
    received_ms: int
    retained: bool = False
    stub: bool = False  # only the payload's beginning, what the gateway kept of one that Kafka never takes
    masked: bool = False  # secrets in payload or topic were replaced, byte for byte


class DeadLetter(NamedTuple):
    """One refused reading (`reading` is its place in the message), or a refused message (`reading` None).

    `span` is the number of its partition's span in the batch. `phenomenon_time` in microseconds since the epoch.
    """

    span: int
    offset: int
    reading: int | None
    reason: str
    detail: str
    device: str | None = None
    channel: str | None = None
    raw_key: str | None = None
    raw_value: str | None = None
    raw_unit: str | None = None
    phenomenon_time: int | None = None


class Messages(Protocol):
    """The raw messages of a span, by offset."""

    def __call__(self, offset: int, /) -> RawMessage:
        """Raise KeyError for an offset outside the span."""


@dataclass(slots=True)
class Span:
    """A dense range of one partition's records, and what became of them before the database saw them.

    `skipped` counts offsets given up at its start (rule 3). `rows` of the columns belong to it. The counts obey
    messages = decoded + dead_messages + ignored_messages and readings = rows + dead_readings + ignored_readings.
    """

    partition: TopicPartition
    city: str
    first_offset: int  # what the database must hold as next_offset (or None of it, for a new partition)
    next_offset: int
    last_timestamp: int
    last_hash: bytes
    messages_at: Messages
    new: bool = False  # no row in consumer_offset yet
    messages: int = 0
    decoded: int = 0
    dead_messages: int = 0
    ignored_messages: int = 0
    readings: int = 0
    dead_readings: int = 0
    ignored_readings: int = 0
    skipped: int = 0
    replayed: int = 0  # records that are none of `messages`: next_offset - first_offset = all three together
    missed: int = 0  # what sources that number their messages sent and never came; no record, so no part of the above


@dataclass(slots=True)
class Columns:
    """Observations as parallel arrays of one length, in order of (span, offset, reading)."""

    stream: npt.NDArray[np.int32]  # number in the StreamTable
    time: npt.NDArray[np.int64]  # phenomenon time, microseconds since the epoch
    value: npt.NDArray[np.float64]  # NaN stands for null (quality 9); no other value is NaN
    quality: npt.NDArray[np.int16]
    quality_tests: npt.NDArray[np.int16]
    received: npt.NDArray[np.int64]  # microseconds since the epoch
    span: npt.NDArray[np.int16]
    offset: npt.NDArray[np.int64]
    reading: npt.NDArray[np.int32]  # the reading's place in its message
    origin: npt.NDArray[np.int32]  # the StreamTable's number of the row's own raw key and unit

    def __len__(self) -> int:
        return len(self.stream)


# Stands for `new_datastreams_per_hour` where new datastreams are not counted: a person started this, no device can.
NO_QUOTA = 0


class CityLimits(NamedTuple):
    """What the write path must know of a city."""

    key: str
    name: str
    ags: str
    new_datastreams_per_hour: int
    dead_letter_bytes: int
    max_age: timedelta = timedelta(days=31)  # raw readings are kept for longer (rule 20)


class Facts(NamedTuple):
    """What is known of a device from outside its messages; `parameters` is a JSON object."""

    latitude: float | None = None
    longitude: float | None = None
    parameters: str = "{}"


# City and device to what is known of it.
Describe = Callable[[str, str], Facts]


class TimeLimits(NamedTuple):
    """When a reading is suspect beside those before it in its datastream; NaN: not tested. `storage.series` says how.

    Differences in the property's unit, times in microseconds; both pairs of a step and its time hold.
    """

    spike: float = np.nan
    step: float = np.nan
    step_us: float = np.nan
    other_step: float = np.nan
    other_step_us: float = np.nan
    flat_us: float = np.nan


class Property(NamedTuple):
    """A row of the vocabulary. `aggregation`: how its hours are summed up (storage.md)."""

    key: str
    unit: str
    domain: str
    kind: str
    aggregation: str
    minimum: float
    maximum: float


@dataclass(slots=True)
class Replayed:
    """A record that brought a dead letter's message once more, and what became of it before the database saw it.

    `offset`, `received_ms` and `reading` are the letter's own; `correct`: a conflicting value takes the place of the
    one that stands. `ignored` says why, where all of it is known to be no observation. The counts are as a span's.
    """

    span: int  # of the record that brought it
    letter: int
    offset: int
    received_ms: int
    reading: int | None
    correct: bool = False
    ignored: str = ""
    decoded: int = 0
    dead_messages: int = 0
    ignored_messages: int = 0
    readings: int = 0
    dead_readings: int = 0
    ignored_readings: int = 0
    at: int = 0  # its own offset


@dataclass(slots=True)
class Replays:
    """A batch's replayed records, their rows and their letters; `span` of both is the record's place here."""

    records: list[Replayed]
    columns: Columns
    dead: list[DeadLetter]


@dataclass(slots=True)
class Batch:
    """Everything one transaction writes. Spans are sorted by partition and name each partition once."""

    spans: list[Span]
    columns: Columns
    streams: StreamTable
    dead: list[DeadLetter] = field(default_factory=list)
    state: list[StateChange] = field(default_factory=list)
    replays: Replays | None = None


@dataclass(slots=True)
class SpanOutcome:
    """What the database made of one span's rows: rows = stored + duplicate + sum of `dead` by reason.

    `replayed`: what became of the readings of its replayed records, by one of REPLAY_OUTCOMES.
    """

    stored: int = 0
    duplicate: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    replayed: dict[str, int] = field(default_factory=dict)


class Outcome(NamedTuple):
    """What a commit did. `spans` runs parallel to the batch's.

    `open_bytes`: by city, where this batch left dead letters, the bytes of all its open ones. `state_refused`: how many
    changes of state the database did not take; what is remembered in memory is then worth nothing. `replays`: what each
    replayed record came to, in words.
    """

    spans: Sequence[SpanOutcome]
    open_bytes: dict[str, int]
    state_refused: int = 0
    replays: Sequence[str] = ()


def clean(text: str, limit: int) -> str:
    """Make text from outside storable: NUL and lone surrogates escaped, clipped to `limit` characters.

    PostgreSQL's text and jsonb refuse U+0000, and a lone surrogate fails in the client already.
    """
    if text.isascii() and "\0" not in text:
        return text if len(text) <= limit else text[: limit - 1] + "…"
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\u0000")
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def stored_name(name: str) -> str | None:
    """A source or part as it is stored: the inside of a JSON string, so NUL and lone surrogates are escaped.

    Unlike `clean` it never makes one name of two; None where the name is too long for the table's key.
    """
    if name.isascii() and name.isprintable() and '"' not in name and "\\" not in name:
        safe = name
    else:
        safe = json.dumps(name, ensure_ascii=False)[1:-1].encode("utf-8", "backslashreplace").decode("utf-8")
    return safe if len(safe.encode()) <= STATE_NAME_BYTES else None


def columns(rows: Sequence[tuple[Any, ...]]) -> Columns:
    """Columns from row tuples in the order of the fields; for tests and small batches."""
    turned = list(zip(*rows, strict=True)) or [()] * 10
    kinds = (
        np.int32,
        np.int64,
        np.float64,
        np.int16,
        np.int16,
        np.int64,
        np.int16,
        np.int64,
        np.int32,
        np.int32,
    )
    return Columns(*(np.array(column, dtype=kind) for column, kind in zip(turned, kinds, strict=True)))
