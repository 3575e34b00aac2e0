"""Where the tests' servers come from is asked for, and never guessed."""

import gc

import pytest
from local.paths import LocalError

from tests.servers import provider


def test_an_unknown_kind_of_servers_is_refused_with_the_known_ones(monkeypatch):
    monkeypatch.setenv("HANSE_TEST_SERVERS", "docker")
    with pytest.raises(LocalError, match="'docker': should be 'native' or 'containers'"):
        provider(print)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # docker-py leaves its socket open
def test_containers_without_an_engine_are_a_failure_and_not_the_native_servers(monkeypatch, tmp_path):
    monkeypatch.setenv("HANSE_TEST_SERVERS", "containers")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(LocalError, match="no Docker engine answers"):
        provider(print)
    gc.collect()  # here, where it is known, and not in the next test
