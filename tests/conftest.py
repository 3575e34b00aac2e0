"""Fixtures for tests on the real servers. A test that asks for none of them starts none."""

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from local.servers import Kafka, Mosquitto, Postgres

from tests.proxy import Proxy
from tests.servers import Servers, provider

# How fast a machine is today says nothing of what an example shows.
settings.register_profile("house", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Iterator[Servers]:
    """Starts servers; all of them end with the session."""
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")

    def report(line: str) -> None:
        if terminal is not None and capture is not None:
            with capture.global_and_fixture_disabled():
                terminal.write_line(line)

    made = provider(report)
    yield made
    made.close()


@pytest.fixture(scope="session")
def kafka(servers: Servers) -> Kafka:
    """The session's broker: `kafka.bootstrap`. Don't stop it; `own_kafka` is for that."""
    return servers.kafka()


@pytest.fixture(scope="session")
def postgres(servers: Servers) -> Postgres:
    """The session's PostgreSQL. Don't stop it; `own_postgres` is for that."""
    return servers.postgres()


def _factory(servers: Servers, make: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    made = []

    def start(**settings: Any) -> Any:
        made.append(make(**settings))
        return made[-1]

    yield start
    for server in made:
        servers.remove(server)


@pytest.fixture
def mosquitto(servers: Servers) -> Iterator[Callable[..., Mosquitto]]:
    """`mosquitto()` starts a broker of the test's own: password=(user, password), tls={ca, cert, key}, settings={}."""
    yield from _factory(servers, servers.mosquitto)


@pytest.fixture
def own_kafka(servers: Servers) -> Iterator[Callable[..., Kafka]]:
    """`own_kafka()` starts a Kafka that the test may stop, kill and start again (2.5 s each time)."""
    yield from _factory(servers, servers.kafka)


@pytest.fixture
def own_postgres(servers: Servers) -> Iterator[Callable[..., Postgres]]:
    """`own_postgres()` starts a PostgreSQL that the test may stop, kill and start again (0.5 s each time)."""
    yield from _factory(servers, servers.postgres)


@pytest.fixture
def city_key(request: pytest.FixtureRequest) -> str:
    """A city of this test alone, so that its Kafka topic and rows are too."""
    name = re.sub(r"[^a-z0-9]+", "_", request.node.name.lower())
    return f"c_{name[-20:].strip('_')}_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """A fresh database with the extension and nothing migrated: its address for the role `hanse`."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def proxy() -> Iterator[Callable[[int], Proxy]]:
    """`proxy(port)` listens on a port of its own (`.port`) and forwards to 127.0.0.1:port; see tests.proxy."""
    made: list[Proxy] = []

    def start(port: int) -> Proxy:
        made.append(Proxy(port))
        return made[-1]

    yield start
    for one in made:
        one.close()
