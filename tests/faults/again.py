"""Every record of the cities once more, as a gateway would write it after it lost its acks."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


def publish_again(bootstrap, cities):
    """Append a copy of each record (key, value, headers, receive time) to its own partition, in order."""
    asyncio.run(_copy(bootstrap, [f"hanse.raw.{city}" for city in cities]))


async def _copy(bootstrap, topics):
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=bootstrap, enable_auto_commit=False)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    await consumer.start()
    await producer.start()
    try:
        partitions = [TopicPartition(t, p) for t in topics for p in consumer.partitions_for_topic(t)]
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        for partition in partitions:
            position = await consumer.position(partition)
            while position < ends[partition]:
                found = await consumer.getmany(partition, timeout_ms=2_000)
                for record in (r for records in found.values() for r in records if r.offset < ends[partition]):
                    await producer.send(
                        record.topic,
                        record.value,
                        key=record.key,
                        partition=record.partition,
                        timestamp_ms=record.timestamp,
                        headers=list(record.headers),
                    )
                position = await consumer.position(partition)
        await producer.flush()
    finally:
        await producer.stop()
        await consumer.stop()
