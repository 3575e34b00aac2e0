"""The seven city files satisfy the pipeline's own model, and the simulator reads the same from them."""

from pathlib import Path

import pytest

from ingest.city import load as load_city
from simulator.cities import CityFileError, load
from simulator.dialects import DIALECTS

CITIES = Path(__file__).parents[3] / "deploy" / "cities"
NUMBERS = {
    "luebeck": "01003000",
    "kiel": "01002000",
    "rostock": "13003000",
    "schwerin": "13004000",
    "neubrandenburg": "13071107",
    "stralsund": "13073088",
    "wismar": "13074087",
}


def test_the_seven_cities_carry_their_official_numbers() -> None:
    found = {city.key: city.city.ags for city in map(load_city, CITIES.glob("*.toml"))}

    assert found == NUMBERS


@pytest.mark.parametrize("key", NUMBERS)
def test_a_city_subscribes_to_more_than_it_routes_so_that_nothing_vanishes(key: str) -> None:
    city = load_city(CITIES / f"{key}.toml")
    routes = {route.filter: route.dialect for route in city.route}

    assert {
        f"hanse/{key}/+/+": "hanse",
        "v3/+/devices/+/up": "ttn",
        "v3/+/devices/+/join": "ignore",
        f"hanse/{key}/status": "ignore",
    }.items() <= routes.items()
    assert city.subscriptions[:2] == (f"hanse/{key}/#", "v3/#")
    for taken in routes:
        assert any(taken.startswith(wider.removesuffix("#")) for wider in city.subscriptions), taken
    for wider in city.subscriptions:
        assert any(taken.startswith(wider.removesuffix("#")) for taken in routes), wider


def test_the_cities_speak_twelve_dialects_and_none_of_them_speaks_all() -> None:
    spoken = [{route.dialect for route in load_city(path).route} - {"ignore"} for path in CITIES.glob("*.toml")]

    assert set().union(*spoken) == {"hanse", "ttn", *DIALECTS}
    assert all(len(each) == 6 for each in spoken)


def test_the_simulator_speaks_in_each_city_what_its_file_routes() -> None:
    for place in load(CITIES):
        city = load_city(CITIES / f"{place.site.key}.toml")

        assert {route.dialect for route in city.route} == {"hanse", "ttn", "ignore", *place.site.dialects}


def test_the_simulator_reads_broker_limits_and_gauges_as_the_pipeline_does() -> None:
    for place in load(CITIES):
        city = load_city(CITIES / f"{place.site.key}.toml")

        assert (city.mqtt.host, city.mqtt.port) == (place.broker.host, place.broker.port)
        assert city.limits.max_payload_bytes == place.site.max_payload_bytes
        assert {d.match: d.parameters["mean_water_level"] for d in city.device if d.parameters} == dict(
            [*place.site.gauges, *place.site.stations]
        )


def test_the_lakes_and_rivers_inland_are_not_at_sea() -> None:
    at_sea = {place.site.key: len(place.site.sea) for place in load(CITIES)}

    assert at_sea.pop("schwerin") == at_sea.pop("neubrandenburg") == 0
    assert all(at_sea.values())
    assert len(at_sea) == 5


def test_a_city_file_without_a_key_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "lost.toml").write_text("[mqtt]\nport = 1\n")

    with pytest.raises(CityFileError, match=r"lost\.toml: city is required"):
        load(tmp_path)


def test_a_directory_without_city_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CityFileError, match="no city file"):
        load(tmp_path)


def test_a_password_comes_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("geheim\n")
    (tmp_path / "kiel.toml").write_text(
        '[city]\nkey = "kiel"\n[mqtt]\nusername = "sensors"\npassword_file = "word"\nca_file = "ca.pem"\n'
    )

    (place,) = load(tmp_path)

    assert (place.broker.username, place.broker.password) == ("sensors", "geheim")
    assert place.broker.tls
    assert tmp_path / "ca.pem" == place.broker.ca_file
