"""What systemd is told, where it is the supervisor: started, what is missing now, and that the process is well.

The protocol of sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names. READY=1 once the process listens: it
waits for its servers by itself, and a unit that is starting for an hour would help nobody. STATUS= is /readyz in the
line that `systemctl status` shows. WATCHDOG=1 is sent while /healthz would answer 200, at half the interval that
systemd waits; without it systemd ends the process and starts it anew. Without NOTIFY_SOCKET nothing is done.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence

LOOK_SECONDS = 5.0
TELL_SECONDS = 1.0
MOST_BYTES = 1_024  # of a status: one line for a person
MICROSECONDS = 1_000_000

Reasons = Callable[[], Sequence[str]]


class Supervisor:
    """Tells systemd in a thread of its own, until closed."""

    def __init__(self, *, unready: Reasons, unhealthy: Reasons, environ: Mapping[str, str] = os.environ) -> None:
        self._unready, self._unhealthy = unready, unhealthy
        self._address = environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        watchdog = int(environ.get("WATCHDOG_USEC", "0")) / MICROSECONDS
        self._interval = min(LOOK_SECONDS, watchdog / 2) if watchdog else LOOK_SECONDS
        self._closed = threading.Event()
        if self._address:
            self._tell("READY=1")
            threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """The process is about to end by itself."""
        self._closed.set()
        if self._address:
            self._tell("STOPPING=1\nSTATUS=stopping")

    def _run(self) -> None:
        while not self._closed.is_set():
            ill = self._unhealthy()
            said = ["STATUS=" + ("; ".join([*ill, *self._unready()]) or "working")[:MOST_BYTES].replace("\n", "; ")]
            if not ill:
                said.append("WATCHDOG=1")
            self._tell("\n".join(said))
            self._closed.wait(self._interval)

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.settimeout(TELL_SECONDS)  # its queue may be full
            told.sendto(text.encode(), self._address)
