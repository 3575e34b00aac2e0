"""A city, its messages and processors over the simulated log and store."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from ingest.city import City
from processors.batching import Intake
from processors.dialects import Dialect, hanse
from processors.pipeline import Pipeline
from storage.rows import Batch, Outcome, TopicPartition
from tests.simulated.log import SimulatedLog, SimulatedTopics
from tests.simulated.notes import NOTES
from tests.simulated.store import SimulatedStore, SimulatedTables

# The real dialect, and a toy one that remembers.
DIALECTS: Mapping[str, Dialect] = {"hanse": hanse.decode, "notes": NOTES}
RECEIVED_MS = 1_790_000_000_000
PARTITIONS = [TopicPartition("hanse.raw.wismar", n) for n in range(2)]


def city(**limits: Any) -> City:
    return City.model_validate(
        {
            "city": {"key": "wismar", "name": "Hansestadt Wismar", "ags": "13074087"},
            "route": [
                {"filter": "hanse/wismar/+/+", "dialect": "hanse"},
                {"filter": "notes/wismar/+/+", "dialect": "notes", "key_levels": [2]},
                {"filter": "quiet/#", "dialect": "ignore"},
            ],
            "limits": limits,
        }
    )


def payload(device: str, second: int, value: Any, **reading: Any) -> bytes:
    """A native message; its reading's time is `second` seconds before the receive time."""
    time = (RECEIVED_MS // 1000 - second) * 1000
    from processors.standard.times import rfc3339

    told = {"property": "air_temperature", "value": value, "unit": "Cel", **reading}
    return json.dumps({"v": 1, "device": device, "time": rfc3339(time * 1000), "readings": [told]}).encode()


class Noted:
    """Implements processors.pipeline.Observer by remembering."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.batches: list[tuple[Batch, Outcome]] = []
        self.paused_cities: set[str] = set()
        self.halted_partitions: dict[TopicPartition, str] = {}
        self.reachable = False

    def committed(self, batch: Batch, outcome: Outcome, ignored: Mapping[tuple[str, str], int]) -> None:
        self.batches.append((batch, outcome))

    def failed(self, error: Exception) -> None:
        self.failures.append(error)

    def database(self, *, reachable: bool) -> None:
        self.reachable = reachable

    def positioned(self, offsets: Mapping[TopicPartition, tuple[int, int | None]]) -> None:
        self.offsets = dict(offsets)

    def unaccounted(self, by_city: Mapping[str, int]) -> None:
        self.wrong = dict(by_city)

    def paused(self, cities: Any) -> None:
        self.paused_cities = set(cities)

    def halted(self, partitions: Mapping[TopicPartition, str]) -> None:
        self.halted_partitions = dict(partitions)


class Bound:
    batch_messages = 50
    batch_readings = 60
    batch_bytes = 100_000


class Processor:
    """A pipeline with everything in memory; `crash` leaves only what the topics and tables hold."""

    def __init__(
        self,
        topics: SimulatedTopics,
        tables: SimulatedTables,
        *,
        partitions: Any = PARTITIONS,
        accept_loss: bool = False,
        dialects: Mapping[str, Dialect] = DIALECTS,
    ) -> None:
        self.log = SimulatedLog(topics, partitions, poll_records=7)
        self.store = SimulatedStore(tables)
        self.noted = Noted()
        cities = [city()]
        self.pipeline = Pipeline(
            self.log,
            self.store,
            cities,
            intake=Intake(cities, dialects=dialects),
            observer=self.noted,
            bound=Bound(),
            accept_loss=accept_loss,
        )
        self.task = asyncio.get_event_loop().create_task(self.pipeline.run())

    async def crash(self) -> None:
        self.task.cancel()
        commit = self.pipeline._commit
        if commit is not None:
            commit.cancel()
            await asyncio.gather(commit, return_exceptions=True)
        await asyncio.gather(self.task, return_exceptions=True)

    async def stop(self) -> None:
        self.pipeline.stop()
        await self.task


async def drained(topics: SimulatedTopics, tables: SimulatedTables, *, seconds: float = 600) -> None:
    """Wait, in virtual time, until the database stands at the end of every partition."""
    async with asyncio.timeout(seconds):
        while any(
            topics.end(p) != (tables.positions[p].next_offset if p in tables.positions else topics.start(p))
            for p in topics.records
        ):
            await asyncio.sleep(0.05)
