"""PEGELONLINE over EDIS: water levels of the federal waterways, a message a measurement, JSON.

Topic `edis/pegelonline/{water}/{state}/{region}/{agency}/{station uuid}/{parameter}`. Both shapes are read: MQTT's,
with one `timeseries` and its `measurement`, and that of the Kafka side, a list of them with `measurements`. What a
parameter means is fixed by its short name, its unit comes with it. Written after the EDIS bridge (52North,
pegelonline-kafka-consumer: TopicEncoder and the message example in docs) and the parameter list of wetterdienst's
docs/data/coverage/wsv.
"""

from collections.abc import Iterator
from typing import Any

from processors.dialects.leaves import SECOND_COPY, At, clipped, collected, device_name, leaf, refused, too_many
from processors.dialects.strict_json import kind, load_object, shown, storable
from processors.standard.observation import Decoded, Leaf, Message, Reason, Rejection
from processors.standard.times import instant

FILTERS = ("edis/pegelonline/#",)

# Short names in capitals, as the Dict-API prints them; the topics have them in lower case. What is not here (wave
# periods in 1/100 s, precipitation over an interval nobody tells, groundwater above an unknown datum) goes unmapped.
PARAMETERS = {
    "W": "water_level",
    "Q": "water_flow_rate",
    "VA": "water_flow_speed",
    "WT": "water_temperature",
    "LF": "water_conductivity",
    "O2": "water_dissolved_oxygen",
    "PH": "water_ph",
    "TR": "water_turbidity",
    "SIGH": "wave_height_significant",
    "DFH": "bridge_clearance",
    "LT": "air_temperature",
    "HL": "relative_humidity",
    "WG": "wind_speed",
    "WR": "wind_direction",
    "NIEDERSCHLAGSINTENSITÄT": "precipitation_rate",
}
_NO_UNIT = frozenset({"", "-", "--"})  # how a pH is labelled
# A level whose unit names the datum is one above sea level, not above the gauge's zero.
_ABOVE_NHN = frozenset({"m+nhn", "mü.nhn", "münhn", "m.ü.nhn"})
_LEVELS = 8  # of a topic
_BLANKS = str.maketrans({" ": None, "\N{NO-BREAK SPACE}": None})


def decode(message: Message) -> Decoded:
    """Readings of a station. Never raises."""
    body = load_object(message.payload)
    if isinstance(body, Rejection):
        return body
    levels = message.topic.split("/")
    in_topic = levels[6] if len(levels) == _LEVELS else None
    device = device_name(body.get("uuid") or in_topic, "uuid")
    if isinstance(device, Rejection):
        return device
    if in_topic is not None and in_topic.lower() != device.lower():
        return Rejection(Reason.MALFORMED, f"the topic names another station: {shown(in_topic)}", device)
    series = body.get("timeseries")
    if not isinstance(series, dict | list):
        return Rejection(Reason.MALFORMED, f"timeseries: {kind(series)} where an object is expected", device)
    at, parameter = At(device.lower()), levels[7] if len(levels) == _LEVELS else ""
    several = series if isinstance(series, list) else [series]
    if len(several) > message.max_keys:
        return too_many(message, device)
    leaves = (found for one in several for found in _series(one, at, parameter))
    return collected(leaves, message, device)


def _series(series: Any, at: At, in_topic: str) -> Iterator[Leaf]:
    if not isinstance(series, dict):
        detail = f"timeseries: {kind(series)} where an object is expected"
        yield Rejection(Reason.MALFORMED, detail, at.device, value=shown(series))
        return
    name = series.get("shortname") or in_topic
    if not isinstance(name, str) or not name:
        yield Rejection(Reason.MALFORMED, "timeseries.shortname is missing or no string", at.device)
        return
    key = clipped(name.upper())
    meaning, unit = _meaning(key, series.get("unit"))
    seen: set[tuple[Any, Any]] = set()
    for measurement in _measurements(series):
        if not isinstance(measurement, dict) or "value" not in measurement:
            detail = f"measurement: {kind(measurement)} where an object with a value is expected"
            yield Rejection(Reason.MALFORMED, detail, at.device, "", key, shown(measurement))
            continue
        text, value = measurement.get("timestamp"), measurement["value"]
        if isinstance(value, bool | str | dict | list):
            detail = f"value: {kind(value)} where a number is expected"
            yield refused(Reason.NOT_A_NUMBER, detail, key, value, at, unit)
        elif isinstance(text, str) and (text, value) in seen:
            yield SECOND_COPY  # the current measurement is the last of the list once more
        else:
            if isinstance(text, str):
                seen.add((text, value))
            yield leaf(key, value, _timed(at, text), meaning, unit)


def _measurements(series: dict[str, Any]) -> Iterator[Any]:
    if "measurement" in series:
        yield series["measurement"]
    several = series.get("measurements")
    yield from several if isinstance(several, list) else [] if several is None else [several]
    if "currentMeasurement" in series:
        yield series["currentMeasurement"]


def _meaning(key: str, unit: Any) -> tuple[str | None, str | None]:
    """Property and unit of a parameter; what the unit says of the datum counts."""
    meaning = PARAMETERS.get(key)
    if not isinstance(unit, str) or not storable(unit):
        return meaning, None
    if meaning == "water_ph" and unit.strip() in _NO_UNIT:
        return meaning, "[pH]"
    if meaning == "water_level" and unit.translate(_BLANKS).casefold() in _ABOVE_NHN:
        return "water_level_nhn", "m"
    return meaning, unit


def _timed(at: At, text: Any) -> At:
    if text is None:
        return at
    time = instant(text) if isinstance(text, str) else Reason.INVALID_TIME
    if isinstance(time, Reason):
        return at._replace(fault=(time, f"timestamp {shown(text)!r} is no ISO 8601 time with a zone"))
    return at._replace(time=time)
