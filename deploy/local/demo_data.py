"""What the demo reads: the ledger, the log's ends, rows and dead letters by SQL, and how soon readings can be seen.

It looks at the pipeline from outside, as any reader would; nothing here writes but for the messages of `passed`.
"""

import asyncio
import json
import math
import threading
import time
from array import array
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any
from uuid import uuid4

import psycopg
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from simulator.check import Letter, Row
from simulator.networks import PROBES

Partition = tuple[str, int]

LEDGER = """
select city, sum(messages)::int8, sum(stored)::int8, sum(duplicate)::int8, sum(dead_readings + dead_messages)::int8,
       sum(ignored_readings + ignored_messages)::int8, sum(unaccounted)::int8
  from hanse.ledger group by city"""
POSITIONS = "select topic, partition, next_offset from hanse.ledger"
ROWS = """
select device, channel, property, (extract(epoch from phenomenon_time) * 1000000)::int8, value, quality
  from hanse.observations where city = %s and received_at >= %s and phenomenon_time > %s"""
LETTERS = """
select encode(sha256(m.payload), 'hex'), l.reading, l.reason
  from store.dead_letter l
  join store.dead_message m using (topic, partition, "offset", received_at)
  join store.city c on c.city_id = l.city_id
 where c.key = %s and l."offset" >= coalesce((%s::jsonb -> l.topic ->> l.partition::text)::int8, 0)"""
PROBE_STREAMS = """
select city, datastream_id, phenomenon_time from hanse.latest
 where property = 'air_temperature' and device = any(%s)"""
PROBE = """
select datastream_id, phenomenon_time from hanse.observations
 where datastream_id = any(%s) and phenomenon_time > %s"""

POLL_SECONDS = 0.008
LOOK_SECONDS = 0.25  # from one search for the probes' streams to the next
OUT_OF_STEP = timedelta(minutes=2)  # how far the probes' streams may lie apart
WINDOW = 1_000  # samples a city that the live page's percentiles are of


@dataclass(slots=True)
class Accounted:
    """What the ledger says of one city, in units of readings; a message without a readable one counts one."""

    messages: int = 0
    stored: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    ignored: int = 0
    unaccounted: int = 0

    @property
    def units(self) -> int:
        """Readings and messages without one, by every outcome."""
        return self.stored + self.duplicate + self.dead_lettered + self.ignored

    def since(self, baseline: "Accounted") -> "Accounted":
        """What came after `baseline`."""
        return Accounted(*(getattr(self, each.name) - getattr(baseline, each.name) for each in fields(self)))


def ledger(connection: "psycopg.Connection[Any]") -> dict[str, Accounted]:
    """The ledger by city."""
    return {city: Accounted(*counts) for city, *counts in connection.execute(LEDGER)}


def positions(connection: "psycopg.Connection[Any]") -> dict[Partition, int]:
    """The next offset of every partition that was ever processed."""
    return {(topic, partition): offset for topic, partition, offset in connection.execute(POSITIONS)}


async def _log_ends(bootstrap: str, topics: Sequence[str]) -> dict[Partition, int]:
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="latest")
    await consumer.start()
    try:
        partitions = [KafkaPartition(topic, n) for topic in topics for n in consumer.partitions_for_topic(topic) or ()]
        ends = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return {(each.topic, each.partition): end for each, end in ends.items()}


def log_ends(bootstrap: str, cities: Sequence[str]) -> dict[Partition, int]:
    """The offset that the next record of each raw partition will get, asked of Kafka itself."""
    return asyncio.run(_log_ends(bootstrap, [f"hanse.raw.{city}" for city in cities]))


