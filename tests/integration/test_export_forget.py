"""Out of the database and in again, without a difference; and out for good, without a trace."""

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest

from storage import export as exporting
from storage.errors import Refused, Unavailable
from storage.forget import Forgetting
from storage.rows import DeadLetter, RawMessage, StreamTable
from storage.timescale import Writer
from storage.weights import MessageKey, Scales
from tests.integration.batches import HOUR, KIEL, PRESSURE, SECOND, T0, TEMPERATURE, WISMAR, R, batch

Query = Callable[..., list[tuple[Any, ...]]]
SPAN = ("2026-11-20", "2026-11-27")
CITY = '[city]\nkey = "kiel"\nname = "Kiel"\nags = "01002000"\n[[route]]\nfilter = "hanse/kiel/#"\ndialect = "hanse"\n'
ALL = (
    "select city, device, channel, property, phenomenon_time, value, unit, quality, quality_tests, received_at "
    "from hanse.observations order by 1, 2, 3, 4, 5"
)

ORPHANS = (
    "select count(*) from store.observation where datastream_id not in (select datastream_id from store.datastream)"
)


@pytest.fixture
async def writer(migrated: str):
    made = Writer(migrated)
    await made.register([KIEL, WISMAR], [TEMPERATURE, PRESSURE])
    yield made
    await made.close()


def command(migrated: str, folder: Path, *arguments: str, module: str = "storage", text: bool = True) -> Any:
    (folder / "kiel.toml").write_text(CITY)
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder, capture_output=True, text=text, check=False,
        env={**os.environ, "HANSE_DATABASE_DSN": migrated},
    )  # fmt: skip


def odd_batch() -> Any:
    """Readings with all that a file could spoil: quotes, commas, an umlaut, microseconds, flags, a missing value."""
    readings = [
        R('w,"1"', 0, 0.1 + 0.2, channel="Dach, Süd"), R("w2", 1, None),
        R("w2", 30 * HOUR, -7.25), R("w2", -50 * HOUR, 1e-7),
        R("p1", 5, 1013.25, property="air_pressure", unit="hPa"), R("w3", 7, 99.0),
    ]  # fmt: skip
    made = batch(StreamTable(), readings)
    made.columns.quality[:] = [1, 9, 3, 1, 1, 4]
    made.columns.quality_tests[:] = [0, 0, 8, 4, 0, 1]
    return made


@pytest.mark.parametrize("kind", ["csv", "parquet"])
async def test_what_is_exported_and_imported_again_is_the_same_to_the_last_bit(migrated, writer, sql, tmp_path, kind):
    await writer.commit(odd_batch())
    before = sql(ALL)
    done = command(
        migrated,
        tmp_path,
        "export",
        "--city",
        "kiel",
        "--from",
        SPAN[0],
        "--to",
        SPAN[1],
        "--format",
        kind,
        "--output",
        "out",
    )
    assert done.returncode == 0, done.stderr
    sql("truncate store.observation")
    back = command(migrated, tmp_path, "import", "kiel.toml", "out", module="processors")
    assert back.returncode == 0, back.stderr
    assert sql(ALL) == before
    assert len(before) == 6


async def test_the_selection_is_a_city_properties_and_a_half_open_range(migrated, writer, sql, tmp_path):
    await writer.commit(batch(StreamTable(), [R("w", n * HOUR, float(n)) for n in range(48)]))
    await writer.commit(batch(StreamTable(), [R("p", 0, 1000.0, property="air_pressure")], at=48))
    await writer.commit(batch(StreamTable(), [R("x", 0, 5.0)], city="wismar"))
    chosen = exporting.Selection(
        "kiel",
        ["air_temperature"],
        exporting.time_of("2026-11-23T13:00:00Z"),
        exporting.time_of("2026-11-24T16:00:00+01:00"),
    )
    with (tmp_path / "out").open("wb") as file:
        assert exporting.export(migrated, chosen, "csv", file) == 26
    cells = [line.split(",") for line in (tmp_path / "out").read_text().splitlines()[1:]]
    assert [(c[0], float(c[5])) for c in cells] == [("kiel", float(n)) for n in range(1, 27)]


