"""Running other programs while fetching: their output kept for the error, all of them ended if the fetch is."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from local.paths import LocalError

GLANCE_SECONDS = 0.2


def all_done(futures: "Iterable[Future[Any]]") -> None:
    """Wait for all of them, but raise the first failure at once.

    Waits in steps: Python sees a signal that arrives just before a wait only after it; Ctrl-C must not take minutes.
    """
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=GLANCE_SECONDS, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()


class Commands:
    """A context: programs run inside it, from any thread, do not outlive it."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            for child in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)  # a session of its own: its children too

    def run(
        self, argv: Sequence[str | Path], *, what: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a program to its end and return its output; LocalError with the output's tail if it fails."""
        with self._lock:
            if self._closed:
                raise LocalError(f"{what}: interrupted")
            child = subprocess.Popen(
                [os.fspath(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd=cwd,
                env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
                start_new_session=True,
            )
            self._running.add(child)
        output, _ = child.communicate()
        with self._lock:
            self._running.discard(child)
        if child.returncode:
            lines = "\n".join(f"    {line}" for line in output.splitlines()[-15:])
            raise LocalError(f"{what} failed (status {child.returncode}):\n{lines}")
        return output
