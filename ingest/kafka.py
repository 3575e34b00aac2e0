"""Kafka as the gateway needs it: an idempotent producer of whole batches, and what an operator has to know of a topic.

The only module of ingest that knows aiokafka. Errors leave it in three kinds: the login is refused, the trouble is
outside, or Kafka refuses what is in a batch. What to do about each is forward.py's.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    CorruptRecordException,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownError,
    for_code,
)
from aiokafka.partitioner import murmur2

from ingest.forward import Batch, KafkaTroubleError, Record, RecordsRefusedError
from ingest.settings import Settings
from ingest.topics import topic_faults, topic_settings, topic_warnings
from service.kafka import ANSWER_MS, arguments, said, trouble

BATCH_BYTES = 524_288
REQUEST_MS = 15_000
CREATED_POLLS, CREATED_POLL_SECONDS = 200, 0.05
CLOCK_TOPIC = "hanse.clock"

# Kafka judged the batch by its content (UnknownError: code 87, an invalid record, has no class of its own in aiokafka).
# Everything else that is not retriable may pass by itself.
_CONTENT = (
    CorruptRecordException,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownError,
)
CLOCK_SETTINGS = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime", "retention.ms": "3600000"}


class KafkaLoginError(Exception):
    """Kafka answered and does not want us; only another login helps."""


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives a key."""
    return (int(murmur2(key)) & 0x7FFFFFFF) % partitions


class Kafka:
    """One cluster and one login."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.servers = settings.kafka_bootstrap_servers.split(",")

    def _options(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.servers, "request_timeout_ms": REQUEST_MS, **arguments(self._settings)}

    async def probe(self) -> None:
        """Return if a server answers and takes our login.

        Raises KafkaLoginError or KafkaTroubleError with the real cause, which aiokafka's clients only log.
        """
        found = await trouble(self._settings)
        if found is not None:
            raise (KafkaLoginError if found.refused else KafkaTroubleError)(found.why)

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        await self.probe()
        admin = AIOKafkaAdminClient(**self._options())
        try:
            await admin.start()
            yield admin
        except (KafkaError, OSError) as error:
            raise KafkaTroubleError(f"Kafka {', '.join(self.servers)}: {said(error)}") from error
        finally:
            await admin.close()

    async def topic_faults(self, topic: str) -> tuple[list[str], list[str]]:
        """What is wrong with a city's topic, and what to think of though nothing is; empty: nothing."""
        async with self._admin() as admin:
            # All topics, not this one: asking for one by name may make it, with the cluster's defaults.
            known = {found["topic"]: len(found["partitions"]) for found in await admin.describe_topics()}
            settings = await _settings(admin, topic) if topic in known else None
        promised = self._settings.kafka_retention
        faults = topic_faults(known.get(topic), settings, self._settings.kafka_partitions, promised)
        return faults, topic_warnings(settings, promised)

    async def create_topic(self, topic: str) -> bool:
        """Make a city's topic; False: it was there already. Raises KafkaTroubleError."""
        made = await self._create(
            NewTopic(
                topic,
                self._settings.kafka_partitions,
                self._settings.kafka_replication,
                topic_configs=topic_settings(self._settings.kafka_retention),
            )
        )
        await self._create(NewTopic(CLOCK_TOPIC, 1, self._settings.kafka_replication, topic_configs=CLOCK_SETTINGS))
        if made:
            await self._shown(topic)
        return made

    async def _shown(self, topic: str) -> None:
        """Wait until the broker knows a topic that the controller has made: its metadata follow a moment later."""
        async with self._admin() as admin:
            for _ in range(CREATED_POLLS):
                if topic in {found["topic"] for found in await admin.describe_topics()}:
                    return
                await asyncio.sleep(CREATED_POLL_SECONDS)
        raise KafkaTroubleError(f"Kafka made topic {topic} but does not show it; try again")

    async def _create(self, topic: NewTopic) -> bool:
        async with self._admin() as admin:
            answer = await admin.create_topics([topic])
        for name, code, *text in answer.topic_errors:
            error = for_code(code)
            if error is TopicAlreadyExistsError:
                return False
            if code:
                raise KafkaTroubleError(f"Kafka does not make topic {name}: {text[0] if text else error.message}")
        return True

    async def is_empty(self, topic: str) -> bool:
        """Whether nothing was ever written to a topic."""
        consumer = AIOKafkaConsumer(enable_auto_commit=False, **self._options())
        try:
            await consumer.start()
            ends = await consumer.end_offsets(
                [TopicPartition(topic, number) for number in range(self._settings.kafka_partitions)]
            )
        except (KafkaError, OSError) as error:
            raise KafkaTroubleError(f"Kafka, end of {topic}: {said(error)}") from error
        finally:
            await consumer.stop()
        return not any(ends.values())

    async def clock_skew(self) -> float | None:
        """Our clock minus Kafka's in seconds; None: not to be known.

        Kafka tells its time only for what it stamps itself: create-topic makes a topic of that kind, one small record
        is written to it, and the answer carries the stamp.
        """
        try:
            producer = AIOKafkaProducer(acks=1, **{**self._options(), "request_timeout_ms": ANSWER_MS})
            try:
                await producer.start()
                before = time.time()
                took = time.monotonic()
                written = await producer.send_and_wait(CLOCK_TOPIC, b"")
                took = time.monotonic() - took
            finally:
                await producer.stop()
        except (KafkaError, OSError):
            return None
        if written.timestamp_type != 1:  # not stamped by Kafka
            return None
        return before + took / 2 - float(written.timestamp) / 1000

    async def producer(self, topic: str) -> "Producer":
        """A producer that is ready to write. Raises KafkaLoginError, KafkaTroubleError."""
        made = AIOKafkaProducer(
            enable_idempotence=True,
            acks="all",
            max_batch_size=BATCH_BYTES,
            **self._options(),
        )
        try:
            await made.start()
            await made.partitions_for(topic)
        except (KafkaError, OSError) as error:
            await made.stop()
            await self.probe()  # raises the real cause, if it is the connection
            raise KafkaTroubleError(f"Kafka {', '.join(self.servers)}, topic {topic}: {said(error)}") from error
        except BaseException:
            await made.stop()
            raise
        return Producer(made, topic)


