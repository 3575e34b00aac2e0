"""A run: all cities' messages at their pace, until told to stop, and then until every PUBACK is in."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from simulator.cities import Place
from simulator.expectation import Publication
from simulator.networks import messages
from simulator.publisher import Publisher
from simulator.record import Record, Totals, write_totals

CONNECT_SECONDS = 30.0
PUBACK_SECONDS = 20.0
TOTALS_SECONDS = 0.25
TICK_SECONDS = 0.005


class NoBrokerError(RuntimeError):
    """A broker that can't be used: which, why, what to look at."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. `rate`: messages a second and city. `backlog`: seconds of messages held back before the start.

    `storm_ended`: seconds since the epoch, as in `networks.messages`.
    """

    rate: float
    seconds: float | None
    seed: int
    backlog: float
    storm_ended: int | None = None


@dataclass(slots=True)
class _Lane:
    """One city under way. `sent` messages since `began` (monotonic seconds) are due at began + sent / rate."""

    publisher: Publisher
    record: Record
    stream: Iterator[Publication]
    clock: "_Clock"
    began: float = 0.0
    sent: int = 0


@dataclass(slots=True)
class _Clock:
    """Wall clock in microseconds, `behind` seconds late while a backlog is sent."""

    behind: float = 0.0

    def __call__(self) -> int:
        return time.time_ns() // 1_000 - int(self.behind * 1e6)


@dataclass(slots=True)
class Run:
    """All cities of a run; `close` ends every connection whatever happened."""

    places: list[Place]
    directory: Path
    plan: Plan
    stop: Event
    _lanes: dict[str, _Lane] = field(default_factory=dict)

    @property
    def totals(self) -> dict[str, Totals]:
        """Counts by city."""
        return {city: lane.record.totals for city, lane in self._lanes.items()}

    def connect(self) -> None:
        """Open every record and connection; raises NoBrokerError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for place in self.places:
            clock = _Clock(self.plan.backlog)
            plan, ended = self.plan, self.plan.storm_ended
            stream = messages(
                place.site,
                seed=plan.seed,
                clock=clock,
                rate=plan.rate,
                storm_ended=None if ended is None else ended * 1_000_000,
            )
            record = Record(self.directory, place.site.key)
            self._lanes[place.site.key] = _Lane(Publisher(place), record, stream, clock)
        deadline = time.monotonic() + CONNECT_SECONDS
        while waiting := {city: lane for city, lane in self._lanes.items() if not lane.publisher.connected}:
            late = time.monotonic() > deadline
            for city, lane in waiting.items():
                publisher = lane.publisher
                if late or publisher.refused:
                    raise NoBrokerError(
                        f"{city}: broker {publisher.address}: {publisher.trouble}; is it up, and the city file right?"
                    )
            if self.stop.wait(0.05):
                return

    def publish(self) -> None:
        """Publish until stopped or the time is over."""
        begin = time.monotonic()
        for lane in self._lanes.values():
            lane.began = begin - self.plan.backlog
        end = None if self.plan.seconds is None else begin + self.plan.seconds
        told = 0.0
        while not self.stop.wait(TICK_SECONDS):
            now = time.monotonic()
            if end is not None and now >= end:
                return
            for lane in self._lanes.values():
                self._advance(lane, now)
            if now - told >= TOTALS_SECONDS:
                told = now
                write_totals(self.directory, self.totals)

    def _advance(self, lane: _Lane, now: float) -> None:
        """Publish what is due. A broker that is away gets it later, with the time at which it was due."""
        self._collect(lane)
        burst = now + 0.1  # a backlog must not starve the other cities
        while lane.publisher.has_room:
            due = lane.began + lane.sent / self.plan.rate
            if due > now or time.monotonic() > burst:
                return
            # Readings of a backlog carry the time they were due at; live ones that of this instant.
            late = time.monotonic() - due
            lane.clock.behind = late if late > 1 else 0.0
            publication = next(lane.stream)
            lane.sent += 1
            lane.publisher.publish(lane.record.add(time.time_ns() // 1_000, publication), publication)

    @staticmethod
    def _collect(lane: _Lane) -> None:
        lane.record.totals.acknowledged += lane.publisher.collect()

    def settle(self) -> int:
        """Wait for every PUBACK, a bounded time, and end the records; returns how many are missing."""
        deadline = time.monotonic() + PUBACK_SECONDS
        while True:
            for lane in self._lanes.values():
                self._collect(lane)
            missing = sum(len(lane.publisher.pending) for lane in self._lanes.values())
            if not missing or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        for lane in self._lanes.values():
            lane.record.close(lane.publisher.pending.values())
        write_totals(self.directory, self.totals, ended=True)
        return missing

    def close(self) -> None:
        """Disconnect."""
        for lane in self._lanes.values():
            lane.publisher.close()