async def test_the_same_rows_make_the_same_file(migrated, writer, sql, tmp_path):
    await writer.commit(odd_batch())
    arguments = ("export", "--city", "kiel", "--from", SPAN[0], "--to", SPAN[1])
    one, two = (command(migrated, tmp_path, *arguments, text=False) for _ in range(2))
    assert one.returncode == 0, one.stderr
    assert one.stdout == two.stdout
    assert one.stdout.startswith(
        b"city,device,channel,property,phenomenon_time,value,unit,quality,quality_tests,received_at\n"
    )


async def test_parquet_comes_in_row_groups_of_one_bounded_size(migrated, writer, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "FETCH_ROWS", 10)
    monkeypatch.setattr(exporting, "ROW_GROUP", 30)
    await writer.commit(batch(StreamTable(), [R("w", n * SECOND, float(n)) for n in range(100)]))
    chosen = exporting.Selection("kiel", [], exporting.time_of(SPAN[0]), exporting.time_of(SPAN[1]))
    with (tmp_path / "out").open("wb") as file:
        assert exporting.export(migrated, chosen, "parquet", file) == 100
    found = pq.ParquetFile(tmp_path / "out")
    assert [found.metadata.row_group(n).num_rows for n in range(found.num_row_groups)] == [30, 30, 30, 10]
    assert found.read()["value"].to_pylist() == [float(n) for n in range(100)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--city", "keil"), "has no readings of a city 'keil'; it has kiel"),
        (("--city", "kiel", "--property", "no2"), "kiel has no 'no2'; it has air_temperature"),
        (("--city", "kiel", "--to", "2026-11-20"), "is not before --to"),
        (("--city", "kiel", "--from", "yesterday"), "'yesterday' is neither a day"),
        (("--city", "kiel", "--format", "parquet"), "name one with --output"),
        (("--city", "kiel", "--output", "no/such/folder"), "no/such/folder: No such file"),
    ],
)
async def test_a_wrong_selection_is_refused_with_the_cure(migrated, writer, tmp_path, arguments, said):
    await writer.commit(batch(StreamTable(), [R("w", 0, 1.0)]))
    done = command(migrated, tmp_path, "export", "--from", SPAN[0], "--to", SPAN[1], *arguments)
    assert done.returncode == 1
    assert said in done.stderr


async def test_nothing_is_written_of_a_wrong_selection_and_no_half_file_is_left(migrated, writer, tmp_path):
    await writer.commit(batch(StreamTable(), [R("w", 0, 1.0)]))
    wrong = ("export", "--city", "keil", "--from", SPAN[0], "--to", SPAN[1])
    assert command(migrated, tmp_path, *wrong).stdout == ""
    assert command(migrated, tmp_path, *wrong, "--output", "out.csv").returncode == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kiel.toml"]


@pytest.mark.parametrize("output", ["-", "/dev/stdout", "pipe"])
async def test_a_pipe_or_a_device_is_written_to_and_never_replaced_by_a_file(migrated, writer, tmp_path, output):
    await writer.commit(batch(StreamTable(), [R("w", 0, 1.0)]))
    chosen = ("export", "--city", "kiel", "--from", SPAN[0], "--to", SPAN[1], "--output", output)
    if output == "pipe":
        os.mkfifo(tmp_path / "pipe")
        reader = asyncio.create_task(asyncio.to_thread((tmp_path / "pipe").read_text))
        done = await asyncio.to_thread(command, migrated, tmp_path, *chosen)
        said = await reader
        assert (tmp_path / "pipe").is_fifo()
    else:
        done = command(migrated, tmp_path, *chosen)
        said = done.stdout
    assert done.returncode == 0, done.stderr
    assert [line.split(",")[0] for line in said.splitlines()] == ["city", "kiel"]
    assert "None" not in done.stderr


