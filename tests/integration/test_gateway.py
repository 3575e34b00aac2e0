"""The gateway between a real Mosquitto and a real Kafka: the promises, and what it says when it can't keep going."""

import asyncio
import json
import random
import socket
import subprocess
import threading
import time
from collections import defaultdict

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from gateways import GatewayProcess, Publisher, command, environment, eventually, in_kafka

from ingest import wire

CONFIGURATION_ERROR = 78


@pytest.fixture
def mosquitto(mosquitto):
    """Saves once a second. With autosave_on_changes it saves after every change: 600 messages a second, no more."""
    return lambda **given: mosquitto(**{"settings": {"autosave_on_changes": "false"}, **given})


@pytest.fixture
def city_file(tmp_path, city_key):
    def write(port, *, mqtt="", limits=""):
        file = tmp_path / "city.toml"
        file.write_text(
            f'[city]\nkey = "{city_key}"\nname = "Test"\n'
            f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\nkeepalive = "PT5S"\n{mqtt}\n'
            f'[[route]]\nfilter = "hanse/#"\ndialect = "hanse"\n[limits]\n{limits}\n'
        )
        return file

    return write


@pytest.fixture
def started(city_file):
    """`started(mosquitto, kafka)`: a gateway with its topic made; ended with the test."""
    running = []

    def start(broker, kafka, *, port=None, topic=True, wait=True, env=None, **file):
        told = environment(kafka, **(env or {}))
        path = city_file(port or broker.port, **file)
        if topic:
            made = command("create-topic", path, environment=told)
            assert made.returncode == 0, made.stderr
        running.append(GatewayProcess(path, told, wait=wait))
        return running[-1]

    yield start
    for gateway in running:
        gateway.kill()


@pytest.fixture
def publisher():
    made = []

    def connect(broker, **named):
        made.append(Publisher(broker.port, **named))
        return made[-1]

    yield connect
    for one in made:
        one.close()


def messages(count, *, start=0, devices=20):
    return [(f"hanse/t/{number % devices}", b"%d" % number) for number in range(start, start + count)]


def missing(records, count):
    return set(range(count)) - {int(record.value) for record in records}


def out_of_order(records):
    """Topics whose messages' first arrivals are not in the order published."""
    seen = defaultdict(list)
    for record in records:
        number = int(record.value)
        if number not in seen[record.key]:
            seen[record.key].append(number)
    return [key for key, numbers in seen.items() if numbers != sorted(numbers)]


def acknowledged(gateway):
    return gateway.metric("hanse_gateway_messages_acknowledged_total")


def test_every_message_becomes_one_record_with_topic_payload_and_time_and_then_is_acknowledged(
    kafka, mosquitto, started, publisher, city_key
):
    broker = mosquitto()
    gateway = started(broker, kafka)
    before = time.time() * 1000
    publisher(broker).publish(messages(5_000))
    eventually(lambda: acknowledged(gateway) == 5_000, what="acknowledged")
    records = in_kafka(kafka, city_key)
    assert len(records) == 5_000
    assert missing(records, 5_000) == set()
    assert out_of_order(records) == []
    assert all(before - 1_000 <= record.timestamp <= time.time() * 1000 for record in records)
    envelope = wire.envelope(records[0].key, records[0].headers)
    assert (envelope.topic[:8], envelope.gateway, envelope.qos, envelope.retain) == (
        "hanse/t/",
        f"gateway-{city_key}",
        1,
        False,
    )
    eventually(lambda: gateway.metric("hanse_gateway_messages_in_flight") == 0, what="nothing in flight")
    # Compared at the start and every minute: 0 before, not a number where Kafka took too long to answer.
    eventually(lambda: 0 < abs(gateway.metric("hanse_gateway_clock_skew_seconds")) < 5, seconds=150, what="clocks")


