"""A clock without a zone is read in that of the device whose reading it dates: the city file's word, by device."""

import json
from typing import Any

import pytest

from ingest.city import City
from processors.dialects import DIALECTS
from processors.explaining import Explainer, Told
from processors.matching import NO_PROFILES, Profiles
from processors.profiles import of_city
from processors.standard.observation import Message, QualityTest
from processors.standard.times import parse, rfc3339
from processors.standard.zones import Zones

FOLD = int(QualityTest.LOCAL_TIME_AMBIGUOUS)
DEVICES = [
    {"match": "*(7)", "timezone": "Europe/London"},
    {"match": "lon-*", "timezone": "Europe/London"},
    {"match": "lon-7", "timezone": "UTC"},  # never: the first match holds
    {"match": "*", "name": "without a word on zones"},
]
GATEWAY = {"filter": "gateway/+", "dialect": "generic", "options": {"device_key": "dev"}}
STATEFUL = {"filter": "v1.1/#", "dialect": "sensorthings", "key_levels": [0]}


def city(*routes: dict[str, Any], **more: Any) -> City:
    head = {"key": "wismar", "name": "W", "timezone": "Europe/Berlin"}
    return City.model_validate({"city": head, "device": DEVICES, "route": list(routes), **more})


def rows(of: City, received: str, *messages: tuple[str, Any], profiles: Profiles = NO_PROFILES) -> list[Any]:
    at = parse(received)
    assert isinstance(at, int)
    told = [Told(topic, json.dumps(body).encode(), at // 1000) for topic, body in messages]
    found = Explainer([of], profiles=profiles).explain(told)
    return [(row.leaf.device, rfc3339(row.time), row.tests & FOLD) for one in found for row in one.rows]


def test_each_device_of_a_gateways_message_has_its_own_clock() -> None:
    body = [{"dev": dev, "ts": "2026-11-23 11:00:00", "temperature_celsius": 1} for dev in ("mv-1", "lon-7", "mv-2")]
    assert rows(city(GATEWAY), "2026-11-23T12:00:00Z", ("gateway/1", body)) == [
        ("mv-1", "2026-11-23T10:00:00Z", 0),
        ("lon-7", "2026-11-23T11:00:00Z", 0),
        ("mv-2", "2026-11-23T10:00:00Z", 0),
    ]


def test_the_zone_of_a_device_goes_before_that_of_its_route() -> None:
    body = [{"dev": dev, "ts": "2026-11-23 11:00:00", "temperature_celsius": 1} for dev in ("mv-1", "lon-1")]
    of = city({**GATEWAY, "timezone": "Europe/Helsinki"})
    assert [time for _, time, _ in rows(of, "2026-11-23T12:00:00Z", ("gateway/1", body))] == [
        "2026-11-23T09:00:00Z",
        "2026-11-23T11:00:00Z",
    ]


@pytest.mark.parametrize(
    ("wall", "received", "seven", "eight"),
    [
        ("2026-10-25T01:30:00", "2026-10-25T03:00:00Z", ("2026-10-25T01:30:00Z", FOLD), ("2026-10-24T23:30:00Z", 0)),
        ("2026-10-25T02:30:00", "2026-10-25T03:00:00Z", ("2026-10-25T02:30:00Z", 0), ("2026-10-25T01:30:00Z", FOLD)),
        ("2026-03-29T01:30:00", "2026-03-29T03:00:00Z", ("2026-03-29T01:30:00Z", FOLD), ("2026-03-29T00:30:00Z", 0)),
        ("2026-03-29T02:30:00", "2026-03-29T03:00:00Z", ("2026-03-29T01:30:00Z", 0), ("2026-03-29T01:30:00Z", FOLD)),
    ],
)
def test_a_dialect_that_remembers_reads_each_datastreams_hours_of_change_in_its_own_zone(
    wall: str, received: str, seven: tuple[str, int], eight: tuple[str, int]
) -> None:
    def stream(number: int) -> list[tuple[str, Any]]:
        unit = {"name": "degree Celsius", "symbol": "°C"}
        return [
            (f"v1.1/Datastreams({number})", {"@iot.id": number, "name": "air_temperature", "unitOfMeasurement": unit}),
            (f"v1.1/Datastreams({number})/Observations", {"phenomenonTime": wall, "result": 1}),
        ]

    assert rows(city(STATEFUL), received, *stream(7), *stream(8)) == [
        ("Datastreams(7)", *seven),
        ("Datastreams(8)", *eight),
    ]


def test_a_clock_that_only_a_profile_knows_is_read_in_its_devices_zone() -> None:
    route = {"filter": "zigbee2mqtt/#", "dialect": "zigbee2mqtt", "key_levels": [0]}
    keys = {"taken": {"time": "text"}, "t": {"property": "air_temperature", "unit": "°C"}}
    of = city(route, profile=[{"topics": ["zigbee2mqtt/+"], "keys": keys}])
    body = {"taken": "2026-11-23 11:00:00", "t": 7.5}
    profiles = Profiles({}, {"wismar": of_city(of, {})})
    device = {"vendor": "v", "model": "m", "exposes": []}
    known = [{"friendly_name": name, "definition": device} for name in ("mv-1", "lon-1")]
    messages = [("zigbee2mqtt/bridge/devices", known), ("zigbee2mqtt/mv-1", body), ("zigbee2mqtt/lon-1", body)]
    found = rows(of, "2026-11-23T12:00:00Z", *messages, profiles=profiles)
    assert found == [("mv-1", "2026-11-23T10:00:00Z", 0), ("lon-1", "2026-11-23T11:00:00Z", 0)]


def test_where_no_device_has_a_zone_nothing_is_remembered_of_any() -> None:
    zones = Zones("Europe/Berlin")
    assert [zones.of(f"d{number}") for number in range(3)] == ["Europe/Berlin"] * 3
    assert zones._remembered.cache_info().misses == 0


def test_a_message_whose_times_are_no_wall_clocks_asks_for_no_devices_zone() -> None:
    zones = Zones("Europe/Berlin", [("lon-*", "Europe/London")])
    texts = [{"ts": "2026-11-23T11:00:00+01:00", "a": 1}, {"ts": "2026-11-23T11:00:00Z", "a": 2}]
    for body in (texts, {"a": 1}, [{"ts": 1_795_428_000, "a": 1}]):
        message = Message("g/lon-1", json.dumps(body).encode(), 0, zones=zones, options={"epoch": "s"})
        DIALECTS["generic"](message)  # type: ignore[operator]  # it remembers nothing
    assert zones._remembered.cache_info().currsize == 0
