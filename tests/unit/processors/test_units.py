import math

import pytest

from processors.standard.observation import Reason
from processors.standard.spellings import UNITS
from processors.standard.units import IDENTITY, LONGEST, Affine, between, canonical, conversion
from processors.standard.vocabulary import VOCABULARY


def convert(value, spelling, key):
    made = conversion(spelling, VOCABULARY[key])
    assert isinstance(made, Affine), f"{spelling} for {key}: {made}"
    return made(value)


# Multipliers to SI as QUDT publishes them, and the property in whose unit they show.
QUDT = [
    ("[mi_i]/h", 0.44704, "wind_speed", 1.0),
    ("[kn_i]", 0.514444444444444, "wind_speed", 1.0),
    ("km/h", 0.277777777777778, "wind_speed", 1.0),
    ("[ft_i]/s", 0.3048, "wind_speed", 1.0),
    ("mm[Hg]", 133.322387415, "air_pressure", 100.0),
    ("[in_i'Hg]", 3386.389, "air_pressure", 100.0),
    ("[psi]", 6894.75789, "air_pressure", 100.0),
    ("atm", 101325.0, "air_pressure", 100.0),
    ("mbar", 100.0, "air_pressure", 100.0),
    ("[in_i]", 0.0254, "precipitation", 0.001),
    ("GJ", 1e9, "heat_energy_total", 3.6e6),
    ("W.h", 3600.0, "heat_energy_total", 3.6e6),
    ("L/min", 1.66666666666667e-05, "water_flow_rate", 1.0),
    ("uS/cm", 1e-4, "water_conductivity", 0.1),
    ("rad", 57.29577951308232, "wind_direction", 1.0),
]


@pytest.mark.parametrize(("code", "multiplier", "key", "unit_of_property"), QUDT)
def test_factors_agree_with_the_published_multipliers(code, multiplier, key, unit_of_property):
    made = conversion(code, VOCABULARY[key])
    assert made(1.0) == pytest.approx(multiplier / unit_of_property, rel=1e-6)
    assert made(0.0) == 0.0


@pytest.mark.parametrize(
    ("value", "spelling", "key", "expected"),
    [
        (212.0, "°F", "heat_flow_temperature", 100.0),
        (-40.0, "F", "air_temperature", -40.0),
        (280.55, "K", "air_temperature", 7.4),
        (29.92, "inHg", "air_pressure", 1013.2),
        (60.0, "W·m⁻²", "solar_irradiance", 60.0),
        (0.5, "kW/m²", "solar_irradiance", 500.0),
        (4.0, "okta", "cloud_cover", 50.0),
        (95.0, "%", "electric_power_factor", 0.95),
        (400.0, "ms", "wave_period", 0.4),
        (250.0, "L", "water_volume_total", 0.25),
        (3.0, "l/m²", "precipitation", 3.0),
        (12.0, "ppm", "soil_nitrogen", 12.0),
        (0.45, "1", "relative_humidity", 45.0),
        (0.35, "m³/m³", "soil_moisture", 35.0),
        (450.0, "‰", "relative_humidity", 45.0),
        (8.1, "‰", "water_salinity", 8.1),
        (3.0, "kg m-2", "precipitation", 3.0),
        (5e-4, "kg m-2 s-1", "precipitation_rate", 1.8),
        (3.2, "m ü. NHN", "water_level_nhn", 3.2),
        (7.4, "CEL", "air_temperature", 7.4),
        (20.0, "cbar", "soil_water_tension", 20.0),
        (10.2, "mH2O", "water_pressure", 1.000278),
        (12.0, "#", "bicycle_count", 12.0),
    ],
)
def test_values_arrive_in_the_unit_of_their_property(value, spelling, key, expected):
    assert convert(value, spelling, key) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("spellings", "key"),
    [
        ("C °C ºC ˚C oC ℃ Cel degC Celsius", "air_temperature"),
        ("VAr VAR var", "electric_reactive_power"),
        ("µg/m³ μg/m³ ug/m3 ug/m^3 µg/m**3", "pm10"),
        ("m/s m·s⁻¹ m.s-1 m⋅s−1", "wind_speed"),  # noqa: RUF001 - look-alikes are what is tested
        ("s⁻¹ 1/s Hz", "electric_frequency"),
        ("m³ m3 m^3 ㎥", "gas_volume_total"),
        ("dB(A) dBA dB dB[SPL]", "noise_laeq"),
    ],
)
def test_spellings_of_one_unit_convert_to_it_unchanged(spellings, key):
    assert {spelling: conversion(spelling, VOCABULARY[key]) for spelling in spellings.split()} == dict.fromkeys(
        spellings.split(), IDENTITY
    )


