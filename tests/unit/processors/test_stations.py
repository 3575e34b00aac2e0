"""Station range and facts of the city file: believed in the file's order, and only where it says something."""

import json
import math
from typing import Any

import numpy as np
import pytest

from ingest.city import City
from processors.batching import Intake
from processors.cursor import Bounds, Cursor
from processors.standard import quality
from processors.standard.observation import QualityTest
from processors.stations import Stations, faults
from storage.rows import Batch, Facts, Stream, StreamTable
from tests.simulated.log import SimulatedRecord
from tests.simulated.world import DIALECTS, PARTITIONS, RECEIVED_MS, payload
from tests.simulated.world import city as plain

STATION = int(QualityTest.STATION_RANGE)


def city(*devices: dict[str, Any]) -> City:
    told = plain().model_dump(mode="json", exclude_unset=True)
    return City.model_validate({**told, "device": devices})


def decoded(one: City, *values: float, device: str = "w1") -> Batch:
    from ingest import wire

    headers = tuple(wire.headers("gateway", qos=1, retain=False, dup=False))
    topic = f"hanse/wismar/weather/{device}".encode()
    records = [
        SimulatedRecord(n, RECEIVED_MS, topic, payload(device, n, value), headers) for n, value in enumerate(values)
    ]
    intake = Intake([one], dialects=DIALECTS)
    cursor = Cursor(PARTITIONS[0], None, Bounds(0, 99))
    intake.add(cursor, cursor.admit(records)[0])
    return intake.take()


def test_a_value_outside_its_stations_range_is_suspect_and_inside_it_untouched() -> None:
    made = decoded(city({"match": "w*", "range": {"air_temperature": [-10, 30]}}), -10, 30, 30.5, -10.5)
    assert made.columns.quality.tolist() == [1, 1, 3, 3]
    assert made.columns.quality_tests.tolist() == [0, 0, STATION, STATION]


def test_the_gross_range_says_fail_and_the_station_range_does_not_soften_it() -> None:
    made = decoded(city({"match": "w1", "range": {"air_temperature": [-10, 30]}}), 99)
    assert made.columns.quality.tolist() == [4]
    assert made.columns.quality_tests.tolist() == [STATION | QualityTest.GROSS_RANGE]


def test_other_devices_and_other_properties_have_no_station_range() -> None:
    one = city(
        {"match": "w1", "range": {"air_pressure": [900, 1000]}}, {"match": "w2", "range": {"air_temperature": [0, 1]}}
    )
    assert decoded(one, 20).columns.quality_tests.tolist() == [0]


def test_a_range_may_be_open_at_one_end() -> None:
    made = decoded(city({"match": "w1", "range": {"air_temperature": [-math.inf, 30]}}), -40, 31)
    assert made.columns.quality.tolist() == [1, 3]


def test_a_missing_value_stays_missing_and_an_untested_one_that_passes_is_good() -> None:
    values = np.array([np.nan, 5.0, 50.0])
    flags, tests = np.array([9, 2, 2], np.int16), np.zeros(3, np.int16)
    quality.assess_station(values, np.full(3, 0.0), np.full(3, 10.0), flags, tests)
    assert flags.tolist() == [9, 1, 3]
    assert tests.tolist() == [0, 0, STATION]


def test_of_entries_that_match_the_first_that_says_something_is_believed() -> None:
    stations = Stations(
        [
            city(
                {"match": "pegel-1", "name": "Mühlendamm", "parameters": {"gauge_zero": -5.0}},
                {
                    "match": "pegel-*",
                    "latitude": 54.1,
                    "longitude": 12.1,
                    "parameters": {"gauge_zero": -4.0, "x": True},
                },
                {"match": "*", "latitude": 0, "longitude": 0, "name": "some"},
            )
        ]
    )
    facts = stations.facts("wismar", "pegel-1")
    assert (facts.latitude, facts.longitude) == (54.1, 12.1)
    assert json.loads(facts.parameters) == {"name": "Mühlendamm", "gauge_zero": -5.0, "x": True}
    assert stations.facts("wismar", "Pegel-1") == Facts(0, 0, '{"name": "some"}')
    assert stations.facts("kiel", "pegel-1") == Facts()


