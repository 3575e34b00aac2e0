"""Brings the server programs, once: each part is made beside its place and renamed into it, so it is whole or absent.

A part's folder name ends in a hash of everything its content depends on (recipe, place, machine): a changed recipe
fetches again, an unchanged one never. Running the programs is left to `servers`.
"""

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from local import debian
from local.commands import Commands, all_done
from local.paths import LocalError, folder, locked, store

POM = Path(__file__).with_name("kafka-pom.xml")
FORMAT = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:9093
listeners=CLIENT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENT
log.dirs=data
"""
JAVA_OLDEST = 17
POSTGRES = 17
MOSQUITTO_OLDEST = (2, 0, 18)  # older ones lose or reorder queued messages over a restart
OTHER_WAY = "or use `docker compose up`"


class MissingPrerequisiteError(LocalError):
    """Something of the host that is needed is not there; the sentence says what to install."""


@dataclass(frozen=True)
class Installation:
    """Where the programs are. `java_env` goes into the environment of `java`."""

    postgres: Path  # the folder of postgres and initdb
    mosquitto: Path
    java: Path
    java_env: tuple[tuple[str, str], ...]
    kafka: Path  # the folder with Kafka's jars

    kafka_checkpoint: Path  # bootstrap.checkpoint of a freshly formatted data folder

    @property
    def classpath(self) -> str:
        """Kafka's jars in a fixed order."""
        return classpath(self.kafka)


def classpath(jars: Path) -> str:
    """The jars of a folder in a fixed order."""
    return os.pathsep.join(str(jar) for jar in sorted(jars.glob("*.jar")))


