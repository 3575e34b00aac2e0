"""`explain`: what the pipeline makes of messages, line by line, by the very same code."""

import base64
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console

from ingest.city import City
from processors.default_routes import ORDER, default_routes
from processors.dialects import DIALECTS
from processors.dialects.memory import State, Stateful, Step
from processors.explain import answer, bulk, convert, received
from processors.explain_table import CURES, show
from processors.explaining import Explainer, Told
from processors.matching import Profiles
from processors.profiles import SharedProfile
from processors.routes import Routes
from processors.standard.observation import Ignored, Message, Reading, Reason
from processors.standard.times import parse

AT = "2026-11-23T10:00:01Z"
EARLIER = "2026-11-23T09:00:00Z"
NATIVE = {
    "v": 1,
    "device": "w1",
    "time": "2026-11-23T10:00:00Z",
    "readings": [
        {"property": "air_temperature", "value": 45.32, "unit": "°F"},
        {"property": "air_temperature", "value": 99, "unit": "Cel", "channel": "b"},
        {"property": "pm10", "value": 3, "unit": "furlong"},
    ],
}
PROFILE = SharedProfile.model_validate(
    {
        "name": "acme-t1",
        "title": "T1",
        "source": "made up",
        "match": ["acme/t1"],
        "keys": {"t": {"property": "air_temperature", "unit": "°C"}},
        "ignore": ["fw"],
        "example": [{"decoded": "{}"}],
    }
)


def line(topic: str = "hanse/wismar/weather/w1", payload: Any = NATIVE, **more: Any) -> dict[str, Any]:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return {"city": "wismar", "topic": topic, "payload": text, "received_at": AT, **more}


def answers(*lines: Any, explainer: Explainer | None = None) -> list[Any]:
    text = b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines)
    return piped(text, lambda source, sink: bulk(source, sink, explainer or Explainer()))


def piped(text: bytes, work: Any) -> list[Any]:
    reader, writer = os.pipe()
    feeder = threading.Thread(target=lambda: (os.write(writer, text), os.close(writer)))
    feeder.start()
    sink = io.BytesIO()
    with os.fdopen(reader, "rb") as source:
        work(source, sink)
    feeder.join()
    return [json.loads(one) for one in sink.getvalue().splitlines()]


def test_every_reading_is_an_observation_in_the_canonical_unit_or_a_rejection() -> None:
    (found,) = answers(line())
    assert found == {
        "dialect": "hanse",
        "observations": [
            {
                "device": "w1",
                "channel": "",
                "property": "air_temperature",
                "value": pytest.approx(7.4),
                "unit": "Cel",
                "phenomenon_time": "2026-11-23T10:00:00Z",
                "quality": 1,
                "quality_tests": 0,
                "raw_key": "air_temperature",
                "raw_value": 45.32,
                "raw_unit": "°F",
            },
            {
                "device": "w1",
                "channel": "b",
                "property": "air_temperature",
                "value": 99.0,
                "unit": "Cel",
                "phenomenon_time": "2026-11-23T10:00:00Z",
                "quality": 4,
                "quality_tests": 1,
                "raw_key": "air_temperature",
                "raw_value": 99,
                "raw_unit": "Cel",
            },
        ],
        "rejections": [
            {
                "reason": "unknown_unit",
                "detail": "unit 'furlong'; pm10 takes one convertible to ug/m3",
                "device": "w1",
                "channel": "",
                "raw_key": "pm10",
                "raw_value": 3,
                "raw_unit": "furlong",
                "phenomenon_time": "2026-11-23T10:00:00Z",
            }
        ],
        "ignored": None,
    }


def test_each_line_gets_one_answer_in_order_the_unreadable_too() -> None:
    bad: list[Any] = [
        b"garbage",
        b"",
        b"[1]",
        {"topic": 5, "payload": ""},
        {"topic": "a"},
        {"topic": "a", "payload": "x", "payload_base64": "eA=="},
        {"topic": "a", "payload_base64": "%"},
        {"topic": "a", "payload": 5},
        {"topic": "a", "payload": "x", "retain": "yes"},
        {"topic": "a", "payload": "x", "received_at": "noon"},
        {"topic": "a", "payload": "x", "city": 7},
        b'{"topic": "a", "payload": "\xff"}',
    ]
    mixed = [one for pair in zip(bad, [line(device=n) for n in range(len(bad))], strict=True) for one in pair]
    found = answers(*mixed)
    assert len(found) == len(mixed)
    assert [one["rejections"][0]["detail"][:23] for one in found[::2]] == ["this line is no message"] * len(bad)
    assert {len(one["observations"]) for one in found[1::2]} == {2}


