"""What a reading means: the first layer that knows wins, and nothing is guessed."""

from collections.abc import Mapping as Table
from typing import Any

import pytest

from ingest.city import City
from processors.clocks import dated
from processors.mapping import Careful, Mapping, Refused, models_of
from processors.matching import Profiles
from processors.meaning import Meaning, Told
from processors.profiles import SharedProfile, of_city
from processors.standard.observation import Ignored, QualityTest, Reading, Reason, Rejection
from processors.standard.times import parse
from processors.standard.zones import BERLIN
from storage.rows import StreamTable

MODEL = "acme/t1"
NOW = parse("2026-01-15T12:00:00Z")
SHARED = {
    "name": "acme-t1",
    "title": "Acme T1",
    "source": "made up",
    "match": ["acme/t1", "*acme-t1*"],
    "keys": {
        "t": {"property": "air_temperature", "unit": "°C"},
        "probe.*.t": {"property": "water_temperature", "unit": "°C", "channel": "probe {1}"},
        "raw": {"property": "water_level", "unit": "mm", "scale": 0.5, "offset": 100},
        "h": {"property": "relative_humidity"},
        "spot": {"property": "parking_spot_occupied", "values": {"busy": 1, "free": 0, "?": "missing", "boot": "drop"}},
        "door": {"property": "contact_open", "values": {"true": 0, "false": 1}},
        "dist": {"property": "water_distance", "unit": "mm", "drop": [65535, "no echo"]},
        "at": {"time": "s"},
        "log.*.at": {"time": "s"},
        "log.*.t": {"property": "air_temperature", "unit": "°C"},
        "clock": {"time": "text"},
    },
    "ignore": ["fw", "cfg.**"],
    "example": [{"decoded": "{}"}],
}


def shared(**changed: Any) -> SharedProfile:
    return SharedProfile.model_validate({**SHARED, **changed})


def city(*profiles: Table[str, Any]) -> City:
    return City.model_validate(
        {
            "city": {"key": "wismar", "name": "Wismar"},
            "route": [{"filter": "#", "dialect": "ttn"}],
            "profile": list(profiles),
        }
    )


def mapping(*own: Table[str, Any], models: Table[str, SharedProfile] | None = None) -> Mapping:
    known = {"acme-t1": shared()} if models is None else models
    return Mapping(StreamTable(), Profiles(known, {"wismar": of_city(city(*own), known)}))


def reading(key: str = "t", value: float | None = 7.5, **changed: Any) -> Reading:
    return Reading(
        **{
            "device": "d1",
            "channel": "",
            "unit": None,
            "time": NOW,
            "model": MODEL,
            **changed,
            "key": key,
            "value": value,
        }
    )


def meant(of: Mapping, leaf: Reading, topic: str = "v3/app/devices/d1/up", dialect: str = "ttn") -> Any:
    return of.meaning(of.scope("wismar", dialect, topic), leaf)


def judged(leaf: Reading, *own: Table[str, Any]) -> Any:
    of = mapping(*own)
    return of.judged(of.slot(of.scope("wismar", "ttn", "t"), leaf), leaf)


def test_what_the_dialect_fixes_goes_before_every_profile() -> None:
    found = meant(mapping(), reading(property="soil_temperature", unit="Cel"))
    assert (found.layer, found.observed.key) == ("dialect", "soil_temperature")


def test_a_profile_gives_an_anonymous_key_its_property_and_unit() -> None:
    found = meant(mapping(), reading())
    assert (found.layer, found.observed.key, found.unit) == ("profile acme-t1", "air_temperature", "°C")


def test_without_the_model_the_key_stays_unmapped_and_says_where_to_go() -> None:
    found = meant(mapping(), reading(model="acme/t2"))
    assert isinstance(found, Refused)
    assert found.reason is Reason.UNMAPPED_PROPERTY
    assert "'acme/t2'" in found.detail
    assert "docs/profiles.md" in found.detail


def test_a_profile_goes_before_a_key_that_explains_itself() -> None:
    odd = shared(keys={"air_temperature_C": {"property": "indoor_temperature", "unit": "Cel"}})
    found = meant(mapping(models={"acme-t1": odd}), reading("air_temperature_C"))
    assert (found.layer, found.observed.key) == ("profile acme-t1", "indoor_temperature")


