"""The processor against real servers: what it refuses to start with, and logs that the database does not know."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from ingest import wire
from tests.integration.gateways import eventually

ROOT = Path(__file__).parents[2]
PARTITIONS = 3
CITY = """
[city]
key = "{key}"
name = "Testow"

[[route]]
filter = "hanse/{key}/+/+"
dialect = "hanse"

[limits]
dead_letter_bytes = {budget}
"""


@pytest.fixture
def city_file(tmp_path, city_key):
    path = tmp_path / "city.toml"
    path.write_text(CITY.format(key=city_key, budget=1_073_741_824))
    return path


@pytest.fixture
def environment(kafka, database):
    return {
        **os.environ,
        "HANSE_DATABASE_DSN": database,
        "HANSE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "HANSE_KAFKA_PARTITIONS": str(PARTITIONS),
        "HANSE_KAFKA_GROUP": f"group-{time.time_ns()}",
        "HANSE_HTTP_ADDRESS": "127.0.0.1:0",
    }


def command(module, *arguments, environment, timeout=60):
    argv = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture
def ready(city_file, environment):
    """Schema and topic made; what a processor needs."""
    for argv in (("storage", "migrate"), ("ingest", "create-topic", city_file)):
        done = command(*argv, environment=environment)
        assert done.returncode == 0, done.stderr
    return environment


@pytest.fixture
def processor(city_file, tmp_path):
    """`processor(environment)` starts one; `.log` is what it wrote."""
    made = []

    class Started:
        def __init__(self, environment, *options, file=city_file):
            self.path = tmp_path / f"processor-{len(made)}.log"
            argv = [sys.executable, "-m", "processors", "run", file, *options]
            with self.path.open("wb") as log:
                self.process = subprocess.Popen(argv, cwd=ROOT, env=environment, stderr=log)
            made.append(self)

        @property
        def log(self):
            return self.path.read_text()

        def ended(self):
            code = self.process.wait(60)
            return code, self.log

        def stop(self):
            self.process.terminate()
            began = time.monotonic()
            code = self.process.wait(20)
            return code, time.monotonic() - began

    yield Started
    for one in made:
        one.process.kill()
        one.process.wait(10)


def native(device, value, second, **more):
    reading = {"property": "air_temperature", "value": value, "unit": "Cel", **more}
    time_ = f"{time.strftime('%Y-%m-%dT%H:', time.gmtime())}00:{second % 60:02}.{second // 60:06}Z"
    return json.dumps({"v": 1, "device": device, "time": time_, "readings": [reading]}).encode()


def publish(kafka, city, payloads, *, partition=0):
    """Records as a gateway writes them; returns nothing until Kafka has them."""

    async def go():
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        await producer.start()
        try:
            headers = wire.headers("gateway", qos=1, retain=False, dup=False)
            for topic, payload in payloads:
                await producer.send(
                    wire.kafka_topic(city), payload, key=topic.encode(), partition=partition, headers=headers
                )
            await producer.flush()
        finally:
            await producer.stop()

    asyncio.run(go())


def admin(kafka, act):
    async def go():
        client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await client.start()
        try:
            await act(client)
        finally:
            await client.close()

    asyncio.run(go())


def made_anew(kafka, topic, city_file, environment):
    """Delete a topic and make it once more; the broker learns of both a moment after the controller."""

    async def delete(client):
        await client.delete_topics([topic])
        while topic in await client.list_topics():
            await asyncio.sleep(0.02)

    admin(kafka, delete)
    done = command("ingest", "create-topic", city_file, environment=environment)
    assert ": made" in done.stdout, done.stderr


def ask(dsn, query, *parameters):
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query, parameters).fetchall()


def committed(dsn, city):
    """Messages in the city's ledger."""
    return ask(dsn, "select coalesce(sum(messages), 0)::int8 from hanse.ledger where city = %s", city)[0][0]


def weather(city, count, *, begin=0):
    return [(f"hanse/{city}/weather/w1", native("w1", 5, second)) for second in range(begin, begin + count)]


