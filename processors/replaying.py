"""`hanse-processor replay`: dead letters back through Kafka, after what killed them was put right.

A letter's message goes to the partition it came from, with a header that names the letter; the processors do the rest,
and close it or say why not. Letters that Kafka has are marked, so that an interrupted run goes on where it ended and
two runs at once share the work; one that is sent twice all the same is `replay_repeated`, for a letter closes once.
`--dry-run` decodes here and asks the database in a transaction that is rolled back.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import click
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import service.logs
from ingest import wire
from ingest.city import City, CityFileError
from processors import kafka
from processors.batching import Intake
from processors.cities import PROPERTIES, StartError, limits, read_cities
from processors.cursor import Bounds, Cursor
from processors.matching import load_profiles
from processors.pipeline import LogAwayError
from processors.settings import Settings
from service.cli import CONFIGURATION_ERROR, fail
from service.settings import faults
from storage import letters
from storage.errors import Refused, Unavailable
from storage.letters import Letter, Wanted
from storage.letters_cli import filters
from storage.rows import CONFLICTING_VALUE, TopicPartition
from storage.timescale import Writer

PAGE = 200
GATEWAY = "replay"
POLL_SECONDS = 0.5
ASKED_AT_ONCE = 5_000
PROGRAM = "hanse-processor"


class Record(NamedTuple):
    """A record as Kafka would deliver it, for the rehearsal."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def unfit(letter: Letter, *, with_payload: bool) -> str | None:
    """Why a letter can't be replayed."""
    if not with_payload:
        return "payload purged"
    if letter["stub"]:
        return "only the payload's beginning was kept"
    if not letter["topic"].startswith(wire.TOPIC_PREFIX):
        return "a row of an imported file: correct the file and import it again"
    if not letter["mqtt_topic"]:
        return "no MQTT topic: no gateway of ours wrote it"
    return None


def headers(letter: Letter, *, correct: bool) -> list[tuple[str, bytes]]:
    """Headers of the record that replays a letter."""
    told = wire.Replay(
        letter=letter["letter_id"],
        reading=letter["reading"],
        key=letter["raw_key"],
        received_ms=letter["received_ms"],
        offset=letter["offset"],
        correct=correct and letter["reason"] == CONFLICTING_VALUE,
    )
    return [*wire.headers(GATEWAY, qos=1, retain=letter["retained"], dup=False), wire.replay_header(told)]


def outgoing(letter: Letter, payload: bytes, *, correct: bool) -> kafka.Outgoing:
    """The record that replays a letter."""
    partition = TopicPartition(letter["topic"], letter["partition"])
    return kafka.Outgoing(partition, letter["mqtt_topic"].encode(), payload, headers(letter, correct=correct))


class Chosen(NamedTuple):
    """A page of letters that can be replayed, their payloads, and why the others can't."""

    fit: list[Letter]
    payloads: list[bytes]
    unfit: Counter[str]


async def chosen(conn: letters.Connection, wanted: Wanted) -> AsyncIterator[Chosen]:
    """All letters, the oldest first; not those that replaying itself makes."""
    [(newest,)] = await (await conn.execute("select coalesce(max(letter_id), 0) from store.dead_letter")).fetchall()
    after = None
    while page := await letters.page(conn, wanted, limit=PAGE, after=after, oldest_first=True):
        after = letters.Place.of(page[-1])
        found = await letters.payloads(conn, page)
        told = Chosen([], [], Counter())
        for letter in page:
            payload = found.get(letters.key_of(letter))
            why = unfit(letter, with_payload=payload is not None)
            if why is not None:
                told.unfit[why] += 1
            elif letter["letter_id"] <= newest:
                assert payload is not None, "unfit otherwise"
                told.fit.append(letter)
                told.payloads.append(payload)
        yield told


