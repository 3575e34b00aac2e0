"""What the LoRaWAN network servers have in common: payloads that a device's decoder made, and when an uplink was heard.

A decoder's keys are its author's: their meaning is a profile's business.
"""

from typing import Any

from processors.dialects.strict_json import shown
from processors.standard.observation import Reason
from processors.standard.times import parse

# A gateway's clock further than this from the network's own is wrong (1970 before its first synchronisation).
GATEWAY_CLOCK_US = 3_600_000_000


def device_time(decoded: Any) -> tuple[int | None, tuple[Reason, str] | None]:
    """The time that a decoder passes on under `time`, if it is one: a number has no declared unit, so it is none."""
    text = decoded.get("time") if isinstance(decoded, dict) else None
    if not isinstance(text, str):
        return None, None
    time = parse(text)
    if not isinstance(time, Reason):
        return time, None
    return None, (time, f"time {shown(text)!r} has no zone") if time is Reason.NAIVE_TIME else None


def first_heard(gateways: Any, names: tuple[str, ...], received: int | None) -> int | None:
    """When the first gateway heard an uplink, or else when the network server got it. `names`: a gateway's members."""
    heard = [
        time
        for gateway in (gateways if isinstance(gateways, list) else ())
        if isinstance(gateway, dict)
        for name in names
        if (time := instant(gateway.get(name))) is not None
    ]
    return min((t for t in heard if received is None or abs(t - received) < GATEWAY_CLOCK_US), default=received)


def instant(text: object) -> int | None:
    """A time with a zone; None for everything else."""
    time = parse(text) if isinstance(text, str) else None
    return None if isinstance(time, Reason) else time
