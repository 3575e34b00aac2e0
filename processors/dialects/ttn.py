"""The Things Stack v3: uplinks on `v3/{application}/devices/{device}/up`, JSON.

`normalized_payload` is taken where the device's formatter makes one: its fields have fixed meanings and units, which
this module knows. Otherwise the leaves of `decoded_payload` come as they are, for a profile to give them a meaning.
Radio metadata are no readings. Formats as documented by The Things Industries and the device repository's schema.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from processors.dialects.strict_json import kind, load_object, number, shown, storable
from processors.standard.observation import Decoded, Ignored, Leaf, Message, Quality, Reading, Reason, Rejection
from processors.standard.times import parse

LONGEST_DEVICE = 255
LONGEST_PATH = 255
# A gateway's clock further than this from the network's own is wrong (1970 before its first synchronisation).
GATEWAY_CLOCK_US = 3_600_000_000

# What the normalized payload's fields mean and the unit that its schema fixes for them, in UCUM.
FIELDS = {
    "air.temperature": ("air_temperature", "Cel"),
    "air.relativeHumidity": ("relative_humidity", "%"),
    "air.pressure": ("air_pressure", "hPa"),
    "air.co2": ("co2", "[ppm]"),
    "air.lightIntensity": ("illuminance", "lx"),
    "wind.speed": ("wind_speed", "m/s"),
    "wind.direction": ("wind_direction", "deg"),
    "rain.intensity": ("precipitation_rate", "mm/h"),
    "rain.cumulative": ("precipitation_total", "mm"),
    "soil.moisture": ("soil_moisture", "%"),
    "soil.temperature": ("soil_temperature", "Cel"),
    "soil.ec": ("soil_conductivity", "dS/m"),
    "soil.pH": ("soil_ph", "[pH]"),
    "soil.n": ("soil_nitrogen", "mg/kg"),
    "soil.p": ("soil_phosphorus", "mg/kg"),
    "soil.k": ("soil_potassium", "mg/kg"),
    "water.temperature.current": ("water_temperature", "Cel"),
    "water.leak": ("water_leak", "1"),
    "metering.water.total": ("water_volume_total", "L"),
    "action.motion.detected": ("presence_detected", "1"),
    "action.contactState": ("contact_open", "1"),
    "battery": ("device_battery_voltage", "V"),
}
INDOORS = {"air.temperature": "indoor_temperature", "air.relativeHumidity": "indoor_relative_humidity"}
STATES: dict[str, dict[Any, float]] = {
    "water.leak": {False: 0.0, True: 1.0},
    "action.motion.detected": {False: 0.0, True: 1.0},
    "action.contactState": {"closed": 0.0, "open": 1.0},
}
# Where and how something was measured, not what.
CIRCUMSTANCES = frozenset(
    {"soil.depth", "air.location", "position.latitude", "position.longitude", "position.altitude"}
)


class _At(NamedTuple):
    """Whose leaves they are and when they were measured; `fault` is why a time that came can't be used."""

    device: str
    time: int | None
    fault: tuple[Reason, str] | None = None
    channel: str = ""


def decode(message: Message) -> Decoded:
    """Readings of an uplink message. Never raises."""
    body = load_object(message.payload)
    if isinstance(body, Rejection):
        return body
    if body.get("simulated") is True:
        return Ignored("simulated")
    uplink = body.get("uplink_message") or body.get("uplink_normalized")
    if not isinstance(uplink, dict):
        return Rejection(Reason.MALFORMED, "no uplink_message: joins, downlinks and events hold no readings")
    device = _device(body)
    if isinstance(device, Rejection):
        return device
    normalized, decoded = uplink.get("normalized_payload"), uplink.get("decoded_payload")
    device_time, fault = _device_time(decoded)
    if device_time is None and fault is None:
        at = _At(device, _network_time(body, uplink))
    else:
        at = _At(device, device_time, fault)
    if normalized:
        leaves = _normalized(normalized if isinstance(normalized, list) else [normalized], at)
    elif isinstance(decoded, dict) and decoded:
        leaves = _decoded(decoded, at, skip_time=at.fault is not None or device_time is not None)
    else:
        return Rejection(Reason.MALFORMED, "no decoded payload: give the device a payload formatter", device)
    found: list[Leaf] = []
    for leaf in leaves:
        if len(found) == message.max_readings:
            detail = f"more than the {message.max_readings} readings that are taken from one message"
            return Rejection(Reason.TOO_MANY_READINGS, detail, device)
        # Retained: a copy the broker kept. It counts only with a time that says when it was measured.
        retained = message.retain and isinstance(leaf, Reading) and leaf.time is None
        found.append(Ignored("retained") if retained else leaf)
    return found or Rejection(Reason.MALFORMED, "the payload has no measurement", device)


def _device(body: dict[str, Any]) -> str | Rejection:
    ids = body.get("end_device_ids")
    device = ids.get("device_id") if isinstance(ids, dict) else None
    if device is None or device == "":
        return Rejection(Reason.NO_DEVICE, "end_device_ids.device_id is missing or empty")
    if not isinstance(device, str):
        return Rejection(Reason.MALFORMED, f"end_device_ids.device_id: {kind(device)} where a string is expected")
    if len(device) > LONGEST_DEVICE:
        return Rejection(Reason.DEVICE_TOO_LONG, f"device has {len(device)} characters, at most {LONGEST_DEVICE}")
    return device