def test_a_payload_may_be_given_as_bytes() -> None:
    coded = base64.b64encode(json.dumps(NATIVE).encode()).decode()
    told = {key: value for key, value in line().items() if key != "payload"}
    assert answers({**told, "payload_base64": coded}) == answers(line())
    (found,) = answers({**told, "payload_base64": base64.b64encode(b"\xff\xfe").decode()})
    assert found["rejections"][0]["reason"] == "not_utf8"


def test_the_receive_time_of_the_line_is_the_only_clock() -> None:
    timeless = {**NATIVE, "time": None, "readings": NATIVE["readings"][:1]}
    found = answers(line(payload=timeless), line(payload=timeless, received_at="2031-01-01T00:00:00.5Z"))
    assert [one["observations"][0]["phenomenon_time"] for one in found] == [AT, "2031-01-01T00:00:00.500000Z"]
    assert found[0]["observations"][0]["quality_tests"] == 4
    (late,) = answers(line(received_at="2031-01-01T00:00:00Z"))
    assert late["observations"] == []
    assert {one["reason"] for one in late["rejections"]} == {"time_out_of_range", "unknown_unit"}


def test_rejections_come_in_the_order_of_the_readings() -> None:
    (late,) = answers(line(received_at="2031-01-01T00:00:00Z"))
    assert [one["raw_key"] for one in late["rejections"]] == ["air_temperature", "air_temperature", "pm10"]
    assert [one["raw_value"] for one in late["rejections"]] == [45.32, 99, 3]


@pytest.mark.parametrize("value", [True, 7, 7.25, [1, {"a": None}], {}, "true", "7", None, 12345678901234567890123])
def test_a_refused_value_is_shown_as_it_came(value: Any) -> None:
    body = {"v": 1, "device": "d", "readings": [{"property": "no_such", "value": value, "unit": "Cel"}]}
    (refused,) = answers({"topic": "hanse/rostock/weather/d", "payload": json.dumps(body)})
    (rejection,) = refused["rejections"]
    assert rejection["reason"] == "unmapped_property"
    assert rejection["raw_value"] == value
    assert type(rejection["raw_value"]) is type(value)


def test_the_native_message_knows_the_vocabularys_own_names_only() -> None:
    body = {"v": 1, "device": "d", "readings": [{"property": "Air_Temperature", "value": 7.4, "unit": "Cel"}]}
    (refused,) = answers({"topic": "hanse/rostock/weather/d", "payload": json.dumps(body)})
    assert [one["reason"] for one in refused["rejections"]] == ["unmapped_property"]


def test_a_stated_unit_that_is_none_of_an_evident_key_is_what_is_refused() -> None:
    body = {"air_temperature": {"value": 1, "unit": "hPa"}, "co2": {"value": 1, "unit": "foo"}, "Luftdruck": 1013}
    (refused,) = answers({"topic": "stadt/x", "payload": json.dumps(body)})
    assert [one["reason"] for one in refused["rejections"]] == ["wrong_dimension", "unknown_unit", "unmapped_property"]


def test_what_a_message_says_twice_of_one_datastream_and_time_is_a_copy_or_a_conflict() -> None:
    body = {"air_temperature_C": 7, "Lufttemperatur_C": 7, "air_temperature_K": 300, "co2_ppm": 450}
    (told,) = answers({"topic": "stadt/x", "payload": json.dumps(body)})
    assert [(one["raw_key"], one["value"]) for one in told["observations"]] == [
        ("air_temperature_C", 7),
        ("co2_ppm", 450),
    ]
    assert [(one["reason"], one["raw_key"], one["raw_value"]) for one in told["rejections"]] == [
        ("conflicting_value", "air_temperature_K", 300)
    ]


def test_readings_of_other_channels_or_times_are_no_copies() -> None:
    one = {"property": "co2", "value": 450, "unit": "ppm"}
    body = {"v": 1, "device": "d", "time": AT, "readings": [one, one | {"channel": "b"}, one | {"time": EARLIER}]}
    (told,) = answers({"topic": "hanse/rostock/air/d", "payload": json.dumps(body), "received_at": AT})
    assert len(told["observations"]) == 3


