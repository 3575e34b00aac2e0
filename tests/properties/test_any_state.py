"""Whatever arrives and whatever was remembered, a dialect answers with verdicts and never raises: from golden cases,
with bytes or JSON members replaced by anything, and with state parts that storage could have spoilt.
"""

import functools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.dialects import DIALECTS
from processors.standard.observation import Message
from tests.fuzz.verdicts import RECEIVED, decode_and_check, seeds

texts = st.text(max_size=12) | st.sampled_from(["", "\0", "\ud800", "NaN", "23,5", "45%", "°C", "x" * 300, "a/b/c"])
scalars = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


@functools.cache
def seeds_of(dialect):
    return [seed for seed in seeds(dialect) if len(seed.payload) < 4_000]


def places(node, path=()):
    yield path
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield from places(node[key], (*path, key))


def changed(node, path, new):
    if not path:
        return new
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = changed(node[path[0]], path[1:], new)
    return copy


def altered(draw, body):
    """JSON with some of its members replaced by anything."""
    for _ in range(draw(st.integers(1, 3))):
        body = changed(body, draw(st.sampled_from(sorted(places(body), key=repr))), draw(values))
    return body


def spoilt(draw, payload):
    how = draw(st.sampled_from(["as it is", "json", "bytes", "anything"]))
    if how == "json":
        try:
            return json.dumps(altered(draw, json.loads(payload))).encode()
        except (ValueError, RecursionError):
            how = "bytes"
    if how == "bytes":
        parts = bytearray(payload)
        for _ in range(draw(st.integers(1, 4))):
            start = draw(st.integers(0, len(parts)))
            parts[start : start + draw(st.integers(0, 8))] = draw(
                st.binary(max_size=6) | st.sampled_from([b"NaN", b"\\u0000", b"\\ud800", b"1e999", b"[[[[", b'"', b"}"])
            )
        return bytes(parts)
    return payload if how == "as it is" else draw(st.binary())


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@given(data=st.data())
@settings(max_examples=100)
def test_no_payload_topic_or_state_makes_a_dialect_raise(dialect, data):
    draw = data.draw
    seed = draw(st.sampled_from(seeds_of(dialect)))
    topic = draw(st.just(seed.topic) | st.sampled_from(seeds_of(dialect)).map(lambda other: other.topic) | texts)
    state = altered(draw, seed.state) if draw(st.booleans()) else seed.state
    message = Message(
        topic,
        spoilt(draw, seed.payload),
        draw(st.sampled_from([0, RECEIVED])),
        retain=draw(st.booleans()),
        max_readings=draw(st.sampled_from([1, 3, 10_000])),
        options=seed.options,
        replayed=draw(st.booleans()),
    )
    decode_and_check(dialect, message, state if isinstance(state, dict) else {})
