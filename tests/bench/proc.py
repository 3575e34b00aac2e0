"""What processes cost, read from /proc: CPU of a process and its children, and the most memory one of them held.

Parsing is apart from reading, so that it can be tested on text.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")


class Stat(NamedTuple):
    """The part of /proc/PID/stat that counts; CPU in ticks. `reaped`: of children that ended and were waited for."""

    pid: int
    parent: int
    own: int
    reaped: int


def parse_stat(text: str) -> Stat:
    """Fields are counted behind the last parenthesis: the name between may hold blanks and parentheses."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    utime, stime, cutime, cstime = (int(field) for field in fields[11:15])
    return Stat(int(head.split(" ", 1)[0]), int(fields[1]), utime + stime, cutime + cstime)


def parse_peak_kb(text: str) -> int:
    """VmHWM of /proc/PID/status in kB; 0 for a process without memory (a kernel thread, a zombie)."""
    for line in text.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def tree(stats: Sequence[Stat], roots: Sequence[int]) -> list[Stat]:
    """The processes `roots` and everything below them."""
    children: dict[int, list[Stat]] = {}
    for stat in stats:
        children.setdefault(stat.parent, []).append(stat)
    found, open_ = [], [stat for stat in stats if stat.pid in set(roots)]
    while open_:
        stat = open_.pop()
        found.append(stat)
        open_ += children.get(stat.pid, [])
    return found


def _stats() -> list[Stat]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            found.append(parse_stat((process / "stat").read_text(encoding="utf-8", errors="replace")))
    return found


@dataclass(frozen=True, slots=True)
class Meter:
    """Adds up processes by kind. `apart`: pids that belong to the measuring itself (the harness's database session)."""

    kinds: Mapping[str, Sequence[int]]  # kind -> root pids
    apart: frozenset[int] = frozenset()

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds by kind since the processes began. Children that ended count at their parent."""
        stats = [stat for stat in _stats() if stat.pid not in self.apart]
        return {
            kind: sum(stat.own + stat.reaped for stat in tree(stats, roots)) / TICKS
            for kind, roots in self.kinds.items()
        }

    def peak_mb(self) -> dict[str, float]:
        """By kind, the peak resident memory of its largest process (shared memory would count twice in a sum)."""
        stats = [stat for stat in _stats() if stat.pid not in self.apart]
        peaks = {}
        for kind, roots in self.kinds.items():
            sizes = [0]
            for stat in tree(stats, roots):
                with suppress(OSError):
                    sizes.append(parse_peak_kb(Path(f"/proc/{stat.pid}/status").read_text(encoding="utf-8")))
            peaks[kind] = max(sizes) / 1024
        return peaks
