"""Tests over time through the real writer: flags follow from the log, whatever becomes of the processes meanwhile."""

import contextlib
import json
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingest import wire
from ingest.city import City
from processors.batching import Intake
from processors.cities import PROPERTIES, limits
from processors.cursor import Bounds, Cursor
from processors.standard.times import rfc3339
from processors.stations import Stations
from storage.errors import Unavailable
from storage.rows import Outcome, TimeLimits, TopicPartition
from storage.timescale import Writer
from tests.one_by_one import OneByOne, Point
from tests.simulated.log import SimulatedRecord

KIEL = TopicPartition("hanse.raw.kiel", 0)
T0 = 1_795_435_200_000_000  # 2026-11-23T12:00:00Z
MINUTE = 60_000_000
RECEIVED_MS = (T0 + 3_000 * MINUTE) // 1_000
CITY = City.model_validate(
    {
        "city": {"key": "kiel", "name": "Kiel"},
        "route": [{"filter": "hanse/kiel/+/+", "dialect": "hanse"}],
        "device": [
            {"match": "off-*", "tests": {"air_temperature": False}},
            {"match": "*", "tests": {"air_temperature": {"spike": 6, "rate": [3, "PT1M"], "flat": "PT30M"}}},
        ],
    }
)
LIMITS = TimeLimits(6.0, 3.0, MINUTE, math.nan, math.nan, 30 * MINUTE)
Query = Callable[..., list[tuple[Any, ...]]]


class Processor:
    """One process: a writer with its memory, and an intake that begins where the database stands."""

    def __init__(self, dsn: str) -> None:
        self.writer = Writer(dsn)
        self.intake = Intake([CITY])

    async def start(self) -> "Processor":
        stations = Stations([CITY])
        await self.writer.register(limits([CITY]), PROPERTIES, stations.facts, stations.time_limits)
        return await self.assigned()

    async def assigned(self) -> "Processor":
        position = (await self.writer.positions([KIEL])).get(KIEL)
        self.intake.drop()
        self.cursor = Cursor(KIEL, position and position._replace(last_hash=None), Bounds(0, 2**40))
        return self

    async def process(self, records: list[SimulatedRecord]) -> Outcome:
        self.intake.add(self.cursor, self.cursor.admit(records)[0])
        return await self.writer.commit(self.intake.take())


class Log:
    """The partition's records; a reading is (device, minute, value, flag of its source)."""

    def __init__(self) -> None:
        self.records: list[SimulatedRecord] = []

    def write(
        self, readings: list[tuple[str, float, float, int | None]], *, unit: str = "Cel", extra: Any = ()
    ) -> None:
        device = readings[0][0]
        told = [
            {
                "property": "air_temperature",
                "value": value,
                "unit": unit,
                "time": rfc3339(T0 + round(at * MINUTE)),
                **({"quality": flag} if flag else {}),
            }
            for _, at, value, flag in readings
        ]
        body = json.dumps({"v": 1, "device": device, "readings": told}).encode()
        headers = (*wire.headers("gateway", qos=1, retain=False, dup=False), *extra)
        topic = f"hanse/kiel/weather/{device}".encode()
        self.records.append(SimulatedRecord(len(self.records), RECEIVED_MS, topic, body, headers))


def expected(messages: list[list[tuple[str, int, float, int | None]]]) -> dict[tuple[str, int], tuple[float, int, int]]:
    """Value, flag and tests by device and minute: of every key the first reading, tested one by one."""
    series: dict[str, OneByOne] = defaultdict(lambda: OneByOne(LIMITS))
    rows: dict[tuple[str, int], tuple[float, int, int]] = {}
    for message in messages:
        found = {}
        for n, (device, at, value, flag) in sorted(enumerate(message), key=lambda one: one[1][1]):
            if value > 50 or flag:
                found[n] = (4, 9 if flag else 1) if value > 50 else (3, 8)
            else:
                bits = series[device].bits(Point(T0 + at * MINUTE, value)) or 0
                found[n] = (3 if bits else 1, bits)
        for n, (device, at, value, _) in enumerate(message):
            rows.setdefault((device, at), (value, *found[n]))
    return rows


@pytest.fixture
async def stage(migrated: str) -> AsyncIterator["Stage"]:
    made = Stage(migrated, [await Processor(migrated).start() for _ in range(2)])
    yield made
    for processor in made.processors:
        await processor.writer.close()


class Stage:
    """Two processes, of which one owns the partition."""

    def __init__(self, dsn: str, processors: list[Processor]) -> None:
        self.dsn, self.processors = dsn, processors
        self.log = Log()
        self.run = 0
        self.owner = 0

    async def commit(self) -> Outcome | None:
        owner = self.processors[self.owner]
        pending = self.log.records[owner.cursor.next_offset :]
        return await owner.process(pending) if pending else None

    async def restart(self) -> None:
        await self.processors[self.owner].writer.close()
        self.processors[self.owner] = await Processor(self.dsn).start()

    async def other(self) -> None:
        self.owner = 1 - self.owner
        await self.processors[self.owner].assigned()

    async def fault(self) -> None:
        """A transaction fails after everything was written, and what was in it is decoded once more."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("storage.offsets.finish", lost)
            with contextlib.suppress(Unavailable):
                await self.commit()
        await self.processors[self.owner].assigned()


async def lost(*_: Any) -> None:
    raise Unavailable("lost before the commit")


readings = st.tuples(
    st.one_of(st.integers(0, 5), st.integers(0, 90), st.integers(0, 3_000)),
    st.sampled_from([0.0, 1.0, 3.5, 4.0, 7.5, 20.0, 60.0]),
    st.sampled_from([None] * 6 + [3]),
)
messages = st.tuples(st.sampled_from("ab"), st.lists(readings, min_size=1, max_size=4))
events = st.sampled_from(["commit", "restart", "other", "fault", "commit, restart", "commit, other"])
STORED = """
select d.device, round(extract(epoch from o.phenomenon_time - %s::timestamptz) / 60)::int, o.value, o.quality,
       o.quality_tests
  from store.observation o join store.datastream d using (datastream_id) where d.device like %s
