"""systemd as a process sees it: a datagram socket, told what /readyz and /healthz would say."""

import contextlib
import socket

import pytest

from service.supervisor import Supervisor


@pytest.fixture
def told(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.settimeout(10)
        made.bind(str(tmp_path / "notify"))
        yield made


def watched(told, missing, ill=(), usec=40_000):
    environ = {"NOTIFY_SOCKET": told.getsockname(), "WATCHDOG_USEC": str(usec)}
    return Supervisor(unready=lambda: list(missing), unhealthy=lambda: list(ill), environ=environ)


def next_status(told, wanted):
    while wanted not in (said := told.recv(4_096).decode()):
        pass
    return said


def test_it_is_ready_at_once_and_says_what_is_missing_as_long_as_it_is(told):
    missing = ["the database is away", "Kafka is away"]
    supervisor = watched(told, missing)
    assert told.recv(4_096) == b"READY=1"
    assert told.recv(4_096) == b"STATUS=the database is away; Kafka is away\nWATCHDOG=1"
    missing.clear()
    assert "WATCHDOG=1" in next_status(told, "STATUS=working")
    supervisor.close()
    assert next_status(told, "STOPPING=1") == "STOPPING=1\nSTATUS=stopping"


def test_a_process_that_is_ill_stops_feeding_the_watchdog_and_says_why(told):
    ill = ["the loop stands still for 31 s"]
    supervisor = watched(told, [], ill)
    assert told.recv(4_096) == b"READY=1"
    assert [told.recv(4_096) for _ in range(3)] == [b"STATUS=the loop stands still for 31 s"] * 3
    ill.clear()
    assert next_status(told, "WATCHDOG=1") == "STATUS=working\nWATCHDOG=1"
    supervisor.close()


def test_a_supervisor_that_is_gone_troubles_nobody(told, tmp_path):
    supervisor = watched(told, [])
    (tmp_path / "notify").unlink()
    supervisor.close()


def filled(told, senders):
    """Send until not even a newcomer's first word fits."""
    while True:
        one = senders.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        one.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                one.sendto(b"x", told.getsockname())
                sent += 1
        if not sent:
            return


def test_a_supervisor_that_does_not_read_holds_nobody_up(told):
    with contextlib.ExitStack() as senders:
        filled(told, senders)
        watched(told, []).close()
    assert told.recv(4_096) == b"x"


def test_without_systemd_nothing_is_told():
    assert Supervisor(unready=tuple, unhealthy=tuple, environ={}).close() is None
