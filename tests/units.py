"""The systemd units as a test reads them: settings in order, with the common drop-in, and what they start."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[1] / "deploy/systemd"
COMMON = FOLDER / "hanse-.service.d/10-hardening.conf"
BIN = "/opt/hanse/current/bin/"


class Unit(NamedTuple):
    """A service: its name and every (section.key, value) in order; a later Environment goes before an earlier one."""

    name: str
    settings: list[tuple[str, str]]

    def all(self, key: str) -> list[str]:
        return [value for name, value in self.settings if name == key]

    def last(self, key: str) -> str:
        return self.all(key)[-1]

    @property
    def command(self) -> list[str]:
        return shlex.split(self.last("Service.ExecStart"))

    @property
    def environment(self) -> dict[str, str]:
        return dict(value.split("=", 1) for value in self.all("Service.Environment"))

    @property
    def environment_files(self) -> list[Path]:
        """The examples of the files it reads, for an instance that has one."""
        wanted = [Path(path.lstrip("-")).name for path in self.all("Service.EnvironmentFile")]
        return [path for name in wanted for path in sorted((FOLDER / "etc").glob(name.replace("%i", "*")))]


def settings(path: Path) -> list[tuple[str, str]]:
    found, section = [], ""
    for line in path.read_text("utf-8").splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.append((f"{section}.{key}", value))
    return found


def env(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


# As systemd reads them: the unit, then the drop-in, whose single-valued settings win.
UNITS = {path.name: Unit(path.name, settings(path) + settings(COMMON)) for path in sorted(FOLDER.glob("*.service"))}
