"""`hanse-processor`: Kafka to TimescaleDB for one or more cities."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import structlog
from pydantic import ValidationError

import service.logs
from ingest.city import City, CityFileError
from ingest.wire import kafka_topic
from processors import kafka, replaying
from processors.batching import Intake
from processors.checking import check
from processors.cities import PROPERTIES, StartError, limits, read_cities
from processors.cursor import LogError
from processors.explain import LineError
from processors.explain import command as explain_command
from processors.history import command as history
from processors.history.chunk import FileError
from processors.history.loading import StoppedError
from processors.matching import Profiles, load_profiles
from processors.metrics import Metrics
from processors.pipeline import LogAwayError, Pipeline, patiently
from processors.profiles import ProfileError, directory
from processors.settings import Settings
from processors.stations import Stations
from service.build import announce
from service.cli import CONFIGURATION_ERROR, Program, fail
from service.http import AddressTakenError, Endpoints
from service.settings import faults
from storage.errors import Refused
from storage.timescale import Writer

log = structlog.get_logger()

PROGRAM = "hanse-processor"
STOP_SECONDS = 4.0
LAG_SECONDS = 2.0


@click.group(cls=Program)
def main() -> None:
    """Read the cities' Kafka topics, normalise to the shared standard, write to TimescaleDB."""


@main.command()
@click.argument("city_files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--accept-loss", is_flag=True, help="Go on although Kafka deleted records that were not processed.")
def run(city_files: tuple[Path, ...], accept_loss: bool) -> None:  # noqa: FBT001  (click passes options by name)
    """Process until SIGTERM. Scale by starting more of them."""
    try:
        settings = Settings()
        service.logs.configure(level=settings.log_level)
        # Its errors would be repeated without their cause, ten times a second; ours carry it.
        logging.getLogger("aiokafka").setLevel(logging.DEBUG if settings.log_level == "DEBUG" else logging.CRITICAL)
        cities = read_cities(city_files)
        profiles = load_profiles(cities)
        asyncio.run(_run(settings, cities, profiles, accept_loss=accept_loss))
    except ValidationError as error:
        fail(PROGRAM, CONFIGURATION_ERROR, *faults(error))
    except (
        CityFileError,
        ProfileError,
        StartError,
        Refused,
        AddressTakenError,
        kafka.KafkaRefusedError,
        LogError,
    ) as error:
        fail(PROGRAM, CONFIGURATION_ERROR, *str(error).splitlines())


@main.command()
@click.option("--topic", help="MQTT topic of one message.")
@click.option("--payload", help="Its payload as text; - reads it from standard input.")
@click.option(
    "--file", "payload_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its payload."
)
@click.option("--received-at", help="When the gateway received it, RFC 3339; now if left out.")
@click.option("--retain", is_flag=True, help="It is a copy that the broker kept.")
@click.option(
    "--city", "city_files", multiple=True, type=click.Path(path_type=Path), help="City file: its routes first."
)
@click.option("--no-profiles", is_flag=True, help="As if there were no device profiles.")
@click.option("--json", "as_json", is_flag=True, help="The answer of --jsonl instead of the table.")
@click.option("--jsonl", is_flag=True, help="Messages as JSON lines on standard input, one answer a line.")
@click.option("--convert", "converts", is_flag=True, help='JSON lines {"value", "from", "to"}: convert units.')
def explain(**options: Any) -> None:
    """Show what becomes of a message, and why; no server is asked.

    Topics that no route of the city file takes go by the default routes of the dialects.
    """
    try:
        explain_command(**options)
    except (CityFileError, ProfileError, StartError, LineError) as error:
        fail(PROGRAM, CONFIGURATION_ERROR, *str(error).splitlines())


@main.command("check")
@click.argument("city_files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--profiles", type=click.Path(path_type=Path), help="Directory of the shared profiles, if another.")
def check_command(city_files: tuple[Path, ...], profiles: Path | None) -> None:
    """Check city files and device profiles, and run the profiles' examples; exit 1 if anything is wrong."""
    found = check(city_files, directory() if profiles is None else profiles)
    for finding in found:
        click.echo(finding.text if finding.fault else f"note: {finding.text}")
    faulty = sum(finding.fault for finding in found)
    click.echo(f"{len(city_files)} city files: " + (f"{faulty} faults" if faulty else "no faults"), err=True)
    sys.exit(1 if faulty else 0)


