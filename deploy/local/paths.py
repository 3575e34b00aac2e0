"""Where the local servers keep their things, as whom they run, and which ports are free."""

import fcntl
import functools
import hashlib
import os
import pwd
import random
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("HANSE_SERVERS_DIR") or CHECKOUT / ".servers").absolute()
OWNED = HOME / "run/owned"  # records of processes that must not outlive the one that started them
# Below Linux' range of ephemeral ports (32768 and up): no outgoing connection takes a port between choice and bind.
PORTS = range(20_000, 32_000)


class LocalError(Exception):
    """Something about the local servers that a sentence explains; shown without a traceback."""


@dataclass(frozen=True)
class Account:
    """Whom servers run as when root starts them."""

    name: str
    uid: int
    gid: int


@functools.cache
def account() -> Account | None:
    """The user for the servers: oneself, or for root a user made for them (PostgreSQL refuses root). None: oneself."""
    if os.geteuid() != 0:
        return None
    wanted = os.environ.get("HANSE_SERVERS_USER", "hanse")
    try:
        entry = pwd.getpwnam(wanted)
    except KeyError:
        useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        made = useradd and not subprocess.call(
            [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", wanted],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        entry = pwd.getpwnam(wanted if made else "nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def as_account() -> dict[str, Any]:
    """Arguments for subprocess that run a program as the servers' account."""
    owner = account()
    return {} if owner is None else {"user": owner.uid, "group": owner.gid, "extra_groups": []}


def reachable(path: Path) -> bool:
    """Whether another user may pass through every folder that exists on the way to `path`."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents) if folder.exists())


@functools.cache
def store() -> Path:
    """Where programs and data lie: `.servers`, or for root in a checkout closed to others a folder of their own."""
    if account() is None or reachable(HOME):
        return HOME
    return Path("/var/lib/hanse-servers") / hashlib.sha256(os.fsencode(HOME)).hexdigest()[:12]


def give(path: Path) -> None:
    """Let the servers' account own `path` (a no-op for an ordinary user)."""
    owner = account()
    if owner is not None:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)


def folder(path: Path, mode: int = 0o755) -> Path:
    """Make a folder with exactly this mode, whatever the umask."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    return path


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT does not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_choosing = threading.Lock()
_given: set[int] = set()  # chosen by this process already, perhaps not bound yet


def free_port() -> int:
    """A port nobody listens on, another one each time."""
    for port in random.sample(PORTS, 200):
        with _choosing:
            if port not in _given and is_free(port):
                _given.add(port)
                return port
    raise LocalError("no free port between 20000 and 31999 on 127.0.0.1; end what occupies them")


@contextmanager
def locked(name: str, place: Path = HOME) -> Iterator[None]:
    """One at a time across processes; the kernel frees it however the holder ends."""
    folder(place)
    with (place / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
