"""The storm that the loggers tell of: past hours, its own for every run, over the official warning levels."""

import itertools
import json
from collections.abc import Iterator
from random import Random

import pytest

from simulator import storm
from simulator.expectation import Good, Publication
from tests.unit.simulator.streams import START, taken

HOUR = 3_600_000_000
ENDED = START // HOUR * HOUR - HOUR
COAST = storm.Place("rostock", (("pegel-warnemuende", 5.03), ("pegel-see", 1.3)), ("pegel-warnemuende",))


def _told(place: storm.Place = COAST, seed: int = 1, now: int = START + 123_456) -> list[Publication]:
    return list(storm.messages(place, ENDED, now, Random(seed)))


def _series(observed: str, place: storm.Place = COAST, seed: int = 1) -> list[Good]:
    found: Iterator[Good] = (good for each in _told(place, seed) for good in each.expected.good)
    return sorted((good for good in found if good.property == observed), key=lambda good: good.time or 0)


@pytest.mark.parametrize("seed", range(20))
def test_every_storm_passes_the_levels_of_gusts_rain_and_surge(seed: int) -> None:
    rain = [good.value or 0.0 for good in _series("precipitation", seed=seed)]
    hours = [sum(rain[at : at + 6]) for at in range(len(rain) - 5)]

    assert 18 < max(good.value or 0 for good in _series("wind_speed_gust", seed=seed)) < 39
    assert 15 <= max(hours) < 40
    assert 1.0 < max(good.value or 0 for good in _series("water_level", seed=seed)) - 5.03 < 2.0


def test_the_lake_has_no_surge() -> None:
    assert {good.device for good in _series("water_level")} == {"pegel-warnemuende"}


def test_readings_are_ten_minutes_apart_and_the_last_is_before_the_storms_end() -> None:
    times = [good.time or 0 for good in _series("wind_speed_gust")]

    assert {after - before for before, after in itertools.pairwise(times)} == {600_000_000}
    assert len(times) == 54
    assert ENDED - times[-1] == 600_000_000 - 123_000


def test_a_message_is_an_hour_of_one_logger_and_every_reading_has_its_own_time() -> None:
    for each in _told():
        readings = json.loads(each.payload)["readings"]
        times = [good.time or 0 for good in each.expected.good]

        assert len(readings) == len(each.expected.good)
        assert "time" not in json.loads(each.payload)
        assert all("time" in reading for reading in readings)
        assert (max(times) - min(times)) == 50 * 60_000_000


def test_two_runs_of_one_storm_give_no_reading_the_same_identity() -> None:
    begun = (START, START + 77_000)
    first, second = ({good[:4] for each in _told(now=now) for good in each.expected.good} for now in begun)

    assert not first & second


def test_the_storm_is_told_within_the_first_seconds_and_never_by_a_probe() -> None:
    places = [place for place, each in enumerate(taken(2_000)) if each.expected.kind == "storm"]
    devices = {good.device for each in taken(2_000) if each.expected.kind == "storm" for good in each.expected.good}

    assert len(places) == 18
    assert max(places) < 8 * 40
    assert devices == {"weather-03", "pegel-hafen"}


def test_a_storm_is_over_at_a_full_hour_at_least_one_hour_ago() -> None:
    assert storm.last_hours(START) == START - HOUR
    assert storm.last_hours(START - 1) == START - 2 * HOUR
