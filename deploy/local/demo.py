"""`make demo`: seven simulated cities through the real servers, live in the terminal, and the proof that none was lost.

Everything up, the simulator on, the page until the time is over or Ctrl-C; then the simulator ends with all its
PUBACKs, the path drains, and what the database holds is held against the simulator's own record, reading by reading.
The public views show the cities side by side and the storm that the loggers told of.
The last line on stdout is one JSON object; the exit code is 1 if the two disagree by one.
"""

import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.live import Live

from local import demo_weather, stack
from local.demo_data import (
    Accounted,
    Latency,
    Partition,
    ledger,
    letters,
    log_ends,
    passed,
    percentile,
    positions,
    rows,
)
from local.demo_page import Line, look, page, plain
from local.paths import CHECKOUT, LocalError
from local.process import Process, ServerError, recorded, tail
from simulator.check import Counts, count, verify
from simulator.record import read_record, read_totals

REFRESH_SECONDS = 0.5
PLAIN_SECONDS = 5.0
DRAIN_SECONDS = 30.0
SETTLE_SECONDS = 30.0
SUMMED_SECONDS = 30.0  # two of maintain's cycles
SENTENCES = 20  # disagreements shown
COUNTED = ("stored", "duplicate", "dead_lettered", "ignored")


@dataclass(frozen=True, slots=True)
class Baseline:
    """Where everything stood before the run: an earlier one's data stay in the database."""

    accounted: Mapping[str, Accounted]
    positions: Mapping[Partition, int]
    began: datetime
    storm_ended: datetime


@dataclass(slots=True)
class Verdict:
    """The last line, and what was wrong."""

    published: int = 0
    stored: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    ignored: int = 0
    redelivered: int = 0
    unaccounted: int = 0
    cities: int = 0
    dialects: int = 0
    weather_events: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None


def run(seconds: float) -> int:
    """Run the demo for so many seconds (0: until Ctrl-C) and give the exit code."""
    console = Console(stderr=True, highlight=False)
    was_running = stack.running() is not None
    try:
        endpoints = stack.up(report=lambda line: console.print(line, markup=False))
        verdict, sentences = _Demo(endpoints, console).run(seconds)
    finally:
        if not was_running:
            stack.down()
    for sentence in sentences[:SENTENCES]:
        console.print(sentence, markup=False, style="red", soft_wrap=True)
    if len(sentences) > SENTENCES:
        console.print(f"… and {len(sentences) - SENTENCES} more", style="red")
    if was_running:
        console.print("The stack ran before and runs on; `make down` ends it.")
    print(json.dumps(asdict(verdict)), flush=True)
    return 1 if sentences else 0