def test_while_kafka_is_away_nothing_is_acknowledged_and_the_connection_is_kept(
    own_kafka, mosquitto, started, publisher, city_key
):
    kafka, broker = own_kafka(), mosquitto()
    gateway = started(broker, kafka)
    publisher(broker).publish(messages(100))
    eventually(lambda: acknowledged(gateway) == 100)
    kafka.kill()
    publisher(broker, client_id="more").publish(messages(5_000, start=100))
    eventually(lambda: gateway.ready() != [], what="not ready")
    received = lambda: gateway.metric("hanse_gateway_messages_received_total")  # noqa: E731
    eventually(lambda: received() == 1_100, what="all that the broker's window lets through")
    time.sleep(8)  # the broker gives a silent client up after 1.5 times the keepalive: this one it must not
    assert received() == 1_100, "the broker's window stops first"
    assert acknowledged(gateway) == 100
    assert "Kafka" in gateway.ready()[0]
    kafka.start()
    eventually(lambda: acknowledged(gateway) == 5_100, what="acknowledged")
    records = in_kafka(kafka, city_key)
    assert missing(records, 5_100) == set()
    assert len(records) == 5_100, "nothing was sent twice"
    assert gateway.metric("hanse_gateway_reconnects_total") == 0
    eventually(lambda: gateway.ready() == [], what="ready again")


def test_a_frozen_kafka_costs_nothing_but_time(own_kafka, mosquitto, started, publisher, city_key):
    kafka, broker = own_kafka(), mosquitto()
    gateway = started(broker, kafka)
    kafka.freeze()
    publisher(broker).publish(messages(500))
    eventually(lambda: gateway.metric("hanse_gateway_messages_in_flight") == 500, what="all on their way")
    time.sleep(3)  # nothing must happen: an ack that came without Kafka would come by now
    assert acknowledged(gateway) == 0
    kafka.thaw()
    eventually(lambda: acknowledged(gateway) == 500)
    assert missing(in_kafka(kafka, city_key), 500) == set()


def test_killed_at_any_moment_under_load_it_loses_nothing(kafka, mosquitto, started, publisher, city_key):
    broker = mosquitto()
    gateway = started(broker, kafka)
    total = 12_000
    loader = threading.Thread(target=publisher(broker).publish, args=(messages(total),), kwargs={"window": 20})
    loader.start()
    for _ in range(5):
        time.sleep(random.uniform(0.05, 0.4))
        gateway.kill()
        gateway = started(broker, kafka, topic=False)
    loader.join(60)
    assert not loader.is_alive()
    eventually(lambda: gateway.metric("hanse_gateway_messages_in_flight") == 0)
    eventually(lambda: missing(in_kafka(kafka, city_key), total) == set(), what="every message in Kafka")
    assert out_of_order(in_kafka(kafka, city_key)) == []


def test_a_cut_connection_is_opened_again_and_what_was_not_acknowledged_comes_again(
    kafka, mosquitto, proxy, started, publisher, city_key
):
    broker = mosquitto()
    between = proxy(broker.port)
    gateway = started(broker, kafka, port=between.port)
    loader = threading.Thread(target=publisher(broker).publish, args=(messages(8_000),), kwargs={"window": 20})
    loader.start()
    for number in range(1, 5):
        eventually(lambda: gateway.metric("hanse_gateway_connected") == 1, what="connected")
        between.cut(reset=True)
        eventually(lambda n=number: gateway.metric("hanse_gateway_reconnects_total") >= n, what="the cut noticed")
    loader.join(60)
    assert not loader.is_alive()
    eventually(lambda: missing(in_kafka(kafka, city_key), 8_000) == set(), what="every message in Kafka")
    assert out_of_order(in_kafka(kafka, city_key)) == []
    assert gateway.metric("hanse_gateway_sessions_lost_total") == 0