def test_a_key_that_the_profile_leaves_open_may_still_explain_itself() -> None:
    found = meant(mapping(), reading("co2_ppm"))
    assert (found.layer, found.observed.key, found.unit) == ("key", "co2", "ppm")


@pytest.mark.parametrize("model", ["ACME/T1", "Acme T1", "acme_t1-868", "The Acme-T1 of 2024"])
def test_models_are_compared_without_case_blanks_and_underscores(model: str) -> None:
    assert isinstance(meant(mapping(), reading(model=model)), Meaning)


def test_of_several_shared_profiles_the_most_exact_serves_alone() -> None:
    family = shared(name="acme-family", match=["acme/*"], keys={"only_here": {"property": "pm10", "unit": "ug/m3"}})
    of = mapping(models={"acme-family": family, "acme-t1": shared()})
    assert meant(of, reading()).layer == "profile acme-t1"
    assert isinstance(meant(of, reading("only_here")), Refused)
    assert meant(of, reading("only_here", model="acme/t9")).layer == "profile acme-family"


def test_a_pattern_without_wildcards_beats_one_of_as_many_letters() -> None:
    wide = shared(name="wide", match=["acme/t1*"], keys={"t": {"property": "soil_temperature", "unit": "Cel"}})
    assert meant(mapping(models={"wide": wide, "acme-t1": shared()}), reading()).observed.key == "air_temperature"


def test_a_citys_own_profile_goes_before_the_shared_one_and_leaves_it_the_rest() -> None:
    own = {"devices": ["d*"], "keys": {"t": {"property": "indoor_temperature", "unit": "°C"}}}
    of = mapping(own)
    assert meant(of, reading()).observed.key == "indoor_temperature"
    assert meant(of, reading("dist")).layer == "profile acme-t1"
    assert meant(of, reading(device="x1")).observed.key == "air_temperature"


def test_a_city_may_say_which_shared_profile_its_devices_have() -> None:
    of = mapping({"devices": ["d1"], "use": "acme-t1"})
    assert meant(of, reading(model="")).layer == "profile acme-t1"
    assert isinstance(meant(of, reading(model="", device="d2")), Refused)


def test_a_profile_can_be_bound_to_topics() -> None:
    own = {"topics": ["v3/harbour/#"], "devices": ["d?"], "keys": {"x": {"property": "co2", "unit": "ppm"}}}
    of = mapping(own)
    assert isinstance(meant(of, reading("x"), "v3/harbour/devices/d1/up"), Meaning)
    assert isinstance(meant(of, reading("x"), "v3/town/devices/d1/up"), Refused)
    assert isinstance(meant(of, reading("x", device="other"), "v3/harbour/devices/other/up"), Refused)


def test_topics_of_one_kind_share_a_scope_and_random_ones_make_none() -> None:
    of = mapping({"topics": ["a/#"], "keys": {"x": {"property": "co2", "unit": "ppm"}}})
    scopes = {of.scope("wismar", "ttn", topic) for topic in ["a/1", "a/2", "b/1", "b/2", "c"]}
    assert len(scopes) == 2


def test_wildcards_name_the_channel() -> None:
    found = meant(mapping(), reading("probe.2.t"))
    assert (found.observed.key, found.channel) == ("water_temperature", "probe 2")


def test_without_a_channel_of_its_own_the_profile_keeps_the_dialects() -> None:
    assert meant(mapping(), reading(channel="10 cm")).channel == "10 cm"


def test_scale_and_offset_come_before_the_unit() -> None:
    found = meant(mapping(), reading("raw"))
    assert found.conversion(2000) == pytest.approx((2000 * 0.5 + 100) / 1000)


def test_a_profile_without_a_unit_keeps_the_one_that_came() -> None:
    assert meant(mapping(), reading("h", unit="%")).unit == "%"
    assert meant(mapping(), reading("h")).reason is Reason.UNKNOWN_UNIT


@pytest.mark.parametrize("unit", ["°F", "hPa", "foo"])
def test_a_unit_that_contradicts_the_profile_is_refused(unit: str) -> None:
    assert meant(mapping(), reading(unit=unit)).reason is Reason.UNKNOWN_UNIT


