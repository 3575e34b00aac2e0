"""Weather stations by Ecowitt (what their gateways upload, themselves or by ecowitt2mqtt and its like) and weeWX.

Ecowitt's is a form (`PASSKEY=…&tempf=50`), or a flat object of texts, whose keys end in the unit: tempf, baromrelin,
windspeedmph. The key may lie: consoles set to metric have sent "baromabsin": "837.793". A pressure that inches of
mercury can't have makes every unit of its message unknown, and an indoor temperature that is a room's in Celsius those
of temperatures; such readings are dead letters, because nobody knows which unit they are in. So it is with what
ecowitt2mqtt has processed: it takes the unit off the keys that end in one (temp, windspeed) and converts the others
all the same. FOSHKplugin's metric keys (tempc, rainratemm) name theirs. The PASSKEY is a secret and appears nowhere.
Keys as in ecowitt2mqtt's calculators (PyPI). weeWX's form is in `weewx`.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from processors.dialects import free_text, weewx
from processors.dialects.leaves import NO_OBSERVATION, At, clipped, collected, device_name, leaf, model_name, on
from processors.dialects.strict_json import load, shown
from processors.standard.observation import Decoded, Leaf, Message, Reason, Rejection
from processors.standard.times import parse

FILTERS = ("ecowitt/#", "ecowitt2mqtt/#", "weewx/#", "weather/loop", "weather/archive")

_SECRET = re.compile(r"[0-9A-Fa-f]{32}")
_PACKETS = frozenset({"loop", "archive"})
_FORM = re.compile(rb"[A-Za-z0-9_]{1,64}=[^&=]*(?:&[A-Za-z0-9_]{1,64}=[^&=]*)+")
_PARTICLES = "ug/m3"
_LONGEST_KEY = 40  # of those that mean something

# Property, unit and channel by key.
FIELDS: dict[str, tuple[str | None, str | None, str]] = {
    "tempf": ("air_temperature", "[degF]", ""),
    "humidity": ("relative_humidity", "%", ""),
    "tempinf": ("indoor_temperature", "[degF]", ""),
    "humidityin": ("indoor_relative_humidity", "%", ""),
    "baromabsin": ("air_pressure", "[in_i'Hg]", ""),
    "baromrelin": ("air_pressure_sea_level", "[in_i'Hg]", ""),
    "winddir": ("wind_direction", "deg", ""),
    "winddir_avg10m": ("wind_direction", "deg", "10 min"),
    "windspeedmph": ("wind_speed", "[mi_i]/h", ""),
    "windspdmph_avg10m": ("wind_speed", "[mi_i]/h", "10 min"),
    "windgustmph": ("wind_speed_gust", "[mi_i]/h", ""),
    "solarradiation": ("solar_irradiance", "W/m2", ""),
    "uv": ("uv_index", "1", ""),
    "rainratein": ("precipitation_rate", "[in_i]/h", ""),
    "rrain_piezo": ("precipitation_rate", "[in_i]/h", "piezo"),
    "totalrainin": ("precipitation_total", "[in_i]", ""),
    "yearlyrainin": ("precipitation_total", "[in_i]", "yearly"),
    "yrain_piezo": ("precipitation_total", "[in_i]", "yearly piezo"),
    # The same in metric units.
    "tempc": ("air_temperature", "Cel", ""),
    "tempinc": ("indoor_temperature", "Cel", ""),
    "baromabshpa": ("air_pressure", "hPa", ""),
    "baromrelhpa": ("air_pressure_sea_level", "hPa", ""),
    "windspeedkmh": ("wind_speed", "km/h", ""),
    "windgustkmh": ("wind_speed_gust", "km/h", ""),
    "rainratemm": ("precipitation_rate", "mm/h", ""),
    "totalrainmm": ("precipitation_total", "mm", ""),
    "yearlyrainmm": ("precipitation_total", "mm", "yearly"),
    "dewpointf": ("dew_point_temperature", "[degF]", ""),
    "dewptf": ("dew_point_temperature", "[degF]", ""),
    "dewptc": ("dew_point_temperature", "Cel", ""),
    **dict.fromkeys(("feelslikef", "windchillf", "heatindexf"), (None, "[degF]", "")),
    "co2": ("co2", "[ppm]", ""),
    "co2in": ("co2", "[ppm]", "in"),
    "pm25_co2": ("pm2_5", _PARTICLES, "co2"),
    "pm10_co2": ("pm10", _PARTICLES, "co2"),
    "pm1_co2": ("pm1", _PARTICLES, "co2"),
    "pm4_co2": ("pm4", _PARTICLES, "co2"),
    "tf_co2": (None, "[degF]", "co2"),
    "humi_co2": (None, "%", "co2"),
    "lightning": (None, "km", ""),
    "wh85batt": ("device_battery_voltage", "V", "wh85"),
    "wh80batt": ("device_battery_voltage", "V", "wh80"),
    "wh90batt": ("device_battery_voltage", "V", "wh90"),
    "wh68batt": ("device_battery_voltage", "V", "wh68"),
}
# The same for keys with the number of a sensor, which is the channel. An extra sensor may be anywhere.
NUMBERED: dict[str, tuple[str | None, str]] = {
    "temp#f": (None, "[degF]"),
    "temp#c": (None, "Cel"),
    "humidity#": (None, "%"),
    "tf_ch#": (None, "[degF]"),
    "soilmoisture#": ("soil_moisture", "%"),
    "leafwetness_ch#": (None, "%"),
    "pm25_ch#": ("pm2_5", _PARTICLES),
    "leak_ch#": ("water_leak", "1"),
    "soilbatt#": ("device_battery_voltage", "V"),
    "tf_batt#": ("device_battery_voltage", "V"),
    "leaf_batt#": ("device_battery_voltage", "V"),
}
_NUMBER = re.compile(r"([a-z25_]*[a-z_])([0-9]{1,2})([cf]?)")
# The station's own business, and sums and means over spans that its own midnight sets back.
_NO_READINGS = re.compile(
    r"PASSKEY|stationtype|model|freq|dateutc|interval|runtime|heap|ws90_ver|gain[0-9]+_piezo|soilad[0-9]+"
    r"|lightning_time|lightning_num|ws90cap_volt"
    r"|(?:event|hourly|daily|weekly|monthly|last24h|24hour)rain(?:in|mm)?|[dehmw]rain_piezo|last24hrain_piezo|maxdailygust"
    r"|(?:pm25|pm10|pm1|pm4)_(?:avg_)?24h_(?:ch[0-9]+|co2)|co2(?:in)?_24h|[a-z0-9_]*batt[0-9]*"
)
_NAMED_BY_UNIT = frozenset({"[degF]", "[in_i'Hg]", "[mi_i]/h", "[in_i]/h", "[in_i]"})
_PROCESSED = frozenset({"temp", "tempin", "baromabs", "baromrel", "windspeed", "windgust", "rainrate"})
_INCHES_OF_MERCURY = (15.0, 34.0)  # 508 to 1151 hPa
_ROOM_IN_CELSIUS = (10.0, 35.0)  # in Fahrenheit from -12 to 2 Cel: no indoor temperature


def decode(message: Message) -> Decoded:
    """Readings of a weather station. Never raises."""
    body = load(message.payload)
    if isinstance(body, Rejection) and (form := message.payload.strip()).isascii() and _FORM.fullmatch(form):
        body = dict(parse_qsl(form.decode(), keep_blank_values=True))
    levels = message.topic.split("/")
    if isinstance(body, dict):
        packet = levels[-1] in _PACKETS or "usUnits" in body or "dateTime" in body
        device = _device(levels[:-1] if levels[-1] in _PACKETS else levels)
        if isinstance(device, Rejection):
            return device
        leaves = weewx.leaves(body, At(device)) if packet else _fields(body, At(device))
        return collected(leaves, message, device, pack=False)
    if isinstance(body, Rejection) and not _is_text(message.payload):
        return body
    # One observation in a topic of its own: its value is a bare text, which may or may not be JSON.
    device = _device(levels[:-1])
    if isinstance(device, Rejection):
        return device
    value = message.payload.decode() if isinstance(body, Rejection) else body
    return collected([weewx.observation(levels[-1], value, At(device))], message, device)


def _is_text(payload: bytes) -> bool:
    """Whether a payload that is no JSON may be one value."""
    if not payload or payload.lstrip()[:1] in {b"{", b"["}:
        return False
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _device(levels: list[str]) -> str | Rejection:
    """The topic, without a level that is a station's PASSKEY."""
    return device_name("/".join(level for level in levels if not _SECRET.fullmatch(level)), "the topic's device")


