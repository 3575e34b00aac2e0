"""The arithmetic between counters and the report."""

import dataclasses
import json

import numpy as np
import pytest

from tests.bench.figures import Books, Result, Sample, Span, percentile, visible_at
from tests.bench.report import KINDS, write

EVEN = Books(
    published=10,
    acknowledged=10,
    records=10,
    ledger_messages=10,
    readings_per_message=6,
    readings=60,
    stored=60,
    duplicate=0,
    dead=0,
    ignored=0,
    rows=60,
)


def sample(at: float, acked: int, messages: int) -> Sample:
    return Sample(at, acked, messages, messages * 100, messages * 10_000, {"gateway": messages * 20e-6})


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100), (0.0, 1)])
def test_a_percentile_is_the_smallest_value_that_the_share_does_not_exceed(share, value):
    assert percentile(list(range(1, 101)), share) == value


def test_the_percentile_of_one_value_is_that_value():
    assert percentile([7.0], 0.99) == 7.0


def test_there_is_no_percentile_of_nothing():
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


def test_a_growing_backlog_does_not_count_as_throughput():
    assert Span(sample(0, 0, 0), sample(10, 1_000, 600)).messages_per_s == 60


def test_working_off_a_backlog_does_not_count_as_throughput():
    assert Span(sample(0, 500, 0), sample(10, 1_000, 1_000)).messages_per_s == 50


def test_costs_are_per_message_and_per_reading_visible_in_the_span():
    span = Span(sample(5, 100, 100), sample(15, 300, 300))
    assert span.cpu_us_per(span.messages)["gateway"] == pytest.approx(20)
    assert span.cpu_us_per(span.readings)["gateway"] == pytest.approx(0.2)
    assert span.wal_bytes_per_reading == pytest.approx(100)


def test_an_offset_is_visible_at_the_first_look_whose_next_offset_lies_beyond_it():
    seen = visible_at(np.array([0, 4, 5, 9, 10]), np.array([0, 5, 5, 10]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert seen.tolist() == [2.0, 2.0, 4.0, 4.0, np.inf]


def test_even_books_have_no_fault():
    assert EVEN.faults == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"acknowledged": 9}, "acknowledged"),
        ({"records": 9, "ledger_messages": 9, "readings": 54, "stored": 54}, "Kafka holds every"),
        ({"ledger_messages": 9}, "counts every Kafka record"),
        ({"readings": 59}, "counts every reading"),
        ({"stored": 59, "dead": 1}, "stored are the rows"),
        ({"rows": 59}, "is a row, once"),
        ({"rows": 61, "stored": 61, "readings": 61}, "is a row, once"),
    ],
)
def test_books_that_are_off_by_one_say_what_is_off(change, fault):
    assert any(fault in found for found in dataclasses.replace(EVEN, **change).faults)


def test_a_redelivery_that_became_duplicates_keeps_the_books_even():
    again = dataclasses.replace(EVEN, records=11, ledger_messages=11, readings=66, duplicate=6)
    assert again.faults == []


def test_a_redelivery_that_was_dropped_silently_is_a_fault():
    assert dataclasses.replace(EVEN, records=11, ledger_messages=11, readings=66).faults


def test_the_file_has_the_promised_shape_and_nothing_else(tmp_path):
    each = dict.fromkeys(KINDS, 1.23456)
    result = Result(10.0, 1000.0, each, each, 5.0, 20.0, each, 100.0, 500_000.0, balanced=True, faults=["told"])
    write(tmp_path / "build" / "latest.json", {"S100": result})
    found = json.loads((tmp_path / "build" / "latest.json").read_text())
    assert list(found) == ["S100"]
    assert set(found["S100"]) == {
        "messages_per_s",
        "readings_per_s",
        "cpu_us_per_message",
        "cpu_us_per_reading",
        "p50_ms",
        "p99_ms",
        "rss_mb",
        "wal_bytes_per_reading",
        "copy_rows_per_s",
        "balanced",
    }
    assert found["S100"]["cpu_us_per_message"] == dict.fromkeys(
        ["gateway", "processor", "mosquitto", "kafka", "postgres", "load"], 1.235
    )
    assert result.efficiency == 0.002
