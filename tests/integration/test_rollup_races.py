"""No late or repeated reading is ever missing from an hour: real writers, a refresher and a checker at once."""

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from storage import copying, lifecycle, maintain, rollups
from storage.migrate import migrate
from storage.rows import Property, StreamTable
from storage.settings import Retention
from storage.timescale import Writer
from tests.integration.batches import HOUR, KIEL, SECOND, T0, TEMPERATURE, WISMAR, R, batch
from tests.integration.rollups import city_differences, differences

START = datetime.fromtimestamp(T0 / 1e6, UTC)
PROPERTIES = [
    TEMPERATURE,
    Property("noise_laeq", "dB", "noise", "gauge", "energy", 0, 150),
    Property("wind_direction", "deg", "weather", "gauge", "direction", 0, 360),
    Property("electric_energy_import", "kW.h", "energy", "counter", "counter", 0, 1_000_000_000),
    Property("parking_spot_occupied", "1", "parking", "state", "state", 0, 1),
]
# The view and the lock taken out of it: what every batch asks first.
WITHOUT_THE_LOCK = """
create or replace function store.batch_limits(out threshold timestamptz, out retained_from timestamptz)
language plpgsql volatile as $$
begin
  select s.threshold, s.retained_from into strict threshold, retained_from from store.rollup_state s;
end $$
"""


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    migrate(database)
    with psycopg.connect(database, autocommit=True) as made:
        made.execute("set timezone = 'UTC'")
        made.execute("update store.rollup_state set threshold = %s, materialized = %s", (START, START))
        yield made


async def writer(database: str) -> Writer:
    made = Writer(database)
    await made.register([KIEL, WISMAR], PROPERTIES)
    return made


async def held_batch(database: str, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Task[Any], asyncio.Event]:
    """A batch of one reading of the first hour, stopped after it learned the limits, and what lets it go on."""
    waits, go = asyncio.Event(), asyncio.Event()
    write = copying.Table.write

    async def held(*args: Any) -> None:
        waits.set()
        await go.wait()
        await write(*args)

    monkeypatch.setattr(copying.Table, "write", held)
    made = await writer(database)

    async def commit() -> None:
        await made.commit(batch(StreamTable(), [R("a", 0, 20.0)]))
        await made.close()

    task = asyncio.create_task(commit())
    await waits.wait()
    return task, go


async def test_a_batch_under_way_keeps_its_hour_from_being_summed_up(database, conn, monkeypatch):
    task, go = await held_batch(database, monkeypatch)
    session = await maintain.connect(database)
    with pytest.raises(psycopg.errors.LockNotAvailable):
        await rollups.refresh(session, START + timedelta(hours=1))
    go.set()
    await task
    assert await rollups.refresh(session, START + timedelta(hours=1)) == (1, 0)
    assert differences(conn) == city_differences(conn) == {}
    await session.close()


async def test_without_the_shared_lock_that_reading_would_be_missing_for_good(database, conn, monkeypatch):
    conn.execute(WITHOUT_THE_LOCK)
    task, go = await held_batch(database, monkeypatch)
    session = await maintain.connect(database)
    assert await rollups.refresh(session, START + timedelta(hours=1)) == (1, 0)
    go.set()
    await task
    assert await rollups.refresh(session, START + timedelta(hours=2)) == (1, 0)
    assert list(differences(conn)) == [(1, START)]
    # The day under way is made of its hours, so it lacks the reading too.
    midnight = START.astimezone(ZoneInfo("Europe/Berlin")).replace(hour=0).astimezone(UTC)
    assert sorted(city_differences(conn)) == [("kiel", TEMPERATURE.key, at) for at in (midnight, START)]
    await session.close()


async def test_a_late_reading_of_a_day_about_to_go_is_summed_up_before_its_chunk_is_dropped(database, conn):
    """The late hour is logged between the refresh and the fence; its readings are gone afterwards."""
    begin = datetime.now(UTC).replace(hour=5, minute=0, second=0, microsecond=0) - timedelta(days=60)
    ago = int(begin.timestamp() * 1e6) - T0
    made, table, session = await writer(database), StreamTable(), await maintain.connect(database)
    conn.execute("update store.rollup_state set threshold = %s, materialized = %s", (begin, begin))
    await made.commit(batch(table, [R("a", ago, 20.0)]))
    assert await rollups.refresh(session, begin + timedelta(hours=1)) == (1, 0)
    conn.execute("update store.rollup_state set threshold = now(), materialized = now()")  # nothing lies in between
    await made.commit(batch(table, [R("a", ago + 60 * SECOND, 40.0)], at=1))
    keep = Retention(database_dsn=database, raw_retention=timedelta(days=45))
    assert await lifecycle.drop_observations(session, keep) == 1
    assert conn.execute("select count(*) from store.observation").fetchone() == (0,)
    assert conn.execute("select value, count from hanse.hourly").fetchall() == [(30.0, 2)]
    refused = await made.commit(batch(table, [R("a", ago + 120 * SECOND, 40.0)], at=2))
    assert refused.spans[0].dead == {"before_retention": 1}
    conn.execute("insert into store.rollup_dirty values (1, %s)", (begin,))
    assert await rollups.repair_some(session) == 1
    assert conn.execute("select value, count from hanse.hourly").fetchall() == [(30.0, 2)]
    await session.close()
    await made.close()


