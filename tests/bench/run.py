"""One workload from fresh servers to a line of figures: prime, saturate, drain, half load, books, bare COPY."""

import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from tests.bench import load
from tests.bench.database import Database
from tests.bench.figures import Books, Result, Sample, Span, percentile
from tests.bench.latency import Watch, due_from_kafka, records_in_kafka
from tests.bench.load import Board, Mode, Target
from tests.bench.proc import Meter
from tests.bench.stack import Stack
from tests.bench.workloads import CITIES, Workload, share

LOOK_EVERY_S = 0.1
WARM_UP_S = 5.0
SETTLE_S = 1.0  # of the schedule, before its messages count
CHECK_EVERY_S = 1.0
STALL_S = 60.0  # without any progress: give up and say what is missing

Say = Callable[[str], None]


class Timing(NamedTuple):
    """How long the two measured phases take."""

    saturated_s: float
    half_load_s: float


class StalledError(RuntimeError):
    """Messages do not arrive; the message says how many of how many did."""


class Bench:
    """A workload on a running stack."""

    def __init__(self, stack: Stack, workload: Workload, say: Say) -> None:
        self._stack, self._workload, self._say = stack, workload, say
        self._cities = list(CITIES)
        self._devices = share(workload.devices, len(CITIES))
        self._board = Board(len(CITIES))
        self._database = Database(stack.dsn)
        self._load = self._start_load()
        kinds = {**stack.pids(), "load": [self._load.pid or 0]}
        self._meter = Meter(kinds, apart=frozenset({self._database.pid}))

    def run(self, timing: Timing) -> Result:
        """Everything, in order."""
        self._say("every device once, so that the datastreams exist")
        self._prime()
        self._say(f"saturated for {WARM_UP_S:.0f} + {timing.saturated_s:.0f} s")
        span = self._saturate(timing.saturated_s)
        rate = span.messages_per_s
        self._drain()
        self._say(f"{rate:,.0f} messages/s; half of it for {timing.half_load_s:.0f} s")
        latencies = self._half_load(rate / 2, timing.half_load_s)
        peak_mb = self._meter.peak_mb()
        self._board[Board.MODE] = Mode.QUIT
        self._load.join(10)
        self._say("checking the books; raw COPY of the same rows")
        faults = self._books().faults + self._told()
        return Result(
            messages_per_s=rate,
            readings_per_s=rate * self._workload.readings,
            cpu_us_per_message=span.cpu_us_per(span.messages),
            cpu_us_per_reading=span.cpu_us_per(span.readings),
            p50_ms=percentile(latencies, 0.5),
            p99_ms=percentile(latencies, 0.99),
            rss_mb=peak_mb,
            wal_bytes_per_reading=span.wal_bytes_per_reading,
            copy_rows_per_s=self._database.copy_rows_per_s(),
            balanced=not faults,
            faults=faults,
        )

    def close(self) -> None:
        """End the load and the session."""
        self._load.kill()
        self._load.join(10)
        self._database.close()

    def _start_load(self) -> BaseProcess:
        targets = [
            Target(city, "127.0.0.1", self._stack.brokers[city].port, devices)
            for city, devices in zip(self._cities, self._devices, strict=True)
        ]
        process = load.start(self._board, self._workload.name, targets)
        self._until(lambda: self._board[Board.STATE] == Mode.IDLE, "the load generator to start")
        return process

    def _prime(self) -> None:
        for city, devices in enumerate(self._devices):
            self._board.credit[city] = devices
        self._board[Board.MODE] = Mode.CREDIT
        self._until(lambda: self._board.acked.all() == self._devices, "every device's first message to be acknowledged")
        self._board[Board.MODE] = Mode.IDLE
        self._drain()

    def _saturate(self, seconds: float) -> Span:
        """Keep `window` messages on their way; a city's credit follows what SQL shows of it."""
        window = self._workload.window // len(self._cities)
        self._board[Board.MODE] = Mode.CREDIT
        first: Sample | None = None
        began = time.monotonic()
        while True:
            now, progress = time.monotonic(), self._database.progress()
            for city, key in enumerate(self._cities):
                self._board.credit[city] = progress.by_city.get(key, 0) + window
            over = now > began + WARM_UP_S + seconds
            if over or (first is None and now > began + WARM_UP_S):
                acked = sum(self._board.acked.all())
                cpu_s = self._meter.cpu_s()
                sample = Sample(now, acked, progress.messages, progress.readings, progress.wal, cpu_s)
                if over and first is not None:
                    self._board[Board.MODE] = Mode.IDLE
                    return Span(first, sample)
                first = sample
            self.check()
            time.sleep(LOOK_EVERY_S)

    def _half_load(self, rate: float, seconds: float) -> list[float]:
        """Sorted latencies (ms) of a schedule at `rate` messages a second."""
        watch = Watch(self._database)
        board, sent = self._board, sum(self._board.sent.all())
        begin = time.time_ns() // 1_000 + 200_000
        board[Board.BEGIN], board[Board.END] = begin, begin + int(seconds * 1e6)
        board[Board.RATE] = int(rate * 1_000)
        board[Board.MODE] = Mode.SCHEDULE
        patience = Patience(self, "the schedule's messages to be visible")
        while True:
            end = watch.look()
            visible = sum(end.values()) - sum(watch.begin.values())
            if board[Board.MODE] == Mode.IDLE and visible >= sum(board.sent.all()) - sent:
                break
            patience.bear(visible)
        due = due_from_kafka(self._stack.kafka.bootstrap, watch.begin, end)
        return [float(ms) for ms in watch.latencies_ms(due, begin / 1e6 + SETTLE_S)]

    def _drain(self) -> None:
        """Wait until all that was sent is acknowledged and visible."""
        sent = self._board.sent
        time.sleep(2 * load.IDLE_S)  # the generator sees IDLE and writes down what it has sent
        patience = Patience(self, "what was published to be visible in SQL")
        while True:
            visible = self._database.progress().messages
            if self._board.acked.all() == sent.all() and visible >= sum(sent.all()):
                return
            patience.bear(visible)
            time.sleep(LOOK_EVERY_S / 2)

    def _books(self) -> Books:
        ledger = self._database.ledger()
        return Books(
            published=sum(self._board.sent.all()),
            acknowledged=sum(self._board.acked.all()),
            records=records_in_kafka(self._stack.kafka.bootstrap, [f"hanse.raw.{city}" for city in self._cities]),
            ledger_messages=ledger.messages,
            readings_per_message=self._workload.readings,
            readings=ledger.readings,
            stored=ledger.stored,
            duplicate=ledger.duplicate,
            dead=ledger.dead,
            ignored=ledger.ignored,
            rows=self._database.rows(),
        )

    def _told(self) -> list[str]:
        unaccounted = self._database.ledger().unaccounted
        faults = [f"the ledger's own unaccounted is 0 (it is {unaccounted})"] if unaccounted else []
        return faults + [
            f"no dead letters ({count} {reason}: {detail})" for reason, detail, count in self._database.reasons()[:3]
        ]

    def _until(self, done: Callable[[], bool], what: str) -> None:
        patience = Patience(self, what)
        while not done():
            patience.bear(sum(self._board.acked.all()))
            time.sleep(0.01)

    def check(self) -> None:
        """Raise if the load or a process of the pipeline has ended."""
        if self._board[Board.STATE] == Mode.FAILED:
            raise RuntimeError("the load generator failed; its traceback is above")
        self._stack.pids()

    def stalled(self, what: str, count: int) -> StalledError:
        """The sentence about a wait that leads nowhere, with what the database and the logs know."""
        told = "; ".join(self._told()) or "no dead letters"
        return StalledError(
            f"waiting for {what}: stands at {count} of {sum(self._board.sent.all())} for {STALL_S:.0f} s; {told}\n"
            f"{self._stack.tail('gateway')}{self._stack.tail('processor')}"
        )


class Patience:
    """Bears a wait as long as something moves."""

    def __init__(self, bench: Bench, what: str) -> None:
        self._bench, self._what = bench, what
        self._seen = -1
        self._since = self._checked = time.monotonic()

    def bear(self, count: int) -> None:
        """Take note of a count; raises StalledError once it has stood still for STALL_S."""
        now = time.monotonic()
        if now > self._checked + CHECK_EVERY_S:
            self._checked = now
            self._bench.check()
        if count != self._seen:
            self._seen, self._since = count, now
        elif now > self._since + STALL_S:
            raise self._bench.stalled(self._what, count)
