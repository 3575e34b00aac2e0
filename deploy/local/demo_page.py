"""The demo's terminal page: a table of the cities, and how to look for oneself. It only draws."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

QUESTION = (
    "select city, device, round(value::numeric, 2) as metres, age from hanse.latest "
    "where property = 'water_level' order by city, device"
)


@dataclass(slots=True)
class Line:
    """One city, or all of them. `rate` in messages/s, latencies in ms, the others in readings since the start."""

    name: str
    rate: float = 0.0
    stored: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    ignored: int = 0
    in_flight: int = 0
    unaccounted: int = 0
    p50: float | None = None
    p99: float | None = None


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def look(dsn: str, metrics: Mapping[str, str]) -> list[str]:
    """How to look: a query worth running, then where each process shows its metrics."""
    command = f'psql {shlex.quote(dsn)} -c "{QUESTION}"'
    return [command, *(f"http://{address}/metrics  {name}" for name, address in sorted(metrics.items()))]


def page(lines: Sequence[Line], total: Line, footer: str) -> Group:
    """The whole page."""
    table = Table(
        title="Smarte Hanse: seven cities, live",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    table.add_column("city", footer=total.name, no_wrap=True)
    every = (*lines, total)
    columns = (  # headers of two lines: the page fits 80 columns
        ("messages\na second", [f"{each.rate:.0f}" for each in every]),
        ("\nstored", [f"{each.stored:,}" for each in every]),
        ("dupli-\ncates", [f"{each.duplicate:,}" for each in every]),
        ("dead\nletters", [f"{each.dead_lettered:,}" for each in every]),
        ("in\nflight", [f"{each.in_flight:,}" for each in every]),
        ("unac-\ncounted", [f"{each.unaccounted:,}" for each in every]),
        ("p50\nms", [_ms(each.p50) for each in every]),
        ("p99\nms", [_ms(each.p99) for each in every]),
    )
    table.show_footer = True
    for name, cells in columns:
        table.add_column(name, footer=cells[-1], justify="right", no_wrap=True)
    for number, each in enumerate(lines):
        style = "bold red" if each.unaccounted else ""
        table.add_row(each.name, *(cells[number] for _, cells in columns), style=style)
    notes = Text("p50, p99: from publication to visible in SQL. In flight: not there yet.", style="dim")
    return Group(table, notes, Text(f"\n{footer}", style="bold"))


def plain(total: Line, seconds: float) -> str:
    """The page in one line, for a log."""
    return (
        f"{seconds:5.0f} s  {total.rate:.0f} messages/s  {total.stored} stored  {total.duplicate} duplicates  "
        f"{total.dead_lettered} dead letters  {total.ignored} ignored  {total.in_flight} in flight  "
        f"{total.unaccounted} unaccounted  p50 {_ms(total.p50)} ms  p99 {_ms(total.p99)} ms"
    )
