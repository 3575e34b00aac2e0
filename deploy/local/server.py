"""What Mosquitto, Kafka and PostgreSQL have in common: a folder, a port, a log, and the ways to start and end."""

import shutil
import signal
import socket
from pathlib import Path
from typing import Self

from local import fetch
from local.paths import account, folder, free_port, give, is_free, reachable
from local.process import Identity, Process, ServerError, end

START_SECONDS = 60.0  # a cold start on a busy machine; a server that dies is noticed at once


class Server:
    """One server with its data in `directory` and on one port of loopback, which it keeps over a restart."""

    kind = "server"
    stop_signal = signal.SIGTERM
    discard_signal = signal.SIGTERM

    def __init__(
        self, directory: Path, *, name: str | None = None, run: Path | None = None, owner: Identity | None = None
    ) -> None:
        self.name = name or self.kind
        self.directory = directory.absolute()
        self._run = run or self.directory
        self._owner = owner
        self._process: Process | None = None
        self.port = self._port()

    @property
    def log(self) -> Path:
        """Its log, of all starts."""
        return self.directory / f"{self.kind}.log"

    @property
    def pid(self) -> int | None:
        """Its pid while it runs."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.pid is not None

    def start(self) -> Self:
        """Start it on its port and its data; returns once it really answers. ServerError with the log's tail if not."""
        programs = fetch.install()
        self.make_folder(self.directory)
        if not reachable(self.directory) and account() is not None:
            raise ServerError(
                f"{self.name}: root's servers run as the user '{account().name}', who may not enter {self.directory}; "  # type: ignore[union-attr]
                "choose a folder open to others"
            )
        if not self.alive and not is_free(self.port):
            raise ServerError(f"{self.name}: port {self.port} of 127.0.0.1 is taken by another program; end that")
        (self.directory / "port").write_text(str(self.port))
        self.log.touch()
        give(self.log)
        self._log_start = self.log.stat().st_size
        self._process = Process(
            name=self.name,
            argv=self.prepare(programs),
            log=self.log,
            record=self._run / f"{self.name}.json",
            cwd=self.directory,
            env={"LC_ALL": "C.UTF-8", **self.environment(programs)},
            unprivileged=True,
            stop_signal=self.stop_signal,
            owner=self._owner,
        )
        self._process.spawn()
        try:
            self._process.wait_until(self.ready, seconds=START_SECONDS)
        except BaseException:
            self._process.kill()
            raise
        self.started()
        return self

    def stop(self, seconds: float = 15.0) -> None:
        """End it cleanly; data and port stay for the next `start`."""
        if self._process:
            self._process.stop(seconds)

    def kill(self) -> None:
        """SIGKILL to all its processes: a crash. Data and port stay."""
        if self._process:
            self._process.kill()

    def freeze(self) -> None:
        """SIGSTOP: it holds its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """End it the fastest way that leaves nothing behind (shared memory, say) and forget its data."""
        if self._process and self._process.identity:
            self.thaw()
            end(self._process.identity, self.discard_signal, 5)
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def prepare(self, programs: fetch.Installation) -> list[str | Path]:
        """Write what it needs into its folder and give the command line, run in that folder."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it answers as it should."""
        raise NotImplementedError

    def environment(self, programs: fetch.Installation) -> dict[str, str]:  # noqa: ARG002  (Kafka's needs them)
        """Environment variables of its own."""
        return {}

    def started(self) -> None:
        """What is left to do once it answers."""

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Write a file into its folder, readable by the server."""
        path = self.directory / name
        path.unlink(missing_ok=True)
        path.touch(mode)  # a secret is never readable by others, not even empty
        path.write_text(text, encoding="utf-8")
        give(path)
        return path

    def make_folder(self, path: Path) -> None:
        """Make a folder that belongs to the server's account."""
        folder(path, 0o755)
        give(path)

    def logged(self, text: str) -> bool:
        """Whether the log of this start holds `text`."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return text.encode() in file.read()

    def connects(self) -> bool:
        """Whether the port takes a TCP connection."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
        except OSError:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self._process.identity:
            for one in [self._process.identity, *self._process.identity.descendants()]:
                one.send(number)

    def _port(self) -> int:
        try:
            kept = int((self.directory / "port").read_text())
        except (OSError, ValueError):
            return free_port()
        return kept if is_free(kept) else free_port()