"""


def one(*told: tuple[int, float]) -> tuple[str, list[tuple[int, float, int | None]]]:
    return "a", [(at, value, None) for at, value in told]


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.one_of(messages, messages, events), max_size=14))
# A late reading between the good one and the outlier.
@example([one((0, 1.0), (5, 20.0)), "commit", one((4, 20.0)), "commit, restart", one((6, 1.0))])
# A doubted row stands where a sound reading comes.
@example([one((0, 1.0)), ("a", [(1, 20.0, 3)]), "commit", one((1, 1.0)), "commit, restart", one((2, 4.5))])
# A partition that comes back, and what happened to it meanwhile.
@example([one((0, 1.0)), "commit, other", one((1, 20.0)), "commit, other", one((2, 20.0))])
# A flat line across a process that was away.
@example([one((0, 1.0)), one((20, 1.0)), "commit, other", one((31, 1.0)), "commit, other", one((32, 1.0))])
# The last good reading lies before two outliers.
@example([one((0, 1.0), (1, 20.0), (2, 7.5)), "commit, restart", one((3, 1.0))])
# A line that moved, and one whose gap is too long.
@example([one((0, 1.0), (20, 4.0), (40, 1.0)), "commit, restart", one((51, 1.0))])
@example([one((0, 1.0), (40, 1.0)), "commit, restart", one((60, 1.0)), "commit, restart", one((71, 1.0))])
# A batch that is rolled back after everything was written.
@example([one((0, 1.0)), "commit", one((1, 20.0)), "fault", one((2, 20.0))])
async def test_restarts_rebalances_faults_and_any_batches_leave_the_flags_as_they_are(
    stage: Stage, sql: Query, told: list[Any]
) -> None:
    stage.run += 1
    sent = []
    for step in told:
        if isinstance(step, str):
            for event in step.split(", "):
                await getattr(stage, event)()
        else:
            device, listed = step
            sent.append([(f"{device}-{stage.run}", *reading) for reading in listed])
            stage.log.write(sent[-1])
    await stage.commit()
    found = {row[:2]: row[2:] for row in sql(STORED, (rfc3339(T0), f"%-{stage.run}"))}
    assert found == expected(sent)


async def test_what_comes_in_order_writes_no_state_and_what_comes_late_writes_one(stage: Stage, sql: Query) -> None:
    stage.log.write([("a-0", 0, 1.0, None), ("a-0", 5, 1.0, None)])
    stage.log.write([("a-0", 6, 1.0, None)])
    stage.log.write([("a-0", 6, 1.0, None)])  # delivered again
    await stage.commit()
    assert sql("select count(*) from store.series_state") == [(0,)]
    stage.log.write([("a-0", 4, 1.0, None)])
    await stage.commit()
    assert sql("select last_value, good_value, last_time = good_time from store.series_state") == [(1.0, 1.0, True)]


async def test_a_device_whose_file_switches_a_test_off_is_not_tested(stage: Stage, sql: Query) -> None:
    for device in ("off-1", "on-1"):
        stage.log.write([(device, 0, 1.0, None), (device, 1, 20.0, None)])
    await stage.commit()
    query = "select device, quality, quality_tests from hanse.observations where value = 20 order by device"
    assert sql(query) == [("off-1", 1, 0), ("on-1", 3, 48)]


@pytest.mark.parametrize("apart", [False, True], ids=["in one batch", "in batches of their own"])
async def test_a_replayed_reading_is_taken_in_its_records_turn(stage: Stage, sql: Query, apart: bool) -> None:
    stage.log.write([("a-0", 0, 1.0, None), ("a-0", 10, 1.0, None)])
    stage.log.write([("a-0", 5, 20.0, None)], unit="Kelvins")
    await stage.commit()
    [(letter,)] = sql("select letter_id from store.dead_letter")
    stage.log.records[1] = stage.log.records[1]._replace(value=b"")
    told = wire.replay_header(wire.Replay(letter, 0, "air_temperature", RECEIVED_MS, 1))
    stage.log.write([("a-0", 11, 20.0, None)], extra=(told,))  # newer than all, and an outlier
    if apart:
        await stage.commit()
        await stage.restart()
    stage.log.write([("a-0", 12, 1.0, None)])
    await stage.commit()
    assert sql("select state, outcome from store.dead_letter") == [("closed", "stored")]
    query = "select value, quality, quality_tests from hanse.observations order by phenomenon_time"
    assert sql(query) == [(1.0, 1, 0), (1.0, 1, 0), (20.0, 3, 48), (1.0, 1, 0)]
