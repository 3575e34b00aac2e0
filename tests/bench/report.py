"""The benchmark's two outputs: a table for people and build/bench/latest.json for machines."""

import json
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Result

KINDS = ("gateway", "processor", "mosquitto", "kafka", "postgres", "load")


def write(path: Path, results: Mapping[str, Result]) -> None:
    """Replace the file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({name: result.as_json() for name, result in results.items()}, indent=2) + "\n")
    part.replace(path)


def show(console: Console, results: Mapping[str, Result]) -> None:
    """One column a workload."""
    table = Table(title="end to end, visible in SQL", title_justify="left")
    table.add_column("")
    for name in results:
        table.add_column(name, justify="right")

    def line(label: str, *values: str) -> None:
        table.add_row(label, *values)

    found = list(results.values())
    line("messages/s", *(f"{one.messages_per_s:,.0f}" for one in found))
    line("readings/s", *(f"{one.readings_per_s:,.0f}" for one in found))
    line("raw COPY, rows/s", *(f"{one.copy_rows_per_s:,.0f}" for one in found))
    line("efficiency", *(f"{one.efficiency:.2f}" for one in found))
    line("latency p50 at half load, ms", *(f"{one.p50_ms:.1f}" for one in found))
    line("latency p99 at half load, ms", *(f"{one.p99_ms:.1f}" for one in found))
    line("WAL bytes a reading", *(f"{one.wal_bytes_per_reading:.0f}" for one in found))
    table.add_section()
    for kind in KINDS:
        line(f"{kind}: CPU µs a message", *(f"{one.cpu_us_per_message[kind]:.1f}" for one in found))
    line(
        "gateway + processor",
        *(f"{one.cpu_us_per_message['gateway'] + one.cpu_us_per_message['processor']:.1f}" for one in found),
    )
    table.add_section()
    for kind in KINDS:
        line(f"{kind}: CPU µs a reading", *(f"{one.cpu_us_per_reading[kind]:.2f}" for one in found))
    table.add_section()
    for kind in KINDS:
        line(f"{kind}: peak RSS, MB", *(f"{one.rss_mb[kind]:.0f}" for one in found))
    table.add_section()
    line("books", *("[green]balanced" if one.balanced else "[red]NOT BALANCED" for one in found))
    console.print(table)
    for name, one in results.items():
        for fault in one.faults:
            console.print(f"[red]{name}: not so: {fault}", highlight=False)
