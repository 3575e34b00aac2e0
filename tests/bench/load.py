"""The load generator: one process, one connection a city, QoS 1 with a window of unacknowledged packets.

It does what `Board` asks of it: nothing, as much as the credits allow (they are given out as messages become visible in
SQL, so that no queue grows without bound), or a schedule. On a schedule every message carries the time at which it was
*due*: a generator or broker that falls behind shows as latency instead of hiding it (coordinated omission).
"""

import gc
import multiprocessing
import selectors
import socket
import time
from collections.abc import Sequence
from enum import IntEnum
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from tests.bench.packets import CONNACK_ACCEPTED, DISCONNECT, MIDS, PUBACK, PUBACK_BYTES, Fleet, connect
from tests.bench.workloads import WORKLOADS, fleet

WINDOW = 1_000  # unacknowledged packets of a connection
BATCH_BYTES = 262_144  # of one send
SLOT_US = 2_000  # schedule: messages due within one slot are sent together, with the time of its beginning
SETTLE_SLOTS = 8  # acknowledgements are read once in so many slots: the window bears far more
IDLE_S = 0.005


class Mode(IntEnum):
    """What the generator does."""

    STARTING = 0
    IDLE = 1
    CREDIT = 2
    SCHEDULE = 3
    QUIT = 4
    FAILED = 5


class Target(NamedTuple):
    """A city's broker and how many devices publish to it."""

    city: str
    host: str
    port: int
    devices: int


class Board:
    """Numbers that the harness and the generator share. Each has one writer; order does not matter."""

    MODE, STATE, BEGIN, END, RATE = range(5)  # rate: messages in 1,000 s, all cities
    FIXED = 5

    def __init__(self, cities: int) -> None:
        self.cities = cities
        self._cells = multiprocessing.get_context("spawn").RawArray("q", self.FIXED + 3 * cities)
        self.credit, self.sent, self.acked = (self._column(index) for index in range(3))

    def _column(self, index: int) -> "Column":
        return Column(self._cells, self.FIXED + index * self.cities, self.cities)

    def __getitem__(self, index: int) -> int:
        return int(self._cells[index])

    def __setitem__(self, index: int, value: int) -> None:
        self._cells[index] = value


class Column:
    """One number a city."""

    def __init__(self, cells: Any, start: int, length: int) -> None:
        self._cells, self._start, self._length = cells, start, length

    def __getitem__(self, city: int) -> int:
        return int(self._cells[self._start + city])

    def __setitem__(self, city: int, value: int) -> None:
        self._cells[self._start + city] = value

    def all(self) -> list[int]:
        """The numbers of all cities."""
        return list(self._cells[self._start : self._start + self._length])


