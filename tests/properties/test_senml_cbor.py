"""SenML says the same in JSON and in CBOR, with the RFC's labels or JSON's names, and broken CBOR never raises."""

import json

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.dialects.senml import decode
from processors.standard.observation import Ignored, Message, Reading, Rejection

RECEIVED = 1_795_428_000_000_000
LABELS = {"bver": -1, "bn": -2, "bt": -3, "bu": -4, "bv": -5, "bs": -6, "n": 0, "u": 1, "v": 2, "vs": 3, "vb": 4} | {
    "s": 5,
    "t": 6,
    "ut": 7,
}
numbers = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
times = st.integers(-(2**29), 2**31) | st.floats(-1e6, 2e9)
names = st.sampled_from(["", "temp", "urn:dev:ow:10e2073a0108006:", "a/b", "x"])
anything = st.none() | st.booleans() | numbers | st.text(st.characters(codec="utf-8"))
records = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("bn", "n"), names | anything),
        **{name: st.sampled_from(["Cel", "%RH", "lon", "A"]) | anything for name in ("bu", "u")},
        **dict.fromkeys(("bt", "t"), times | anything),
        **dict.fromkeys(("bv", "v", "bs", "s"), numbers | anything),
        "vb": st.booleans() | anything,
        "vs": anything,
        "future_": anything,
    },
)


def told(payload):
    return decode(Message("senml/x", payload, RECEIVED))


@given(st.lists(records, max_size=6))
@settings(max_examples=300)
def test_json_and_cbor_say_the_same(pack):
    labelled = [{LABELS.get(name, name): value for name, value in record.items()} for record in pack]
    assert told(cbor2.dumps(pack)) == told(json.dumps(pack).encode())
    assert told(cbor2.dumps(labelled)) == told(json.dumps(pack).encode())


@given(st.lists(records, min_size=1, max_size=3), st.data())
@settings(max_examples=400)
def test_broken_cbor_gets_verdicts(pack, data):
    payload = bytearray(cbor2.dumps(pack))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(payload)))
        payload[start : start + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    found = told(bytes(payload))
    assert isinstance(found, Rejection) or all(isinstance(leaf, Reading | Rejection | Ignored) for leaf in found)
    for leaf in found if isinstance(found, list) else ():
        if isinstance(leaf, Reading):
            assert leaf.value is None or type(leaf.value) is float
            f"{leaf.device}{leaf.key}{leaf.unit}".encode()
