"""OGC SensorThings 1.1 over MQTT: `v1.1/Datastreams(42)/Observations`, `v1.1/Observations`, …, JSON.

The unit stands on the Datastream. What is known of Datastreams is remembered by their ids: from deep inserts that bring
an `@iot.id`, and from Datastream entities as servers publish them. An observation whose Datastream is not known is
`unknown_state`. Meaning is left to the mapping: the key is the observed property's name.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from processors.dialects.free_text import Missing, Quantity, read
from processors.dialects.history import in_force, latest, learned
from processors.dialects.leaves import clipped, most_keys, too_many
from processors.dialects.memory import State, Step
from processors.dialects.strict_json import kind, load_object, number, shown, storable
from processors.standard.names import PLAIN
from processors.standard.observation import Decoded, Ignored, Leaf, Message, Quality, Reading, Reason, Rejection
from processors.standard.times import local
from processors.standard.units import LONGEST as LONGEST_UNIT
from processors.standard.units import is_unit

FILTERS = ("v1.1/#", "v1.0/#")
KEY_LEVELS = (0,)  # a Datastream's observations come on several topics
LONGEST_NAME = 255

_TOPIC = re.compile(r"(?P<root>(?:[^/]+/)*?)(?P<version>v1\.[01])/(?P<path>.+)", re.DOTALL)
_STREAM = r"(?:^|/)((?:Multi)?Datastreams)(?:\(('(?:[^']|'')*'|[^()'/]+)\))?"
_OBSERVATIONS = re.compile(r"(?:^|/)Observations(?:\([^/]*\))?$")
_OF_DATASTREAM = re.compile(rf"{_STREAM}/Observations(?:\([^/]*\))?$")
_DATASTREAM = re.compile(rf"{_STREAM}$")
_WORD = re.compile(r"[^\W_]+")
_TIMES = ("phenomenonTime", "phenonmenonTime", "resultTime")  # the second as in a sample of the specification
_UCUM = (
    *("ucum:", "urn:ucum:", "http://unitsofmeasure.org/ucum.html#para-"),
    *("http://www.opengis.net/def/uom/UCUM/0/", "http://www.opengis.net/def/uom/UCUM/"),
)


class _At(NamedTuple):
    """Whose result it is, when it was measured, and what its Datastream says."""

    device: str
    key: str
    unit: str | None
    model: str
    time: int | None
    tests: int
    fault: tuple[Reason, str] | None


def source(topic: str) -> str | None:
    """The service: all that comes before its entities."""
    found = _TOPIC.fullmatch(topic)
    return None if found is None else f"{found['root']}{found['version']}"


def decode(message: Message, state: State) -> Step:
    """The result of an observation, or what a Datastream says of itself. Never raises."""
    topic = _TOPIC.fullmatch(message.topic)
    if topic is None or not storable(message.topic):
        detail = f"topic {message.topic!r:.200} is not v1.1/…"
        return Step(Rejection(Reason.MALFORMED, detail))
    path = topic["path"]
    is_observation = _OBSERVATIONS.search(path) is not None
    stream = (_OF_DATASTREAM if is_observation else _DATASTREAM).search(path)
    if not is_observation and stream is None and path != "Things":
        return Step(Ignored("no_observation"))
    body = load_object(message.payload)
    if isinstance(body, Rejection):
        return Step(body)
    told = _name(stream[1], stream[2]) if stream is not None else None
    if is_observation:
        return _observation(topic["root"], told, body, message, state)
    changed: dict[str, Any] = {}
    for kind_of, entity in _entities(stream[1] if stream is not None else None, body):
        changed |= _known(told or _name(kind_of, _identity(entity)), entity, message, state)
    return Step(Ignored("no_observation"), changed)


def _entities(kind_of: str | None, body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A Datastream's entity, or those that a Thing brings."""
    if kind_of is not None:
        yield kind_of, body
        return
    for member in ("Datastreams", "MultiDatastreams"):
        entities = body.get(member)
        for entity in entities if isinstance(entities, list) else ():
            if isinstance(entity, dict):
                yield member, entity


def _name(kind_of: str, identity: str | None) -> str | None:
    """What a Datastream is called: its entity set and id, as in topics."""
    return None if identity is None else f"{kind_of}({identity})"


