"""The HTTP endpoints against scrapers as they are: odd paths, slow ones, a port that is taken."""

import http.client
import socket

import pytest
from prometheus_client import CollectorRegistry, Gauge

from service.http import AddressTakenError, Endpoints, html


@pytest.fixture
def served():
    registry = CollectorRegistry()
    Gauge("alive", "1", registry=registry).set(1)
    page = html("<style>a{}</style><p>ü</p><script>1</script>")
    made = Endpoints("127.0.0.1:0", unready=tuple, registry=registry, pages={"/": page})
    yield made
    made.close()


def ask(port, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.putrequest(method, path, skip_host=True)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


@pytest.mark.parametrize(
    "path", ["/metricsx", "/%00", "/../../etc/passwd", "/metrics/", "/" + "a" * 60_000, "/%ff", "*"]
)
def test_a_garbage_path_is_answered_with_the_paths_there_are(served, path):
    status, body, _ = ask(served.port, path)
    assert (status, body) == (404, b"/metrics /healthz /readyz /\n")
    assert ask(served.port, "/metrics")[0] == 200


def test_a_path_beyond_all_bounds_is_refused_and_the_next_scrape_served(served):
    assert ask(served.port, "/" + "a" * 70_000)[0] == 414
    assert ask(served.port, "/metrics")[0] == 200


def test_slow_scrapers_keep_no_other_waiting(served):
    slow = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(20)]
    for one in slow:
        one.sendall(b"GET /metrics HTTP/1.1\r\n")  # and never the rest
    assert b"alive 1.0" in ask(served.port, "/metrics")[1]
    for one in slow:
        one.close()


def test_an_address_that_is_taken_is_named_with_the_cure(served):
    with pytest.raises(AddressTakenError, match=rf"HANSE_HTTP_ADDRESS 127.0.0.1:{served.port}: .*choose a free port"):
        Endpoints(f"127.0.0.1:{served.port}", unready=tuple)


def test_a_page_may_run_its_own_script_and_load_nothing_else(served):
    status, body, headers = ask(served.port, "/")
    assert (status, body.decode()) == (200, "<style>a{}</style><p>ü</p><script>1</script>")
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"].startswith("'sha256-")
    assert policy["connect-src"] == "'self'"
