"""Background processes that can be found again and never mistaken: pid plus start time, in a small file each.

A pid alone may belong to a stranger after a while; the kernel's start time tells. Signals go through a pidfd, so that
nothing can change between the look and the signal. What a process is for is left to `servers` and `stack`.
"""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from local.paths import LocalError, as_account

TAIL_LINES = 25


class ServerError(LocalError):
    """A process died or did not come up; the message ends with the tail of its log."""


@dataclass(frozen=True)
class Identity:
    """A process, for ever: `started` is the kernel's clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """The living process with this pid; None for none and for a zombie."""
        try:
            # The name in parentheses may hold anything; fields are counted after the last one.
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Identity.of(self.pid) == self

    def send(self, number: signal.Signals, *, wait: float = 0.0) -> bool:
        """Signal this very process and wait up to `wait` seconds; True once it is gone."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.alive():
                return True
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            return bool(select.select([handle], [], [], wait)[0])
        finally:
            os.close(handle)

    def descendants(self) -> list["Identity"]:
        """Its living children and theirs."""
        found: list[Identity] = []
        parents = {self.pid}
        for entry in sorted(int(path.name) for path in Path("/proc").glob("[1-9]*")):
            with suppress(OSError):
                fields = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()
                if int(fields[1]) in parents and fields[0] not in "ZX":
                    parents.add(entry)
                    found.append(Identity(entry, int(fields[19])))
        return found


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The end of a log, indented, for a message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode(errors="replace")
    except OSError:
        return "    (no log)"
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (its log is empty)"


@dataclass
class Process:
    """One background process. `record`: the file it is found by later; `stop_signal`: what it takes as a clean end."""

    name: str
    argv: Sequence[str | Path]
    log: Path
    record: Path
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    unprivileged: bool = False  # where root starts it: as the servers' account
    stop_signal: signal.Signals = signal.SIGTERM
    owner: Identity | None = None
    identity: Identity | None = None
    _child: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def spawn(self) -> None:
        """Start it in a session of its own (Ctrl-C in the terminal is not for it), its output appended to its log."""
        if self.alive():
            raise ServerError(f"{self.name} is running already (pid {self.pid})")
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(  # a handle is kept: `_reap` waits for it
                [os.fspath(part) for part in self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.cwd,
                env={**os.environ, **self.env},
                start_new_session=True,
                **(as_account() if self.unprivileged else {}),
            )
        self.identity = Identity.of(self._child.pid)
        if self.identity is not None:
            write_record(self)

    @property
    def pid(self) -> int | None:
        """Its pid while it runs."""
        return self.identity.pid if self.identity is not None and self.identity.alive() else None

    def alive(self) -> bool:
        """Whether it runs."""
        return self.pid is not None

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until `ready()`; raise ServerError if it dies first or takes longer, and leave nothing running."""
        deadline = time.monotonic() + seconds
        while not ready():
            died = not self.alive()
            if died or time.monotonic() > deadline:
                code = self._child.poll() if self._child else None
                why = f"ended with status {code}" if died else f"was not ready within {seconds:.0f} s"
                message = f"{self.name} {why}; the end of its log ({self.log}):\n{tail(self.log)}"
                self.kill()
                raise ServerError(message)
            time.sleep(0.02)

    def stop(self, seconds: float = 10.0) -> None:
        """End it: its own signal first, SIGKILL after `seconds`."""
        if self.identity is not None:
            end(self.identity, self.stop_signal, seconds)
        self._reap()

    def kill(self) -> None:
        """SIGKILL, it and its children at once: what a power cut does to the processes."""
        if self.identity is not None:
            self.identity.send(signal.SIGSTOP)  # so that it starts no child meanwhile
            children = self.identity.descendants()
            self.identity.send(signal.SIGKILL, wait=10)
            for child in children:
                child.send(signal.SIGKILL, wait=10)
        self._reap()

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait()
            self._child = None
        self.identity = None
        self.record.unlink(missing_ok=True)


def end(identity: Identity, stop_signal: signal.Signals, seconds: float) -> None:
    """End a process by its clean signal, and by SIGKILL with its children if that takes longer than `seconds`."""
    if not identity.send(stop_signal, wait=seconds):
        for straggler in [*identity.descendants(), identity]:
            straggler.send(signal.SIGKILL, wait=10)


def write_record(process: Process) -> None:
    """Write down how to find the process again; whole or not at all."""
    assert process.identity is not None
    record = {
        "name": process.name,
        "pid": process.identity.pid,
        "started": process.identity.started,
        "signal": int(process.stop_signal),
        "log": os.fspath(process.log),
        "owner": process.owner and [process.owner.pid, process.owner.started],
    }
    process.record.parent.mkdir(parents=True, exist_ok=True)
    part = process.record.with_suffix(".part")
    part.write_text(json.dumps(record))
    part.replace(process.record)


@dataclass(frozen=True)
class Recorded:
    """A process as its record tells."""

    name: str
    identity: Identity
    stop_signal: signal.Signals
    log: Path
    owner: Identity | None
    record: Path

    def stop(self, seconds: float = 10.0) -> None:
        """End it if it is still the very process, then forget it."""
        end(self.identity, self.stop_signal, seconds)
        self.record.unlink(missing_ok=True)


def recorded(run: Path) -> list[Recorded]:
    """Every process recorded in a folder, alive or not."""
    found = []
    for path in sorted(run.glob("*.json")):
        with suppress(OSError, ValueError, KeyError):
            data = json.loads(path.read_text())
            owner = data["owner"] and Identity(*data["owner"])
            identity = Identity(data["pid"], data["started"])
            found.append(
                Recorded(data["name"], identity, signal.Signals(data["signal"]), Path(data["log"]), owner, path)
            )
    return found


def sweep(run: Path) -> None:
    """End the recorded processes whose owner is gone: a test run that was killed could not end its servers."""
    for process in recorded(run):
        if process.owner is None or not process.owner.alive():
            process.stop()
