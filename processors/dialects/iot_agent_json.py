"""FIWARE's IoT Agent for JSON: `/json/{API key}/{device}/attrs`, an object of attributes, or a list of such objects.

Values are what a device's author chose, often text with the unit glued on ("45%"). On `…/attrs/{attribute}` the body is
one value, or a series of them with a `timestamp` each. Whole NGSI-v2 and NGSI-LD entities are read, too: there an
attribute of a Smart Data Model has its meaning from the entity's type, but only with a unit code beside it, because the
models contradict each other about units. Forms as in telefonicaid/iotagent-json, docs/usermanual.md.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from processors.dialects.fiware import Address, address, timed
from processors.dialects.leaves import NO_OBSERVATION, At, clipped, collected, flat, leaf, most_keys, on, refused
from processors.dialects.strict_json import kind, load, shown, storable
from processors.standard.observation import Decoded, Leaf, Message, Reason, Rejection
from processors.standard.vocabulary import VOCABULARY

FILTERS = ("/json/+/+/attrs", "/json/+/+/attrs/+", "json/+/+/attrs", "json/+/+/attrs/+")

_TIME = "TimeInstant"
_RATIO = 0.01  # Smart Data Models that count 0 to 1 where the vocabulary has per cent
_IDENTITY = frozenset({"id", "type", "@context", "dateObserved"})
_NO_NUMBERS = frozenset({"Relationship", "GeoProperty", "geo:json", "geo:point", "DateTime", "LanguageProperty"})

# UN/CEFACT Recommendation 20, which NGSI's unitCode takes; the codes would be ambiguous among spellings (59 is ppm).
UNIT_CODES = {
    "CEL": "Cel",
    "FAH": "[degF]",
    "P1": "%",
    "A97": "hPa",
    "KPA": "kPa",
    "PAL": "Pa",
    "MBR": "mbar",
    "MTS": "m/s",
    "KMH": "km/h",
    "DD": "deg",
    "MMT": "mm",
    "CMT": "cm",
    "MTR": "m",
    "H67": "mm/h",
    "D54": "W/m2",
    "LUX": "lx",
    "GQ": "ug/m3",
    "GP": "mg/m3",
    "59": "[ppm]",
    "61": "[ppb]",
    "2N": "dB",
    "DBM": "dB{mW}",
    "MTQ": "m3",
    "LTR": "L",
    "MQS": "m3/s",
    "D10": "S/m",
    "H61": "mS/cm",
    "G42": "uS/cm",
    "M1": "mg/L",
    "VLT": "V",
    "AMP": "A",
    "WTT": "W",
    "KWT": "kW",
    "KWH": "kW.h",
    "WHR": "W.h",
    "D46": "V.A",
    "D44": "V.A{reactive}",
    "KVR": "kV.A{reactive}",
    "HTZ": "Hz",
    "SEC": "s",
    "GK": "g/kg",
    "Q30": "[pH]",
    "C62": "1",
}


def _models() -> dict[tuple[str, str], str]:
    """Property by Smart Data Model and attribute, where that is one property's alone."""
    known = [(p.sdm_type, p.sdm_attribute) for p in VOCABULARY.values()]
    times = Counter(known)
    return {at: p.key for at, p in zip(known, VOCABULARY.values(), strict=True) if all(at) and times[at] == 1}


MODELS = _models()


class _Attribute(NamedTuple):
    """An entity's attribute: its value and what stands beside it."""

    value: Any
    time: Any
    unit: Any


def decode(message: Message) -> Decoded:
    """Readings of a measure message. Never raises."""
    to = address(message.topic)
    if not isinstance(to, Address):
        return to
    at, limit = At(to.device), most_keys(message)
    body = load(message.payload)
    if isinstance(body, Rejection):
        text = _plain_text(message.payload) if to.attribute is not None else None
        if text is None:
            return body._replace(device=to.device)
        body = text
    if to.attribute is not None:
        return collected(_single(to.attribute, body, at, limit), message, to.device)
    if isinstance(body, dict):
        several = body["entities"] if isinstance(body.get("entities"), list) and "actionType" in body else [body]
    elif isinstance(body, list):
        several = body
    else:
        return Rejection(Reason.NOT_AN_OBJECT, f"JSON {kind(body)} where an object is expected", to.device)
    return collected((found for one in several for found in _measure(one, at, limit)), message, to.device)


