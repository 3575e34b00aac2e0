"""What the loop does when something fails, in virtual time over a simulated log and store."""

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import structlog

from processors.cursor import LogReplacedError, RangeLostError
from processors.pipeline import HOUSEKEEPING_SECONDS, slices
from storage.errors import Fenced, Refused, Unavailable
from storage.rows import Batch, Outcome, TopicPartition
from tests.simulated.clock import VirtualLoop
from tests.simulated.log import SimulatedTopics
from tests.simulated.store import SimulatedTables
from tests.simulated.world import PARTITIONS, RECEIVED_MS, Bound, Processor, drained, payload

ONE, TWO = PARTITIONS


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    asyncio.set_event_loop(made)
    yield made
    made.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def topics() -> SimulatedTopics:
    return SimulatedTopics()


@pytest.fixture
def tables() -> SimulatedTables:
    return SimulatedTables()


def publish(topics: SimulatedTopics, count: int, *, partition: TopicPartition = ONE, begin: int = 0) -> None:
    for second in range(begin, begin + count):
        data = payload("w1", second, 5)
        topics.append(partition, "hanse/wismar/weather/w1", data, received_ms=RECEIVED_MS)


def run(loop: VirtualLoop, coroutine: Coroutine[Any, Any, None]) -> None:
    loop.run_until_complete(coroutine)


def test_records_are_committed_in_batches_no_larger_than_the_bound(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables
) -> None:
    publish(topics, 500)
    processor = Processor(topics, tables)
    run(loop, drained(topics, tables))
    run(loop, processor.stop())
    sizes = [len(batch.columns) for batch, _ in processor.noted.batches]
    assert sum(sizes) == 500
    assert max(sizes) <= Bound.batch_messages + 7
    assert len(tables.rows) == 500


def test_nothing_read_before_the_position_was_sought_is_used(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables
) -> None:
    publish(topics, 20)
    first = Processor(topics, tables)
    run(loop, drained(topics, tables))
    run(loop, first.stop())
    publish(topics, 5, begin=20)
    second = Processor(topics, tables)  # its consumer starts at the group's own offset: 0
    run(loop, drained(topics, tables))
    run(loop, second.stop())
    assert tables.ledger[ONE]["messages"] == 25
    assert tables.ledger[ONE]["duplicate"] == 0


def test_a_partition_that_keeps_failing_rests_while_the_others_go_on(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables
) -> None:
    publish(topics, 10)
    publish(topics, 10, partition=TWO, begin=100)
    processor = Processor(topics, tables)
    commit = processor.store.commit

    async def locked(batch: Batch) -> Outcome:
        if any(span.partition == ONE for span in batch.spans):
            raise Unavailable("a frozen process holds the row", "55P03", halve=True)
        return await commit(batch)

    processor.store.commit = locked  # type: ignore[method-assign]

    async def scene() -> None:
        async with asyncio.timeout(120):
            while TWO not in tables.positions or tables.positions[TWO].next_offset < 10:
                await asyncio.sleep(0.1)
        publish(topics, 10, partition=TWO, begin=200)
        async with asyncio.timeout(120):
            while tables.positions[TWO].next_offset < 20:
                await asyncio.sleep(0.1)
        assert ONE not in tables.positions
        processor.store.commit = commit  # type: ignore[method-assign]
        await drained(topics, tables)
        await processor.stop()

    run(loop, scene())
    assert tables.ledger[ONE]["stored"] == 10


def test_a_timeout_in_the_database_makes_batches_smaller_until_one_passes(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables
) -> None:
    publish(topics, 400)
    processor = Processor(topics, tables)
    commit = processor.store.commit

    async def slow(batch: Batch) -> Outcome:
        if len(batch.columns) > 15:
            raise Unavailable("canceling statement due to transaction timeout", "25P04", halve=True)
        return await commit(batch)

    processor.store.commit = slow  # type: ignore[method-assign]
    run(loop, drained(topics, tables, seconds=3600))
    run(loop, processor.stop())
    assert len(tables.rows) == 400


def test_a_fence_makes_the_pipeline_read_its_position_again(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables
) -> None:
    publish(topics, 30)
    one, two = Processor(topics, tables), Processor(topics, tables)
    run(loop, drained(topics, tables))
    publish(topics, 300, begin=30)
    run(loop, drained(topics, tables))
    run(loop, one.stop())
    run(loop, two.stop())
    assert tables.ledger[ONE]["messages"] == 330
    assert tables.ledger[ONE]["duplicate"] == 0
    assert any(isinstance(error, Fenced) for error in one.noted.failures + two.noted.failures)


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.15])
def test_what_a_poll_brings_that_waited_through_a_seek_is_read_again(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables, delay: float
) -> None:
    publish(topics, 4)
    processor = Processor(topics, tables)
    run(loop, drained(topics, tables))
    run(loop, asyncio.sleep(delay))
    for kept in (tables.positions, tables.ledger, tables.rows):
        kept.clear()  # an older database was put back below the process
    publish(topics, 2, begin=4)  # few enough for one poll, after which nothing would show the gap
    run(loop, drained(topics, tables))
    run(loop, processor.stop())
    assert tables.ledger[ONE]["messages"] == len(tables.rows) == 6


