"""History files into a real TimescaleDB: each row once, whatever interrupts the import, and a ledger that balances."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from processors.history.csv_file import CsvFile
from processors.history.intake import Intake, Origin, Window
from processors.history.loading import Bounds, Load, Report, StoppedError, sha256
from storage.rows import NO_QUOTA, CityLimits, Position, Property, TopicPartition
from storage.timescale import Writer
from tests.unit.processors.history_files import KIEL, NOW, SINCE, csv_file

Query = Callable[..., list[tuple[Any, ...]]]
LIMITS = CityLimits("kiel", "Kiel", "01002000", NO_QUOTA, 1_000_000)
PROPERTIES = [Property("air_temperature", "Cel", "weather", "gauge", "mean", -45, 50)]
WIDE = Bounds(1_000_000, 1_000_000)
CITY = """
[city]
key = "kiel"
name = "Kiel"
ags = "01002000"
[[route]]
filter = "hanse/kiel/#"
dialect = "hanse"
"""


@pytest.fixture
async def writer(migrated: str):
    made = Writer(migrated, application_name="hanse-import")
    await made.register([LIMITS], PROPERTIES)
    yield made
    await made.close()


def history(folder: Path, count: int = 1000, *, streams: int = 4, changes: dict[int, str] | None = None) -> Path:
    """`count` rows of several datastreams, a minute apart; `changes` replace whole lines by their number."""
    lines = [
        f"d{n % streams},,air_temperature,2026-10-0{1 + n // 1440}T{n // 60 % 24:02}:{n % 60:02}:00Z,{n % 50 / 2},Cel,1"
        for n in range(count)
    ]
    for number, line in (changes or {}).items():
        lines[number - 2] = line
    return csv_file(folder, *lines)


def load(path: Path, store: Any, *, rows: int = 100, bounds: Bounds = WIDE, watch: Any = lambda *_: None) -> Load:
    origin = Origin(path.name, sha256(path))
    intake = Intake(KIEL, origin, Window(SINCE, NOW))
    return Load(CsvFile(path), origin.partition, intake, store, bounds=bounds, watch=watch, rows=rows)


def expected(path: Path) -> list[tuple[str, str, float]]:
    cells = [line.split(",") for line in path.read_text().splitlines()[1:]]
    return sorted((c[0], c[3], float(c[4])) for c in cells if len(c) == 7)


def stored(sql: Query) -> list[tuple[str, str, float]]:
    return sql(
        "select device, to_char(phenomenon_time at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), value "
        "from hanse.observations order by 1, 2"
    )


def ledger(sql: Query) -> list[tuple[Any, ...]]:
    return sql("select messages, stored, duplicate, dead_messages + dead_readings, unaccounted from hanse.ledger")


async def test_every_row_is_stored_under_the_files_own_ledger_key(writer, sql, tmp_path):
    path = history(tmp_path)
    report = await load(path, writer).run()
    assert (report.rows, report.stored, report.rejected.total()) == (1000, 1000, 0)
    assert stored(sql) == expected(path)
    assert sql("select city, topic, partition, first_offset, next_offset, unaccounted from hanse.ledger") == [
        ("kiel", f"import:{sha256(path)}", 0, 2, 1002, 0)
    ]


async def test_a_second_import_of_the_same_bytes_changes_nothing(writer, sql, tmp_path):
    path = history(tmp_path)
    await load(path, writer).run()
    again = await load(path.rename(tmp_path / "other name.csv"), writer).run()
    assert (again.before, again.rows) == (1000, 0)
    assert ledger(sql) == [(1000, 1000, 0, 0, 0)]


async def test_rows_that_came_live_already_are_duplicates_and_others_conflicts(writer, sql, tmp_path):
    await load(history(tmp_path, 100), writer).run()
    more = history(tmp_path, 200, changes={2: "d0,,air_temperature,2026-10-01T00:00:00Z,9.75,Cel,1"})
    report = await load(more, writer).run()
    assert (report.stored, report.duplicate, dict(report.rejected)) == (100, 99, {"conflicting_value": 1})
    assert sql("select detail from store.dead_letter") == [("this time already has the value 0.0, not 9.75",)]


async def test_what_an_import_refuses_is_kept_but_never_weighs_on_the_living_city(writer, sql, tmp_path):
    bad = dict.fromkeys(range(2, 12), "d0,,air_temperature,2026-10-01T00:00:00Z,1,furlong,1")
    report = await load(history(tmp_path, 100, changes=bad), writer).run()
    conflict = "d0,,air_temperature,2026-10-01T00:20:00Z,9.75,Cel,1"
    more = await load(history(tmp_path, 101, changes=bad | {22: conflict}), writer).run()
    assert (dict(report.rejected), more.rejected["conflicting_value"]) == ({"unknown_unit": 10}, 1)
    assert sql("select count(*) from store.dead_letter where state = 'open'") == [(21,)]
    assert await writer.open_bytes(["kiel"]) == {"kiel": 0}


class KilledError(Exception):
    pass


class Dying:
    """A store that ends after some commits: before the next one reaches the database, or after it did, unheard."""

    def __init__(self, writer: Writer, commits: int, *, heard: bool) -> None:
        self._writer, self._left, self._heard = writer, commits, heard

    async def positions(self, partitions: Any) -> dict[TopicPartition, Position]:
        return await self._writer.positions(partitions)

    async def commit(self, batch: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            if not self._heard:
                await self._writer.commit(batch)
            raise KilledError
        return await self._writer.commit(batch)


@pytest.mark.parametrize("heard", [True, False], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("commits", [0, 1, 7])
async def test_an_import_killed_in_the_middle_goes_on_where_the_database_stands(writer, sql, tmp_path, commits, heard):
    path = history(tmp_path, changes={5: "broken", 905: "broken too"})
    with pytest.raises(KilledError):
        await load(path, Dying(writer, commits, heard=heard)).run()
    report = await load(path, writer, rows=130).run()
    assert report.before == 100 * (commits if heard else commits + 1)
    assert stored(sql) == expected(path)
    assert ledger(sql) == [(1000, 998, 0, 2, 0)]


async def test_a_lost_connection_is_no_concern_of_the_user(writer, sql, tmp_path):
    path, cut = history(tmp_path, 2000), []

    def watch(report: Report, share: float) -> None:
        if report.rows in {300, 1100} and report.rows not in cut:
            cut.append(report.rows)
            sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'hanse-import'")

    report = await load(path, writer, watch=watch).run()
    assert cut == [300, 1100]
    assert report.rows == 2000
    assert stored(sql) == expected(path)
    assert ledger(sql) == [(2000, 2000, 0, 0, 0)]


async def test_two_imports_of_one_file_at_once_store_each_row_once(migrated, writer, sql, tmp_path):
    path = history(tmp_path)
    other = Writer(migrated)
    await other.register([LIMITS], PROPERTIES)
    try:
        reports = await asyncio.gather(load(path, writer).run(), load(path, other, rows=70).run())
    finally:
        await other.close()
    assert sum(report.rows for report in reports) == 1000
    assert stored(sql) == expected(path)
    assert ledger(sql) == [(1000, 1000, 0, 0, 0)]


async def test_bad_rows_are_dead_letters_with_their_line_and_bytes(writer, sql, tmp_path):
    bad = {
        3: "d1,,air_temperature,2026-10-01T00:01:00Z,warm,Cel,1",
        500: "half a row",
        1001: "d1,,no_such,2026-10-01T00:00:00Z,1,1,",
    }
    path = history(tmp_path, changes=bad)
    report = await load(path, writer).run()
    assert [(letter.offset, letter.reason) for letter in report.shown] == [
        (3, "not_a_number"), (500, "malformed"), (1001, "unmapped_property"),
    ]  # fmt: skip
    assert sql(
        "select \"offset\", reason, mqtt_topic, convert_from(payload, 'UTF8') from store.dead_letter "
        'join store.dead_message using (topic, partition, "offset", received_at) order by 1'
    ) == [
        (at, reason, "import/h.csv", bad[at])
        for at, reason in ((3, "not_a_number"), (500, "malformed"), (1001, "unmapped_property"))
    ]
    assert ledger(sql) == [(1000, 997, 0, 3, 0)]


async def test_too_many_bad_rows_stop_the_import_where_it_can_go_on(writer, sql, tmp_path):
    path = history(tmp_path, changes=dict.fromkeys(range(300, 360), "bad"))
    with pytest.raises(StoppedError, match=r"60 rows were refused.*up to row 401 is in"):
        await load(path, writer, bounds=Bounds(50, 1_000_000)).run()
    await load(path, writer).run()
    assert stored(sql) == expected(path)
    assert ledger(sql) == [(1000, 940, 0, 60, 0)]


async def test_dead_letters_beyond_the_citys_budget_stop_the_import(writer, tmp_path):
    path = history(tmp_path, changes=dict.fromkeys(range(100, 120), "bad"))
    with pytest.raises(
        StoppedError, match=r"the rows refused weigh 5,180 bytes, more than limits.dead_letter_bytes = 1,000 of kiel"
    ):
        await load(path, writer, bounds=Bounds(1_000_000, 1_000)).run()


async def test_history_is_exempt_from_the_quota_and_leaves_it_to_the_live_ones(migrated, writer, sql, tmp_path):
    sql("update store.city set first_seen = '2026-01-01T00:00:00Z'")
    writer.forget()
    await load(history(tmp_path, 200, streams=100), writer).run()
    assert sql("select count(*) from store.datastream") == [(100,)]
    assert sql("select coalesce(sum(used), 0)::int from store.datastream_quota") == [(0,)]


async def test_hours_that_are_summed_up_already_are_logged(writer, sql, tmp_path):
    sql("update store.rollup_state set threshold = '2026-10-01T05:00:00Z'")
    await load(history(tmp_path, 600, streams=1), writer).run()
    assert sql(
        "select distinct extract(hour from hour at time zone 'UTC')::int from store.rollup_dirty order by 1"
    ) == [(hour,) for hour in range(5)]


def run(migrated: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "kiel.toml").write_text(CITY)
    return subprocess.run(
        [sys.executable, "-m", "processors", "import", "kiel.toml", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "HANSE_DATABASE_DSN": migrated, "COLUMNS": "100"},
    )  # fmt: skip


def test_the_command_reports_bad_rows_by_line_and_by_its_exit_code(migrated, sql, tmp_path):
    path = history(tmp_path, 100, changes={7: "bad", 5: "d0,,mood,2026-10-01T00:00:00Z,1,1,"})
    tried = run(migrated, tmp_path, path.name, "--dry-run")
    assert tried.returncode == 3
    assert sql("select count(*) from store.city") == [(0,)]
    done = run(migrated, tmp_path, path.name)
    assert done.returncode == 3, done.stderr
    bad = [line for line in done.stderr.splitlines() if line.startswith("h.csv:")]
    assert [line.split(": ")[:2] for line in bad] == [["h.csv:5", "unmapped_property"], ["h.csv:7", "malformed"]]
    assert bad[1].endswith(": 1 cells where the header has 7")
    assert ledger(sql) == [(100, 98, 0, 2, 0)]
    again = run(migrated, tmp_path, path.name)
    assert again.returncode == 0, again.stderr


def test_the_same_file_for_another_city_is_refused(migrated, sql, tmp_path):
    path = history(tmp_path, 10)
    assert run(migrated, tmp_path, path.name).returncode == 0
    sql("update store.city set key = 'wismar'")
    refused = run(migrated, tmp_path, path.name)
    assert refused.returncode == 78
    assert "the very same file was imported for wismar" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.csv",), "missing.csv: No such file"),
        (("kiel.toml",), "kiel.toml: column 'device' is missing"),
        (("h.csv", "--since", "soon"), "--since 'soon' is neither a day"),
    ],
)
def test_what_can_not_be_imported_is_said_before_anything_connects(tmp_path, arguments, said):
    history(tmp_path, 1)
    refused = run("postgresql://nobody@127.0.0.1:1/nothing", tmp_path, *arguments)
    assert refused.returncode == 78
    assert said in refused.stderr
