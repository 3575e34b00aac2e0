"""From what was counted to what is reported: percentiles, rates, and whether the books balance. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that at least `share` of all values do not exceed."""
    if not sorted_values:
        raise ValueError("no percentile of nothing")
    return sorted_values[max(0, math.ceil(share * len(sorted_values)) - 1)]


class Sample(NamedTuple):
    """What had been counted at one instant, since the beginning."""

    at: float  # seconds, monotonic
    acked: int  # messages the brokers took
    messages: int  # messages visible in SQL
    readings: int  # readings visible in SQL
    wal: int  # bytes
    cpu_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Span:
    """The measured stretch between two samples."""

    first: Sample
    last: Sample

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.last.at - self.first.at

    @property
    def messages(self) -> int:
        """Messages that became visible in it."""
        return self.last.messages - self.first.messages

    @property
    def readings(self) -> int:
        """Readings that became visible in it."""
        return self.last.readings - self.first.readings

    @property
    def messages_per_s(self) -> float:
        """The smaller of published and stored: working off a backlog is no throughput, nor is building one up."""
        return min(self.messages, self.last.acked - self.first.acked) / self.seconds

    def cpu_us_per(self, count: int) -> dict[str, float]:
        """CPU microseconds by kind of process for each of `count`."""
        return {kind: (self.last.cpu_s[kind] - used) * 1e6 / count for kind, used in self.first.cpu_s.items()}

    @property
    def wal_bytes_per_reading(self) -> float:
        """Write-ahead log of the whole server in the stretch."""
        return (self.last.wal - self.first.wal) / self.readings


def visible_at(
    offsets: npt.NDArray[np.int64], positions: npt.NDArray[np.int64], times: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """When each offset was first seen as committed, given a partition's `positions` (next offsets) seen at `times`.

    An offset that no look has seen committed gets infinity.
    """
    first = np.searchsorted(positions, offsets, side="right")
    return np.append(times, np.inf)[first]


@dataclass(frozen=True, slots=True)
class Books:
    """What the load published, what Kafka holds, what the ledger says and what a count of the rows says."""

    published: int  # messages
    acknowledged: int
    records: int  # in Kafka
    ledger_messages: int
    readings_per_message: int
    readings: int  # the ledger's, as are the next four
    stored: int
    duplicate: int
    dead: int
    ignored: int
    rows: int  # counted

    @property
    def faults(self) -> list[str]:
        """What does not add up, one sentence each."""
        redelivered = self.records - self.published
        claims = {
            "every message published was acknowledged": self.published == self.acknowledged,
            "Kafka holds every published message": redelivered >= 0,
            "the ledger counts every Kafka record": self.ledger_messages == self.records,
            "the ledger counts every reading": self.readings == self.records * self.readings_per_message,
            "readings = stored + duplicate + dead + ignored": self.readings
            == self.stored + self.duplicate + self.dead + self.ignored,
            "every published reading is a row, once": self.rows == self.published * self.readings_per_message,
            "the ledger's stored are the rows": self.stored == self.rows,
            "duplicates are redeliveries": self.duplicate == redelivered * self.readings_per_message,
        }
        return [claim for claim, holds in claims.items() if not holds]


@dataclass(slots=True)
class Result:
    """A workload's line in latest.json."""

    messages_per_s: float
    readings_per_s: float
    cpu_us_per_message: dict[str, float]
    cpu_us_per_reading: dict[str, float]
    p50_ms: float
    p99_ms: float
    rss_mb: dict[str, float]
    wal_bytes_per_reading: float
    copy_rows_per_s: float
    balanced: bool
    faults: list[str] = field(default_factory=list)  # told, not written to the file

    @property
    def efficiency(self) -> float:
        """Share of what a raw COPY of the same rows reaches."""
        return self.readings_per_s / self.copy_rows_per_s

    def as_json(self) -> dict[str, object]:
        """The shape of build/bench/latest.json."""
        found = asdict(self)
        del found["faults"]
        return _rounded(found)


def _rounded(found: dict[str, object]) -> dict[str, object]:
    return {
        key: _rounded(value) if isinstance(value, dict) else round(value, 3) if isinstance(value, float) else value
        for key, value in found.items()
    }
