"""What stateful dialects remember: kept as the database gives it back, bounded, and dropped whole."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors import state
from processors.batching import Intake
from processors.cursor import Bounds, Cursor
from processors.dialects.memory import Stateful, Step
from processors.standard.observation import Ignored, Message
from processors.state import NOTHING, Memory, unreadable
from storage.errors import Unavailable
from storage.rows import Batch, SourceState, TopicPartition, stored_name
from tests.simulated import notes
from tests.simulated.clock import VirtualLoop
from tests.simulated.log import SimulatedRecord, SimulatedTopics
from tests.simulated.store import SimulatedTables
from tests.simulated.world import DIALECTS, PARTITIONS, RECEIVED_MS, Processor, city, drained, payload

ONE, TWO = PARTITIONS
NEWER = SourceState("notes", "n1", 2, '{"a":7}')


def record(offset: int, told: Any, topic: str = "notes/wismar/n1/x") -> SimulatedRecord:
    from ingest import wire

    headers = tuple(wire.headers("gateway", qos=1, retain=False, dup=False))
    return SimulatedRecord(offset, RECEIVED_MS, topic.encode(), json.dumps(told).encode(), headers)


def batch(intake: Intake, *records: SimulatedRecord, partition: TopicPartition = ONE) -> Batch:
    cursor = Cursor(partition, None, Bounds(records[0].offset, 10_000))
    taken, _ = cursor.admit(records)
    intake.add(cursor, taken)
    return intake.take()


@given(st.text(st.characters(), max_size=40), st.text(st.characters(), max_size=40))
def test_a_stored_name_is_the_inside_of_a_json_string_and_never_that_of_another(one: str, other: str) -> None:
    stored = stored_name(one)
    assert stored is not None
    assert json.loads(f'"{stored}"') == one
    assert "\0" not in stored
    assert stored.encode("utf-8").decode() == stored
    assert (stored == stored_name(other)) == (one == other)


def test_a_name_too_long_for_the_key_of_the_table_has_no_stored_form() -> None:
    assert stored_name("x" * 1000) == "x" * 1000
    assert stored_name("x" * 1001) is None
    assert stored_name("ü" * 501) is None


def test_only_what_changed_is_written_and_each_part_once_a_batch() -> None:
    intake = Intake([city()], dialects=DIALECTS)
    first = batch(intake, record(0, {"note": {"a": 1, "b": 2}}), record(1, {"note": {"a": 3}}))
    assert {(c.part, c.state) for c in first.state} == {("a", "3"), ("b", "2"), ("count", "2")}
    second = batch(intake, record(2, {"note": {"a": 3, "b": None}}))
    assert {(c.part, c.state) for c in second.state} == {("b", None), ("count", "3")}


def test_spans_that_change_their_places_take_their_state_with_them() -> None:
    intake = Intake([city()], dialects=DIALECTS)
    for partition, value in ((TWO, 2), (ONE, 1)):
        cursor = Cursor(partition, None, Bounds(0, 9))
        taken, _ = cursor.admit([record(0, {"note": {"a": value}})])
        intake.add(cursor, taken)
    made = intake.take()
    assert {(made.spans[c.span].partition, c.state) for c in made.state if c.part == "a"} == {(ONE, "1"), (TWO, "2")}


def test_a_loaded_state_gives_later_messages_their_meaning_and_a_drop_takes_it_away() -> None:
    intake = Intake([city()], dialects=DIALECTS)
    assert intake.remember(ONE, [SourceState("notes", "n1", 1, '{"a":7}')]) is None
    assert batch(intake, record(0, {"second": 1})).columns.value.tolist() == [7.0]
    intake.drop()
    assert [letter.reason for letter in batch(intake, record(1, {"second": 1})).dead] == ["unknown_alias"]


def test_the_same_source_in_another_partition_is_another_source() -> None:
    intake = Intake([city()], dialects=DIALECTS)
    batch(intake, record(0, {"note": {"a": 7}}))
    assert len(batch(intake, record(0, {"second": 1}), partition=TWO).dead) == 1


def odd(value: Any) -> Stateful:
    return Stateful(notes.source, lambda message, known: Step([], {"odd": value}))


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()], ids=["nan", "set", "object"])
def test_a_part_that_is_no_json_is_a_bug_on_one_message_and_changes_nothing(value: Any) -> None:
    intake = Intake([city()], dialects={**DIALECTS, "notes": odd(value)})
    made = batch(intake, record(0, {}))
    assert [(letter.reason, letter.reading) for letter in made.dead] == [("internal_error", None)]
    assert made.state == []


def test_what_is_remembered_in_memory_is_what_the_database_gives_back() -> None:
    memory = Memory()
    memory.change(0, ONE, "notes", "n1", 1, {"a": (1, 2.50, "\0\ud800"), "b": {1: None}})
    [one, other] = memory.take()
    again = Memory()
    again.load(ONE, [SourceState("notes", "n1", 1, f'{{"a":{one.state},"b":{other.state}}}')])
    assert (
        memory.of(ONE, "notes", "n1") == again.of(ONE, "notes", "n1") == {"a": [1, 2.5, "\0\ud800"], "b": {"1": None}}
    )
    assert one.state is not None
    assert one.state.isascii()
    assert "\0" not in one.state


def test_what_is_beyond_the_bounds_is_not_kept_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "PARTS_A_SOURCE", 3)
    monkeypatch.setattr(state, "SOURCES_A_PARTITION", 1)
    monkeypatch.setattr(state, "PART_CHARACTERS", 10)
    memory = Memory()
    assert memory.change(0, ONE, "notes", "n1", 1, {"a": 1, "b": "x" * 9, "c" * 1001: 1, "d": 1, "e": 1, "f": 1}) == 3
    assert memory.of(ONE, "notes", "n1") == {"a": 1, "d": 1, "e": 1}
    assert memory.change(0, ONE, "notes", "n2", 1, {"a": 1}) == 1
    assert memory.of(ONE, "notes", "n2") is NOTHING
    assert memory.change(0, ONE, "notes", "n1", 1, {"a": None, "d": None, "e": None}) == 0
    assert memory.change(0, ONE, "notes", "n2", 1, {"a": 1}) == 0  # room again


def test_state_beyond_the_bounds_shows_among_what_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "PARTS_A_SOURCE", 1)
    intake = Intake([city()], dialects=DIALECTS)
    cursor = Cursor(ONE, None, Bounds(0, 9))
    intake.add(cursor, cursor.admit([record(0, {"note": {"a": 1, "b": 1}})])[0])
    assert intake.ignored["wismar", "state_not_kept"] == 2


def test_the_options_of_the_route_reach_the_dialect() -> None:
    seen: list[Message] = []

    def listening(message: Message) -> Any:
        seen.append(message)
        return []

    one = city()
    route = one.route[0].model_copy(update={"dialect": "generic", "options": {"epoch": "ms"}})
    one = one.model_copy(update={"route": (route,)})
    batch(Intake([one], dialects={**DIALECTS, "generic": listening}), record(0, {}, "hanse/wismar/weather/w1"))
    assert [(message.options, message.replayed) for message in seen] == [({"epoch": "ms"}, False)]


def test_what_a_source_says_is_missing_is_counted_of_its_span() -> None:
    gaps = Stateful(lambda _: "n1", lambda message, state: Step(Ignored("no_observation"), {}, 2))
    made = batch(Intake([city()], dialects={**DIALECTS, "notes": gaps}), record(0, {}), record(1, {}))
    assert [(span.messages, span.missed) for span in made.spans] == [(2, 4)]


def test_a_newer_format_can_not_be_read_an_older_one_can_and_unknown_dialects_are_left_alone() -> None:
    upgraded = {**DIALECTS, "notes": DIALECTS["notes"]._replace(format=3)}  # type: ignore[union-attr]
    assert "notes remembers source 'n1' in format 2, this code knows 1: upgrade" in (
        unreadable([NEWER], DIALECTS) or ""
    )
    assert unreadable([NEWER], upgraded) is None
    assert unreadable([NEWER._replace(dialect="gone"), NEWER._replace(dialect="hanse")], DIALECTS) is None


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    asyncio.set_event_loop(made)
    yield made
    made.close()
    asyncio.set_event_loop(None)


def test_a_partition_with_a_newer_format_stands_still_until_upgraded_and_the_others_go_on(loop: VirtualLoop) -> None:
    topics, tables = SimulatedTopics(), SimulatedTables()
    upgraded = {**DIALECTS, "notes": DIALECTS["notes"]._replace(format=2)}  # type: ignore[union-attr]
    first = Processor(topics, tables, dialects=upgraded)
    topics.append(ONE, "notes/wismar/n1/x", b'{"note": {"a": 7}}', received_ms=RECEIVED_MS)
    loop.run_until_complete(drained(topics, tables))
    loop.run_until_complete(first.stop())
    topics.append(ONE, "notes/wismar/n1/x", b'{"second": 0}', received_ms=RECEIVED_MS)
    topics.append(TWO, "hanse/wismar/weather/w1", payload("w1", 0, 5), received_ms=RECEIVED_MS)
    older = Processor(topics, tables)

    async def scene() -> None:
        await asyncio.sleep(60)
        await older.stop()

    loop.run_until_complete(scene())
    assert tables.positions[ONE].next_offset == 1
    assert tables.positions[TWO].next_offset == 1
    assert "upgrade this processor" in older.noted.halted_partitions[ONE]
    again = Processor(topics, tables, dialects=upgraded)
    loop.run_until_complete(drained(topics, tables))
    loop.run_until_complete(again.stop())
    assert 7.0 in tables.rows.values()
    assert again.noted.halted_partitions == {}


@pytest.mark.parametrize("step", ["begin", "copied", "committed"])
def test_after_a_failure_the_state_is_the_databases_again(loop: VirtualLoop, step: str) -> None:
    topics, tables = SimulatedTopics(), SimulatedTables()
    processor = Processor(topics, tables)
    failures = 0

    def fault(at: str) -> None:
        nonlocal failures
        if at == step and failures < 3:
            failures += 1
            raise Unavailable("simulated")

    processor.store.fault = fault
    for value in range(20):
        told = json.dumps({"note": {"a": value}, "second": value}).encode()
        topics.append(ONE, "notes/wismar/n1/x", told, received_ms=RECEIVED_MS)
    loop.run_until_complete(drained(topics, tables))
    loop.run_until_complete(processor.stop())
    assert failures == 3
    assert json.loads(tables.state_of(ONE)[0].parts) == {"a": 19, "count": 20}
    assert sorted(tables.rows.values()) == [float(value) for value in range(20)]


def test_state_that_the_database_did_not_keep_is_not_believed_any_longer(loop: VirtualLoop) -> None:
    topics, tables = SimulatedTopics(), SimulatedTables()
    processor = Processor(topics, tables)
    commit = processor.store.commit

    async def refusing(batch: Batch) -> Any:
        refused, batch.state = len(batch.state), []
        return (await commit(batch))._replace(state_refused=refused)

    processor.store.commit = refusing  # type: ignore[method-assign]
    topics.append(ONE, "notes/wismar/n1/x", b'{"note": {"a": 7}}', received_ms=RECEIVED_MS)
    loop.run_until_complete(drained(topics, tables))
    topics.append(ONE, "notes/wismar/n1/x", b'{"second": 0}', received_ms=RECEIVED_MS)
    loop.run_until_complete(drained(topics, tables))
    loop.run_until_complete(processor.stop())
    assert [reason for _, _, _, reason in tables.dead] == ["unknown_alias"]
