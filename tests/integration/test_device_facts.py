"""What the city file says of its sensors is in their datastreams, from the first row on and after every change."""

import psycopg
import pytest

from storage.migrate import migrate
from storage.rows import Facts, StreamTable
from storage.timescale import Writer
from tests.integration.batches import KIEL, PRESSURE, SECOND, TEMPERATURE, WISMAR, R, batch


@pytest.fixture
def sql(database):
    migrate(database)

    def run(query):
        with psycopg.connect(database, autocommit=True) as conn:
            return conn.execute(query).fetchall()

    return run


@pytest.fixture
async def started(database, sql):
    writers = []

    async def start(places):
        writers.append(Writer(database))
        describe = lambda city, device: places.get(city, Facts()) if device == "a" else Facts()  # noqa: E731
        await writers[-1].register([KIEL, WISMAR], [TEMPERATURE, PRESSURE], describe)
        return writers[-1]

    yield start
    for writer in writers:
        await writer.close()


FOUND = "select device, latitude, longitude, parameters ->> 'gauge_zero' from store.datastream order by datastream_id"


async def test_a_new_datastream_has_what_is_known_of_its_device(started, sql):
    writer = await started({"kiel": Facts(54.3, 10.1, '{"gauge_zero": -5.0}')})
    await writer.commit(batch(StreamTable(), [R("a", 0, 1.0), R("b", 0, 1.0)]))
    assert sql(FOUND) == [("a", 54.3, 10.1, "-5.0"), ("b", None, None, None)]


async def test_a_change_of_the_file_reaches_datastreams_that_exist_and_only_those_it_changes(started, sql):
    writer = await started({})
    await writer.commit(batch(StreamTable(), [R("a", 0, 1.0), R("b", 0, 1.0)]))
    untouched = sql("select xmin::text from store.datastream where device = 'b'")
    await started({"kiel": Facts(54.3, 10.1, '{"gauge_zero": -5.0}')})
    assert sql(FOUND)[0] == ("a", 54.3, 10.1, "-5.0")
    await started({"kiel": Facts(54.4, 10.1, "{}")})
    assert sql(FOUND)[0] == ("a", 54.4, 10.1, None)
    await started({})
    assert sql(FOUND)[0] == ("a", None, None, None)
    assert sql("select xmin::text from store.datastream where device = 'b'") == untouched


async def test_a_process_that_lost_its_connection_still_describes_what_is_new(started, sql):
    writer = await started({"kiel": Facts(54.3, 10.1, "{}")})
    table = StreamTable()
    await writer.commit(batch(table, [R("b", 0, 1.0)]))
    writer.forget()
    await writer.commit(batch(table, [R("a", SECOND, 1.0)], at=1))
    assert sql(FOUND) == [("b", None, None, None), ("a", 54.3, 10.1, None)]
