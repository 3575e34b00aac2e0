"""`hanse-storage export` and `forget`: rows out for a person, and a person's rows gone."""

import json
import os
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from service import logs
from service.cli import CONFIGURATION_ERROR, fail
from storage import export as exporting
from storage import settings
from storage.errors import Refused, Unavailable
from storage.forget import Forgetting

ELSEWHERE = (
    "Not in the database, and not forgotten by this: what Kafka still holds (its retention, 14 days), messages "
    "retained by the city's MQTT broker, backups, files exported before. A device that goes on publishing is a new "
    "one: end that first, or route it to ignore."
)


def _dsn() -> str:
    try:
        found = settings.load()
    except settings.SettingsError as error:
        fail(settings.PROGRAM, CONFIGURATION_ERROR, error)
    logs.configure(level=found.log_level)
    return found.database_dsn


def _progress(console: Console) -> Progress:
    return Progress(
        *(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]}")),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@click.command()
@click.option("--city", required=True, help="Key of the city.")
@click.option("--property", "properties", multiple=True, help="Observed property; may be repeated. Without: all.")
@click.option("--from", "begin", required=True, help="First day (UTC) or time with a zone.")
@click.option("--to", "end", required=True, help="Day or time before which it ends.")
@click.option("--format", "kind", type=click.Choice(sorted(exporting.SINKS)), default="csv", show_default=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Without, or as -: standard output (CSV only).",
)
def export(city: str, properties: tuple[str, ...], begin: str, end: str, kind: str, output: Path | None) -> None:
    """Write a city's readings to a file that `hanse-processor import` reads; constant memory, whatever the size."""
    console = Console(stderr=True)
    dsn = _dsn()
    try:
        chosen = exporting.Selection(city, properties, exporting.time_of(begin), exporting.time_of(end))
        stream = output is None or str(output) == "-" or (output.exists() and not output.is_file())
        if stream and kind != "csv":
            raise Refused("Parquet needs a file it can go back in; name one with --output")  # noqa: TRY301
        if output is None or str(output) == "-":
            exporting.export(dsn, chosen, kind, sys.stdout.buffer)
        elif stream:  # a pipe, a device: not to be replaced by a file of its name
            with output.open("wb") as file:
                exporting.export(dsn, chosen, kind, file)
        else:
            rows = _to_file(dsn, chosen, kind, output.resolve(), console)
            console.print(f"{output}: {rows:,} rows")
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        fail(settings.PROGRAM, 1, f"{output or 'standard output'}: {error.strerror}")
    except (Refused, Unavailable) as error:
        fail(settings.PROGRAM, 1, error)


def _to_file(dsn: str, chosen: exporting.Selection, kind: str, output: Path, console: Console) -> int:
    """Write under another name, which becomes the file's once it is whole, or goes."""
    part = exporting.part_of(output)
    try:
        with _progress(console) as progress, part.open("wb") as file:
            task = progress.add_task(f"{chosen.city} → {output.name}", total=1.0, rows="")
            rows = exporting.export(
                dsn,
                chosen,
                kind,
                file,
                lambda rows, share: progress.update(task, completed=share, rows=f"{rows:,} rows"),
            )
            file.flush()
            os.fsync(file.fileno())
        part.replace(output)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return rows


@click.command()
@click.option("--city", required=True, help="Key of the city.")
@click.option("--device", required=True, help="The device's id, exactly as in hanse.datastreams.")
@click.option("--dry-run", is_flag=True, help="Say what there is and change nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def forget(city: str, device: str, *, dry_run: bool, yes: bool) -> None:
    """Remove all that the database holds of one device, for good: readings, hours, dead letters, states, its name.

    Runs beside a running pipeline. Prints the record that stays; keep it with the request. Interrupted: run it again.
    """
    console = Console(stderr=True)
    try:
        with Forgetting(_dsn(), city, device) as forgetting:
            plan = forgetting.plan()
            table = Table("what", "count", title=f"{city}: {device}", title_justify="left")
            for name, count in plan.items():
                table.add_row(name.replace("_", " "), f"{count:,}")
            if not any(plan.values()):
                raise Refused(  # noqa: TRY301
                    f"the database holds nothing of a device {device!r} in {city}; hanse.datastreams has their names"
                )
            console.print(table)
            if dry_run:
                console.print(ELSEWHERE)
                return
            if not yes:
                click.confirm("Remove it for good?", abort=True, err=True)
            with _progress(console) as progress:
                tasks = {n: progress.add_task(n, total=1.0, rows="") for n in ("observations", "hours")}

                def watch(name: str, share: float) -> None:
                    progress.update(tasks[name], completed=share)

                record = forgetting.run(watch)
    except (Refused, Unavailable) as error:
        fail(settings.PROGRAM, 1, error)
    click.echo(json.dumps(record))
    console.print(ELSEWHERE)
