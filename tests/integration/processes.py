"""A city of the test's own with processors as processes: records in, ledger, rows and letters out."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import aiokafka
import psycopg

from ingest import wire
from processors.standard.times import rfc3339
from storage.migrate import migrate
from tests.integration.gateways import eventually

ROOT = Path(__file__).parents[2]
PARTITIONS = 2


def reading(device: str, at_ms: int, value: float, **more: Any) -> bytes:
    told = {"property": "air_temperature", "value": value, "unit": "Cel", **more}
    return json.dumps({"v": 1, "device": device, "time": rfc3339(at_ms * 1000), "readings": [told]}).encode()


class Process:
    """`hanse-processor run`, once it is ready; `log` is what it wrote."""

    def __init__(self, city_file: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "processors", "run", str(city_file)],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        eventually(self.ready, what=f"ready; log: {self.lines}")

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            self.lines.extend(stream)

    def ready(self) -> bool:
        found = re.search(r'"http_port": (\d+)', self.log)
        if found is None:
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/readyz", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(20)
        self._reader.join(5)


class City:
    """One city on the real servers."""

    def __init__(self, kafka: Any, dsn: str, key: str, folder: Path) -> None:
        migrate(dsn)
        self.kafka, self.dsn, self.key = kafka, dsn, key
        self.topic = wire.kafka_topic(key)
        self.file = folder / f"{key}.toml"
        self.configure()
        self.processes: list[Process] = []
        self.environment = {
            **os.environ,
            "HANSE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "HANSE_KAFKA_PARTITIONS": str(PARTITIONS),
            "HANSE_KAFKA_GROUP": f"test-{key}",
            "HANSE_PROCESSOR_INSTANCE": key,  # a restart takes over at once
            "HANSE_DATABASE_DSN": dsn,
            "HANSE_HTTP_ADDRESS": "127.0.0.1:0",
        }
        self.run("ingest", "create-topic", str(self.file))

    def configure(self, *routes: str, **limits: Any) -> None:
        filters = [f"hanse/{self.key}/+/+", *routes]
        parts = [f'[city]\nkey = "{self.key}"\nname = "Test"']
        parts += [f'[[route]]\nfilter = "{one}"\ndialect = "hanse"' for one in filters]
        parts.append("[limits]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in limits.items()))
        self.file.write_text("\n".join(parts))

    def command(self, module: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", module, *words]
        return subprocess.run(
            argv, cwd=ROOT, env={**self.environment, **env}, capture_output=True, text=True, timeout=110, check=False
        )

    def run(self, module: str, *words: str) -> str:
        done = self.command(module, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> Process:
        self.processes.append(Process(self.file, self.environment))
        return self.processes[-1]

    def restart(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        for process in self.processes:
            process.end()
        self.processes.clear()

    def publish(
        self, *messages: tuple[str, bytes], partition: int = 0, at_ms: int | None = None, extra: Any = ()
    ) -> None:
        async def send() -> None:
            producer = aiokafka.AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap, acks="all")
            await producer.start()
            try:
                for topic, payload in messages:
                    headers = [*wire.headers("test", qos=1, retain=False, dup=False), *extra]
                    await producer.send_and_wait(
                        self.topic,
                        payload,
                        topic.encode(),
                        partition=partition,
                        timestamp_ms=at_ms or time.time_ns() // 1_000_000,
                        headers=headers,
                    )
            finally:
                await producer.stop()

        asyncio.run(send())

    def sql(self, query: str, params: Any = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            cursor = conn.execute(query, params)
            return cursor.fetchall() if cursor.description else []

    def ledger(self) -> dict[str, int]:
        names = (
            "messages, decoded, dead_messages, ignored_messages, readings, stored, duplicate, dead_readings, "
            "replayed, replayed_stored, replayed_duplicate, replayed_corrected, replayed_dead, replayed_ignored, "
            "unaccounted"
        )
        sums = ", ".join(f"coalesce(sum({name}), 0)::int8" for name in names.split(", "))
        [row] = self.sql(f"select {sums} from hanse.ledger")
        return dict(zip(names.split(", "), row, strict=True))

    def settled(self, records: int) -> dict[str, int]:
        """Wait until so many records are accounted; the ledger then."""
        eventually(
            lambda: self.ledger()["messages"] + self.ledger()["replayed"] >= records,
            what=f"{records} records accounted",
        )
        found = self.ledger()
        assert found["messages"] + found["replayed"] == records
        assert found["unaccounted"] == 0
        assert self.open_bytes() == self.weighed()
        return found

    def open_bytes(self) -> int:
        return self.sql("select coalesce(sum(open_bytes), 0)::int8 from store.dead_letter_bytes")[0][0]

    def weighed(self) -> int:
        """What the open letters weigh, counted anew."""
        return self.sql(
            "select (select count(*) * 256 from store.dead_letter where state = 'open') + "
            "(select coalesce(sum(octet_length(payload)), 0) from store.dead_message m where exists ("
            "select from store.dead_letter l where l.state = 'open' and l.topic = m.topic "
            'and l.partition = m.partition and l."offset" = m."offset" and l.received_at = m.received_at))'
        )[0][0]

    def letters(self) -> list[tuple[Any, ...]]:
        return self.sql("select reason, state, outcome from store.dead_letter order by letter_id")

    def rows(self) -> list[tuple[str, float]]:
        return self.sql("select device, value from hanse.observations order by device, phenomenon_time")