class Producer:
    """Writes batches to one topic; of one partition one after the other. Closed for good after any error."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._waiting: set[asyncio.Future[Any]] = set()

    def batch(self, records: Iterable[Record]) -> Batch:
        """As many records as fit into a batch, at least one."""
        builder = self._producer.create_batch()
        append = builder.append
        for key, value, timestamp, headers in records:
            if append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
                break
        return Batch(builder.record_count(), builder)

    async def send(self, partition: int, batch: Batch) -> None:
        """Return once Kafka has the batch (acks=all).

        Raises RecordsRefusedError if it does not want what is in it, KafkaTroubleError for everything else. Connection
        trouble raises nothing: the batch waits, for hours if need be.
        """
        try:
            future = await self._producer.send_batch(batch.built, self._topic, partition=partition)
            self._waiter(future)
            await future
        except _CONTENT as error:
            raise RecordsRefusedError(said(error)) from error
        except TopicAuthorizationFailedError as error:
            raise KafkaTroubleError(f"Kafka refuses writes to {self._topic}: no right to") from error
        except (KafkaError, OSError) as error:
            raise KafkaTroubleError(f"Kafka, writing to {self._topic}: {said(error)}") from error

    def _waiter(self, future: "asyncio.Future[Any]") -> None:
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)

    async def close(self, limit: float) -> None:
        """Close; what Kafka did not take within `limit` seconds fails with KafkaTroubleError.

        aiokafka's own stop waits for Kafka without end, so after the limit its connections are cut and its sender (the
        one private name touched here) is ended.
        """
        stopping = asyncio.create_task(self._producer.stop())
        await asyncio.wait({stopping}, timeout=limit)
        if not stopping.done():
            sender = self._producer._sender.sender_task  # noqa: SLF001  (no public way to end it)
            sender.cancel()
            cut = asyncio.create_task(self._producer.client.close())
            await asyncio.wait({stopping, cut}, timeout=limit, return_when=asyncio.ALL_COMPLETED)
            stopping.cancel()
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(KafkaError("the producer was closed"))
        with contextlib.suppress(asyncio.CancelledError, KafkaError):
            await stopping


async def _settings(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str] | None:
    """A topic's settings, or None without the right to read them."""
    [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    [(code, _, _, _, entries, *_)] = answer.resources
    return None if code else {entry[0]: entry[1] for entry in entries}