async def test_of_centuries_without_readings_no_day_is_asked_for(migrated, writer, monkeypatch, tmp_path):
    await writer.commit(batch(StreamTable(), [R("w", 0, 1.0)]))
    asked: list[datetime] = []
    day = exporting.Csv.day

    def counted(self: Any, conn: Any, chosen: Any, begin: datetime, end: datetime) -> int:
        asked.append(begin)
        return day(self, conn, chosen, begin, end)

    monkeypatch.setattr(exporting.Csv, "day", counted)
    ever = [exporting.time_of(text) for text in ("0001-01-02T00:00:00+12:00", "9999-12-31")]
    assert exporting.export(migrated, exporting.Selection("kiel", (), *ever), "csv", io.BytesIO()) == 1
    assert len(asked) < 10
    with pytest.raises(Refused, match="neither a day"):
        exporting.time_of("0001-01-01T00:00:00+12:00")


# Forgetting ---------------------------------------------------------------------------------------------------------


def letters_of(*devices: str | None) -> list[DeadLetter]:
    return [DeadLetter(0, 100 + n, 0, "unknown_unit", "", device) for n, device in enumerate(devices)]


async def with_letters(writer: Writer, topics: dict[int, tuple[str, bytes]], letters: list[DeadLetter]) -> None:
    made = batch(StreamTable(), [], at=50, new=False)
    span = made.spans[0]
    span.first_offset, span.next_offset = 2, 200
    span.messages = span.dead_messages = 198
    span.messages_at = lambda at: RawMessage(*topics[at], 1_795_435_200_000)
    made.dead = letters
    await writer.commit(made)


def traces(sql: Query, text: str) -> dict[str, int]:
    """Rows of any table of the schema that hold a text, or one of its hexadecimal bytes."""
    tables = [t for (t,) in sql("select tablename from pg_tables where schemaname = 'store'")]
    hexed = text.encode().hex()
    found = {
        t: sql(
            f"select count(*) from store.{t} x where x::text like %s or x::text like %s", (f"%{text}%", f"%{hexed}%")
        )[0][0]
        for t in tables
    }
    return {table: count for table, count in found.items() if count}


async def test_nothing_of_a_forgotten_device_is_left_and_nothing_else_is_gone(migrated, writer, sql):
    await writer.commit(batch(StreamTable(), [R("meter-7", 0, 1.0), R("meter-70", 0, 2.0)]))
    topics = {
        100: ("hanse/kiel/x/a", b"{}"),
        101: ("x/meter-7/up", b"\x00"),
        102: ("t", b'{"device":"meter-7"}'),
        103: ("t", b'"meter-70"'),
    }
    await with_letters(writer, topics, letters_of("meter-7", None, None, "meter-70"))
    sql(
        "insert into store.observation_hour (datastream_id, hour, good, unchecked, suspect, failed, missing) "
        "select datastream_id, '2026-11-23T12:00:00Z', 1, 0, 0, 0, 0 from store.datastream"
    )
    sql("insert into store.rollup_dirty select datastream_id, '2026-11-23T12:00:00Z' from store.datastream")
    sql("insert into store.series_state select datastream_id, now(), 1, null, null, now() from store.datastream")
    sql("insert into store.dialect_state (topic, partition, dialect, source, part, format, state) values "
        "('hanse.raw.kiel', 0, 'homie', 'meter-7', '', 1, '{}'), "
        "('hanse.raw.kiel', 0, 'homie', 'meter-70', '', 1, '{}')")  # fmt: skip
    assert set(traces(sql, "meter-7")) == {"datastream", "dead_letter", "dead_message", "dialect_state"}
    with Forgetting(migrated, "kiel", "meter-7") as forgetting:
        planned = forgetting.plan()
        record = forgetting.run()
    assert planned == {
        "datastreams": 1,
        "observations": 1,
        "hours": 1,
        "dead_letters": 3,
        "dead_messages": 3,
        "states": 1,
    }
    assert {name: record[name] for name in planned} == planned
    assert (
        set(traces(sql, "meter-7"))
        == set(traces(sql, "meter-70"))
        == {"datastream", "dead_letter", "dead_message", "dialect_state"}
    )
    for table in (
        "observation",
        "observation_hour",
        "rollup_dirty",
        "series_state",
        "datastream",
        "dead_letter",
        "dead_message",
        "dialect_state",
    ):
        assert sql(f"select count(*) from store.{table}") == [(1,)], table
    assert sql("select open_bytes from store.dead_letter_bytes") == [(256 + len(b'"meter-70"'),)]
    assert sql("select finished_at is not null, counts ->> 'observations' from store.forgotten") == [(True, "1")]


