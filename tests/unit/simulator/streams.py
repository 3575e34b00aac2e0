"""A clock that only moves when told, and a city's stream on it."""

from collections.abc import Iterator
from functools import cache
from itertools import islice

from simulator.expectation import Publication, Recorded
from simulator.networks import Site, messages

LONGEST = 6_000
START = 1_795_500_000_000_000  # 2026-11-24T06:00:00Z


class Ticking:
    """Each look takes a fortieth of a second: forty messages a second."""

    def __init__(self, step: int = 25_000) -> None:
        self.now = START
        self._step = step

    def __call__(self) -> int:
        self.now += self._step
        return self.now


def stream(city: str = "rostock", seed: int = 1, **site: int) -> Iterator[Publication]:
    return messages(Site(city, **site), seed=seed, clock=Ticking())


@cache
def _made(city: str, seed: int) -> list[Publication]:
    return list(islice(stream(city, seed), LONGEST))


def taken(number: int, city: str = "rostock", seed: int = 1) -> list[Publication]:
    """The first messages of a stream; made once for all tests."""
    assert number <= LONGEST
    return _made(city, seed)[:number]


def recorded(publications: list[Publication]) -> list[Recorded]:
    return [Recorded(number, each.topic, START, each.expected) for number, each in enumerate(publications, start=1)]
