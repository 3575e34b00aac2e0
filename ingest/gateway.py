"""The loop of one city: deliveries from MQTT into the lanes to Kafka, acks back, and what to do when either is away.

Order of effects, on which promise 1 rests: a message is received (ack tracker), forwarded (lane), kept (Kafka says so),
and only then acknowledged, in receive order, on the connection it came by. Everything outside is reached through the
ports given at construction, so the loop runs without any server.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import stamina
import structlog

from ingest import broker, routing, wire
from ingest.acks import AckTracker, InFlight
from ingest.city import City
from ingest.forward import RECORD_OVERHEAD, Forwarder, Producer, Record
from ingest.health import KAFKA_ERRORS, Health, Probed
from ingest.kafka import partition_of
from ingest.metrics import CityMetrics
from ingest.mqtt import Connection, LoginRefusedError
from ingest.packets import ACK_BYTES, Delivery
from ingest.session import SessionState
from ingest.settings import Settings

STABLE_SECONDS = 30.0  # a connection that lived so long starts the backoff anew
DRAIN_SECONDS = 3.0

log = structlog.get_logger()


class KafkaPort(Probed, Protocol):
    """What the gateway needs of Kafka."""

    async def producer(self, topic: str) -> Producer: ...  # noqa: D102


class Gateway:
    """One city's gateway. `fresh`: nothing was ever written to its Kafka topic, so no session can have been lost."""

    def __init__(
        self,
        city: City,
        settings: Settings,
        kafka: KafkaPort,
        health: Health,
        *,
        fresh: bool,
        connection: Callable[..., Connection] = Connection,
    ) -> None:
        self._city = city
        self._settings = settings
        self._kafka = kafka
        self._fresh = fresh
        self._new_connection = connection
        self._health = health
        self._metrics = CityMetrics(city.key)
        self._metrics.silent_after.set(city.limits.silent_after.total_seconds())
        self._metrics.in_flight_limit.set(settings.gateway_max_in_flight)
        self._metrics.in_flight_bytes_limit.set(settings.gateway_max_in_flight_bytes)
        self._tracker = AckTracker()
        self._in_flight = InFlight(settings.gateway_max_in_flight, settings.gateway_max_in_flight_bytes)
        self._target = routing.targets(
            city,
            settings.gateway_id or city.client_id,
            lambda key: partition_of(key, settings.kafka_partitions),
        )
        self._forwarder = Forwarder(
            settings.kafka_partitions, self._producer, self._kept, self._in_flight_grew, self._metrics
        )
        self._connection: Connection | None = None
        self._state = SessionState(settings.gateway_state_dir, city)
        self._subscribed = False  # by this process, in the session that is present
        self._pause: asyncio.TimerHandle | None = None
        self._overflowing = False
        self._soon_lost = 0  # connections in a row

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then end in order: no more reading, Kafka gets the rest, acks, goodbye.

        Raises LoginRefusedError if the first MQTT login is refused.
        """
        tasks = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("forward", self._forwarder.run()),
                ("mqtt", self._stay_connected()),
                ("pulse", self._health.pulse()),
                ("watch kafka", self._health.watch_kafka(self._kafka, self._forwarder)),
                ("watch clock", self._health.watch_clock(self._kafka)),
                ("watch broker", broker.watch_dropped(self._city, self._metrics.broker_dropped, self._new_connection)),
            )
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # none of them ends but by an error
            await self._finish()
        finally:
            for task in (*tasks, stopped):
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)
            await self._forwarder.close(1.0)

    async def _finish(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.pause()
        if not await self._forwarder.drain(DRAIN_SECONDS):
            log.warning("stopped with messages not in Kafka; the broker sends them again", messages=len(self._tracker))
        if connection is not None:
            await connection.close()

    # The hot path: received, kept.

    def _received(self, deliveries: list[Delivery]) -> None:
        if self._overflowing:
            deliveries = self._without_qos0(deliveries)
        first = self._tracker.receive([delivery.ack for delivery in deliveries])
        target_of = self._target
        lanes = self._forwarder.lanes
        limit = self._city.limits.max_payload_bytes
        size = len(deliveries) * RECORD_OVERHEAD
        for number, (topic, payload, flags, _, received_at) in enumerate(deliveries, first):
            target = target_of(topic)
            lane = lanes[target.partition]
            if len(payload) > limit:
                record = self._stub(target, payload, flags, received_at)
            else:
                record = (target.key, payload, received_at, target.headers[flags])
            size += len(record[1])
            lane.records.append(record)
            lane.numbers.append(number)
        for lane in lanes:
            if lane.records and not lane.filled.is_set():
                lane.filled.set()
        self._health.heard()
        self._metrics.received.inc(len(deliveries))
        self._in_flight.add(len(deliveries), size)
        self._show_in_flight()
        if self._in_flight.full and self._pause is None and not self._overflowing:
            self._hold_back()

    def _stub(self, target: routing.Target, payload: bytes, flags: int, received_at: int) -> Record:
        limit = self._city.limits.max_payload_bytes
        value, refused = wire.refusal(payload, f"payload of {len(payload)} bytes exceeds max_payload_bytes {limit}")
        self._metrics.refused["max_payload_bytes"].inc()
        return target.key, value, received_at, [*target.headers[flags], refused]

    def _kept(self, numbers: list[int], size: int) -> None:
        acks = self._tracker.complete(numbers)
        if acks and self._connection is not None:
            self._connection.acknowledge(acks)
            self._metrics.acknowledged.inc(len(acks) // ACK_BYTES)
        self._in_flight.release(len(numbers), size)
        self._show_in_flight()
        self._health.kafka(self._forwarder.trouble)
        if (self._pause is not None or self._overflowing) and self._in_flight.relaxed:
            self._read_on()

    def _in_flight_grew(self, size: int) -> None:
        self._in_flight.add(0, size)

    def _show_in_flight(self) -> None:
        self._metrics.in_flight.set(self._in_flight.messages)
        self._metrics.in_flight_bytes.set(self._in_flight.size)

    # Backpressure. At QoS 1 the broker stops by itself long before; this is for QoS 0 and for large payloads.

    def _hold_back(self) -> None:
        """Stop reading for half the keepalive at most, so that the answers to our pings are not missed."""
        if self._connection is not None:
            self._connection.pause()
            delay = self._city.mqtt.keepalive.total_seconds() / 2
            self._pause = asyncio.get_running_loop().call_later(delay, self._overflow)

    def _overflow(self) -> None:
        """The pause was not enough: read again, drop QoS 0. What is owed an ack is bounded by the broker's window."""
        log.warning("in-flight bounds are full: QoS 0 messages are dropped", messages=self._in_flight.messages)
        self._read_on()
        self._overflowing = True

    def _read_on(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._overflowing = False
        if self._connection is not None:
            self._connection.resume()

    def _without_qos0(self, deliveries: list[Delivery]) -> list[Delivery]:
        owed = [delivery for delivery in deliveries if delivery.ack]
        self._metrics.dropped.inc(len(deliveries) - len(owed))
        return owed

    # MQTT: stay connected.

    async def _stay_connected(self) -> None:
        while True:
            async for attempt in stamina.retry_context(
                on=self._passes, attempts=None, timeout=None, wait_initial=0.2, wait_max=15.0, wait_jitter=2.0
            ):
                with attempt:
                    await self._one_connection()

    def _passes(self, error: Exception) -> bool:
        """Trouble outside is waited for; a login refused at the very start is a wrong configuration."""
        return isinstance(error, OSError) and not (isinstance(error, LoginRefusedError) and not self._subscribed)

    async def _one_connection(self) -> None:
        """Connect and stay until the connection is lost; raise if that was soon, so that the next try waits longer."""
        began = time.monotonic()
        connection = self._new_connection(
            self._city, self._accepted, self._received, pace=self._settings.gateway_read_interval_ms / 1000
        )
        try:
            present = await connection.open()
            await self._subscribe(connection, present=present)
            self._health.mqtt(None)
            log.info("MQTT connected", host=self._city.mqtt.host, port=self._city.mqtt.port, session_present=present)
            reason, detail = await connection.lost
            if reason in self._metrics.reconnects:
                self._metrics.reconnects[reason].inc()
            soon = reason == "lost" and time.monotonic() - began < STABLE_SECONDS
            self._soon_lost = self._soon_lost + 1 if soon else 0
            if self._soon_lost > 1:  # as two clients of one id do to each other: the broker keeps the newer
                detail += f", again soon after the login; does another client use the id {self._city.client_id!r}?"
            raise ConnectionError(f"MQTT broker {self._city.mqtt.host}:{self._city.mqtt.port}: {detail}")
        except OSError as error:
            self._health.mqtt(str(error))
            if self._passes(error):
                log.warning(str(error))
            if time.monotonic() - began < STABLE_SECONDS:
                raise
        finally:
            connection.abort("lost", "given up")
            self._connection = None
            self._read_on()

    def _accepted(self, connection: Connection, present: bool) -> None:  # noqa: FBT001  (a callback's signature)
        """A new epoch begins, before its first message; no ack of an earlier one can get into it.

        What still waits here and is owed an ack comes again, so it is given up. If the broker has forgotten the session
        it does not come again, and is kept.
        """
        if present:
            self._in_flight.release(*self._forwarder.forget(self._tracker.comes_again))
        elif self._subscribed or not self._fresh:
            self._metrics.sessions_lost.inc()
            log.error("the MQTT broker had no session for us: messages published meanwhile may be lost")
        self._tracker.new_epoch()
        self._connection = connection
        self._health.last_message = time.monotonic()

    async def _subscribe(self, connection: Connection, *, present: bool) -> None:
        """Subscribe where the session is new or the filters are, for a SUBSCRIBE brings all retained messages again."""
        filters = self._city.subscriptions
        before = filters if present and self._subscribed else self._state.filters() if present else ()
        new = tuple(text for text in filters if text not in before)
        gone = tuple(text for text in before if text not in filters)
        if gone:
            await connection.unsubscribe(gone)
        if new:
            await connection.subscribe(new)
        if new or gone:
            self._state.remember(filters)
        self._subscribed = True

    async def _producer(self) -> Producer:
        """Make a producer, however long Kafka is away."""
        async for attempt in stamina.retry_context(
            on=KAFKA_ERRORS, attempts=None, timeout=None, wait_initial=0.2, wait_max=10.0, wait_jitter=2.0
        ):
            with attempt:
                try:
                    made = await self._kafka.producer(wire.kafka_topic(self._city.key))
                except KAFKA_ERRORS as error:
                    self._health.kafka(str(error))
                    raise
                self._health.kafka(self._forwarder.trouble)
        return made
