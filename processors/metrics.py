"""Every metric of a processor, and the observer that fills them from the pipeline; help texts say what a rise means.

Counters exist from the start, at 0, so that the first event is a rise. What a process does not know it does not say:
the lag of a city appears once one of its partitions is positioned here, the ledger's verdict once it was read.
"""

import time
from collections import Counter as Tally
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from ingest.wire import city_of
from processors.pipeline import LogAwayError
from processors.standard.observation import QualityTest, Reason
from storage.errors import Fenced
from storage.rows import REPLAY_OUTCOMES, Batch, Outcome, TopicPartition

log = structlog.get_logger()

MICROSECONDS = 1_000_000
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86400.0)
SKEW_BUCKETS = (
    *(-86400.0, -21600.0, -7200.0, -3600.0, -1800.0, -900.0, -300.0, -60.0, -10.0, -1.0),
    *(0.0, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 21600.0),
)
GATEWAY_TIME = np.int16(QualityTest.GATEWAY_TIME)
STALL_SECONDS = 120.0  # beyond transaction_timeout, lock_timeout and the longest backoff together
HEARTBEAT_LIMIT = 30.0

READINGS = Counter(
    "hanse_processor_readings_total",
    "Readings accounted, by what became of them: stored, duplicate (redelivery), dead_lettered (bad data), ignored. "
    "stored standing still while messages arrive is an outage.",
    ["city", "outcome"],
)
MESSAGES = Counter(
    "hanse_processor_messages_total",
    "Kafka records accounted, by what became of them: decoded, dead_lettered, ignored.",
    ["city", "outcome"],
)
REJECTIONS = Counter(
    "hanse_processor_rejections_total",
    "Dead letters of messages and readings, by reason. A rise names what a city's networks do wrong; internal_error "
    "is a bug of ours.",
    ["city", "reason"],
)
IGNORED = Counter(
    "hanse_processor_ignored_total",
    "Messages and readings left out knowingly: retained copies, simulated uplinks, routes to ignore.",
    ["city", "why"],
)
MISSED = Counter(
    "hanse_processor_sparkplug_missed_total",
    "Sparkplug messages that never came, by the gaps in their edge nodes' sequence numbers. A rise: messages are lost "
    "before Kafka, or a node publishes at QoS 0; its next birth heals what was missed.",
    ["city"],
)
LAG_RECORDS = Gauge(
    "hanse_processor_lag_records",
    "Kafka records not yet committed, of partitions owned here; sum over processes. Growing: the database or the "
    "processors are the bottleneck, or away.",
    ["city"],
)
LAG_SECONDS = Gauge(
    "hanse_processor_lag_seconds",
    "How long the oldest record not yet committed has waited at most, of partitions owned here; 0: none waits.",
    ["city"],
)
UNACCOUNTED = Gauge(
    "hanse_ledger_unaccounted",
    "Kafka records or readings that the ledger can't account for, of all processes; max over them. Anything but 0 is "
    "a loss, or a bug in the count.",
    ["city"],
)
LEDGER_READ = Gauge(
    "hanse_ledger_read_timestamp_seconds",
    "When hanse_ledger_unaccounted was read last, Unix time; 0 before. Old: the verdict is not of now.",
)
ROLLBACKS = Counter(
    "hanse_processor_rollbacks_total",
    "Batches given up and read again. fenced: another process owns a partition; database, kafka: a server was away or "
    "refused.",
    ["cause"],
)
DATABASE_UP = Gauge("hanse_processor_database_up", "1 if the last call reached the database, else 0.")
KAFKA_UP = Gauge("hanse_processor_kafka_up", "1 if Kafka answered lately, else 0.")
PARTITIONS = Gauge(
    "hanse_processor_partitions",
    "Partitions owned and positioned. 0: other processes own all of them, or the group is rebalancing.",
)
PAUSED = Gauge(
    "hanse_processor_city_paused",
    "1 while the city waits for its dead letters to be purged, replayed or allowed more bytes, else 0.",
    ["city"],
)
REPLAYED = Counter(
    "hanse_processor_replayed_total",
    "Dead letters' readings sent once more, by what became of them: stored, duplicate, corrected, dead (not cured "
    "yet), ignored (replayed twice).",
    ["city", "outcome"],
)
HALTED = Gauge(
    "hanse_processor_partitions_halted",
    "Partitions that stand still because their dialect state in the database is newer than this code. Above 0: upgrade "
    "this process.",
)
NEWEST = Gauge(
    "hanse_processor_newest_receive_timestamp_seconds",
    "Receive time of the city's newest committed record, whatever became of it, Unix time; max over processes.",
    ["city"],
)
NEWEST_ROW = Gauge(
    "hanse_processor_newest_row_timestamp_seconds",
    "Receive time of the city's newest stored row, Unix time, since this process started; max over processes. Older "
    "than the newest record: what comes is rejected or repeated.",
    ["city"],
)
STALLED = Gauge(
    "hanse_processor_stalled",
    "1 while records wait, Kafka and the database answer, and nothing was committed for 120 s, else 0. A supervisor "
    "restarts the process then (/healthz).",
)