def part(name: str, recipe: bytes, make: Callable[[Path, Path], None]) -> Path:
    """The folder `name`-<hash>, made by `make(temporary, final)` if it is not there yet."""
    parts = folder(store() / "parts").resolve()
    digest = hashlib.sha256(recipe + os.fsencode(parts) + platform.machine().encode()).hexdigest()[:12]
    final = parts / f"{name}-{digest}"
    if final.is_dir():
        return final
    with locked(name, parts.parent):  # beside the parts: stacks in other places may share them
        if final.is_dir():
            return final
        for leftover in parts.glob(f"{name}-*"):  # of an interrupted fetch (SIGKILL), or made by an older recipe
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(dir=parts, prefix=f"{name}-", suffix=".part"))
        try:
            temporary.chmod(0o755)
            make(temporary, final)
            temporary.replace(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return final


def _version(program: str | Path, pattern: str, *flags: str) -> tuple[int, ...]:
    try:
        run = subprocess.run([program, *flags], capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ()
    found = re.search(pattern, run.stdout + run.stderr)
    return tuple(int(number) for number in found.groups()) if found else ()


def system_java() -> Path | None:
    """The host's own Java if it is new enough."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    version = _version(found, r'version "(\d+)', "-version") if found else ()
    return Path(found) if found and version >= (JAVA_OLDEST,) else None


def system_servers() -> tuple[Path, Path] | None:
    """PostgreSQL 17 with TimescaleDB and a usable Mosquitto on the PATH: (folder of postgres, mosquitto)."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/postgresql/{POSTGRES}/bin"
    postgres, mosquitto = shutil.which("postgres", path=path), shutil.which("mosquitto", path=path)
    if not postgres or not mosquitto or not shutil.which("initdb", path=str(Path(postgres).resolve().parent)):
        return None
    extensions = _extension_folder(Path(postgres).resolve().parent)
    if _version(postgres, r"\) (\d+)", "--version") != (POSTGRES,) or extensions is None:
        return None
    if _version(mosquitto, r"mosquitto version (\d+)\.(\d+)\.(\d+)", "-h") < MOSQUITTO_OLDEST:
        return None
    return Path(postgres).resolve().parent, Path(mosquitto)


def _extension_folder(binaries: Path) -> Path | None:
    share = (
        subprocess.run([binaries / "pg_config", "--sharedir"], capture_output=True, text=True, check=False)
        if (binaries / "pg_config").exists()
        else None
    )
    control = Path(share.stdout.strip() if share else "") / "extension/timescaledb.control"
    return control.parent if control.is_file() else None


def _servers(commands: Commands, report: Callable[[str], None]) -> tuple[Path, Path]:
    if debian.available():

        def make(temporary: Path, final: Path) -> None:
            report("fetching PostgreSQL, TimescaleDB and Mosquitto (37 MB) …")
            debian.fetch_servers(commands, temporary, final)

        root = part("servers", debian.RECIPE, make)
        return root / "usr/lib/postgresql/17/bin", root / "usr/sbin/mosquitto"
    if found := system_servers():
        return found
    raise MissingPrerequisiteError(
        "neither Debian's apt nor PostgreSQL 17 with TimescaleDB and Mosquitto >= 2.0.18 on the PATH: install "
        f"postgresql-17, timescaledb and mosquitto, {OTHER_WAY}"
    )


def _java(commands: Commands, report: Callable[[str], None]) -> tuple[Path, tuple[tuple[str, str], ...], list[str]]:
    """(java, its environment, the command that starts Maven)."""
    java, maven = system_java(), shutil.which("mvn")
    if java and maven:
        return java, (), [maven]
    if not debian.available():
        lacking = " and ".join([*([] if java else ["Java 17 or newer"]), *([] if maven else ["Maven"])])
        raise MissingPrerequisiteError(
            f"{lacking} not found and no Debian apt to get it from: install openjdk-17-jre-headless (or newer) and "
            f"maven, {OTHER_WAY}"
        )

    def make(temporary: Path, final: Path) -> None:
        report("fetching Java and Maven …")
        debian.fetch_java(commands, temporary, final)

    root = part("java", b"1", make)
    found = sorted(root.glob("usr/lib/jvm/java-*-openjdk-*/bin/java"))
    own = java or (found[-1] if found else None)
    if own is None or _version(own, r'version "(\d+)', "-version") < (JAVA_OLDEST,):
        raise MissingPrerequisiteError(f"this Debian release has no Java {JAVA_OLDEST}: install one, {OTHER_WAY}")
    libraries = "" if java else debian.library_folders(root)
    environment = (("LD_LIBRARY_PATH", libraries),) if libraries else ()
    home = root / "usr/share/maven"
    launcher = next(iter(sorted((home / "boot").glob("plexus-classworlds*.jar"))))
    trust = [] if java else [f"-Djavax.net.ssl.trustStore={root / 'cacerts'}", "-Djavax.net.ssl.trustStoreType=jks"]
    return (
        own,
        environment,
        [
            *(str(own), *trust, "-classpath", str(launcher), f"-Dclassworlds.conf={home / 'bin/m2.conf'}"),
            *(f"-Dmaven.home={home}", f"-Dmaven.multiModuleProjectDirectory={root}"),
            "org.codehaus.plexus.classworlds.launcher.Launcher",
        ],
    )


def _kafka(commands: Commands, report: Callable[[str], None]) -> tuple[Path, tuple[tuple[str, str], ...], Path]:
    java, environment, maven = _java(commands, report)

    def make(temporary: Path, _: Path) -> None:
        report("fetching Kafka (43 MB) …")
        repository = temporary / "repository"
        jars = temporary / "libs"
        shutil.copyfile(POM, temporary / "pom.xml")
        commands.run(
            [
                *(*maven, "-q", "-B", f"-Dmaven.repo.local={repository}", f"-DoutputDirectory={jars}"),
                *("-DincludeScope=runtime", "dependency:copy-dependencies"),
            ],
            what="mvn dependency:copy-dependencies",
            cwd=temporary,
            env=dict(environment),
        )
        shutil.rmtree(repository)
        # Formatting takes a JVM; its one result that is no plain text is the same for every data folder: made once.
        (temporary / "server.properties").write_text(FORMAT)
        commands.run(
            [
                *(java, "-cp", classpath(jars), "kafka.tools.StorageTool"),
                *("format", "-t", "A" * 22, "-c", "server.properties"),
            ],
            what="formatting Kafka's storage",
            cwd=temporary,
            env=dict(environment),
        )

    return java, environment, part("kafka", POM.read_bytes() + FORMAT.encode(), make)


@functools.cache
def install(report: Callable[[str], None] = lambda _: None) -> Installation:
    """Every program, fetched if need be (about 15 s with a near mirror). MissingPrerequisiteError, LocalError."""
    with locked("fetch"), Commands() as commands, ThreadPoolExecutor(2) as pool:
        try:
            servers = pool.submit(_servers, commands, report)
            kafka = pool.submit(_kafka, commands, report)
            all_done([servers, kafka])
        except BaseException:
            commands.__exit__()  # the other download ends now, not when it is done
            raise
    postgres, mosquitto = servers.result()
    java, environment, root = kafka.result()
    return Installation(postgres, mosquitto, java, environment, root / "libs", root / "data/bootstrap.checkpoint")


def _apart(name: str, recipe: bytes, fetch: Callable[[Commands, Path, Path], None], report: Callable[[], None]) -> Path:
    """A part that few need, fetched from Debian when first asked for."""

    def make(temporary: Path, final: Path) -> None:
        report()
        fetch(commands, temporary, final)

    with locked(f"fetch-{name}"), Commands() as commands:
        return part(name, recipe, make)


@functools.cache
def prometheus(report: Callable[[str], None] = lambda _: None) -> Path:
    """The folder of prometheus and promtool, fetched when first asked for. MissingPrerequisiteError, LocalError."""
    if debian.available():
        saying = functools.partial(report, "fetching Prometheus (40 MB) …")
        return _apart("prometheus", debian.PROMETHEUS_RECIPE, debian.fetch_prometheus, saying) / "usr/bin"
    found = shutil.which("prometheus")
    if found and shutil.which("promtool", path=str(Path(found).parent)):
        return Path(found).parent
    raise MissingPrerequisiteError(
        f"neither Debian's apt nor prometheus and promtool on the PATH: install prometheus, {OTHER_WAY}"
    )


@functools.cache
def compose(report: Callable[[str], None] = lambda _: None) -> Path:
    """Docker Compose, fetched when first asked for: for reading compose files, not for starting anything.

    Raises MissingPrerequisiteError and LocalError.
    """
    if debian.available():
        saying = functools.partial(report, "fetching Docker Compose (15 MB) …")
        return _apart("compose", debian.COMPOSE_RECIPE, debian.fetch_compose, saying) / debian.COMPOSE
    if own := shutil.which("docker-compose"):
        return Path(own)
    raise MissingPrerequisiteError("neither Debian's apt nor docker-compose on the PATH: install Docker Compose 2")
