"""`hanse-storage`: the schema, and what the database knows of the pipeline."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TypeVar

import click
from prometheus_client import REGISTRY, CollectorRegistry
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from service import logs
from service.build import announce
from service.cli import CONFIGURATION_ERROR, Program, fail
from service.http import AddressTakenError, Endpoints
from storage import data_commands, letters_cli, roles, settings, status
from storage import maintain as upkeep
from storage import migrate as migrations
from storage.errors import Refused, Unavailable
from storage.metrics import Upkeep
from storage.settings import PROGRAM

S = TypeVar("S", bound=settings.Settings)


@click.group(cls=Program)
def main() -> None:
    """Schema and state of the database. HANSE_DATABASE_DSN names it, the password comes from a passfile."""


def _settings() -> settings.Settings:
    return _settings_as(settings.Settings)


def _settings_as(kind: type[S]) -> S:
    try:
        found = settings.load_as(kind)
    except settings.SettingsError as error:
        fail(PROGRAM, CONFIGURATION_ERROR, error)
    logs.configure(level=found.log_level)
    return found


@main.command()
def migrate() -> None:
    """Bring the schema up to date; running it again changes nothing."""
    found = _settings()
    try:
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        ) as shown:
            bar = shown.add_task("looking at the schema", total=None)
            applied = migrations.migrate(
                found.database_dsn,
                progress=lambda one, done, total: shown.update(
                    bar, description=f"{one.version:04d}_{one.name}", completed=done, total=total
                ),
            )
    except (Refused, Unavailable) as error:
        fail(PROGRAM, 1, error)
        return
    for one in applied:
        click.echo(f"applied {one.version:04d}_{one.name}")
    if not applied:
        click.echo("the schema is up to date")


@main.command()
@click.option("--city", "cities", multiple=True, help="A city's key: it gets a role and views of its own. Repeatable.")
@click.option(
    "--passfiles",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder for password files: roles without a password get one.",
)
def init(*, cities: tuple[str, ...], passfiles: Path | None) -> None:
    """Make extension, roles and rights, as a superuser; running it again changes nothing, and adds new cities."""
    try:
        done = roles.init(_settings().database_dsn, cities, passfiles)
    except (Refused, Unavailable) as error:
        fail(PROGRAM, 1, error)
        return
    for file in done.passfiles:
        click.echo(f"wrote {file}")
    if done.without_password:
        click.echo(f"without a password, so nobody can log in as them yet: {', '.join(done.without_password)}")
    click.echo("roles and rights are in place")


@main.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def show_status(*, as_json: bool) -> None:
    """Counts, the ledger by partition, open dead letters by reason; exit code 2 where a record is unaccounted."""
    try:
        found = asyncio.run(status.read(_settings().database_dsn))
    except (Refused, Unavailable) as error:
        fail(PROGRAM, 1, error)
        return
    if as_json:
        click.echo(json.dumps(found, default=str))
    else:
        console = Console(width=None if sys.stdout.isatty() else status.WIDE)
        for table in status.tables(found, console.width):
            console.print(table)
    if any(row["unaccounted"] for row in found["ledger"]):
        sys.exit(2)


@main.command()
@click.option("--once", is_flag=True, help="One cycle, as soon as no other process maintains, then end.")
@click.option("--dry-run", is_flag=True, help="Say what would be dropped, deleted and compressed, and change nothing.")
def maintain(*, once: bool, dry_run: bool) -> None:
    """Keep hours, chunks and retention in order until SIGTERM; of several processes one works, the others wait."""
    found = _settings_as(settings.Maintain)
    try:
        if dry_run:
            Console().print(asyncio.run(upkeep.dry_run(found)))
        else:
            asyncio.run(_maintain(found, once=once))
    except (Refused, AddressTakenError) as error:
        fail(PROGRAM, CONFIGURATION_ERROR, error)
    except Unavailable as error:
        fail(PROGRAM, 1, error)


async def _maintain(found: settings.Maintain, *, once: bool) -> None:
    worker = upkeep.Maintainer(found, Upkeep(CollectorRegistry() if once else REGISTRY))  # one cycle serves nobody
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    if once:
        await worker.once()
        if worker.failed:
            raise Unavailable("; ".join(worker.failed))
        return
    announce("maintain")
    endpoints = Endpoints(found.http_address, unready=worker.unready)
    try:
        await worker.run()
    finally:
        endpoints.close()


main.add_command(letters_cli.group)
main.add_command(data_commands.export)
main.add_command(data_commands.forget)

if __name__ == "__main__":
    main()
