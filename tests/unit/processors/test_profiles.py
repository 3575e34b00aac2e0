"""Profile files: everything wrong with one is said with its place, value and cure, before anything connects."""

from pathlib import Path
from typing import Any

import pytest

from ingest.city import City
from processors.matching import load_profiles
from processors.profiles import ProfileError, directory, load, of_city
from processors.report import by_key, by_profile, fixed_by
from processors.standard.vocabulary import VOCABULARY

GOOD = """
[[profile]]
name = "acme-t1"
title = "T1"
source = "made up"
match = ["acme/t1"]
ignore = ["fw"]
[profile.keys]
t = { property = "air_temperature", unit = "°C" }
"probe.*.t" = { property = "water_temperature", unit = "°C", channel = "{1}" }
[[profile.example]]
decoded = '{"t": 1}'
observations = [{ property = "air_temperature", value = 1 }]
"""


def loaded(folder: Path, text: str) -> Any:
    (folder / "acme.toml").write_text(text, encoding="utf-8")
    return load(folder)


def test_a_file_gives_its_profiles_by_name(tmp_path: Path) -> None:
    assert list(loaded(tmp_path, GOOD)) == ["acme-t1"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            '"air_temperature", unit',
            '"air_temprature", unit',
            "profile[1].keys.t.property = 'air_temprature': no such property",
        ),
        ('unit = "°C" }\n"', 'unit = "hPa" }\n"', "unit 'hPa' does not convert; air_temperature takes Cel"),
        ('"{1}"', '"{2}"', "{2} is none of {1}, {channel}"),
        ('t = { property = "air_temperature", unit = "°C" }', "t = { }", "a key is either a property or a time"),
        ('t = { property = "air_temperature", unit = "°C" }', 't = { time = "s", scale = 2 }', "a time has neither"),
        ('t = { property = "air_temperature", unit = "°C" }', "a.t = { }", "a path with dots is written in quotes"),
        ('source = "made up"', "", "profile[1].source: is required"),
        ("[[profile.example]]", "[[profile.exampel]]", "profile[1].exampel"),
        ("decoded = '{\"t\": 1}'", 'topic = "a"', "either 'decoded', or 'dialect', 'topic' and 'payload'"),
        ('match = ["acme/t1"]', "match = []", "profile[1].match"),
        ('"acme-t1"', '"Acme T1"', "profile[1].name = 'Acme T1'"),
        ("ignore", "ignore ignore", "not TOML"),
    ],
)
def test_a_fault_says_place_value_and_cure(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in GOOD
    with pytest.raises(ProfileError) as error:
        loaded(tmp_path, GOOD.replace(old, new, 1))
    assert str(error.value).startswith(str(tmp_path / "acme.toml"))
    assert told in str(error.value)


def test_a_states_values_are_nought_and_one(tmp_path: Path) -> None:
    key = 't = { property = "parking_spot_occupied", values = { busy = 2 } }'
    with pytest.raises(ProfileError, match="parking_spot_occupied is a state"):
        loaded(tmp_path, GOOD.replace('t = { property = "air_temperature", unit = "°C" }', key))


def test_two_profiles_of_one_name_are_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="has one of that name"):
        loaded(tmp_path, GOOD + GOOD)


def test_a_missing_directory_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="HANSE_PROFILES_DIR"):
        load(tmp_path / "nowhere")


def test_the_environment_names_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(tmp_path, GOOD)
    monkeypatch.setenv("HANSE_PROFILES_DIR", str(tmp_path))
    assert directory() == tmp_path
    assert list(load_profiles([]).shared) == ["acme-t1"]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"keys": {"t": {"property": "pm10"}}}, "name at least one of match (models), devices or topics"),
        ({"devices": ["d"]}, "give it keys, or 'use' a shared profile"),
        ({"devices": ["d"], "use": "nobody"}, "no shared profile of that name"),
        ({"topics": ["a/#/b"], "use": "acme-t1"}, "profile[1]: topics[1] = 'a/#/b'"),
    ],
)
def test_a_citys_own_profile_is_checked_the_same(table: dict[str, Any], told: str) -> None:
    city = City.model_validate(
        {"city": {"key": "a", "name": "A"}, "route": [{"filter": "#", "dialect": "ttn"}], "profile": [table]}
    )
    with pytest.raises(ProfileError) as error:
        of_city(city, ["acme-t1"])
    assert told in str(error.value)


def test_the_report_counts_what_dialects_profiles_and_keys_reach(tmp_path: Path) -> None:
    assert fixed_by("hanse") == set(VOCABULARY)
    assert {"air_temperature", "soil_ph"} <= fixed_by("ttn") < set(VOCABULARY)
    assert by_profile(loaded(tmp_path, GOOD)) == {"air_temperature": {"acme-t1"}, "water_temperature": {"acme-t1"}}
    assert {"co2", "electric_voltage", "heat_flow_temperature"} <= by_key()
    assert "vehicle_count" not in by_key()
