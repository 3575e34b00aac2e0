"""Names, labels and help texts of all metrics, and that docs/metrics.md tells of these and no others."""

import re

import pytest
from prometheus.metrics_page import PAGE, metrics, page

ALL = [metric for found in metrics().values() for metric in found]
LABELS = {"city", "reason", "outcome", "why", "cause", "phase", "path", "step", "what", "component", "version"}
UNITS = ("_seconds", "_bytes", "_ratio", "_info", "_total")
COUNTS_AND_STATES = re.compile(
    r"_(connected|silent|up|paused|stalled|unaccounted|partitions|partitions_halted|records|dirty_hours|active|in_flight|limit|open|overdue|datastreams)$"
)


def test_the_page_tells_of_the_metrics_as_they_are_declared():
    assert PAGE.read_text("utf-8") == page(), "old; run: python deploy/prometheus/metrics_page.py"


def test_every_name_is_declared_once():
    names = [metric.name for metric in ALL]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_a_metric_is_named_by_the_guide_and_explained(metric):
    assert re.fullmatch(r"hanse_[a-z0-9_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.endswith(UNITS) or COUNTS_AND_STATES.search(metric.name), "a unit, or a count or state by name"
    assert set(metric.labels) <= LABELS, "labels are bounded: never a device"
    assert metric.text[0].isupper() or metric.text[0].isdigit()
    assert metric.text.endswith(".")
    assert "|" not in metric.text
