"""`hanse-storage`: the schema, and what the database knows of the pipeline."""

import asyncio
import json
import sys

import click
from rich.console import Console

from service import logs
from storage import letters_cli, settings, status
from storage import migrate as migrations
from storage.errors import Refused, Unavailable


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Schema and state of the database. HANSE_DATABASE_DSN names it, the password comes from a passfile."""


def _fail(error: Exception) -> None:
    click.echo(f"hanse-storage: {error}", err=True)
    sys.exit(1)


def _settings() -> settings.Settings:
    try:
        found = settings.load()
    except settings.SettingsError as error:
        _fail(error)
        raise
    logs.configure(level=found.log_level)
    return found


@main.command()
def migrate() -> None:
    """Bring the schema up to date; running it again changes nothing."""
    try:
        applied = migrations.migrate(_settings().database_dsn)
    except (Refused, Unavailable) as error:
        _fail(error)
        return
    for one in applied:
        click.echo(f"applied {one.version:04d}_{one.name}")
    if not applied:
        click.echo("the schema is up to date")


@main.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def show_status(*, as_json: bool) -> None:
    """Counts, the ledger by partition, open dead letters by reason; exit code 2 where a record is unaccounted."""
    try:
        found = asyncio.run(status.read(_settings().database_dsn))
    except (Refused, Unavailable) as error:
        _fail(error)
        return
    if as_json:
        click.echo(json.dumps(found))
    else:
        console = Console()
        for table in status.tables(found):
            console.print(table)
    if any(row["unaccounted"] for row in found["ledger"]):
        sys.exit(2)


main.add_command(letters_cli.group)

if __name__ == "__main__":
    main()
