"""The workloads of the benchmark: how many devices, what a message holds. The sending is `load`'s business.

A workload is a list of properties, a number of times per message and how often the generator may wake; a new one (a mix
of dialects, an outage) needs a line in WORKLOADS or a fleet maker of its own beside `fleet`.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.bench.packets import Fleet, Place, publish

CITIES = {
    "rostock": "13003000",
    "luebeck": "01003000",
    "kiel": "01002000",
    "schwerin": "13004000",
    "neubrandenburg": "13071107",
    "stralsund": "13073088",
    "wismar": "13074087",
}
DOMAIN = "weather"
TIME = "0000-00-00T00:00:00.000000Z"  # the place of a time, of its width
AGE_US = 1_000  # between the times of one property in one message


class Property(NamedTuple):
    """A property of the vocabulary; values are drawn from `low` to `high` and printed in five characters."""

    key: str
    unit: str
    low: float
    high: float


PROPERTIES = (
    Property("air_temperature", "Cel", 10, 30),
    Property("relative_humidity", "%", 40, 99),
    Property("wind_speed", "m/s", 10, 25),
    Property("wind_direction", "deg", 10, 99),
    Property("precipitation", "mm", 10, 20),
    Property("solar_irradiance", "W/m2", 10, 99),
    Property("dew_point_temperature", "Cel", 10, 30),
    Property("wind_speed_gust", "m/s", 10, 40),
    Property("cloud_cover", "%", 10, 99),
    Property("snow_depth", "cm", 10, 99),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """`window`: messages that may be on their way to the database at once, all cities together (about a second's)."""

    name: str
    properties: Sequence[Property]
    times: int  # times of each property in a message; 1: the message's own
    window: int
    tick_s: float  # how often the generator wakes while saturating
    channel: str = ""
    devices: int = 10_000

    @property
    def readings(self) -> int:
        """Readings in a message."""
        return len(self.properties) * self.times


WORKLOADS = {
    # The channel brings the message to the 200 bytes that a single native reading has with a few optional fields.
    "S1": Workload("S1", PROPERTIES[:1], 1, window=21_000, tick_s=0.004, channel="messmast-hafen-2m"),
    "S100": Workload("S100", PROPERTIES, 10, window=2_100, tick_s=0.05),
    "M6": Workload("M6", PROPERTIES[:6], 1, window=14_000, tick_s=0.004),
}


def payload(workload: Workload, device: str, rng: random.Random) -> bytes:
    """One native message with every time still to be written."""
    readings: list[dict[str, object]] = []
    for _ in range(workload.times):
        for prop in workload.properties:
            reading: dict[str, object] = {"property": prop.key, "value": _value(prop, rng), "unit": prop.unit}
            if workload.channel:
                reading["channel"] = workload.channel
            if workload.times > 1:
                reading["time"] = TIME
            readings.append(reading)
    return json.dumps({"v": 1, "device": device, "time": TIME, "readings": readings}, separators=(",", ":")).encode()


def _value(prop: Property, rng: random.Random) -> float:
    # The last digit is never 0, so that every value is printed in five characters.
    hundredths = rng.randrange(int(prop.low * 100), int(prop.high * 100)) // 10 * 10 + rng.randrange(1, 10)
    return hundredths / 100


def fleet(workload: Workload, city: str, devices: int, seed: int = 1) -> Fleet:
    """The PUBLISH packets of a city's devices."""
    rng = random.Random(f"{seed}/{city}")
    packets = []
    for number in range(devices):
        device = f"wetterstation-{city}-{number:05d}"
        packets.append(publish(f"hanse/{city}/{DOMAIN}/{device}", payload(workload, device, rng), 1))
    first = packets[0]
    topic_at = next(at for at in range(2, 5) if not first[at - 1] & 0x80)  # behind the remaining length
    mid_at = topic_at + 2 + int.from_bytes(first[topic_at : topic_at + 2], "big")
    return Fleet(packets, mid_at, places(first, len(workload.properties), workload.times))


def places(packet: bytes, properties: int, times: int) -> list[Place]:
    """Where the times of a packet stand: the message's, then each property's series."""
    mark, found, at = TIME.encode(), [], -1
    while (at := packet.find(mark, at + 1)) >= 0:
        found.append(at)
    own = Place(found[0], 1, 0, 0)
    if times == 1:
        return [own]
    series = [found[1 + index :: properties] for index in range(properties)]
    stride = series[0][1] - series[0][0]
    if any(at != one[0] + k * stride for one in series for k, at in enumerate(one)):
        raise ValueError("the rounds of a message differ in length")
    return [own, *(Place(one[0], times, stride, AGE_US) for one in series)]


def share(total: int, parts: int) -> list[int]:
    """`total` in `parts` whole parts that differ by one at most."""
    return [total // parts + (index < total % parts) for index in range(parts)]
