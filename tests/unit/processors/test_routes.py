import pytest

from ingest.city import City, CityFileError
from processors.dialects import hanse, ttn
from processors.routes import Routes, faults, pattern, unknown_dialects
from tests.simulated.notes import NOTES

DIALECTS = {"hanse": hanse.decode, "ttn": ttn.decode, "notes": NOTES}


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
        "route[2].dialect = 'hansa': no such dialect; one of hanse, ignore, notes, ttn"
    ]
    with pytest.raises(CityFileError, match="city rostock: route\\[2\\]"):
        Routes(wrong, DIALECTS)


def test_ignore_is_always_a_dialect():
    assert unknown_dialects(city(("a/#", "ignore")), DIALECTS) == []


def test_a_dialect_that_remembers_needs_the_levels_that_keep_a_sources_order():
    wrong = city(("notes/#", "notes"))
    [fault] = faults(wrong, DIALECTS)
    assert fault == (
        "route[1].key_levels is not set: dialect notes remembers what came before, so all messages of a source must be "
        "in one partition; name the levels of 'notes/#' that name a source, counted from 0, as in key_levels = [1, 3]"
    )
    with pytest.raises(CityFileError, match="city rostock: route\\[1\\]\\.key_levels"):
        Routes(wrong, DIALECTS)
    keyed = wrong.route[0].model_copy(update={"key_levels": (2,)})
    assert faults(wrong.model_copy(update={"route": (keyed,)}), DIALECTS) == []
