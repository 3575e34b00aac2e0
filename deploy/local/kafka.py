"""Kafka in one process (KRaft, broker and controller), on loopback."""

import base64
import functools
import os
import shutil
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from local import fetch
from local.paths import OWNED, free_port, give
from local.process import Identity
from local.server import Server

# One broker: everything Kafka replicates by itself has one copy.
SETTINGS: Mapping[str, str | int] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "CLIENT",
    "log.dirs": "data",
    "auto.create.topics.enable": "false",
    "message.max.bytes": 2_228_224,  # a 2 MiB record with its envelope
    "replica.fetch.max.bytes": 2_228_224,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    # After a SIGKILL the new process may register only once the old one's session is over.
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
}
JVM = (
    "-Xmx512m",
    "-XX:+UseSerialGC",  # a small heap on few cores: faster up and less CPU than G1
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",  # else 400 lines of settings a start
)
API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)  # size, key, version, correlation, null client id


class Kafka(Server):
    """One broker; `bootstrap` is its address. `settings` override server.properties."""

    kind = "kafka"

    def __init__(self, directory: Path, *, settings: Mapping[str, str | int] | None = None, **common: Any) -> None:
        super().__init__(directory, **common)
        self._settings = {**SETTINGS, **(settings or {})}

    @property
    def bootstrap(self) -> str:
        """What clients connect to."""
        return f"127.0.0.1:{self.port}"

    def prepare(self, programs: fetch.Installation) -> list[str | Path]:
        """Format the data folder if it is new, write server.properties."""
        data = self.configure()
        if not (data / "meta.properties").exists():
            give(Path(shutil.copyfile(programs.kafka_checkpoint, data / "bootstrap.checkpoint")))
            cluster, directory = (base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=") for _ in range(2))
            self.write(
                "data/meta.properties", f"version=1\ncluster.id={cluster}\nnode.id=1\ndirectory.id={directory}\n"
            )
        flags = [*JVM, *self.class_archive(programs)]
        return [programs.java, *flags, "-cp", programs.classpath, "kafka.Kafka", "server.properties"]

    def configure(self) -> Path:
        """Write server.properties; give the data folder."""
        data = self.directory / "data"
        self.make_folder(data)
        controller = free_port()
        settings = {
            **self._settings,
            "listeners": f"CLIENT://{self.bootstrap},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"CLIENT://{self.bootstrap}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        }
        self.write("server.properties", "".join(f"{key}={value}\n" for key, value in settings.items()))
        return data

    def class_archive(self, programs: fetch.Installation) -> list[str]:
        """JVM flags for the archive of loaded classes, which saves a third of the CPU of a start."""
        archive = _class_archive(programs)
        return [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []

    def ready(self) -> bool:
        """Started by its own word, and answering a request."""
        if not self.logged("Kafka Server started"):
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(API_VERSIONS)
                return bool(connection.recv(8))
        except OSError:
            return False

    def environment(self, programs: fetch.Installation) -> dict[str, str]:
        """What an unpacked Java needs."""
        return dict(programs.java_env)


class _Rehearsal(Kafka):
    """A Kafka that is started and ended once, so that the JVM writes down which classes that takes."""

    def class_archive(self, programs: fetch.Installation) -> list[str]:  # noqa: ARG002  (it makes what others use)
        """Write the archive instead of using it."""
        return ["-XX:ArchiveClassesAtExit=classes.jsa"]


@functools.cache
def _class_archive(programs: fetch.Installation) -> Path:
    """The archive, made at first use (5 s); absent where the JVM can't: a Kafka starts without, only slower."""

    def rehearse(temporary: Path, _: Path) -> None:
        owner = Identity.of(os.getpid())
        server = _Rehearsal(temporary / "rehearsal", run=OWNED, name=f"rehearsal-{os.getpid()}", owner=owner)
        try:
            server.start()
        finally:
            server.stop(30)
        with suppress(OSError):
            (server.directory / "classes.jsa").rename(temporary / "classes.jsa")
        shutil.rmtree(server.directory)

    java = programs.java.resolve()  # an archive fits one build of the JVM
    recipe = f"1 {java} {java.stat().st_mtime_ns} {JVM} {programs.classpath}".encode()
    return fetch.part("classes", recipe, rehearse) / "classes.jsa"
