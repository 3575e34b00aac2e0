"""What a city's file knows of its sensors: where they are, their parameters, their ranges and tests over time.

`match` is a shell pattern on the device id, case-sensitive. Of the entries that match, the first that says something
of a field, a parameter or a property's range is believed, so a general entry may follow the particular ones. Pure.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.city import City, Device, TimeTests
from processors.standard.consistency import CONSISTENCY
from processors.standard.vocabulary import VOCABULARY
from storage.rows import Facts, Stream, StreamTable, TimeLimits

Floats = npt.NDArray[np.float64]
_GROWTH = 4096
MICROSECONDS = 1_000_000
MICROSECOND = timedelta(microseconds=1)


def faults(city: City) -> list[str]:
    """One line per range or test of a property that the vocabulary does not have, or that has no such test."""
    found = []
    for place, device in enumerate(city.device, start=1):
        for what, key in [*(("range", key) for key in device.range), *(("tests", key) for key in device.tests)]:
            if key not in VOCABULARY:
                near = ", ".join(difflib.get_close_matches(key, VOCABULARY, n=3)) or "see docs/standard.md"
                found.append(f"device[{place}].{what}.{key}: no such property; is it one of {near}?")
        for key, tests in device.tests.items():
            if tests and (tests.spike or tests.rate) and key in VOCABULARY and _turns(key):
                found.append(f"device[{place}].tests.{key}: 359 and 1 are neighbours; leave out spike and rate")
    return found


def _turns(key: str) -> bool:
    return VOCABULARY[key].aggregation == "direction"


def _standard(key: str) -> TimeLimits | None:
    told = CONSISTENCY.get(key)
    if told is None:
        return None
    pairs = [number for step in told.rate for number in (step.difference, step.seconds * MICROSECONDS)]
    spike, flat = told.spike and told.spike[0], told.flat and told.flat[0] * MICROSECONDS
    return TimeLimits(*(np.nan if one is None else one for one in (spike, *pairs, *[None] * (4 - len(pairs)), flat)))


def _own(told: TimeTests) -> TimeLimits:
    step, within = (np.nan, np.nan) if told.rate is None else (told.rate[0], told.rate[1] / MICROSECOND)
    return TimeLimits(
        spike=np.nan if told.spike is None else told.spike,
        step=step,
        step_us=within,
        flat_us=np.nan if told.flat is None else told.flat / MICROSECOND,
    )


STANDARD = {key: _standard(key) for key in CONSISTENCY}


class Stations:
    """The `[[device]]` entries of all cities."""

    def __init__(self, cities: Sequence[City]) -> None:
        self._devices: Mapping[str, tuple[Device, ...]] = {city.key: city.device for city in cities}
        self._ranged = any(device.range for city in cities for device in city.device)
        self._table: StreamTable | None = None
        self._known = 0
        self._limits = np.empty((0, 2))

    def facts(self, city: str, device: str) -> Facts:
        """Location and parameters of a device, as a datastream keeps them."""
        parameters: dict[str, Any] = {}
        latitude = longitude = None
        for entry in self._matching(city, device):
            if latitude is None:
                latitude, longitude = entry.latitude, entry.longitude
            named = {} if entry.name is None else {"name": entry.name}
            parameters = {**named, **entry.parameters, **parameters}
        return Facts(latitude, longitude, json.dumps(parameters, allow_nan=False, sort_keys=True))

    def time_limits(self, stream: Stream) -> TimeLimits | None:
        """How a datastream is tested over time: as its city's file says, otherwise as the standard does."""
        for entry in self._matching(stream.city, stream.device):
            if stream.property in entry.tests:
                own = entry.tests[stream.property]
                return None if own is None else _own(own)
        return STANDARD.get(stream.property)

    def limits(self, streams: StreamTable, numbers: npt.NDArray[np.int32]) -> tuple[Floats, Floats] | None:
        """Station range by row, in the properties' units, NaN where there is none; None where no city has any."""
        if not self._ranged:
            return None
        if streams is not self._table:
            self._table, self._known = streams, 0
        if self._known < len(streams.streams):
            self._learn(streams)
        limits = self._limits[numbers]
        return limits[:, 0], limits[:, 1]

    def _learn(self, streams: StreamTable) -> None:
        count = len(streams.streams)
        if count > len(self._limits):
            grown = np.full((count + max(_GROWTH, count // 2), 2), np.nan)
            grown[: self._known] = self._limits[: self._known]
            self._limits = grown
        for number in range(self._known, count):
            stream = streams.streams[number]
            self._limits[number] = self._range(stream.city, stream.device, stream.property)
        self._known = count

    def _range(self, city: str, device: str, property_key: str) -> tuple[float, float]:
        for entry in self._matching(city, device):
            if property_key in entry.range:
                return entry.range[property_key]
        return np.nan, np.nan

    def _matching(self, city: str, device: str) -> list[Device]:
        return [entry for entry in self._devices.get(city, ()) if fnmatchcase(device, entry.match)]