def test_blanks_in_a_spelling_do_not_matter():
    assert conversion(" km / h ", VOCABULARY["vehicle_speed_mean"]) == IDENTITY
    assert conversion("% RH", VOCABULARY["relative_humidity"]) == IDENTITY


@pytest.mark.parametrize(
    ("key", "code"),
    [("sunshine_duration", "min"), ("water_level", "m"), ("device_snr", "dB"), ("noise_laeq", "dB[SPL]")],
)
def test_the_property_decides_what_an_ambiguous_spelling_means(key, code):
    spelling = "m" if code in {"m", "min"} else "dB"
    assert canonical(spelling, VOCABULARY[key]) == code


@pytest.mark.parametrize(
    ("key", "factor"), [("no2", 1.9125), ("no", 1.2474), ("o3", 1.9953), ("so2", 2.6632), ("co", 0.0011644)]
)
def test_parts_per_billion_become_mass_for_the_five_named_gases(key, factor):
    assert convert(1.0, "ppb", key) == factor
    assert convert(1.0, "ppm", key) == pytest.approx(1000 * factor)


@pytest.mark.parametrize(
    ("spelling", "key"),
    [
        ("ppb", "tvoc"),
        ("ppb", "nox"),
        ("ppb", "nh3"),
        ("mg/kg", "co2"),
        ("%", "co2"),
        ("m", "air_temperature"),
        ("°C", "relative_humidity"),
        ("count", "relative_humidity"),
        ("g/kg", "relative_humidity"),
        ("1/h", "vehicle_count"),
        ("kg/m2", "snow_depth"),
        ("m+NHN", "water_level"),
        ("L/s", "wind_speed"),
        ("dB", "device_rssi"),
        ("dBm", "noise_laeq"),
        ("W", "electric_apparent_power"),
        ("VA", "electric_reactive_power"),
        ("deg", "soil_nitrogen"),
        ("mg/kg", "vehicle_count"),
        ("index", "vehicle_count"),
        ("pH", "water_turbidity"),
        ("mm", "precipitation_rate"),
        ("kWh", "electric_active_power"),
    ],
)
def test_a_unit_of_another_dimension_is_refused(spelling, key):
    assert conversion(spelling, VOCABULARY[key]) is Reason.WRONG_DIMENSION


@pytest.mark.parametrize(
    "spelling",
    [
        "",
        " ",
        "parsec",
        "IAQ",
        "PSU",
        "Mw",
        "dB(C)",
        "C\x00",
        "�",
        "m" * (LONGEST + 1),
        "m/",
        "m//s",
        "^",
        "m s K g mol A",
        "m0",
        "m10",
        "mmm",
        "cd/m2",
        "Bq",
        "Gy/h",
        "mBar/foo",
        "(m)",
        "m/()",
    ],
)
def test_a_spelling_outside_the_table_is_no_unit(spelling):
    assert conversion(spelling, VOCABULARY["air_temperature"]) is Reason.UNKNOWN_UNIT


