import pytest

from ingest.city import City, CityFileError
from processors.routes import Routes, pattern, unknown_dialects

DIALECTS = ("hanse", "ttn")


def city(*routes):
    return City.model_validate(
        {
            "city": {"key": "rostock", "name": "Rostock"},
            "route": [{"filter": topic_filter, "dialect": dialect} for topic_filter, dialect in routes],
        }
    )


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b", "/a/b", False),
        ("a/+", "a/b", True),
        ("a/+", "a/", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("+/+", "/b", True),
        ("+", "/b", False),
        ("a/#", "a", True),
        ("a/#", "a/", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("a/+/#", "a", False),
        ("a/+/#", "a/b", True),
        ("#", "a/b", True),
        ("#", "/", True),
        ("#", "$SYS/broker", False),
        ("+/broker", "$SYS/broker", False),
        ("$SYS/#", "$SYS/broker", True),
        ("a/+", "a/$b", True),
        ("a.c", "abc", False),
        ("a/+", "a/line\nbreak", True),
        ("a/#", "a/line\nbreak/b", True),
        ("v3/+/devices/+/up", "v3/app@ttn/devices/dev-1/up", True),
        ("v3/+/devices/+/up", "v3/app@ttn/devices/dev-1/join", False),
    ],
)
def test_filters_match_as_mqtt_defines(topic_filter, topic, expected):
    assert bool(pattern(topic_filter).fullmatch(topic)) is expected


def test_the_first_route_that_matches_wins():
    routes = Routes(city(("hanse/+/test/#", "ignore"), ("hanse/#", "hanse"), ("#", "ttn")), DIALECTS)
    assert routes.match("hanse/rostock/test/x").dialect == "ignore"
    assert routes.match("hanse/rostock/weather/x").dialect == "hanse"
    assert routes.match("v3/app/devices/x/up").dialect == "ttn"


def test_a_topic_that_no_route_takes_has_none():
    assert Routes(city(("hanse/#", "hanse")), DIALECTS).match("zigbee2mqtt/x") is None


def test_an_unknown_dialect_is_named_with_its_place_and_the_cure():
    wrong = city(("a/#", "hanse"), ("b/#", "hansa"))
    assert unknown_dialects(wrong, DIALECTS) == [
        "route[2].dialect = 'hansa': no such dialect; one of hanse, ignore, ttn"
    ]
    with pytest.raises(CityFileError, match="city rostock: route\\[2\\]"):
        Routes(wrong, DIALECTS)


def test_ignore_is_always_a_dialect():
    assert unknown_dialects(city(("a/#", "ignore")), DIALECTS) == []