class Rehearsal:
    """What would become of letters now, by the code and city files at hand."""

    def __init__(self, writer: Writer, cities: Sequence[City]) -> None:
        self._writer = writer
        self._intake = Intake(cities, profiles=load_profiles(cities))
        self._known: set[TopicPartition] = set()

    async def of(self, page: Chosen, *, correct: bool) -> dict[int, str]:
        """Outcome by letter, in words."""
        by_partition: dict[TopicPartition, list[Record]] = {}
        for letter, payload in zip(page.fit, page.payloads, strict=True):
            made = outgoing(letter, payload, correct=correct)
            records = by_partition.setdefault(made.partition, [])
            records.append(Record(len(records), letter["received_ms"], made.key, made.value, tuple(made.headers)))
        await self._remember(by_partition)
        for partition, records in by_partition.items():
            cursor = Cursor(partition, None, Bounds(0, len(records)))
            self._intake.add(cursor, cursor.admit(records)[0])
        batch = self._intake.take()
        outcome = await self._writer.rehearse(batch)
        replays = batch.replays.records if batch.replays is not None else []
        return {record.letter: words for record, words in zip(replays, outcome.replays, strict=True)}

    async def _remember(self, partitions: dict[TopicPartition, Any]) -> None:
        missing = [partition for partition in partitions if partition not in self._known]
        for partition, position in (await self._writer.positions(missing)).items() if missing else ():
            if fault := self._intake.remember(partition, position.state):
                raise StartError(fault)
        self._known.update(missing)


async def rehearse(settings: Settings, cities: Sequence[City], wanted: Wanted, *, correct: bool) -> int:
    """Print what would happen to each letter, a line each and the sums; returns how many."""
    writer = Writer(settings.database_dsn, application_name="hanse-replay")
    total: Counter[str] = Counter()
    try:
        await writer.look(limits(cities), PROPERTIES)  # the files at hand may be drafts: a dry run registers nothing
        rehearsal = Rehearsal(writer, cities)
        async with letters.opened(settings.database_dsn) as conn:
            await letters.check_cities(conn, wanted.cities)
            async for page in chosen(conn, wanted):
                told = await rehearsal.of(page, correct=correct) if page.fit else {}
                total.update(page.unfit)
                for letter in page.fit:
                    words = told[letter["letter_id"]]
                    total[words] += 1
                    known = letter["city"], letter["reason"], letter["device"], letter["raw_key"]
                    click.echo("\t".join((str(letter["letter_id"]), *(word or "" for word in known), words)))
    finally:
        await writer.close()
    _summary(Console(), "would be", total)
    return total.total()


async def replay(
    settings: Settings, wanted: Wanted, *, correct: bool, rate: float | None, wait: float, progress: Progress
) -> Counter[str]:
    """Send letters and wait for their outcomes; returns those, in words."""
    total: Counter[str] = Counter()
    async with letters.opened(settings.database_dsn) as conn:
        await letters.check_cities(conn, wanted.cities)
        producer = kafka.Producer(settings)
        try:
            await producer.start()
            sent = await _send(conn, producer, wanted, total, correct=correct, rate=rate, progress=progress)
        finally:
            await producer.close()
        await _await_outcomes(conn, sent, total, wait, progress)
    return total


async def _send(
    conn: letters.Connection,
    producer: kafka.Producer,
    wanted: Wanted,
    total: Counter[str],
    *,
    correct: bool,
    rate: float | None,
    progress: Progress,
) -> dict[int, None]:
    """Send what is wanted; the ids of what Kafka has, in that order."""
    sent: dict[int, None] = {}
    sending = progress.add_task("sent to Kafka", total=None)
    due = time.monotonic()
    async for page in chosen(conn, wanted):
        total.update(page.unfit)
        step = len(page.fit) if rate is None else max(1, round(rate / 5))
        for begin in range(0, len(page.fit), max(1, step)):
            part = page.fit[begin : begin + step]
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            payloads = page.payloads[begin : begin + step]
            await producer.send(
                [outgoing(letter, payload, correct=correct) for letter, payload in zip(part, payloads, strict=True)]
            )
            await letters.mark(conn, part)
            sent |= dict.fromkeys(letter["letter_id"] for letter in part)
            progress.advance(sending, len(part))
            if rate is not None:
                due = max(due, time.monotonic() - 1) + len(part) / rate
    progress.update(sending, total=len(sent))
    return sent