def test_a_broker_that_falls_silent_is_left_after_the_keepalive(kafka, mosquitto, proxy, started, publisher, city_key):
    broker = mosquitto()
    between = proxy(broker.port)
    gateway = started(broker, kafka, port=between.port)
    between.stall()
    publisher(broker).publish(messages(10))
    eventually(lambda: gateway.metric("hanse_gateway_connected") == 0, what="given up")
    between.cut()
    eventually(lambda: missing(in_kafka(kafka, city_key), 10) == set(), what="every message in Kafka")


def test_a_session_the_broker_forgot_is_an_alert_and_work_goes_on(kafka, mosquitto, started, publisher, city_key):
    broker = mosquitto()
    gateway = started(broker, kafka)
    assert gateway.metric("hanse_gateway_sessions_lost_total") == 0, "a first session is no loss"
    publisher(broker).publish(messages(5))
    eventually(lambda: acknowledged(gateway) == 5)
    broker.kill()
    for kept in (broker.directory / "data").iterdir():
        kept.unlink()
    broker.start()
    eventually(lambda: gateway.metric("hanse_gateway_sessions_lost_total") == 1, what="alert")
    eventually(lambda: gateway.ready() == [])
    publisher(broker, client_id="again").publish(messages(5, start=5))
    eventually(lambda: missing(in_kafka(kafka, city_key), 10) == set())


def test_a_new_process_that_finds_no_session_is_an_alert_once_the_topic_has_records(
    kafka, mosquitto, started, publisher
):
    broker = mosquitto()
    gateway = started(broker, kafka)
    publisher(broker).publish(messages(1))
    eventually(lambda: acknowledged(gateway) == 1)
    gateway.terminate()
    other = mosquitto()
    gateway = started(other, kafka, topic=False)
    assert gateway.metric("hanse_gateway_sessions_lost_total") == 1


def test_a_retained_message_is_told_as_such_and_comes_once_where_filters_are_remembered(
    kafka, mosquitto, started, publisher, city_key, tmp_path
):
    broker = mosquitto()
    publisher(broker).publish([("hanse/t/1", b"1")], retain=True)
    remember = {"HANSE_GATEWAY_STATE_DIR": str(tmp_path)}
    gateway = started(broker, kafka, env=remember)
    publisher(broker, client_id="live").publish([("hanse/t/2", b"2")], retain=True)
    eventually(lambda: acknowledged(gateway) == 2)
    assert gateway.terminate()[0] == 0
    gateway = started(broker, kafka, topic=False, env=remember)
    publisher(broker, client_id="end").publish([("hanse/t/3", b"3")])
    eventually(lambda: acknowledged(gateway) == 1)
    flags = {record.value: wire.envelope(record.key, record.headers).retain for record in in_kafka(kafka, city_key)}
    assert flags == {b"1": True, b"2": False, b"3": False}
    assert len(in_kafka(kafka, city_key)) == 3


def test_an_oversized_payload_becomes_a_stub(kafka, mosquitto, started, publisher, city_key):
    broker = mosquitto()
    gateway = started(broker, kafka, limits="max_payload_bytes = 100_000")
    publisher(broker).publish([("hanse/t/1", b"x" * 100_001), ("hanse/t/1", b"y" * 100_000)])
    eventually(lambda: acknowledged(gateway) == 2)
    stub, whole = in_kafka(kafka, city_key)
    assert (stub.value, whole.value) == (b"x" * wire.REFUSED_KEEPS, b"y" * 100_000)
    told = json.loads(wire.envelope(stub.key, stub.headers).refused)
    assert (told["size"], told["why"]) == (100_001, "payload of 100001 bytes exceeds max_payload_bytes 100000")