def test_limits_are_learned_for_streams_as_they_come_and_anew_for_another_table() -> None:
    stations = Stations([city({"match": "w*", "range": {"air_temperature": [0, 1]}})])
    for _ in range(2):
        table = StreamTable()
        for count in (1, 3, 9_000):
            numbers = [
                table.number(Stream("wismar", f"{'wx'[n % 2]}{n}", "", "air_temperature", "t", "C", "hanse"))
                for n in range(count)
            ]
            limits = stations.limits(table, np.array(numbers, np.int32))
            assert limits is not None
            assert np.isnan(limits[0]).tolist() == [bool(n % 2) for n in range(count)]
            assert np.nanmax(limits[1]) == 1


def test_without_any_range_nothing_is_looked_up() -> None:
    assert Stations([city({"match": "*", "name": "some"})]).limits(StreamTable(), np.zeros(0, np.int32)) is None


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({"range": {"air_temperature": [3, 3]}}, "the lower limit comes first"),
        ({"range": {"air_temperature": [math.nan, 3]}}, "the lower limit comes first"),
        ({"latitude": 54.0}, "latitude and longitude belong together"),
        ({"parameters": {"gauge_zero": math.inf}}, "finite"),
        ({"parameters": {"gauge_zero": "a\0"}}, "U\\+0000 can't be stored"),
        ({"tests": {"water_level": True}}, "false for no tests over time, or { spike"),
        ({"tests": {"water_level": {}}}, "false for no tests over time, or { spike"),
        ({"tests": {"water_level": {"spike": 0}}}, "greater than 0"),
        ({"tests": {"water_level": {"rate": [0.3, "PT0.5S"]}}}, "a time between PT1S and P1D"),
        ({"tests": {"water_level": {"flat": "PT13H"}}}, "flat is between PT1M and PT12H"),
        ({"tests": {"water_level": {"step": 3}}}, "Extra inputs"),
    ],
    ids=[
        *("empty range", "no number", "half a place", "infinite parameter", "nul", "tests on", "no tests"),
        *("no difference", "too short", "too long", "unknown test"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(entry: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        city({"match": "w*", **entry})


def test_a_range_of_an_unknown_property_is_named_with_its_place_and_what_was_meant() -> None:
    [fault] = faults(city({"match": "a"}, {"match": "w*", "range": {"air_temprature": [0, 1]}}))
    assert fault.startswith("device[2].range.air_temprature: no such property; is it one of air_temperature")


def stream(device: str, key: str) -> Stream:
    return Stream("wismar", device, "", key, "k", "u", "hanse")


def test_a_property_is_tested_over_time_as_the_standard_says_unless_the_file_knows_better() -> None:
    own = {"rate": [0.3, "PT10M"], "flat": "PT6H"}
    stations = Stations(
        [
            city(
                {"match": "pegel-1", "tests": {"water_level": {"spike": 0.5}}},
                {"match": "pegel-*", "tests": {"water_level": own, "air_temperature": False}},
            )
        ]
    )
    minute = 60_000_000
    told = {
        (device, key): stations.time_limits(stream(device, key))
        for device, key in (
            *(("pegel-1", "water_level"), ("pegel-2", "water_level"), ("w1", "water_level")),
            *(("pegel-2", "air_temperature"), ("w1", "air_temperature"), ("w1", "water_temperature")),
        )
    }
    found = {key: limits and [None if math.isnan(one) else one for one in limits] for key, limits in told.items()}
    assert found == {
        ("pegel-1", "water_level"): [0.5, None, None, None, None, None],
        ("pegel-2", "water_level"): [None, 0.3, 10 * minute, None, None, 360 * minute],
        ("w1", "water_level"): None,
        ("pegel-2", "air_temperature"): None,
        ("w1", "air_temperature"): [None, 3.0, minute, 19.5, 60 * minute, 180 * minute],
        ("w1", "water_temperature"): [6.0, None, None, None, None, None],
    }


def test_a_test_over_time_of_an_unknown_property_or_of_a_direction_is_named_with_its_cure() -> None:
    found = faults(
        city(
            {"match": "a", "tests": {"water_levle": False}},
            {"match": "b", "tests": {"wind_direction": {"rate": [10, "PT1M"]}}},
            {"match": "c", "tests": {"wind_direction": {"flat": "PT6H"}}},
        )
    )
    assert found == [
        "device[1].tests.water_levle: no such property; is it one of water_level, water_level_nhn, water_leak?",
        "device[2].tests.wind_direction: 359 and 1 are neighbours; leave out spike and rate",
    ]
