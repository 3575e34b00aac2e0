"""Starts the Community edition for tests: fetched by npm once, then run by node. Says why where it can't."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from local import fetch, paths
from local.process import Identity, Process

HERE = Path(__file__).parent
FILES = ("package.json", "server.mjs")
NODE_OLDEST = 18
READY_SECONDS = 60.0


class NoEngineError(RuntimeError):
    """The engine can't run here; the sentence says what is missing."""


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise NoEngineError(f"the Community edition needs {name}, which is not on the PATH; install Node.js with npm")
    return found


def install() -> Path:
    """The folder with the packages and the server."""
    node, npm = _program("node"), _program("npm")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < NODE_OLDEST:
        raise NoEngineError(f"the Community edition needs Node.js {NODE_OLDEST} or newer, this is {version}")

    def make(temporary: Path, _: Path) -> None:
        for file in FILES:
            shutil.copy(HERE / file, temporary)
        argv = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(argv, cwd=temporary, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoEngineError(f"npm could not fetch the Community edition: {done.stderr.strip()[-1_000:]}")

    return fetch.part("pglite", b"".join((HERE / file).read_bytes() for file in FILES), make)


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """The address of an empty database, gone at the end."""
    folder, port = install(), paths.free_port()
    log = directory / "pglite.log"
    process = Process(
        name="pglite",
        argv=[_program("node"), str(folder / "server.mjs"), str(port)],
        log=log,
        record=directory / "pglite.json",
        cwd=folder,
        env={},
        owner=Identity.of(os.getpid()),
    )
    passfile = directory / "passfile"
    passfile.touch(0o600)
    passfile.write_text("*:*:*:*:any\n")  # it asks for a password and takes every one
    process.spawn()
    try:
        process.wait_until(lambda: "ready" in log.read_text(), seconds=READY_SECONDS)
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable&passfile={quote(str(passfile))}"
    finally:
        process.stop()