async def _await_outcomes(
    conn: letters.Connection, sent: dict[int, None], total: Counter[str], wait: float, progress: Progress
) -> None:
    """Collect what the processors made of the letters, as long as `wait` seconds bring something new."""
    waiting = progress.add_task("processed", total=len(sent))
    last = time.monotonic()
    while sent and time.monotonic() - last < wait:
        done = await letters.handled(conn, list(islice(sent, ASKED_AT_ONCE)))
        total.update(told for _, told in done.values())
        for letter_id in done:
            del sent[letter_id]
        progress.advance(waiting, len(done))
        if done:
            last = time.monotonic()
        elif sent:
            await asyncio.sleep(POLL_SECONDS)
    if sent:
        total["on their way: no processor has handled them yet"] += len(sent)


def _summary(console: Console, title: str, total: Counter[str]) -> None:
    table = Table(title, "letters", box=SIMPLE_HEAD)
    for words, count in total.most_common():
        table.add_row(words, f"{count:,}")
    console.print(table if total else "no letter is chosen")


@click.command("replay")
@click.argument("city_files", nargs=-1, type=click.Path(path_type=Path))
@filters
@click.option("--dry-run", is_flag=True, help="Say what would happen to each now; needs the city files.")
@click.option("--correct", is_flag=True, help="Let conflicting values take the place of those that stand.")
@click.option("--again", is_flag=True, help="Those that are on their way but never arrived, instead of open ones.")
@click.option("--rate", type=click.FloatRange(min=0.1), help="Letters a second at most.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds to wait for processors without an outcome.",
)
def command(
    city_files: tuple[Path, ...],
    cities: tuple[str, ...],
    *,
    dry_run: bool,
    correct: bool,
    again: bool,
    rate: float | None,
    wait: float,
    **options: Any,
) -> None:
    """Send dead letters through Kafka once more, after a mapping, a window or a dialect was put right."""
    if correct:
        if set(options["reasons"]) - {CONFLICTING_VALUE}:
            raise click.UsageError(f"--correct takes letters of reason {CONFLICTING_VALUE} alone")
        options["reasons"] = (CONFLICTING_VALUE,)
    if dry_run and not city_files:
        raise click.UsageError("--dry-run decodes here: name the city files")
    try:
        settings = Settings()
        service.logs.configure(level="WARNING")
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # ours name the cause
        known = read_cities(city_files)
        keys = {city.key for city in known}
        if foreign := set(cities) - keys if keys else set():
            raise click.UsageError(f"--city {', '.join(sorted(foreign))}: not in the city files")
        chosen_cities = cities or tuple(sorted(keys))
        wanted = Wanted(state="replaying" if again else "open", cities=chosen_cities, **options)
        if dry_run:
            asyncio.run(rehearse(settings, known, wanted, correct=correct))
        else:
            _replay(settings, wanted, correct=correct, rate=rate, wait=wait)
    except ValidationError as error:
        fail(PROGRAM, CONFIGURATION_ERROR, *faults(error))
    except (CityFileError, StartError, Refused, kafka.KafkaRefusedError) as error:
        fail(PROGRAM, CONFIGURATION_ERROR, *str(error).splitlines())
    except (Unavailable, LogAwayError) as error:
        fail(PROGRAM, 1, f"{error}; run it again to go on where it ended")


def _replay(settings: Settings, wanted: Wanted, *, correct: bool, rate: float | None, wait: float) -> None:
    console = Console()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        total = asyncio.run(replay(settings, wanted, correct=correct, rate=rate, wait=wait, progress=progress))
    _summary(console, "outcome", total)
    if wanted.ids and not total:
        fail(
            PROGRAM, 1, f"no {wanted.state} letter has the id given: it is closed, on its way, was purged or never was"
        )