def _device_time(decoded: Any) -> tuple[int | None, tuple[Reason, str] | None]:
    """The time that a decoder passes on under `time`, if it is one: a number has no declared unit, so it is none."""
    text = decoded.get("time") if isinstance(decoded, dict) else None
    if not isinstance(text, str):
        return None, None
    time = parse(text)
    if not isinstance(time, Reason):
        return time, None
    return None, (time, f"time {shown(text)!r} has no zone") if time is Reason.NAIVE_TIME else None


def _network_time(body: dict[str, Any], uplink: dict[str, Any]) -> int | None:
    """When the uplink was heard: by the first gateway, or else when the network server got it."""
    received = _instant(uplink.get("received_at"))
    if received is None:
        received = _instant(body.get("received_at"))
    gateways = uplink.get("rx_metadata")
    heard = [
        time
        for gateway in (gateways if isinstance(gateways, list) else ())
        if isinstance(gateway, dict) and (time := _instant(gateway.get("time"))) is not None
    ]
    return min((t for t in heard if received is None or abs(t - received) < GATEWAY_CLOCK_US), default=received)


def _instant(text: object) -> int | None:
    time = parse(text) if isinstance(text, str) else None
    return None if isinstance(time, Reason) else time


def _normalized(measurements: list[Any], at: _At) -> Iterator[Leaf]:
    for measurement in measurements:
        if not isinstance(measurement, dict):
            detail = f"measurement: {kind(measurement)} where an object is expected"
            yield Rejection(Reason.MALFORMED, detail, at.device, value=shown(measurement))
            continue
        leaves = list(_flat(measurement))
        facts = dict(leaves)
        here = _timed(at, facts.get("time"))
        # Probes at several depths come in one message with one time: the depth tells them apart.
        depth = facts.get("soil.depth")
        known = number(depth) if isinstance(depth, int | float) and not isinstance(depth, bool) else None
        soil = here if known is None else here._replace(channel=f"{known:g} cm")
        indoors = facts.get("air.location") == "indoor"
        for path, value in leaves:
            if path != "time":
                yield _field(path, value, soil if path.startswith("soil.") else here, indoors=indoors)


def _timed(at: _At, text: Any) -> _At:
    """A measurement's own time, where it has one, goes before every other."""
    if text is None:
        return at
    time = parse(text) if isinstance(text, str) else Reason.INVALID_TIME
    if isinstance(time, Reason):
        return at._replace(time=None, fault=(time, f"time {shown(text)!r} is no RFC 3339 time with a zone"))
    return at._replace(time=time, fault=None)


def _field(path: str, value: Any, at: _At, *, indoors: bool) -> Leaf:
    if path in CIRCUMSTANCES:
        return Ignored("no_observation")
    meaning = FIELDS.get(path)
    if meaning is None:
        return _unknown(path, value, at)
    name, unit = meaning
    if indoors:
        name = INDOORS.get(path, name)
    states = STATES.get(path)
    if states is not None and value is not None:
        if not isinstance(value, bool | str) or value not in states:
            return _rejected(Reason.NOT_A_NUMBER, f"{path} is {shown(value)!r}, not {_either(states)}", path, value, at)
        value = states[value]
    elif isinstance(value, bool) or not isinstance(value, int | float | None):
        return _rejected(Reason.NOT_A_NUMBER, f"{path}: {kind(value)} where a number is expected", path, value, at)
    return _reading(path, value, at, name, unit)


def _either(states: dict[Any, float]) -> str:
    return " or ".join(map(shown, states))


def _decoded(payload: dict[str, Any], at: _At, *, skip_time: bool) -> Iterator[Leaf]:
    for path, value in _flat(payload):
        if not (skip_time and path == "time"):
            yield _unknown(path, value, at)


def _unknown(path: str, value: Any, at: _At) -> Leaf:
    """A leaf whose meaning is the mapping's to find. Text has none that could be looked up."""
    if isinstance(value, bool | int | float | None):
        return _reading(path, value, at, None, None)
    return _rejected(
        Reason.UNMAPPED_PROPERTY, f"{path}: {kind(value)}, and nothing says what it means", path, value, at
    )


def _reading(path: str, value: Any, at: _At, name: str | None, unit: str | None) -> Leaf:
    if not (storable(at.device) and storable(path)):
        return _rejected(Reason.INVALID_TEXT, "device or key hold a NUL or half a surrogate pair", path, value, at)
    if at.fault is not None:
        return _rejected(*at.fault, path, value, at)
    if value is None:
        return Reading(at.device, at.channel, path, None, unit, at.time, name, int(Quality.MISSING))
    result = number(value)
    if result is None:
        return _rejected(Reason.NOT_FINITE, f"{path} is too large for a double", path, value, at)
    return Reading(at.device, at.channel, path, result, unit, at.time, name)


def _rejected(reason: Reason, detail: str, path: str, value: Any, at: _At) -> Rejection:
    return Rejection(reason, detail, at.device, at.channel, path, shown(value), None, at.time)


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves with their dotted paths, in order. The parser bounds the depth; what has too long a path is one leaf."""
    members = node.items() if isinstance(node, dict) else enumerate(node)
    for name, value in members:
        path = f"{prefix}{name}"
        if len(path) > LONGEST_PATH:
            yield f"{path[: LONGEST_PATH - 1]}…", value
        elif isinstance(value, dict | list):
            yield from _flat(value, f"{path}.")
        else:
            yield path, value