def test_a_truth_is_no_measured_quantity() -> None:
    body = {"air_temperature_C": False, "lamp_on": True, "co2": {"value": True, "unit": "ppm"}}
    (told,) = answers({"topic": "stadt/x", "payload": json.dumps(body)})
    assert [(one["property"], one["value"], one["raw_value"]) for one in told["observations"]] == [("lamp_on", 1, True)]
    assert [(one["reason"], one["raw_value"]) for one in told["rejections"]] == [
        ("not_a_number", False),
        ("not_a_number", True),
    ]


@pytest.mark.parametrize("topic", ["rathaus/raum-12/klima", "hafen/wasser/1", "wohnung/kueche"])
def test_where_a_device_is_may_take_the_weather_from_a_plain_name(topic: str) -> None:
    (told,) = answers({"topic": topic, "payload": '{"temperature_C": 21, "pressure_hPa": 1013}'})
    assert [one["property"] for one in told["observations"]] == ["air_pressure"]
    assert [one["reason"] for one in told["rejections"]] == ["unmapped_property"]


def test_a_room_that_a_message_names_takes_the_weather_from_its_readings() -> None:
    body = {"room": "Küche", "air_temperature_C": 21, "co2_ppm": 800}
    (told,) = answers({"topic": "stadt/x", "payload": json.dumps(body)})
    assert [(one["property"], one["channel"]) for one in told["observations"]] == [("co2", "Küche")]


def test_a_native_topic_with_more_levels_names_a_device_with_slashes() -> None:
    body = {"v": 1, "device": "a/b", "readings": [{"property": "air_temperature", "value": 7.4, "unit": "Cel"}]}
    (taken,) = answers({"topic": "hanse/rostock/weather/a/b", "payload": json.dumps(body)})
    assert [(taken["dialect"], one["device"]) for one in taken["observations"]] == [("hanse", "a/b")]


def test_a_retained_copy_is_said_to_be_ignored() -> None:
    timeless = {**NATIVE, "time": None, "readings": NATIVE["readings"][:1]}
    (found,) = answers(line(payload=timeless, retain=True))
    assert (found["observations"], found["rejections"], found["ignored"]) == ([], [], "retained")


def test_an_ignored_topic_says_so_and_names_no_dialect_of_its_own() -> None:
    (found,) = answers(line("v3/a/devices/d/join", "{}"))
    assert found["ignored"] == "ignore"


def test_a_payload_that_the_gateway_would_not_forward_is_too_large() -> None:
    (found,) = answers(line(payload="x" * 262_145))
    assert [one["reason"] for one in found["rejections"]] == ["too_large"]


def test_a_missing_value_is_null_with_flag_9() -> None:
    told = {**NATIVE, "readings": [{"property": "pm10", "value": None, "unit": "ug/m3", "quality": 9}]}
    (found,) = answers(line(payload=told))
    assert (found["observations"][0]["value"], found["observations"][0]["quality"]) == (None, 9)


def uplink(**decoded: Any) -> dict[str, Any]:
    return {"device": "d1", "decoded": decoded}


def learning(message: Message, state: State) -> Step:
    """Remembers a unit, then uses it."""
    body = json.loads(message.payload)
    if "unit" in body:
        return Step(Ignored("announcement"), {"unit": body["unit"]})
    unit = state.get("unit")
    time = message.received_us
    return Step([Reading("d1", "", "t", body["t"], unit, time, "air_temperature")])


def test_what_a_dialect_remembers_is_carried_from_line_to_line_and_from_batch_to_batch() -> None:
    dialects = {"hanse": Stateful(lambda topic: topic, learning)}
    explainer = Explainer(dialects=dialects)
    found = [
        answers(line(payload={"t": 1.0}), line(payload={"unit": "K"}), explainer=explainer),
        answers(line(payload={"t": 300.0}), line(payload={"unit": "Cel"}), explainer=explainer),
        answers(line(payload={"t": 5.0}), explainer=explainer),
    ]
    assert found[0][0]["rejections"][0]["reason"] == "unknown_unit"
    assert found[0][1]["ignored"] == "announcement"
    assert found[1][0]["observations"][0]["value"] == pytest.approx(26.85)
    assert found[2][0]["observations"][0]["value"] == 5.0


