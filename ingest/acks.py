"""Which messages may be acknowledged, and how many may be under way: pure, no clock, no socket.

A message may be acknowledged once Kafka has it and every message received before it on the same connection. What was
received on an earlier connection is never acknowledged: its packet ids name other messages now, and the broker sends
it again.
"""

from collections.abc import Sequence


class AckTracker:
    """Contiguous prefix, in receive order, of what Kafka has.

    Sequence numbers grow for as long as the tracker lives, across connections, so a number says which connection it
    belongs to: whatever lies below the current epoch's first is of an earlier one.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._base = 0  # sequence number of the oldest message not acknowledged
        self._acks: list[bytes] = []
        self._kept = bytearray()  # one byte a message from _base on: 1 if Kafka has it

    def __len__(self) -> int:
        return len(self._acks)

    def receive(self, acks: Sequence[bytes]) -> int:
        """Note messages in the order received, each by its ack (empty: none is due); return the first one's number."""
        first = self._base + len(self._acks)
        self._acks.extend(acks)
        self._kept.extend(bytes(len(acks)))
        return first

    def complete(self, numbers: Sequence[int]) -> bytes:
        """Kafka has these messages (ascending): return the acks that may now be sent, in receive order."""
        base, kept = self._base, self._kept
        if numbers and numbers[0] < base:  # of an earlier connection
            numbers = [number for number in numbers if number >= base]
        for number in numbers:
            kept[number - base] = 1
        prefix = kept.find(0)
        if prefix < 0:
            prefix = len(kept)
        if not prefix:
            return b""
        due = b"".join(self._acks[:prefix])
        del self._acks[:prefix], kept[:prefix]
        self._base = base + prefix
        return due

    def comes_again(self, number: int) -> bool:
        """Whether the broker would send this message again on a new connection: it is owed an ack."""
        at = number - self._base
        return at >= 0 and bool(self._acks[at])

    def new_epoch(self) -> None:
        """The connection is gone; nothing that came by it will be acknowledged."""
        self._base += len(self._acks)
        self._acks.clear()
        self._kept.clear()
        self.epoch += 1


class InFlight:
    """How much was received and is not yet in Kafka, against bounds in messages and bytes."""

    def __init__(self, messages: int, size: int) -> None:
        self.max_messages = messages
        self.max_size = size
        self.messages = 0
        self.size = 0

    def add(self, messages: int, size: int) -> None:
        """Messages came in."""
        self.messages += messages
        self.size += size

    def release(self, messages: int, size: int) -> None:
        """Messages are in Kafka, or were given up because the broker sends them again."""
        self.messages -= messages
        self.size -= size
        assert self.messages >= 0
        assert self.size >= 0

    @property
    def full(self) -> bool:
        """At or above a bound: reading pauses."""
        return self.messages >= self.max_messages or self.size >= self.max_size

    @property
    def relaxed(self) -> bool:
        """Below three quarters of both bounds: reading goes on."""
        return self.messages * 4 < self.max_messages * 3 and self.size * 4 < self.max_size * 3