def test_a_record_kafka_refuses_for_good_becomes_a_stub_and_stops_nobody(
    kafka, mosquitto, started, publisher, city_key
):
    broker = mosquitto()
    gateway = started(broker, kafka)
    publisher(broker).publish(messages(1))
    eventually(lambda: acknowledged(gateway) == 1)
    asyncio.run(_limit(kafka.bootstrap, f"hanse.raw.{city_key}", 100_000))
    poison = [("hanse/t/3", b"7" * 150_000)]
    publisher(broker, client_id="more").publish(messages(40, start=1) + poison + messages(40, start=41))
    eventually(lambda: acknowledged(gateway) == 82, what=f"acknowledged; {gateway.log}")
    records = in_kafka(kafka, city_key)
    stubs = [record for record in records if wire.envelope(record.key, record.headers).refused]
    assert [stub.value for stub in stubs] == [b"7" * wire.REFUSED_KEEPS]
    others = [record for record in records if record not in stubs]
    assert missing(others, 81) == set()
    assert len(others) == 81
    assert out_of_order(others) == []
    assert gateway.metric("hanse_gateway_producer_rebuilds_total") >= 1
    assert gateway.metric("hanse_gateway_reconnects_total") == 0


async def _limit(bootstrap, topic, size):
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        given = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": str(size)})
        await admin.alter_configs([given])
        # The controller answers; the broker that takes the records learns of it a moment later.
        asked = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": None})
        while str(size) not in str(await admin.describe_configs([asked])):
            await asyncio.sleep(0.02)
    finally:
        await admin.close()


def test_a_topic_made_anew_under_the_producer_is_written_on(
    own_kafka, mosquitto, started, publisher, city_key, city_file
):
    kafka, broker = own_kafka(), mosquitto()
    gateway = started(broker, kafka)
    publisher(broker).publish(messages(300))
    eventually(lambda: acknowledged(gateway) == 300)
    asyncio.run(_delete(kafka.bootstrap, f"hanse.raw.{city_key}"))
    publisher(broker, client_id="more").publish(messages(300))
    eventually(lambda: gateway.metric("hanse_gateway_messages_in_flight") == 300, what="nowhere to go")
    made = command("create-topic", city_file(broker.port), environment=environment(kafka))
    assert ": made" in made.stdout, made.stderr
    eventually(lambda: gateway.ready() == [], what="ready again")
    eventually(lambda: missing(in_kafka(kafka, city_key), 300) == set())


async def _delete(bootstrap, topic):
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        while topic in await admin.list_topics():  # the broker learns of it a moment after the controller
            await asyncio.sleep(0.02)
    finally:
        await admin.close()


def test_sigterm_under_load_ends_within_five_seconds_and_loses_nothing(kafka, mosquitto, started, publisher, city_key):
    broker = mosquitto()
    gateway = started(broker, kafka)
    loader = threading.Thread(target=publisher(broker).publish, args=(messages(20_000),), kwargs={"window": 200})
    loader.start()
    eventually(lambda: acknowledged(gateway) > 100)
    code, seconds = gateway.terminate()
    assert code == 0
    assert seconds < 5
    loader.join(60)
    gateway = started(broker, kafka, topic=False)
    eventually(lambda: missing(in_kafka(kafka, city_key), 20_000) == set(), what="every message in Kafka")
    records = in_kafka(kafka, city_key)
    assert len(records) == 20_000, "a clean stop sends nothing twice"
    assert out_of_order(records) == []


def test_sigterm_while_kafka_is_away_ends_within_five_seconds(own_kafka, mosquitto, started, publisher, city_key):
    kafka, broker = own_kafka(), mosquitto()
    gateway = started(broker, kafka)
    kafka.kill()
    publisher(broker).publish(messages(100))
    eventually(lambda: gateway.metric("hanse_gateway_messages_in_flight") == 100)
    code, seconds = gateway.terminate()
    assert code == 0
    assert seconds < 5
    kafka.start()
    started(broker, kafka, topic=False)
    eventually(lambda: missing(in_kafka(kafka, city_key), 100) == set())


