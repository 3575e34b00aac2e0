"""What a processor's metrics say, and what they leave unsaid. The clocks are the test's."""

import pytest
from prometheus_client import REGISTRY, CollectorRegistry

from processors import metrics as declared
from processors.metrics import STALL_SECONDS, Metrics
from processors.standard.observation import QualityTest
from storage.rows import Batch, Outcome, Span, SpanOutcome, StreamTable, TopicPartition, columns

ROSTOCK, KIEL = TopicPartition("hanse.raw.rostock", 0), TopicPartition("hanse.raw.kiel", 0)


def value(name, **labels):
    return REGISTRY.get_sample_value(name, labels)


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def time(self):
        return self.now

    monotonic = time


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(declared, "time", made)
    return made


@pytest.fixture
def seen(clock):
    for gauge in (declared.NEWEST, declared.NEWEST_ROW, declared.LAG_RECORDS, declared.LAG_SECONDS):
        gauge.clear()
    return Metrics(["rostock", "kiel"], registry=CollectorRegistry())


def batch(received, stored):
    rows = [(0, 0, 1.0, 1, 0, at * 1_000_000, 0, n, 0, 0) for n, at in enumerate(received)]
    span = Span(ROSTOCK, "rostock", 0, len(rows), received[-1] * 1000, b"", lambda _: None, messages=len(rows))
    return Batch([span], columns(rows), StreamTable()), Outcome([SpanOutcome(stored=stored)], {})


def test_the_lag_of_a_city_is_not_said_before_one_of_its_partitions_is_positioned(seen):
    seen.lag({ROSTOCK: 5, KIEL: 5})
    assert value("hanse_processor_lag_records", city="rostock") is None
    seen.positioned({ROSTOCK: (2, None)})
    seen.lag({ROSTOCK: 5, KIEL: 5})
    assert value("hanse_processor_lag_records", city="rostock") == 3
    assert value("hanse_processor_lag_records", city="kiel") is None


def test_a_city_that_another_process_took_over_is_no_longer_spoken_of(seen):
    seen.positioned({ROSTOCK: (2, None)})
    seen.lag({ROSTOCK: 5})
    seen.lag({KIEL: 5})
    assert value("hanse_processor_lag_records", city="rostock") is None


def test_a_resting_partition_keeps_its_lag(seen):
    seen.positioned({ROSTOCK: (2, None), KIEL: (2, None)})
    seen.positioned({KIEL: (2, None)})  # rostock rests after a failure, still owned
    seen.lag({ROSTOCK: 9, KIEL: 2})
    assert value("hanse_processor_lag_records", city="rostock") == 7


def test_a_record_after_an_hour_of_silence_has_not_waited_an_hour(seen, clock):
    seen.positioned({ROSTOCK: (2, (clock.now - 3600) * 1000)})
    seen.lag({ROSTOCK: 2})
    clock.now += 2
    seen.lag({ROSTOCK: 3})
    assert value("hanse_processor_lag_seconds", city="rostock") == 2


def test_a_backlog_found_at_the_start_is_as_old_as_the_last_committed_record(seen, clock):
    seen.positioned({ROSTOCK: (2, (clock.now - 3600) * 1000)})
    seen.lag({ROSTOCK: 3})
    assert value("hanse_processor_lag_seconds", city="rostock") == 3600


def test_the_newest_row_is_not_moved_by_a_batch_that_stored_nothing(seen):
    seen.committed(*batch([100, 200], stored=2), {})
    seen.committed(*batch([300, 400], stored=0), {})
    assert value("hanse_processor_newest_row_timestamp_seconds", city="rostock") == 200
    assert value("hanse_processor_newest_receive_timestamp_seconds", city="rostock") == 400


def test_the_newest_record_never_becomes_older(seen):
    seen.committed(*batch([400], stored=1), {})
    seen.committed(*batch([300], stored=1), {})
    assert value("hanse_processor_newest_receive_timestamp_seconds", city="rostock") == 400


@pytest.mark.parametrize(
    ("waiting", "database", "kafka", "paused", "unhealthy"),
    [
        (1, True, True, (), True),
        (0, True, True, (), False),
        (1, False, True, (), False),
        (1, True, False, (), False),
        (1, True, True, ("rostock",), False),
    ],
)
def test_a_process_stalls_only_where_records_wait_and_nothing_outside_is_away(
    seen, clock, waiting, database, kafka, paused, unhealthy
):
    seen.positioned({ROSTOCK: (2, None)})
    seen.paused(paused)
    for _ in range(2):
        seen.lag({ROSTOCK: 2 + waiting})
        seen.database(reachable=database)
        seen.kafka(reachable=kafka)
        clock.now += STALL_SECONDS + 1
        seen.pulse()
    assert bool(seen.unhealthy()) == unhealthy