def test_a_rival_that_commits_while_positions_are_read_is_not_taken_for_a_replaced_log(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables
) -> None:
    publish(topics, 10)
    rival = Processor(topics, tables)
    run(loop, drained(topics, tables))
    late = Processor(topics, tables)
    positions, bounds = late.store.positions, late.log.bounds

    async def meanwhile() -> None:
        publish(topics, 10, begin=topics.end(ONE))
        await drained(topics, tables)

    async def read_positions(partitions: Any) -> Any:
        await meanwhile()
        found = await positions(partitions)
        await meanwhile()
        return found

    async def read_bounds(partitions: Any) -> Any:
        found = await bounds(partitions)
        await meanwhile()
        return found

    late.store.positions, late.log.bounds = read_positions, read_bounds  # type: ignore[method-assign]
    late.log.rebalance(PARTITIONS)

    async def scene() -> None:
        await asyncio.sleep(60)
        late.store.positions, late.log.bounds = positions, bounds  # type: ignore[method-assign]
        await drained(topics, tables)
        await rival.stop()
        await late.stop()

    run(loop, scene())
    assert tables.ledger[ONE]["messages"] == topics.end(ONE)


def test_a_replaced_log_stops_the_process_after_what_was_read_before(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables
) -> None:
    publish(topics, 10)
    processor = Processor(topics, tables)
    run(loop, drained(topics, tables))
    topics.records[ONE] = []
    publish(topics, 20, begin=500)  # the topic was made anew and is longer than before
    processor.log.lose_connection()
    with pytest.raises(LogReplacedError):
        run(loop, processor.task)  # type: ignore[arg-type]
    assert tables.ledger[ONE]["messages"] == 10


def test_a_replaced_log_is_found_at_assignment_too(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables
) -> None:
    publish(topics, 10)
    processor = Processor(topics, tables)
    run(loop, drained(topics, tables))
    run(loop, processor.stop())
    topics.records[ONE] = []
    publish(topics, 10, begin=500)
    with pytest.raises(LogReplacedError):
        run(loop, Processor(topics, tables).task)  # type: ignore[arg-type]


def test_a_range_that_retention_deleted_stops_the_process_and_the_flag_skips_it(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables
) -> None:
    publish(topics, 10)
    processor = Processor(topics, tables)
    run(loop, drained(topics, tables))
    run(loop, processor.stop())
    publish(topics, 10, begin=10)
    topics.delete_before(ONE, 15)
    with pytest.raises(RangeLostError, match="offsets 10 to 14"):
        run(loop, Processor(topics, tables).task)  # type: ignore[arg-type]
    processor = Processor(topics, tables, accept_loss=True)
    run(loop, drained(topics, tables))
    run(loop, processor.stop())
    assert tables.ledger[ONE]["skipped"] == 5
    assert tables.ledger[ONE]["messages"] == 15
    assert tables.unaccounted() == 0


def test_a_refusal_of_the_database_ends_the_process(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables
) -> None:
    publish(topics, 1)
    processor = Processor(topics, tables)

    async def refuse(batch: Batch) -> Outcome:
        raise Refused("this code is older than the schema allows")

    processor.store.commit = refuse  # type: ignore[method-assign]
    with pytest.raises(Refused):
        run(loop, processor.task)  # type: ignore[arg-type]


def test_an_outage_of_the_database_is_waited_out(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables
) -> None:
    processor = Processor(topics, tables)
    processor.store.away = True

    async def scene() -> None:
        await asyncio.sleep(600)
        publish(topics, 40)
        await asyncio.sleep(600)
        assert processor.noted.reachable is False
        processor.store.away = False
        await drained(topics, tables, seconds=60)
        await processor.stop()

    run(loop, scene())
    assert processor.noted.reachable is True
    assert len(tables.rows) == 40


def test_a_city_beyond_its_dead_letter_budget_is_paused_and_resumes_by_itself_and_both_are_said(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables
) -> None:
    processor = Processor(topics, tables)
    size = 2 << 30

    async def sizes(cities: Any) -> dict[str, int]:
        return {"wismar": size}

    processor.store.open_bytes = sizes  # type: ignore[method-assign]

    async def scene() -> None:
        nonlocal size
        await asyncio.sleep(2 * HOUSEKEEPING_SECONDS)
        assert processor.noted.paused_cities == {"wismar"}
        publish(topics, 5)
        await asyncio.sleep(60)
        assert ONE not in tables.positions
        size = 0
        await drained(topics, tables, seconds=60)
        assert processor.noted.paused_cities == set()
        await processor.stop()

    with structlog.testing.capture_logs() as said:
        run(loop, scene())
    budget = [(one["log_level"], one["cities"]) for one in said if "budget" in one["event"]]
    assert budget == [("error", ["wismar"]), ("info", ["wismar"])]


def test_the_groups_own_offsets_are_left_for_lag_tools(
    loop: VirtualLoop, topics: SimulatedTopics, tables: SimulatedTables
) -> None:
    publish(topics, 9)
    processor = Processor(topics, tables)

    async def scene() -> None:
        await asyncio.sleep(3 * HOUSEKEEPING_SECONDS)
        await processor.stop()

    run(loop, scene())
    assert processor.log.reported[ONE] == 9


def test_slices_never_exceed_their_bounds_and_lose_nothing(topics: SimulatedTopics) -> None:
    publish(topics, 450)
    topics.append(ONE, "t", b"x" * 400_000, received_ms=0)
    records = topics.records[ONE]
    runs = list(slices(records))
    assert runs[0][0] == 0
    assert runs[-1][1] == len(records)
    assert all(one[1] == other[0] for one, other in itertools.pairwise(runs))
    assert max(end - begin for begin, end in runs) <= 200
