"""The stream of one city's messages: its networks in turn, with faults, oddities, copies and late readings among them.

    for publication in messages(Site("rostock"), seed=1, clock=now): ...

The stream has no end and no pace: a message is made when it is asked for, and its readings carry the clock's time of
that instant. The same seed and clock give the same messages. Nothing here does I/O.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from random import Random
from typing import NamedTuple

from simulator.curves import City
from simulator.devices import Device, Draft, devices, draft, weather
from simulator.expectation import Expectation, Publication
from simulator.faults import FAULTS, Scene
from simulator.oddities import ODDITIES

Clock = Callable[[], int]  # microseconds since the epoch

PROBES = ("weather-01", "weather-02")  # never late, never copied with another value: latency is measured on them
WEIGHTS = {"weather": 35, "water": 10, "energy": 22, "traffic": 15, "lorawan": 18}
COPIES = 0.01
LATE = 0.01
COPY_AFTER = 5  # messages
SPACING = 200  # messages from one fault to the next: 0.5 %
FIRST_ROUND_SECONDS = 15  # by then every class of fault was there once
OLDEST_HOURS = 29 * 24


class Site(NamedTuple):
    """A city as the simulator knows it. `gauges`: names with their mean level above gauge zero in m.

    `share` and `shares`: which of the fault classes come first here, so that several cities soon have all of them.
    """

    key: str
    gauges: Sequence[tuple[str, float]] = (("pegel-hafen", 5.02),)
    max_payload_bytes: int = 262_144
    share: int = 0
    shares: int = 1


class _Rounds:
    """Names that come round one by one: the first `urgent` at the first spacing, all later ones at the usual one."""

    def __init__(self, names: Sequence[str], urgent: int, rate: float) -> None:
        self._names = cycle(names)
        self._urgent = urgent
        self._first = max(2, min(SPACING, int(rate * FIRST_ROUND_SECONDS / max(1, urgent))))
        self._due = self._first

    def take(self, count: int) -> str | None:
        """The name that is due at message `count`."""
        if count < self._due:
            return None
        self._urgent -= 1
        self._due = count + (self._first if self._urgent > 0 else SPACING)
        return next(self._names)


def _ordered(site: Site) -> tuple[list[str], int]:
    """Fault classes with the site's own share first, and the size of that share."""
    names = list(FAULTS)
    mine = names[site.share :: site.shares]
    start = site.share * len(names) // site.shares
    return mine + [name for name in names[start:] + names[:start] if name not in mine], len(mine)


class _Stream:
    def __init__(self, site: Site, seed: int, clock: Clock, rate: float) -> None:
        self._site = site
        self._clock = clock
        self._random = Random(f"{seed}/{site.key}")
        sky = City(self._random)
        networks = devices(sky, site.gauges)
        stations = networks["weather"]
        probes, others = stations[: len(PROBES)], stations[len(PROBES) :]
        networks["weather"] = [*probes, *others[::2], *probes, *others[1::2]]
        self._turns = {name: cycle(members) for name, members in networks.items()}
        self._names, self._weights = list(WEIGHTS), list(WEIGHTS.values())
        self._sensor = weather(sky, 97)
        self._latest: dict[str, int] = {}
        self._copies: deque[tuple[int, Publication]] = deque()
        self._earlier: Draft | None = None
        names, urgent = _ordered(site)
        self._faults = _Rounds(names, urgent, rate)
        self._oddities = _Rounds(list(ODDITIES), len(ODDITIES), rate)
        self._serial = 0

    def _time(self, device: Device) -> int:
        """Now, as the device's clock tells it; never the same twice, for that would be a conflict."""
        now = self._clock() // device.tick * device.tick
        now = max(now, self._latest.get(device.name, 0) + device.tick)
        self._latest[device.name] = now
        return now

    def _scene(self) -> Scene:
        self._serial += 1
        site, time = self._site, self._time(self._sensor)
        return Scene(site.key, time, self._random, self._serial, self._sensor, site.max_payload_bytes, self._earlier)

    def _ordinary(self, count: int) -> Publication:
        random = self._random
        network = random.choices(self._names, self._weights)[0]
        device = next(self._turns[network])
        kind, time = network, self._time(device)
        probe = device.name in PROBES
        if not probe and random.random() < LATE:
            kind = "late"
            time -= int(3_600e6 * math.exp(random.uniform(0, math.log(OLDEST_HOURS)))) + random.randrange(1_000_000)
        made = draft(self._site.key, device, time, random)
        publication = Publication(made.topic, made.payload, retain=False, expected=Expectation(kind, tuple(made.good)))
        if network in {"water", "energy"}:
            self._earlier = made
        if random.random() < COPIES:
            copy = publication.expected._replace(kind="copy", copy=True)
            self._copies.append((count + COPY_AFTER, publication._replace(expected=copy)))
        return publication

    def __iter__(self) -> Iterator[Publication]:
        count = 0
        while True:
            count += 1
            if self._copies and self._copies[0][0] <= count:
                yield self._copies.popleft()[1]
            elif self._earlier is not None and (name := self._faults.take(count)):
                made = FAULTS[name](self._scene())
                yield made._replace(expected=made.expected._replace(kind=name))
            elif name := self._oddities.take(count):
                made = ODDITIES[name](self._scene())
                yield made._replace(expected=made.expected._replace(kind=name))
            else:
                yield self._ordinary(count)


def messages(site: Site, *, seed: int, clock: Clock, rate: float = 40) -> Iterator[Publication]:
    """The endless stream of a city's messages. `rate`: how many a second will be asked for."""
    return iter(_Stream(site, seed, clock, rate))