class Line:
    """One city's connection: what is sent, what is acknowledged, what the socket did not take yet."""

    def __init__(self, target: Target, packets: Fleet) -> None:
        self._fleet = packets
        self._socket = socket.create_connection((target.host, target.port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(connect(f"load-{target.city}"))
        answer = self._socket.recv(4, socket.MSG_WAITALL)
        if answer != CONNACK_ACCEPTED:
            raise ConnectionError(f"{target.city}: broker answered CONNECT with {answer.hex()}")
        self._socket.setblocking(False)
        self._inbox = bytearray(65_536)
        self._bytes_in = 0
        self._left = b""
        self._row = 0
        self._cycle_us = 0
        self._most = max(1, BATCH_BYTES // packets.packet_bytes)
        self.sent = 0
        self.acked = 0

    def take_acks(self) -> None:
        """Count PUBACKs by bytes: nothing else can come on a connection that only publishes."""
        while True:
            try:
                count = self._socket.recv_into(self._inbox)
            except BlockingIOError:
                break
            if count == 0:
                raise ConnectionError("the broker closed the load's connection")
            if self._bytes_in % PUBACK_BYTES == 0 and not self._inbox.startswith(PUBACK[:1]):
                raise ConnectionError(f"the broker sent {bytes(self._inbox[:8]).hex()} where a PUBACK belongs")
            self._bytes_in += count
            if count < len(self._inbox):
                break
        self.acked = self._bytes_in // PUBACK_BYTES

    def room(self) -> int:
        """Messages that the window still admits; none while the socket is full."""
        return 0 if self._left else WINDOW - (self.sent - self.acked)

    def flush(self) -> None:
        """Offer again what the socket did not take."""
        if self._left:
            self._left = self._left[self._write(self._left) :]

    def push(self, wanted: int, us: int) -> int:
        """Send up to `wanted` messages with the time `us`; how many went out."""
        done = 0
        while done < wanted and not self._left:
            count = min(wanted - done, self._fleet.devices - self._row, self._most)
            if self._row == 0:
                if us < self._cycle_us + self._fleet.spread_us:
                    break  # a device would repeat a time it has used
                self._cycle_us = us
            out = self._fleet.stamp(self._row, self._row + count, self.sent % MIDS + 1, us)
            written = self._write(out)
            if written < len(out):
                self._left = bytes(out[written:])  # the rows are stamped anew before the socket takes the rest
            self._row = (self._row + count) % self._fleet.devices
            self.sent += count
            done += count
        return done

    def too_fast(self, messages_per_us: float) -> bool:
        """Whether at this rate a device's turn would come before its next message has times of its own."""
        return messages_per_us * self._fleet.spread_us > self._fleet.devices

    def _write(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Say goodbye."""
        self._socket.setblocking(True)
        self._socket.sendall(DISCONNECT)
        self._socket.close()

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()


class Generator:
    """The loop over all lines."""

    def __init__(self, board: Board, lines: Sequence[Line], tick_s: float) -> None:
        self._board, self._lines, self._tick_s = board, lines, tick_s
        self._clock_us = 0
        self._readable = selectors.DefaultSelector()
        for line in lines:
            self._readable.register(line, selectors.EVENT_READ)

    def _now(self) -> int:
        """Microseconds since the epoch, never the same twice."""
        self._clock_us = max(self._clock_us + 1, time.time_ns() // 1_000)
        return self._clock_us

    def run(self) -> None:
        """Obey the board until it says QUIT."""
        board = self._board
        board[Board.STATE] = Mode.IDLE
        while (mode := board[Board.MODE]) != Mode.QUIT:
            if mode == Mode.SCHEDULE:
                self._schedule()
                board[Board.MODE] = Mode.IDLE
                continue
            began = time.monotonic()
            if mode == Mode.CREDIT:
                for city, line in enumerate(self._lines):
                    wanted = min(board.credit[city] - line.sent, line.room())
                    if wanted > 0:
                        line.push(wanted, self._now())
            time.sleep(max(0.0, began + (self._tick_s if mode == Mode.CREDIT else IDLE_S) - time.monotonic()))
            self._settle()
        for line in self._lines:
            line.close()

    def _settle(self) -> None:
        for city, line in enumerate(self._lines):
            line.take_acks()
            line.flush()
            self._board.sent[city] = line.sent
            self._board.acked[city] = line.acked

    def _schedule(self) -> None:
        """Send RATE from BEGIN to END (both microseconds since the epoch): slot after slot, late ones included."""
        board, cities = self._board, len(self._lines)
        begin, end = board[Board.BEGIN], board[Board.END]
        per_slot = board[Board.RATE] / 1_000 * SLOT_US / 1e6 / cities
        if any(line.too_fast(per_slot / SLOT_US) for line in self._lines):
            raise ValueError("too few devices for this rate: one would repeat its times")
        for slot in range((end - begin) // SLOT_US):
            due = begin + slot * SLOT_US
            time.sleep(max(0.0, due / 1e6 - time.time()))
            self._clock_us = max(self._clock_us, due)
            for city, line in enumerate(self._lines):
                phase = city / cities  # cities don't send in step
                count = int((slot + 1) * per_slot + phase) - int(slot * per_slot + phase)
                while count:
                    count -= line.push(min(count, line.room()), due)
                    if count:  # the window is shut: wait, the messages keep the time at which they were due
                        self._readable.select(0.01)
                        self._settle()
            if slot % SETTLE_SLOTS == 0:
                self._settle()
        self._settle()


def _main(board: Board, workload: str, targets: Sequence[Target]) -> None:
    try:
        kind = WORKLOADS[workload]
        lines = [Line(target, fleet(kind, target.city, target.devices)) for target in targets]
        gc.collect()
        gc.freeze()
        Generator(board, lines, kind.tick_s).run()
    except BaseException:
        board[Board.STATE] = Mode.FAILED
        raise


def start(board: Board, workload: str, targets: Sequence[Target]) -> BaseProcess:
    """Start the generator's process; it is ready when the board's state says IDLE."""
    process = multiprocessing.get_context("spawn").Process(target=_main, args=(board, workload, targets), daemon=True)
    process.start()
    return process
