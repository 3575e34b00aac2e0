"""Fresh real servers and the whole pipeline as its users start it, in a folder that goes with them.

Servers come from deploy/local; gateways and the processor are the console commands. What is measured is unknown here.
"""

import http.client
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

from local import paths
from local.process import Identity, Process
from local.servers import Kafka, Mosquitto, Postgres

from tests.bench.workloads import CITIES, DOMAIN

READY_SECONDS = 60.0
CITY_FILE = """\
[city]
key = "{key}"
name = "{key}"
ags = "{ags}"

[mqtt]
host = "127.0.0.1"
port = {port}

[[route]]
filter = "hanse/{key}/{domain}/+"
dialect = "hanse"

[limits]
new_datastreams_per_hour = 10_000_000
"""


class Stack:
    """Seven brokers, Kafka, the database, seven gateways and one processor; a context manager."""

    def __init__(self) -> None:
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        with self._exit:  # a failed start takes everything down again
            self._start()
            self._exit = self._exit.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _start(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="bench-", dir=paths.folder(paths.store())))
        self.directory.chmod(0o755)  # the servers run as a user of their own where root starts them
        self._exit.callback(shutil.rmtree, self.directory, ignore_errors=True)
        owner = Identity.of(os.getpid())
        self.kafka = Kafka(self.directory / "kafka", owner=owner)
        self.postgres = Postgres(self.directory / "postgres", owner=owner)
        self.brokers = {
            city: Mosquitto(self.directory / f"mosquitto-{city}", name=f"mosquitto-{city}", owner=owner)
            for city in CITIES
        }
        for server in (self.postgres, self.kafka, *self.brokers.values()):
            self._exit.callback(server.remove)
            server.start()
        self.dsn = self.postgres.create_database("hanse")
        self.city_files = {city: self._city_file(city) for city in CITIES}
        self._once("storage", "migrate")
        for file in self.city_files.values():
            self._once("ingest", "create-topic", str(file))
        self.gateways = [self._spawn(f"gateway-{city}", "ingest", "run", str(f)) for city, f in self.city_files.items()]
        self.processor = self._spawn("processor", "processors", "run", *map(str, self.city_files.values()))
        for process, port in [*self.gateways, self.processor]:
            process.wait_until(partial(_ready, port), seconds=READY_SECONDS)

    @property
    def environment(self) -> dict[str, str]:
        """What the pipeline's commands read."""
        return {
            "HANSE_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap,
            "HANSE_KAFKA_REPLICATION": "1",
            "HANSE_DATABASE_DSN": self.dsn,
            "HANSE_LOG_LEVEL": "WARNING",
        }

    def pids(self) -> dict[str, list[int]]:
        """Root pids by kind of process."""
        found = {
            "gateway": [process.pid for process, _ in self.gateways],
            "processor": [self.processor[0].pid],
            "mosquitto": [broker.pid for broker in self.brokers.values()],
            "kafka": [self.kafka.pid],
            "postgres": [self.postgres.pid],
        }
        for kind, pids in found.items():
            if None in pids:
                raise RuntimeError(f"{kind}: a process ended; its log: {self.tail(kind)}")
        return {kind: [pid for pid in pids if pid is not None] for kind, pids in found.items()}

    def tail(self, kind: str) -> str:
        """The ends of the logs of a kind of pipeline process."""
        logs = sorted(self.directory.glob(f"{kind}*.log"))
        return "\n".join(
            f"{log.name}: {log.read_text(errors='replace')[-2_000:]}" for log in logs if log.stat().st_size
        )

    def _city_file(self, city: str) -> Path:
        path = self.directory / f"{city}.toml"
        path.write_text(CITY_FILE.format(key=city, ags=CITIES[city], port=self.brokers[city].port, domain=DOMAIN))
        return path

    def _once(self, module: str, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{module} {' '.join(arguments)} failed: {done.stderr.strip()[-2_000:]}")

    def _spawn(self, name: str, module: str, *arguments: str) -> tuple[Process, int]:
        port = paths.free_port()
        environment: Mapping[str, str] = {**self.environment, "HANSE_HTTP_ADDRESS": f"127.0.0.1:{port}"}
        process = Process(
            name=name,
            argv=[sys.executable, "-m", module, *arguments],
            log=self.directory / f"{name}.log",
            record=self.directory / f"{name}.json",
            cwd=Path.cwd(),
            env=environment,
            owner=Identity.of(os.getpid()),
        )
        self._exit.callback(process.stop)
        process.spawn()
        return process, port


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
