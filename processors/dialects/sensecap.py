"""SenseCAP: what the decoders for Seeed's sensors return on any LoRaWAN network server, numbered measurements in lists.

    {"valid": true, "err": 0, "payload": "…", "messages": [[{"measurementId": "4097", "measurementValue": 24.3, …}, …]]}

A measurement's number fixes what it is and its unit, whatever the model: list of measurement ids in Seeed's
documentation (https://wiki.seeedstudio.com/sensecraft-data-platform/api/appendix/list_of_measurement_ids).
"""

from collections.abc import Iterator
from typing import Any

from processors.dialects.leaves import NO_OBSERVATION, At, leaf, state
from processors.standard.observation import Leaf, Reason

# Left to profiles and cities: distances and levels (4115, 4117), pH (of soil or water: 4106), gases in ppm that do not
# convert, flows and volumes of what is in the pipe (4120, 4121), sunshine since midnight (4126), a tension below zero
# (4133), salinity in mg/L, inputs of the data logger (from 4165 on).
MEASUREMENTS: dict[str, tuple[str, str, str]] = {
    "3000": ("device_battery_level", "%", ""),
    "4097": ("air_temperature", "Cel", ""),
    "4098": ("relative_humidity", "%", ""),
    "4099": ("illuminance", "lx", ""),
    "4100": ("co2", "[ppm]", ""),
    "4101": ("air_pressure", "Pa", ""),
    "4102": ("soil_temperature", "Cel", ""),
    "4103": ("soil_moisture", "%", ""),
    "4104": ("wind_direction", "deg", ""),
    "4105": ("wind_speed", "m/s", ""),
    "4108": ("soil_conductivity", "dS/m", ""),
    "4109": ("water_dissolved_oxygen", "mg/L", ""),
    "4110": ("soil_moisture", "%", ""),
    "4111": ("soil_conductivity", "dS/m", ""),
    "4112": ("soil_temperature", "Cel", ""),
    "4113": ("precipitation_rate", "mm/h", ""),
    "4123": ("water_conductivity", "uS/cm", ""),
    "4124": ("water_temperature", "Cel", ""),
    "4127": ("solar_irradiance", "W/m2", ""),
    **{str(4137 + depth): ("soil_moisture", "%", f"{depth}0 cm") for depth in range(1, 5)},
    **{str(4141 + depth): ("soil_temperature", "Cel", f"{depth}0 cm") for depth in range(1, 5)},
    "4190": ("uv_index", "1", ""),
    "4191": ("wind_speed_gust", "m/s", ""),
}
_WATER_LEAK = "4116"
_POSITION = frozenset({"4197", "4198"})
# Worn by people and fixed to things: its temperature is that of whatever carries it, its light that of a pocket.
_OF_A_TRACKER = frozenset({"3000"})
_BATTERY = "Battery(%)"
# A measurement's own number, name and time; the device's versions, intervals, inputs and faults.
_ABOUT = frozenset(
    {"measurementId", "type", "timestamp", "motionId", "hardwareVersion", "softwareVersion", "Hardware Version",
     "Firmware Version", "interval", "measureInterval", "gpsInterval", "channel", "channelType", "status", "sensorId",
     "sensorEui", "errCode", "errorCode", "descZh", "error"}
)  # fmt: skip
_LATEST_MS = 253_402_300_799_999  # the end of year 9999


def is_of(decoded: dict[str, Any]) -> bool:
    """Whether a decoder's result has the form."""
    return (
        isinstance(decoded.get("messages"), list) and "err" in decoded and ("payload" in decoded or "valid" in decoded)
    )


def leaves(decoded: dict[str, Any], found: list[tuple[str, Any]], at: At) -> Iterator[Leaf]:
    """Verdicts on the leaves of a decoder's result, `found` by their paths."""
    for path, value in found:
        message, _, name = path.rpartition(".")
        if not message:
            yield NO_OBSERVATION if path in {"valid", "err", "payload"} else leaf(path, value, at)
            continue
        yield _leaf(path, name, value, _node(decoded, message), at)


def _leaf(path: str, name: str, value: Any, node: Any, at: At) -> Leaf:
    if not isinstance(node, dict):
        return leaf(path, value, at)
    if name == "measurementValue":
        return _measurement(path, value, node, at)
    if name == _BATTERY or (name == "battery" and node.get("type") == "upload_battery"):
        return leaf(path, value, at, "device_battery_level", "%")
    return NO_OBSERVATION if name in _ABOUT or ".measurementValue." in path else leaf(path, value, at)


def _measurement(path: str, value: Any, node: dict[str, Any], at: At) -> Leaf:
    number = node.get("measurementId")
    number = str(int(number) if isinstance(number, float) and number.is_integer() else number)
    tracked = "motionId" in node
    here = _timed(node["timestamp"], at) if "timestamp" in node else at
    if number == _WATER_LEAK and isinstance(value, bool):
        return state(path, value, here, "water_leak", {False: 0.0, True: 1.0})
    if number in _POSITION:
        return NO_OBSERVATION
    known = MEASUREMENTS.get(number)
    if known is None or (tracked and number not in _OF_A_TRACKER):
        return leaf(path, value, here)
    name, unit, channel = known
    return leaf(path, value, here._replace(channel=channel) if channel else here, name, unit)


def _timed(stamp: Any, at: At) -> At:
    """The tracker's own time, milliseconds of the epoch."""
    if isinstance(stamp, int | float) and not isinstance(stamp, bool) and 0 < stamp < _LATEST_MS:
        return at._replace(time=round(stamp * 1000), fault=None)
    return at._replace(time=None, fault=(Reason.INVALID_TIME, "timestamp is no time in milliseconds"))


def _node(decoded: Any, path: str) -> Any:
    """What stands at a path; None where a name holds a point."""
    node = decoded
    for part in path.split("."):
        if isinstance(node, dict):
            node = node.get(part)
        elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node