def test_tests_over_time_compare_with_the_lines_before_and_the_table_names_what_fired() -> None:
    def at(minute: int, value: float) -> dict[str, Any]:
        readings = [{"property": "air_temperature", "value": value, "unit": "Cel"}]
        time = f"2026-11-23T10:{minute:02}:00Z"
        payload = {"v": 1, "device": "w1", "time": time, "readings": readings}
        return line(payload=payload, received_at="2026-11-23T10:59:00Z")

    explainer = Explainer()
    found = [
        *answers(at(0, 7.0), at(1, 17.0), at(2, 7.1), explainer=explainer),
        *answers(at(3, 27.0), at(2, 40.0), explainer=explainer),
    ]
    flags = [(one["observations"][0]["quality"], one["observations"][0]["quality_tests"]) for one in found]
    assert flags == [(1, 0), (3, 32), (1, 0), (3, 32), (1, 0)]
    told = Told("hanse/wismar/weather/w1", at(4, 7.0)["payload"].encode(), received("2026-11-23T10:59:00Z"), "wismar")
    out = io.StringIO()
    (seen,) = explainer.explain([told, told._replace(payload=at(5, 17.0)["payload"].encode())])[1:]
    show(seen, explainer.city(None), explainer.route(told), Console(file=out, width=200))
    assert "3 suspect: rate_of_change" in out.getvalue()


def test_the_citys_own_routes_go_first_and_the_default_ones_take_the_rest() -> None:
    city = City.model_validate(
        {
            "city": {"key": "wismar", "name": "Wismar"},
            "route": [{"filter": "special/#", "dialect": "hanse"}, {"filter": "hanse/+/+/quiet", "dialect": "ignore"}],
        }
    )
    explainer = Explainer([city])
    topics = ["special/x", "hanse/wismar/weather/quiet", "hanse/wismar/weather/w1"]
    found = answers(*(line(topic) for topic in topics), explainer=explainer)
    assert [one["dialect"] for one in found] == ["hanse", "ignore", "hanse"]
    assert found[1]["ignored"] == "ignore"


def test_the_city_file_holds_for_its_city_and_for_messages_that_name_none() -> None:
    city = City.model_validate(
        {
            "city": {"key": "wismar", "name": "W"},
            "route": [{"filter": "#", "dialect": "hanse"}],
            "limits": {"max_age": "PT1S"},
        }
    )
    explainer = Explainer([city])
    nameless = {key: value for key, value in line().items() if key != "city"}
    old = {**NATIVE, "time": "2026-11-23T09:00:00Z"}
    found = answers(
        line(payload=old), {**nameless, "payload": old}, line(payload=old, city="kiel"), explainer=explainer
    )
    assert [len(one["observations"]) for one in found] == [0, 0, 2]


def told_by_ttn(**decoded: Any) -> dict[str, Any]:
    body = {"end_device_ids": {"device_id": "d1"}, "received_at": AT, "uplink_message": {"decoded_payload": decoded}}
    return line("v3/a/devices/d1/up", body)


def test_without_profiles_only_dialect_and_evident_keys_are_known() -> None:
    (found,) = answers(told_by_ttn(t=5, co2_ppm=400, fw_version=3))
    assert [one["property"] for one in found["observations"]] == ["co2"]
    assert [(one["reason"], one["raw_key"]) for one in found["rejections"]] == [("unmapped_property", "t")]


def message(**decoded: Any) -> Told:
    told = told_by_ttn(**decoded)
    return Told(told["topic"], told["payload"].encode(), received(AT))


def text_of(explainer: Explainer, told: Told) -> str:
    console = Console(width=400, file=io.StringIO())
    (explained,) = explainer.explain([told])
    show(explained, explainer.city(None), explainer.route(told), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_shows_route_layer_conversion_flags_rejection_and_cure() -> None:
    city = City.model_validate(
        {
            "city": {"key": "wismar", "name": "W"},
            "route": [{"filter": "v3/#", "dialect": "ttn"}],
            "profile": [{"devices": ["d1"], "use": "acme-t1"}],
        }
    )
    from processors.profiles import of_city

    shared = {"acme-t1": PROFILE}
    explainer = Explainer([city], profiles=Profiles(shared, {"wismar": of_city(city, shared)}))
    shown = text_of(explainer, message(t=70.5, fw=2, x=1, air_pressure_Pa=101_300))
    for part in ["'v3/#' to dialect ttn", "profile acme-t1", "4 fail: gross_range", "x 0.01", "key", "no_observation"]:
        assert part in shown
    assert "unmapped_property" in shown
    assert "say in a device profile what the key means" in shown


def test_every_reason_that_needs_no_database_has_a_cure() -> None:
    of_the_database = {
        Reason.BEFORE_RETENTION,
        Reason.DATASTREAM_QUOTA,
        Reason.REJECTED_BY_DATABASE,
    }
    assert set(CURES) == set(Reason) - of_the_database


def converted(*lines: Any) -> list[Any]:
    return piped(b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines), convert)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (29.92, "inHg", "hPa", 1013.2),
        (212, "°F", "Cel", 100.0),
        (1, "ppb", "no2", 1.9125),
        (5, "m", "cm", 500),
        (7, "dB", "dB", 7),
    ],
)
def test_units_are_converted_by_hand(value: float, source: str, target: str, expected: float) -> None:
    assert converted({"value": value, "from": source, "to": target}) == [{"value": pytest.approx(expected, rel=1e-4)}]


