"""Every metric of a processor, with what a rise means, and the observer that fills them from the pipeline."""

import time
from collections import Counter as Tally
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from ingest.wire import city_of
from processors.pipeline import LogAwayError
from storage.errors import Fenced
from storage.rows import Batch, Outcome, TopicPartition

log = structlog.get_logger()

MICROSECONDS = 1_000_000
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86400.0)

# Readings by what became of them: stored, duplicate, dead_lettered, ignored. `duplicate` rises with redelivery after
# a crash; `dead_lettered` with bad data; `stored` standing still while messages arrive is an outage.
READINGS = Counter("hanse_processor_readings_total", "Readings accounted, by what became of them", ["city", "outcome"])
# Messages by what became of them: decoded, dead_lettered, ignored.
MESSAGES = Counter(
    "hanse_processor_messages_total", "Kafka records accounted, by what became of them", ["city", "outcome"]
)
# A rise names what a city's networks do wrong; `internal_error` is a bug of ours.
REJECTIONS = Counter("hanse_processor_rejections_total", "Dead letters of messages and readings", ["city", "reason"])
# Dead letters' readings sent once more, by what became of them; `dead`: not yet cured, `ignored`: replayed twice.
REPLAYED = Counter("hanse_processor_replayed_total", "Replayed readings, by what became of them", ["city", "outcome"])
# Known to be no observation: retained copies, simulated uplinks, routes to `ignore`.
IGNORED = Counter("hanse_processor_ignored_total", "Messages and readings left out knowingly", ["city", "why"])
# Records in Kafka that are not in the database yet. Growing: the database or this process is the bottleneck, or away.
LAG_RECORDS = Gauge("hanse_processor_lag_records", "Kafka records not yet committed, of owned partitions", ["city"])
# Age of the oldest state: how long ago the last committed record was received, while there is lag.
LAG_SECONDS = Gauge("hanse_processor_lag_seconds", "Age of the last committed record while records wait", ["city"])
# Anything but 0 is a loss, or a bug in the count: alert.
UNACCOUNTED = Gauge("hanse_ledger_unaccounted", "Kafka records or readings the ledger can't account for", ["city"])
# Batches rolled back. `fenced`: another process owns a partition; `database`, `kafka`: a server was away or refused.
ROLLBACKS = Counter("hanse_processor_rollbacks_total", "Batches given up and read again", ["cause"])
# 0 while the last call to the database failed.
DATABASE_UP = Gauge("hanse_processor_database_up", "Whether the last call reached the database")
# 0 while Kafka does not answer.
KAFKA_UP = Gauge("hanse_processor_kafka_up", "Whether Kafka answered lately")
# 0 with topics to read means that other processes own everything, or that the group is rebalancing.
PARTITIONS = Gauge("hanse_processor_partitions", "Partitions owned and positioned")
# 1 while a city waits for its dead letters to be purged or replayed.
PAUSED = Gauge("hanse_processor_city_paused", "Whether a city is paused by its dead-letter budget", ["city"])
# Above 0: dialect state in the database is newer than this code; those partitions wait for the upgrade.
HALTED = Gauge("hanse_processor_partitions_halted", "Partitions whose dialect state only newer code can read")
# Seconds since the newest committed record of a city was received; a silent city grows.
NEWEST = Gauge(
    "hanse_processor_newest_receive_timestamp_seconds", "Receive time of the newest committed record", ["city"]
)
BUILD = Gauge("hanse_build_info", "Always 1; the version is in the labels", ["component", "version"])


class LatencyHistogram(Collector):
    """hanse_end_to_end_latency_seconds, counted by column: from receipt to visible in SQL, one count a reading."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._edges = np.array(LATENCY_BUCKETS)
        self._counts = np.zeros(len(LATENCY_BUCKETS) + 1, np.int64)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> None:
        """Count many at once."""
        places = np.searchsorted(self._edges, seconds, side="left")
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum += float(seconds.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Give Prometheus the cumulative buckets."""
        names = [*(str(edge) for edge in LATENCY_BUCKETS), "+Inf"]
        buckets = list(zip(names, np.cumsum(self._counts).astype(float).tolist(), strict=True))
        yield HistogramMetricFamily(
            "hanse_end_to_end_latency_seconds",
            "From receipt at the gateway to visible in SQL; a rise with flat lag_records is a slow database",
            buckets=buckets,
            sum_value=self._sum,
        )


