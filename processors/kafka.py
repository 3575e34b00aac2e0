"""The log, read and (for replays) written through aiokafka: the only importer of it here.

Assignment is by the group, offsets are by the database.

aiokafka hides lost connections and logs what a rebalance callback raises, so the callbacks only count epochs; reading
positions and seeking happen in the pipeline's loop. The group's own committed offsets are written for lag tools alone.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import aiokafka
import structlog
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)

from processors.cursor import Bounds, Record
from processors.pipeline import LogAwayError, OutOfRangeError
from service.kafka import REFUSALS, KafkaSettings, arguments, trouble
from storage.rows import TopicPartition

log = structlog.get_logger()

ANSWER_SECONDS = 10.0
REFUSED = (*REFUSALS, TopicAuthorizationFailedError, GroupAuthorizationFailedError)
FETCH_WAIT_MS, FETCH_LEAST_BYTES = 10, 16_384
FETCH_BYTES = 8 * 1024 * 1024
PARTITION_BYTES = 1024 * 1024
RECORD_BYTES = 2 * 1024 * 1024  # as the topics take it
SEND_SECONDS, CLOSE_SECONDS = 30.0, 3.0


class KafkaRefusedError(Exception):
    """A refused login or right, a missing topic, another number of partitions than configured: waiting cures none."""


class Outgoing(NamedTuple):
    """A record to be written to a partition of its own choice; Kafka stamps it with the time of writing."""

    partition: TopicPartition
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.epoch = 0

    async def on_partitions_revoked(self, revoked: Iterable[object]) -> None:  # noqa: ARG002
        self.epoch += 1

    async def on_partitions_assigned(self, assigned: Iterable[object]) -> None:  # noqa: ARG002
        self.epoch += 1


class Consumer:
    """Implements `processors.pipeline.Log`."""

    def __init__(
        self, topics: Sequence[str], settings: KafkaSettings, *, group: str, client_id: str, instance: str | None = None
    ) -> None:
        self._topics = list(topics)
        self._settings = settings
        self._listener = _Listener()
        self._connections: dict[Any, object] = {}
        self._connection_epoch = 0
        self._consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            group_id=group,
            group_instance_id=instance,
            client_id=client_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
            # Or a record fetches alone what hundreds could share. A seek waits for the fetch under way, too.
            fetch_max_wait_ms=FETCH_WAIT_MS,
            fetch_min_bytes=FETCH_LEAST_BYTES,
            session_timeout_ms=15_000,
            heartbeat_interval_ms=3_000,
            **arguments(settings),
        )

    async def start(self) -> None:
        """Connect, check the topics, join the group. Raises LogAwayError with the real cause, KafkaRefusedError."""
        try:
            self._check_topics(await self._partitions_by_topic())
            self._consumer.subscribe(self._topics, listener=self._listener)
            await self._consumer.start()
        except REFUSED as error:
            raise KafkaRefusedError(f"Kafka refuses: {error!r}") from error
        except KafkaError as error:
            raise await _cause(self._settings) from error

    async def _partitions_by_topic(self) -> dict[str, int]:
        """Asked before subscribing: a consumer waits without end, and without a word, for a topic that is missing."""
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self._settings.kafka_bootstrap_servers, **arguments(self._settings)
        )
        try:
            await admin.start()
            return {found["topic"]: len(found["partitions"]) for found in await admin.describe_topics()}
        finally:
            await admin.close()

    def _check_topics(self, there: Mapping[str, int]) -> None:
        """Refuse a missing topic and any other partition count than configured: keys would change their partition."""
        wanted = self._settings.kafka_partitions
        for topic in self._topics:
            found = there.get(topic)
            if not found:
                raise KafkaRefusedError(
                    f"Kafka topic {topic} does not exist; make it with: hanse-gateway create-topic CITY.toml"
                )
            if found != wanted:
                raise KafkaRefusedError(
                    f"Kafka topic {topic} has {found} partitions, but HANSE_KAFKA_PARTITIONS is {wanted}; set it "
                    f"to {found}, or follow the procedure for growing a topic"
                )

    async def close(self) -> None:
        """Leave the group, if it was joined."""
        await self._consumer.stop()

    @property
    def assignment_epoch(self) -> int:
        """Changes with every (re)assignment."""
        return self._listener.epoch

    @property
    def connection_epoch(self) -> int:
        """Changes when a connection to a broker was lost, or replaced."""
        # aiokafka reconnects without a word; its table of connections is the only place where that shows.
        now = dict(self._consumer._client._conns)  # noqa: SLF001
        lost = any(now.get(node) is not was for node, was in self._connections.items())
        self._connections = now
        self._connection_epoch += lost
        return self._connection_epoch

    def assigned(self) -> Collection[TopicPartition]:
        """Partitions this process owns now."""
        return [TopicPartition(*p) for p in self._consumer.assignment()]

    async def poll(self, seconds: float, max_records: int) -> Mapping[TopicPartition, Sequence[Record]]:
        """Records since the last seek."""
        try:
            found = await self._consumer.getmany(timeout_ms=round(seconds * 1000), max_records=max_records)
        except NoOffsetForPartitionError:
            await asyncio.sleep(0.01)  # assigned, and not sought yet
            return {}
        except OffsetOutOfRangeError as error:
            raise OutOfRangeError(str(error)) from error
        except REFUSED as error:
            raise KafkaRefusedError(f"Kafka refuses: {error!r}") from error
        except (KafkaError, OSError) as error:
            raise LogAwayError(f"Kafka: {error!r}") from error
        return {TopicPartition(*p): records for p, records in found.items()}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from there."""
        try:
            self._consumer.seek(aiokafka.TopicPartition(*partition), offset)
        except IllegalStateError:
            return  # no longer ours: the assignment epoch says so too

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Stop delivering."""
        self._each(self._consumer.pause, partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver again."""
        self._each(self._consumer.resume, partitions)

    def _each(self, act: Any, partitions: Collection[TopicPartition]) -> None:
        for partition in partitions:
            try:
                act(aiokafka.TopicPartition(*partition))
            except IllegalStateError:
                continue  # no longer ours

    async def bounds(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Bounds]:
        """First and next offset of each."""
        asked = [aiokafka.TopicPartition(*p) for p in partitions]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                starts, ends = await asyncio.gather(
                    self._consumer.beginning_offsets(asked), self._consumer.end_offsets(asked)
                )
        except (KafkaError, OSError, TimeoutError) as error:
            raise LogAwayError(f"Kafka does not answer: {error!r}") from error
        return {TopicPartition(*p): Bounds(starts[p], ends[p]) for p in asked}

    async def report(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the group's offsets, for lag tools."""
        mine = self._consumer.assignment()
        told = {aiokafka.TopicPartition(*p): offset for p, offset in offsets.items()}
        told = {p: offset for p, offset in told.items() if p in mine}
        if not told:
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._consumer.commit(told)
        except (KafkaError, TimeoutError) as error:
            log.debug("group offsets not written", why=repr(error))


class Producer:
    """Writes replays: idempotent, acks=all. Raises LogAwayError with the real cause, KafkaRefusedError."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            client_id="hanse-replay",
            enable_idempotence=True,
            acks="all",
            max_request_size=RECORD_BYTES,
            request_timeout_ms=round(ANSWER_SECONDS * 1000),
            **arguments(settings),
        )

    async def start(self) -> None:
        """Connect."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._producer.start()
        except REFUSED as error:
            raise KafkaRefusedError(f"Kafka refuses: {error!r}") from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise await _cause(self._settings) from error

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Return once Kafka has all of them; after an error any of them may be there."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                sent = [
                    await self._producer.send(
                        one.partition.topic,
                        one.value,
                        one.key,
                        partition=one.partition.partition,
                        headers=list(one.headers),
                    )
                    for one in records
                ]
                await asyncio.gather(*sent)
        except REFUSED as error:
            raise KafkaRefusedError(f"Kafka refuses: {error!r}") from error
        except AssertionError as error:  # aiokafka's word for a partition that is not there
            raise KafkaRefusedError(f"Kafka lacks a partition that letters came from: {error}") from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise LogAwayError(f"Kafka does not take replays: {error!r}") from error

    async def close(self) -> None:
        """Close, within a time limit: aiokafka's own stop waits for Kafka without end."""
        stopping = asyncio.create_task(self._producer.stop())
        await asyncio.wait({stopping}, timeout=CLOSE_SECONDS)
        if not stopping.done():
            self._producer._sender.sender_task.cancel()  # noqa: SLF001  (no public way to end it)
            await asyncio.wait({asyncio.create_task(self._producer.client.close())}, timeout=CLOSE_SECONDS)
            stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)


async def _cause(settings: KafkaSettings) -> KafkaRefusedError | LogAwayError:
    """What stands for aiokafka's "unable to bootstrap"."""
    found = await trouble(settings)
    if found is None:
        return LogAwayError(f"Kafka at {settings.kafka_bootstrap_servers} answers, but can't be used yet")
    return (KafkaRefusedError if found.refused else LogAwayError)(found.why)
