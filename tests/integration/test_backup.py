"""A dump restored into an empty server: offsets stand with the rows, the log is read on from there, nothing is missing.

The steps are those of docs/operations/backup.md, which this test reads its statements from.
"""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from local import fetch

from storage.errors import Fenced
from storage.migrate import migrate
from storage.rows import Batch, StreamTable, TopicPartition
from storage.timescale import Writer
from tests.integration.batches import KIEL, PRESSURE, SECOND, TEMPERATURE, WISMAR, R, batch

PARTITION = TopicPartition("hanse.raw.kiel", 0)
DOCS = Path(__file__).parents[2] / "docs/operations/backup.md"
SIZE = 100  # messages of a batch
EVERYTHING = (
    "select city, device, phenomenon_time, value, quality, received_at from hanse.observations order by 1, 2, 3",
    "select * from hanse.ledger",
    "select city, reason, record_offset, detail from hanse.dead_letters order by 3",
)


def log_from(offset: int, end: int) -> list[Batch]:
    """What Kafka holds of the partition: the same records whenever they are read, some of them refused."""
    found = []
    for at in range(offset, end, SIZE):
        readings = [R(f"d{n % 7}", (n - n % 10) * SECOND, float(n % 10)) for n in range(at, at + SIZE)]
        found.append(batch(StreamTable(), readings, at=at))
    return found


async def read_on(dsn: str, end: int) -> None:
    """What a processor does: ask the database where it stands, and go on there."""
    writer = Writer(dsn)
    try:
        await writer.register([KIEL, WISMAR], [TEMPERATURE, PRESSURE])
        position = (await writer.positions([PARTITION])).get(PARTITION)
        for one in log_from(0 if position is None else position.next_offset, end):
            await writer.commit(one)
        assert await writer.unaccounted() == {"kiel": 0}
    finally:
        await writer.close()


def everything(dsn: str) -> list[list[tuple[Any, ...]]]:
    with psycopg.connect(dsn) as conn:
        return [conn.execute(query).fetchall() for query in EVERYTHING]


def tool(name: str, *arguments: str) -> None:
    done = subprocess.run([fetch.install().postgres / name, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def statements(heading: str) -> Sequence[str]:
    """The SQL of a step, as the documentation has it."""
    section = DOCS.read_text().split(f"### {heading}\n")[1].split("\n### ")[0]
    return [
        line for block in re.findall(r"```sql\n(.*?)```", section, re.DOTALL) for line in block.splitlines() if line
    ]


def restore(dump: Path, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in statements("Before"):
            conn.execute(statement)
    tool("pg_restore", "--dbname", dsn, "--exit-on-error", str(dump))
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in statements("After"):
            conn.execute(statement)


@pytest.fixture
async def dumped(postgres: Any, database: str, tmp_path: Path) -> Path:
    """A dump of the database after 600 records, taken while it goes on to 1,500."""
    migrate(database)
    await read_on(database, 600)
    superuser = postgres.dsn(database.rsplit("/", 1)[1].split("?", maxsplit=1)[0], superuser=True)
    tool("pg_dump", "--format", "custom", "--file", str(tmp_path / "hanse.dump"), superuser)
    await read_on(database, 1500)
    return tmp_path / "hanse.dump"


async def test_a_restored_dump_reads_the_rest_from_kafka_and_lacks_nothing(database, dumped, own_postgres):
    empty = own_postgres()
    restored = empty.create_database("hanse")
    restore(dumped, empty.dsn("hanse", superuser=True))
    (_, ((*_, unaccounted),), _) = everything(restored)
    assert unaccounted == 0
    writer = Writer(restored)
    assert (await writer.positions([PARTITION]))[PARTITION].next_offset == 600
    await writer.close()
    await read_on(restored, 1500)
    assert everything(restored) == everything(database)
    assert len(everything(restored)[2]) > 0  # conflicting values: refused in both by the same offsets


async def test_a_restored_database_refuses_a_writer_that_stands_elsewhere(database, dumped, own_postgres):
    empty = own_postgres()
    restored = empty.create_database("hanse")
    restore(dumped, empty.dsn("hanse", superuser=True))
    writer = Writer(restored)
    await writer.register([KIEL, WISMAR], [TEMPERATURE, PRESSURE])
    try:
        with pytest.raises(Fenced):
            await writer.commit(log_from(1500, 1600)[0])
    finally:
        await writer.close()


async def test_a_restored_database_takes_migrations_and_makes_chunks_and_hours(dumped, own_postgres):
    empty = own_postgres()
    restored = empty.create_database("hanse")
    restore(dumped, empty.dsn("hanse", superuser=True))
    assert migrate(restored) == []
    await read_on(restored, 1500)
    with psycopg.connect(restored, autocommit=True) as conn:
        conn.execute("select store.rollup_hour('2026-11-23T12:00:00Z')")
        assert (
            conn.execute("select sum(good) from store.observation_hour").fetchone()
            == conn.execute("select count(*) from store.observation").fetchone()
        )
