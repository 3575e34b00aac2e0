"""`hanse-storage dead-letters`: what was refused and why, in full or counted, and purging it for good."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.console import Console

from service.cli import CONFIGURATION_ERROR, fail
from storage import letters, settings, showing, topics
from storage.errors import Refused, Unavailable

LETTER = click.IntRange(1, 2**63 - 1)
T = TypeVar("T")
Command = Callable[..., Any]


class When(click.ParamType[datetime]):
    """A time: RFC 3339, or without a zone UTC; or a date."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it, or say how to write it."""
        try:
            read = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; write 2026-11-23T10:00:00Z or 2026-11-23", param, ctx)
        return read if read.tzinfo else read.replace(tzinfo=UTC)


def _topic(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and (fault := topics.fault(value)):
        raise click.BadParameter(f"{value!r:.80}: {fault}")
    return value


def _until(context: click.Context, _: click.Parameter, value: datetime | None) -> datetime | None:
    since = context.params.get("since")  # eager, so it is there
    if value is not None and since is not None and since >= value:
        raise click.BadParameter(f"{value.isoformat()} is not after --since {since.isoformat()}")
    return value


def filters(command: Command) -> Command:
    """The options that choose letters; they arrive as `cities`, `reasons`, `since`, `until`, `topic` and `ids`."""
    for option in (
        click.option("--id", "ids", multiple=True, type=LETTER, help="This letter; may be repeated."),
        click.option("--topic", callback=_topic, help="MQTT topic, or a filter with + and #."),
        click.option("--until", type=When(), callback=_until, help="Received before then."),
        click.option("--since", type=When(), is_eager=True, help="Received then or later."),
        click.option("--reason", "reasons", multiple=True, help="This reason; may be repeated."),
        click.option("--city", "cities", multiple=True, help="This city; may be repeated."),
    ):
        command = option(command)
    return command


def _run(work: Callable[[letters.Connection], Coroutine[Any, Any, T]], cities: Sequence[str] = ()) -> T:
    async def inner(dsn: str) -> T:
        async with letters.opened(dsn) as conn:
            await letters.check_cities(conn, cities)
            return await work(conn)

    try:
        return asyncio.run(inner(settings.load().database_dsn))
    except settings.SettingsError as error:
        fail(settings.PROGRAM, CONFIGURATION_ERROR, error)
    except (Refused, Unavailable) as error:
        fail(settings.PROGRAM, 1, error)


def _json(letter: dict[str, Any]) -> str:
    shown = {name: value for name, value in letter.items() if name not in {"payload", "received_ms"}}
    shown["mqtt_topic"] = showing.masked_topic(letter["mqtt_topic"] or "")
    if "payload" in letter:
        shown["payload"] = showing.payload(letter["payload"])
    return json.dumps(shown, default=lambda value: value.isoformat(), ensure_ascii=False)


@click.group("dead-letters")
def group() -> None:
    """What was refused: kept whole, with its reason, until it is replayed or purged."""


@group.command("list")
@filters
@click.option("--state", type=click.Choice(letters.STATES), default="open", show_default=True)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Letters a page.")
@click.option("--after", "place", help="Go on where a page ended: the value it gave.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a letter.")
def show_list(state: str, limit: int, place: str | None, *, as_json: bool, **chosen: Any) -> None:
    """Show letters, the newest first, a page at a time."""
    wanted = letters.Wanted(state=state, **chosen)
    after = None
    if place is not None:
        time, _, number = place.partition("/")
        if not number.isdigit():
            raise click.BadParameter("the value that the page before gave, as in 2026-11-23T10:00:00+00:00/17")
        after = letters.Place(When().convert(time, None, None).isoformat(), int(number))
    found = _run(lambda conn: letters.page(conn, wanted, limit=limit, after=after), wanted.cities)
    if as_json:
        for letter in found:
            click.echo(_json(letter))
    else:
        console = Console()
        if not found:
            console.print("no letter is chosen")
        elif console.is_terminal:
            console.print(showing.listing(found, console.width))
        else:  # for grep and less: nothing is cut off
            console.print(showing.listing(found, 0), soft_wrap=True)
    if len(found) == limit:
        click.echo("more: --after " + "/".join(map(str, letters.Place.of(found[-1]))), err=True)


@group.command("show")
@click.argument("letter_id", type=LETTER)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show_one(letter_id: int, *, as_json: bool) -> None:
    """Show one letter with its message, secrets masked."""
    found = _run(lambda conn: letters.one(conn, letter_id))
    if found is None:
        click.echo(f"hanse-storage: no letter {letter_id}: it never was, or it was purged (see `stats`)", err=True)
        sys.exit(1)
    if as_json:
        click.echo(_json(found))
        return
    console = Console()
    console.print(showing.details(found))
    console.print()
    console.print(showing.payload(found["payload"]), markup=False, highlight=False)


@group.command("stats")
@click.option("--city", "cities", multiple=True, help="This city; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show_stats(cities: tuple[str, ...], *, as_json: bool) -> None:
    """Count letters by city, state and reason, and what was purged."""
    found = _run(lambda conn: letters.stats(conn, cities), cities)
    if as_json:
        click.echo(json.dumps(found, default=lambda value: value.isoformat()))
        return
    console = Console()
    console.print(showing.counts("Dead letters", found["letters"]))
    if found["purged"]:
        console.print(showing.counts("Purged", found["purged"]))


@group.command("purge")
@filters
@click.option("--state", type=click.Choice(letters.STATES), default="closed", show_default=True)
@click.option("--yes", is_flag=True, help="Don't ask.")
def purge(state: str, *, yes: bool, **chosen: Any) -> None:
    """Delete letters for good, with messages that have none left. The ledger goes on counting them.

    Without --state it takes only closed ones, whose readings are stored or known to be none.
    """
    wanted = letters.Wanted(state=state, **chosen)
    if not any(chosen.values()) and state != "closed" and not yes:
        raise click.UsageError(f"this would delete all {state} letters: choose some, or say --yes")
    if not yes:
        click.confirm(f"Delete the chosen {state} letters for good?", abort=True)

    async def work(conn: letters.Connection) -> int:
        gone = 0
        after = None
        while found := await letters.page(conn, wanted, limit=letters.PURGE_AT_ONCE, after=after, oldest_first=True):
            gone += await letters.purge(conn, found, state)
            after = letters.Place.of(found[-1])
        return gone

    click.echo(f"purged {_run(work, wanted.cities):,} letters")