def _plain_text(payload: bytes) -> str | None:
    """A body that is no JSON, as text; the agent would make hexadecimal digits of it."""
    try:
        return payload.decode() or None
    except UnicodeDecodeError:
        return None


def _single(name: str, body: Any, at: At, limit: int) -> Iterator[Leaf]:
    """One attribute: a value, or values with times."""
    for one in body if isinstance(body, list) else [body]:
        if isinstance(one, dict) and "value" in one and ("timestamp" in one or _TIME in one):
            here = timed(at, one.get("timestamp", one.get(_TIME)), "timestamp")
            yield from _leaves(name, one["value"], here, limit)
        else:
            yield from _leaves(name, one, at, limit)


def _measure(body: Any, at: At, limit: int) -> Iterator[Leaf]:
    """One group of attributes, plain or as an entity."""
    if not isinstance(body, dict):
        detail = f"measure: {kind(body)} where an object is expected"
        yield Rejection(Reason.MALFORMED, detail, at.device, value=shown(body))
        return
    if _is_entity(body):
        yield from _entity(body, at, limit)
        return
    at = timed(at, _value_of(body.get(_TIME)), _TIME)
    for name, value in body.items():
        if name in _IDENTITY:
            yield NO_OBSERVATION
        elif name != _TIME:
            attribute = _attribute(value)
            if attribute.value is value or isinstance(attribute.value, dict | list):
                yield from _leaves(name, value, at, limit)
            else:  # as in an entity, or {"value": 7.4, "unit": "°C"}
                unit = attribute.unit if isinstance(attribute.unit, str) and storable(attribute.unit) else None
                here = timed(at, attribute.time, "observedAt")
                yield from _leaves(name, attribute.value, here, limit, (None, UNIT_CODES.get(unit or "", unit)))


def _leaves(name: str, value: Any, at: At, limit: int, meaning: tuple[str | None, str | None] = (None, None)) -> Any:
    if isinstance(value, dict | list):
        return (leaf(path, one, at, comma=True) for path, one in flat({name: value}, limit))
    return [leaf(clipped(name), value, at, *meaning, comma=True)]


def _is_entity(body: dict[str, Any]) -> bool:
    return (
        isinstance(body.get("id"), str)
        and isinstance(body.get("type"), str)
        and any(isinstance(value, dict) and ("value" in value or "object" in value) for value in body.values())
    )


def _entity(body: dict[str, Any], at: At, limit: int) -> Iterator[Leaf]:
    """Attributes of an NGSI entity, whose id is the channel: a device may report several."""
    at = on(at, clipped(body["id"]) if storable(body["id"]) else "")
    observed = _value_of(body.get("dateObserved"))
    at = timed(at, _value_of(body.get(_TIME)) or (None if "/" in str(observed) else observed), _TIME)
    model = body["type"].replace("#", "/").rpartition("/")[2]
    for name, value in body.items():
        if name == _TIME:
            continue
        if name in _IDENTITY or (isinstance(value, dict) and str(value.get("type")) in _NO_NUMBERS):
            yield NO_OBSERVATION
            continue
        attribute = _attribute(value)
        unit = attribute.unit if isinstance(attribute.unit, str) and storable(attribute.unit) else None
        meaning = MODELS.get((model, name)) if unit is not None else None
        here = timed(at, attribute.time, "observedAt")
        if unit == "P1" and meaning and VOCABULARY[meaning].sdm_factor == _RATIO and _is_small(attribute.value):
            detail = f"{name}: the model's {name} is a ratio up to 1, P1 says per cent: which of the two is unknown"
            yield refused(Reason.UNKNOWN_UNIT, detail, clipped(name), attribute.value, here, "%")
            continue
        yield from _leaves(name, attribute.value, here, limit, (meaning, UNIT_CODES.get(unit or "", unit)))


def _is_small(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < abs(value) <= 1


def _attribute(value: Any) -> _Attribute:
    if not isinstance(value, dict) or "value" not in value:
        return _Attribute(value, None, None)
    metadata = value.get("metadata")
    beside = value | metadata if isinstance(metadata, dict) else value
    return _Attribute(
        value["value"],
        _value_of(beside.get("observedAt", beside.get(_TIME))),
        _value_of(beside.get("unitCode", beside.get("unit"))),
    )


def _value_of(member: Any) -> Any:
    """NGSI's members may be plain, or objects with a value."""
    return member.get("value", member.get("@value")) if isinstance(member, dict) else member
