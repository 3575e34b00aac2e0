"""Crash anything, anywhere: every record is accounted once, every good reading is one row, every bad one a letter.

And what dialects remember in the tables is at every instant what reading the log from its start would give.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from processors.dialects.memory import merged
from processors.standard.observation import Message, Rejection
from storage.errors import Unavailable
from storage.rows import TopicPartition
from tests.simulated import notes
from tests.simulated.clock import VirtualLoop
from tests.simulated.log import SimulatedTopics
from tests.simulated.store import SimulatedTables
from tests.simulated.world import PARTITIONS, RECEIVED_MS, Processor, drained, payload

STEPS = ["positions", "begin", "copied", "committed"]


@dataclass
class Replay:
    """What reading the log of notes from its start gives, up to an offset of each partition."""

    state: dict[tuple[TopicPartition, str, str], dict[str, Any]] = field(default_factory=dict)
    rows: dict[tuple[str, int], float] = field(default_factory=dict)
    bad: Counter[bytes] = field(default_factory=Counter)

    def read(self, topics: SimulatedTopics, partition: TopicPartition, until: int) -> None:
        for record in topics.records.get(partition, []):
            if record.offset < until and record.key.startswith(b"notes/"):
                self.step(partition, record.key.decode(), record.value)

    def step(self, partition: TopicPartition, topic: str, payload: bytes) -> None:
        source = notes.source(topic)
        known = self.state.get((partition, "notes", source), {})
        step = notes.decode(Message(topic, payload, RECEIVED_MS * 1000), known)
        after = merged(known, step.changed)
        if after:
            self.state[partition, "notes", source] = dict(after)
        if isinstance(step.decoded, Rejection):
            self.bad[payload] += 1
            return
        for leaf in step.decoded:
            if isinstance(leaf, Rejection) or self.rows.setdefault((leaf.device, leaf.time), leaf.value) != leaf.value:
                self.bad[payload] += 1


class Crash(Exception):  # noqa: N818
    """The process dies here."""


class PipelineMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.topics = SimulatedTopics()
        self.tables = SimulatedTables()
        self.rows: dict[tuple[str, int], float] = {}
        self.bad: Counter[bytes] = Counter()
        self.published = 0
        self.processors = [Processor(self.topics, self.tables)]

    def turn(self, turns: int) -> None:
        async def some() -> None:
            for _ in range(turns):
                await asyncio.sleep(0.002)  # virtual: timers fire, nothing waits

        self.loop.run_until_complete(some())

    def publish(self, partition: int, data: bytes, device: str = "w1") -> None:
        self.topics.append(PARTITIONS[partition], f"hanse/wismar/weather/{device}", data, received_ms=RECEIVED_MS)
        self.published += 1

    @rule(
        device=st.sampled_from(["w1", "w2"]),
        second=st.integers(0, 30),
        value=st.integers(-9, 9),
        copies=st.integers(1, 4),
    )
    def publish_readings(self, device: str, second: int, value: int, copies: int) -> None:
        partition = int(device == "w2")  # the key is the topic: one device, one partition
        for _ in range(copies):
            self.publish(partition, payload(device, second, value), device)
        known = self.rows.setdefault((device, second), float(value))
        if known != value:
            self.bad[payload(device, second, value)] += copies

    @rule(
        partition=st.integers(0, 1),
        data=st.sampled_from([b"", b"{", b"\xff", b"[]", payload("w1", 0, "7"), payload("w1", 0, 1, unit="m")]),
    )
    def publish_bad(self, partition: int, data: bytes) -> None:
        self.publish(partition, data)
        self.bad[data] += 1

    @rule(
        source=st.sampled_from(["n1", "n2"]),
        noted=st.dictionaries(st.sampled_from(["a", "b", 'ü"\\\0\ud800']), st.none() | st.integers(0, 3), max_size=3),
        second=st.none() | st.integers(0, 5),
        copies=st.integers(1, 3),
    )
    def publish_notes(self, source: str, noted: dict[str, int | None], second: int | None, copies: int) -> None:
        told = {"note": noted, **({} if second is None else {"second": second})}
        partition = PARTITIONS[int(source == "n2")]
        for _ in range(copies):
            topic = f"notes/wismar/{source}/x-{source}"
            self.topics.append(partition, topic, json.dumps(told).encode(), received_ms=RECEIVED_MS)
            self.published += 1

    @rule(step=st.sampled_from(STEPS), value=st.integers(0, 3), source=st.sampled_from(["n1", "n2"]))
    def notes_meet_a_failure(self, step: str, value: int, source: str) -> None:
        self.publish_notes(source, {"a": value}, value, 2)
        self.database_fails_at(step, 20, halve=False)
        self.publish_notes(source, {"b": value}, value, 1)
        self.turn(40)

    @rule(turns=st.integers(1, 60))
    def run(self, turns: int) -> None:
        self.turn(turns)

    @rule(step=st.sampled_from(STEPS), turns=st.integers(1, 40))
    def crash_at(self, step: str, turns: int) -> None:
        processor = self.processors[0]

        def fault(at: str) -> None:
            if at == step:
                raise Crash(at)

        processor.store.fault = fault
        self.turn(turns)
        self.replace(0)

    @rule(turns=st.integers(1, 40))
    def kill(self, turns: int) -> None:
        self.turn(turns)
        self.replace(0)

    def replace(self, index: int) -> None:
        processor = self.processors.pop(index)
        self.loop.run_until_complete(processor.crash())
        self.processors.insert(index, Processor(self.topics, self.tables))

    @rule(step=st.sampled_from(STEPS), turns=st.integers(1, 40), halve=st.booleans())
    def database_fails_at(self, step: str, turns: int, halve: bool) -> None:
        processor = self.processors[0]

        def fault(at: str) -> None:
            if at == step:
                raise Unavailable("simulated", "55P03" if halve else None, halve=halve)

        processor.store.fault = fault
        self.turn(turns)
        processor.store.fault = lambda step: None

    @rule(turns=st.integers(1, 30))
    def kafka_away(self, turns: int) -> None:
        self.topics.away = True
        self.turn(turns)
        self.topics.away = False

    @rule(partitions=st.sets(st.sampled_from(PARTITIONS)))
    def rebalance(self, partitions: Any) -> None:
        self.processors[0].log.rebalance(partitions)

    @rule()
    def lose_connection(self) -> None:
        self.processors[0].log.lose_connection()

    @precondition(lambda self: len(self.processors) == 1)
    @rule()
    def start_second_on_the_same_partitions(self) -> None:
        self.processors.append(Processor(self.topics, self.tables))

    @invariant()
    def the_ledger_balances_at_every_instant(self) -> None:
        if hasattr(self, "tables"):
            assert self.tables.unaccounted() == 0

    @invariant()
    def the_state_is_what_a_replay_of_the_log_gives(self) -> None:
        if hasattr(self, "tables"):
            assert self.remembered() == self.replayed().state

    def replayed(self) -> Replay:
        replay = Replay()
        for partition, position in self.tables.positions.items():
            replay.read(self.topics, partition, position.next_offset)
        return replay

    def remembered(self) -> dict[tuple[TopicPartition, str, str], dict[str, Any]]:
        return {
            (partition, state.dialect, state.source): json.loads(state.parts)
            for partition in PARTITIONS
            for state in self.tables.state_of(partition)
        }

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.check()
        finally:
            self.loop.close()

    def check(self) -> None:
        for processor in self.processors:
            processor.store.fault = lambda step: None
            processor.log.rebalance(PARTITIONS)

        async def end() -> None:
            for index, processor in enumerate(self.processors):
                if processor.task.done():
                    await processor.crash()
                    self.processors[index] = Processor(self.topics, self.tables)
            await drained(self.topics, self.tables)
            for processor in self.processors:
                await processor.stop()

        self.loop.run_until_complete(end())
        replay = self.replayed()
        assert {(k[1], k[4]): v for k, v in self.tables.rows.items()} == replay.rows | {
            (device, (RECEIVED_MS // 1000 - second) * 1_000_000): value for (device, second), value in self.rows.items()
        }
        dead = Counter(self.tables.payloads[partition, offset] for partition, offset, _, _ in self.tables.dead)
        assert dead == self.bad + replay.bad
        assert sum(n["messages"] for n in self.tables.ledger.values()) == self.published
        assert self.tables.unaccounted() == 0


PipelineMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)
TestPipeline = PipelineMachine.TestCase
