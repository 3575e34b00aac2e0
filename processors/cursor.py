"""Where one partition is being read, and whether what arrives is what the database expects next. Pure.

The database owns the offset: reading starts with the record *before* the next offset, which must be the one that was
committed last; from there on offsets are dense. What the log says otherwise is a verdict here, never a guess: seek
again, or stop and say why.
"""

import hashlib
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol, TypeVar

from storage.rows import Position, TopicPartition


class Record(Protocol):
    """What the middle reads of a Kafka record."""

    @property
    def offset(self) -> int:
        """Offset in its partition."""

    @property
    def timestamp(self) -> int:
        """Receive time at the gateway, milliseconds since the epoch."""

    @property
    def key(self) -> bytes | None:
        """MQTT topic or ordering key."""

    @property
    def value(self) -> bytes | None:
        """The payload."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """What key and value can't say."""


R = TypeVar("R", bound=Record)
HOLE_TRIES = 3


class LogError(Exception):
    """The log is not the one the database knows; reading on would deliver other records or hide a loss."""


class LogReplacedError(LogError):
    """Another record stands where the last committed one was, or the log ends before it."""


class RangeLostError(LogError):
    """Kafka's retention overtook the database: records were deleted before they were processed."""


def digest(record: Record) -> bytes:
    """Hash that recognises a record; kept of the last one of every batch."""
    made = hashlib.blake2b(record.value or b"", digest_size=16)
    made.update(b"\0%d\0" % len(record.value or b""))
    made.update(record.key or b"")
    return made.digest()


class Bounds(NamedTuple):
    """First offset a partition still has, and the offset its next record will get."""

    start: int
    end: int


class Seek(Enum):
    """What the reader of a cursor must do after `admit`."""

    NO = 0
    AGAIN = 1  # a hole or a stray offset: seek to `wanted` again


class Cursor:
    """One assigned partition, from the moment its position was read from the database.

    `wanted` is the offset to seek to. `next_offset` is the first record not yet admitted, `skipped` how many offsets a
    given-up range adds to the span that starts next.
    """

    __slots__ = (
        "_accept_loss",
        "_holes",
        "_name",
        "_untouched",
        "_verify",
        "new",
        "next_offset",
        "partition",
        "skipped",
        "wanted",
    )

    def __init__(
        self, partition: TopicPartition, position: Position | None, bounds: Bounds, *, accept_loss: bool = False
    ) -> None:
        self.partition = partition
        self.new = position is None
        self.skipped = 0
        self._name = f"{partition.topic}/{partition.partition}"
        self._accept_loss = accept_loss
        self._untouched = True  # nothing admitted yet: only here can a range be given up
        self._verify: Position | None = None
        self._holes = 0
        start, end = bounds
        if position is None:
            self.next_offset = self.wanted = start
            return
        self.next_offset = self.wanted = position.next_offset
        if position.next_offset > end:
            raise LogReplacedError(
                f"{self._name}: the database stands at offset {position.next_offset}, but the log ends at {end}: "
                "Kafka was rebuilt or lost data; restore it, or start a new topic"
            )
        if position.next_offset < start:
            if not accept_loss:
                raise RangeLostError(
                    f"{self._name}: offsets {position.next_offset} to {start - 1} were deleted by Kafka's retention "
                    "before they were processed; to go on without them start once with --accept-loss"
                )
            self.skipped = start - position.next_offset
            self.next_offset = self.wanted = start
        elif position.next_offset > start and position.last_hash is not None:
            self._verify = position
            self.wanted = position.next_offset - 1

    def admit(self, records: Sequence[R]) -> tuple[Sequence[R], Seek]:
        """Take the records that continue the cursor; they are dense.

        Raises LogReplacedError where the record before the next offset is not the committed one. Holes in the log are
        impossible by the topic's settings, so one means that the consumer slipped: seek again; one that stays is lost.
        """
        at = 0
        if self._verify is not None:
            while at < len(records) and records[at].offset < self.wanted:
                at += 1
            if at == len(records):
                return (), Seek.NO
            first = records[at]
            if first.offset != self.wanted:
                return (), self._hole(first.offset)
            if (first.timestamp, digest(first)) != (self._verify.last_timestamp, self._verify.last_hash):
                raise LogReplacedError(
                    f"{self._name}: offset {first.offset} holds another record than the one committed last: the topic "
                    "was recreated or truncated; restore it, or start a new topic"
                )
            self._verify = None
            self.wanted = self.next_offset
            at += 1
        while at < len(records) and records[at].offset < self.next_offset:
            at += 1
        taken = records[at:] if at else records
        if not taken:
            return (), Seek.NO
        if taken[0].offset != self.next_offset:
            return (), self._hole(taken[0].offset)
        self._untouched = False
        if taken[-1].offset - self.next_offset != len(taken) - 1:
            end = next(n for n, r in enumerate(taken) if r.offset != self.next_offset + n)
            taken = taken[:end]
            self.next_offset = self.wanted = taken[-1].offset + 1
            return taken, Seek.AGAIN
        self._holes = 0
        self.next_offset = self.wanted = taken[-1].offset + 1
        return taken, Seek.NO

    def _hole(self, offset: int) -> Seek:
        self._holes += 1
        if self._holes > HOLE_TRIES:
            if self._accept_loss and self._untouched and self._verify is None:
                self.skipped += offset - self.next_offset
                self.next_offset = self.wanted = offset
                return Seek.AGAIN
            raise RangeLostError(
                f"{self._name}: offsets {self.wanted} to {offset - 1} are missing in the log, which must be neither "
                "compacted nor transactional; to go on without them start once with --accept-loss"
            )
        return Seek.AGAIN

    def span_started(self, at: int) -> tuple[int, int, bool]:
        """First offset, skipped offsets and newness of the span whose first record is at offset `at`."""
        told = (at - self.skipped, self.skipped, self.new)
        self.skipped, self.new = 0, False
        return told

    def give_back(self, offset: int) -> None:
        """Records from `offset` on were admitted but not used; they will be offered again."""
        self.next_offset = self.wanted = offset
