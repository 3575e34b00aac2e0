"""Times that a profile finds in a payload: they date the readings of their own JSON object and below it. Pure.

The dialects know the times that their formats have; here are those that only the maker's document knows, such as the
epoch in a logger's history. The time nearest above a reading holds, and goes before the network's.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from processors.dialects.strict_json import shown
from processors.meaning import Told
from processors.profiles import Clock
from processors.standard import times
from processors.standard.observation import Ignored, Leaf, Reading, Reason, Rejection
from processors.standard.zones import UTC, Zones

TIME = Ignored("time")
_EPOCHS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}  # microseconds; ns are cut to them


class _Clocked(NamedTuple):
    """What a time leaf says, for the leaves whose key begins with `above`."""

    above: str
    device: str
    time: int | Reason
    tests: int
    raw: str


def dated(
    leaves: Sequence[Leaf], meaning: Callable[[Reading], object], zones: Zones, received_us: int
) -> Sequence[Leaf]:
    """The leaves, with the time leaves among them ignored and the others dated by them.

    zones, received_us: for wall clock times, as in times.local; each is read in the zone of its own leaf's device.
    """
    found: list[_Clocked] = []
    rest: list[Leaf] = []
    for leaf in leaves:
        told = meaning(leaf) if isinstance(leaf, Reading) else None
        if isinstance(leaf, Reading) and isinstance(told, Told):
            rest.append(TIME)
            time, tests = _read(leaf, told.clock, zones, received_us)
            raw = shown(leaf.value if leaf.raw is None else leaf.raw)
            if time is not None:
                found.append(_Clocked(_above(leaf.key), leaf.device, time, tests, raw))
        else:
            rest.append(leaf)
    found.sort(key=lambda clocked: len(clocked.above), reverse=True)
    return [_dated(leaf, found) if isinstance(leaf, Reading) else leaf for leaf in rest]


def _above(key: str) -> str:
    return key[: key.rfind(".") + 1]


def _dated(reading: Reading, clocks: Sequence[_Clocked]) -> Leaf:
    for clocked in clocks:
        if clocked.device == reading.device and reading.key.startswith(clocked.above):
            if not isinstance(clocked.time, Reason):
                return reading._replace(time=clocked.time, tests=reading.tests | clocked.tests)
            value = shown(reading.value if reading.raw is None else reading.raw)
            return Rejection(
                clocked.time,
                f"time {clocked.raw!r:.80} of the device is none",
                reading.device,
                reading.channel,
                reading.key,
                value,
                reading.unit,
            )
    return reading


def _read(reading: Reading, clock: Clock, zones: Zones, received_us: int) -> tuple[int | Reason | None, int]:
    """Microseconds since the epoch and QualityTest bits; None where the device says that it has no time."""
    if clock in {"text", "utc"}:
        if not isinstance(reading.raw, str):
            return None if reading.value is None else Reason.INVALID_TIME, 0
        found = times.local(reading.raw.strip(), UTC if clock == "utc" else zones, reading.device, received_us)
        return (found, 0) if isinstance(found, Reason) else found
    if reading.value is None:
        return Reason.INVALID_TIME if isinstance(reading.raw, str) else None, 0
    number = reading.value // 1000 if clock == "ns" else reading.value
    return times.from_epoch(number, _EPOCHS[clock]), 0
