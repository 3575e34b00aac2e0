"""Kafka as the lanes see it, in memory."""

import asyncio

from ingest.forward import Batch, KafkaTroubleError, RecordsRefusedError


class Cluster:
    """Kafka as the lanes see it: takes what `refuses` does not name; `hold` keeps every send waiting."""

    def __init__(self):
        self.log: dict[int, list] = {}
        self.refuses = lambda record: False
        self.trouble: str | None = None
        self.hold: asyncio.Event | None = None
        self.producers: list[FakeProducer] = []
        self.sent: list[int] = []

    async def made(self):
        self.producers.append(FakeProducer(self))
        return self.producers[-1]

    def values(self, partition=0):
        return [value for _, value, _, _ in self.log.get(partition, [])]


class FakeProducer:
    def __init__(self, cluster):
        self.cluster = cluster
        self.closed = asyncio.Event()
        self.limit = None

    def batch(self, records):
        built = list(records)
        return Batch(len(built), built)

    async def send(self, partition, batch):
        assert not self.closed.is_set(), "sent through a closed producer"
        cluster = self.cluster
        if cluster.hold is not None:
            held = asyncio.create_task(cluster.hold.wait())
            closed = asyncio.create_task(self.closed.wait())
            await asyncio.wait({held, closed}, return_when=asyncio.FIRST_COMPLETED)
            held.cancel()
            closed.cancel()
        if self.closed.is_set():
            raise KafkaTroubleError("the producer was closed")
        cluster.sent.append(batch.taken)
        if cluster.trouble is not None:
            raise KafkaTroubleError(cluster.trouble)
        if any(cluster.refuses(one) for one in batch.built):
            raise RecordsRefusedError("MESSAGE_TOO_LARGE")
        cluster.log.setdefault(partition, []).extend(batch.built)

    async def close(self, limit):
        self.limit = limit
        self.closed.set()
