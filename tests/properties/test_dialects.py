"""Whatever arrives, a dialect answers with verdicts and never raises; bad parts never take good ones with them."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.dialects import DIALECTS, hanse
from processors.standard.observation import Ignored, Message, Reading, Reason, Rejection
from processors.standard.vocabulary import VOCABULARY
from tests.properties.stateless import MESSAGES

RECEIVED = 1_795_428_000_000_000
TOPICS = {"hanse": "hanse/rostock/weather/weather-07", "ttn": "v3/app1/devices/dev1/up"}

HANSE = {
    "v": 1,
    "device": "weather-07",
    "time": "2026-11-23T10:00:00Z",
    "readings": [
        {"property": "air_temperature", "value": 7.4, "unit": "Cel", "channel": "roof", "quality": 1},
        {"property": "precipitation", "value": 1, "unit": "mm", "time": "2026-11-23T09:50:00.5+01:00"},
        {"property": "pm10", "value": None, "unit": "ug/m3", "quality": 9, "parameters": {"height_m": 3}},
    ],
}
TTN = {
    "end_device_ids": {"device_id": "dev1"},
    "received_at": "2026-11-23T10:00:00.714773143Z",
    "uplink_message": {
        "normalized_payload": [{"air": {"temperature": 7.4, "location": "indoor"}, "soil": {"depth": 10, "ec": 0.4}}],
        "decoded_payload": {"time": "2026-11-23T10:00:00Z", "t": 7, "list": [1, True, "x", None]},
        "rx_metadata": [{"time": "2026-11-23T10:00:00.487Z", "rssi": -35}],
    },
}
VALID = {"hanse": HANSE, "ttn": TTN} | {dialect: body for dialect, (_, body) in MESSAGES.items()}
TOPICS |= {dialect: topic for dialect, (topic, _) in MESSAGES.items()}

texts = st.text() | st.sampled_from(
    ["", "\0", "\ud800", "NaN", "1970-01-01T00:00:00Z", "2026-10-25T02:30:00", "9999-12-31T23:59:60-23:59", "x" * 300]
)
scalars = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


def places(node, path=()):
    """Every place in a JSON value, as a path."""
    yield path
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield from places(node[key], (*path, key))


def changed(node, path, change):
    """A copy with what is at `path` changed; None leaves it out."""
    if not path:
        return change(node)
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = changed(node[path[0]], path[1:], change)
    return copy


def encoded(body):
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@st.composite
def altered(draw, dialect):
    """A valid message with some of its parts replaced by anything, as JSON text or what passes for it."""
    body = VALID[dialect]
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(sorted(places(body), key=repr)))
        with_what = draw(values)
        body = changed(body, path, lambda _, new=with_what: new)
    return json.dumps(body).encode()


@st.composite
def damaged(draw, dialect):
    """The bytes of a valid message, cut, spliced or overwritten."""
    payload = bytearray(encoded(VALID[dialect]))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(payload)))
        payload[start : start + draw(st.integers(0, 8))] = draw(
            st.binary(max_size=6) | st.sampled_from([b"NaN", b"\\u0000", b"\\ud800", b"1e999", b"[[[[", b'"', b"}"])
        )
    return bytes(payload)


def payloads(dialect):
    anything = st.binary() | values.map(encoded) | damaged(dialect)
    return anything if isinstance(VALID[dialect], bytes) else anything | altered(dialect)


def check(verdict, limit):
    if isinstance(verdict, Rejection | Ignored):
        return
    assert isinstance(verdict, list)
    assert 0 < len(verdict) <= limit
    for leaf in verdict:
        if isinstance(leaf, Reading):
            assert leaf.device
            assert leaf.value is None or (type(leaf.value) is float and abs(leaf.value) < float("inf"))
            assert (leaf.value is None) == (leaf.quality == 9)
            assert leaf.time is None or type(leaf.time) is int
            assert leaf.property is None or leaf.property in VOCABULARY
            f"{leaf.device}{leaf.channel}{leaf.key}{leaf.unit}".encode()  # storable: no lone surrogate
            assert "\0" not in f"{leaf.device}{leaf.channel}{leaf.key}{leaf.unit}"
        elif isinstance(leaf, Rejection):
            assert type(leaf.reason) is Reason
            assert leaf.detail
        else:
            assert isinstance(leaf, Ignored)


@pytest.mark.parametrize("dialect", sorted(VALID))
@given(data=st.data())
@settings(max_examples=200)
def test_every_payload_gets_verdicts_and_none_raises(dialect, data):
    payload = data.draw(payloads(dialect))
    limit = data.draw(st.sampled_from([1, 3, 10_000]))
    message = Message(TOPICS[dialect], payload, RECEIVED, retain=data.draw(st.booleans()), max_readings=limit)
    check(DIALECTS[dialect](message), limit)


@given(payload=payloads("hanse"), retain=st.booleans(), topic=st.sampled_from([TOPICS["hanse"], "other"]))
@settings(max_examples=600)
def test_the_fast_and_the_slow_way_of_the_native_message_agree(payload, retain, topic):
    message = Message(topic, payload, RECEIVED, retain=retain, max_readings=3)
    assert hanse.decode(message) == hanse.decode_slowly(message)


@given(bad=values, place=st.integers(0, 3), member=st.sampled_from(["property", "value", "unit", "time", "channel"]))
@settings(max_examples=300)
def test_a_bad_reading_never_touches_its_neighbours(bad, place, member):
    good = hanse.decode(Message(TOPICS["hanse"], json.dumps(HANSE).encode(), RECEIVED))
    readings = list(HANSE["readings"])
    readings.insert(place, readings[0] | {member: bad})
    found = hanse.decode(Message(TOPICS["hanse"], json.dumps(HANSE | {"readings": readings}).encode(), RECEIVED))
    if isinstance(found, Rejection):  # json.dumps writes floats that are no JSON
        assert found.reason is Reason.INVALID_JSON
        return
    assert len(found) == len(good) + 1
    assert found[:place] + found[place + 1 :] == good


@pytest.mark.parametrize("depth", [199, 200, 201, 202, 203, 5000])
def test_the_depth_limit_is_the_same_on_both_ways(depth):
    # The value of an unknown member: two levels less than the message has.
    nested = (b"[" * (depth - 1)) + (b"]" * (depth - 1))
    payload = json.dumps(HANSE | {"note": "@"}).encode().replace(b'"@"', nested)
    message = Message(TOPICS["hanse"], payload, RECEIVED)
    found = hanse.decode(message)
    assert found == hanse.decode_slowly(message)
    assert isinstance(found, list) is (depth <= 201)
