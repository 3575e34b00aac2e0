"""A bad part of a message costs itself: what stands beside it is read as if it were not there."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.dialects import DIALECTS
from processors.standard.observation import Message, Reading
from tests.properties.stateless import MESSAGES

RECEIVED = 1_795_428_000_000_000
GOOD = {"good_1": 1.5, "good_2": 2.5}

names = st.text(max_size=6) | st.sampled_from(["x", "Temperature", "ENERGY", "lightning", "loc"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


def entries(*bad):
    good = [{"value_type": name, "value": str(value)} for name, value in GOOD.items()]
    return [good[0], *bad, good[1]]


def beside(name, value):
    return {"good_1": 1.5, name: value, "good_2": 2.5}


# How each dialect's message looks with a bad part between two good ones; no argument: with the good ones alone.
BETWEEN = {
    "chirpstack": lambda *bad: {
        "deviceInfo": {"devEui": "0101010101010101"},
        "object": beside("bad", bad[0]) if bad else GOOD,
    },
    "pegelonline": lambda *bad: {
        "uuid": "bacb459b-0f24-4233-bb35-cd224a51678e",
        "timeseries": [
            {"shortname": "GOOD_1", "measurement": {"value": 1.5}},
            *bad,
            {"shortname": "GOOD_2", "measurements": [*bad, {"value": 2.5}]},
        ],
    },
    "tasmota": lambda *bad: beside("bad", bad[0]) if bad else GOOD,
    "iot_agent_json": lambda *bad: [{"good_1": 1.5}, *bad, beside("bad", bad[0]) if bad else GOOD, {"good_2": 2.5}],
    "sensor_community": lambda *bad: {"esp8266id": "1", "sensordatavalues": entries(*bad)},
    "ecowitt": lambda *bad: beside("bad", bad[0]) if bad else GOOD,
    "senml": lambda *bad: [{"n": "a/good_1", "v": 1.5}, *bad, {"n": "a/good_2", "v": 2.5}],
}


def good_ones(dialect, body):
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = DIALECTS[dialect](Message(MESSAGES[dialect][0], payload, RECEIVED))
    return [leaf for leaf in found if isinstance(leaf, Reading) and leaf.key.lower() in GOOD]


def is_a_base(part):
    """A SenML record with a base field or a version changes what follows by design."""
    return isinstance(part, dict) and not part.keys().isdisjoint({"bn", "bt", "bu", "bv", "bs", "bver"})


@pytest.mark.parametrize("dialect", sorted(BETWEEN))
@given(bad=anything)
@settings(max_examples=200)
def test_a_bad_part_never_touches_its_neighbours(dialect, bad):
    if dialect == "senml" and is_a_base(bad):
        return
    expected = good_ones(dialect, BETWEEN[dialect]())
    assert len(expected) >= 2
    assert good_ones(dialect, BETWEEN[dialect](bad)) == expected


@given(st.text(st.characters(blacklist_characters="#", codec="utf-8"), max_size=30))
@settings(max_examples=200)
def test_a_bad_group_never_touches_its_neighbours(bad):
    found = good_ones("ultralight", f"good_1|1.5#{bad}#good_2|2.5".encode())
    assert [leaf.value for leaf in found if leaf.key in GOOD][:1] == [1.5]
    assert found[-1].value == 2.5