class _Demo:
    """One run on a stack that is up."""

    def __init__(self, endpoints: stack.Endpoints, console: Console) -> None:
        if not endpoints.metrics:
            raise LocalError("only the servers run, without the pipeline; `make down` first")
        self._endpoints = endpoints
        self._console = console
        self._cities = sorted(endpoints.mqtt)
        self._record = CHECKOUT / "build" / "demo"
        self._latency = Latency(endpoints.reader_dsn, len(self._cities))
        self._rates: dict[str, tuple[float, int, float]] = {}
        self._lines: list[Line] = []

    def run(self, seconds: float) -> tuple[Verdict, list[str]]:
        """Show, stop, drain, verify."""
        for one in recorded(stack.RUN):
            if one.name == "simulator":
                self._say("the simulator of `make up DEMO=1` makes way")
                one.stop()
        shutil.rmtree(self._record, ignore_errors=True)
        # The owner's address: the proof holds the dead letters' payloads against the record, which no reader may see.
        with psycopg.connect(self._endpoints.dsn, autocommit=True) as connection:
            baseline = self._baseline(connection)
            simulator = self._simulator(baseline)
            self._latency.start()
            try:
                self._show(connection, baseline, simulator, seconds)
                self._say("stopping the sensors and waiting for their PUBACKs …")
            finally:
                simulator.stop(SETTLE_SECONDS)
            self._say("draining …")
            self._drain(connection, baseline)
            self._latency.end()
            self._say("holding the database against the simulator's record …")
            verdict, sentences = self._verdict(connection, baseline)
            self._weather(connection, baseline, verdict)
            return verdict, sentences

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False)

    def _baseline(self, connection: "psycopg.Connection[Any]") -> Baseline:
        """What brokers and Kafka still hold from before is processed first, so that it is not taken for ours."""
        if not passed(self._endpoints.kafka, self._endpoints.mqtt, DRAIN_SECONDS):
            raise ServerError(f"a message needs more than {DRAIN_SECONDS:.0f} s to Kafka; see the gateways' logs")
        deadline = time.monotonic() + DRAIN_SECONDS
        before = None
        while time.monotonic() < deadline:
            ends = log_ends(self._endpoints.kafka, self._cities)
            if ends == before and self._processed(connection, ends):
                break
            before = ends
            time.sleep(0.3)
        # The gateway tells milliseconds, cut: what it receives in this one may lie a little before.
        began = datetime.now(UTC) - timedelta(milliseconds=1)
        ended = demo_weather.storm_end(connection, began)
        return Baseline(ledger(connection), positions(connection), began, ended)

    @staticmethod
    def _processed(connection: "psycopg.Connection[Any]", ends: Mapping[Partition, int]) -> bool:
        there = positions(connection)
        return all(there.get(partition, 0) >= end for partition, end in ends.items())

    def _simulator(self, baseline: Baseline) -> Process:
        """Started as oneself, known to `make down`."""
        command = ["run", "--cities-dir", self._endpoints.cities_dir, "--record", str(self._record)]
        command += ["--storm-ended", f"{baseline.storm_ended.timestamp():.0f}"]
        process = Process(
            name="simulator",
            argv=[sys.executable, "-m", "simulator", *command],
            log=stack.LOGS / "simulator.log",
            record=stack.RUN / "simulator.json",
            cwd=CHECKOUT,
            unprivileged=False,
        )
        process.spawn()
        process.wait_until(lambda: read_totals(self._record) is not None, seconds=60)
        return process

    def _show(
        self, connection: "psycopg.Connection[Any]", baseline: Baseline, simulator: Process, seconds: float
    ) -> None:
        """The page (or a line now and then) until the time is over or Ctrl-C."""
        begin = told = time.monotonic()
        footer = f"ends by itself after {seconds:.0f} s" if seconds else "Ctrl-C stops, drains and proves the count"
        live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        for hint in look(self._endpoints.reader_dsn, self._endpoints.metrics):  # above the page, where it can be copied
            self._console.print(hint, markup=False, soft_wrap=True)
        if live is not None:
            live.start()
        try:
            while not seconds or time.monotonic() - begin < seconds:
                if not simulator.alive():
                    raise ServerError(f"the simulator ended; the end of its log:\n{tail(simulator.log)}")
                total = self._look(connection, baseline)
                now = time.monotonic()
                if live is not None:
                    live.update(page(self._lines, total, f"{now - begin:.0f} s · {footer}"), refresh=True)
                elif now - told >= PLAIN_SECONDS:
                    told = now
                    self._console.print(plain(total, now - begin), soft_wrap=True)
                time.sleep(min(REFRESH_SECONDS, max(0.0, begin + seconds - now) if seconds else REFRESH_SECONDS))
        except KeyboardInterrupt:
            pass  # the end of the show, not of the proof; a second one ends everything
        finally:
            if live is not None:
                live.stop()

    def _look(self, connection: "psycopg.Connection[Any]", baseline: Baseline) -> Line:
        """Bring the lines up to date and add them up. What is in flight is counted before the ledger is read."""
        totals = read_totals(self._record) or {"at": 0.0, "cities": {}}
        accounted = self._since(connection, baseline)
        self._lines = []
        for city in self._cities:
            published = totals["cities"].get(city, {"messages": 0, "published": 0})
            done = accounted[city]
            recent = list(self._latency.recent.get(city, ()))
            self._lines.append(
                Line(
                    city,
                    self._rate(city, totals["at"], published["messages"]),
                    *(getattr(done, name) for name in COUNTED),
                    in_flight=max(0, published["published"] - done.units),
                    unaccounted=done.unaccounted,
                    p50=percentile(recent, 0.5),
                    p99=percentile(recent, 0.99),
                )
            )
        added = {
            name: sum(getattr(each, name) for each in self._lines)
            for name in ("rate", *COUNTED, "in_flight", "unaccounted")
        }
        samples = self._latency.samples[:]
        return Line("all", **added, p50=percentile(samples, 0.5), p99=percentile(samples, 0.99))

    def _rate(self, city: str, at: float, messages: int) -> float:
        """Messages a second, smoothed over the last looks."""
        before, count_before, rate = self._rates.get(city, (at, messages, 0.0))
        if at - before >= 1:
            rate = (messages - count_before) / (at - before)
            before, count_before = at, messages
        self._rates[city] = (before, count_before, rate)
        return rate

    def _since(self, connection: "psycopg.Connection[Any]", baseline: Baseline) -> dict[str, Accounted]:
        now = ledger(connection)
        nothing = Accounted()
        return {city: now.get(city, nothing).since(baseline.accounted.get(city, nothing)) for city in self._cities}

    def _drain(self, connection: "psycopg.Connection[Any]", baseline: Baseline) -> None:
        """Until the ledger accounts for all that was published and every record that Kafka holds; a bounded time."""
        totals = read_totals(self._record)
        published = {city: each["published"] for city, each in totals["cities"].items()} if totals else {}
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline:
            accounted = self._since(connection, baseline)
            if all(accounted[city].units >= units for city, units in published.items()):
                ends = log_ends(self._endpoints.kafka, self._cities)
                if self._processed(connection, ends):
                    return
            time.sleep(0.1)
        self._say(f"not drained within {DRAIN_SECONDS:.0f} s")

    def _weather(self, connection: "psycopg.Connection[Any]", baseline: Baseline, verdict: Verdict) -> None:
        """What the public views make of it."""
        if not demo_weather.summed_up(connection, baseline.storm_ended, SUMMED_SECONDS):
            self._say(f"the storm's hours are not summed up within {SUMMED_SECONDS:.0f} s; see the log of maintain")
        found = demo_weather.findings(connection, baseline.storm_ended, baseline.began)
        verdict.dialects, verdict.weather_events = len(found.dialects), len(found.events)
        self._console.print(demo_weather.page(self._cities, found, baseline.storm_ended))

    def _verdict(self, connection: "psycopg.Connection[Any]", baseline: Baseline) -> tuple[Verdict, list[str]]:
        """Identity by identity, then the counts."""
        accounted = self._since(connection, baseline)
        verdict = Verdict(cities=len(self._cities))
        sentences: list[str] = []
        for city in self._cities:
            path = self._record / f"{city}.jsonl"
            expected = count(read_record(path)[0])
            done = accounted[city]
            unaccounted = max(done.unaccounted, expected.published - done.units)
            redelivered = done.units + unaccounted - expected.published
            sentences += [f"{city}: {each}" for each in self._compare(path, connection, city, baseline, redelivered)]
            sentences += [f"{city}: {each}" for each in _differences(expected, done, unaccounted, redelivered)]
            verdict.published += expected.published
            verdict.redelivered += redelivered
            verdict.unaccounted += unaccounted
            for name in COUNTED:
                setattr(verdict, name, getattr(verdict, name) + getattr(done, name))
        if not self._latency.samples:
            sentences.append("no latency was measured: no reading of a probe was seen in SQL")
        else:
            verdict.p50_ms, verdict.p99_ms = (round(percentile(self._latency.samples, p) or 0, 1) for p in (0.5, 0.99))
        return verdict, sentences

    @staticmethod
    def _compare(
        path: Path, connection: "psycopg.Connection[Any]", city: str, baseline: Baseline, redelivered: int
    ) -> list[str]:
        messages, unacknowledged = read_record(path)
        found = verify(
            messages,
            rows(connection, city, baseline.began),
            letters(connection, city, baseline.positions),
            unacknowledged=unacknowledged,
            redelivered=redelivered > 0,
        )
        if unacknowledged:
            found.append(f"{len(unacknowledged)} messages were never acknowledged by the broker")
        return found


def _differences(expected: Counts, done: Accounted, unaccounted: int, redelivered: int) -> list[str]:
    """What the counts alone say; equality is demanded where nothing was redelivered."""
    found = [f"{unaccounted} unaccounted"] if unaccounted else []
    for name in COUNTED:
        due, there = getattr(expected, name), getattr(done, name)
        if there < due or (there > due and not redelivered):
            found.append(f"{there} {name}, published {due}")
    return found