@pytest.mark.parametrize(
    ("value", "code", "key", "expected"),
    [
        (2.0, "mm/min", "precipitation_rate", 120.0),
        (24.0, "mm/d", "precipitation_rate", 1.0),
        (1.2e-8, "kg/m3", "pm2_5", 12.0),
        (12.0, "ug.m-3", "pm2_5", 12.0),
        (60.0, "m3/min", "water_flow_rate", 1.0),
        (2.0, "L/(m2.h)", "precipitation_rate", 2.0),
        (1.0, "[cft_i]/s", "water_flow_rate", 0.028316846592),
        (600.0, "mm/min", "wind_speed", 0.01),
        (101.325, "hPa", "air_pressure", 101.325),
        (1.0, "GPa", "water_pressure", 10_000.0),
        (86.4, "MJ/m2/d", "solar_irradiance", 1000.0),
        (3000.0, "/min", "electric_frequency", 50.0),
        (4184.0, "cal", "heat_energy_total", 4184 * 4.184 / 3.6e6),
        (250.0, "mK", "air_temperature", -272.9),
    ],
)
def test_what_ucums_rules_spell_needs_no_table(value, code, key, expected):
    assert convert(value, code, key) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("value", "one", "other", "expected"),
    [
        (50.0, "%", "1", 0.5),
        (0.5, "1", "%", 50.0),
        (5.0, "‰", "%", 0.5),
        (10_000.0, "[ppm]", "%", 1.0),
        (1.0, "[ppb]", "[ppm]", 0.001),
        (1.0, "Sv/h", "uSv/h", 1e6),
        (1.0, "t", "kg", 1000.0),
        (6.3, "s/m.mg", "s.m-1.g", 0.0063),  # UCUM's functional test 3-111a: a slash divides by the next unit only
        (6.3, "ms/m/g", "s.m-1.g-1", 0.0063),
    ],
)
def test_without_a_property_plain_numbers_convert_by_their_size(value, one, other, expected):
    made = between(one, other)
    assert made(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("spelling", "key", "divisor"),
    [("mV", "device_battery_voltage", 1000), ("Wh", "electric_energy_import", 1000), ("L", "water_volume_total", 1000)],
)
def test_what_a_sensor_says_in_both_of_two_units_is_one_value(spelling, key, divisor):
    assert [convert(float(raw), spelling, key) for raw in range(10_000)] == [raw / divisor for raw in range(10_000)]


def test_a_profiles_scale_is_the_decimal_that_stands_there():
    made = conversion("mV", VOCABULARY["device_battery_voltage"]).after(0.1, -5.0)
    assert [made(raw) for raw in range(100)] == [(raw - 50) / 10_000 for raw in range(100)]


def test_a_milliwatt_is_not_a_megawatt():
    assert convert(1.0, "mW", "electric_active_power") == pytest.approx(0.001)
    assert convert(1.0, "MW", "electric_active_power") == pytest.approx(1e6)


@pytest.mark.parametrize("key", ["noise_laeq", "device_rssi", "device_snr", "water_ph", "water_turbidity", "uv_index"])
def test_levels_and_indices_convert_to_themselves_only(key):
    made = {conversion(code, VOCABULARY[key]) for code in UNITS}
    assert made == {IDENTITY, Reason.WRONG_DIMENSION}


def test_every_property_takes_its_own_unit_unchanged():
    assert {key: conversion(known.unit, known) for key, known in VOCABULARY.items()} == dict.fromkeys(
        VOCABULARY, IDENTITY
    )


def test_every_unit_of_the_table_serves_some_property():
    useless = [
        code for code in UNITS if not any(isinstance(conversion(code, known), Affine) for known in VOCABULARY.values())
    ]
    assert useless == []


def test_no_spelling_is_ambiguous_for_any_property():
    spellings = {spelling for _, text in UNITS.values() for spelling in text.split("|")}
    ambiguous = [
        (spelling, key)
        for spelling in spellings
        for key, known in VOCABULARY.items()
        if conversion(spelling, known) is Reason.UNKNOWN_UNIT
    ]
    assert ambiguous == []


def test_at_least_the_120_spellings_of_real_feeds_are_known():
    assert len({spelling for _, text in UNITS.values() for spelling in text.split("|")}) >= 120


def test_factors_are_finite_and_not_zero():
    for code in UNITS:
        for known in VOCABULARY.values():
            made = conversion(code, known)
            if isinstance(made, Affine):
                assert all(math.isfinite(number) for number in made)
                assert made.factor > 0
                assert made.divisor > 0
