"""What is known now, of the database and of the processes, put together for the page and for Prometheus. No I/O.

Every part says when it was read; what could not be read stays as it was and says since when.
"""

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from status.scrape import Process
from storage.overview import COUNTED_LETTERS, CityCounts, Letters, Newest, Streams

RATE_SECONDS = 15.0  # rates are over so long, or as long as there is

Rates = list[tuple[float, dict[str, dict[str, float]]]]


@dataclass
class State:
    """Filled by the collectors' tasks, read by the HTTP server's threads."""

    database_trouble: str | None = "not read yet"
    database_since: float = field(default_factory=time.time)
    database_read: float | None = None
    cities: Sequence[CityCounts] = ()
    letters: Sequence[Letters] = ()
    streams: Sequence[Streams] = ()
    newest: Sequence[Newest] = ()
    processes: Sequence[Process] = ()
    looked_at: float = 0.0  # when somebody last asked for the page's data
    _rates: Rates = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def database(self, trouble: str | None, now: float) -> None:
        """Note whether the database answered."""
        if (trouble is None) != (self.database_trouble is None):
            self.database_since = now
        self.database_trouble = trouble
        if trouble is None:
            self.database_read = now

    def counted(self, now: float) -> None:
        """Keep what the rates are made of: received from the gateways, stored from the ledger."""
        received: dict[str, float] = {}
        for process in self.processes:
            for city, value in process.by_city("hanse_gateway_messages_received_total").items():
                received[city] = received.get(city, 0.0) + value
        sample = {
            "received": received,
            "stored": {one.key: float(one.stored) for one in self.cities},
            "dead": {one.key: float(one.dead) for one in self.cities},
            "all": {one.key: float(one.stored + one.duplicate + one.dead + one.ignored) for one in self.cities},
        }
        with self._lock:
            self._rates = [entry for entry in self._rates if entry[0] > now - RATE_SECONDS] + [(now, sample)]

    def rate(self, what: str, city: str) -> float | None:
        """Events a second; None where nothing is known. A counter that began anew counts from 0."""
        with self._lock:
            points = [(at, sample[what][city]) for at, sample in self._rates if city in sample[what]]
        if len(points) < 2 or points[-1][0] <= points[0][0]:  # noqa: PLR2004  (a rate is between two)
            return None
        (first, low), (last, high) = points[0], points[-1]
        return (high if high < low else high - low) / (last - first)

    def rejected(self, city: str) -> float | None:
        """Which share of what comes is rejected; None where nothing came, or nothing is known."""
        dead, came = self.rate("dead", city), self.rate("all", city)
        return dead / came if came and dead is not None else None

    def per_city(self, name: str, *, most: bool = False) -> dict[str, float]:
        """A metric by city, over all processes: the sum, or the largest."""
        found: dict[str, float] = {}
        for process in self.processes:
            for city, value in process.by_city(name).items():
                known = found.get(city)
                found[city] = value if known is None else max(known, value) if most else known + value
        return found

    def page(self, now: float) -> dict[str, Any]:
        """Everything the page shows, as JSON takes it."""
        self.looked_at = now
        return {
            "time": now,
            "database": {
                "trouble": self.database_trouble,
                "since": self.database_since,
                "read": self.database_read,
            },
            "processes": [
                {
                    "address": p.address,
                    "component": p.component,
                    "version": p.version,
                    "cities": sorted(p.by_city("hanse_gateway_connected")),
                    "trouble": p.trouble,
                }
                for p in self.processes
            ],
            "kafka": self._kafka_trouble(),
            "cities": [self._city(key, now) for key in self._keys()],
            "dead_letters": [
                {"city": one.city, "reason": one.reason, "letters": one.letters, "more": one.letters >= COUNTED_LETTERS}
                for one in self.letters
            ],
            "newest": [
                one._asdict()
                | {
                    "phenomenon_time": one.phenomenon_time.timestamp(),
                    "received_at": one.received_at.timestamp(),
                    "value": one.value if one.value is None or math.isfinite(one.value) else None,
                }
                for one in self.newest
            ],
        }

    def _keys(self) -> list[str]:
        heard = self.per_city("hanse_gateway_connected")
        return sorted({one.key for one in self.cities} | set(heard))

    def _kafka_trouble(self) -> bool | None:
        told = [
            *self.per_city("hanse_gateway_kafka_connected").values(),
            *(v for p in self.processes if (v := p.value("hanse_processor_kafka_up")) is not None),
        ]
        return None if not told else min(told) == 0

    def _city(self, key: str, now: float) -> dict[str, Any]:
        counts = next((one for one in self.cities if one.key == key), None)
        streams = next((one for one in self.streams if one.city == key), None)
        rows = [one.received_at.timestamp() for one in self.newest if one.city == key]

        def told(name: str, *, most: bool = True) -> float | None:
            value = self.per_city(name, most=most).get(key)
            return None if value is None or math.isnan(value) else value

        return {
            "key": key,
            "name": key if counts is None else counts.name,
            "connected": told("hanse_gateway_connected"),
            "silent": told("hanse_gateway_silent"),
            "paused": told("hanse_processor_city_paused"),
            "last_message": told("hanse_gateway_last_message_timestamp_seconds"),
            "newest_row": max(rows, default=None),
            "received_rate": self.rate("received", key),
            "stored_rate": self.rate("stored", key),
            "rejected": self.rejected(key),
            "lag_records": told("hanse_processor_lag_records", most=False),
            "lag_seconds": told("hanse_processor_lag_seconds"),
            "counts": None if counts is None else counts._asdict(),
            "datastreams": None if streams is None else streams.datastreams,
            "overdue": None if streams is None else streams.overdue,
        } | {"age": now - max(rows) if rows else None}
