"""A dump restored into an empty server: offsets stand with the rows, the log is read on from there, nothing is missing.

The steps are those of docs/operations/backup.md, which this test reads its statements from.
"""

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from local import fetch

from storage.migrate import migrate
from tests.integration.processes import PARTITIONS, City, Process, eventually, reading

DOCS = Path(__file__).parents[2] / "docs/operations/backup.md"
NOW_MS = time.time_ns() // 1_000_000
DUMPED, ALL = 400, 1000  # messages that the dump holds, and that Kafka does
EVERYTHING = (
    "select city, device, phenomenon_time, value, quality, received_at from hanse.observations order by 1, 2, 3",
    "select * from hanse.ledger order by topic, partition",
    "select city, reason, partition, record_offset, detail, payload_bytes from hanse.dead_letters order by 3, 4",
)


def messages(key: str, begin: int, end: int) -> list[tuple[str, bytes]]:
    """Readings of seven devices: some once more, some with another value for the same time, some no JSON at all."""
    found = []
    for n in range(begin, end):
        at, device = NOW_MS - 3_600_000 + (n - n % 10) * 1000, f"d{n % 7}"
        payload = b"{" if n % 50 == 49 else reading(device, at, float(n % 7 if n % 3 else n % 10))
        found.append((f"hanse/{key}/weather/{device}", payload))
    return found


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


class Restored:
    """The dump in a server of its own, and a processor that is pointed to it."""

    def __init__(self, city: City, dump: Path, empty: Any) -> None:
        self.city = city
        self.dsn = empty.create_database("hanse")
        restore(dump, empty.dsn("hanse", superuser=True))

    def one(self, query: str) -> Any:
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            return conn.execute(query).fetchone()

    def read_on(self) -> Process:
        """A real processor of the same group, whose own offsets in Kafka stand at the end: the database's count."""
        process = Process(self.city.file, {**self.city.environment, "HANSE_DATABASE_DSN": self.dsn})
        self.city.processes.append(process)
        eventually(lambda: self.one("select sum(messages)::int from hanse.ledger") == (ALL,), what="the rest is read")
        return process


@pytest.fixture
def city(kafka: Any, database: str, city_key: str, tmp_path: Path) -> Iterator[City]:
    made = City(kafka, database, city_key, tmp_path)
    yield made
    made.stop()


@pytest.fixture
def dump(postgres: Any, city: City, tmp_path: Path) -> Path:
    """A dump taken after some records, before a processor read the others."""
    city.start()
    for partition in range(PARTITIONS):
        city.publish(*messages(city.key, 0, DUMPED)[partition::PARTITIONS], partition=partition)
    city.settled(DUMPED)
    superuser = postgres.dsn(city.dsn.rsplit("/", 1)[1].split("?", maxsplit=1)[0], superuser=True)
    tool("pg_dump", "--format", "custom", "--file", str(tmp_path / "hanse.dump"), superuser)
    for partition in range(PARTITIONS):
        city.publish(*messages(city.key, DUMPED, ALL)[partition::PARTITIONS], partition=partition)
    city.settled(ALL)
    city.stop()
    return tmp_path / "hanse.dump"


def test_a_restored_dump_reads_the_rest_from_kafka_and_lacks_nothing(city, dump, own_postgres):
    restored = Restored(city, dump, own_postgres())
    assert restored.one("select sum(next_offset)::int, sum(unaccounted)::int from hanse.ledger") == (DUMPED, 0)
    process = restored.read_on()
    process.end()
    rows, ledger, letters = everything(restored.dsn)
    assert [rows, ledger, letters] == everything(city.dsn)
    assert restored.one("select sum(unaccounted)::int from hanse.ledger") == (0,)
    assert {reason for _, reason, *_ in letters} == {"conflicting_value", "invalid_json"}
    assert len(rows) + len(letters) < ALL  # the others are duplicates
    assert not [line for line in process.lines if '"level": "error"' in line]


def test_a_processor_that_stands_at_another_place_than_a_restored_database_goes_back_to_it(city, dump, own_postgres):
    """A database that was put back under a running processor: its next batch is fenced, and it reads again."""
    restored = Restored(city, dump, own_postgres())
    process = restored.read_on()
    with psycopg.connect(restored.dsn, autocommit=True) as conn:
        conn.execute("truncate store.observation, store.dead_letter, store.dead_message")
        conn.execute("delete from store.ledger")
        conn.execute("delete from store.consumer_offset")
    city.publish(*messages(city.key, ALL, ALL + 10), partition=0)
    eventually(lambda: restored.one("select sum(messages)::int from hanse.ledger") == (ALL + 10,), what="all again")
    eventually(lambda: "fenced: " in process.log, what="said in the log")
    assert restored.one("select sum(unaccounted)::int from hanse.ledger") == (0,)


def test_a_restored_database_takes_migrations_and_makes_chunks_and_hours(city, dump, own_postgres):
    restored = Restored(city, dump, own_postgres())
    assert migrate(restored.dsn) == []
    restored.read_on()
    with psycopg.connect(restored.dsn, autocommit=True) as conn:
        conn.execute(
            "select store.rollup_hour(h) from generate_series(date_trunc('hour', now() - interval '3 hours'), now(),"
            " interval '1 hour') h"
        )
        assert (
            # Values that jump about as these do are suspect beside each other, and counted beside the hour.
            conn.execute("select sum(good + suspect) from store.observation_hour").fetchone()
            == conn.execute("select count(*) from store.observation").fetchone()
        )
