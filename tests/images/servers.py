"""The same servers for tests, in containers of the images that docker-compose.yml pins (testcontainers).

Everything but the program is deploy/local's: the folder with its configuration, the port of loopback, the ways to ask.
Containers share the machine's network and see that folder under its own path, so the engine must run on this Linux
machine. A container is made at the first start and kept over stop, kill and start again, as a server's data are.
"""

import atexit
import contextlib
import itertools
import os
import re
import secrets
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
from local import fetch
from local.kafka import JVM, Kafka
from local.mosquitto import Mosquitto
from local.paths import CHECKOUT, LocalError, account, is_free
from local.postgres import CONF, ROLE, Postgres, furnish
from local.process import Identity, ServerError, tail
from local.prometheus import Prometheus
from local.server import Server
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

START_SECONDS = 180.0  # more than for a process: an image may come first; one that dies is noticed at once
LABEL = "hanse.tests"  # the pid of the run that a container must not outlive
PROGRAMS = fetch.Installation(
    postgres=Path("/"),  # its image's entry point finds it
    mosquitto=Path("/usr/sbin/mosquitto"),
    java=Path("java"),
    java_env=(),
    kafka=Path("/opt/kafka/libs"),
    kafka_checkpoint=Path("/"),
)
PINNED = re.compile(r"\$\{(HANSE_IMAGE_\w+):-([^}]+)\}")


def image(variable: str) -> str:
    """The image that docker-compose.yml names, or the variable that replaces it there."""
    pinned = dict(PINNED.findall((CHECKOUT / "docker-compose.yml").read_text("utf-8")))
    return os.environ.get(variable) or pinned[variable]


class InContainer(Server):
    """A server whose program runs in a container."""

    variable: str
    entrypoint: str | None = None  # None: the command line alone, as the account that owns the folder
    container: DockerContainer | None = None

    def start(self):
        self.make_folder(self.directory)
        if not self.alive and not is_free(self.port):
            raise ServerError(f"{self.name}: port {self.port} of 127.0.0.1 is taken by another program; end that")
        (self.directory / "port").write_text(str(self.port))
        self.log.touch()
        self.log.chmod(0o666)
        self._log_start = self.log.stat().st_size
        if self.container is None:
            self.container = self._made()
            self.container.start()
        else:
            self.container.get_wrapped_container().start()
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if not self.alive or time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"{self.name} does not start; the end of its log ({self.log}):\n{tail(self.log)}")
            time.sleep(0.05)
        self.started()
        return self

    def _made(self) -> DockerContainer:
        argv = [str(part) for part in self.prepare(PROGRAMS)]
        entry = ["sh", "-c", f'exec {self.entrypoint or ""} "$@" >> {shlex.quote(str(self.log))} 2>&1', "sh"]
        owner = account()
        user = f"{owner.uid}:{owner.gid}" if owner else f"{os.getuid()}:{os.getgid()}"
        made = DockerContainer(image(self.variable)).with_envs(**self.environment(PROGRAMS))
        return (
            made.with_kwargs(
                network_mode="host",
                entrypoint=entry,
                user=None if self.entrypoint else user,
                working_dir=str(self.directory),
                labels={LABEL: str(os.getpid())},
            )
            .with_volume_mapping(str(self.directory), str(self.directory), "rw")
            .with_command(argv)
        )

    @property
    def pid(self):
        if self.container is None:
            return None
        wrapped = self.container.get_wrapped_container()
        wrapped.reload()
        return wrapped.attrs["State"]["Pid"] or None

    def stop(self, seconds=15.0):
        if self.alive:
            wrapped = self.container.get_wrapped_container()
            wrapped.kill(self.stop_signal.name)
            with contextlib.suppress(Exception):
                wrapped.wait(timeout=seconds)
            self.kill()

    def kill(self):
        if self.alive:
            wrapped = self.container.get_wrapped_container()
            wrapped.kill("SIGKILL")
            wrapped.wait()

    def freeze(self):
        self.container.get_wrapped_container().pause()

    def thaw(self):
        self.container.get_wrapped_container().unpause()

    def remove(self):
        if self.container is not None:
            self.container.get_wrapped_container().remove(force=True, v=True)
            self.container = None
        shutil.rmtree(self.directory, ignore_errors=True)


