"""`hanse-processor check`: every fault with its place, value and cure; and nothing to say of what is right."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ingest.city import City
from ingest.routing import matches
from processors.checking import check, faults_of_profiles, of_one_city
from processors.cities import StartError, read_cities
from processors.filters import covers, left_over, meet
from processors.matching import NO_PROFILES, Profiles
from processors.profiles import SharedProfile, directory, load

CITY = """
[city]
key = "wismar"
name = "Wismar"
[[route]]
filter = "hanse/wismar/+/+"
dialect = "hanse"
"""
ACME = {
    "name": "acme-t1",
    "title": "T1",
    "source": "made up",
    "match": ["acme/t1"],
    "keys": {
        "t": {"property": "air_temperature", "unit": "°C"},
        "spot": {"property": "parking_spot_occupied", "values": {"busy": 1, "free": 0}},
        "at": {"time": "s"},
    },
    "ignore": ["fw"],
}
GOOD = {
    "decoded": '{"t": 7.5, "fw": 3, "spot": "busy", "at": 1768471200, "x": 1}',
    "observations": [
        {"property": "air_temperature", "value": 7.5, "time": "2026-01-15T10:00:00Z"},
        {"property": "parking_spot_occupied", "value": 1},
    ],
    "unmapped": ["x"],
}


def city(**parts: Any) -> City:
    routes = parts.pop("route", [{"filter": "hanse/wismar/+/+", "dialect": "hanse"}])
    return City.model_validate({"city": {"key": "wismar", "name": "W"}, "route": routes, **parts})


def findings(of: City, profiles: Profiles = NO_PROFILES) -> list[str]:
    return [one.text if one.fault else f"note: {one.text}" for one in of_one_city(of, profiles)]


def routed(*filters: str, subscribe: tuple[str, ...] = ()) -> list[str]:
    names = ["hanse", "ttn"]
    routes = [{"filter": text, "dialect": names[n % 2]} for n, text in enumerate(filters)]
    return findings(city(route=routes, mqtt={"subscribe": subscribe}))


def profile(*examples: dict[str, Any], **changed: Any) -> SharedProfile:
    return SharedProfile.model_validate({**ACME, "example": list(examples) or [GOOD], **changed})


def failures(*examples: dict[str, Any], **changed: Any) -> list[str]:
    return list(faults_of_profiles([profile(*examples, **changed)]))


def test_what_is_right_has_no_findings() -> None:
    assert findings(city()) == []
    assert failures(GOOD) == []
    assert routed("a/b", "a/+", "a/#", "#") == []


@pytest.mark.parametrize(
    ("first", "second"), [("a/+", "a/b"), ("#", "a/b/c"), ("a/#", "a"), ("a/#", "a/+/c"), ("a/b", "a/b")]
)
def test_a_route_that_earlier_ones_leave_nothing_is_named(first: str, second: str) -> None:
    assert routed(first, second) == [
        f"route[2].filter = {second!r}: route[1] takes all of it before; move it up or remove it"
    ]


def test_routes_that_share_topics_with_an_earlier_one_are_noted() -> None:
    (found,) = routed("a/+/c", "a/b/+")
    assert found == "note: route[2].filter = 'a/b/+': shares topics with route[1] ('a/+/c'), which takes them first"


def test_a_route_that_no_subscription_serves_is_named() -> None:
    (found,) = routed("a/b", "b/+", subscribe=("a/#",))
    assert found.startswith("route[2].filter = 'b/+': no filter of mqtt.subscribe brings its topics")


FILTERS = ["#", "+", "a", "a/#", "a/+", "+/b", "a/b", "a/+/c", "a/b/#", "+/+/+", "$SYS/#", "b/#", "+/#", "a//c"]
TOPICS = ["a", "b", "a/b", "a/c", "a/b/c", "a/x/c", "b/b", "$SYS/x", "a//c", "a/", "/a", "a/b/c/d", "x"]


@pytest.mark.parametrize("one", FILTERS)
@pytest.mark.parametrize("other", FILTERS)
def test_covering_and_meeting_agree_with_what_the_filters_take(one: str, other: str) -> None:
    mine, theirs = ({topic for topic in TOPICS if matches(text, topic)} for text in (one, other))
    if covers(one, other):
        assert theirs <= mine
    if mine & theirs:
        assert meet(one, other)
    if not theirs <= mine:
        assert not covers(one, other)


@pytest.mark.parametrize(
    ("filters", "takers"),
    [
        (("a/+", "a/+/#", "a", "a/#"), "route[1], route[2], route[3]"),
        (("+/x/#", "a/+", "b/#", "a/+/+/#", "+", "a/#"), "route[1], route[2], route[4], route[5]"),
    ],
)
def test_a_route_that_several_together_leave_nothing_is_named_with_them(filters: tuple[str, ...], takers: str) -> None:
    assert [text for text in routed(*filters) if not text.startswith("note")] == [
        f"route[{len(filters)}].filter = 'a/#': {takers} together take all of it before; move it up or remove it"
    ]


def test_what_several_filters_leave_of_another_is_a_topic_of_its_own_and_nothing_only_where_there_is_none() -> None:
    for narrow, *earlier in itertools.product(FILTERS, repeat=3):
        topic = left_over(narrow, earlier)
        mine = {one for one in TOPICS if matches(narrow, one) and not any(matches(text, one) for text in earlier)}
        if topic is None:
            assert not mine, (narrow, earlier)
        else:
            assert matches(narrow, topic), (narrow, topic)
            assert not any(matches(text, topic) for text in earlier), (narrow, earlier, topic)


@pytest.mark.parametrize(
    ("dialect", "options", "fault"),
    [
        (
            "generic",
            {"epoc": "s"},
            "route[1].options.epoc = 's': dialect generic has no such option; it has device_levels",
        ),
        ("generic", {"epoch": "sec"}, "route[1].options.epoch = 'sec': takes one of s, ms, us, ns, profile"),
        ("generic", {"device_levels": 1}, "route[1].options.device_levels = 1: takes a list of topic levels"),
        ("generic", {"device_levels": [True]}, "route[1].options.device_levels = [True]: takes a list of topic levels"),
        ("generic", {"ignore": "fw"}, "route[1].options.ignore = 'fw': takes a list of texts"),
        ("vzlogger", {"energy": "MWh"}, "route[1].options.energy = 'MWh': takes one of Wh, kWh"),
        ("ttn", {"epoch": "s"}, "route[1].options.epoch = 's': dialect ttn has no such option; it has none"),
    ],
)
def test_an_option_that_a_dialect_does_not_know_or_take_is_named_by_check_and_before_a_run(
    tmp_path: Path, dialect: str, options: dict[str, Any], fault: str
) -> None:
    of = city(route=[{"filter": "a/+", "dialect": dialect, "options": options, "key_levels": [0]}])
    (found,) = findings(of)
    assert found.startswith(fault)
    file = tmp_path / "wismar.toml"
    told = ", ".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
    route = f'filter = "a/+"\ndialect = "{dialect}"\nkey_levels = [0]\noptions = {{ {told} }}\n'
    file.write_text(f'[city]\nkey = "wismar"\nname = "W"\n[[route]]\n{route}')
    with pytest.raises(StartError, match=re.escape(fault)):
        read_cities([file])


def test_options_that_a_dialect_takes_are_no_finding() -> None:
    options = {
        "device_levels": [1],
        "device_key": "id",
        "epoch": "ms",
        "time_key": "t",
        "model": "a/b",
        "ignore": ["x"],
    }
    assert findings(city(route=[{"filter": "a/+", "dialect": "generic", "options": options}])) == []


def test_unknown_dialects_and_properties_and_impossible_ranges_are_named() -> None:
    found = findings(
        city(
            route=[{"filter": "a", "dialect": "tnt"}],
            device=[{"match": "*", "range": {"air_temprature": [0, 1], "air_pressure": [95000, 105000]}}],
        )
    )
    assert [text.partition(":")[0] for text in found] == [
        "route[1].dialect = 'tnt'",
        "device[1].range.air_temprature",
        "device[1].range.air_pressure = [95000, 105000]",
    ]


def test_profiles_of_a_city_are_checked_with_their_examples() -> None:
    own: dict[str, Any] = {"devices": ["d1"], "keys": {"t": {"property": "pm10", "unit": "ug/m3"}}}
    bad = {"decoded": '{"t": 5}', "observations": [{"property": "pm10", "value": 6}]}
    routes = [{"filter": "v3/+/devices/+/up", "dialect": "ttn"}]
    assert findings(city(route=routes, profile=[{**own, "use": "nobody"}])) == [
        "city wismar: profile[1].use = 'nobody': no shared profile of that name"
    ]
    assert findings(city(route=routes, profile=[{**own, "example": [bad]}])) == [
        "profile[1].example[1]: t gives pm10 5.0 ug/m3, which is not expected",
        "profile[1].example[1]: pm10 6.0 (channel '') is expected, and nothing gives it",
    ]
    assert findings(city(route=routes, profile=[{"devices": ["d"], "keys": {"t": {"property": "pm1O"}}}]))[
        0
    ].startswith("city wismar: profile[1]: keys.t.property = 'pm1O': no such property")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"unmapped": []}, "x is rejected: unmapped_property"),
        ({"unmapped": ["x", "y"]}, "unmapped = 'y': it is none"),
        ({"observations": GOOD["observations"][:1]}, "spot gives parking_spot_occupied 1.0 1, which is not expected"),
        ({"decoded": '{"t": 7.5, "at": 1768471200}'}, "parking_spot_occupied 1.0 (channel '') is expected"),
        ({"decoded": GOOD["decoded"].replace("busy", "gone")}, "spot is rejected: not_a_number"),
        ({"decoded": "{"}, "decoded: no JSON"),
        ({"received_at": "noon"}, "received_at = 'noon'"),
        ({"received_at": "2020-01-01T00:00:00Z"}, "t is rejected: time_out_of_range"),
    ],
)
def test_an_example_that_gives_more_less_or_something_else_fails(change: dict[str, Any], told: str) -> None:
    assert any(f"profile 'acme-t1': example[1]: {told}" in text for text in failures({**GOOD, **change}))


def test_a_profile_that_another_takes_the_model_from_is_named() -> None:
    twin = profile(name="twin", keys={"t": {"property": "air_temperature", "unit": "°C"}})
    found = list(faults_of_profiles([profile(), twin]))
    assert "profile 'acme-t1': match = 'acme/t1': twin names it as exactly" in found
    assert any("but by profile 'acme-t1'" in text for text in found)


def test_a_bare_model_travels_as_the_name_of_a_device_profile() -> None:
    assert failures({**GOOD, "model": "Acme T1"}, match=["*acme-t1*"]) == []
    assert "name its model" in failures(GOOD, match=["*acme-t1*"])[0]


def test_secrets_that_others_may_read_are_named(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("x")
    secret.chmod(0o640)
    of = city(mqtt={"username": "u", "password_file": secret})
    assert findings(of) == [f"mqtt.password_file = {str(secret)!r}: others may read it (mode 0640); chmod 600"]
    secret.chmod(0o600)
    assert findings(of) == []


def test_an_api_key_in_a_route_is_named_without_saying_it() -> None:
    found = findings(city(route=[{"filter": "/ul/s3cret/+/attrs", "dialect": "hanse"}]))
    assert found == ["route[1].filter = '/ul/******/+/attrs': an API key in the file; write + in its place"]
    assert findings(city(route=[{"filter": "/ul/+/+/attrs", "dialect": "hanse"}])) == []


def test_faults_of_files_are_found_together(tmp_path: Path) -> None:
    good, twin, bad = (tmp_path / name for name in ("a.toml", "b.toml", "c.toml"))
    good.write_text(CITY)
    twin.write_text(CITY)
    bad.write_text(CITY.replace("dialect", "dialekt"))
    shared = tmp_path / "profiles"
    shared.mkdir()
    (shared / "x.toml").write_text("profile = 1")
    found = [one.text for one in check([good, twin, bad], shared)]
    assert any(f"{twin}: city.key = 'wismar': {good} has it already" in text for text in found)
    assert any("route[1].dialekt = 'hanse': no such setting" in text for text in found)
    assert any(str(shared / "x.toml") in text for text in found)


def test_the_shipped_profiles_keep_their_word() -> None:
    shared = load(directory())
    assert shared
    assert list(faults_of_profiles(shared.values())) == []


def test_the_shipped_cities_have_no_faults() -> None:
    cities = sorted((Path(__file__).parents[3] / "deploy" / "cities").glob("*.toml"))
    assert [one.text for one in check(cities, directory()) if one.fault] == []
