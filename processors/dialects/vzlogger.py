"""vzlogger (volkszaehler.org): `<prefix>/<channel>/raw` or `agg`, a bare number or `{"timestamp": ms, "value": …}`.

What a channel measures is announced once, on `<prefix>/<channel>/id` (an OBIS code) and `…/uuid`, and remembered. The
code fixes the property. It does not fix the unit of energy: vzlogger passes on the number that the meter sends, Wh with
SML and kWh from most D0 meters, so the route says it (option `energy`), or energy has no unit and is refused.
"""

import re
from typing import Any, NamedTuple

from processors.dialects.history import in_force, learned
from processors.dialects.memory import State, Step
from processors.dialects.options import one_of
from processors.dialects.strict_json import kind, load, number, shown, storable
from processors.standard.observation import Decoded, Ignored, Message, Quality, Reading, Reason, Rejection

FILTERS = ("vzlogger/#",)
KEY_LEVELS = (0, 1)
OPTIONS = {
    "energy": one_of("unit of energy registers: Wh with SML, kWh with most D0 meters", "Wh", "kWh"),
    "power": one_of(
        "unit of power registers: W with SML, and where nothing is said; kW with most D0 meters", "W", "kW"
    ),
}
LONGEST_NAME = 255
LATEST_MS = 253_402_300_799_999  # the end of year 9999

_OBIS = re.compile(r"(?:(\d{1,3})-(\d{1,3}):)?(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:[*&](\d{1,3}))?", re.ASCII)
_NONE = 255  # "don't care" in a code
# Aliases that vzlogger takes for codes, and unparses as codes; older versions announced them as they were written.
ALIASES = {"power": "1-0:1.7.255", "counter": "1-0:1.8.255", "counter-out": "1-0:2.8.255"}
ENERGY, POWER, APPARENT, REACTIVE = "energy", "power", "apparent", "reactive"
_ELECTRICITY = 1
# OBIS codes of IEC 62056-6-1 by medium, quantity and kind of value; the last member is the phase.
CODES: dict[tuple[int, int, int], tuple[str, str, str]] = {
    (1, 1, 8): ("electric_energy_import", ENERGY, ""),
    (1, 2, 8): ("electric_energy_export", ENERGY, ""),
    (1, 16, 7): ("electric_active_power", POWER, ""),
    (1, 36, 7): ("electric_active_power", POWER, "L1"),
    (1, 56, 7): ("electric_active_power", POWER, "L2"),
    (1, 76, 7): ("electric_active_power", POWER, "L3"),
    (1, 3, 7): ("electric_reactive_power", REACTIVE, ""),
    (1, 9, 7): ("electric_apparent_power", APPARENT, ""),
    (1, 13, 7): ("electric_power_factor", "1", ""),
    (1, 14, 7): ("electric_frequency", "Hz", ""),
    (1, 31, 7): ("electric_current", "A", "L1"),
    (1, 51, 7): ("electric_current", "A", "L2"),
    (1, 71, 7): ("electric_current", "A", "L3"),
    (1, 32, 7): ("electric_voltage", "V", "L1"),
    (1, 52, 7): ("electric_voltage", "V", "L2"),
    (1, 72, 7): ("electric_voltage", "V", "L3"),
    (7, 3, 0): ("gas_volume_total", "m3", ""),
    (8, 1, 0): ("water_volume_total", "m3", ""),
}
_UNITS = {
    "W": {POWER: "W", APPARENT: "V.A", REACTIVE: "V.A{reactive}"},
    "kW": {POWER: "kW", APPARENT: "kV.A", REACTIVE: "kV.A{reactive}"},
}


class Register(NamedTuple):
    """What an OBIS code says: its canonical text, and property, unit and channel where they are known."""

    code: str
    meaning: str | None
    unit: str | None
    channel: str


def source(topic: str) -> str | None:
    """The channel: what is announced of it holds for it alone."""
    return topic.rpartition("/")[0] or None