def test_what_does_not_convert_says_why_in_its_place() -> None:
    found = converted(
        {"value": 1, "from": "dB", "to": "dBm"},
        b"?",
        {"value": "1", "from": "m", "to": "cm"},
        {"value": 1, "from": "ppb", "to": "ug/m3"},
        {"value": 1, "from": "m", "to": "parsec"},
        {"value": 1e308, "from": "km", "to": "mm"},
        b'{"value": 1e400, "from": "Cel", "to": "K"}',
        {"value": 1, "from": "m", "to": "mm"},
    )
    assert [set(one) for one in found] == [{"error"}] * 7 + [{"value"}]


def test_the_default_routes_name_every_dialect_and_nothing_else() -> None:
    assert set(DIALECTS) <= set(ORDER)
    assert {route.dialect for route in default_routes()} - {"ignore"} == set(DIALECTS)


def test_the_default_routes_can_be_used_by_a_city() -> None:
    city = City.model_validate({"city": {"key": "a", "name": "A"}, "route": default_routes()})
    took = Routes(city, DIALECTS).match("hanse/wismar/weather/w1")
    assert took is not None
    assert took.dialect == "hanse"


@pytest.mark.parametrize(
    "place", ["tele/plug", "plug/tele", "emoncms/plug/tele", "tasmota/tele/plug", "stat/plug", "haus/stat/plug"]
)
def test_tasmotas_prefix_may_stand_anywhere_in_a_short_topic(place: str) -> None:
    city = City.model_validate({"city": {"key": "a", "name": "A"}, "route": default_routes()})
    routes = Routes(city, DIALECTS)
    kinds = ("SENSOR", "STATE", "LWT") if "tele" in place else ("STATUS8", "STATUS10", "RESULT")
    taken = [routes.match(f"{place}/{kind}") for kind in kinds]
    assert [one and one.dialect for one in taken] == ["tasmota", "tasmota", "ignore"]


def test_an_answer_comes_before_the_next_line_is_written() -> None:
    command = [sys.executable, "-m", "processors", "explain", "--jsonl", "--no-profiles"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for _ in range(2):
            running.stdin.write(json.dumps(line()).encode() + b"\n")
            running.stdin.flush()
            assert len(json.loads(running.stdout.readline())["observations"]) == 2
        running.stdin.close()
        assert running.wait(30) == 0


def test_explain_and_the_pipeline_agree_on_every_message(tmp_path: Any) -> None:
    explainer = Explainer()
    told: Sequence[Told] = [message(co2_ppm=400), message(t=1), Told("nowhere", b"x", received(AT), retain=True)]
    alone = [answer(explainer.explain([one])[0]) for one in told]
    assert [answer(one) for one in Explainer().explain(told)] == alone
    assert parse(AT) == received(AT) * 1000


@pytest.mark.parametrize("width", [60, 80, 139])
def test_where_a_table_has_no_room_nothing_of_it_is_cut_off(width: int) -> None:
    readings = [{"property": name, "value": 7, "unit": "C"} for name in ("air_temperature", "herring_density")]
    told = Told(
        "hanse/wismar/weather/w1", json.dumps({"v": 1, "device": "w1", "readings": readings}).encode(), received(AT)
    )
    explainer = Explainer()
    (explained,) = explainer.explain([told])
    console = Console(width=width, file=io.StringIO())
    show(explained, explainer.city(None), explainer.route(told), console)
    assert isinstance(console.file, io.StringIO)
    shown = " ".join(console.file.getvalue().split())
    assert "…" not in shown
    for words in ("air_temperature = 7 Cel 1 good: gateway_time", "known by dialect, conversion none", AT[:10],
                  "unmapped_property w1: herring_density = 7 C", "cure: say in a device profile"):  # fmt: skip
        assert words in shown
