"""`raw_value` of `explain` is the number as it was written, whatever a double makes of it."""

import json
from typing import Any

import pytest

from processors.explain import answer
from processors.explaining import Explainer, Told
from processors.verbatim import dumps

TTN = "v3/a/devices/d/up"


def explained(topic: str, payload: str) -> str:
    (found,) = Explainer().explain([Told(topic, payload.encode(), 1_795_428_000_000)])
    return dumps(answer(found))


def uplink(members: str) -> str:
    return f'{{"end_device_ids": {{"device_id": "d"}}, "uplink_message": {{"decoded_payload": {{{members}}}}}}}'


def values(text: str) -> dict[str, Any]:
    """Raw values by key, numbers as their tokens."""
    found = json.loads(text, parse_int=lambda token: ("number", token), parse_float=lambda token: ("number", token))
    return {one["raw_key"]: one["raw_value"] for one in (*found["observations"], *found["rejections"])}


@pytest.mark.parametrize(
    "token",
    [
        "1e400",
        "-2E+999",
        "9007199254740993",
        "-18446744073709551615",
        "0.12345678901234567890",
        "1e-99999999999999999999",
    ],
)
def test_a_number_that_no_double_holds_keeps_its_digits(token: str) -> None:
    assert values(explained(TTN, uplink(f'"a": {token}, "b": 5, "c": {{"a": 7.5}}'))) == {
        "a": ("number", token),
        "b": ("number", "5"),
        "c.a": ("number", "7.5"),
    }


def test_an_observation_shows_it_too() -> None:
    body = {"v": 1, "device": "d", "readings": [{"property": "air_temperature", "value": "?", "unit": "K"}]}
    text = explained("hanse/w/weather/d", json.dumps(body).replace('"?"', "280.12345678901234567890"))
    assert values(text) == {"air_temperature": ("number", "280.12345678901234567890")}


def test_numbers_that_become_one_double_are_told_apart_by_their_keys() -> None:
    text = explained(
        TTN, uplink('"a": 1e400, "b": 1e500, "c": {"a": 1e600}, "d": [9007199254740993, 9007199254740992]')
    )
    assert values(text) == {
        "a": "Infinity",  # c.a ends so too, and a guess would be worse
        "b": ("number", "1e500"),
        "c.a": ("number", "1e600"),
        "d.0": ("number", "9007199254740993"),
        "d.1": ("number", "9007199254740992.0"),
    }


def test_a_text_is_no_number_however_it_looks() -> None:
    found = values(explained(TTN, uplink('"a": "Infinity", "b": 1e400, "c": "1e400"')))
    assert found["a"] == "Infinity"
    assert found["b"] == ("number", "1e400")
    assert found["c"] == "1e400"


def test_what_no_json_was_read_from_is_left_as_it_is() -> None:
    assert json.loads(explained("/ul/k/d/attrs", "t|12345678901234567890"))["observations"] == []
    assert json.loads(explained(TTN, '{"a": 1e400'))["rejections"][0]["raw_value"] is None
