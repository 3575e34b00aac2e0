"""A north-easter that passed before the run: what the cities' loggers kept while nothing was sent, and tell now.

Every city's third weather station and its native gauges deliver nine hours of ten-minute values, an hour a message,
each reading with the time at which it was measured. It is the same storm for all, of another strength in each city:
gusts up to a severe storm's, an hour of heavy rain and, at the Baltic's gauges alone, a surge of well over a metre.
Curves, not meteorology; the official warning levels that they pass are the Deutscher Wetterdienst's and the BSH's.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from simulator.devices import encode, stamp
from simulator.expectation import Expectation, Good, Publication

HOURS = 9
STEP = 600_000_000  # ten minutes in microseconds
HOUR = 6 * STEP
STATION = "weather-03"
SURGE, GUST, RAIN = 1.45, 29.0, 24.0  # m above mean water, m/s, mm/h: at the height of a storm of strength 1
INLAND = 0.75  # of the wind is left there


class Place(NamedTuple):
    """A city as the storm sees it. `gauges`: name, mean level above gauge zero in m; `sea`: those at the Baltic."""

    city: str
    gauges: Sequence[tuple[str, float]]
    sea: Sequence[str]


class _Kept(NamedTuple):
    """What a logger keeps of one quantity: property, unit, decimals, value at a share of the storm (0 to 1)."""

    property: str
    unit: str
    decimals: int
    at: Callable[[float], float]


def last_hours(now: int) -> int:
    """When a storm is over that a run beginning at `now` tells of: at the last full hour but one."""
    return now // HOUR * HOUR - HOUR


def messages(place: Place, ended: int, now: int, random: Random) -> Iterator[Publication]:
    """The loggers' messages, told at `now`; the storm is over at `ended` (microseconds since the epoch), a full hour.

    The readings lie as many milliseconds beside the full ten minutes as `now` beside a full second, so that two runs of
    one storm hardly ever give the same identity to their readings.
    """
    strength = random.uniform(0.85, 1.2)
    wind = strength if place.sea else strength * INLAND
    beside = now // 1_000 % 1_000 * 1_000
    swell = random.uniform(0.42, 0.55)  # when it was at its height
    loggers = [("weather", STATION, _station(strength, wind, swell))]
    loggers += [("water", name, [_gauge(mean, strength, swell)]) for name, mean in place.gauges if name in place.sea]
    for hour in range(HOURS):
        for network, device, kept in loggers:
            begin = ended - (HOURS - hour) * HOUR + beside
            yield _pack(place.city, network, device, kept, range(begin, begin + HOUR, STEP), ended)


def _height(share: float, centre: float, width: float) -> float:
    return math.exp(-(((share - centre) / width) ** 2))


def _station(strength: float, wind: float, swell: float) -> list[_Kept]:
    return [
        _Kept("wind_speed", "m/s", 1, lambda x: 4 + 0.62 * GUST * wind * _height(x, swell, 0.32)),
        _Kept("wind_speed_gust", "m/s", 1, lambda x: 6 + (GUST * wind - 6) * _height(x, swell, 0.32)),
        _Kept("wind_direction", "deg", 0, lambda x: 25 + 45 * x),
        _Kept("air_pressure", "hPa", 1, lambda x: 1006 - 11 * strength * _height(x, swell + 0.1, 0.4)),
        _Kept("precipitation", "mm", 2, lambda x: RAIN * strength / 6 * _height(x, swell + 0.1, 0.09)),
    ]


def _gauge(mean: float, strength: float, swell: float) -> _Kept:
    return _Kept("water_level", "m", 3, lambda x: mean + SURGE * strength * _height(x, swell + 0.08, 0.26))


def _pack(city: str, network: str, device: str, kept: Sequence[_Kept], times: Sequence[int], ended: int) -> Publication:
    """An hour of a logger."""
    readings, good = [], []
    for time in times:
        share = 1 - (ended - time) / (HOURS * HOUR)
        for one in kept:
            value = round(one.at(share), one.decimals)
            readings.append({"property": one.property, "value": value, "unit": one.unit, "time": stamp(time)})
            good.append(Good(device, "", one.property, time, value))
    body = {"v": 1, "device": device, "readings": readings}
    expected = Expectation("storm", tuple(good))
    return Publication(f"hanse/{city}/{network}/{device}", encode(body), retain=False, expected=expected)
