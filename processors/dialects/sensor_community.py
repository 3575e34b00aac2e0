"""sensor.community: the airRohr firmware's JSON for one's own API, brought to MQTT by a bridge.

Each value is a text with a type whose prefix is the sensor: P1 is PM10 and P2 is PM2.5, P0 PM1, P4 PM4. The particle
counter PPD42NS sends a bare P1 and P2, which are counts. A sensor that failed keeps what the firmware began with: -1,
or -128 for temperatures. Whether a node hangs outdoors is registered with the network, not said here, so temperature
and humidity have a unit but no property. Types and initial values as in the firmware (opendata-stuttgart,
sensors-software, airrohr-firmware.ino).
"""

from typing import Any

from processors.dialects.leaves import (
    NO_OBSERVATION,
    SECOND_COPY,
    SENTINEL,
    At,
    clipped,
    collected,
    device_name,
    leaf,
    most_keys,
    on,
    too_many,
)
from processors.dialects.strict_json import kind, load_object, shown
from processors.standard.observation import Decoded, Leaf, Message, Reading, Reason, Rejection

FILTERS = ("sensor.community/#", "airrohr/#")

_IDS = ("esp8266id", "esp32id", "raspiid")
_MASSES = {"P0": "pm1", "P1": "pm10", "P2": "pm2_5", "P4": "pm4"}
_DUST_SENSORS = ("SDS", "PMS", "HPM", "NPM", "IPS", "SPS30")

# Property and unit by value type without its prefix; by the whole of it where the prefix counts.
MEANINGS: dict[str, tuple[str | None, str | None]] = {
    **{f"{sensor}_{size}": (name, "ug/m3") for sensor in _DUST_SENSORS for size, name in _MASSES.items()},
    "pressure": ("air_pressure", "Pa"),
    "pressure_at_sealevel": ("air_pressure_sea_level", "Pa"),
    "temperature": (None, "Cel"),
    "humidity": (None, "%"),
    "SCD30_co2_ppm": ("co2", "[ppm]"),
    "DNMS_noise_LAeq": ("noise_laeq", "dB(A)"),
    "DNMS_noise_LA_max": ("noise_lamax", "dB(A)"),
    "DNMS_noise_LA_min": (None, "dB(A)"),
    "signal": ("device_rssi", "dBm"),
}
_NO_READINGS = frozenset(
    {"samples", "min_micro", "max_micro", "interval", "durP1", "durP2", "ratioP1", "ratioP2"}
    | {"GPS_lat", "GPS_lon", "GPS_height", "GPS_date", "GPS_time", "GPS_timestamp"}
)
_NEVER_MEASURED = -1.0
_NO_TEMPERATURES = (-128.0, -127.0)  # the firmware's, and what a DS18B20 that is not there gives
_MAY_BE_MINUS_1 = ("temperature", "signal")


def decode(message: Message) -> Decoded:
    """Readings of a node. Never raises."""
    body = load_object(message.payload)
    if isinstance(body, Rejection):
        return body
    identity = next((body[name] for name in _IDS if name in body), None)
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = shown(identity)
    device = device_name(identity, "esp8266id")
    if isinstance(device, Rejection):
        return device
    values = body.get("sensordatavalues")
    if not isinstance(values, list):
        detail = f"sensordatavalues: {kind(values)} where an array is expected"
        return Rejection(Reason.MALFORMED, detail, device)
    if len(values) > most_keys(message):
        return too_many(message, device)
    at = At(device)
    seen: set[tuple[str, float | None]] = set()
    leaves: list[Leaf] = []
    for value in values:
        found = _value(value, at)
        if isinstance(found, Reading):
            if (found.key, found.value) in seen:
                found = SECOND_COPY
            else:
                seen.add((found.key, found.value))
        leaves.append(found)
    return collected(leaves, message, device)


def _value(entry: Any, at: At) -> Leaf:
    name = entry.get("value_type") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name or "value" not in entry:
        return Rejection(Reason.MALFORMED, "an entry without value_type or value", at.device, value=shown(entry))
    if name in _NO_READINGS:
        return NO_OBSERVATION
    sensor, _, quantity = name.partition("_") if "_" in name else ("", "", name)
    here = on(at, clipped(sensor))
    meaning, unit = MEANINGS.get(name) or MEANINGS.get(quantity, (None, None))
    found = leaf(clipped(name), entry["value"], here, meaning, unit)
    return SENTINEL if isinstance(found, Reading) and _is_sentinel(quantity, found.value) else found


def _is_sentinel(quantity: str, value: float | None) -> bool:
    if quantity == "temperature" and value in _NO_TEMPERATURES:
        return True
    return value == _NEVER_MEASURED and quantity not in _MAY_BE_MINUS_1