async def test_the_letters_that_were_forgotten_stay_counted_as_purged(migrated, writer, sql):
    await writer.commit(batch(StreamTable(), [R("meter-7", 0, 1.0), R("meter-70", 0, 2.0)]))
    await with_letters(writer, {100: ("t", b"x"), 101: ("t", b"y")}, letters_of("meter-7", "meter-7"))
    sql("update store.dead_letter set state = 'closed' where \"offset\" = 101")
    with Forgetting(migrated, "kiel", "meter-7") as forgetting:
        forgetting.run()
    found = sql("select reason, state, letters from store.dead_letter_purge order by 2")
    assert found == [("unknown_unit", "closed", 1), ("unknown_unit", "open", 1)]


async def test_forgetting_waits_for_a_replay_of_its_letters_and_neither_is_undone(migrated, writer, sql):
    """Without the order of locks each holds what the other needs, and the server ends one of them."""
    await writer.commit(batch(StreamTable(), [R("meter-7", 0, 1.0), R("meter-70", 0, 2.0)]))
    await with_letters(writer, {100: ("t", b"payload")}, letters_of("meter-7"))
    scales = Scales([MessageKey("hanse.raw.kiel", 0, 100, 1_795_435_200_000)])
    async with await psycopg.AsyncConnection.connect(migrated) as replay:
        await scales.lock(replay)
        with Forgetting(migrated, "kiel", "meter-7") as forgetting:
            forgotten = asyncio.create_task(asyncio.to_thread(forgetting.run))
            waits = (
                "select 1 from pg_locks join pg_stat_activity using (pid) where not granted and application_name = %s"
            )
            while not sql(waits, ("hanse-forget",)):
                await asyncio.sleep(0.01)
            await replay.execute("update store.dead_letter set state = 'closed'")
            await scales.settle(replay)
            await replay.commit()
            assert (await forgotten)["dead_letters"] == 1
    assert sql("select deadlocks from pg_stat_database where datname = current_database()") == [(0,)]
    assert sql("select state, letters from store.dead_letter_purge") == [("closed", 1)]
    assert sql("select open_bytes from store.dead_letter_bytes") == [(0,)]


async def test_a_writer_that_remembers_the_device_never_writes_under_its_old_id(migrated, writer, sql):
    table = StreamTable()
    await writer.commit(batch(table, [R("meter-7", 0, 1.0), R("other", 0, 1.0)]))
    with Forgetting(migrated, "kiel", "meter-7") as forgetting:
        forgetting.run()
    late = batch(table, [R("meter-7", SECOND, 2.0), R("other", SECOND, 2.0)], at=2)
    with pytest.raises(Unavailable):
        await writer.commit(late)
    await writer.commit(late)
    assert sql(ORPHANS) == [(0,)]
    assert sql("select device, count(*) from hanse.observations group by 1 order by 1") == [
        ("meter-7", 1),
        ("other", 2),
    ]


