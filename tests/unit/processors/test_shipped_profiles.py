"""The profiles of the installation: they load and convert, claim each model once, and cover what cities buy."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.city import City
from processors.matching import Matcher, Profiles, normal_model
from processors.profiles import Key, SharedProfile, load
from processors.profiles import of_city as profiles_of_city
from processors.standard import units
from processors.standard.vocabulary import VOCABULARY

ROOT = Path(__file__).parents[3]
SHARED = load(ROOT / "deploy" / "profiles")
PAGE = (ROOT / "docs" / "device-profiles.md").read_text(encoding="utf-8")
MATCHER = Matcher(Profiles(SHARED), "wismar")

MAKERS = {"adeunis", "decentlab", "dragino", "elsys", "libelium", "milesight-iot", "sensative", "tektelic", "watteco"}
FEWEST_MODELS = 40
# Names that operators give to device profiles in ChirpStack, and whose models those are.
CHIRPSTACK = {
    "Milesight EM300-TH": "milesight-em300-th",
    "EM500-UDL": "milesight-distance",
    "milesight_ws302": "milesight-ws302",
    "Dragino LDDS75": "dragino-distance",
    "LSE01 Soil": "dragino-soil",
    "DL-ATM41": "decentlab-atm41",
    "DL-ATM41G2": "decentlab-atm41",
    "Elsys ERS CO2": "elsys-ers",
    "ERS CO2 Lite": "elsys-ers",
    "ELSYS": "elsys-any",
    "Milesight VS999": "milesight-any",
    "Dragino LHT52": "dragino-lht52",
    "Sensative Strips Drip": "sensative-strips",
    "Thermometer": None,
    "acme/ws301": None,  # another maker's model of the same number
}


def models() -> Iterator[str]:
    """Every model that a profile names without a wildcard."""
    for profile in SHARED.values():
        yield from (text for text in profile.match if not set(text) & set("*?["))


def maker(model: str) -> str:
    return model.partition("/")[0]


def of_city(text: str) -> list[Key]:
    """The keys of a city's own profiles, as the page shows them."""
    city = City.model_validate(
        {
            "city": {"key": "wismar", "name": "Wismar"},
            "route": [{"filter": "#", "dialect": "ttn"}],
            **tomllib.loads(text),
        }
    )
    return [key for profile in profiles_of_city(city, SHARED) for key in profile.keys.values()]


def test_the_models_that_cities_buy_are_covered() -> None:
    named = set(models())
    assert len(named) >= FEWEST_MODELS
    assert {maker(model) for model in named} >= MAKERS


@pytest.mark.parametrize("model", sorted(set(models())))
def test_no_two_profiles_claim_one_model(model: str) -> None:
    assert normal_model(model) == model
    (name,) = (name for name, profile in SHARED.items() if model in profile.match)
    assert MATCHER.rivals(model) == [name]


@pytest.mark.parametrize(("name", "profile"), CHIRPSTACK.items())
def test_names_of_device_profiles_in_chirpstack_find_their_model(name: str, profile: str | None) -> None:
    assert MATCHER.rivals(name) == ([] if profile is None else [profile])


@pytest.mark.parametrize("profile", SHARED.values(), ids=SHARED)
def test_every_unit_is_written_and_converts(profile: SharedProfile) -> None:
    for path, key in profile.keys.items():
        if key.property is None:
            continue
        observed = VOCABULARY[key.property]
        unit = key.unit or ("1" if observed.unit == "1" else None)
        assert unit is not None, f"{path}: no unit, and {key.property} has one"
        assert isinstance(units.conversion(unit, observed), units.Affine), path


@pytest.mark.parametrize("profile", SHARED.values(), ids=SHARED)
def test_amounts_and_totals_are_not_confused(profile: SharedProfile) -> None:
    """By the makers' names: a total is a counter, and what counts since the last report is a sum."""
    for path, key in profile.keys.items():
        kind = VOCABULARY[key.property].kind if key.property else ""
        if re.search(r"(?i)total|sum|cumul|accum", path) and path != "total_solar_radiation.value":
            assert kind == "counter", path


@pytest.mark.parametrize("profile", SHARED.values(), ids=SHARED)
def test_a_distance_is_left_to_the_city(profile: SharedProfile) -> None:
    """The same sensors hang over rivers, rubbish and parking lots."""
    for path, key in profile.keys.items():
        if re.search(r"(?i)distance|proxx|depth", path):
            assert key.property == "soil_temperature", path  # at a depth, which is the channel


@pytest.mark.parametrize("profile", SHARED.values(), ids=SHARED)
def test_no_path_or_model_stands_twice_in_a_profile(profile: SharedProfile) -> None:
    assert not set(profile.keys) & set(profile.ignore)
    assert len(set(profile.ignore)) == len(profile.ignore)
    assert len(set(profile.match)) == len(profile.match)


@pytest.mark.parametrize("profile", SHARED.values(), ids=SHARED)
def test_the_page_lists_what_each_profile_maps(profile: SharedProfile) -> None:
    row = next((line for line in PAGE.splitlines() if line.startswith(f"| `{profile.name}` |")), "")
    listed = set(re.findall(r"`([a-z0-9_]+)`", row.split("|")[3])) if row else set()
    assert listed == {key.property for key in profile.keys.values() if key.property}


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_what_the_page_tells_a_city_to_write_can_be_loaded(text: str) -> None:
    keys = of_city(text)
    assert keys
    assert all(key.property for key in keys)


def test_the_page_counts_right() -> None:
    named = set(models())
    head = f"{len(SHARED)} profiles for {len(named)} models of {len({maker(model) for model in named})} makers"
    assert f"\n{head}." in PAGE


def test_the_page_lists_no_profile_that_is_not_shipped() -> None:
    assert set(re.findall(r"^\| `([a-z0-9._-]+)` \|", PAGE, re.MULTILINE)) == set(SHARED)


def test_the_example_of_the_page_on_profiles_is_one_that_is_shipped() -> None:
    page = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]
    assert example.startswith("[[profile]]\nname = ")
    shipped = [path.read_text(encoding="utf-8") for path in (ROOT / "deploy" / "profiles").glob("*.toml")]
    assert any(example in text for text in shipped)
    assert "(device-profiles.md)" in page
