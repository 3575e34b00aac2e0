"""A city file pointed at a local broker says the same but for the address and the login."""

import tomllib
from pathlib import Path

import pytest
from local.cityfiles import localised, loopback

from ingest.city import load

SHIPPED = sorted((Path(__file__).parents[3] / "deploy/cities").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_city_file_keeps_all_but_the_address(path: Path, tmp_path: Path) -> None:
    target = tmp_path / path.name
    target.write_text(localised(path.read_text(), loopback(20_001)))
    there, here = load(path), load(target)
    assert (here.mqtt.host, here.mqtt.port) == ("127.0.0.1", 20_001)
    same = {"mqtt": there.mqtt}
    assert here.model_copy(update=same) == there
    assert here.mqtt.subscribe == there.mqtt.subscribe


def test_the_login_of_the_real_broker_is_left_out() -> None:
    text = '[city]\nkey = "a"\nhost = "kept"\n[mqtt] # broker\nhost="x"\nusername = "u"\npassword_file = "p"\n'
    text += 'ca_file = "c"\nclient_id = "g"\n[limits]\nport = 1\n'
    assert tomllib.loads(localised(text, loopback(5))) == {
        "city": {"key": "a", "host": "kept"},
        "mqtt": {"host": "127.0.0.1", "port": 5, "client_id": "g"},
        "limits": {"port": 1},
    }


def test_a_city_file_without_a_broker_gets_one() -> None:
    assert tomllib.loads(localised('[city]\nkey = "a"', loopback(5)))["mqtt"] == {"host": "127.0.0.1", "port": 5}
