"""A gateway as a process, a publisher that waits for its PUBACKs, and all that Kafka has: for test_gateway.py."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

ROOT = Path(__file__).parents[2]
PARTITIONS = 3


def eventually(check, *, seconds=120.0, what="it"):
    """Wait until `check()` is true; return what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.02)
    return found


class Publisher:
    """MQTT 3.1.1 at QoS 1 over a raw socket; remembers what was acknowledged."""

    def __init__(self, port, client_id="publisher"):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        name = client_id.encode()
        body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(name).to_bytes(2, "big") + name
        self.socket.sendall(bytes((0x10, len(body))) + body)
        assert self.socket.recv(4) == b"\x20\x02\x00\x00"

    def publish(self, messages, *, qos=1, retain=False, window=500):
        """Publish (topic, payload) pairs and wait for every PUBACK."""
        open_ids = 0
        for number, (topic, payload) in enumerate(messages):
            raw = topic.encode()
            mid = (number % 65_535 + 1).to_bytes(2, "big") if qos else b""
            body = len(raw).to_bytes(2, "big") + raw + mid + payload
            self.socket.sendall(bytes((0x30 | qos << 1 | retain,)) + _length(len(body)) + body)
            open_ids += bool(qos)
            if open_ids >= window:
                self._acks(open_ids)
                open_ids = 0
        self._acks(open_ids)

    def _acks(self, count):
        missing = count * 4
        while missing:
            piece = self.socket.recv(missing)
            assert piece, "the broker closed the publisher's connection"
            missing -= len(piece)

    def close(self):
        self.socket.close()


def _length(number):
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


class GatewayProcess:
    """`hanse-gateway run` of one city; `log` is what it wrote to stderr."""

    def __init__(self, city_file, environment, *, wait=True):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ingest", "run", str(city_file)],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if wait:
            eventually(lambda: self.port and self.ready() == [], what=f"ready; log: {self.lines}")

    def _read(self):
        with self.process.stderr as stream:
            self.lines.extend(stream)

    @property
    def log(self):
        return "".join(self.lines)

    @property
    def port(self):
        found = re.search(r'"http_port": (\d+)', self.log)
        return int(found[1]) if found else None

    def ready(self):
        """Reasons of /readyz; empty: ready."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                return []
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode().splitlines()
        except OSError as error:
            return [str(error)]

    def metric(self, name):
        """Sum of a metric over its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    def terminate(self):
        """SIGTERM; return exit code and seconds it took."""
        began = time.monotonic()
        self.process.terminate()
        code = self.process.wait(20)
        self._reader.join(5)
        return code, time.monotonic() - began

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self._reader.join(5)


def command(*arguments, environment):
    """Run a hanse-gateway command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "ingest", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def environment(kafka, **more):
    """The environment of a gateway at this Kafka."""
    return {
        **os.environ,
        "HANSE_KAFKA_BOOTSTRAP_SERVERS": kafka if isinstance(kafka, str) else kafka.bootstrap,
        "HANSE_KAFKA_PARTITIONS": str(PARTITIONS),
        "HANSE_HTTP_ADDRESS": "127.0.0.1:0",
        **more,
    }


def in_kafka(kafka, city):
    """All records of a city's topic, partition by partition in their order."""
    return asyncio.run(_records(kafka.bootstrap, f"hanse.raw.{city}"))


async def _records(bootstrap, topic):
    found = []
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                batch = await consumer.getmany(partition, timeout_ms=2_000)
                for records in batch.values():
                    found += records
        return found
    finally:
        await consumer.stop()
