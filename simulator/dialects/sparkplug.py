"""Sparkplug B: the control system of a sewage works. Births declare the metrics, data name them by alias alone.

Now and then the edge node restarts: its death, and births of a new session (the next bdSeq, numbers from 0). Messages
of the past are marked historical. One metric travels in single precision, one as a negative number in an unsigned
field, one as a counter of 64 bits in Wh.
"""

import struct
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from simulator.curves import counted
from simulator.devices import Quantity, Unit
from simulator.dialects import protobuf as pb
from simulator.dialects.network import MILLISECOND, Network, Sensor, Sent, Setting, noisy
from simulator.expectation import Good

GROUP, EDGE = "Stadtentwässerung", "Klärwerk"
SESSION = 40  # messages until the edge node restarts
INT32, UINT64, FLOAT, DOUBLE, BOOLEAN, STRING = 3, 8, 9, 10, 11, 12


class Metric(NamedTuple):
    """A metric of a device; quantity's unit is its engUnit."""

    name: str
    kind: int
    quantity: Quantity


def _metrics(setting: Setting) -> dict[str, tuple[Metric, ...]]:
    sky = setting.sky
    flow = Quantity("water_flow_rate", Unit("m3/s", decimals=3), noisy(lambda t: 0.4 + 0.3 * sky.load(t), 0.02, 0))
    clear = Quantity("water_turbidity", Unit("NTU"), noisy(lambda _: 6.0, 0.8, 0))
    warm = Quantity("water_temperature", Unit("°C", decimals=2), noisy(lambda _: 13.5, 0.1))
    oxygen = Quantity("water_dissolved_oxygen", Unit("mg/l", decimals=2), noisy(lambda _: 7.5, 0.2, 0))
    power = Quantity(
        "electric_active_power", Unit("W", decimals=0), noisy(lambda t: 9_000 * (sky.load(t) - 1), 300)
    )  # negative while the gas engine feeds the grid
    energy = Quantity("electric_energy_export", Unit("Wh", 0.001, decimals=0), lambda t, _: counted(t, 12.0))
    mains = Quantity("electric_frequency", Unit("Hz", decimals=3), noisy(lambda _: 50.0, 0.015))
    return {
        "Zulauf": (Metric("discharge", DOUBLE, flow), Metric("water_temperature", DOUBLE, warm)),
        "Belebung": (Metric("turbidity", FLOAT, clear), Metric("dissolved_oxygen", DOUBLE, oxygen)),
        "BHKW": (
            Metric("active_power", INT32, power),
            Metric("energy_export", UINT64, energy),
            Metric("mains_frequency", DOUBLE, mains),
        ),
    }


class _Edge:
    """An edge node with its devices: one sequence of messages."""

    def __init__(self, setting: Setting) -> None:
        self._devices = _metrics(setting)
        self._turn = deque(self._devices)
        self._bdseq = -1
        self._seq = 0
        self._sent = 0
        self._due: deque[Callable[[int, Random], Sent]] = deque()
        self._births = {name: self._declared(metrics) for name, metrics in self._devices.items()}

    @staticmethod
    def _declared(metrics: Sequence[Metric]) -> list[bytes]:
        """What of each metric's birth never changes: name, alias, type and unit."""
        return [
            pb.text(1, metric.name)
            + pb.whole(2, alias)
            + pb.whole(4, metric.kind)
            + pb.text(9, pb.text(1, "engUnit") + pb.text(2, pb.whole(1, STRING) + pb.text(8, metric.quantity.unit[0])))
            for alias, metric in enumerate(metrics, start=10)
        ]

    def restart(self, now: int) -> None:
        """Have the births of a new session come next, and the death of the old one if there was one."""
        if self._bdseq < 0:
            self._bdseq = now // 1_000_000 % 256  # another one than in an earlier run
        else:
            ended = self._bdseq
            self._due.append(lambda _time, _random: self._death(ended))
            self._bdseq = (ended + 1) % 256
        self._due.append(lambda time, _random: self._node_birth(time))
        self._due.extend(partial(self._birth, name) for name in self._devices)

    def make(self, time: int, random: Random, now: int) -> Sent:
        """The next message: what is due of a restart, or a device's data."""
        self._sent += 1
        if self._sent % SESSION == 0:
            self.restart(now)
        if self._due:
            return self._due.popleft()(now, random)
        self._turn.rotate()
        name = self._turn[0]
        mark = pb.whole(5, 1) if time != now else b""
        heads = [pb.whole(2, alias) + mark for alias in range(10, 10 + len(self._devices[name]))]
        return self._told("DDATA", name, heads, time, random, now)

    def _topic(self, kind: str, device: str = "") -> str:
        return f"spBv1.0/{GROUP}/{kind}/{EDGE}" + (f"/{device}" if device else "")

    def _payload(self, now: int, metrics: bytes) -> bytes:
        made = pb.whole(1, now // 1_000) + metrics + pb.whole(3, self._seq)
        self._seq = (self._seq + 1) % 256
        return made

    def _session(self, bdseq: int) -> bytes:
        return pb.text(2, pb.text(1, "bdSeq") + pb.whole(4, UINT64) + pb.whole(11, bdseq))

    def _death(self, bdseq: int) -> Sent:
        return Sent(self._topic("NDEATH"), self._session(bdseq), ignored=1)

    def _node_birth(self, now: int) -> Sent:
        self._seq = 0
        rebirth = pb.text(2, pb.text(1, "Node Control/Rebirth") + pb.whole(4, BOOLEAN) + pb.whole(14, 0))
        return Sent(self._topic("NBIRTH"), self._payload(now, self._session(self._bdseq) + rebirth), ignored=2)

    def _birth(self, name: str, now: int, random: Random, /) -> Sent:
        return self._told("DBIRTH", name, self._births[name], now, random, now)

    def _told(self, kind: str, name: str, heads: Sequence[bytes], time: int, random: Random, now: int) -> Sent:
        """A device's metrics with their values."""
        device, stamp = f"{GROUP}/{EDGE}/{name}", pb.whole(3, time // 1_000)
        metrics, good = b"", []
        for head, metric in zip(heads, self._devices[name], strict=True):
            number, value = metric.quantity.measure(time / 1e6, random)
            encoded, exact = _value(metric.kind, number)
            if exact != number:  # what single precision makes of it, in the metric's own unit
                value = exact * metric.quantity.unit.factor + metric.quantity.unit.offset
            metrics += pb.text(2, head + stamp + encoded)
            good.append(Good(device, "", metric.quantity.property, time, value))
        return Sent(self._topic(kind, name), self._payload(now, metrics), tuple(good), session=kind == "DDATA")


def _value(kind: int, number: float) -> tuple[bytes, float]:
    """A value field, and the number that it holds."""
    if kind == INT32:
        return pb.whole(10, int(number) % (1 << 32)), number
    if kind == UINT64:
        return pb.whole(11, int(number)), number
    if kind == FLOAT:
        return pb.single(12, number), struct.unpack("<f", struct.pack("<f", number))[0]
    return pb.double(13, number), number


def network(setting: Setting) -> Network:
    """One edge node with three devices."""
    edge = _Edge(setting)

    def announced(time: int) -> list[Sent]:
        edge.restart(time)
        return []  # the births are what its sensor says first

    return Network([Sensor("sparkplug", edge.make, MILLISECOND)], announced, late=True)
