"""The real servers for tests, behind one interface: what a test may ask of them, wherever they run.

`LocalServers` runs them as processes (deploy/local), `ContainerServers` in containers (tests/images); what they
return has the same attributes and methods (start, stop, kill, freeze, thaw, port, bootstrap, dsn …). HANSE_TEST_SERVERS
says which, `native` if it says nothing; neither ever stands in for the other. A server that can't be had is a failure
with its reason.
"""

import atexit
import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from local import fetch
from local.paths import OWNED, LocalError
from local.process import Identity, sweep
from local.servers import Kafka, Mosquitto, Postgres, Prometheus, Server

FOLDER = "hanse tests "
S = TypeVar("S", bound=Server)


class Servers(Protocol):
    """Makes started servers, each with data and a port of its own."""

    def mosquitto(self, **settings: Any) -> Mosquitto: ...

    def kafka(self, **settings: Any) -> Kafka: ...

    def postgres(self, **settings: Any) -> Postgres: ...

    def prometheus(self, **settings: Any) -> Prometheus: ...

    def remove(self, server: Server) -> None: ...

    def close(self) -> None: ...


class LocalServers:
    """The servers as processes of this run; none outlives it by more than until the next run (`sweep`)."""

    def __init__(self, report: Callable[[str], None]) -> None:
        sweep(OWNED)
        sweep_folders()
        fetch.install(report)
        # Not under pytest's own tmp_path: root's is closed to the unprivileged user the servers run as.
        self._base = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()} "))
        self._base.chmod(0o755)
        self._numbers = itertools.count(1)
        self._servers: list[Server] = []
        self._owner = Identity.of(os.getpid())
        atexit.register(self.close)

    def mosquitto(self, **settings: Any) -> Mosquitto:
        return self._start(Mosquitto, settings)

    def kafka(self, **settings: Any) -> Kafka:
        return self._start(Kafka, settings)

    def postgres(self, **settings: Any) -> Postgres:
        return self._start(Postgres, settings)

    def prometheus(self, **settings: Any) -> Prometheus:
        return self._start(Prometheus, settings)

    def remove(self, server: Server) -> None:
        server.remove()
        self._servers.remove(server)

    def close(self) -> None:
        for server in tuple(self._servers):
            with contextlib.suppress(OSError):
                self.remove(server)
        shutil.rmtree(self._base, ignore_errors=True)

    def _start(self, kind: type[S], settings: dict[str, Any]) -> S:
        name = f"{kind.kind}-{os.getpid()}-{next(self._numbers)}"
        server = kind(self._base / name, name=name, run=OWNED, owner=self._owner, **settings)
        self._servers.append(server)
        server.start()
        return server


def sweep_folders() -> None:
    """Remove the data of test runs that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        pid = folder.name.removeprefix(FOLDER).split(" ")[0]
        if pid.isdigit() and Identity.of(int(pid)) is None:
            shutil.rmtree(folder, ignore_errors=True)


def provider(report: Callable[[str], None]) -> Servers:
    """The servers that HANSE_TEST_SERVERS asks for."""
    asked = os.environ.get("HANSE_TEST_SERVERS") or "native"
    if asked == "native":
        return LocalServers(report)
    if asked == "containers":
        from tests.images.servers import ContainerServers

        return ContainerServers(report)
    raise LocalError(f"HANSE_TEST_SERVERS = {asked!r}: should be 'native' or 'containers'")