def _known(name: str | None, entity: dict[str, Any], message: Message, state: State) -> dict[str, Any]:
    """The part of a Datastream after an entity of it, which may tell less than is known already."""
    if name is None or len(name) > LONGEST_NAME or message.replayed:
        return {}
    before = latest(state.get(name))
    said = _described(entity)
    what = {**(before if isinstance(before, dict) else {}), **said}
    part = learned(state.get(name), what, message.received_us) if said else None
    return {} if part is None else {name: part}


def _identity(entity: Any) -> str | None:
    """An @iot.id as topics write it."""
    value = entity.get("@iot.id") if isinstance(entity, dict) else None
    if isinstance(value, str) and 0 < len(value) < LONGEST_NAME - 2 and storable(value):
        return "'" + value.replace("'", "''") + "'"
    return str(value) if type(value) is int and abs(value) < 1 << 64 else None


def _described(entity: dict[str, Any]) -> dict[str, Any]:
    """Unit, name of the observed property, and model, as far as an entity says them."""
    said: dict[str, Any] = {}
    unit = entity.get("unitOfMeasurement")
    if isinstance(unit, dict):
        said["unit"] = _unit(unit)
    units = entity.get("unitOfMeasurements")
    if isinstance(units, list):  # a MultiDatastream's, one for each of its results
        said["unit"] = [_unit(one) if isinstance(one, dict) else None for one in units]
    for member, key in (("ObservedProperty", "key"), ("Sensor", "model")):
        inner = entity.get(member)
        if isinstance(inner, dict) and _is_name(inner.get("name")):
            said[key] = inner["name"]
    if _is_name(entity.get("name")) and ("key" not in said or _says_too_little(said["key"])):
        said["name"] = entity["name"]
    return said


def _says_too_little(name: str) -> bool:
    """Whether an observed property is just a temperature, humidity or pressure: of what, its Datastream may say."""
    return _words(name) in PLAIN


def _words(name: str) -> str:
    return "_".join(_WORD.findall(name.lower()))


def _key(known: dict[str, Any]) -> str:
    """What a result is called: the observed property, with the Datastream's name before it where it says too little."""
    key, name = known.get("key"), known.get("name")
    if not _is_name(key) or not _is_name(name) or not _says_too_little(str(key)):
        return str(key if _is_name(key) else name if _is_name(name) else "result")
    said, more = _words(str(key)), _words(str(name))
    if f"_{said}_" in f"_{more}_" or more == said:
        return str(name)
    return clipped(f"{name}/{key}")


def _unit(unit: dict[str, Any]) -> str | None:
    """The symbol, a UCUM code in the definition, or the name: the first that is a unit, else the first of them."""
    definition = unit.get("definition")
    coded = str(definition) if _is_name(definition) else ""
    code = next((coded.removeprefix(prefix) for prefix in _UCUM if coded.startswith(prefix)), None)
    texts = [str(text) for text in (unit.get("symbol"), code, unit.get("name")) if _is_unit(text)]
    return next(filter(is_unit, texts), texts[0] if texts else None)


def _is_name(text: Any) -> bool:
    return isinstance(text, str) and 0 < len(text) <= LONGEST_NAME and storable(text)


def _is_unit(text: Any) -> bool:
    return _is_name(text) and len(text) <= LONGEST_UNIT


def _observation(root: str, told: str | None, body: dict[str, Any], message: Message, state: State) -> Step:
    kind_of, inner = "Datastreams", body.get("Datastream")
    if not isinstance(inner, dict):
        kind_of, inner = "MultiDatastreams", body.get("MultiDatastream")
    inner = inner if isinstance(inner, dict) else {}
    name = told or _name(kind_of, _identity(inner))
    changed = _known(name, inner, message, state)
    known: Any = _described(inner)
    if name is None:
        name = _deep_name(inner)
        if name is None or "unit" not in known:
            return Step(Rejection(Reason.NO_DEVICE, "neither topic nor payload say which Datastream this is"))
    else:
        known = latest(changed[name]) if changed else in_force(state.get(name), message)
    device = f"{root}{name}"
    if len(device) > LONGEST_NAME:
        detail = f"device has {len(device)} characters, at most {LONGEST_NAME} are taken"
        return Step(Rejection(Reason.DEVICE_TOO_LONG, detail))
    if not isinstance(known, dict) or "unit" not in known:
        detail = "nothing was heard of this Datastream's unit; replay this once its entity was published"
        return Step(Rejection(Reason.UNKNOWN_STATE, detail, device), changed)
    return Step(_results(device, known, body, message), changed)