async def test_forgetting_beside_running_writers_loses_and_leaves_nothing(migrated, writer, sql):
    other = Writer(migrated)
    await other.register([KIEL, WISMAR], [TEMPERATURE, PRESSURE])
    stop, stored = asyncio.Event(), {"kiel": 0, "wismar": 0}

    async def write(one: Writer, city: str) -> None:
        table, at = StreamTable(), 0
        while not stop.is_set():
            try:
                readings = [R(f"{city}-{n}", (at + n) * SECOND, 1.0) for n in range(20)]
                await one.commit(batch(table, readings, at=at, city=city))
            except Unavailable:
                continue
            at += 20
            stored[city] += 20

    async def forget() -> None:
        for n in range(6):
            while min(stored.values()) < 40 * (n + 1):  # both write meanwhile, and the device too
                await asyncio.sleep(0.01)
            with Forgetting(migrated, "kiel", f"kiel-{n}") as forgetting:
                await asyncio.to_thread(forgetting.run)
        stop.set()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(write(writer, "kiel"))
            group.create_task(write(other, "wismar"))
            group.create_task(forget())
    finally:
        await other.close()
    assert sql(ORPHANS) == [(0,)]
    assert sql("select count(*) from hanse.observations where city = 'wismar'") == [(stored["wismar"],)]
    untouched = sql("select count(*) from hanse.observations where device >= 'kiel-6' and device < 'kiel-7'")
    assert untouched == [(stored["kiel"] // 20,)]
    assert sql("select sum(unaccounted) from hanse.ledger") == [(0,)]


async def test_hours_that_are_being_summed_up_meanwhile_do_not_come_back(migrated, writer, sql):
    await writer.commit(batch(StreamTable(), [R("meter-7", 0, 1.0), R("other", 0, 1.0)]))
    with psycopg.connect(migrated) as refresher, Forgetting(migrated, "kiel", "meter-7") as forgetting:
        refresher.execute("select store.rollup_hour('2026-11-23T12:00:00Z')")
        running = asyncio.create_task(asyncio.to_thread(forgetting.run))
        waiting = "select 1 from pg_locks where relation = 'store.observation_hour'::regclass and not granted"
        while not running.done() and not sql(waiting):
            await asyncio.sleep(0.01)
        refresher.commit()
        record = await running
    assert record["hours"] == 1
    sql("select store.rollup_hour('2026-11-23T12:00:00Z')")
    assert sql("select count(*) from store.observation_hour") == [(1,)]


async def test_an_interrupted_forgetting_is_finished_by_the_next_run(migrated, writer, sql, monkeypatch):
    await writer.commit(batch(StreamTable(), [R("meter-7", 0, 1.0)]))
    with Forgetting(migrated, "kiel", "meter-7") as forgetting:
        monkeypatch.setattr(forgetting, "_delete_readings", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            forgetting.run()
    assert sql("select count(*) from store.observation") == [(1,)]
    assert sql("select count(*) from hanse.observations") == [(0,)]
    with Forgetting(migrated, "kiel", "meter-7") as forgetting:
        assert forgetting.plan()["observations"] == 1
        forgetting.run()
    assert sql("select count(*) from store.observation") == sql("select count(*) from store.datastream") == [(0,)]
    assert sql("select count(*), count(finished_at) from store.forgotten") == [(1, 1)]


async def test_the_command_shows_first_asks_and_prints_the_record(migrated, writer, sql, tmp_path):
    await writer.commit(batch(StreamTable(), [R("meter-7", 0, 1.0)]))
    arguments = ("forget", "--city", "kiel", "--device", "meter-7")
    shown = command(migrated, tmp_path, *arguments, "--dry-run")
    assert shown.returncode == 0
    assert "what Kafka still holds" in " ".join(shown.stderr.split())
    assert command(migrated, tmp_path, *arguments).returncode == 1  # nobody answers the question
    assert sql("select count(*) from store.observation") == [(1,)]
    done = command(migrated, tmp_path, *arguments, "--yes")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["city"], record["observations"], "meter-7" in done.stdout) == ("kiel", 1, False)
    for option in ("--yes", "--dry-run"):
        again = command(migrated, tmp_path, *arguments, option)
        assert (again.returncode, "holds nothing of a device 'meter-7'" in again.stderr) == (1, True)
    with pytest.raises(Refused, match="no city 'keil'"), Forgetting(migrated, "keil", "x"):
        pass


def test_times_of_a_selection_have_a_zone_or_are_days():
    assert exporting.time_of("2026-01-01") == exporting.time_of("2026-01-01T01:00:00+01:00")
    assert exporting.time_of("2026-11-23T12:00:00Z").timestamp() == T0 // 1_000_000
    with pytest.raises(Refused, match="neither a day"):
        exporting.time_of("2026-01-01T00:00:00")
