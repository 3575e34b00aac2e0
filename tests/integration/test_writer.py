"""The writer on a real TimescaleDB: exact counts, compare-and-set, quota, poison, failures in the middle."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import Fenced, Refused, Unavailable
from storage.migrate import migrate
from storage.rows import Batch, CityLimits, DeadLetter, Position, SpanOutcome, StreamTable, TopicPartition
from storage.timescale import Writer
from tests.integration.batches import (
    HOUR,
    KIEL,
    PRESSURE,
    SECOND,
    T0,
    TEMPERATURE,
    WISMAR,
    R,
    batch,
    message,
    rows_of,
    span,
)

P0 = TopicPartition("hanse.raw.kiel", 0)
DAY = 24 * HOUR

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
async def writer(migrated: str) -> AsyncIterator[Writer]:
    made = Writer(migrated)
    await made.connect()
    await made.register([KIEL, WISMAR], [TEMPERATURE, PRESSURE])
    yield made
    await made.close()


@pytest.fixture
async def other(migrated: str, writer: Writer) -> AsyncIterator[Writer]:
    made = Writer(migrated, application_name="other")
    await made.register([KIEL, WISMAR], [TEMPERATURE, PRESSURE])
    yield made
    await made.close()


@pytest.fixture
def table() -> StreamTable:
    return StreamTable()


def values(sql: Query) -> list[tuple[str, int, float | None]]:
    return sql(
        "select device, (extract(epoch from phenomenon_time) * 1000000)::int8 - %s, value from hanse.observations "
        "order by 1, 2",
        (T0,),
    )


# Counts -------------------------------------------------------------------------------------------------------------


async def test_every_reading_of_a_batch_is_a_row_and_is_counted(writer, sql, table):
    readings = [R("a", n * SECOND, n / 3) for n in range(50)] + [R("b", 0, None), R("b", SECOND, 2.0)]
    random.Random(1).shuffle(readings)
    done = await writer.commit(batch(table, readings))
    assert [SpanOutcome(stored=52)] == list(done.spans)
    assert sorted(((r.device, r.time, r.value) for r in readings), key=lambda r: r[:2]) == values(sql)
    assert await writer.unaccounted() == {"kiel": 0}
    assert sql("select messages, readings, stored, duplicate, next_offset, unaccounted from hanse.ledger") == [
        (52, 52, 52, 0, 52, 0)
    ]


async def test_the_first_of_a_key_in_a_batch_wins_and_equal_values_are_duplicates(writer, sql, table):
    readings = [R("a", 0, 1.0), R("a", 0, 1.0), R("a", 0, 2.0), R("b", 0, None), R("b", 0, None), R("b", 0, 0.0)]
    done = await writer.commit(batch(table, readings))
    assert [SpanOutcome(stored=2, duplicate=2, dead={"conflicting_value": 2})] == list(done.spans)
    assert values(sql) == [("a", 0, 1.0), ("b", 0, None)]
    assert sql(
        'select "offset", reason, payload from store.dead_letter join store.dead_message '
        'using (topic, partition, "offset", received_at) order by 1'
    ) == [(2, "conflicting_value", b"payload 2"), (5, "conflicting_value", b"payload 5")]
    assert await writer.unaccounted() == {"kiel": 0}


@pytest.mark.parametrize("cold", [False, True], ids=["known to be late", "met by the straight copy"])
async def test_what_exists_already_is_a_duplicate_or_a_conflict_by_its_value(writer, sql, table, cold):
    await writer.commit(batch(table, [R("a", 0, 1.0), R("b", 0, None), R("c", 0, 3.0), R("d", 0, None)]))
    if cold:
        writer.forget()
    again = [R("a", 0, 1.0), R("b", 0, None), R("c", 0, 4.0), R("d", 0, 5.0), R("a", SECOND, 6.0)]
    done = await writer.commit(batch(table, again, at=4))
    assert [SpanOutcome(stored=1, duplicate=2, dead={"conflicting_value": 2})] == list(done.spans)
    assert values(sql) == [("a", 0, 1.0), ("a", SECOND, 6.0), ("b", 0, None), ("c", 0, 3.0), ("d", 0, None)]
    assert [detail for (detail,) in sql("select detail from store.dead_letter order by letter_id")] == [
        "this time already has the value 3.0, not 4.0",
        "this time already has the value null, not 5.0",
    ]
    assert await writer.unaccounted() == {"kiel": 0}


async def test_late_readings_are_stored_beside_new_ones(writer, sql, table):
    await writer.commit(batch(table, [R("a", n * SECOND, 0.0) for n in range(0, 20, 2)]))
    done = await writer.commit(batch(table, [R("a", n * SECOND, 1.0) for n in range(1, 25, 2)], at=10))
    assert done.spans[0].stored == 12
    assert len(values(sql)) == 22


async def test_other_flags_on_an_equal_value_are_still_a_duplicate(writer, sql, table):
    await writer.commit(batch(table, [R("a", 0, -0.0)]))
    again = batch(table, [R("a", 0, 0.0)], at=1)
    again.columns.quality[:] = 3
    again.columns.quality_tests[:] = 1
    assert [SpanOutcome(duplicate=1)] == list((await writer.commit(again)).spans)
    assert sql("select quality, quality_tests from store.observation") == [(1, 0)]


async def test_spans_of_several_cities_are_counted_apart(writer, sql, table):
    one, two = [R("a", 0, 1.0), R("a", 0, 1.0)], [R("a", 0, 2.0), R("b", 0, 2.0), R("a", 0, 3.0)]
    spans = [span(one), span(two, city="wismar", at=7, new=True)]
    done = await writer.commit(Batch(spans, rows_of(table, [("kiel", 0, one), ("wismar", 7, two)]), table))
    assert [SpanOutcome(1, 1), SpanOutcome(2, 0, {"conflicting_value": 1})] == list(done.spans)
    assert sql("select city, first_offset, next_offset, unaccounted from hanse.ledger order by 1") == [
        ("kiel", 0, 2, 0),
        ("wismar", 7, 10, 0),
    ]


async def test_a_span_without_rows_moves_the_offset_alone(writer, sql, table):
    nothing = batch(table, [], messages=3, ignored_messages=3, next_offset=3)
    assert [SpanOutcome()] == list((await writer.commit(nothing)).spans)
    assert sql("select next_offset, ignored_messages, unaccounted from hanse.ledger") == [(3, 3, 0)]


KEYS = st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.sampled_from([None, 0.0, 1.5]))


@given(st.lists(st.tuples(st.lists(KEYS, max_size=12), st.booleans()), min_size=1, max_size=5))
@settings(max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_batches_leaves_what_a_dictionary_would(migrated, batches):
    asyncio.run(_compare_with_a_dictionary(migrated, batches))


async def _compare_with_a_dictionary(dsn: str, batches: list[tuple[list[tuple[str, int, float | None]], bool]]) -> None:
    writer, table, run = Writer(dsn), StreamTable(), random.SystemRandom().getrandbits(30)
    model: dict[tuple[str, int], float | None] = {}
    at = 0
    try:
        await writer.register([KIEL], [TEMPERATURE])
        for number, (rows, forget) in enumerate(batches):
            expected = SpanOutcome()
            for device, time, value in rows:
                if (device, time) not in model:
                    model[device, time] = value
                    expected.stored += 1
                elif model[device, time] == value:
                    expected.duplicate += 1
                else:
                    expected.dead = {"conflicting_value": expected.dead.get("conflicting_value", 0) + 1}
            readings = [R(f"{run}-{device}", time * SECOND, value) for device, time, value in rows]
            done = await writer.commit(batch(table, readings, at=at, partition=run, new=number == 0))
            assert [expected] == list(done.spans)
            at += len(rows)
            if forget:
                writer.forget()
        cursor = await writer._conn.execute(
            "select device, extract(epoch from phenomenon_time)::int8 - %s, value from hanse.observations "
            "where device like %s",
            (T0 // SECOND, f"{run}-%"),
        )
        assert model == {(d.rpartition("-")[2], t): v for d, t, v in await cursor.fetchall()}
        assert await writer.unaccounted() == {"kiel": 0}
    finally:
        await writer.close()


# Compare-and-set ----------------------------------------------------------------------------------------------------


async def test_a_position_is_where_the_last_batch_ended(writer, table):
    assert await writer.positions([P0]) == {}
    await writer.commit(batch(table, [R("a", 0, 1.0)] * 3, at=5, new=True))
    assert {P0: Position(5, 8, 1_795_435_200_005, b"       5")} == await writer.positions(
        [P0, TopicPartition("hanse.raw.kiel", 1)]
    )


@pytest.mark.parametrize(("at", "new"), [(0, False), (1, False), (3, False), (0, True), (2, True)], ids=str)
async def test_a_batch_that_starts_elsewhere_is_fenced_and_changes_nothing(writer, sql, table, at, new):
    await writer.commit(batch(table, [R("a", 0, 1.0), R("a", SECOND, 1.0)]))
    with pytest.raises(Fenced) as fenced:
        await writer.commit(batch(table, [R("z", DAY, 9.0)], at=at, new=new, dead=[]))
    assert fenced.value.partitions == [P0]
    assert len(values(sql)) == 2
    assert sql("select count(*) from store.datastream") == [(1,)]
    assert (await writer.commit(batch(table, [R("z", DAY, 9.0)], at=2))).spans[0].stored == 1


async def test_a_partition_without_a_row_is_fenced_unless_it_is_new(writer, table):
    with pytest.raises(Fenced):
        await writer.commit(batch(table, [R("a", 0, 1.0)], at=0, new=False))


async def test_one_fenced_partition_stops_the_whole_batch(writer, sql, table):
    await writer.commit(batch(table, [R("a", 0, 1.0)]))
    one, two = [R("a", 0, 1.0)], [R("b", 0, 2.0)]
    spans = [span(one, at=0, new=False), span(two, partition=1)]
    with pytest.raises(Fenced) as fenced:
        await writer.commit(Batch(spans, rows_of(table, [("kiel", 0, one), ("kiel", 0, two)]), table))
    assert fenced.value.partitions == [P0]
    assert {P0} == set(await writer.positions([P0, TopicPartition("hanse.raw.kiel", 1)]))


@pytest.mark.parametrize("at", [0, 1], ids=["new partition", "known partition"])
async def test_of_two_writers_on_one_partition_exactly_one_wins_each_batch(writer, other, sql, table, at):
    tables = [StreamTable(), StreamTable()]
    if at:
        await writer.commit(batch(table, [R("first", 0, 0.0)]))
    for offset in range(at, at + 10):
        readings = [R(f"d{n}", offset * SECOND, 1.0) for n in range(20)]
        done = await asyncio.gather(
            *(
                w.commit(batch(t, readings, at=offset, messages=1, decoded=1, next_offset=offset + 1, new=offset == 0))
                for w, t in zip((writer, other), tables, strict=True)
            ),
            return_exceptions=True,
        )
        assert {"Outcome", "Fenced"} == {type(d).__name__ for d in done}
    assert [(200 + at, 0, 0)] == sql("select stored, duplicate, unaccounted from hanse.ledger")


async def test_two_writers_may_bring_the_same_readings_through_two_partitions(writer, other, sql):
    tables = [StreamTable(), StreamTable()]
    for turn in range(5):
        readings = [R(f"d{n}", (turn * 7 + n % 3) * DAY // 8, 1.0) for n in range(300)]
        for w, t, partition in ((writer, tables[0], 0), (other, tables[1], 1)):
            w.pending = asyncio.ensure_future(_until_done(w, batch(t, readings, at=turn * 300, partition=partition)))
        done = await asyncio.gather(writer.pending, other.pending)
        assert sum(d.spans[0].stored for d in done) == 300
        assert sum(d.spans[0].duplicate for d in done) == 300
    assert sql("select unaccounted from hanse.ledger") == [(0,), (0,)]


async def _until_done(writer: Writer, one: Batch) -> Any:
    for _ in range(20):
        try:
            return await writer.commit(one)
        except Unavailable as error:
            if error.sqlstate != "40P01":  # a deadlock is retried, nothing else is expected
                raise
    raise AssertionError("never done")


# Failures in the middle ---------------------------------------------------------------------------------------------


async def _blocked(writer: Writer, one: Batch, blocker: psycopg.AsyncConnection[Any]) -> asyncio.Task[Any]:
    """A commit that waits for its ledger row, rows already copied."""
    await blocker.execute("begin")
    await blocker.execute("lock table store.ledger in access exclusive mode")
    task = asyncio.create_task(writer.commit(one))
    waiting = "select count(*) from pg_locks where relation = 'store.ledger'::regclass and not granted"
    while await (await blocker.execute(waiting)).fetchone() == (0,):
        assert not task.done(), task.exception()
        await asyncio.sleep(0.01)
    return task


@pytest.fixture
async def blocker(migrated: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    conn = await psycopg.AsyncConnection.connect(migrated, autocommit=True)
    yield conn
    await conn.close()


async def test_a_killed_backend_leaves_nothing_and_the_batch_passes_again(writer, sql, table, blocker):
    await writer.commit(batch(table, [R("a", 0, 1.0)]))
    one = batch(table, [R("new", n * SECOND, 1.0) for n in range(100)], at=1)
    task = await _blocked(writer, one, blocker)
    await blocker.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'hanse-processor' and datname = current_database()"
    )
    with pytest.raises(Unavailable) as error:
        await task
    assert not error.value.halve
    await blocker.execute("rollback")
    assert (await writer.positions([P0]))[P0].next_offset == 1
    assert len(values(sql)) == 1
    assert [SpanOutcome(stored=100)] == list((await writer.commit(one)).spans)
    assert await writer.unaccounted() == {"kiel": 0}


async def test_a_cancelled_commit_leaves_nothing_and_the_writer_works_on(writer, sql, table, blocker):
    await writer.commit(batch(table, [R("a", 0, 1.0)]))
    one = batch(table, [R("new", 0, 1.0)], at=1)
    task = await _blocked(writer, one, blocker)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await blocker.execute("rollback")
    assert len(values(sql)) == 1
    assert [SpanOutcome(stored=1)] == list((await writer.commit(one)).spans)


async def test_a_lost_id_is_never_used_for_another_device(writer, other, sql, table, blocker):
    await writer.commit(batch(table, [R("a", 0, 1.0)]))
    one = batch(table, [R("lost", 0, 1.0)], at=1)
    task = await _blocked(writer, one, blocker)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await blocker.execute("rollback")
    sql("select setval(pg_get_serial_sequence('store.datastream', 'datastream_id'), 1)")  # as after a crash
    await other.commit(batch(StreamTable(), [R("else", 0, 2.0)], partition=1))
    await writer.commit(one)
    assert values(sql) == [("a", 0, 1.0), ("else", 0, 2.0), ("lost", 0, 1.0)]


async def test_a_transaction_that_waits_too_long_asks_for_half_the_batch(writer, table, blocker):
    await writer.commit(batch(table, [R("a", 0, 1.0)]))
    await writer._conn.execute("set lock_timeout = '50ms'")
    task = await _blocked(writer, batch(table, [R("a", SECOND, 1.0)], at=1), blocker)
    with pytest.raises(Unavailable) as error:
        await task
    assert (error.value.sqlstate, error.value.halve) == ("55P03", True)
    await blocker.execute("rollback")
    assert (await writer.commit(batch(table, [R("a", SECOND, 1.0)], at=1))).spans[0].stored == 1


async def test_a_session_is_set_up_so_that_a_frozen_owner_loses_its_locks(writer):
    shown = {}
    for name in ("synchronous_commit", "transaction_timeout", "idle_in_transaction_session_timeout", "lock_timeout"):
        (shown[name],) = await (await writer._conn.execute(f"show {name}")).fetchone()
    assert list(shown.values()) == ["off", "30s", "10s", "15s"]


async def test_a_restarted_server_is_met_by_a_new_connection(own_postgres, table):
    server = own_postgres()
    dsn = server.create_database("again")
    migrate(dsn)
    writer = Writer(dsn)
    try:
        await writer.register([KIEL], [TEMPERATURE])
        await writer.commit(batch(table, [R("a", 0, 1.0)]))
        server.kill()
        with pytest.raises(Unavailable):
            await writer.commit(batch(table, [R("a", SECOND, 1.0)], at=1))
        with pytest.raises(Unavailable, match="127.0.0.1"):
            await writer.positions([P0])
        server.start()
        where = (await writer.positions([P0])).get(P0)
        again = 0 if where is None else where.next_offset  # asynchronous commit: the last batch may be gone
        done = await writer.commit(batch(table, [R("a", again * SECOND, 1.0)], at=again))
        assert done.spans[0].stored == 1
    finally:
        await writer.close()


# Datastreams and their quota ----------------------------------------------------------------------------------------


async def _aged(sql: Query, migrated: str, limit: int) -> Writer:
    """A writer with a city old enough for a quota."""
    writer = Writer(migrated)
    await writer.register([CityLimits("kiel", "Kiel", "01002000", limit, 1_000_000)], [TEMPERATURE])
    sql("update store.city set first_seen = '2026-11-01Z'")
    writer.forget()
    return writer


async def test_new_datastreams_beyond_the_hours_quota_are_dead_letters_and_the_known_go_on(migrated, sql, table):
    writer = await _aged(sql, migrated, 3)
    try:
        readings = [R(f"d{n % 5}", n * SECOND, 1.0) for n in range(10)]
        done = await writer.commit(batch(table, readings))
        assert [SpanOutcome(stored=6, dead={"datastream_quota": 4})] == list(done.spans)
        assert sql("select device from store.datastream order by 1") == [("d0",), ("d1",), ("d2",)]
        done = await writer.commit(batch(table, [R("d0", 100 * SECOND, 1.0), R("d9", 0, 1.0)], at=10))
        assert [SpanOutcome(stored=1, dead={"datastream_quota": 1})] == list(done.spans)
        later = R("d9", HOUR, 1.0, received=T0 + HOUR)
        assert (await writer.commit(batch(table, [later], at=12))).spans[0].stored == 1
        assert sql("select used from store.datastream_quota order by hour") == [(3,), (1,)]
        assert await writer.unaccounted() == {"kiel": 0}
    finally:
        await writer.close()


async def test_a_letter_of_the_database_names_its_own_row_where_two_keys_feed_one_datastream(migrated, sql, table):
    """And not the key that the datastream was last seen with: a replay finds its reading by that name."""
    writer = await _aged(sql, migrated, 1)
    try:
        inside = [R("a", 0, 1.0), R("a", 0, 2.0, key="tempf", unit="F"), R("a", SECOND, 3.0)]
        beyond = [R("b", 0, 1.0), R("b", SECOND, 2.0, key="tempf", unit="F")]
        done = await writer.commit(batch(table, [*inside, *beyond]))
        assert [SpanOutcome(stored=2, dead={"conflicting_value": 1, "datastream_quota": 2})] == list(done.spans)
        assert sql('select "offset", reason, raw_key, raw_unit from store.dead_letter order by 1') == [
            (1, "conflicting_value", "tempf", "F"),
            (3, "datastream_quota", "temp", "C"),
            (4, "datastream_quota", "tempf", "F"),
        ]
    finally:
        await writer.close()


async def test_a_city_younger_than_a_day_has_no_quota(migrated, sql, table):
    writer = await _aged(sql, migrated, 1)
    try:
        sql("update store.city set first_seen = '2026-11-23T00:00Z'")
        writer.forget()
        assert (await writer.commit(batch(table, [R(f"d{n}", 0, 1.0) for n in range(5)]))).spans[0].stored == 5
    finally:
        await writer.close()


async def test_two_writers_that_meet_the_same_new_devices_make_each_once(writer, other, sql):
    readings = [R(f"d{n}", n * SECOND, 1.0) for n in range(500)]
    shuffled = random.Random(3).sample(readings, len(readings))
    done = await asyncio.gather(
        _until_done(writer, batch(StreamTable(), readings)),
        _until_done(other, batch(StreamTable(), shuffled, partition=1)),
    )
    assert sum(d.spans[0].stored for d in done) == 500
    assert sql("select count(*) from store.datastream") == [(500,)]


async def test_provenance_is_kept_as_last_seen(writer, sql, table):
    await writer.commit(batch(table, [R("a", 0, 1.0, key="temp", unit="C")]))
    await writer.commit(batch(table, [R("a", SECOND, 1.0, key="temperature", unit="°C")], at=1))
    assert sql("select raw_key, raw_unit from store.datastream") == [("temperature", "°C")]
    assert set() == table.changed
    await writer.commit(batch(table, [R("a", 2 * SECOND, 1.0, key="t")], at=2))  # within the minute: not yet
    assert {0} == table.changed


async def test_registering_twice_and_at_once_changes_nothing(writer, other, sql):
    for _ in range(3):
        await asyncio.gather(*(w.register([KIEL], [TEMPERATURE, PRESSURE]) for w in (writer, other)))
    await asyncio.gather(
        *(w.register([CityLimits("kiel_neu", "Neu", "", 1, 1)], [PRESSURE._replace(key="p2")]) for w in (writer, other))
    )
    assert sql("select key from store.city order by 1") == [("kiel",), ("kiel_neu",), ("wismar",)]
    assert sql("select count(*) from store.property") == [(3,)]


@pytest.mark.parametrize(("what", "value"), [("unit", "K"), ("aggregation", "max")])
async def test_a_property_that_means_something_else_in_the_database_is_refused(writer, what, value):
    with pytest.raises(Refused, match=f"air_temperature.*{what}"):
        await writer.register([], [TEMPERATURE._replace(**{what: value})])


async def test_a_city_that_was_renamed_gets_its_new_name(writer, sql):
    await writer.register([KIEL._replace(name="Kiel an der Förde")], [])
    assert sql("select name from store.city where key = 'kiel'") == [("Kiel an der Förde",)]


# Bad data -----------------------------------------------------------------------------------------------------------

POISON = ["nul\0nul", "lone \ud800 surrogate", "ünïcode", "\\u0000", "x" * 299, "'; drop table store.city; --"]


@pytest.mark.parametrize("poison", POISON, ids=ascii)
async def test_poison_in_any_text_is_stored_escaped(writer, sql, table, poison):
    letter = DeadLetter(1, 0, None, "malformed", poison, poison, poison, poison, poison, poison, 2**62)
    letter = letter._replace(span=0, offset=1)
    one = batch(table, [R(poison, 0, 1.0, channel=poison, key=poison, unit=poison)], dead=[letter])
    one.spans[0].messages_at = lambda offset: message(offset)._replace(topic=poison, payload=b"\0\xff")
    done = await writer.commit(one)
    assert done.spans[0].stored == 1
    [(device, key, topic, payload, detail, value)] = sql(
        "select d.device, d.raw_key, m.mqtt_topic, m.payload, l.detail, l.raw_value "
        "from store.datastream d, store.dead_message m, store.dead_letter l"
    )
    assert payload == b"\0\xff"
    assert {device} == {key, topic, detail, value}
    assert [SpanOutcome(duplicate=1)] == list(
        (await writer.commit(batch(StreamTable(), [R(poison, 0, 1.0, channel=poison)], at=2))).spans
    )


async def test_a_device_too_long_for_its_column_is_refused_and_never_clipped_into_another(writer, sql, table):
    readings = [R("x" * 300 + "1", 0, 1.0), R("x" * 300 + "2", 0, 2.0), R("\0" * 51, 0, 3.0), R("ok", 0, 1.0)]
    done = await writer.commit(batch(table, readings))
    assert [SpanOutcome(stored=1, dead={"rejected_by_database": 3})] == list(done.spans)
    assert sql("select device from store.datastream") == [("ok",)]


async def test_the_longest_names_of_the_widest_characters_fit_the_index(writer, sql, table):
    names = random.Random(5)
    wide = ["".join(chr(names.randrange(0x1F300, 0x1F9FF)) for _ in range(300)) for _ in range(2)]
    done = await writer.commit(batch(table, [R(wide[0], 0, 1.0, channel=wide[1])]))
    assert done.spans[0].stored == 1


BAD = {
    "before the table's range": R("bad", -7 * 365 * DAY, 1.0),
    "after the table's range": R("bad", 80 * 365 * DAY, 1.0),
    "beyond PostgreSQL's times": R("bad", 2**63 - 1 - T0, 1.0, received=T0),
    "infinity": R("bad", 2**63 - 1 - T0 - 946_684_800_000_000, 1.0, received=T0),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_a_row_that_the_database_refuses_is_found_among_its_neighbours(writer, sql, table, bad):
    sql("update store.rollup_state set retained_from = '0001-01-01Z'")
    readings = [R(f"d{n % 7}", n * SECOND, 1.0) for n in range(100)]
    readings[37:37] = [bad]
    readings.append(R("d0", 0, 1.0))
    done = await writer.commit(batch(table, readings))
    assert [SpanOutcome(stored=100, duplicate=1, dead={"rejected_by_database": 1})] == list(done.spans)
    assert sql('select "offset", device from store.dead_letter') == [(37, "bad")]
    assert len(values(sql)) == 100
    assert await writer.unaccounted() == {"kiel": 0}


@pytest.mark.parametrize("merges", [3, 5])
async def test_a_refused_row_after_any_number_of_merges_leaves_the_connection_usable(writer, sql, table, merges):
    # A client that prepares statements by itself loses count of them in aborted pipelines.
    for turn in range(merges):
        await writer.commit(batch(table, [R("a", -turn * SECOND, 1.0)], at=turn))
    one = batch(table, [R("a", n * SECOND, None if n == 7 else 1.0) for n in range(1, 101)], at=merges)
    one.columns.quality[6] = 1  # null, but not marked missing
    done = await writer.commit(one)
    assert list(done.spans) == [SpanOutcome(99, 0, {"rejected_by_database": 1})]


async def test_what_was_written_beside_a_rejected_row_survives_the_rejection_of_its_repeat(writer, sql, table):
    one = batch(table, [R("a", 0, None), R("a", 0, None), R("b", 0, 1.0)])
    one.columns.quality[:2] = 1  # null, but not marked missing
    assert list((await writer.commit(one)).spans) == [SpanOutcome(1, 0, {"rejected_by_database": 2})]
    assert values(sql) == [("b", 0, 1.0)]


async def test_a_null_that_is_not_marked_missing_is_refused(writer, table):
    one = batch(table, [R("a", 0, None), R("a", SECOND, None)])
    one.columns.quality[0] = 1
    assert [SpanOutcome(stored=1, dead={"rejected_by_database": 1})] == list((await writer.commit(one)).spans)


@pytest.mark.parametrize("clock", [-(2**63), -1, 2**63 - 1], ids=["min", "none", "max"])
async def test_a_gateways_clock_that_says_anything_stops_nothing(migrated, sql, table, clock):
    writer = await _aged(sql, migrated, 10)
    try:
        one = batch(
            table, [R("bad", 0, 1.0, received=clock), R("good", 0, 1.0)], dead=[DeadLetter(0, 2, None, "x", "")]
        )
        one.spans[0].messages_at = lambda offset: message(offset)._replace(received_ms=clock)
        outcome = (await writer.commit(one)).spans[0]
        assert outcome.stored + sum(outcome.dead.values()) == 2
        assert ("good", 0, 1.0) in values(sql)
    finally:
        await writer.close()


async def test_the_repeat_of_a_rejected_row_is_stored_in_its_stead(writer, sql, table):
    one = batch(table, [R("a", 0, None), R("a", 0, 5.0), R("a", 0, 5.0), R("a", 0, 6.0), R("b", 0, 1.0)])
    one.columns.quality[0] = 1  # null, but not marked missing
    done = await writer.commit(one)
    assert [SpanOutcome(2, 1, {"conflicting_value": 1, "rejected_by_database": 1})] == list(done.spans)
    assert values(sql) == [("a", 0, 5.0), ("b", 0, 1.0)]


async def test_repeats_in_a_batch_are_judged_by_the_value_that_stands(writer, sql, table):
    await writer.commit(batch(table, [R("a", 0, 1.0)]))
    done = await writer.commit(batch(table, [R("a", 0, 2.0), R("a", 0, 1.0), R("a", 0, 2.0)], at=1))
    assert [SpanOutcome(0, 1, {"conflicting_value": 2})] == list(done.spans)


async def test_readings_from_before_the_retention_are_dead_letters(writer, sql, table):
    sql("update store.rollup_state set retained_from = '2026-11-23T00:00Z'")
    readings = [R("a", -13 * HOUR, 1.0), R("a", -12 * HOUR, 1.0), R("a", 0, 1.0)]
    done = await writer.commit(batch(table, readings))
    assert [SpanOutcome(stored=2, dead={"before_retention": 1})] == list(done.spans)
    assert sql('select "offset", reason from store.dead_letter') == [(0, "before_retention")]


async def test_stored_rows_of_hours_already_summed_up_are_logged_once_an_hour(writer, sql, table):
    sql("update store.rollup_state set threshold = '2026-11-23T12:00Z', materialized = '2026-11-23T12:00Z'")
    late = [R("a", -n * SECOND, float(n)) for n in range(1, 5)] + [R("b", -2 * HOUR, 1.0)]
    await writer.commit(batch(table, [*late, R("a", 0, 1.0), late[0]]))
    await writer.commit(batch(table, [late[0], R("b", -2 * HOUR, 2.0)], at=7))  # a duplicate, a conflict
    assert sql(
        "select device, extract(hour from hour)::int from store.rollup_dirty "
        "join store.datastream using (datastream_id) order by 1"
    ) == [("a", 11), ("b", 10)]


# Dead letters -------------------------------------------------------------------------------------------------------


async def test_a_message_is_kept_once_however_many_of_its_readings_died(writer, sql, table):
    letters = [DeadLetter(0, 1, n, "unknown_unit", f"unit {n}", "dev", "", "k", "1", "furlong", T0) for n in range(5)]
    one = batch(table, [R("a", 0, 1.0)], messages=2, decoded=2, next_offset=2, dead_readings=5)
    one.dead.extend(letters)
    done = await writer.commit(one)
    assert sql('select "offset", payload from store.dead_message') == [(1, b"payload 1")]
    assert sql("select reading from store.dead_letter order by 1") == [(0,), (1,), (2,), (3,), (4,)]
    assert {"kiel": len(b"payload 1") + 5 * 256} == done.open_bytes
    assert await writer.unaccounted() == {"kiel": 0}


async def test_open_bytes_add_up_over_batches_and_cities(writer, table):
    assert await writer.open_bytes(["kiel", "wismar"]) == {"kiel": 0, "wismar": 0}
    for turn in range(2):
        dead = [DeadLetter(0, turn, None, "invalid_json", "no JSON")]
        done = await writer.commit(batch(table, [], at=turn, dead=dead))
    assert {"kiel": 2 * (256 + len(b"payload 0"))} == done.open_bytes
    assert done.open_bytes | {"wismar": 0} == await writer.open_bytes(["kiel", "wismar"])


async def test_a_letter_keeps_everything_that_is_known_of_its_reading(writer, sql, table):
    letter = DeadLetter(0, 0, 3, "time_out_of_range", "too old", "dev", "ch", "temp", "21.5", "C", T0 + 1)
    await writer.commit(batch(table, [], dead=[letter]))
    assert sql(
        "select key, reading, reason, detail, device, channel, raw_key, raw_value, raw_unit, "
        "(extract(epoch from phenomenon_time) * 1000000)::int8, state "
        "from store.dead_letter join store.city using (city_id)"
    ) == [("kiel", 3, "time_out_of_range", "too old", "dev", "ch", "temp", "21.5", "C", T0 + 1, "open")]


# Views --------------------------------------------------------------------------------------------------------------

LIES = {
    "an offset nobody accounts for": ("consumer_offset", "next_offset = next_offset + 3", 3),
    "a range given up": ("ledger", "skipped = 2, messages = messages - 2, decoded = decoded - 2", 2),
    "a message without an outcome": ("ledger", "decoded = decoded - 1", 1),
    "a reading without an outcome": ("ledger", "stored = stored - 4", 4),
    "a reading counted twice": ("ledger", "duplicate = duplicate + 1", 1),
}


@pytest.mark.parametrize(("relation", "change", "amount"), LIES.values(), ids=LIES.keys())
async def test_the_ledger_view_tells_what_is_unaccounted(writer, sql, table, relation, change, amount):
    await writer.commit(batch(table, [R("a", n * SECOND, 1.0) for n in range(10)]))
    sql(f"update store.{relation} set {change}")
    assert {"kiel": amount} == await writer.unaccounted()


async def test_the_latest_view_has_one_row_a_datastream(writer, sql, table):
    await writer.commit(batch(table, [R(d, n * DAY, float(n)) for d in "ab" for n in (-3, 2, 1)]))
    assert sql("select city, property, unit, device, value from hanse.latest order by device") == [
        ("kiel", "air_temperature", "Cel", "a", 2.0),
        ("kiel", "air_temperature", "Cel", "b", 2.0),
    ]
    names = [
        *("city", "property", "unit", "device", "channel", "phenomenon_time", "value"),
        *("quality", "quality_tests", "received_at", "datastream_id"),
    ]
    columns = "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 order by attnum"
    assert names == [name for (name,) in sql(columns, ("hanse.observations",))]
    assert [*names, "age"] == [name for (name,) in sql(columns, ("hanse.latest",))]


# Refusals at start --------------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_refused_in_one_line_without_the_password(postgres, migrated, tmp_path):
    wrong = tmp_path / "passfile"
    wrong.write_text("*:*:*:*:guessed")
    wrong.chmod(0o600)
    dsn = psycopg.conninfo.make_conninfo(migrated, passfile=str(wrong))
    with pytest.raises(Refused, match="password authentication failed.*correct the password file") as error:
        await Writer(dsn).connect()
    assert "\n" not in str(error.value)
    assert "guessed" not in str(error.value)
    wrong.chmod(0o640)
    with pytest.raises(Refused, match="mode 0640.*chmod 600"):
        await Writer(dsn).connect()


async def test_a_missing_database_or_role_or_schema_is_refused_with_its_cure(postgres, database):
    make = psycopg.conninfo.make_conninfo
    with pytest.raises(Refused, match="create the database"):
        await Writer(make(database, dbname="nowhere")).connect()
    with pytest.raises(Refused, match="hanse-storage migrate"):
        await Writer(database).connect()
    with pytest.raises(Refused, match="correct the password file|name a password file|create the role"):
        await Writer(make(database, user="nobody")).connect()


async def test_a_server_that_is_away_is_unavailable(database):
    with pytest.raises(Unavailable, match="port=1|:1 "):
        await Writer(psycopg.conninfo.make_conninfo(database, port=1)).connect()
