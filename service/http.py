"""The three addresses every process serves: /metrics, /healthz and /readyz; and pages, where a process has some.

`/healthz` answers 200 while the process's loop turns (a supervisor restarts it otherwise); `/readyz` answers 503 with
one reason a line while something outside is away. Both call back into the process and must not block: they read flags.
systemd does not ask, so it is told the same (service.supervisor).
"""

import base64
import errno
import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app

from service.settings import endpoint
from service.supervisor import Reasons, Supervisor

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

TAKEN = {
    errno.EADDRINUSE: "choose a free port, or 0 for any",
    errno.EACCES: "choose a port above 1023, or 0 for any",
}

Page = Callable[[], tuple[list[tuple[str, str]], bytes]]


class AddressTakenError(OSError):
    """The metrics address can't be listened on; the message names it and the cure."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    address_family = 2  # AF_INET; a name with IPv6 alone is not what a metrics address is for


class _Quiet(WSGIRequestHandler):
    timeout = 10  # a scraper that never finishes its request must not keep a thread for ever

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Scrapes are not events."""


class Endpoints:
    """An HTTP server in a thread of its own; `port` is the real one (0 picks a free one)."""

    def __init__(
        self,
        address: str,
        *,
        unready: Reasons,
        unhealthy: Reasons = tuple,
        registry: CollectorRegistry = REGISTRY,
        pages: Mapping[str, Page] | None = None,
    ) -> None:
        host, port = endpoint(address)
        metrics = make_wsgi_app(registry)
        known = pages or {}

        def app(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
            path = str(environ.get("PATH_INFO"))
            if path == "/metrics":
                return metrics(environ, start)  # type: ignore[no-any-return]
            if path in known:
                headers, body = known[path]()
                start("200 OK", [*headers, ("X-Content-Type-Options", "nosniff"), ("Content-Length", str(len(body)))])
                return [body]
            reasons = {"/healthz": unhealthy, "/readyz": unready}.get(path)
            if reasons is None:
                start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
                return [" ".join(["/metrics", "/healthz", "/readyz", *known]).encode() + b"\n"]
            why = reasons()
            start(
                "503 Service Unavailable" if why else "200 OK",
                [("Content-Type", "text/plain; charset=utf-8")],
            )
            return ["".join(f"{line}\n" for line in why or ["ok"]).encode()]

        try:
            self._server = make_server(host or "127.0.0.1", port, app, _Server, _Quiet)
        except OSError as error:
            cure = TAKEN.get(error.errno or 0, "name an address of this machine, as 127.0.0.1 or 0.0.0.0")
            raise AddressTakenError(f"HANSE_HTTP_ADDRESS {address}: {error.strerror}; {cure}") from error
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self._supervisor = Supervisor(unready=unready, unhealthy=unhealthy)

    def close(self) -> None:
        """Stop listening; scrapes under way are cut."""
        self._supervisor.close()
        self._server.shutdown()
        self._server.server_close()


def html(text: str) -> Page:
    """A page that may run its own inline script and style and load nothing from anywhere else."""
    allowed = {
        kind: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
            for inline in re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        )
        for kind in ("script", "style")
    }
    policy = (
        f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", policy),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-cache"),
    ]
    return lambda: (headers, text.encode())
