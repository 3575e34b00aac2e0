"""MQTT 3.1.1 packets made once and stamped in place: the load must cost next to nothing beside what it measures.

A city's devices are the rows of one byte matrix, each row a whole QoS 1 PUBLISH. All rows have the same length because
ids, values and times have fixed widths, so packet ids and times of many rows are written by a few array assignments and
a run of rows is sent as it lies in memory. Pure: no socket, no clock.
"""

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

CONNACK_ACCEPTED = b"\x20\x02\x00\x00"
PUBACK = b"\x40\x02"
PUBACK_BYTES = 4
PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"
PUBLISH_QOS_1 = 0x32
MIDS = 65_535  # packet ids run from 1 to this
TIME_BYTES = 27  # 2026-11-24T04:03:12.123456Z


def remaining_length(length: int) -> bytes:
    """MQTT's variable-length integer."""
    out = bytearray()
    while True:
        length, low = divmod(length, 128)
        out.append(low | (0x80 if length else 0))
        if not length:
            return bytes(out)


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def connect(client_id: str) -> bytes:
    """CONNECT of a clean session without keepalive."""
    body = _text("MQTT") + b"\x04\x02" + b"\x00\x00" + _text(client_id)
    return b"\x10" + remaining_length(len(body)) + body


def publish(topic: str, payload: bytes, mid: int) -> bytes:
    """PUBLISH at QoS 1."""
    body = _text(topic) + mid.to_bytes(2, "big") + payload
    return bytes((PUBLISH_QOS_1,)) + remaining_length(len(body)) + body


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def iso(us: int) -> bytes:
    """Microseconds since the epoch as TIME_BYTES bytes of ISO 8601."""
    second, fraction = divmod(us, 1_000_000)
    return f"{_second(second)}.{fraction:06d}Z".encode()


class Place(NamedTuple):
    """Where times stand in every packet: `repeats` of them, `stride` bytes apart, the k-th `k * age_us` old."""

    start: int
    repeats: int
    stride: int
    age_us: int


class Fleet:
    """A city's devices as packets; `stamp` makes rows ready to be sent."""

    def __init__(self, packets: Sequence[bytes], mid_at: int, places: Sequence[Place]) -> None:
        length = len(packets[0])
        if any(len(packet) != length for packet in packets):
            raise ValueError("packets of a fleet have one length")
        self._matrix = np.frombuffer(bytearray().join(packets), np.uint8).reshape(len(packets), length)
        self._mids = self._matrix[:, mid_at : mid_at + 2]
        self._places = [(place, self._view(place)) for place in places]
        self.devices = len(packets)
        self.packet_bytes = length
        # A device's next message must be this much later, or two of its messages would carry the same time twice.
        self.spread_us = max((p.repeats * p.age_us for p in places), default=0) + 1

    def _view(self, place: Place) -> npt.NDArray[np.uint8]:
        row, byte = self._matrix.strides
        return np.lib.stride_tricks.as_strided(
            self._matrix[:, place.start :],
            shape=(self._matrix.shape[0], place.repeats, TIME_BYTES),
            strides=(row, place.stride, byte),
        )

    def stamp(self, start: int, stop: int, mid: int, us: int) -> memoryview:
        """Rows `start` to `stop` with packet ids from `mid` on (wrapping) and all times set; as one piece of memory."""
        mids = (np.arange(mid - 1, mid - 1 + stop - start) % MIDS + 1).astype(">u2")
        self._mids[start:stop] = mids.view(np.uint8).reshape(-1, 2)
        made: dict[tuple[int, int], npt.NDArray[np.uint8]] = {}  # all properties of a pack share one series of times
        for place, view in self._places:
            series = made.get((place.repeats, place.age_us))
            if series is None:
                times = b"".join(iso(us - k * place.age_us) for k in range(place.repeats))
                series = made[place.repeats, place.age_us] = np.frombuffer(times, np.uint8).reshape(
                    place.repeats, TIME_BYTES
                )
            view[start:stop] = series
        return self._matrix[start:stop].data.cast("B")
