"""Dead letters on a terminal: readable, and without secrets."""

from datetime import UTC, datetime

import pytest
from rich.console import Console

from storage.showing import MASK, listing, masked, masked_topic, payload
from storage.topics import regex as as_regex


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ('{"PASSKEY":"A1B2","tempf":"74.5"}', f'{{"PASSKEY":{MASK},"tempf":"74.5"}}'),
        ('{"api_key": "x\\"y", "t": 1}', f'{{"api_key": {MASK}, "t": 1}}'),
        ("PASSKEY=A1B2&tempf=74.5", f"PASSKEY={MASK}&tempf=74.5"),
        ('{"mqtt_password":"secret one","v":2}', f'{{"mqtt_password":{MASK},"v":2}}'),
        ("Authorization: abc", f"Authorization: {MASK}"),
        ('{"token":12345}', f'{{"token":{MASK}}}'),
        ('{"passenger_count": 3, "authority": "HPA"}', '{"passenger_count": 3, "authority": "HPA"}'),
    ],
)
def test_the_values_of_secrets_are_masked_and_nothing_else(told: str, shown: str) -> None:
    assert masked(told) == shown


def test_the_api_key_of_a_topic_is_masked() -> None:
    assert masked_topic("/ul/4jggokgpepnvsb2uv4s40d59ov/motion001/attrs") == f"/ul/{MASK}/motion001/attrs"
    assert masked_topic("json/key/device/attrs") == f"json/{MASK}/device/attrs"
    assert masked_topic("hanse/rostock/weather/w1") == "hanse/rostock/weather/w1"


def test_text_is_shown_as_text_and_anything_else_as_hex() -> None:
    assert payload('{"größe": 1}'.encode()) == '{"größe": 1}'
    assert payload(b"\0\1AB") == "00000000  00 01 41 42                                      ..AB"
    assert payload(b"\x1b[2J") == "00000000  1b 5b 32 4a                                      .[2J"
    assert payload(b"") == "(empty)"
    assert payload(None) == "(purged)"
    assert "bytes more" in payload(b"x" * 100_000)


def test_a_secret_in_a_binary_payload_is_masked_too() -> None:
    shown = payload(b'\0\xff{"password":"geheim"}')
    assert "geheim" not in shown
    assert "67 65 68" not in shown


@pytest.mark.parametrize(
    ("topic_filter", "regex"),
    [
        ("a/#", r"^a(/.*)?$"),
        ("#", r"^.*$"),
        ("+/b.c/+", r"^[^/]*/b\.c/[^/]*$"),
        ("a/ü-x", r"^a/ü\-x$"),
    ],
)
def test_a_topic_filter_is_a_regular_expression_of_the_databases(topic_filter: str, regex: str) -> None:
    assert as_regex(topic_filter) == regex


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_letters_number_time_city_and_reason_are_whole_at_any_width(width: int) -> None:
    letter = {
        "letter_id": 1_510, "received_at": datetime(2026, 11, 26, 1, 0, 3, tzinfo=UTC), "city": "neubrandenburg",
        "reason": "conflicting_value", "device": "weather-98", "raw_key": "solar_irradiance", "raw_value": "0.0",
        "raw_unit": "W/m2", "mqtt_topic": "hanse/neubrandenburg/weather/weather-98", "outcome": None, "masked": False,
    }  # fmt: skip
    console = Console(width=width, record=True)
    console.print(listing([letter], width))
    shown = console.export_text()
    assert all(len(line) <= width for line in shown.splitlines())
    whole = ["1510", "2026-11-26 01:00:03", "neubrandenburg", "conflicting_value"]
    assert [word for word in whole if width < 80 or word in shown] == whole
    assert "weather-98" in shown