class ContainerMosquitto(InContainer, Mosquitto):
    variable = "HANSE_IMAGE_MOSQUITTO"


class ContainerKafka(InContainer, Kafka):
    variable = "HANSE_IMAGE_KAFKA"

    def prepare(self, programs):
        self.configure()
        java = shlex.join(["java", *JVM, "-cp", "/opt/kafka/libs/*"])
        once = f"test -e data/meta.properties || {java} kafka.tools.StorageTool format -t {secrets.token_urlsafe(16)}"
        return ["sh", "-c", f"({once} -c server.properties) && exec {java} kafka.Kafka server.properties"]


class ContainerPostgres(InContainer, Postgres):
    """The data stay in the container's volume: PostgreSQL wants a user that its image knows."""

    variable = "HANSE_IMAGE_TIMESCALEDB"
    entrypoint = "docker-entrypoint.sh"

    def prepare(self, programs):
        self._passwords = {role: secrets.token_urlsafe(24) for role in ("postgres", ROLE)}
        lines = "".join(f"*:*:*:{role}:{password}\n" for role, password in self._passwords.items())
        self.write("passfile", lines, mode=0o600)
        settings = dict(re.findall(r"(?m)^([\w.]+) *= *'?(.*?)'?$", CONF.format(port=self.port) + self._settings))
        del settings["unix_socket_directories"]  # its entry point speaks through it
        return ["postgres", *(part for key, value in settings.items() for part in ("-c", f"{key}={value}"))]

    def environment(self, programs):
        return {"POSTGRES_PASSWORD": self._passwords["postgres"], "NO_TS_TUNE": "true"}

    def started(self):
        with self.superuser() as connection:
            there = connection.execute("select from pg_roles where rolname = %s", [ROLE]).fetchone()
        if there is None:
            furnish(self, self._passwords[ROLE])


class ContainerPrometheus(InContainer, Prometheus):
    variable = "HANSE_IMAGE_PROMETHEUS"

    def prepare(self, programs):
        return ["prometheus", *self.configure()]


class ContainerServers:
    """The servers in containers of this run; none outlives it by more than until the next run."""

    def __init__(self, report: Callable[[str], None]) -> None:
        testcontainers_config.ryuk_disabled = True  # one image less; what a killed run left goes at the next one
        try:
            client = docker.from_env()
            left = client.containers.list(all=True, filters={"label": LABEL})
        except docker.errors.DockerException as error:
            raise LocalError(
                f"HANSE_TEST_SERVERS=containers, but no Docker engine answers: {error}; start one, name it in "
                "DOCKER_HOST, or leave the variable out for servers without containers"
            ) from error
        for container in left:
            if Identity.of(int(container.labels[LABEL])) is None:
                container.remove(force=True, v=True)
        kinds = (ContainerMosquitto, ContainerKafka, ContainerPostgres)
        report("servers in containers: " + ", ".join(image(kind.variable) for kind in kinds))
        self._base = Path(tempfile.mkdtemp(prefix="hanse tests in containers "))
        self._base.chmod(0o755)
        self._numbers = itertools.count(1)
        self._servers: list[InContainer] = []
        atexit.register(self.close)

    def mosquitto(self, **settings: Any) -> Mosquitto:
        return self._start(ContainerMosquitto, settings)

    def kafka(self, **settings: Any) -> Kafka:
        return self._start(ContainerKafka, settings)

    def postgres(self, **settings: Any) -> Postgres:
        return self._start(ContainerPostgres, settings)

    def prometheus(self, **settings: Any) -> Prometheus:
        return self._start(ContainerPrometheus, settings)

    def remove(self, server: Any) -> None:
        server.remove()
        self._servers.remove(server)

    def close(self) -> None:
        for server in tuple(self._servers):
            with contextlib.suppress(OSError, docker.errors.DockerException):
                self.remove(server)
        shutil.rmtree(self._base, ignore_errors=True)

    def _start(self, kind: type[InContainer], settings: dict[str, Any]) -> Any:
        name = f"{kind.kind}-{os.getpid()}-{next(self._numbers)}"
        server = kind(self._base / name, name=name, **settings)
        self._servers.append(server)
        server.start()
        return server
