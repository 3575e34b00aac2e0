"""What the members of a JSON object say of each other, by the names that they usually have. Pure.

Names of values, units, times and of what is measured, German and English, in any case: `generic` reads by them.
"""

import re
from typing import Any

from processors.dialects.leaves import unit_text
from processors.dialects.strict_json import storable
from processors.standard.names import ROOMS

LONGEST_NAME = 255
MANY = 64  # members: what has more is a record, whose names are not looked at in other cases

TIMES = ("time", "timestamp", "ts", "datetime", "date", "dateutc", "zeit", "zeitstempel")
# What names a reading: whose or which it is, and what it is of; both together are a path.
NAMES = ("name", "key", "sensor", "type")
QUANTITIES = (
    *("property", "parameter", "observedproperty", "observed_property", "quantity", "measurement", "metric"),
    *("component", "pollutant", "messgroesse", "messgröße"),
)
VALUES = ("value", "wert", "val", "messwert")
UNITS = ("unit", "units", "uom", "einheit", "unitofmeasurement", "unit_of_measurement")
AGGREGATES = ("aggregation", "aggregate", "statistic", "statistics")  # the maximum of a day is another thing
SAID = frozenset((*NAMES, *QUANTITIES, *VALUES, *UNITS, *TIMES, *AGGREGATES, "n", "u", "v"))
# Who an entry of an array is; a bare id may be a record's.
IDENTITIES = (
    *("sensor_id", "sensorid", "device", "device_id", "deviceid", "deveui", "dev_eui", "mac", "serial", "node"),
    *("station", "station_id", "stationid", "sensor"),
)
PLACES = ("location", "room", "raum", "ort", "standort", "zimmer", "place", "area")
_WORD = re.compile(r"[a-z]+")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})
BESIDE = ("_unit", "_units", "_uom", "_einheit", "unit", "einheit")  # co2_unit says the unit of co2
_ALONE = 4  # value, unit, date and time

Names = dict[str, str]


def medium(body: Any) -> str | None:
    """The model of a wmbusmeters telegram: a meter heard over M-Bus, whose keys mean what its medium makes of them."""
    if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in ("media", "meter", "id")):
        return None
    return f"wmbusmeters/{body['media']}"


def is_alone(body: dict[str, Any]) -> bool:
    """Whether an object is one value with its unit, so that only the topic names it: {"value": 12, "unit": "cm"}."""
    if len(body) > _ALONE:
        return False
    names = lowered(body)
    value = first(names, VALUES)
    if value is None or isinstance(body[value], dict | list) or unit_of(body, names) is None:
        return False
    return names.keys() <= {*VALUES, *UNITS, *TIMES}


def room_of(node: dict[str, Any], names: Names) -> str | None:
    """The room that an object says its readings are from, as their channel: they are not the weather's."""
    if names.keys().isdisjoint(PLACES):
        return None
    said = node[str(first(names, PLACES))]
    if not isinstance(said, str) or not 0 < len(said) <= LONGEST_NAME or not storable(said):
        return None
    return None if ROOMS.isdisjoint(_WORD.findall(said.lower().translate(_UMLAUTS))) else said


def lowered(node: dict[str, Any]) -> Names:
    """Members by their names in lower case. What has very many is a record: only exact names count there."""
    return {name.lower(): name for name in node} if len(node) <= MANY else dict(zip(node, node, strict=True))


def first(names: Names, usual: tuple[str, ...]) -> str | None:
    """The first of the usual names that an object has, as it is written there."""
    if names.keys().isdisjoint(usual):  # as almost always
        return None
    for name in usual:
        if name in names:
            return names[name]
    raise AssertionError("not disjoint, but without a common name")


def triplet(node: dict[str, Any], names: Names) -> tuple[str, str, str | None] | None:
    """Name, the value's member and unit in {"name": …, "value": …, "unit": …}, if it is one; or in SenML's n, v, u."""
    value = first(names, VALUES)
    if value is None:
        if "n" not in names or "v" not in names:
            return None
        value, said, unit = names["v"], [node[names["n"]]], unit_text(node.get(names.get("u", "")))
    else:
        said = [node[one] for usual in (NAMES, QUANTITIES) if (one := first(names, usual)) is not None]
        unit = unit_of(node, names)
    said = [node.get(names.get(one, "")) for one in AGGREGATES if one in names] + said
    parts = [one for one in said if isinstance(one, str) and one]
    return None if not parts or isinstance(node[value], dict | list) else (".".join(parts), value, unit)


def unit_of(node: dict[str, Any], names: Names) -> str | None:
    """The unit that an object says of its value."""
    return unit_text(node.get(first(names, UNITS) or ""))


def units_beside(node: dict[str, Any], names: Names) -> dict[str, str]:
    """Members that say the unit of a neighbour, by its name: {"co2": 450, "co2_unit": "ppm"}."""
    found: dict[str, str] = {}
    for lower, name in names.items():
        if lower.endswith(BESIDE) and unit_text(node[name]) is not None:
            ending = next(one for one in BESIDE if lower.endswith(one))
            of = names.get(lower.removesuffix(ending))
            if of is not None and not isinstance(node[of], dict | list):
                found[of] = name
    return found
