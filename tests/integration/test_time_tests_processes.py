"""Flags of the tests over time with real processes: killed in the middle, started again, two that share the work."""

import math
import random
import signal
import time
from typing import NamedTuple

import pytest

from processors.standard.vocabulary import VOCABULARY
from processors.stations import STANDARD
from tests.integration.processes import City, Process, eventually, reading
from tests.one_by_one import OneByOne, Point

MINUTE_MS = 60_000
NOW_MS = time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS
FIRST_MS = NOW_MS - 1_440 * MINUTE_MS
EACH = 240  # messages of a device


class Sent(NamedTuple):
    device: str
    at_ms: int
    value: float


def weather(device: str, seed: int) -> list[Sent]:
    """A calm day with outliers, changes of level, a sensor that sticks, and messages that come late or twice."""
    rng = random.Random(seed)
    sent, level = [], 7.0
    for n in range(EACH):
        at = FIRST_MS + 5 * n * MINUTE_MS
        draw = rng.random()
        stuck = 100 < n < 150
        level += 0.0 if stuck else rng.choice((-0.1, 0.1)) + (16.0 if draw > 0.98 else 0.0) - (level - 7.0) / 40
        outlier = 0.0 if stuck or draw > 0.06 else rng.choice((-25.0, 25.0))
        sent.append(Sent(device, at, round(level + outlier, 2)))
        if 0.1 < draw < 0.15:
            sent.append(sent[-1])
        if 0.2 < draw < 0.25:
            sent.append(Sent(device, at - MINUTE_MS, round(level, 2)))
    return sent


def one_by_one(sent: list[Sent]) -> dict[tuple[str, int], tuple[int, int]]:
    """Flag and tests by device and time."""
    limits = STANDARD["air_temperature"]
    assert limits is not None
    found: dict[tuple[str, int], tuple[int, int]] = {}
    series: dict[str, OneByOne] = {}
    for device, at_ms, value in sent:
        if value > VOCABULARY["air_temperature"].maximum:
            found.setdefault((device, at_ms), (4, 1))
            continue
        bits = series.setdefault(device, OneByOne(limits)).bits(Point(at_ms * 1_000, value)) or 0
        found.setdefault((device, at_ms), (3 if bits else 1, bits))
    return found


@pytest.fixture
def city(kafka, database, city_key, tmp_path):
    made = City(kafka, database, city_key, tmp_path)
    made.environment["HANSE_PROCESSOR_BATCH_MESSAGES"] = "5"
    yield made
    made.stop()


def test_a_killed_processor_and_a_second_one_leave_the_flags_of_one_undisturbed_run(city):
    sent = [weather("left", 1), weather("right", 2)]
    expected = one_by_one([one for device in sent for one in device])
    assert {bits for _, bits in expected.values()} >= {0, 32, 64}, "something fires"
    published = 0

    def publish(quarter: int) -> int:
        nonlocal published
        for partition, device in enumerate(sent):
            length = math.ceil(len(device) / 4)
            part = device[quarter * length : (quarter + 1) * length]
            published += len(part)
            messages = [(f"hanse/{city.key}/weather/{d}", reading(d, at, value)) for d, at, value in part]
            city.publish(*messages, partition=partition, at_ms=NOW_MS)
        return published

    def amid(before: int) -> None:
        eventually(lambda: city.ledger()["messages"] > before, what="the first of them accounted")

    first = city.start()
    city.settled(publish(0))
    before = published
    publish(1)
    amid(before)
    first.end(signal.SIGKILL)
    city.processes.clear()
    city.start()
    city.settled(published)

    second = Process(city.file, {**city.environment, "HANSE_PROCESSOR_INSTANCE": f"{city.key}-2"})
    try:
        before = published
        publish(2)
        amid(before)
        city.settled(published)
    finally:
        second.end()
    city.settled(publish(3))
    found = city.sql(
        "select device, (extract(epoch from phenomenon_time) * 1000)::int8, quality, quality_tests"
        " from hanse.observations"
    )
    assert {row[:2]: row[2:] for row in found} == expected