def decode(message: Message, state: State) -> Step:
    """A channel's value, or what is announced of it. Never raises."""
    device, _, what = message.topic.rpartition("/")
    if not device or not storable(device):
        return Step(Rejection(Reason.NO_DEVICE, f"topic {message.topic!r:.200} names no channel"))
    if len(device) > LONGEST_NAME:
        detail = f"device has {len(device)} characters, at most {LONGEST_NAME} are taken"
        return Step(Rejection(Reason.DEVICE_TOO_LONG, detail))
    if what in {"raw", "agg"}:
        return Step(_value(message, state, device, what))
    if what not in {"id", "uuid"} or message.replayed:
        return Step(Ignored("no_observation"))
    text = message.payload.decode(errors="replace").strip()
    said = text if 0 < len(text) <= LONGEST_NAME and storable(text) else None
    part = learned(state.get(what), said, message.received_us)
    return Step(Ignored("no_observation"), {} if part is None else {what: part})


def register(text: str, options: Any) -> Register | None:
    """An OBIS code as vzlogger announces it ("1-0:1.8.0*255"); None if it is none.

    255 stands for what a code leaves out: the medium is electricity then.
    """
    found = _OBIS.fullmatch(ALIASES.get(text, text))
    if found is None:
        return None
    medium, channel, quantity, sort, tariff, storage = (int(part) if part else _NONE for part in found.groups())
    medium, channel = (_ELECTRICITY if medium == _NONE else medium), (0 if channel == _NONE else channel)
    code = f"{medium}-{channel}:{quantity}.{sort}.{tariff}" + ("" if storage == _NONE else f"*{storage}")
    meaning, unit, phase = CODES.get((medium, quantity, sort), (None, None, ""))
    if storage != _NONE or (tariff not in {0, _NONE} and unit != ENERGY):
        meaning, unit, phase = None, None, ""  # a value of the past, a harmonic or the like
    elif tariff not in {0, _NONE}:
        phase = f"T{tariff}"
    if unit == ENERGY:
        unit = {"Wh": "W.h", "kWh": "kW.h"}.get(str(options.get("energy")))
    elif unit in _UNITS["W"]:
        unit = _UNITS.get(str(options.get("power", "W")), {}).get(unit)
    return Register(code, meaning, unit, "/".join(part for part in (str(channel) if channel else "", phase) if part))


def _value(message: Message, state: State, device: str, what: str) -> Decoded:
    body = load(message.payload)
    time: int | None = None
    value = body
    if isinstance(body, dict):
        if "value" not in body:
            return Rejection(Reason.MALFORMED, "an object without value", device)
        value, stamp = body["value"], body.get("timestamp")
        if stamp is not None:
            if type(stamp) is not int or not 0 <= stamp <= LATEST_MS:
                detail = f"timestamp {shown(stamp)!r} is no time in milliseconds"
                return [Rejection(Reason.INVALID_TIME, detail, device, "", what, shown(value))]
            time = stamp * 1000
    if isinstance(body, Rejection):
        return body._replace(device=device)
    announced = in_force(state.get("id"), message)
    if not isinstance(announced, str) or not storable(announced) or len(announced) > LONGEST_NAME:
        detail = "no OBIS code was announced (…/id); replay this once it was: vzlogger announces when it starts"
        return Rejection(Reason.UNKNOWN_STATE, detail, device)
    if message.retain and time is None:
        return [Ignored("retained")]
    known = register(announced, message.options) or Register(announced, None, None, "")
    channel = "/".join(part for part in (known.channel, "agg" if what == "agg" else "") if part)
    if value is None:
        return [Reading(device, channel, known.code, None, known.unit, time, known.meaning, int(Quality.MISSING))]
    if isinstance(value, bool) or not isinstance(value, int | float):
        detail = f"value: {kind(value)} where a number is expected"
        return [Rejection(Reason.NOT_A_NUMBER, detail, device, channel, known.code, shown(value), known.unit, time)]
    result = number(value)
    if result is None:
        detail = "the value is too large for a double"
        return [Rejection(Reason.NOT_FINITE, detail, device, channel, known.code, shown(value), known.unit, time)]
    return [Reading(device, channel, known.code, result, known.unit, time, known.meaning)]