class ColumnHistogram(Collector):
    """A histogram counted by column, thousands at once; with `cities` one for each of them, from the start."""

    def __init__(
        self, name: str, text: str, edges: Sequence[float], registry: CollectorRegistry, cities: Sequence[str] = ()
    ) -> None:
        self._name, self._text = name, text
        self._cities = list(cities)
        self._edges = np.array(edges)
        self._bounds = [*(str(edge) for edge in edges), "+Inf"]
        self._counts = np.zeros((max(1, len(self._cities)), len(self._bounds)), np.int64)
        self._sum = 0.0
        registry.register(self)

    def observe(self, values: npt.NDArray[np.float64], cities: npt.NDArray[np.intp] | None = None) -> None:
        """Count many at once; `cities`: whose each is, as its place in the list."""
        places = np.searchsorted(self._edges, values, side="left")
        if cities is not None:
            places += cities * len(self._bounds)
        self._counts += np.bincount(places, minlength=self._counts.size).reshape(self._counts.shape)
        self._sum += float(values.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Give Prometheus the cumulative buckets; a histogram of values below 0 has no sum, as its format wants it."""
        family = HistogramMetricFamily(self._name, self._text, labels=["city"] if self._cities else [])
        for labels, counts in zip([[city] for city in self._cities] or [[]], self._counts, strict=True):
            buckets = list(zip(self._bounds, np.cumsum(counts).astype(float).tolist(), strict=True))
            family.add_metric(labels, buckets, self._sum)
        yield family


def latency(registry: CollectorRegistry) -> ColumnHistogram:
    """From receipt to visible."""
    return ColumnHistogram(
        "hanse_end_to_end_latency_seconds",
        "From receipt at the gateway to visible in SQL, one count a reading stored or repeated. A rise with flat "
        "lag: the database is slow.",
        LATENCY_BUCKETS,
        registry,
    )


def clock_skew(registry: CollectorRegistry, cities: Sequence[str]) -> ColumnHistogram:
    """How far the sensors' clocks are off, as far as receipt shows it."""
    return ColumnHistogram(
        "hanse_processor_clock_skew_seconds",
        "A reading's own time minus its receipt at the gateway, of readings with a time of their own that the city's "
        "window takes. Above 0 a clock is ahead; below 0 it is behind or the reading was long on its way. No sum, for "
        "values below 0.",
        SKEW_BUCKETS,
        registry,
        cities,
    )


class Metrics:
    """Implements `processors.pipeline.Observer`."""

    def __init__(self, cities: Collection[str], *, registry: CollectorRegistry = REGISTRY) -> None:
        self._cities = list(cities)
        self._latency = latency(registry)
        self._skew = clock_skew(registry, self._cities)
        self._place_of = {city: place for place, city in enumerate(self._cities)}
        self.kafka_reachable = True
        self.database_reachable = False
        self.partitions_positioned = False
        self.partitions_halted: dict[TopicPartition, str] = {}
        self.committed_offsets: dict[TopicPartition, tuple[int, float]] = {}
        self._caught_up: dict[TopicPartition, float] = {}  # when nothing waited there, last
        self._newest: dict[str, float] = {}
        self._paused: Collection[str] = ()
        self._waits = False
        self._progress = self._heartbeat = time.monotonic()
        for city in self._cities:
            PAUSED.labels(city)
            MISSED.labels(city)
            for outcome in ("stored", "duplicate", "dead_lettered", "ignored"):
                READINGS.labels(city, outcome)
            for outcome in REPLAY_OUTCOMES:
                REPLAYED.labels(city, outcome)
            for outcome in ("decoded", "dead_lettered", "ignored"):
                MESSAGES.labels(city, outcome)
            for reason in Reason:
                REJECTIONS.labels(city, reason)
        for cause in ("fenced", "kafka", "database"):
            ROLLBACKS.labels(cause)

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
            MISSED.labels(city).inc(span.missed)
            for became, count in what.replayed.items():
                REPLAYED.labels(city, became).inc(count)
            for reason, count in what.dead.items():
                rejections[city, reason] += count
            self.committed_offsets[span.partition] = (span.next_offset, span.last_timestamp / 1000)
            self._received(city, span.last_timestamp / 1000)
        for (city, reason), count in rejections.items():
            REJECTIONS.labels(city, reason).inc(count)
        for (city, why), count in ignored.items():
            IGNORED.labels(city, why).inc(count)
        if len(batch.columns):
            self._latency.observe(now - batch.columns.received / MICROSECONDS)
            self._newest_rows(batch, outcome)
            self._skews(batch)
        self._progress = time.monotonic()
        self.database(reachable=True)

    def _received(self, city: str, at: float) -> None:
        if at > self._newest.get(city, 0.0):
            self._newest[city] = at
            NEWEST.labels(city).set(at)

    def _newest_rows(self, batch: Batch, outcome: Outcome) -> None:
        """Columns are in order of span and offset: a span's last row was received last."""
        last = np.searchsorted(batch.columns.span, np.arange(len(batch.spans)), side="right") - 1
        for number, (span, what) in enumerate(zip(batch.spans, outcome.spans, strict=True)):
            if what.stored:
                NEWEST_ROW.labels(span.city).set(batch.columns.received[last[number]] / MICROSECONDS)

    def _skews(self, batch: Batch) -> None:
        """Of readings that brought a time: those that got the gateway's have no clock to speak of."""
        rows = batch.columns
        own = rows.quality_tests & GATEWAY_TIME == 0
        cities = np.array([self._place_of[span.city] for span in batch.spans])[rows.span[own]]
        self._skew.observe((rows.time[own] - rows.received[own]) / MICROSECONDS, cities)

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
        if not reachable:  # the time of an outage is no stall
            self._progress = time.monotonic()

    def kafka(self, *, reachable: bool) -> None:
        """Note the state of Kafka."""
        self.kafka_reachable = reachable
        KAFKA_UP.set(reachable)
        if not reachable:  # the time of an outage is no stall
            self._progress = time.monotonic()

    def positioned(self, offsets: Mapping[TopicPartition, tuple[int, int | None]]) -> None:
        """Note which partitions are read, and from where."""
        self.partitions_positioned = True
        PARTITIONS.set(len(offsets))
        now = time.time()
        self._progress = time.monotonic()
        for partition, (offset, received) in offsets.items():
            self.committed_offsets[partition] = (offset, now if received is None else received / 1000)
            if received is not None:
                self._received(city_of(partition.topic), received / 1000)

    def unaccounted(self, by_city: Mapping[str, int]) -> None:
        """Note the ledger's verdict."""
        for city, count in by_city.items():
            UNACCOUNTED.labels(city).set(count)
        LEDGER_READ.set_to_current_time()

    def paused(self, cities: Collection[str]) -> None:
        """Note which cities rest."""
        self._paused = frozenset(cities)
        for city in self._cities:
            PAUSED.labels(city).set(city in cities)

    def halted(self, partitions: Mapping[TopicPartition, str]) -> None:
        """Note which partitions wait for newer code, and say so."""
        HALTED.set(len(partitions))
        self.partitions_halted = dict(partitions)
        for partition, why in partitions.items():
            log.error("partition stands still", topic=partition.topic, partition=partition.partition, why=why)

    def lag(self, ends: Mapping[TopicPartition, int]) -> None:
        """Set the lag of the owned partitions from their end offsets; Kafka has answered.

        The oldest waiting record came after the last committed one, and after nothing waited there last.
        """
        self.kafka(reachable=True)
        records: Tally[str] = Tally()
        seconds: dict[str, float] = {}
        waits = False  # for what this process could do something about
        now = time.time()
        for partition, end in ends.items():
            committed = self.committed_offsets.get(partition)
            if committed is None:
                continue
            waiting = max(0, end - committed[0])
            city = city_of(partition.topic)
            records[city] += waiting
            seconds.setdefault(city, 0.0)
            if waiting:
                waits = waits or not (city in self._paused or partition in self.partitions_halted)
                since = max(committed[1], self._caught_up.get(partition, 0.0))
                seconds[city] = max(seconds[city], now - since)
            else:
                self._caught_up[partition] = now
        for city in self._cities:
            if city in seconds:
                LAG_RECORDS.labels(city).set(records[city])
                LAG_SECONDS.labels(city).set(seconds[city])
            else:
                LAG_RECORDS.remove(city)
                LAG_SECONDS.remove(city)
        self._waits = waits
        if not self._waits:
            self._progress = time.monotonic()
        STALLED.set(bool(self.stalled()))

    def stalled(self) -> list[str]:
        """What keeps the process from work although nothing outside does."""
        stood = time.monotonic() - self._progress
        if stood <= STALL_SECONDS or not (self._waits and self.database_reachable and self.kafka_reachable):
            return []
        return [f"records wait, Kafka and the database answer, and nothing was committed for {stood:.0f} s"]

    def pulse(self) -> None:
        """The loop turns."""
        self._heartbeat = time.monotonic()

    def unhealthy(self) -> list[str]:
        """Why a supervisor should start the process anew; empty: it works, or waits for something outside."""
        stood = time.monotonic() - self._heartbeat
        return self.stalled() + ([f"the loop stands still for {stood:.0f} s"] if stood > HEARTBEAT_LIMIT else [])

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
