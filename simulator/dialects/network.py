"""What the networks of a city have in common: announcements, and sensors that make one message at a time.

A message is made from a template that was written once, so that its cost is a few numbers and one formatting.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from simulator.curves import City
from simulator.devices import Quantity
from simulator.expectation import Good

BERLIN = ZoneInfo("Europe/Berlin")
MILLISECOND = 1_000
SECOND = 1_000_000


class Sent(NamedTuple):
    """A message with what must become of it: `good` readings, and `ignored` leaves (1 for a whole message).

    `session`: whether it can be read in the session alone in which it was sent.
    """

    topic: str
    payload: bytes
    good: tuple[Good, ...] = ()
    ignored: int = 0
    retain: bool = False
    session: bool = False


class Make(Protocol):
    """Make a message of a measurement at `time`, published at `now` (microseconds since the epoch)."""

    def __call__(self, time: int, random: Random, now: int, /) -> Sent:
        """The next message."""


class Sensor(NamedTuple):
    """A source of messages. `tick`: microseconds its clock can tell apart."""

    name: str
    make: Make
    tick: int = 1


class Network(NamedTuple):
    """A dialect's sensors in one city.

    `announced` makes what is published before any of them speaks. `late`: whether messages may tell of the past;
    `copied`: whether they may come twice (they have a time of their own); `wall`: whether their clock shows local time
    without an offset, which nobody can read in the hour that October repeats.
    """

    sensors: Sequence[Sensor]
    announced: Callable[[int], Sequence[Sent]] = lambda _: ()
    late: bool = False
    copied: bool = False
    wall: bool = False


class Setting(NamedTuple):
    """Where a network stands. `stations`: federal gauges, (uuid, mean level above gauge zero in m)."""

    city: str
    sky: City
    random: Random
    stations: Sequence[tuple[str, float]] = ()


def measured(
    device: str, quantities: Sequence[Quantity], time: int, random: Random
) -> tuple[list[float], tuple[Good, ...]]:
    """The numbers on the wire and the readings that they stand for."""
    numbers: list[float] = []
    good: list[Good] = []
    for quantity in quantities:
        number, value = quantity.measure(time / 1e6, random)
        numbers.append(number)
        good.append(Good(device, quantity.channel, quantity.property, time, value))
    return numbers, tuple(good)


def noisy(curve: Callable[[float], float], sigma: float, low: float = -1e9, high: float = 1e9) -> Callable[..., float]:
    """A curve as a sensor sees it."""
    return lambda t, random: min(high, max(low, curve(t) + random.gauss(0, sigma)))


def quiet(_: float, random: Random) -> float:
    """A battery in %, nearly full."""
    return 90 + random.randrange(10)


def utc(time: int) -> str:
    """RFC 3339 in UTC with milliseconds, as JavaScript writes it."""
    return f"{datetime.fromtimestamp(time // SECOND, UTC):%Y-%m-%dT%H:%M:%S}.{time // 1_000 % 1_000:03d}Z"


def berlin(time: int) -> datetime:
    """The wall clock of the cities, in whole seconds."""
    return datetime.fromtimestamp(time // SECOND, BERLIN)


def ambiguous(time: int) -> bool:
    """Whether the wall clock shows this time twice."""
    wall = berlin(time)
    return wall.replace(fold=0).utcoffset() != wall.replace(fold=1).utcoffset()
