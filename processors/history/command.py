"""`hanse-processor import`: history files into the database, with progress for a person and a table at the end."""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import click
import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ingest.city import City
from processors.cities import PROPERTIES, limits
from processors.history.chunk import FileError, HistoryFile
from processors.history.csv_file import CsvFile
from processors.history.intake import Intake, Origin, Window
from processors.history.loading import Bounds, Load, Report, rehearse, sha256
from processors.history.parquet_file import ParquetFile
from processors.pipeline import patiently
from processors.standard import times
from processors.standard.observation import Reason
from processors.stations import Stations
from storage.imports import known
from storage.rows import NO_QUOTA
from storage.timescale import Writer

log = structlog.get_logger()

EARLIEST = "2020-01-01T00:00:00Z"  # what the table takes at all
# A chunk's rows are many objects without a cycle among them: looking for one every 700 doubles the cost of a row.
GARBAGE_THRESHOLD = 200_000
PARQUET_MAGIC = b"PAR1"
QUIET_SECONDS = 10.0  # between two lines of progress where nobody looks at a bar

Watch = Callable[[Report, float], None]


class Options(NamedTuple):
    """What the command line says."""

    since: int
    max_rejected: int
    dry_run: bool


def since(text: str) -> int:
    """`--since`: a day (its beginning in UTC) or an RFC 3339 time. Raises FileError."""
    with suppress(ValueError):
        return round(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * 1_000_000
    found = times.parse(text)
    if isinstance(found, Reason):
        raise FileError(f"--since {text!r} is neither a day (2021-05-01) nor a time with a zone (2021-05-01T00:00:00Z)")
    return found


def run(database_dsn: str, city: City, paths: Sequence[Path], options: Options) -> int:
    """Import the files one after the other; the exit code: 0 all in, 3 rows were refused.

    Raises FileError, StoppedError, Refused.
    """
    gc.set_threshold(GARBAGE_THRESHOLD, 10, 10)
    console = Console(stderr=True)
    with _progress(console) as progress:
        files = [(path, *_open(path, progress)) for path in paths]
        reports = asyncio.run(_all(database_dsn, city, files, options, progress))
    for (path, origin, _), report in zip(files, reports, strict=True):
        _show(console, path, origin, report, tried=options.dry_run)
    return 3 if any(report.rejected for report in reports) else 0


def _open(path: Path, progress: Progress) -> tuple[Origin, HistoryFile]:
    """Look at the file before anything connects: form, columns, hash."""
    try:
        with path.open("rb") as head:
            parquet = head.read(4) == PARQUET_MAGIC
        file: HistoryFile = ParquetFile(path) if parquet else CsvFile(path)
        task = progress.add_task(f"hashing {path.name}", total=path.stat().st_size, rows="", rejected="")
        origin = Origin(path.name, sha256(path, lambda read: progress.update(task, completed=read)))
        progress.remove_task(task)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    except FileError as error:
        raise FileError(f"{path}: {error}") from error
    return origin, file


async def _all(
    dsn: str,
    city: City,
    files: Sequence[tuple[Path, Origin, HistoryFile]],
    options: Options,
    progress: Progress,
) -> list[Report]:
    window = Window(options.since, time.time_ns() // 1_000)
    if options.dry_run:
        return [
            rehearse(file, Intake(city, origin, window), _watch(progress, path, rows=0)) for path, origin, file in files
        ]
    writer = Writer(dsn, application_name="hanse-import")
    try:
        await patiently(lambda: _register(writer, city))
        reports = []
        for path, origin, file in files:
            there = await known(dsn, origin.partition.topic)
            if there.city not in {None, city.key}:
                raise FileError(f"{path}: the very same file was imported for {there.city}; whose readings are these?")
            if options.since < there.retained_from:
                log.warning(
                    "readings before what the database keeps will be refused (before_retention): raise --since, or the "
                    "retention of raw readings first",
                    kept_from=times.rfc3339(there.retained_from),
                )
            load = Load(
                file,
                origin.partition,
                Intake(city, origin, window),
                writer,
                bounds=Bounds(options.max_rejected, city.limits.dead_letter_bytes),
                watch=_watch(progress, path, rows=0),
            )
            try:
                reports.append(await load.run())
            except FileError as error:
                raise FileError(f"{path}: {error}") from error
        return reports
    finally:
        await writer.close()


async def _register(writer: Writer, city: City) -> None:
    await writer.connect()
    exempt = [one._replace(new_datastreams_per_hour=NO_QUOTA) for one in limits([city])]
    await writer.register(exempt, PROPERTIES, Stations([city]).facts)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]}"),
        TextColumn("[red]{task.fields[rejected]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _watch(progress: Progress, path: Path, *, rows: int) -> Watch:
    """A bar on a terminal, else a line in the log now and then."""
    task = progress.add_task(path.name, total=1.0, rows=f"{rows:,} rows", rejected="")
    said = time.monotonic()

    def tell(report: Report, share: float) -> None:
        nonlocal said
        refused = report.rejected.total()
        progress.update(
            task, completed=share, rows=f"{report.rows:,} rows", rejected=f"{refused:,} refused" if refused else ""
        )
        if progress.disable and time.monotonic() - said > QUIET_SECONDS:
            said = time.monotonic()
            log.info("importing", file=path.name, rows=report.rows, refused=refused, percent=round(share * 100))

    return tell


def _show(console: Console, path: Path, origin: Origin, report: Report, *, tried: bool) -> None:
    table = Table("rows", "", title=f"{path.name}{' (nothing was written)' if tried else ''}", title_justify="left")
    table.columns[1].justify = "right"
    table.add_row("in already, before this run", f"{report.before:,}")
    table.add_row("taken in", f"{report.rows:,}")
    table.add_row("  would be stored" if tried else "  stored", f"{report.stored:,}")
    table.add_row("  stored before, the same value", f"{report.duplicate:,}")
    if report.blank:
        table.add_row("  blank lines", f"{report.blank:,}")
    for reason, count in report.rejected.most_common():
        table.add_row(f"  refused: {reason}", f"{count:,}", style="red")
    console.print(table)
    for letter in sorted(report.shown, key=lambda one: one.offset):
        click.echo(f"{path.name}:{letter.offset}: {letter.reason}: {letter.detail}", err=True)
    refused = report.rejected.total()
    if refused > len(report.shown) and not tried:
        topic = origin.partition.topic
        click.echo(f"… and more; all of them are in hanse.dead_letters, where topic is {topic!r}", err=True)