def _publish(port: int, topic: str, payload: bytes) -> None:
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish(topic, payload, qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


async def _passed(bootstrap: str, brokers: Mapping[str, int], seconds: float) -> bool:
    wanted = {f"hanse.raw.{city}": uuid4().hex.encode() for city in brokers}
    consumer = AIOKafkaConsumer(*wanted, bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="latest")
    await consumer.start()
    try:
        await consumer.seek_to_end()
        for city, port in brokers.items():
            await asyncio.to_thread(_publish, port, f"hanse/{city}/status", wanted[f"hanse.raw.{city}"])
        deadline = time.monotonic() + seconds
        while wanted and time.monotonic() < deadline:
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                if wanted.get(partition.topic) in {record.value for record in records}:
                    del wanted[partition.topic]
    finally:
        await consumer.stop()
    return not wanted


def passed(bootstrap: str, brokers: Mapping[str, int], seconds: float) -> bool:
    """Send a message without a reading through each broker and gateway, and wait for all of them in Kafka, so long.

    A gateway that has just subscribed is sent what its broker retains, and a broker keeps the order: once the message
    is there, so is all of that.
    """
    return asyncio.run(_passed(bootstrap, brokers, seconds))


def rows(connection: "psycopg.Connection[Any]", city: str, received_from: datetime) -> Iterator[Row]:
    """What the city has stored of messages received since then."""
    earliest = received_from - timedelta(days=32)  # older readings are refused, and their chunks need no look
    with connection.transaction(), connection.cursor(name="rows") as cursor:
        cursor.itersize = 20_000
        cursor.execute(ROWS, (city, received_from, earliest))
        yield from map(Row._make, cursor)


def letters(connection: "psycopg.Connection[Any]", city: str, since: Mapping[Partition, int]) -> Iterator[Letter]:
    """The city's dead letters of records from these offsets on."""
    first: dict[str, dict[str, int]] = {}
    for (topic, partition), offset in since.items():
        first.setdefault(topic, {})[str(partition)] = offset
    for kept, reading, reason in connection.execute(LETTERS, (city, json.dumps(first))):
        yield Letter(kept, reading, reason)


def percentile(samples: Sequence[float], share: float) -> float | None:
    """The smallest sample that at least this share of them does not exceed; None of none."""
    if not samples:
        return None
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]


class Latency(threading.Thread):
    """From publication to visible in SQL, in ms, seen by a reader that asks again and again.

    The probes' readings carry the instant at which they were published. A sample is the reader's clock when a query
    first returned the row, minus that instant: the polling and the query itself are in it. Rows that were there before
    their stream was known are no samples.
    """

    def __init__(self, dsn: str, cities: int) -> None:
        super().__init__(name="latency", daemon=True)
        self.samples = array("d")
        self.recent: dict[str, deque[float]] = {}
        self._dsn = dsn
        self._wanted = cities * len(PROBES)
        self._ended = threading.Event()

    def end(self) -> None:
        """Stop asking."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Ask until ended; a lost connection is opened again."""
        while not self._ended.wait(0.2):
            with suppress(psycopg.OperationalError), psycopg.connect(self._dsn, autocommit=True) as connection:
                self._watch(connection)

    def _watch(self, connection: "psycopg.Connection[Any]") -> None:
        cities: dict[int, str] = {}
        newest: dict[int, datetime] = {}
        looked = 0.0
        while not self._ended.wait(POLL_SECONDS if newest else 0.05):
            if len(newest) < self._wanted and time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                for city, stream, at in connection.execute(PROBE_STREAMS, (list(PROBES),)):
                    cities[stream] = city
                    newest.setdefault(stream, at)
            if not newest:
                continue
            since = max(min(newest.values()), max(newest.values()) - OUT_OF_STEP)
            found = connection.execute(PROBE, (list(newest), since)).fetchall()
            now = datetime.now(UTC)
            for stream, at in sorted(found, key=itemgetter(1)):
                if at > newest[stream]:
                    newest[stream] = at
                    self._sample(cities[stream], (now - at) / timedelta(milliseconds=1))

    def _sample(self, city: str, milliseconds: float) -> None:
        self.samples.append(milliseconds)
        self.recent.setdefault(city, deque(maxlen=WINDOW)).append(milliseconds)