def test_the_time_of_an_outage_is_no_stall(seen, clock):
    seen.positioned({ROSTOCK: (0, None)})
    seen.database(reachable=True)
    seen.lag({ROSTOCK: 9})
    clock.now += STALL_SECONDS + 1
    seen.kafka(reachable=False)
    clock.now += 2
    seen.lag({ROSTOCK: 9})
    seen.pulse()
    assert seen.unhealthy() == []


def test_a_partition_that_waits_for_newer_code_is_no_stall(seen, clock):
    seen.positioned({ROSTOCK: (0, None)})
    seen.halted({ROSTOCK: "state of a newer format"})
    seen.database(reachable=True)
    seen.lag({ROSTOCK: 9})
    clock.now += STALL_SECONDS + 1
    seen.lag({ROSTOCK: 9})
    seen.pulse()
    assert seen.unhealthy() == []


def test_a_commit_ends_a_stall(seen, clock):
    seen.positioned({ROSTOCK: (0, None)})
    clock.now += STALL_SECONDS + 1
    seen.lag({ROSTOCK: 9})
    seen.database(reachable=True)
    seen.pulse()
    assert seen.unhealthy()
    seen.committed(*batch([100], stored=1), {})
    assert not seen.unhealthy()


def test_a_loop_that_stands_still_is_unhealthy(seen, clock):
    clock.now += 31
    assert seen.unhealthy() == ["the loop stands still for 31 s"]


def skewed(city, *rows):
    """A batch of one span a city given; rows: (phenomenon time, receive time, quality tests) in seconds."""
    made = [
        (0, at * 1_000_000, 1.0, 1, tests, received * 1_000_000, 0, n, 0, 0)
        for n, (at, received, tests) in enumerate(rows)
    ]
    span = Span(
        TopicPartition(f"hanse.raw.{city}", 0), city, 0, len(made), 1000, b"", lambda _: None, messages=len(made)
    )
    return Batch([span], columns(made), StreamTable()), Outcome([SpanOutcome(stored=len(made))], {})


def at_most(registry, city, edge):
    return registry.get_sample_value("hanse_processor_clock_skew_seconds_bucket", {"city": city, "le": edge})


def test_a_clock_ahead_or_behind_is_counted_for_its_city_alone(clock):
    registry = CollectorRegistry()
    seen = Metrics(["rostock", "kiel"], registry=registry)
    seen.committed(*skewed("kiel", (1_090, 1_000, 0), (1_060, 1_000, 0), (999, 1_000, 0), (100, 1_000, 0)), {})
    seen.committed(*skewed("rostock", (1_000, 1_000, 0)), {})
    told = [at_most(registry, "kiel", edge) for edge in ("-900.0", "-300.0", "0.0", "60.0", "300.0", "+Inf")]
    assert told == [1, 1, 2, 3, 4, 4]
    assert [at_most(registry, "rostock", edge) for edge in ("-1.0", "0.0", "+Inf")] == [0, 1, 1]


def test_a_reading_without_a_time_of_its_own_says_nothing_of_a_clock(clock):
    registry = CollectorRegistry()
    seen = Metrics(["kiel"], registry=registry)
    gateways = int(QualityTest.GATEWAY_TIME)
    seen.committed(*skewed("kiel", (1_000, 1_000, gateways), (1_000, 1_000, gateways | 1)), {})
    assert at_most(registry, "kiel", "+Inf") == 0
    seen.committed(*skewed("kiel", (1_000, 1_000, gateways), (1_000, 1_000, 1)), {})
    assert at_most(registry, "kiel", "+Inf") == 1


def test_the_clock_skew_of_every_city_is_there_before_its_first_reading(clock):
    registry = CollectorRegistry()
    Metrics(["rostock", "kiel"], registry=registry)
    assert at_most(registry, "rostock", "+Inf") == 0
    assert registry.get_sample_value("hanse_processor_clock_skew_seconds_sum", {"city": "kiel"}) is None


def test_every_reason_of_every_city_exists_before_the_first_rejection(seen):
    assert value("hanse_processor_rejections_total", city="kiel", reason="internal_error") is not None


def test_what_a_sparkplug_node_numbered_and_never_came_is_counted_once_its_batch_is_committed(seen):
    told, outcome = batch([1_000.0], stored=1)
    told.spans[0].missed = 3
    before = value("hanse_processor_sparkplug_missed_total", city="rostock")
    seen.committed(told, outcome, {})
    assert value("hanse_processor_sparkplug_missed_total", city="rostock") - before == 3
    assert value("hanse_processor_sparkplug_missed_total", city="kiel") == 0
