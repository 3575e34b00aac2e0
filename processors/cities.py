"""What a processor knows before it starts: its cities' files, checked, and what the database must know of them."""

from collections.abc import Sequence
from pathlib import Path

from ingest.city import City, load
from processors import routes, stations
from processors.dialects import DIALECTS
from processors.standard.vocabulary import VOCABULARY
from storage.rows import CityLimits, Property

PROPERTIES = [
    Property(p.key, p.unit, p.domain, p.kind, p.aggregation, p.minimum, p.maximum) for p in VOCABULARY.values()
]


class StartError(Exception):
    """The process can't start; one line a fault."""


def read_cities(paths: Sequence[Path]) -> list[City]:
    """Load and check the city files; each city once, routes and devices usable. Raises CityFileError, StartError."""
    cities: dict[str, City] = {}
    for path in paths:
        city = load(path)
        if wrong := [*routes.faults(city, DIALECTS), *stations.faults(city)]:
            raise StartError("\n".join(f"{path}: {fault}" for fault in wrong))
        if city.key in cities:
            raise StartError(f"{path}: city.key = {city.key!r}: another file has it already; every city has one file")
        cities[city.key] = city
    return list(cities.values())


def limits(cities: Sequence[City]) -> list[CityLimits]:
    """What the write path must know of the cities."""
    return [
        CityLimits(
            c.key,
            c.city.name,
            c.city.ags,
            c.limits.new_datastreams_per_hour,
            c.limits.dead_letter_bytes,
            c.limits.max_age,
        )
        for c in cities
    ]
