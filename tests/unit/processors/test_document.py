"""The standard as a document: current, complete, and its schema takes what the decoder takes."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.dialects import hanse
from processors.document import DOCS, KINDS, TESTS, schema, texts
from processors.standard.consistency import CONSISTENCY, SOURCES
from processors.standard.meanings import MEANINGS
from processors.standard.observation import Message, QualityTest, Reading
from processors.standard.spellings import UNITS
from processors.standard.unece import CODES
from processors.standard.vocabulary import KINDS as KNOWN_KINDS
from processors.standard.vocabulary import VOCABULARY
from storage.series import MEMORY_US

SCHEMA = schema()


@pytest.mark.parametrize(("name", "text"), texts().items(), ids=texts())
def test_the_written_file_is_current(name: str, text: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == text, "run: python -m processors.document"


def test_every_property_kind_and_test_is_explained() -> None:
    assert set(MEANINGS) == set(VOCABULARY)
    assert set(KINDS) == KNOWN_KINDS
    assert set(TESTS) == set(QualityTest)


def test_every_test_over_time_has_a_source_and_fits_its_property() -> None:
    for key, tests in CONSISTENCY.items():
        known = VOCABULARY[key]
        cited = {one[-1] for one in (tests.spike, *tests.rate, tests.flat) if one}
        assert cited, key
        assert cited <= set(SOURCES), key
        assert known.aggregation != "direction", key
        differences = [one[0] for one in (tests.spike, *tests.rate) if one]
        assert all(0 < one < known.maximum - known.minimum for one in differences), key
        assert tests.flat is None or tests.flat[0] * 1_000_000 <= MEMORY_US / 2, key
        assert len(tests.rate) <= 2, key


def test_every_code_of_un_cefact_belongs_to_a_unit_of_ours() -> None:
    assert set(CODES) <= set(UNITS)
    assert all(re.fullmatch(r"[0-9A-Z]{2,3}", code) for code in CODES.values())


CHECKS = {
    "type": lambda told, value, root: {
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "string": isinstance(value, str),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "boolean": isinstance(value, bool),
        "null": value is None,
    }[told],
    "enum": lambda told, value, root: any(type(one) is type(value) and one == value for one in told),
    "const": lambda told, value, root: type(told) is type(value) and told == value,
    "minimum": lambda told, value, root: value >= told,
    "maximum": lambda told, value, root: value <= told,
    "minLength": lambda told, value, root: len(value) >= told,
    "maxLength": lambda told, value, root: len(value) <= told,
    "minItems": lambda told, value, root: len(value) >= told,
    "items": lambda told, value, root: all(valid(told, one, root) for one in value),
    "required": lambda told, value, root: set(told) <= set(value),
    "properties": lambda told, value, root: all(valid(told[k], value[k], root) for k in told if k in value),
    "additionalProperties": lambda told, value, root: all(valid(told, one, root) for one in value.values()),
    "anyOf": lambda told, value, root: any(valid(one, value, root) for one in told),
    "not": lambda told, value, root: not valid(told, value, root),
    "$ref": lambda told, value, root: valid(root["$defs"][told.rpartition("/")[2]], value, root),
}
SAID = {"$schema", "$defs", "title", "description", "if", "then", "else"}


def valid(node: dict[str, Any], value: Any, root: dict[str, Any] = SCHEMA) -> bool:
    """JSON Schema, as far as this one goes; a keyword that it does not know raises."""
    if "type" in node and not CHECKS["type"](node["type"], value, root):
        return False
    if "if" in node and not valid(node["then"] if valid(node["if"], value, root) else node["else"], value, root):
        return False
    return all(CHECKS[word](told, value, root) for word, told in node.items() if word not in SAID)


odd = (
    st.none()
    | st.booleans()
    | st.integers(-5, 12)
    | st.floats(0.1, 0.9)
    | st.text(max_size=3)
    | st.just([])
    | st.just({})
)
readings = st.fixed_dictionaries(
    {
        "property": st.sampled_from(["air_temperature", "pm10", "no_such"]) | odd,
        "value": st.none() | st.floats(-50, 50) | st.integers(-5, 5) | odd,
        "unit": st.sampled_from(["Cel", "x" * 64, "x" * 65]) | odd,
    },
    optional={
        "time": st.just("2026-11-23T10:00:00Z") | st.none() | st.integers(1, 5),
        "channel": st.sampled_from(["", "a", "x" * 255, "x" * 256]) | odd,
        "quality": st.sampled_from([1, 2, 3, 4, 9, None]) | odd,
        "parameters": st.none() | st.dictionaries(st.text("ab", max_size=2), odd, max_size=2) | odd,
        "unknown": odd,
    },
)
right = st.fixed_dictionaries({"property": st.just("pm10"), "value": st.integers(0, 9), "unit": st.just("ug/m3")})
messages = st.fixed_dictionaries(
    {
        "v": st.just(1) | odd,
        "device": st.just("w1") | st.sampled_from(["", "x" * 256]) | odd,
        "readings": st.lists(right | readings, min_size=1, max_size=3) | odd,
    },
    optional={"time": st.just("2026-11-23T10:00:00Z") | st.none(), "unknown": odd},
)


@given(
    messages
    | st.fixed_dictionaries({"v": st.just(1), "device": st.just("w1"), "readings": st.lists(readings, min_size=1)})
)
@settings(max_examples=500)
def test_the_schema_takes_what_the_decoder_takes_and_nothing_else(body: dict[str, Any]) -> None:
    payload = json.dumps(body).encode()
    leaves = hanse.decode(Message("hanse", payload, 1_795_428_000_000_000))
    taken = isinstance(leaves, list) and all(isinstance(leaf, Reading) for leaf in leaves)
    assert valid(SCHEMA, body) == taken, (body, leaves)