def test_mutual_tls_carries_messages(kafka, mosquitto, started, publisher, city_key, certificates):
    broker = mosquitto(
        tls=certificates,
        require_certificate=True,
        listener=["per_listener_settings false", *_plain(port := _free_port())],
    )
    told = "\n".join(f"{kind}_file = '{certificates[name]}'" for kind, name in _FILES)
    gateway = started(broker, kafka, mqtt=told)
    loader = Publisher(port)
    loader.publish([(topic, payload.ljust(5_000)) for topic, payload in messages(3_000)])
    loader.close()
    eventually(lambda: acknowledged(gateway) == 3_000)
    assert missing(in_kafka(kafka, city_key), 3_000) == set()


_FILES = (("ca", "ca"), ("cert", "cert"), ("key", "key"))


def _plain(port):
    return [f"listener {port} 127.0.0.1", "allow_anonymous true"]


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def certificates(tmp_path):
    """A CA and one certificate for 127.0.0.1, good for server and client."""
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key", "ca_key", "request")}
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
    _openssl(
        *("req", "-x509", "-subj", "/CN=test CA", "-days", "2", *new, "-keyout", files["ca_key"], "-out", files["ca"]),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    _openssl("req", "-subj", "/CN=gateway", *new, "-keyout", files["key"], "-out", files["request"])
    extensions = tmp_path / "extensions"
    extensions.write_text(
        "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        "extendedKeyUsage=serverAuth,clientAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    _openssl(
        *("x509", "-req", "-in", files["request"], "-CA", files["ca"], "-CAkey", files["ca_key"], "-days", "2"),
        *("-extfile", extensions, "-out", files["cert"]),
    )
    return {name: files[name] for name in ("ca", "cert", "key")}


def _openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def test_a_refused_mqtt_login_is_one_line_and_the_end(kafka, mosquitto, started, tmp_path):
    broker = mosquitto(password=("gateway", "right"))
    (tmp_path / "password").write_text("wrong\n")
    told = 'username = "gateway"\npassword_file = "password"'
    gateway = started(broker, kafka, wait=False, mqtt=told)
    assert gateway.process.wait(60) == CONFIGURATION_ERROR
    eventually(lambda: "refuses" in gateway.log)
    assert [line for line in gateway.lines if not line.startswith("{")] == [
        f"hanse-gateway: MQTT broker 127.0.0.1:{broker.port} refuses the login: Not authorized\n"
    ]
    (tmp_path / "password").write_text("right\n")
    assert started(broker, kafka, topic=False, mqtt=told).ready() == []


def test_an_unreachable_mqtt_broker_is_said_with_its_address_and_waited_for(kafka, mosquitto, started):
    broker = mosquitto()
    broker.stop()
    gateway = started(broker, kafka, wait=False)
    said = f"MQTT broker 127.0.0.1:{broker.port}: "
    eventually(lambda: said in gateway.log, what=said)
    eventually(lambda: any(reason.startswith(said) for reason in gateway.ready()), what="the reason")
    broker.start()
    eventually(lambda: gateway.ready() == [], what="ready")


def test_an_unreachable_kafka_is_said_with_its_address_and_waited_for(own_kafka, mosquitto, started, publisher):
    kafka, broker = own_kafka(), mosquitto()
    started(broker, kafka).terminate()
    kafka.kill()
    gateway = started(broker, kafka, topic=False, wait=False)
    eventually(lambda: f"Kafka at {kafka.bootstrap} can't be reached" in gateway.log, what="said")
    eventually(lambda: any(kafka.bootstrap in reason for reason in gateway.ready()), what="the reason")
    kafka.start()
    eventually(lambda: gateway.ready() == [], what="ready")


def test_sigterm_before_kafka_was_ever_reached_ends_at_once(mosquitto, started):
    gateway = started(mosquitto(), "127.0.0.1:1", topic=False, wait=False)
    eventually(lambda: "Kafka at 127.0.0.1:1" in gateway.log)
    code, seconds = gateway.terminate()
    assert (code, seconds < 5) == (0, True)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("ca_file = 'nowhere.crt'", "mqtt.ca_file = 'nowhere.crt': No such file or directory; name a readable file"),
        ("prot = 1883", "mqtt.prot = 1883: no such setting; remove it or correct its name"),
    ],
)
def test_a_wrong_city_file_is_one_line_before_anything_connects(city_file, wrong, said):
    file = city_file(1, mqtt=wrong)
    ended = command("run", file, environment=environment("127.0.0.1:1"))
    assert ended.returncode == CONFIGURATION_ERROR
    assert ended.stderr == f"hanse-gateway: {file}: {said}\n"


