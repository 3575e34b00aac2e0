"""The closed vocabulary: what an observed property is called, in which unit it is kept and what it may plausibly be.

`VOCABULARY` is read from the packaged vocabulary.csv and checked when this module is imported: a faulty table is a
fault of the build, so it raises. Whether each unit converts is checked by `units`, which knows them.
"""

import csv
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

KINDS = frozenset({"gauge", "mean", "max", "sum", "counter", "state"})

# How hours are summed up where the kind does not say it: levels by energy, directions as vectors.
_AGGREGATION_OF_PROPERTY = {"noise_laeq": "energy", "wind_direction": "direction"}
_AGGREGATION_OF_KIND = {"gauge": "mean", "mean": "mean"}

# Values that pass the gross range and are suspect all the same (the vocabulary's note: humidity sensors overshoot).
_SUSPECT_ABOVE = {"relative_humidity": 100.0}


class ObservedProperty(NamedTuple):
    """A row of the vocabulary. `unit` is UCUM; minimum and maximum are the gross range in that unit, inclusive."""

    key: str
    domain: str
    unit: str
    kind: str
    minimum: float
    maximum: float
    aggregation: str
    suspect_above: float | None
    sdm_type: str
    sdm_attribute: str
    sdm_factor: float | None  # canonical x factor = the Smart Data Model's number
    cf_standard_name: str
    qudt_quantity_kind: str
    obis: str
    notes: str


def _property(row: Mapping[str, str]) -> ObservedProperty:
    key, kind = row["property"], row["kind"]
    found = ObservedProperty(
        key=key,
        domain=row["domain"],
        unit=row["ucum"],
        kind=kind,
        minimum=float(row["min"]),
        maximum=float(row["max"]),
        aggregation=_AGGREGATION_OF_PROPERTY.get(key) or _AGGREGATION_OF_KIND.get(kind, kind),
        suspect_above=_SUSPECT_ABOVE.get(key),
        sdm_type=row["sdm_type"],
        sdm_attribute=row["sdm_attribute"],
        sdm_factor=float(row["sdm_factor"]) if row["sdm_factor"] else None,
        cf_standard_name=row["cf_standard_name"],
        qudt_quantity_kind=row["qudt_quantitykind"],
        obis=row["obis"],
        notes=row["notes"],
    )
    if not (key and found.domain and found.unit):
        raise ValueError(f"property {key!r}: key, domain and unit are required")
    if kind not in KINDS:
        raise ValueError(f"property {key!r}: kind {kind!r} is none of {sorted(KINDS)}")
    if not found.minimum < found.maximum:
        raise ValueError(f"property {key!r}: minimum {found.minimum} is not below maximum {found.maximum}")
    return found


def load(text: str) -> Mapping[str, ObservedProperty]:
    """Properties by key from the text of a vocabulary.csv, in its order. Raises ValueError with the faulty row."""
    vocabulary: dict[str, ObservedProperty] = {}
    for row in csv.DictReader(text.splitlines(), strict=True):
        try:
            found = _property(row)
        except (KeyError, TypeError) as error:
            raise ValueError(f"vocabulary row {len(vocabulary) + 1}: column missing: {error}") from error
        if found.key in vocabulary:
            raise ValueError(f"property {found.key!r} appears twice")
        vocabulary[found.key] = found
    return MappingProxyType(vocabulary)


VOCABULARY = load(files(__package__).joinpath("vocabulary.csv").read_text(encoding="utf-8"))
