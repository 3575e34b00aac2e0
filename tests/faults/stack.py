"""Two cities end to end on servers of a test's own, to be killed, stopped and frozen while the simulator publishes.

What must be there afterwards is decided by identity (rule 24): every acknowledged good reading is exactly one row with
its value, every bad message has a dead letter with its bytes, nothing else exists, and the ledger accounts for it all.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from local import cityfiles
from local.demo_data import ledger, letters, log_ends, positions, rows

from simulator.check import verify
from simulator.record import read_record, read_totals
from tests.integration.gateways import eventually

ROOT = Path(__file__).parents[2]
CITIES = ("kiel", "wismar")
SETTLED_SECONDS = 120.0


class Member:
    """A process of the pipeline; `start` may be called again after it ended."""

    def __init__(self, name, argv, environment, folder):
        self.name = name
        self._argv = [sys.executable, "-m", *map(str, argv)]
        self._environment = environment
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._process = None
        self._began = 0

    def start(self, *, wait=True):
        self._began = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, cwd=ROOT, env=self._environment, stderr=log)
        if wait:
            eventually(self.ready, what=f"{self.name} ready: {self.log[-2000:]}")
        return self

    @property
    def log(self):
        with self._log.open("rb") as file:
            file.seek(self._began)
            return file.read().decode()

    def alive(self):
        assert self._process.poll() is None, f"{self.name} ended with {self._process.returncode}: {self.log[-4000:]}"

    def ready(self):
        self.alive()
        found = re.search(r'"http_port": (\d+)', self.log)
        if not found:
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/readyz", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        return False

    def metric(self, name):
        """Sum of a metric over its labels."""
        self.alive()
        port = re.search(r'"http_port": (\d+)', self.log)[1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    def send(self, number):
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self):
        self.send(signal.SIGKILL)
        self._process.wait(10)

    def freeze(self):
        self.send(signal.SIGSTOP)

    def thaw(self):
        self.send(signal.SIGCONT)

    def stop(self, seconds=30):
        """SIGTERM; returns the exit code."""
        self.send(signal.SIGTERM)
        return self._process.wait(seconds)

    def end(self):
        if self._process is not None and self._process.poll() is None:
            self.send(signal.SIGCONT)
            self.kill()


class Stack:
    """Gateways, processors and simulator on these servers; `close` ends every process."""

    def __init__(self, folder, kafka, postgres, brokers):
        self.kafka, self.postgres, self.brokers = kafka, postgres, brokers
        self.dsn = postgres.create_database("faults")
        self._folder = folder
        self._cities = folder / "cities"
        self._record = folder / "record"
        for city, broker in brokers.items():
            cityfiles.write(
                ROOT / f"deploy/cities/{city}.toml", self._cities / f"{city}.toml", cityfiles.loopback(broker.port)
            )
        (folder / "states").mkdir()
        self._environment = {
            **os.environ,
            "HANSE_DATABASE_DSN": self.dsn,
            "HANSE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "HANSE_KAFKA_PARTITIONS": "3",
            "HANSE_HTTP_ADDRESS": "127.0.0.1:0",
            "HANSE_GATEWAY_STATE_DIR": str(folder / "states"),
        }
        self._members = []
        self._run("storage", "migrate")
        self._run("ingest", "create-topic", *self._files())
        self.gateways = {city: self._member(f"gateway-{city}", "ingest", "run", self._file(city)) for city in brokers}
        # Looked at one millisecond early: the gateway cuts its receive times to milliseconds.
        self._began = datetime.now(UTC) - timedelta(milliseconds=1)

    def processor(self, number=1, **environment):
        """A processor of all cities, not started yet."""
        told = {"HANSE_PROCESSOR_INSTANCE": f"processor-{number}", **environment}
        return self._member(f"processor-{number}", "processors", "run", *self._files(), **told)

    def simulate(self, *, rate=150, seed=1, backlog=0):
        """The cities' sensors, from now until `settled`."""
        options = ["--cities-dir", self._cities, "--record", self._record, "--rate", rate, "--seed", seed]
        member = self._member("simulator", "simulator", "run", *options, "--backlog", backlog)
        member.start(wait=False)
        eventually(lambda: read_totals(self._record) is not None, what=f"the simulator: {member.log}")
        self._simulator = member

    def acknowledged(self):
        """Messages whose PUBACK the simulator has."""
        return sum(each["acknowledged"] for each in read_totals(self._record)["cities"].values())

    def wait_for(self, messages):
        """Wait until so many more are acknowledged."""
        due = self.acknowledged() + messages
        eventually(lambda: self.acknowledged() >= due, what=f"{messages} messages acknowledged")

    def settled(self):
        """End the simulator with all its PUBACKs; return what is wrong once everything has arrived (empty: nothing)."""
        assert self._simulator.stop(60) == 0, self._simulator.log[-2000:]
        deadline = time.monotonic() + SETTLED_SECONDS
        while (wrong := self.wrong()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return wrong

    def wrong(self):
        """Every disagreement between the simulator's record and the database, a sentence each."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            there = positions(connection)
            ends = log_ends(self.kafka.bootstrap, list(self.brokers))
            found = [f"{p}: {end - there.get(p, 0)} records behind" for p, end in ends.items() if end > there.get(p, 0)]
            accounts = ledger(connection)
            for city in self.brokers:
                messages, unacknowledged = read_record(self._record / f"{city}.jsonl")
                published = read_totals(self._record)["cities"][city]["messages"]
                stored = rows(connection, city, self._began)
                dead = letters(connection, city, {})
                found += verify(messages, stored, dead, unacknowledged=unacknowledged, redelivered=True)
                counted = accounts.get(city)
                if counted is None or counted.messages < published:
                    found.append(f"{city}: the ledger knows {counted}, published were {published} messages")
                elif counted.unaccounted:
                    found.append(f"{city}: {counted.unaccounted} unaccounted")
        return found[:20]

    def published(self):
        """The simulator's counts of both cities together."""
        cities = read_totals(self._record)["cities"].values()
        return {
            name: sum(city[name] for city in cities) for name in ("stored", "duplicate", "dead_lettered", "ignored")
        }

    def untimed(self, city):
        """Published readings that carry no time of their own."""
        messages, _ = read_record(self._record / f"{city}.jsonl")
        return sum(good.time is None for message in messages for good in message.expected.good)

    def ledger(self):
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return ledger(connection)

    def close(self):
        for member in reversed(self._members):
            member.end()

    def _file(self, city):
        return self._cities / f"{city}.toml"

    def _files(self):
        return [self._file(city) for city in self.brokers]

    def _member(self, name, *argv, **environment):
        member = Member(name, argv, {**self._environment, **environment}, self._folder)
        self._members.append(member)
        return member

    def _run(self, *argv):
        command = [sys.executable, "-m", *map(str, argv)]
        done = subprocess.run(command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