class Metrics:
    """Implements `processors.pipeline.Observer`."""

    def __init__(self, cities: Collection[str], *, version: str, registry: CollectorRegistry = REGISTRY) -> None:
        self._cities = list(cities)
        self._latency = LatencyHistogram(registry)
        self.kafka_reachable = True
        self.database_reachable = False
        self.partitions_positioned = False
        self.partitions_halted: dict[TopicPartition, str] = {}
        self.committed_offsets: dict[TopicPartition, tuple[int, float]] = {}
        BUILD.labels("processor", version).set(1)
        for city in self._cities:
            UNACCOUNTED.labels(city).set(0)
            LAG_RECORDS.labels(city).set(0)
            LAG_SECONDS.labels(city).set(0)
            for outcome in ("stored", "duplicate", "dead_lettered", "ignored"):
                READINGS.labels(city, outcome)
            for outcome in ("decoded", "dead_lettered", "ignored"):
                MESSAGES.labels(city, outcome)

    def committed(self, batch: Batch, outcome: Outcome, ignored: Mapping[tuple[str, str], int]) -> None:
        """Count a committed batch."""
        now = time.time()
        rejections: Tally[tuple[str, str]] = Tally()
        for letter in batch.dead:
            rejections[batch.spans[letter.span].city, letter.reason] += 1
        for span, what in zip(batch.spans, outcome.spans, strict=True):
            city = span.city
            READINGS.labels(city, "stored").inc(what.stored)
            READINGS.labels(city, "duplicate").inc(what.duplicate)
            READINGS.labels(city, "dead_lettered").inc(span.dead_readings + sum(what.dead.values()))
            READINGS.labels(city, "ignored").inc(span.ignored_readings)
            MESSAGES.labels(city, "decoded").inc(span.decoded)
            MESSAGES.labels(city, "dead_lettered").inc(span.dead_messages)
            MESSAGES.labels(city, "ignored").inc(span.ignored_messages)
            for became, count in what.replayed.items():
                REPLAYED.labels(city, became).inc(count)
            for reason, count in what.dead.items():
                rejections[city, reason] += count
            self.committed_offsets[span.partition] = (span.next_offset, span.last_timestamp / 1000)
            NEWEST.labels(city).set(span.last_timestamp / 1000)
        for (city, reason), count in rejections.items():
            REJECTIONS.labels(city, reason).inc(count)
        for (city, why), count in ignored.items():
            IGNORED.labels(city, why).inc(count)
        if len(batch.columns):
            self._latency.observe(now - batch.columns.received / MICROSECONDS)
        self.database(reachable=True)

    def failed(self, error: Exception) -> None:
        """Count a rollback."""
        cause = "fenced" if isinstance(error, Fenced) else "kafka" if isinstance(error, LogAwayError) else "database"
        ROLLBACKS.labels(cause).inc()
        if isinstance(error, LogAwayError):
            self.kafka(reachable=False)

    def database(self, *, reachable: bool) -> None:
        """Note the state of the database."""
        self.database_reachable = reachable
        DATABASE_UP.set(reachable)

    def kafka(self, *, reachable: bool) -> None:
        """Note the state of Kafka."""
        self.kafka_reachable = reachable
        KAFKA_UP.set(reachable)

    def positioned(self, offsets: Mapping[TopicPartition, tuple[int, int | None]]) -> None:
        """Note which partitions are read, and from where."""
        self.partitions_positioned = True
        PARTITIONS.set(len(offsets))
        now = time.time()
        self.committed_offsets = {
            partition: (offset, now if received is None else received / 1000)
            for partition, (offset, received) in offsets.items()
        }

    def unaccounted(self, by_city: Mapping[str, int]) -> None:
        """Note the ledger's verdict."""
        for city, count in by_city.items():
            UNACCOUNTED.labels(city).set(count)

    def paused(self, cities: Collection[str]) -> None:
        """Note which cities rest."""
        for city in self._cities:
            PAUSED.labels(city).set(city in cities)

    def halted(self, partitions: Mapping[TopicPartition, str]) -> None:
        """Note which partitions wait for newer code, and say so."""
        HALTED.set(len(partitions))
        self.partitions_halted = dict(partitions)
        for partition, why in partitions.items():
            log.error("partition stands still", topic=partition.topic, partition=partition.partition, why=why)

    def lag(self, ends: Mapping[TopicPartition, int]) -> None:
        """Set the lag of the owned partitions from their end offsets; Kafka has answered."""
        self.kafka(reachable=True)
        records: Tally[str] = Tally()
        seconds: dict[str, float] = {}
        now = time.time()
        for partition, end in ends.items():
            committed = self.committed_offsets.get(partition)
            if committed is None:
                continue
            waiting = max(0, end - committed[0])
            city = city_of(partition.topic)
            records[city] += waiting
            if waiting:
                seconds[city] = max(seconds.get(city, 0.0), now - committed[1])
        for city in self._cities:
            LAG_RECORDS.labels(city).set(records[city])
            LAG_SECONDS.labels(city).set(seconds.get(city, 0.0))

    def unready(self) -> list[str]:
        """Why this process can't do its work now."""
        why = []
        if not self.database_reachable:
            why.append("the database is away")
        if not self.kafka_reachable:
            why.append("Kafka is away")
        if not self.partitions_positioned:
            why.append("no partitions assigned yet")
        why += [f"{p.topic}/{p.partition}: {fault}" for p, fault in self.partitions_halted.items()]
        return why
