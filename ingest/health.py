"""Whether the gateway does its work, and why not: Kafka in reach, clocks in step, the city heard of, the loop turning.

Says so to /readyz, /healthz, the metrics and the log; whatever has to be done about it, others do.
"""

import asyncio
import time
from typing import Protocol

import structlog

from ingest.forward import Forwarder, KafkaTroubleError
from ingest.kafka import KafkaLoginError
from ingest.metrics import CityMetrics

STALL_SECONDS = 30.0
PROBE_SECONDS = 5.0
CLOCK_SECONDS = 60.0
MAX_SKEW_SECONDS = 60.0
HEARTBEAT_LIMIT = 30.0
KAFKA_ERRORS = (KafkaTroubleError, KafkaLoginError, OSError)

log = structlog.get_logger()


class Probed(Protocol):
    """What can be asked of Kafka."""

    async def probe(self) -> None: ...  # noqa: D102
    async def clock_skew(self) -> float | None: ...  # noqa: D102


class StallClock:
    """Says when a producer stands still though Kafka answers. The time of an outage does not count."""

    def __init__(self, limit: float = STALL_SECONDS) -> None:
        self._limit = limit
        self._since: float | None = None

    def stalled(self, now: float, *, in_flight: bool, answers: bool, last_success: float) -> bool:
        """Asked every few seconds; True once nothing passed for the limit, counted from Kafka's first answer."""
        if not in_flight or not answers:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - max(self._since, last_success) >= self._limit


class Health:
    """Flags that the loop sets and another thread reads."""

    def __init__(self, metrics: CityMetrics, silent_after: float) -> None:
        self._metrics = metrics
        self._silent_after = silent_after
        self.mqtt_trouble: str | None = "MQTT: not connected yet"
        self.kafka_trouble: str | None = "Kafka: not connected yet"
        self.clock_trouble: str | None = None
        self.started = False  # settings, files and topic are right: from here on, trouble is waited for
        self.last_message = time.monotonic()
        self._heartbeat = time.monotonic()

    def unready(self) -> list[str]:
        """Why the gateway does not do its work now; empty: it does."""
        return [why for why in (self.mqtt_trouble, self.kafka_trouble, self.clock_trouble) if why is not None]

    def unhealthy(self) -> list[str]:
        """Why a supervisor should start the process anew; empty: its loop turns."""
        stood = time.monotonic() - self._heartbeat
        return [f"the loop stands still for {stood:.0f} s"] if stood > HEARTBEAT_LIMIT else []

    def heard(self) -> None:
        """Messages came."""
        self.last_message = time.monotonic()
        self._metrics.last_message.set_to_current_time()

    def mqtt(self, trouble: str | None) -> None:
        """MQTT is away, or not."""
        self.mqtt_trouble = trouble
        self._metrics.connected.set(trouble is None)

    def kafka(self, trouble: str | None) -> None:
        """Kafka is away, or not."""
        if trouble == self.kafka_trouble:
            return
        if trouble is None:
            log.info("Kafka answers and takes writes")
        else:
            log.warning(trouble)
        self.kafka_trouble = trouble
        self._metrics.kafka_connected.set(trouble is None)

    async def watch_kafka(self, kafka: Probed, forwarder: Forwarder) -> None:
        """Ask Kafka where nothing else tells how it is; have a producer replaced that stands still."""
        stall = StallClock()
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            trouble = forwarder.trouble
            if trouble is None and time.monotonic() - forwarder.last_success > PROBE_SECONDS:
                try:
                    await kafka.probe()
                except KAFKA_ERRORS as error:
                    trouble = str(error)
            self.kafka(trouble)
            if stall.stalled(
                time.monotonic(),
                in_flight=forwarder.busy,
                answers=trouble is None,
                last_success=forwarder.last_success,
            ):
                await forwarder.replace(f"nothing passed for {STALL_SECONDS:.0f} s though Kafka answers")

    async def watch_clock(self, kafka: Probed) -> None:
        """Compare clocks every minute."""
        while True:
            skew = await kafka.clock_skew()
            self._metrics.clock_skew.set(float("nan") if skew is None else skew)
            self.clock_trouble = (
                f"the clock is {skew:+.0f} s off Kafka's; set it (NTP)"
                if skew is not None and abs(skew) > MAX_SKEW_SECONDS
                else None
            )
            if self.clock_trouble is not None:
                log.error(self.clock_trouble)
            await asyncio.sleep(CLOCK_SECONDS)

    async def pulse(self) -> None:
        """Every second: the loop turns, and the city is silent or not."""
        silent = False
        while True:
            now = self._heartbeat = time.monotonic()
            before, silent = silent, self.mqtt_trouble is None and now - self.last_message > self._silent_after
            if silent and not before:
                log.warning(
                    "connected, but no message came", seconds=self._silent_after, cure="are the rights to read granted?"
                )
            self._metrics.silent.set(silent)
            await asyncio.sleep(1.0)