def _deep_name(inner: dict[str, Any]) -> str | None:
    """What a Datastream that is made along with its observation is called: its id is not known yet."""
    thing = inner.get("Thing")
    names = (thing.get("name") if isinstance(thing, dict) else None, inner.get("name"))
    return "/".join(str(name) for name in names if _is_name(name)) if _is_name(inner.get("name")) else None


def _results(device: str, known: dict[str, Any], body: dict[str, Any], message: Message) -> Decoded:
    if "result" not in body:
        return Rejection(Reason.MALFORMED, "an observation without result", device)
    units, model = known.get("unit"), known.get("model")
    time, tests, fault = _time(body, message, device)
    at = _At(
        device,
        _key(known),
        str(units) if _is_unit(units) else None,
        str(model) if _is_name(model) else "",
        time,
        tests,
        fault,
    )
    result = body["result"]
    if isinstance(result, dict) or (isinstance(result, list) and not result):
        detail = f"result: {kind(result)} where a number is expected"
        return [Rejection(Reason.NOT_A_NUMBER, detail, device, "", at.key, shown(result), at.unit, time)]
    if not isinstance(result, list):
        return [_leaf(result, at, message)]
    if len(result) > most_keys(message):
        return too_many(message, device)
    found, name = [], at.key[: LONGEST_NAME - 6]
    for place, one in enumerate(result):  # of a MultiDatastream, each with a unit of its own
        unit = units[place] if isinstance(units, list) and place < len(units) else None
        key = f"{name}.{place}"
        here = _At(device, key, str(unit) if _is_unit(unit) else None, at.model, time, tests, fault)
        found.append(_leaf(one, here, message))
    return found


def _time(body: dict[str, Any], message: Message, device: str) -> tuple[int | None, int, tuple[Reason, str] | None]:
    """An instant, or the end of an interval: what is reported then is the mean or sum up to it."""
    text = next((body[name] for name in _TIMES if body.get(name) is not None), None)
    if text is None:
        return None, 0, None
    if isinstance(text, str):
        begin, slash, end = text.partition("/")
        read_as = local(end if slash else begin, message.zones, device, message.received_us)
        if slash and isinstance(local(begin, message.zones, device, message.received_us), Reason):
            read_as = Reason.INVALID_TIME
        if not isinstance(read_as, Reason):
            return (*read_as, None)
    return None, 0, (Reason.INVALID_TIME, f"phenomenonTime {shown(text)!r} is no ISO 8601 instant or interval")


def _leaf(value: Any, at: _At, message: Message) -> Leaf:
    if at.fault is not None:
        return _rejected(*at.fault, value, at)
    if message.retain and at.time is None:
        return Ignored("retained")
    raw: str | bool | None = None
    if isinstance(value, str):
        said = read(value, unit=False)
        if isinstance(said, Quantity):
            value, raw = said.value, value
        elif isinstance(said, Missing):
            value = None
        else:
            reason = Reason.UNMAPPED_PROPERTY if said.reason is Reason.NOT_A_NUMBER and at.unit is None else said.reason
            return _rejected(reason, f"result: {said.detail}", value, at)
    elif isinstance(value, bool):
        value, raw = float(value), value
    if value is None:
        missing = int(Quality.MISSING)
        return Reading(at.device, "", at.key, None, at.unit, at.time, None, missing, at.tests, at.model, raw)
    if not isinstance(value, int | float):
        return _rejected(Reason.NOT_A_NUMBER, f"result: {kind(value)} where a number is expected", value, at)
    result = number(value)
    if result is None:
        return _rejected(Reason.NOT_FINITE, "result is too large for a double", value, at)
    return Reading(at.device, "", at.key, result, at.unit, at.time, None, 0, at.tests, at.model, raw)


def _rejected(reason: Reason, detail: str, value: Any, at: _At) -> Rejection:
    return Rejection(reason, detail, at.device, "", at.key, shown(value), at.unit, at.time)