def test_a_unit_in_another_spelling_contradicts_nothing() -> None:
    assert isinstance(meant(mapping(), reading(unit="celsius")), Meaning)


@pytest.mark.parametrize("key", ["fw", "cfg.alarm.high", "alarm_threshold", "firmwareVersion", "fCnt"])
def test_settings_and_versions_are_ignored_with_a_word(key: str) -> None:
    assert meant(mapping(), reading(key)) == Ignored("no_observation")


@pytest.mark.parametrize(
    ("key", "raw", "value", "expected"),
    [
        ("spot", "busy", None, 1.0),
        ("spot", "free", None, 0.0),
        ("spot", "?", None, None),
        ("door", True, 1.0, 0.0),
        ("door", False, 0.0, 1.0),
        ("dist", None, 1200.0, 1200.0),
    ],
)
def test_listed_values_become_numbers(key: str, raw: Any, value: float | None, expected: float | None) -> None:
    assert judged(reading(key, value, raw=raw))[1] == expected


@pytest.mark.parametrize(
    ("key", "raw", "value"), [("spot", "boot", None), ("dist", None, 65535.0), ("dist", "no echo", None)]
)
def test_sentinels_of_the_profile_are_ignored(key: str, raw: Any, value: float | None) -> None:
    assert judged(reading(key, value, raw=raw)) == Ignored("sentinel")


@pytest.mark.parametrize(
    ("key", "raw", "value"), [("spot", "moved", None), ("spot", None, 2.0), ("t", "warm", None), ("dist", "far", None)]
)
def test_a_value_outside_the_list_and_a_text_without_one_are_refused(key: str, raw: Any, value: float | None) -> None:
    assert judged(reading(key, value, raw=raw)).reason is Reason.NOT_A_NUMBER


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("seen_before", [False, True])
def test_a_boolean_is_a_value_of_states_only(raw: bool, seen_before: bool) -> None:
    of = mapping()
    scope = of.scope("wismar", "ttn", "v3/app/devices/d1/up")
    for key, unit, fits in (
        ("t", None, False),
        ("co2_ppm", None, False),
        ("contact_open", None, True),
        ("door", None, True),
    ):
        if seen_before:
            of.slot(scope, reading(key, 1.0, unit=unit))
        came = reading(key, float(raw), unit=unit, raw=raw)
        found = of.judged(of.slot(scope, came), came)
        assert isinstance(found, Refused) is not fits, key
        if isinstance(found, Refused):
            assert found.reason is Reason.NOT_A_NUMBER


@pytest.mark.parametrize(
    ("key", "time", "dialect", "reason"),
    [
        ("measurements.0.temperature_C", None, "ttn", Reason.INVALID_TIME),
        ("measurements.0.temperature_C", NOW, "ttn", None),
        ("measurements.0.temperature_C", None, "generic", None),  # whose broker's time is as good as any
        ("temperature_C", None, "chirpstack", None),
    ],
)
def test_an_entry_of_a_list_with_a_time_nobody_can_read_explains_nothing_by_its_key(
    key: str, time: Any, dialect: str, reason: Reason | None
) -> None:
    found = meant(mapping(), reading(key, 21.0, time=time), dialect=dialect)
    assert getattr(found, "reason", None) is reason


def test_a_missing_value_stays_missing_whatever_the_list_says() -> None:
    assert judged(reading("spot", None, quality=9))[1] is None
    assert judged(reading("spot", None, quality=9, raw="unavailable"))[1] is None


def test_a_number_that_is_no_sentinel_of_this_key_is_a_value() -> None:
    assert judged(reading("t", 65535.0))[1] == 65535.0


def test_the_answer_is_found_once_a_source() -> None:
    of = mapping()
    scope = of.scope("wismar", "ttn", "t")
    first = of.slot(scope, reading())
    assert of.slot(scope, reading(value=9.0)) == first
    assert isinstance(of.slot(scope, reading("spot", None, raw="busy")), Careful)
    assert of.slot(scope, reading(unit="°C")) != first
    assert len(of) == 3


