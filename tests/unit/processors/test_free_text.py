"""Numbers in strings: what is one, what is none, and what is only told apart by the decisions of the module."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.dialects.free_text import Fault, Missing, Quantity, read
from processors.standard.observation import Reason
from processors.standard.units import conversion
from processors.standard.vocabulary import VOCABULARY


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("23.5", 23.5, None),
        ("  -0.25 ", -0.25, None),
        ("+7", 7.0, None),
        ("\u22124.5", -4.5, None),  # the typographic minus
        (".5", 0.5, None),
        ("5.", 5.0, None),
        ("1e-3", 0.001, None),
        ("007", 7.0, None),
        ("45%", 45.0, "%"),
        ("12 °C", 12.0, "°C"),
        ("12\u00a0°C", 12.0, "°C"),
        ("7℃", 7.0, "℃"),
        ("0.4 µg/m³", 0.4, "µg/m³"),
        ("12kWh", 12.0, "kWh"),
        ("1.2e3W", 1200.0, "W"),
        ("5e", 5.0, "e"),
        ("1013 hPa ", 1013.0, "hPa"),
    ],
)
def test_a_point_is_the_decimal_separator(text, value, unit):
    assert read(text) == Quantity(value, unit)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("23,5", 23.5),
        ("1.234,5", 1234.5),
        ("1,234.5", 1234.5),
        ("-12.345.678,9", -12345678.9),
        (",5", 0.5),
        ("23.5", 23.5),
        ("1,5e3", 1500.0),
    ],
)
def test_in_free_text_the_last_separator_is_the_decimal_one(text, value):
    assert read(text, comma=True) == Quantity(value)


@pytest.mark.parametrize("comma", [False, True])
def test_one_separator_before_three_digits_is_a_decimal_one_not_a_thousand(comma):
    assert read("1.234", comma=comma) == Quantity(1.234)
    assert read("1,234", comma=True) == Quantity(1.234)


@pytest.mark.parametrize(
    "text",
    [
        "1.234.567",
        "1,234,567",
        "192.168.1.20",
        "192.168.100.100",
        "1.23,4.5",
        "12.34,5",
        "12,",
        "1,2,3",
        "1 234,5",
        "12:30",
        "2026-11-23",
        "2026-11-23T10:00:00Z",
        "3;4",
        "1/2",
        "--5",
        "1_000",
        "٣",
        "½",
        "on",
        "open",
        "%",
        "°C 12",
        "0xFFFF",
        "0x",
        "-0x10",
        "12 C / 54 F, later",
        "5\x00",
        "5 m\ud800",
    ],
)
def test_what_could_be_several_things_is_no_number(text):
    assert read(text, comma=True).reason is Reason.NOT_A_NUMBER


def test_a_comma_counts_only_where_it_is_asked_for():
    assert read("23,5").reason is Reason.NOT_A_NUMBER
    assert read("3,141.5").reason is Reason.NOT_A_NUMBER
    assert read("45,5 %", comma=True) == Quantity(45.5, "%")


def test_hexadecimal_counts_only_where_it_is_asked_for_and_never_as_zero():
    assert read("0xFFFF", hexadecimal=True) == Quantity(65535.0)
    assert read("0xFF C", hexadecimal=True).reason is Reason.NOT_A_NUMBER
    assert read("0x1", unit=True).reason is Reason.NOT_A_NUMBER


def test_where_units_are_not_expected_they_are_no_number():
    assert read("45%", unit=False).reason is Reason.NOT_A_NUMBER
    assert read("45", unit=False) == Quantity(45.0)


@pytest.mark.parametrize("text", ["", " ", "unavailable", "Unknown", "NULL", "n/a", "--", "None", "k.A."])
def test_a_word_for_no_value_is_missing(text):
    assert read(text) == Missing()


@pytest.mark.parametrize("text", ["nan", "NaN", "-nan", "inf", "-Infinity", "1e999", "9" * 70 + "e300"])
def test_what_is_no_finite_number_says_so(text):
    assert read(text).reason is Reason.NOT_FINITE


@pytest.mark.parametrize("text", ["9" * 65_536, " " * 65_536, "1" * 40_000 + "," * 20_000, "1.234" * 13_000])
def test_a_long_text_is_no_number_whatever_it_holds(text):
    assert read(text, comma=True).reason is Reason.NOT_A_NUMBER


@given(st.text(), st.booleans(), st.booleans(), st.booleans())
def test_every_text_gets_one_of_three_verdicts(text, comma, hexadecimal, unit):
    found = read(text, comma=comma, hexadecimal=hexadecimal, unit=unit)
    assert isinstance(found, Quantity | Missing | Fault)
    if isinstance(found, Quantity):
        assert type(found.value) is float
        assert math.isfinite(found.value)
        assert found.unit is None or found.unit.strip() == found.unit != ""


@given(st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_every_float_survives_its_own_text(value, comma):
    assert read(repr(value), comma=comma) == Quantity(value)


@pytest.mark.parametrize("text", ["5 °C", "5C", "5 ºC", "5 degC", "41 °F", "278.15 K"])
def test_units_come_out_as_the_table_of_spellings_takes_them(text):
    found = read(text)
    assert conversion(found.unit, VOCABULARY["air_temperature"])(found.value) == pytest.approx(5.0)