def _fields(body: dict[str, Any], at: At) -> Iterator[Leaf]:
    at = _timed(at, body.get("dateutc"))
    at = at._replace(model=model_name("ecowitt", body.get("model")))
    processed = not _PROCESSED.isdisjoint(body)
    doubtful = _NAMED_BY_UNIT | {"km"} if processed else _doubtful(body)
    for name, value in body.items():
        yield _field(name, value, at, doubtful, processed=processed)


def _field(name: str, value: Any, at: At, doubtful: frozenset[str], *, processed: bool) -> Leaf:
    if len(name) > _LONGEST_KEY:
        return leaf(clipped(name), value, at)
    found = _meaning(name)
    if found is None:
        return NO_OBSERVATION
    meaning, unit, channel = found
    if unit in doubtful:
        return leaf(name, value, on(at, channel), None if processed else meaning)  # a profile may know the unit
    return leaf(name, value, on(at, channel), meaning, unit)


@lru_cache(maxsize=4096)
def _meaning(name: str) -> tuple[str | None, str | None, str] | None:
    """Property, unit and channel; None for what is no observation."""
    found = FIELDS.get(name)
    if found is not None:
        return found
    numbered = _NUMBER.fullmatch(name)
    if numbered is not None and (known := NUMBERED.get(f"{numbered[1]}#{numbered[3]}")) is not None:
        return *known, numbered[2]
    return None if _NO_READINGS.fullmatch(name) else (None, None, "")


def _doubtful(body: dict[str, Any]) -> frozenset[str]:
    """Units that the keys of this message name and that its values deny."""
    low, high = _INCHES_OF_MERCURY
    pressures = [_number(body.get(name)) for name in ("baromabsin", "baromrelin")]
    if any(value is not None and not low <= value <= high for value in pressures):
        return _NAMED_BY_UNIT
    indoors = _number(body.get("tempinf"))
    low, high = _ROOM_IN_CELSIUS
    return frozenset({"[degF]"}) if indoors is not None and low <= indoors <= high else frozenset()


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        read = free_text.read(value)
        return read.value if isinstance(read, free_text.Quantity) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _timed(at: At, text: Any) -> At:
    """`dateutc` is UTC without saying so; "now" leaves the time to the receiver."""
    if text is None or text == "now":
        return at
    time = parse(f"{text.replace('+', ' ')}Z") if isinstance(text, str) else Reason.INVALID_TIME
    if isinstance(time, Reason):
        return at._replace(fault=(Reason.INVALID_TIME, f"dateutc {shown(text)!r:.60} is no time"))
    return at._replace(time=time)
