"""What dialects remember, through the real writer: a restart reads it back, and nothing in it can stop a partition."""

import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import wire
from processors.batching import Intake
from processors.cursor import Bounds, Cursor
from storage.errors import Fenced
from storage.rows import Batch, CityLimits, DeadLetter, Property, StateChange, StreamTable, TopicPartition, stored_name
from storage.timescale import Writer
from tests.integration.batches import KIEL, TEMPERATURE, R, batch
from tests.simulated.log import SimulatedRecord
from tests.simulated.world import DIALECTS, PARTITIONS, RECEIVED_MS, city

ONE = PARTITIONS[0]
KIEL_0 = TopicPartition("hanse.raw.kiel", 0)
WISMAR = CityLimits("wismar", "Wismar", "13074087", 5_000, 1_000_000)
Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
async def writer(migrated: str) -> AsyncIterator[Writer]:
    made = Writer(migrated)
    await made.register([WISMAR, KIEL], [TEMPERATURE, Property("x", "1", "weather", "gauge", "mean", 0, 1)])
    yield made
    await made.close()


class Process:
    """One processor's life: positions from the database, an intake of its own, commits."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.intake = Intake([city()], dialects=DIALECTS)

    async def start(self) -> "Process":
        position = (await self.writer.positions([ONE])).get(ONE)
        if position is not None:
            assert self.intake.remember(ONE, position.state) is None
        self.cursor = Cursor(ONE, position and position._replace(last_hash=None), Bounds(0, 1_000))
        return self

    def read(self, *told: Any, device: str = "x", extra: Any = ()) -> Batch:
        headers = (*wire.headers("gateway", qos=1, retain=False, dup=False), *extra)
        topic = f"notes/wismar/n1/{device}".encode()
        begin = self.cursor.next_offset
        records = [
            SimulatedRecord(begin + n, RECEIVED_MS, topic, json.dumps(what).encode(), headers)
            for n, what in enumerate(told)
        ]
        self.intake.add(self.cursor, self.cursor.admit(records)[0])
        return self.intake.take()


def of_state(*changes: tuple[str, str, str | None], at: int = 0, form: int = 1) -> Batch:
    one = batch(StreamTable(), [R("a", at, float(at))], at=at)
    one.state.extend(StateChange(0, "notes", source, part, form, text) for source, part, text in changes)
    return one


async def test_a_restart_decodes_as_if_there_had_been_none(writer, sql):
    process = await Process(writer).start()
    await writer.commit(process.read({"note": {"a": 3, "b": 4}}, {"note": {"b": None}}))
    restarted = await Process(writer).start()
    made = restarted.read({"second": 5})
    assert made.columns.value.tolist() == [3.0]
    await writer.commit(made)
    assert sql("select part, state::text from store.dialect_state order by part") == [("a", "3"), ("count", "3")]
    assert sql("select unaccounted from hanse.ledger") == [(0,)]


async def test_a_reading_that_came_before_its_meaning_is_a_row_once_it_is_replayed(writer, sql):
    process = await Process(writer).start()
    await writer.commit(process.read({"second": 5}, {"note": {"a": 3}}))
    assert sql("select reason, state from store.dead_letter") == [("unknown_alias", "open")]
    before = sql("select part, state::text from store.dialect_state order by part")
    [(letter, offset)] = sql('select letter_id, "offset" from store.dead_letter')
    told = wire.replay_header(wire.Replay(letter, 0, "sum", RECEIVED_MS, offset))
    for times in (1, 2):
        done = await writer.commit((await Process(writer).start()).read({"second": 5}, extra=(told,)))
        assert list(done.replays) == ["stored" if times == 1 else "replay_repeated"]
    assert sql("select device, value from hanse.observations") == [("x", 3.0)]
    assert sql("select state, outcome from store.dead_letter") == [("closed", "stored")]
    assert sql("select part, state::text from store.dialect_state order by part") == before
    assert sql("select messages, replayed, replayed_stored, replayed_ignored, unaccounted from hanse.ledger") == [
        (2, 2, 1, 1, 0)
    ]
    assert await writer.open_bytes(["wismar"]) == {"wismar": 0}


async def test_a_message_decoded_at_last_closes_its_letter_and_its_bad_readings_get_their_own(writer, sql):
    process = await Process(writer).start()
    bad = process.read({"second": -86_400}, {"second": 1})  # a day ahead; the second of them is decoded below
    bad.dead[:] = [DeadLetter(0, offset, None, "no_route", "none took it") for offset in (0, 1)]
    span = bad.spans[0]
    span.decoded, span.readings, span.dead_readings, span.dead_messages = 0, 0, 0, 2
    await writer.commit(bad)
    await writer.commit(process.read({"note": {"a": 3}}))
    before = await writer.open_bytes(["wismar"])
    for letter in (1, 2):
        told = wire.replay_header(wire.Replay(letter, None, None, RECEIVED_MS, letter - 1))
        second = -86_400 if letter == 1 else 1
        done = await writer.commit(process.read({"second": second}, extra=(told,)))
        assert list(done.replays) == ["1 dead (time_out_of_range)" if letter == 1 else "1 stored"]
        weights = await writer.open_bytes(["wismar"])
        assert done.open_bytes == ({} if letter == 1 else weights)  # of the first only the letter is another
    assert sql("select reading, reason, state from store.dead_letter order by letter_id") == [
        (None, "no_route", "closed"),
        (None, "no_route", "closed"),
        (0, "time_out_of_range", "open"),
    ]
    [(weight,)] = sql('select octet_length(payload) + 256 from store.dead_message where "offset" = 0')
    assert before["wismar"] > weight
    assert await writer.open_bytes(["wismar"]) == {"wismar": weight}
    assert sql("select unaccounted from hanse.ledger") == [(0,)]


async def test_a_replay_that_is_rolled_back_leaves_its_letter_open(writer, sql):
    process = await Process(writer).start()
    await writer.commit(process.read({"second": 5}, {"note": {"a": 3}}))
    [(letter, offset)] = sql('select letter_id, "offset" from store.dead_letter')
    weight = await writer.open_bytes(["wismar"])
    told = wire.replay_header(wire.Replay(letter, 0, "sum", RECEIVED_MS, offset))
    again = await Process(writer).start()
    made = again.read({"second": 5}, extra=(told,))
    assert (await writer.rehearse(made)).replays == ["stored"]
    made.spans[0].first_offset += 1
    with pytest.raises(Fenced):
        await writer.commit(made)
    assert sql("select state, outcome from store.dead_letter") == [("open", None)]
    assert sql("select count(*) from store.observation") == [(0,)]
    assert await writer.open_bytes(["wismar"]) == weight


async def test_new_datastreams_of_replays_are_exempt_from_the_quota(writer, sql):
    process = await Process(writer).start()
    await writer.register([WISMAR._replace(new_datastreams_per_hour=1)], [TEMPERATURE])
    sql("update store.city set first_seen = '2020-01-01Z'")
    writer.forget()
    await writer.commit(process.read({"second": 5}, {"note": {"a": 3}}))
    [(letter, offset)] = sql('select letter_id, "offset" from store.dead_letter')
    await writer.commit(process.read({"second": 5}, device="other"))
    assert sql("select used from store.datastream_quota") == [(1,)]
    told = wire.replay_header(wire.Replay(letter, 0, "sum", RECEIVED_MS, offset))
    assert (await writer.commit(process.read({"second": 5}, extra=(told,)))).replays == ["stored"]
    assert sql("select used from store.datastream_quota") == [(1,)]


async def test_a_batch_that_is_rolled_back_takes_its_state_along(writer, sql):
    process = await Process(writer).start()
    await writer.commit(process.read({"note": {"a": 3}}))
    late = process.read({"note": {"a": 9}})
    late.spans[0].first_offset = 7
    with pytest.raises(Fenced):
        await writer.commit(late)
    assert json.loads((await writer.positions([ONE]))[ONE].state[0].parts) == {"a": 3, "count": 1}


NAMES = st.text(st.characters(), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


async def test_any_name_and_any_json_come_back_exactly_as_they_were_kept(writer, sql):
    process = await Process(writer).start()
    await writer.commit(process.read({}))

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(NAMES.filter(lambda name: name != "count"), VALUES.filter(lambda v: v is not None)))
    def kept(noted: dict[str, Any]) -> None:
        examples.append(noted)

    examples: list[dict[str, Any]] = []
    kept()
    odd = stored_name('odd"\0\ud800')
    assert odd is not None
    for noted in examples:
        process.intake._memory.change(0, ONE, "notes", odd, 1, noted)
        made = process.read({})
        assert (await writer.commit(made)).state_refused == 0
        again = await Process(writer).start()
        told, found = (dict(one.intake._memory.of(ONE, "notes", odd)) for one in (process, again))
        assert json.dumps(told, sort_keys=True) == json.dumps(found, sort_keys=True)
        assert {name: told[name] for name in noted} == noted


async def test_a_part_that_the_database_refuses_is_found_among_its_neighbours_and_stops_nothing(writer, sql):
    wide = "".join(random.Random(7).choices("0123456789abcdef", k=9_000))  # too wide for the index, and won't compress
    one = of_state(("n1", "a", "1"), ("n1", "b", "{"), ("n2", "c", "2"), ("n2", wide, "3"), ("n2", "e", "4"))
    done = await writer.commit(one)
    assert done.state_refused == 2
    assert done.spans[0].stored == 1
    kept = {part for (part,) in sql("select part from store.dialect_state")}
    assert kept == {"a", "c", "e"}
    assert sql("select next_offset from store.consumer_offset") == [(1,)]


async def test_a_format_beyond_the_column_is_refused_by_the_database_and_told(writer, sql):
    done = await writer.commit(of_state(("n1", "a", "1"), form=40_000))
    assert (done.state_refused, done.spans[0].stored) == (1, 1)


async def test_an_unchanged_part_is_not_written_again(writer, sql):
    process = await Process(writer).start()
    await writer.commit(process.read({"note": {"a": 3, "b": 1}}))
    before = sql("select part, xmin::text from store.dialect_state where part <> 'count' order by part")
    await writer.commit(process.read({"note": {"a": 3, "b": 1}}))
    assert before == sql("select part, xmin::text from store.dialect_state where part <> 'count' order by part")


async def test_the_newest_format_among_a_sources_parts_is_told(writer, sql):
    await writer.commit(of_state(("n1", "a", "1"), form=1))
    await writer.commit(of_state(("n1", "b", "2"), at=1, form=2))
    [told] = (await writer.positions([KIEL_0]))[KIEL_0].state
    assert (told.source, told.format, json.loads(told.parts)) == ("n1", 2, {"a": 1, "b": 2})