def test_refusals_and_ignored_keys_are_not_remembered() -> None:
    of = mapping()
    scope = of.scope("wismar", "ttn", "t")
    for key in ["x1", "x2", "fw", "at"]:
        of.slot(scope, reading(key))
    assert len(of) == 0


def leaves_dated(*leaves: Any) -> Any:
    of = mapping()
    scope = of.scope("wismar", "ttn", "t")
    return dated(leaves, lambda leaf: of.slot(scope, leaf), BERLIN, NOW)


def test_a_time_key_dates_its_own_object_and_what_is_below() -> None:
    found = leaves_dated(
        reading("t"),
        reading("log.0.t"),
        reading("log.0.at", 1768471200.0),
        reading("at", 1768474800.0),
        reading("log.1.t"),
    )
    assert [getattr(leaf, "time", leaf) for leaf in found] == [
        parse("2026-01-15T11:00:00Z"),
        parse("2026-01-15T10:00:00Z"),
        Ignored("time"),
        Ignored("time"),
        parse("2026-01-15T11:00:00Z"),
    ]


def test_a_time_key_dates_the_readings_of_its_device_only() -> None:
    found = leaves_dated(reading("at", 1768474800.0), reading("t", device="d2"))
    assert found[1].time == NOW


def test_a_wall_clock_is_read_in_the_zone() -> None:
    found = leaves_dated(reading("clock", None, raw="2026-01-15 12:00:00"), reading("t"))
    assert found[1].time == parse("2026-01-15T11:00:00Z")


def test_the_repeated_hour_is_flagged() -> None:
    found = leaves_dated(reading("clock", None, raw="2026-10-25T02:30:00"), reading("t"))
    assert found[1].tests == QualityTest.LOCAL_TIME_AMBIGUOUS


@pytest.mark.parametrize(
    "clock", [reading("clock", None, raw="noon"), reading("at", 1e300), reading("at", None, raw="x")]
)
def test_a_time_that_is_none_costs_the_readings_it_should_date(clock: Reading) -> None:
    found = leaves_dated(clock, reading("t", 7.5))
    assert isinstance(found[1], Rejection)
    assert (found[1].reason, found[1].key, found[1].value) == (Reason.INVALID_TIME, "t", "7.5")


def test_a_device_without_a_time_leaves_its_readings_the_networks() -> None:
    assert leaves_dated(reading("at", None, quality=9), reading("t"))[1].time == NOW


def test_a_time_key_is_recognised_by_the_mapping() -> None:
    assert meant(mapping(), reading("at", 5.0)) == Told("profile acme-t1", "s")


def rejected(key: str, text: str) -> Rejection:
    """A text as a dialect rejects it."""
    return Rejection(Reason.UNMAPPED_PROPERTY, "string, and nothing says what it means", "d1", "", key, text, None, NOW)


def test_a_text_that_its_dialect_rejected_is_read_by_the_profile_of_its_neighbours() -> None:
    of = mapping()
    scope = of.scope("wismar", "ttn", "t")
    leaves = [rejected("spot", "busy"), rejected("other", "busy"), reading()]
    read = of.read(scope, leaves[0], models_of(leaves))
    assert isinstance(read, Reading)
    assert of.judged(of.slot(scope, read), read)[1] == 1.0  # type: ignore[index]
    assert of.read(scope, leaves[1], models_of(leaves)) is leaves[1]
    assert of.read(scope, leaves[0], models_of(leaves[:2])) is leaves[0]


def test_a_text_refused_for_another_reason_is_left_alone() -> None:
    of = mapping()
    leaf = rejected("spot", "busy")._replace(reason=Reason.INVALID_TIME)
    assert of.read(of.scope("wismar", "ttn", "t"), leaf, [leaf, reading()]) is leaf


def test_a_rejected_text_can_be_the_time() -> None:
    of = mapping()
    leaves = [rejected("clock", "2026-01-15 12:00:00"), reading("t")]
    found = of.dated(of.scope("wismar", "ttn", "t"), leaves, BERLIN, NOW)
    assert [getattr(leaf, "time", leaf) for leaf in found] == [Ignored("time"), parse("2026-01-15T11:00:00Z")]
