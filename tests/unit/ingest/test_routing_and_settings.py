from datetime import timedelta

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ingest import city as ingest_city
from ingest import wire
from ingest.city import City, CityFileError, load
from ingest.kafka import partition_of
from ingest.routing import matches, targets
from ingest.session import SessionState
from ingest.settings import Settings
from ingest.topics import LONG_MAX, topic_faults, topic_settings, topic_warnings
from service.settings import faults
from storage import roles

DAYS_14 = timedelta(days=14)
RIGHT = topic_settings(DAYS_14)


def city(*routes):
    return City.model_validate({"city": {"key": "unit", "name": "Unit"}, "route": list(routes)})


def target(topic, *routes):
    return targets(city(*routes), "gateway-unit", len)(topic)


@given(st.binary(min_size=1, max_size=80), st.integers(1, 48))
def test_a_key_goes_where_kafkas_default_partitioner_sends_it(key, partitions):
    everywhere = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everywhere, everywhere)


def test_a_topic_is_its_own_key_and_travels_in_no_header():
    found = target(b"hanse/r/1", {"filter": "hanse/#", "dialect": "hanse"})
    assert found.key == b"hanse/r/1"
    assert dict(found.headers[1]) == {"v": b"1", "gw": b"gateway-unit", "mqtt": b"\x01"}


def test_a_route_that_names_key_levels_orders_by_them_and_the_topic_becomes_a_header():
    route = {"filter": "spBv1.0/#", "dialect": "sparkplug", "key_levels": [1, 3]}
    found = target(b"spBv1.0/group/NDATA/edge/device", route)
    assert found.key == b"group/edge"
    envelope = wire.envelope(found.key, found.headers[0b1101])
    assert (envelope.topic, envelope.qos, envelope.retain, envelope.dup) == (
        "spBv1.0/group/NDATA/edge/device",
        1,
        True,
        True,
    )


def test_the_first_route_that_takes_the_topic_decides():
    routes = [{"filter": "a/+", "dialect": "x", "key_levels": [0]}, {"filter": "a/#", "dialect": "y"}]
    assert target(b"a/b", *routes).key == b"a"
    assert target(b"a/b/c", *routes).key == b"a/b/c"


def test_records_with_equal_flags_share_their_headers():
    find = targets(city({"filter": "#", "dialect": "hanse"}), "gw", lambda key: 0)
    assert find(b"a").headers[1] is find(b"b").headers[1]


def test_a_topic_that_is_no_text_still_has_a_target():
    assert target(b"a/\xff", {"filter": "#", "dialect": "hanse"}).key == b"a/\\xff"


@pytest.mark.parametrize(
    ("topic_filter", "topic", "taken"),
    [
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("+", "a/b", False),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("a/b", "a/b/c", False),
    ],
)
def test_filters_match_as_mqtt_says(topic_filter, topic, taken):
    assert matches(topic_filter, topic) is taken


@pytest.mark.parametrize(
    ("partitions", "settings", "fault"),
    [
        (None, None, "does not exist; make it with hanse-gateway create-topic"),
        (12, RIGHT, "has 12 partitions, HANSE_KAFKA_PARTITIONS says 6; set it to 12, "),
        (6, {**RIGHT, "cleanup.policy": "compact"}, "has cleanup.policy = compact; set it to delete"),
        (6, {**RIGHT, "max.message.bytes": "1048588"}, "has max.message.bytes = 1048588; set it to 2097152"),
        (
            6,
            {**RIGHT, "message.timestamp.after.max.ms": "3600000"},
            f"has message.timestamp.after.max.ms = 3600000; set it to {LONG_MAX}",
        ),
        (6, {**RIGHT, "retention.bytes": "1073741824"}, "has retention.bytes = 1073741824; set it to -1"),
        (
            6,
            {**RIGHT, "retention.ms": "604800000"},
            "has retention.ms = 604800000, HANSE_KAFKA_RETENTION promises P14D; set it to 1209600000, or promise less",
        ),
    ],
)
def test_a_wrong_topic_is_said_with_its_cure(partitions, settings, fault):
    [said] = topic_faults(partitions, settings, 6, DAYS_14)
    assert said.startswith(fault)