class Load:
    """Concurrent batches of random readings around an hour that moves on: fresh, late, repeated and in conflict."""

    def __init__(self, database: str, seed: int) -> None:
        self.database = database
        self.random = random.Random(seed)
        self.hour = 0
        self.looks = self.repaired = 0
        self.running = True

    @property
    def seen(self) -> bool:
        """Whether hours were summed up, repaired and looked at while the writers wrote."""
        return min(self.looks, self.hour, self.repaired) > 3

    async def write(self, partition: int, batches: int) -> None:
        """So many batches, and more until the others had their turns among them."""
        made, table, at = await writer(self.database), StreamTable(), 0
        chance, sent = random.Random(self.random.random()), list[R]()
        while batches > 0 or not self.seen:
            batches -= 1
            readings = []
            for _ in range(chance.randrange(1, 60)):
                late = chance.choice([0, 0, 0, 0, 1, 2, 9])
                second = chance.randrange(3_600)
                kind = chance.choice(PROPERTIES)
                value = None if chance.random() < 0.05 else float(chance.randrange(0, 100))
                # Two devices are shared by all partitions: their readings repeat and contradict each other.
                device = chance.choice([f"own {partition}", "shared 1", "shared 2"])
                time = (self.hour - late) * HOUR + second * SECOND
                readings.append(R(device, time, value, property=kind.key))
            readings += chance.sample(sent, min(len(sent), 3))
            sent += readings
            await made.commit(batch(table, readings, at=at, partition=partition))
            at += len(readings)
            await asyncio.sleep(0)
        await made.close()

    async def correct(self) -> None:
        """Corrections as a replay makes them: in a batch's transaction, with the hour logged."""
        async with await psycopg.AsyncConnection.connect(self.database, autocommit=True) as conn:
            while self.running:
                async with conn.transaction():
                    await conn.execute("select store.batch_limits()")
                    await conn.execute(
                        "with c as (update store.observation set value = value + 1 where value is not null"
                        " and (datastream_id, phenomenon_time) in (select datastream_id, phenomenon_time"
                        " from store.observation order by random() limit 5) returning *)"
                        " insert into store.rollup_dirty"
                        " select datastream_id, date_trunc('hour', phenomenon_time, 'UTC')"
                        " from c, store.rollup_state where phenomenon_time < threshold"
                    )
                await asyncio.sleep(0.02)

    async def refresh(self) -> None:
        session = await maintain.connect(self.database)
        while self.running:
            self.hour += 1
            hours, repaired = await rollups.refresh(session, START + timedelta(hours=self.hour))
            assert hours == 1
            self.repaired += repaired
            await asyncio.sleep(0.05)
        await session.close()


def unexplained(database: str) -> tuple[int, set[Any]]:
    """(differences, datastreams and cities that differ although no hour of theirs is logged), in one snapshot."""
    with psycopg.connect(database) as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.execute("set timezone = 'UTC'")
        found = differences(conn)
        cities = city_differences(conn)
        logged = {row[0] for row in conn.execute("select distinct datastream_id from store.rollup_dirty").fetchall()}
        pairs = conn.execute(
            "select distinct c.key, p.key from store.rollup_dirty join store.datastream using (datastream_id)"
            " join store.city c using (city_id) join store.property p using (property_id)"
        ).fetchall()
    return len(found), ({stream for stream, _ in found} - logged) | ({key[:2] for key in cities} - set(pairs))


@pytest.mark.parametrize("seed", [1, 2])
async def test_hours_equal_their_readings_exactly_after_a_concurrent_load_with_late_data(database, conn, seed):
    load = Load(database, seed)
    others = [asyncio.create_task(load.correct()), asyncio.create_task(load.refresh())]
    writers = [asyncio.create_task(load.write(partition, 40)) for partition in range(3)]
    while not all(task.done() for task in writers):
        _, without_a_reason = await asyncio.to_thread(unexplained, database)
        assert without_a_reason == set()
        load.looks += 1
    await asyncio.gather(*writers)
    load.running = False
    await asyncio.gather(*others)
    session = await maintain.connect(database)
    await rollups.refresh(session, START + timedelta(hours=load.hour + 1))
    await session.close()
    assert differences(conn) == city_differences(conn) == {}
    assert conn.execute("select count(*) from store.city_dirty").fetchone() == (0,)
    summed_up = conn.execute("select * from store.observation_hour order by 1, 7").fetchall()
    conn.execute(
        "select store.rollup_hour(h) from (select distinct hour as h from store.observation_hour order by 1) s"
    )
    assert conn.execute("select * from store.observation_hour order by 1, 7").fetchall() == summed_up
    merged = conn.execute("select sum(duplicate), sum(dead_readings) from store.ledger").fetchone()
    assert min(merged or (0,)) > 0
