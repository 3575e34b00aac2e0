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

from simulator import storm
from simulator.curves import City
from simulator.devices import Device, Draft, devices, draft, weather
from simulator.dialects import DIALECTS
from simulator.dialects.network import Network, Sensor, Sent, Setting, ambiguous
from simulator.expectation import Expectation, Publication, digest
from simulator.faults import FAULTS, Scene
from simulator.oddities import ODDITIES

Clock = Callable[[], int]  # microseconds since the epoch

PROBES = ("weather-01", "weather-02")  # never late, never copied with another value: latency is measured on them
WEIGHTS = {"weather": 35, "water": 10, "energy": 22, "traffic": 15, "lorawan": 12}
DIALECT_WEIGHT = 5  # of each network that speaks a dialect of its own
STORM_EVERY = 6  # messages: soon over, and the live ones go on meanwhile
COPIES = 0.01
LATE = 0.014  # of those that may be late: one in a hundred of all
COPY_AFTER = 5  # messages
SPACING = 200  # messages from one fault to the next: 0.5 %
FIRST_ROUND_SECONDS = 15  # by then every class of fault was there once
OLDEST_HOURS = 29 * 24


class Site(NamedTuple):
    """A city as the simulator knows it. `gauges`: names with their mean level above gauge zero in m.

    `sea`: the gauges of them that stand at the Baltic. `stations`: federal gauges, by uuid. `dialects`: what its
    networks speak besides the alliance's format and LoRaWAN. `share` and `shares`: which of the fault classes come
    first here, so that several cities soon have all of them.
    """

    key: str
    gauges: Sequence[tuple[str, float]] = (("pegel-hafen", 5.02),)
    sea: Sequence[str] = ("pegel-hafen",)
    stations: Sequence[tuple[str, float]] = (("0b5f2a6e-5d1c-4f57-9a58-3c8e2f1d7a40", 5.02),)
    dialects: Sequence[str] = tuple(DIALECTS)
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
    def __init__(self, site: Site, seed: int, clock: Clock, rate: float, storm_ended: int | None) -> None:
        self._site = site
        self._storm_ended = storm_ended
        self._clock = clock
        self._random = Random(f"{seed}/{site.key}")
        sky = City(self._random)
        networks = devices(sky, site.gauges)
        stations = networks["weather"]
        probes, others = stations[: len(PROBES)], stations[len(PROBES) :]
        networks["weather"] = [*probes, *others[::2], *probes, *others[1::2]]
        self._turns = {name: cycle(members) for name, members in networks.items()}
        setting = Setting(site.key, sky, self._random, site.stations)
        self._dialects: dict[str, Network] = {name: DIALECTS[name](setting) for name in site.dialects}
        self._sensors = {name: cycle(network.sensors) for name, network in self._dialects.items() if network.sensors}
        self._names = [*WEIGHTS, *self._sensors]
        self._weights = [*WEIGHTS.values(), *(DIALECT_WEIGHT for _ in self._sensors)]
        self._sensor = weather(sky, 97)
        self._latest: dict[str, int] = {}
        self._copies: deque[tuple[int, Publication]] = deque()
        self._earlier: Draft | None = None
        names, urgent = _ordered(site)
        self._faults = _Rounds(names, urgent, rate)
        self._oddities = _Rounds(list(ODDITIES), len(ODDITIES), rate)
        self._serial = 0

    def _time(self, device: Device | Sensor) -> int:
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
        network = self._random.choices(self._names, self._weights)[0]
        spoken = self._spoken(network) if network in self._sensors else None
        publication = spoken or self._native(network if network in WEIGHTS else "weather")
        copied = network in WEIGHTS or self._dialects[network].copied
        if copied and self._random.random() < COPIES:
            copy = publication.expected._replace(kind="copy", copy=True)
            self._copies.append((count + COPY_AFTER, publication._replace(expected=copy)))
        return publication

    def _native(self, network: str) -> Publication:
        random = self._random
        device = next(self._turns[network])
        kind, time = network, self._time(device)
        probe = device.name in PROBES
        if not probe and random.random() < LATE:
            kind = "late"
            time -= self._age()
        made = draft(self._site.key, device, time, random)
        if network in {"water", "energy"}:
            self._earlier = made
        return Publication(made.topic, made.payload, retain=False, expected=Expectation(kind, tuple(made.good)))

    def _spoken(self, name: str) -> Publication | None:
        """A message in a dialect; None where the sensor has nothing new, or its clock can't be read now."""
        network, sensor = self._dialects[name], next(self._sensors[name])
        if self._clock() // sensor.tick * sensor.tick <= self._latest.get(sensor.name, 0):
            return None
        now = time = self._time(sensor)
        if network.wall and ambiguous(now):
            return None
        if network.late and self._random.random() < LATE:
            time -= self._age() // sensor.tick * sensor.tick
        sent = sensor.make(time, self._random, now)
        late = time != now and sent.good[:1] and sent.good[0].time == time
        return _published(sent, "late" if late else name)

    def _age(self) -> int:
        """How late a reading is, in microseconds: mostly hours, now and then weeks."""
        random = self._random
        return int(3_600e6 * math.exp(random.uniform(0, math.log(OLDEST_HOURS)))) + random.randrange(1_000_000)

    def _first(self) -> Iterator[Publication]:
        """What is announced before any sensor speaks."""
        for name, network in self._dialects.items():
            for sent in network.announced(self._clock()):
                yield _published(sent, name)

    def _storm(self) -> Iterator[Publication]:
        site, now = self._site, self._clock()
        ended = storm.last_hours(now) if self._storm_ended is None else self._storm_ended
        return storm.messages(storm.Place(site.key, site.gauges, site.sea), ended, now, self._random)

    def __iter__(self) -> Iterator[Publication]:
        yield from self._first()
        kept = self._storm()
        count = 0
        while True:
            count += 1
            if count % STORM_EVERY == 0 and (told := next(kept, None)) is not None:
                yield told
            elif self._copies and self._copies[0][0] <= count:
                yield self._copies.popleft()[1]
            elif self._earlier is not None and (name := self._faults.take(count)):
                made = FAULTS[name](self._scene())
                yield made._replace(expected=made.expected._replace(kind=name))
            elif name := self._oddities.take(count):
                made = ODDITIES[name](self._scene())
                yield made._replace(expected=made.expected._replace(kind=name))
            else:
                yield self._ordinary(count)


def _published(sent: Sent, kind: str) -> Publication:
    kept = digest(sent.payload) if sent.session else None
    expected = Expectation(kind, sent.good, ignored=sent.ignored, kept=kept)
    return Publication(sent.topic, sent.payload, sent.retain, expected)


def messages(
    site: Site, *, seed: int, clock: Clock, rate: float = 40, storm_ended: int | None = None
) -> Iterator[Publication]:
    """The endless stream of a city's messages. `rate`: how many a second will be asked for.

    `storm_ended`: when the storm was over that the loggers tell of, a full hour in microseconds since the epoch; None:
    at the last full hour but one.
    """
    return iter(_Stream(site, seed, clock, rate, storm_ended))