def test_a_wrong_setting_is_one_line(city_file):
    ended = command("run", city_file(1), environment=environment("127.0.0.1:1", HANSE_KAFKA_PARTITIONS="many"))
    assert ended.returncode == CONFIGURATION_ERROR
    assert ended.stderr.startswith("hanse-gateway: HANSE_KAFKA_PARTITIONS = 'many': ")
    assert ended.stderr.count("\n") == 1


def test_a_missing_topic_and_a_wrong_number_of_partitions_are_refused(kafka, mosquitto, city_file, city_key):
    file = city_file(mosquitto().port)
    told = environment(kafka)
    absent = command("run", file, environment=told)
    assert absent.returncode == CONFIGURATION_ERROR
    assert f"Kafka topic hanse.raw.{city_key} does not exist; make it with hanse-gateway create-topic" in absent.stderr
    made = command("create-topic", file, environment=told)
    assert made.stdout == f"hanse.raw.{city_key}: made, 3 partitions\n"
    again = command("create-topic", file, environment=told)
    assert (again.returncode, again.stdout) == (0, f"hanse.raw.{city_key}: is there, 3 partitions\n")
    other = environment(kafka, HANSE_KAFKA_PARTITIONS="4")
    for name in ("run", "create-topic"):
        refused = command(name, file, environment=other)
        assert refused.returncode == CONFIGURATION_ERROR
        assert "has 3 partitions, HANSE_KAFKA_PARTITIONS says 4; set it to 3" in refused.stderr


def test_a_topic_that_keeps_less_than_the_settings_promise_is_refused(kafka, mosquitto, city_file, city_key):
    file = city_file(mosquitto().port)
    command("create-topic", file, environment=environment(kafka, HANSE_KAFKA_RETENTION="P3D"))
    for name in ("run", "check", "create-topic"):
        refused = command(name, file, environment=environment(kafka))
        assert refused.returncode == CONFIGURATION_ERROR
        said = f"Kafka topic hanse.raw.{city_key} has retention.ms = 259200000, HANSE_KAFKA_RETENTION promises P14D"
        assert said in refused.stderr
    longer = command("check", file, environment=environment(kafka, HANSE_KAFKA_RETENTION="P2D"))
    assert longer.returncode == 0, longer.stderr
    assert "keeps records longer (P3D) than HANSE_KAFKA_RETENTION says (P2D)" in longer.stderr


def test_check_says_what_is_right_and_what_is_not_without_disturbing_the_gateway(kafka, mosquitto, started, city_file):
    broker = mosquitto()
    gateway = started(broker, kafka)
    right = command("check", city_file(broker.port), environment=environment(kafka))
    assert right.returncode == 0, right.stderr
    assert [line.split(" ")[0] for line in right.stdout.splitlines()] == ["MQTT", "Kafka"]
    assert gateway.metric("hanse_gateway_reconnects_total") == 0
    wrong = command("check", city_file(1), environment=environment("127.0.0.1:1"))
    assert wrong.returncode == CONFIGURATION_ERROR
    assert [line.rpartition(": ")[0] for line in wrong.stderr.splitlines()] == [
        "hanse-gateway: MQTT broker 127.0.0.1:1",
        "hanse-gateway: Kafka 127.0.0.1:1",
    ] or wrong.stderr.count("\n") == 2