@main.command("import")
@click.argument("city_file", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--since", default=history.EARLIEST, show_default=True, help="Older readings are refused: a day, or a time."
)
@click.option(
    "--max-rejected",
    type=click.IntRange(min=0),
    default=100_000,
    show_default=True,
    help="Stop, to be resumed, beyond so many bad rows.",
)
@click.option("--dry-run", is_flag=True, help="Read and map the files, say what would be refused, write nothing.")
def import_files(city_file: Path, files: tuple[Path, ...], since: str, max_rejected: int, *, dry_run: bool) -> None:
    """Take history of one city in from CSV or Parquet files in the standard.

    Each file is known by its hash: run it again after an interruption and it goes on, run it twice and nothing changes.
    A bad row is refused alone, by its line number. Exit code 3: there were some.
    """
    try:
        settings = Settings()
        service.logs.configure(level=settings.log_level)
        (city,) = read_cities([city_file])
        options = history.Options(history.since(since), max_rejected, dry_run)
        sys.exit(history.run(settings.database_dsn, city, files, options))
    except ValidationError as error:
        fail(PROGRAM, CONFIGURATION_ERROR, *faults(error))
    except (CityFileError, StartError, Refused, FileError) as error:
        fail(PROGRAM, CONFIGURATION_ERROR, *str(error).splitlines())
    except StoppedError as error:
        fail(PROGRAM, 1, error)
    except KeyboardInterrupt:
        fail(PROGRAM, 130, "interrupted; run the same command again and the import goes on")


async def _run(settings: Settings, cities: Sequence[City], profiles: Profiles, *, accept_loss: bool) -> None:
    version = announce("processor")
    metrics = Metrics([city.key for city in cities])
    stopped = _signalled()  # before a supervisor is told that it is there, and may end it
    endpoints = Endpoints(settings.http_address, unready=metrics.unready, unhealthy=metrics.unhealthy)
    log.info("processor starts", version=version, http_port=endpoints.port, cities=[city.key for city in cities])
    writer = Writer(settings.database_dsn)
    consumer = kafka.Consumer(
        [kafka_topic(city.key) for city in cities],
        settings,
        group=settings.kafka_group,
        instance=settings.processor_instance,
        client_id=f"hanse-processor-{socket.gethostname()}-{os.getpid()}",
    )
    pipeline = Pipeline(
        consumer,
        writer,
        cities,
        intake=Intake(cities, profiles=profiles),
        observer=metrics,
        bound=settings,
        accept_loss=accept_loss,
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(endpoints.close)
        stack.push_async_callback(writer.close)
        stack.push_async_callback(consumer.close)
        stack.callback(asyncio.create_task(_pulse(metrics)).cancel)
        work = asyncio.create_task(_work(cities, writer, consumer, pipeline, metrics))
        stop = asyncio.create_task(stopped.wait())
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not work.done():
            log.info("processor stops")
            pipeline.stop()
            done, _ = await asyncio.wait({work}, timeout=STOP_SECONDS)
            if not done:
                work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def _work(
    cities: Sequence[City],
    writer: Writer,
    consumer: kafka.Consumer,
    pipeline: Pipeline,
    metrics: Metrics,
) -> None:
    await patiently(writer.connect)
    stations = Stations(cities)
    await patiently(lambda: writer.register(limits(cities), PROPERTIES, stations.facts, stations.time_limits))
    metrics.database(reachable=True)
    await patiently(consumer.start)
    watch = asyncio.create_task(_watch_lag(consumer, metrics))
    gc.collect()
    gc.freeze()
    log.info("processor runs")
    try:
        await pipeline.run()
    finally:
        watch.cancel()


async def _pulse(metrics: Metrics) -> None:
    while True:
        metrics.pulse()
        await asyncio.sleep(1.0)


async def _watch_lag(consumer: kafka.Consumer, metrics: Metrics) -> None:
    """Ask Kafka for its ends: the lag, and whether it answers at all."""
    while True:
        await asyncio.sleep(LAG_SECONDS)
        try:
            bounds = await consumer.bounds(consumer.assigned())
        except LogAwayError:
            metrics.kafka(reachable=False)
        else:
            metrics.lag({partition: bound.end for partition, bound in bounds.items()})


def _signalled() -> asyncio.Event:
    """Set once the process is asked to end."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


main.add_command(replaying.command)

if __name__ == "__main__":
    main()
