"""What the city's broker tells of itself: how many messages it dropped before anybody could forward them.

Asked by a connection of its own, without a session and at QoS 0: nothing of it touches the gateway's acks, and a broker
that refuses, or that closes the connection of who asks (some do), takes nothing but this away.
"""

import asyncio
import random
from collections.abc import Callable

import structlog

from ingest.city import City
from ingest.mqtt import Connection
from ingest.packets import Delivery

FIRST_WAIT, LONGEST_WAIT = 5.0, 600.0

log = structlog.get_logger()


async def watch_dropped(
    city: City, told: Callable[[float], None], connection: Callable[..., Connection] = Connection
) -> None:
    """Call `told` with every count the broker gives, for ever; trouble is waited for, less and less often."""
    topic = city.mqtt.dropped_topic
    if not topic:
        await asyncio.Event().wait()
    heard = asyncio.Event()

    def receive(deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            count = number(delivery.payload)
            if delivery.topic == topic.encode() and count is not None:
                heard.set()
                told(count)

    wait = FIRST_WAIT
    while True:
        heard.clear()
        one = connection(city, lambda _connection, _present: None, receive, passing="watch")
        try:
            await one.open()
            await one.subscribe((topic,), qos=0)
            await one.lost
        except OSError as error:
            log.debug("the broker does not tell what it dropped", why=str(error))
        finally:
            one.abort("closed", "given up")
        wait = FIRST_WAIT if heard.is_set() else min(wait * 2, LONGEST_WAIT)
        await asyncio.sleep(random.uniform(wait / 2, wait))


def number(payload: bytes) -> float | None:
    """A count that is plausible; anything else is no answer."""
    text = payload.strip()
    return float(text) if text.isdigit() and len(text) < 16 else None  # noqa: PLR2004  (exact as a float)
