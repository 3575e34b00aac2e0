"""The seven city files satisfy the pipeline's own model, and the simulator reads the same from them."""

from pathlib import Path

import pytest

from ingest.city import load as load_city
from simulator.cities import CityFileError, load

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

    assert (f"hanse/{key}/#", "v3/#") == city.subscriptions
    assert {
        f"hanse/{key}/+/+": "hanse",
        "v3/+/devices/+/up": "ttn",
        "v3/+/devices/+/join": "ignore",
        f"hanse/{key}/status": "ignore",
    } == {route.filter: route.dialect for route in city.route}


def test_the_simulator_reads_broker_limits_and_gauges_as_the_pipeline_does() -> None:
    for place in load(CITIES):
        city = load_city(CITIES / f"{place.site.key}.toml")

        assert (city.mqtt.host, city.mqtt.port) == (place.broker.host, place.broker.port)
        assert city.limits.max_payload_bytes == place.site.max_payload_bytes
        assert {d.match: d.parameters["mean_water_level"] for d in city.device if d.parameters} == dict(
            place.site.gauges
        )


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
