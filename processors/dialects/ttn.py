"""The Things Stack v3: uplinks on `v3/{application}/devices/{device}/up`, JSON.

`normalized_payload` is taken where the device's formatter makes one: its fields have fixed meanings and units, which
this module knows; of a few a profile may say more. Otherwise the leaves of `decoded_payload` come as they are, for a
profile to give them a meaning. Radio metadata are no readings. Formats as documented by The Things Industries and the
device repository's schema.
"""

from collections.abc import Iterator
from typing import Any

from processors.dialects.leaves import (
    NO_OBSERVATION,
    SENTINEL,
    SIMULATED,
    At,
    collected,
    device_name,
    flat,
    leaf,
    model_name,
    most_keys,
    refused,
    state,
)
from processors.dialects.lorawan import decoded_leaves, device_time, first_heard, instant
from processors.dialects.strict_json import kind, load_object, number, shown
from processors.standard.observation import Decoded, Leaf, Message, Reason, Rejection
from processors.standard.times import parse

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
# Most formatters leave the place out, and some put into these fields what is none (the temperature of the board, the
# state of a light barrier): the model's profile goes before what the name alone says (air.temperature: outdoor air).
BY_PROFILE = frozenset({"air.temperature", "air.relativeHumidity", "air.lightIntensity"})
STATES: dict[str, dict[Any, float]] = {
    "water.leak": {False: 0.0, True: 1.0},
    "action.motion.detected": {False: 0.0, True: 1.0},
    "action.contactState": {"closed": 0.0, "open": 1.0},
}
# Brands whose formatters put the battery's per cent where the schema has volts (the device repository:
# vendor/milesight-iot, em300-th.js and others; vendor/sensative/strips.js).
BATTERY_IN_PERCENT = ("milesight-iot/", "sensative/")
NO_PROBE = 327.67  # what Dragino's boxes send for a plug with nothing in it (vendor/dragino/lht65.js)
# Where and how something was measured, not what.
CIRCUMSTANCES = frozenset(
    {"soil.depth", "air.location", "position.latitude", "position.longitude", "position.altitude"}
)


def decode(message: Message) -> Decoded:
    """Readings of an uplink message. Never raises."""
    body = load_object(message.payload)
    if isinstance(body, Rejection):
        return body
    if body.get("simulated") is True:
        return SIMULATED
    uplink = body.get("uplink_message") or body.get("uplink_normalized")
    if not isinstance(uplink, dict):
        return Rejection(Reason.MALFORMED, "no uplink_message: joins, downlinks and events hold no readings")
    ids = body.get("end_device_ids")
    device = device_name(ids.get("device_id") if isinstance(ids, dict) else None, "end_device_ids.device_id")
    if isinstance(device, Rejection):
        return device
    normalized, decoded = uplink.get("normalized_payload"), uplink.get("decoded_payload")
    own_time, fault = device_time(decoded)
    if own_time is None and fault is None:
        at = At(device, _network_time(body, uplink), model=_model(uplink))
    else:
        at = At(device, own_time, fault, model=_model(uplink))
    if normalized:
        measurements = normalized if isinstance(normalized, list) else [normalized]
        return collected(_normalized(measurements, at, most_keys(message)), message, device, pack=False)
    if isinstance(decoded, dict) and decoded:
        timed = at.fault is not None or own_time is not None
        return decoded_leaves(decoded, at, message, without="time" if timed else None)
    return Rejection(Reason.MALFORMED, "no decoded payload: give the device a payload formatter", device)


def _model(uplink: dict[str, Any]) -> str:
    """The device's brand and model in the device repository, where it was registered with them."""
    ids = uplink.get("version_ids")
    return model_name(ids.get("brand_id"), ids.get("model_id")) if isinstance(ids, dict) else ""


def _network_time(body: dict[str, Any], uplink: dict[str, Any]) -> int | None:
    """When the uplink was heard: by the first gateway, or else when the network server got it."""
    received = instant(uplink.get("received_at"))
    if received is None:
        received = instant(body.get("received_at"))
    gateways = uplink.get("rx_metadata")
    return first_heard(gateways, ("time",), received)


def _normalized(measurements: list[Any], at: At, limit: int) -> Iterator[Leaf]:
    for measurement in measurements:
        if not isinstance(measurement, dict):
            detail = f"measurement: {kind(measurement)} where an object is expected"
            yield Rejection(Reason.MALFORMED, detail, at.device, value=shown(measurement))
            continue
        leaves = flat(measurement, limit)
        facts = dict(leaves)
        here = _timed(at, facts.get("time"))
        # Probes at several depths come in one message with one time: the depth tells them apart.
        depth = facts.get("soil.depth")
        known = number(depth) if isinstance(depth, int | float) and not isinstance(depth, bool) else None
        soil = here if known is None else here._replace(channel=f"{known:g} cm")
        location = facts.get("air.location")
        for path, value in leaves:
            if path != "time":
                yield _field(path, value, soil if path.startswith("soil.") else here, location)


def _timed(at: At, text: Any) -> At:
    """A measurement's own time, where it has one, goes before every other."""
    if text is None:
        return at
    time = parse(text) if isinstance(text, str) else Reason.INVALID_TIME
    if isinstance(time, Reason):
        return at._replace(time=None, fault=(time, f"time {shown(text)!r} is no RFC 3339 time with a zone"))
    return at._replace(time=time, fault=None)


def _field(path: str, value: Any, at: At, location: Any) -> Leaf:
    if path in CIRCUMSTANCES:
        return NO_OBSERVATION
    meaning = FIELDS.get(path)
    if meaning is None:
        return leaf(path, value, at)
    name: str | None
    name, unit = meaning
    if value == NO_PROBE and path == "air.temperature" and at.model.startswith("dragino/"):
        return SENTINEL
    if path == "battery" and at.model.startswith(BATTERY_IN_PERCENT):
        name, unit = "device_battery_level", "%"
    states = STATES.get(path)
    if states is not None:
        return state(path, value, at, name, states)
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        return refused(Reason.NOT_A_NUMBER, f"{path}: {kind(value)} where a number is expected", path, value, at)
    if location == "indoor":
        name = INDOORS.get(path, name)
    elif location != "outdoor" and path in BY_PROFILE:
        name = None
    return leaf(path, value, at, name, unit)
