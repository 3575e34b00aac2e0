"""ChirpStack: device events on `application/{application}/device/{devEui}/event/{event}`, JSON of version 4 and of 3.

An uplink's readings are the leaves of `object` (version 3 may send it as text, `objectJSON`), which the codec of the
device's ChirpStack profile made: a profile of ours gives them a meaning, by that profile's name. A device status brings
the battery's charge. Other events hold no readings. Messages as in ChirpStack's integration.proto and in version 3's
documentation of its event types.
"""

import base64
import re
from typing import Any

from processors.dialects.leaves import (
    NO_OBSERVATION,
    SENTINEL,
    At,
    collected,
    device_name,
    leaf,
    model_name,
)
from processors.dialects.lorawan import GATEWAY_CLOCK_US, decoded_leaves, device_time, first_heard, instant
from processors.dialects.strict_json import kind, load_object
from processors.standard.observation import Decoded, Leaf, Message, Reason, Rejection

# The last two: before version 3.11 the topics had no level `event`, and uplinks were called rx in the beginning.
FILTERS = ("application/+/device/+/event/+", "application/+/device/+/up", "application/+/device/+/rx")

_WITHOUT_READINGS = frozenset({"join", "ack", "txack", "log", "location", "integration", "error"})
_EUI = re.compile(r"[0-9a-fA-F]{16}")
_EUI_BYTES = 8


def decode(message: Message) -> Decoded:
    """Readings of a device event. Never raises."""
    body = load_object(message.payload)
    if isinstance(body, Rejection):
        return body
    event = message.topic.rpartition("/")[2]
    if event in _WITHOUT_READINGS:
        return NO_OBSERVATION
    info = body.get("deviceInfo")
    device = device_name(
        _eui(info.get("devEui") if isinstance(info, dict) else body.get("devEUI")), "deviceInfo.devEui (devEUI)"
    )
    if isinstance(device, Rejection):
        return device
    model = (info if isinstance(info, dict) else body).get("deviceProfileName")
    at = At(device, _time(body), model=model_name(model))
    if event == "status" or ("margin" in body and "object" not in body):
        return collected(_status(body, at), message, device)
    return _uplink(body, at, message)


def _uplink(body: dict[str, Any], at: At, message: Message) -> Decoded:
    decoded = body.get("object")
    if decoded is None and isinstance(body.get("objectJSON"), str) and body["objectJSON"]:
        try:
            decoded = load_object(body["objectJSON"].encode())
        except UnicodeEncodeError:
            return Rejection(Reason.INVALID_TEXT, "objectJSON holds half a surrogate pair", at.device)
        if isinstance(decoded, Rejection):
            return decoded._replace(detail=f"objectJSON: {decoded.detail}", device=at.device)
    if decoded is None:
        if not body.get("data"):
            return NO_OBSERVATION  # an uplink for the network alone
        return Rejection(Reason.MALFORMED, "no decoded object: give the device profile a codec", at.device)
    if not isinstance(decoded, dict):
        return Rejection(Reason.MALFORMED, f"object: {kind(decoded)} where an object is expected", at.device)
    own_time, fault = device_time(decoded)
    timed = own_time is not None or fault is not None
    if timed:
        at = at._replace(time=own_time, fault=fault)
    return decoded_leaves(decoded, at, message, without="time" if timed else None)


def _status(body: dict[str, Any], at: At) -> list[Leaf]:
    """The battery's charge, in percent; on external power, or where the device can't tell, the number is none."""
    leaves: list[Leaf] = [NO_OBSERVATION for name in ("margin",) if name in body]
    if "batteryLevel" in body:
        if body.get("batteryLevelUnavailable") is True or body.get("externalPowerSource") is True:
            return [*leaves, SENTINEL]
        leaves.append(leaf("batteryLevel", body["batteryLevel"], at, "device_battery_level", "%"))
    return leaves or [NO_OBSERVATION]


def _eui(eui: Any) -> Any:
    """Hexadecimal digits in lower case, as topics have them; version 3 sends the eight bytes in base64, too."""
    if not isinstance(eui, str) or not eui.isascii():
        return eui
    if _EUI.fullmatch(eui):
        return eui.lower()
    try:
        octets = base64.b64decode(eui, validate=True)
    except ValueError:
        return eui
    return octets.hex() if len(octets) == _EUI_BYTES else eui


def _time(body: dict[str, Any]) -> int | None:
    """When the uplink was heard. Version 4 says it, after the first gateway's clock; version 3 leaves it to them."""
    gateways, heard = body.get("rxInfo"), instant(body.get("time"))
    if heard is None:
        return first_heard(gateways, ("time", "gwTime", "nsTime"), instant(body.get("publishedAt")))
    network = first_heard(gateways, ("nsTime",), None)
    return heard if network is None or abs(heard - network) < GATEWAY_CLOCK_US else network
