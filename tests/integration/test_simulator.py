"""The simulator against a real Mosquitto: its record is what a subscriber sees, and it ends with all its PUBACKs."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from simulator.expectation import digest
from simulator.record import read_record, read_totals

WITHIN = 120  # seconds, on a machine that may be busy


class Subscriber:
    """Counts what arrives, by topic and payload."""

    def __init__(self, port: int) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id="witness", clean_session=False)
        subscribed = Event()
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda _c, _u, message: self.seen.update([(message.topic, digest(message.payload))])
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert subscribed.wait(WITHIN)

    def waits_for(self, messages: int) -> None:
        deadline = time.monotonic() + WITHIN
        while self.seen.total() < messages and time.monotonic() < deadline:
            time.sleep(0.02)


@pytest.fixture
def subscriber() -> Iterator[list[Subscriber]]:
    made: list[Subscriber] = []
    yield made
    for one in made:
        one.client.disconnect()
        one.client.loop_stop()


def _cities(folder: Path, *ports: int, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    for number, port in enumerate(ports):
        (folder / f"town{number}.toml").write_text(
            f'[city]\nkey = "town{number}"\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\n{more}'
        )
    return folder


def _start(cities: Path, record: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "simulator", "run", "--cities-dir", cities, "--record", record, *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def _until(record: Path, messages: int) -> None:
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        totals = read_totals(record)
        if totals and all(city["acknowledged"] >= messages for city in totals["cities"].values()):
            return
        time.sleep(0.02)
    pytest.fail(f"no {messages} messages within {WITHIN} s")


def test_every_recorded_message_reaches_a_subscriber_once_and_nothing_else_does(mosquitto, subscriber, tmp_path):
    brokers = [mosquitto(), mosquitto()]
    subscriber += [Subscriber(broker.port) for broker in brokers]
    cities = _cities(tmp_path / "cities", *(broker.port for broker in brokers))

    process = _start(cities, tmp_path, "--rate", "200", "--seconds", "3")
    _, said = process.communicate(timeout=WITHIN)

    assert process.returncode == 0, said
    totals = read_totals(tmp_path)
    assert totals["ended"]
    for number, witness in enumerate(subscriber):
        recorded, unacknowledged = read_record(tmp_path / f"town{number}.jsonl")
        recorded = list(recorded)
        assert not unacknowledged
        assert len(recorded) == totals["cities"][f"town{number}"]["acknowledged"]
        assert 100 < len(recorded) <= 601, "no faster than asked for; slower where the machine is"
        witness.waits_for(len(recorded))
        assert Counter(topic for topic, _ in witness.seen.elements()) == Counter(each.topic for each in recorded)
        bad = [each for each in recorded if each.expected.bad and each.expected.kind != "too_large"]
        assert bad
        assert all(witness.seen[each.topic, each.expected.kept] for each in bad)


def test_sigterm_ends_it_with_every_message_acknowledged(mosquitto, tmp_path):
    cities = _cities(tmp_path / "cities", mosquitto().port)
    process = _start(cities, tmp_path)
    _until(tmp_path, 20)

    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=WITHIN)

    assert process.returncode == 0, said
    assert read_record(tmp_path / "town0.jsonl")[1] == set()


def test_messages_outlive_a_broker_that_stops_and_comes_back(mosquitto, subscriber, tmp_path):
    broker = mosquitto()
    subscriber.append(Subscriber(broker.port))
    process = _start(_cities(tmp_path / "cities", broker.port), tmp_path, "--rate", "100")
    _until(tmp_path, 50)

    broker.stop()
    time.sleep(1)
    broker.start()
    _until(tmp_path, 400)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=WITHIN)

    assert process.returncode == 0, said
    recorded, unacknowledged = read_record(tmp_path / "town0.jsonl")
    topics = Counter(each.topic for each in recorded)
    assert not unacknowledged
    subscriber[0].waits_for(topics.total())
    seen = Counter(topic for topic, _ in subscriber[0].seen.elements())
    assert all(seen[topic] >= times for topic, times in topics.items())


def test_a_backlog_carries_the_times_at_which_it_was_due(mosquitto, tmp_path):
    cities = _cities(tmp_path / "cities", mosquitto().port)

    process = _start(cities, tmp_path, "--backlog", "60", "--seconds", "3")
    _, said = process.communicate(timeout=WITHIN)

    assert process.returncode == 0, said
    recorded = list(read_record(tmp_path / "town0.jsonl")[0])
    weather = [each for each in recorded if each.expected.kind == "weather"]
    times = [each.expected.good[0].time for each in weather]
    behind = [(each.published - time) / 1e6 for each, time in zip(weather, times, strict=True)]
    assert 60 * 40 < len(recorded) <= 63 * 40 + 1
    assert max(behind[:10]) > 55, "the first of them are a minute late"
    assert min(behind) < 2, "and the last of them live"
    assert times == sorted(times)


def test_a_refused_login_is_one_line_with_city_and_address(mosquitto, tmp_path, monkeypatch):
    broker = mosquitto(password=("sensors", "geheim"))
    (tmp_path / "word").write_text("falsch")
    cities = _cities(tmp_path / "cities", broker.port, more='username = "sensors"\npassword_file = "../word"\n')

    process = _start(cities, tmp_path)
    _, said = process.communicate(timeout=WITHIN)

    assert process.returncode == 1
    assert said.count("\n") == 1
    assert f"town0: broker 127.0.0.1:{broker.port}: refused: Not authorized" in said


def test_the_totals_file_can_be_read_at_any_instant(mosquitto, tmp_path):
    process = _start(_cities(tmp_path / "cities", mosquitto().port), tmp_path, "--seconds", "2")
    reads = 0
    while process.poll() is None:
        if totals := read_totals(tmp_path):
            json.dumps(totals)
            reads += 1
    process.communicate()

    assert reads > 10
