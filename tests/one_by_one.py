"""The tests over time as docs/standard.md says them: one reading after the other, in plain Python."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from storage.rows import TimeLimits

HOUR = 3_600_000_000
DAY = 24 * HOUR


class Point(NamedTuple):
    """A reading that no other test doubts."""

    time: int
    value: float


@dataclass
class OneByOne:
    """One datastream. `bits` says what fires; None for a late reading, which is not tested."""

    limits: TimeLimits
    last: Point | None = None
    good: Point | None = None
    since: int = 0

    def bits(self, now: Point) -> int | None:
        if self.last is not None and now.time <= self.last.time:
            return None
        found = 0
        limits = self.limits
        if self.far(now, self.last, HOUR, self.spiked) and self.far(now, self.good, HOUR, self.spiked, none=True):
            found |= 16
        if self.far(now, self.last, DAY, self.rushed) and self.far(now, self.good, DAY, self.rushed, none=True):
            found |= 32
        last = self.last
        if last is None or last.value != now.value or not now.time - last.time <= limits.flat_us:
            self.since = now.time
        if now.time - self.since >= limits.flat_us:
            found |= 64
        self.last = now
        if not found & 48:
            self.good = now
        return found

    @staticmethod
    def far(now, other, within, test, *, none=False):
        if other is None or now.time - other.time > within:
            return none
        return test(now, other)

    def spiked(self, now, other):
        return abs(now.value - other.value) > self.limits.spike

    def rushed(self, now, other):
        apart, age = abs(now.value - other.value), now.time - other.time
        pairs = (self.limits.step, self.limits.step_us), (self.limits.other_step, self.limits.other_step_us)
        return any(apart > step * max(1.0, age / within) for step, within in pairs if not math.isnan(step))
