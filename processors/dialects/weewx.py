"""weeWX's MQTT extension, a part of the dialect `ecowitt`: names of observations, and the labels that tell their units.

`{topic}/loop` (or `/archive`) is an object of texts, `{topic}/{observation}` one bare text. The label behind a name is
the unit (`outTemp_C`, `windSpeed_kph`); where labels are switched off, `usUnits` tells the unit system. Directions, the
UV index, percentages and epochs never have one. Names as in weeWX's schema, labels as in the extension's
UNIT_REDUCTIONS (weewx-mqtt, bin/user/mqtt.py).
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from processors.dialects.leaves import NO_OBSERVATION, At, clipped, leaf, on
from processors.dialects.strict_json import shown
from processors.standard.observation import Leaf, Reason
from processors.standard.times import from_epoch

_SECOND_US = 1_000_000
_LONGEST_KEY = 64  # of an observation with its label

# Labels as the extension appends them, in UCUM.
LABELS = {
    "F": "[degF]",
    "C": "Cel",
    "in": "[in_i]",
    "cm": "cm",
    "mm": "mm",
    "mph": "[mi_i]/h",
    "kph": "km/h",
    "knot": "[kn_i]",
    "mps": "m/s",
    "inHg": "[in_i'Hg]",
    "mbar": "mbar",
    "hPa": "hPa",
    "inch_per_hour": "[in_i]/h",
    "cm_per_hour": "cm/h",
    "mm_per_hour": "mm/h",
    "Wpm2": "W/m2",
    "volt": "V",
    "km": "km",
    "mile": "[mi_i]",
    "foot": "[ft_i]",
    "meter": "m",
    "count": "1",
    "ppm": "[ppm]",
    "lux": "lx",
    "second": "s",
    "minute": "min",
    "microgram_per_meter_cubed": "ug/m3",
    "centibar": "kPa",
}
_BY_LENGTH = sorted(LABELS, key=len, reverse=True)

# Units without a label, by unit system: US, METRIC, METRICWX.
_SYSTEMS = {1: 0, 16: 1, 17: 2}
_TEMPERATURE = ("[degF]", "Cel", "Cel")
_PRESSURE = ("[in_i'Hg]", "mbar", "mbar")
_SPEED = ("[mi_i]/h", "km/h", "m/s")
_RAIN = ("[in_i]", "cm", "mm")
_RAIN_RATE = ("[in_i]/h", "cm/h", "mm/h")
_SNOW = ("[in_i]", "cm", "mm")
_NEVER = ("", "", "")
_PARTICLES = ("ug/m3", "ug/m3", "ug/m3")  # in every system, like the following
_FRACTION = ("[ppm]", "[ppm]", "[ppm]")
_VOLTS = ("V", "V", "V")

# Property, the units of the three systems, and a channel where two observations share a property.
OBSERVATIONS = {
    "outTemp": ("air_temperature", _TEMPERATURE, ""),
    "inTemp": ("indoor_temperature", _TEMPERATURE, ""),
    "dewpoint": ("dew_point_temperature", _TEMPERATURE, ""),
    "outHumidity": ("relative_humidity", ("%", "%", "%"), ""),
    "inHumidity": ("indoor_relative_humidity", ("%", "%", "%"), ""),
    "pressure": ("air_pressure", _PRESSURE, ""),
    "barometer": ("air_pressure_sea_level", _PRESSURE, ""),
    "altimeter": ("air_pressure_sea_level", _PRESSURE, "altimeter"),
    "windSpeed": ("wind_speed", _SPEED, ""),
    "windGust": ("wind_speed_gust", _SPEED, ""),
    "windDir": ("wind_direction", ("deg", "deg", "deg"), ""),
    "rain": ("precipitation", _RAIN, ""),
    "rainRate": ("precipitation_rate", _RAIN_RATE, ""),
    "radiation": ("solar_irradiance", ("W/m2", "W/m2", "W/m2"), ""),
    "UV": ("uv_index", ("1", "1", "1"), ""),
    "windSpeed10": ("wind_speed", _SPEED, "10 min"),
    **dict.fromkeys(("illuminance", "luminosity"), ("illuminance", ("lx", "lx", "lx"), "")),
    "cloudcover": ("cloud_cover", ("%", "%", "%"), ""),
    "visibility": ("visibility", ("[mi_i]", "km", "km"), ""),
    "sunshineDur": ("sunshine_duration", ("s", "s", "s"), ""),
    "snowDepth": ("snow_depth", _SNOW, ""),
    "lightning_strike_count": ("lightning_strike_count", ("1", "1", "1"), ""),
    "pm1_0": ("pm1", _PARTICLES, ""),
    "pm2_5": ("pm2_5", _PARTICLES, ""),
    "pm10_0": ("pm10", _PARTICLES, ""),
    **{gas: (gas, _FRACTION, "") for gas in ("co", "co2", "no2", "o3", "so2")},
    **{f"soilTemp{n}": ("soil_temperature", _TEMPERATURE, str(n)) for n in range(1, 9)},
    **{f"soilMoist{n}": ("soil_water_tension", ("kPa", "kPa", "kPa"), str(n)) for n in range(1, 9)},  # centibars
    "consBatteryVoltage": ("device_battery_voltage", _VOLTS, "console"),
}
# Sums over an hour, a day, a year, which are set back: `rain` says the same.
_DERIVED = frozenset(
    {"hourRain", "rain24", "dayRain", "stormRain", "weekRain", "monthRain", "yearRain", "totalRain", "daySunshineDur"}
)
_CIRCUMSTANCES = frozenset({"dateTime", "usUnits", "interval", "rxCheckPercent"})


def leaves(body: dict[str, Any], at: At) -> Iterator[Leaf]:
    """Leaves of an aggregated packet, whose time is `dateTime`."""
    at = _timed(at, next((body[name] for name in ("dateTime", "dateTime_unix_epoch") if name in body), None))
    system = _SYSTEMS.get(_whole(body.get("usUnits")) or 0)
    for name, value in body.items():
        yield observation(name, value, at, system)


def observation(name: str, value: Any, at: At, system: int | None = None) -> Leaf:
    """One observation, by its name with or without a label."""
    if len(name) > _LONGEST_KEY:
        return leaf(clipped(name), value, at)
    found = _meaning(name, system)
    if found is None:
        return NO_OBSERVATION
    meaning, unit, channel = found
    return leaf(name, value, on(at, channel), meaning, unit)


@lru_cache(maxsize=4096)
def _meaning(name: str, system: int | None) -> tuple[str | None, str | None, str] | None:
    """Property, unit and channel; None for what is no observation."""
    bare, label = _divided(name)
    if bare in _DERIVED or bare in _CIRCUMSTANCES or bare.endswith(("BatteryStatus", "_unix_epoch")):
        return None
    meaning, units, channel = OBSERVATIONS.get(bare, (None, _NEVER, ""))
    always = units[0] if len(set(units)) == 1 else ""
    unit = LABELS.get(label) or always or (units[system] if system is not None else "")
    return meaning, unit or None, channel


def _divided(name: str) -> tuple[str, str]:
    if name in OBSERVATIONS:
        return name, ""
    for label in _BY_LENGTH:
        if name.endswith(label) and name[: -len(label)].endswith("_"):
            return name[: -len(label) - 1], label
    return name, ""


def _timed(at: At, text: Any) -> At:
    if text is None:
        return at
    seconds = _whole(text)
    time = Reason.INVALID_TIME if seconds is None else from_epoch(seconds, _SECOND_US)
    if isinstance(time, Reason):
        return at._replace(fault=(time, f"dateTime {shown(text)!r:.60} is no epoch"))
    return at._replace(time=time)


def _whole(text: Any) -> int | None:
    """A whole number that may have been printed with a fraction."""
    if isinstance(text, bool) or not isinstance(text, int | float | str) or (isinstance(text, str) and len(text) > 20):  # noqa: PLR2004 - longer than any epoch
        return None
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return None