# Starting.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "city: is required"),
        ('[city]\nkey = "X"\nname = "x"\n[[route]]\nfilter = "a/#"\ndialect = "hanse"', "city.key = 'X'"),
        ('[city]\nkey = "x"\nname = "x"\n[[route]]\nfilter = "a/#/b"\ndialect = "hanse"', "route[1].filter = 'a/#/b'"),
        ('[city]\nkey = "x"\nname = "x"\n[[route]]\nfilter = "a/#"\ndialect = "haanse"', "route[1].dialect = 'haanse'"),
        ("key = ", "not TOML"),
    ],
    ids=["empty", "city key", "topic filter", "dialect", "no TOML"],
)
def test_a_wrong_city_file_is_refused_with_place_and_value_before_anything_connects(tmp_path, text, said):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    nowhere = {
        **os.environ,
        "HANSE_DATABASE_DSN": "host=127.0.0.1 port=1",
        "HANSE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }
    done = command("processors", "run", path, environment=nowhere)
    assert done.returncode == 78
    assert f"{path}" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_names_itself_its_value_and_the_cure(city_file, environment):
    done = command("processors", "run", city_file, environment={**environment, "HANSE_KAFKA_PARTITIONS": "none"})
    assert (done.returncode, done.stdout) == (78, "")
    assert "HANSE_KAFKA_PARTITIONS = 'none'" in done.stderr


def test_an_unreachable_database_is_said_with_its_address_and_waited_for(processor, ready):
    started = processor({**ready, "HANSE_DATABASE_DSN": "postgresql://hanse@127.0.0.1:1/hanse"})
    eventually(lambda: "127.0.0.1:1" in started.log, what="the address in the log")
    assert started.process.poll() is None
    assert started.stop()[0] == 0


def test_an_unreachable_kafka_is_said_with_its_address_and_waited_for(processor, ready):
    started = processor({**ready, "HANSE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    eventually(lambda: "Kafka at 127.0.0.1:1 can't be reached" in started.log, what="the address in the log")
    assert started.process.poll() is None
    assert started.stop()[0] == 0


def test_a_refused_database_login_is_one_line_and_the_end(processor, ready, tmp_path):
    passfile = tmp_path / "passfile"
    passfile.write_text("*:*:*:*:wrong\n")
    passfile.chmod(0o600)
    address = ready["HANSE_DATABASE_DSN"].split("?")[0]
    code, log = processor({**ready, "HANSE_DATABASE_DSN": f"{address}?passfile={passfile}"}).ended()
    assert code == 78
    assert "correct the password file and the user in HANSE_DATABASE_DSN" in log.splitlines()[-1]


def test_a_password_file_that_is_missing_or_open_to_others_is_refused(processor, ready, tmp_path):
    address = ready["HANSE_DATABASE_DSN"].split("?")[0]
    passfile = tmp_path / "passfile"
    code, log = processor({**ready, "HANSE_DATABASE_DSN": f"{address}?passfile={passfile}"}).ended()
    assert (code, "name a readable file" in log) == (78, True)
    passfile.write_text("*:*:*:*:secret\n")
    passfile.chmod(0o644)
    code, log = processor({**ready, "HANSE_DATABASE_DSN": f"{address}?passfile={passfile}"}).ended()
    assert (code, "chmod 600" in log) == (78, True)


def test_a_missing_certificate_file_is_refused_before_anything_connects(city_file, environment, tmp_path):
    wrong = {**environment, "HANSE_KAFKA_SECURITY_PROTOCOL": "SSL", "HANSE_KAFKA_CA_FILE": str(tmp_path / "ca.crt")}
    done = command("processors", "run", city_file, environment=wrong)
    assert done.returncode == 78
    assert f"HANSE_KAFKA_CA_FILE = '{tmp_path / 'ca.crt'}': No such file" in done.stderr


def test_a_missing_schema_says_which_command_makes_it(processor, environment, city_file):
    code, log = processor(environment).ended()
    assert code == 78
    assert "run `hanse-storage migrate`" in log


def test_code_older_than_the_schema_allows_is_refused(processor, ready):
    ask(ready["HANSE_DATABASE_DSN"], "update store.schema_migration set oldest_code = 1000 returning 1")
    code, log = processor(ready).ended()
    assert code == 78
    assert "upgrade this program" in log


def test_a_missing_topic_and_another_number_of_partitions_are_refused(processor, ready, tmp_path, city_key):
    other = tmp_path / "other.toml"
    other.write_text(CITY.format(key=f"{city_key[:20]}_x", budget=1))
    code, log = processor(ready, file=other).ended()
    assert (code, "hanse-gateway create-topic" in log) == (78, True)
    code, log = processor({**ready, "HANSE_KAFKA_PARTITIONS": "4"}).ended()
    assert (code, f"has {PARTITIONS} partitions, but HANSE_KAFKA_PARTITIONS is 4" in log) == (78, True)


def test_a_taken_metrics_address_is_named(processor, ready, kafka):
    code, log = processor({**ready, "HANSE_HTTP_ADDRESS": f"127.0.0.1:{kafka.port}"}).ended()
    assert code == 78
    assert f"127.0.0.1:{kafka.port}" in log


# Working.


def test_good_and_bad_readings_of_one_message_part_and_the_books_balance(processor, ready, kafka, city_key):
    dsn = ready["HANSE_DATABASE_DSN"]
    mixed = json.loads(native("w1", 7.5, 0))
    mixed["readings"] += [
        {"property": "air_temperature", "value": 7, "unit": "parsec"},
        {"property": "mood", "value": 1, "unit": "1"},
    ]
    odd = b"\xff\x00 not JSON"
    publish(kafka, city_key, [(f"hanse/{city_key}/weather/w1", json.dumps(mixed).encode())])
    publish(kafka, city_key, [(f"hanse/{city_key}/weather/w1", odd), ("elsewhere/x", b"{}")], partition=1)
    started = processor(ready)
    eventually(lambda: committed(dsn, city_key) == 3, what=f"three messages: {started.log}")
    assert ask(dsn, "select device, property, value, quality from hanse.observations where city = %s", city_key) == [
        ("w1", "air_temperature", 7.5, 1)
    ]
    dead = ask(
        dsn,
        "select l.reason, l.reading, m.payload = %s from store.dead_letter l join store.dead_message m using (topic, "
        'partition, "offset", received_at) join store.city c on c.city_id = l.city_id where c.key = %s order by 1',
        odd,
        city_key,
    )
    assert dead == [
        ("no_route", None, False),
        ("not_utf8", None, True),
        ("unknown_unit", 1, False),
        ("unmapped_property", 2, False),
    ]
    assert ask(dsn, "select sum(unaccounted)::int from hanse.ledger where city = %s", city_key) == [(0,)]
    assert started.stop()[0] == 0


def test_it_ends_within_five_seconds_of_sigterm_under_load(processor, ready, kafka, city_key):
    dsn = ready["HANSE_DATABASE_DSN"]
    publish(kafka, city_key, weather(city_key, 20_000))
    started = processor(ready)
    eventually(lambda: committed(dsn, city_key) > 0, what="the first batch")
    code, seconds = started.stop()
    assert code == 0
    assert seconds < 5
    processor(ready)
    eventually(lambda: committed(dsn, city_key) == 20_000, what="the rest")
    assert ask(dsn, "select sum(stored)::int from hanse.ledger where city = %s", city_key) == [(20_000,)]


def test_a_topic_made_anew_under_the_stored_offset_stops_the_processor(processor, ready, kafka, city_key, city_file):
    dsn, topic = ready["HANSE_DATABASE_DSN"], wire.kafka_topic(city_key)
    publish(kafka, city_key, weather(city_key, 10))
    started = processor(ready)
    eventually(lambda: committed(dsn, city_key) == 10, what="the first records")
    started.stop()
    made_anew(kafka, topic, city_file, ready)
    publish(kafka, city_key, weather(city_key, 20, begin=100))  # longer than the old one was
    code, log = processor(ready).ended()
    assert code == 78
    assert "holds another record than the one committed last" in log
    assert committed(dsn, city_key) == 10


def test_a_log_shorter_than_the_stored_offset_stops_the_processor(processor, ready, kafka, city_key, city_file):
    dsn, topic = ready["HANSE_DATABASE_DSN"], wire.kafka_topic(city_key)
    publish(kafka, city_key, weather(city_key, 10))
    started = processor(ready)
    eventually(lambda: committed(dsn, city_key) == 10, what="the first records")
    started.stop()
    made_anew(kafka, topic, city_file, ready)
    code, log = processor(ready).ended()
    assert code == 78
    assert "the log ends at 0" in log


def test_a_range_that_kafka_deleted_is_named_and_skipped_only_on_request(processor, ready, kafka, city_key):
    dsn, topic = ready["HANSE_DATABASE_DSN"], wire.kafka_topic(city_key)
    publish(kafka, city_key, weather(city_key, 10))
    started = processor(ready)
    eventually(lambda: committed(dsn, city_key) == 10, what="the first records")
    started.stop()
    publish(kafka, city_key, weather(city_key, 10, begin=10))
    admin(kafka, lambda client: client.delete_records({TopicPartition(topic, 0): RecordsToDelete(15)}))
    code, log = processor(ready).ended()
    assert code == 78
    assert "offsets 10 to 14 were deleted" in log
    processor(ready, "--accept-loss")
    eventually(lambda: committed(dsn, city_key) == 15, what="the rest")
    account = ask(dsn, "select skipped, unaccounted from hanse.ledger where city = %s and partition = 0", city_key)
    assert account == [(5, 5)]


def test_a_city_beyond_its_dead_letter_budget_rests_until_the_budget_is_raised(
    processor, ready, kafka, city_key, city_file
):
    dsn = ready["HANSE_DATABASE_DSN"]
    city_file.write_text(CITY.format(key=city_key, budget=1_000))
    bad = [(f"hanse/{city_key}/weather/w1", b"x" * 300)] * 10
    publish(kafka, city_key, bad)
    started = processor(ready)
    eventually(lambda: "beyond the city's budget" in started.log, what="the pause")
    publish(kafka, city_key, weather(city_key, 5), partition=1)
    time.sleep(1.5)  # nothing must happen: it would be read by now
    assert ask(dsn, "select * from hanse.ledger where city = %s and partition = 1", city_key) == []
    started.stop()
    city_file.write_text(CITY.format(key=city_key, budget=1_000_000))
    processor(ready)
    eventually(lambda: committed(dsn, city_key) == 15, what="the rest")


def test_a_foreign_record_and_an_unknown_wire_version_are_dead_letters(processor, ready, kafka, city_key):
    dsn, topic = ready["HANSE_DATABASE_DSN"], wire.kafka_topic(city_key)

    async def go():
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        await producer.start()
        for headers in ([], [("v", b"99"), ("mqtt", b"\x01")]):
            await producer.send(topic, b"anything", key=b"t", partition=0, headers=headers)
        await producer.stop()

    asyncio.run(go())
    publish(kafka, city_key, weather(city_key, 1))
    processor(ready)
    eventually(lambda: committed(dsn, city_key) == 3, what="three records")
    reasons = ask(
        dsn,
        "select reason, count(*) from store.dead_letter join store.city c using (city_id) where c.key = %s group by 1",
        city_key,
    )
    assert reasons == [("malformed", 2)]
    assert ask(dsn, "select sum(stored)::int from hanse.ledger where city = %s", city_key) == [(1,)]


def test_two_processors_under_one_instance_name_lose_and_double_nothing_and_one_alone_goes_on(
    processor, ready, kafka, city_key
):
    """Kafka fences the elder, whose client has no word for that and reads on: what keeps the count is the database."""
    dsn = ready["HANSE_DATABASE_DSN"]
    ready = {**ready, "HANSE_PROCESSOR_INSTANCE": "the-same"}
    elder = processor(ready)
    eventually(lambda: "processor runs" in elder.log, what="the elder at work")
    younger = processor(ready)
    eventually(lambda: "processor runs" in younger.log, what="the younger at work")
    sent = 0

    def round_trip():
        nonlocal sent
        publish(kafka, city_key, weather(city_key, 1_000, begin=sent), partition=sent // 1_000 % PARTITIONS)
        sent += 1_000
        eventually(lambda: committed(dsn, city_key) == sent, what="all of it")

    for _ in range(30):
        round_trip()
        if "fenced: " in elder.log + younger.log:
            break
    assert "fenced: " in elder.log + younger.log, "both read the same records, and one came too late"
    younger.stop()
    round_trip()
    assert elder.process.poll() is None
    account = ask(dsn, "select sum(stored)::int, sum(duplicate)::int, sum(unaccounted)::int from hanse.ledger")
    assert account == [(sent, 0, 0)]
    assert ask(dsn, "select count(*) from store.observation") == [(sent,)]
