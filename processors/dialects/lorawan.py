"""What the LoRaWAN network servers have in common: payloads that a device's decoder made, and when an uplink was heard.

A decoder's keys are its author's: their meaning is a profile's business. A unit and a time beside a value are the
value's, and the numbered measurements of SenseCAP say themselves what they are.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from processors.dialects import sensecap
from processors.dialects.leaves import (
    LONGEST_NAME,
    NO_OBSERVATION,
    At,
    flat,
    kept,
    leaf,
    most_keys,
    too_many,
    unit_text,
)
from processors.dialects.strict_json import shown, storable
from processors.standard.observation import Decoded, Leaf, Message, Reason
from processors.standard.times import parse
from processors.standard.units import LONGEST as LONGEST_UNIT

# A gateway's clock further than this from the network's own is wrong (1970 before its first synchronisation).
GATEWAY_CLOCK_US = 3_600_000_000

_NESTED = frozenset({dict, list})
_TIMES = frozenset({"time", "timestamp", "date", "datetime", "ts"})
_UNITS = frozenset({"unit", "units", "uom"})
_ABOUT = _UNITS | {"displayName", "display_name", "name", "label"}
# What names an entry of a list, {"variable": "soil_moisture", "value": 37, "date": …}; "n": as in SenML.
_NAMES = frozenset({"name", "variable", "parameter", "key", "n"})
# What decoders write where a quantity has no unit.
_NO_UNIT = frozenset({None, "", "None", "none", "null", "-"})


def decoded_leaves(decoded: dict[str, Any], at: At, message: Message, *, without: str | None = None) -> Decoded:
    """The verdicts on all leaves of a decoder's result, but for the one at the path `without`."""
    most = most_keys(message) + (without is not None)
    found = flat(decoded, most)
    if len(found) > most:  # before thousands of verdicts are made for nothing
        return too_many(message, at.device)
    if _NESTED.isdisjoint(map(type, decoded.values())):
        return kept([leaf(path, value, at) for path, value in found if path != without], message, at.device)
    if sensecap.is_of(decoded):
        return kept(list(sensecap.leaves(decoded, found, at)), message, at.device)
    return kept(list(_described([one for one in found if one[0] != without], at)), message, at.device)


def _described(found: list[tuple[str, Any]], at: At) -> Iterator[Leaf]:
    """Verdicts on leaves of which some have unit or time beside them: {"value": 7.4, "unit": "°C", "date": …}."""
    parts = [path.rpartition(".") for path, _ in found]
    valued = {above for above, _, name in parts if name == "value" and above}
    units: dict[str, str | None] = {}
    times: dict[str, int | None] = {}
    named = _named(parts, found)
    for (above, _, name), (_, value) in zip(parts, found, strict=True):
        if not above:
            continue
        if not isinstance(value, str):
            if name in _TIMES and above.rpartition(".")[2].isdecimal() and type(value) in {int, float}:
                times[above] = None  # of an entry of a list: the network's time is not its own
            continue
        if name in _UNITS and above in valued and len(value) <= LONGEST_UNIT and storable(value):
            units[above] = value if above not in units else None  # of two nobody knows which holds
        elif name in _TIMES and (time := instant(value)) is not None:
            times[above] = time
    if not units and not times and not named:
        yield from (leaf(path, value, at) for path, value in found)
        return
    for (above, _, name), (path, value) in zip(parts, found, strict=True):
        here = at._replace(time=times[above], fault=None) if above in times else at
        unit = units.get(above)
        if above in named:
            one = named[above]
            yield leaf(one.key, value, here, None, one.unit) if name == one.member else NO_OBSERVATION
        elif isinstance(value, str) and (
            (unit is not None and name in _ABOUT) or (times.get(above) is not None and name in _TIMES)
        ):
            yield NO_OBSERVATION
        elif name == "value" and unit not in _NO_UNIT:
            yield leaf(path, value, here, None, unit)
        else:
            yield leaf(path, value, here)


class _Named(NamedTuple):
    """An entry of a list that says its name: the key that it has by it, its member with the value, unit and time."""

    key: str
    member: str
    unit: str | None
    time: int | None


def _named(parts: list[tuple[str, str, str]], found: list[tuple[str, Any]]) -> dict[str, _Named]:
    """The entries of lists that say their names and nothing besides, by their paths.

    What says more ("type": "max") or has a time of unknown unit is told apart by its place, and so are entries of one
    name that no times tell apart.
    """
    entries: dict[str, dict[str, Any]] = {
        above: {}
        for (above, _, name), (_, value) in zip(parts, found, strict=True)
        if name in _NAMES and isinstance(value, str) and above.rpartition(".")[2].isdecimal()
    }
    if not entries:
        return {}
    for (above, _, name), (path, value) in zip(parts, found, strict=True):
        outer = above
        while outer and outer not in entries:
            outer = outer.rpartition(".")[0]
        if outer:
            entries[outer][name if outer == above else path] = value
    named = {above: one for above, entry in entries.items() if (one := _entry(above, entry)) is not None}
    times = Counter((one.key, one.time) for one in named.values())
    return {above: one for above, one in named.items() if times[one.key, one.time] == 1}


def _entry(above: str, entry: dict[str, Any]) -> _Named | None:
    """What an entry of a list says of itself, where that is a name, a value, and perhaps unit and time."""
    names, clocks = _NAMES & entry.keys(), _TIMES & entry.keys()
    if len(names) != 1 or len(clocks) > 1:
        return None
    (by,) = names
    member, of = ("v", "u") if by == "n" else ("value", "unit")  # SenML's, or in words
    if member not in entry or len(entry) != 2 + (of in entry) + len(clocks):
        return None
    name, unit = entry[by], entry.get(of)
    if unit in _NO_UNIT:
        unit = None
    elif unit_text(unit) is None:
        return None
    time = next((instant(entry[clock]) for clock in clocks), None)
    key = f"{above.rpartition('.')[0]}.{name}.value"
    if (clocks and time is None) or not name or name.isdecimal() or len(key) > LONGEST_NAME:
        return None
    return _Named(key, member, unit, time)


def device_time(decoded: Any) -> tuple[int | None, tuple[Reason, str] | None]:
    """The time that a decoder passes on under `time`, if it is one: a number has no declared unit, so it is none."""
    text = decoded.get("time") if isinstance(decoded, dict) else None
    if not isinstance(text, str):
        return None, None
    time = parse(text)
    if not isinstance(time, Reason):
        return time, None
    return None, (time, f"time {shown(text)!r} has no zone") if time is Reason.NAIVE_TIME else None


def first_heard(gateways: Any, names: tuple[str, ...], received: int | None) -> int | None:
    """When the first gateway heard an uplink, or else when the network server got it. `names`: a gateway's members."""
    heard = [
        time
        for gateway in (gateways if isinstance(gateways, list) else ())
        if isinstance(gateway, dict)
        for name in names
        if (time := instant(gateway.get(name))) is not None
    ]
    return min((t for t in heard if received is None or abs(t - received) < GATEWAY_CLOCK_US), default=received)


def instant(text: object) -> int | None:
    """A time with a zone; None for everything else."""
    time = parse(text) if isinstance(text, str) else None
    return None if isinstance(time, Reason) else time