@pytest.mark.parametrize(
    "settings", [RIGHT, None, {**RIGHT, "retention.ms": "-1"}, {**RIGHT, "retention.ms": "9" * 12}]
)
def test_a_topic_that_is_right_or_more_than_right_has_no_fault(settings):
    assert topic_faults(6, settings, 6, DAYS_14) == []


def test_a_topic_that_keeps_longer_than_promised_is_right_and_warned_of():
    """Raising it is the first thing to do against a backlog; then the readings must be kept for longer too."""
    assert topic_warnings(RIGHT, DAYS_14) == topic_warnings(None, DAYS_14) == []
    [said] = topic_warnings({**RIGHT, "retention.ms": str(30 * 86_400_000)}, DAYS_14)
    assert said.startswith("keeps records longer (P30D) than HANSE_KAFKA_RETENTION says (P14D): raise that")
    [said] = topic_warnings({**RIGHT, "retention.ms": "-1"}, DAYS_14)
    assert "(without end)" in said
    assert topic_faults(6, RIGHT, 6, timedelta(hours=36)) == []
    [said] = topic_faults(6, RIGHT, 6, timedelta(hours=400))
    assert "promises PT400H; set it to 1440000000" in said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HANSE_KAFKA_PARTITIONS", "six", "HANSE_KAFKA_PARTITIONS = 'six': "),
        ("HANSE_KAFKA_BOOTSTRAP_SERVERS", "kafka", "HANSE_KAFKA_BOOTSTRAP_SERVERS = 'kafka': "),
        ("HANSE_KAFKA_CA_FILE", "/nowhere/ca.crt", "No such file or directory"),
        ("HANSE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL", "HANSE_KAFKA_USERNAME"),
        (
            "HANSE_GATEWAY_STATE_DIR",
            "/nowhere",
            "HANSE_GATEWAY_STATE_DIR = '/nowhere': should be an existing directory",
        ),
        ("HANSE_HTTP_ADDRESS", "9101", "HANSE_HTTP_ADDRESS = '9101': "),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    [line] = faults(caught.value)
    assert said in line
    assert "\n" not in line


def test_what_another_client_id_was_subscribed_to_is_not_ours(tmp_path):
    route = {"filter": "a/#", "dialect": "x"}
    SessionState(tmp_path, city(route)).remember(("a/#",))
    other = City.model_validate(
        {"city": {"key": "unit", "name": "Unit"}, "route": [route], "mqtt": {"client_id": "gateway-2"}}
    )
    assert SessionState(tmp_path, city(route)).filters() == ("a/#",)
    assert SessionState(tmp_path, other).filters() == ()


def test_a_damaged_memory_of_filters_is_none(tmp_path):
    (tmp_path / "unit.session.json").write_text("{")
    assert SessionState(tmp_path, city({"filter": "#", "dialect": "x"})).filters() == ()


def written(folder, key, more=""):
    """A city file."""
    path = folder / "city.toml"
    path.write_text(f'[city]\nkey = "{key}"\nname = "Unit"\n[[route]]\nfilter = "#"\ndialect = "x"\n{more}')
    return path


def test_the_city_file_and_the_database_reserve_the_same_keys():
    assert ingest_city.RESERVED == roles.RESERVED


@pytest.mark.parametrize("key", sorted(roles.RESERVED))
def test_a_key_that_a_database_role_has_is_refused_with_place_value_and_cure(tmp_path, key):
    with pytest.raises(CityFileError) as caught:
        load(written(tmp_path, key))
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/city.toml: city.key = '{key}': reserved for a database role")
    assert said.endswith("choose another")


def test_a_parameter_by_its_former_name_is_refused_with_the_new_one(tmp_path):
    device = '[[device]]\nmatch = "*"\nparameters = { %s = 600 }\n'
    assert load(written(tmp_path, "unit", device % "interval_s")).device[0].parameters == {"interval_s": 600}
    with pytest.raises(CityFileError, match=r"device\[1\] = .*parameters.interval_seconds: it is called interval_s"):
        load(written(tmp_path, "unit", device % "interval_seconds"))
