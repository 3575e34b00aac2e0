"""`hanse-processor`: Kafka to TimescaleDB for one or more cities."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import click
import structlog
from pydantic import ValidationError

import service.logs
from ingest.city import City, CityFileError
from ingest.wire import kafka_topic
from processors import kafka, replaying
from processors.batching import Intake
from processors.cities import PROPERTIES, StartError, limits, read_cities
from processors.cursor import LogError
from processors.metrics import Metrics
from processors.pipeline import LogAwayError, Pipeline, backoff
from processors.settings import Settings
from processors.stations import Stations
from service.build import announce
from service.http import AddressTakenError, Endpoints
from service.settings import faults
from storage.errors import Refused, Unavailable
from storage.timescale import Writer

log = structlog.get_logger()

CONFIGURATION_ERROR = 78  # EX_CONFIG: a supervisor should not restart what a person must correct
STOP_SECONDS = 4.0
LAG_SECONDS = 2.0


@click.group()
@click.version_option(package_name="hanse-sensor-pipeline")
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
        asyncio.run(_run(settings, cities, accept_loss=accept_loss))
    except ValidationError as error:
        _refuse(*faults(error))
    except (
        CityFileError,
        StartError,
        Refused,
        AddressTakenError,
        kafka.KafkaRefusedError,
        LogError,
    ) as error:
        _refuse(str(error))


def _refuse(*lines: str) -> None:
    for line in lines:
        click.echo(f"hanse-processor: {line}", err=True)
    sys.exit(CONFIGURATION_ERROR)


async def _run(settings: Settings, cities: Sequence[City], *, accept_loss: bool) -> None:
    version = announce("processor")
    metrics = Metrics([city.key for city in cities])
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
        intake=Intake(cities),
        observer=metrics,
        bound=settings,
        accept_loss=accept_loss,
    )
    async with _until_signalled() as stopped, contextlib.AsyncExitStack() as stack:
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
    await _patiently(writer.connect)
    await _patiently(lambda: writer.register(limits(cities), PROPERTIES, Stations(cities).facts))
    metrics.database(reachable=True)
    await _patiently(consumer.start)
    watch = asyncio.create_task(_watch_lag(consumer, metrics))
    gc.collect()
    gc.freeze()
    log.info("processor runs")
    try:
        await pipeline.run()
    finally:
        watch.cancel()


async def _patiently(act: Callable[[], Awaitable[None]]) -> None:
    """Retry until the server is there, saying each time what is missing and where."""
    failures = 0
    while True:
        try:
            return await act()
        except (Unavailable, LogAwayError) as error:
            log.error(str(error), retrying=True)  # noqa: TRY400  (one line for a person, no traceback)
            await asyncio.sleep(backoff(failures))
            failures += 1


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


@contextlib.asynccontextmanager
async def _until_signalled():  # type: ignore[no-untyped-def]  # noqa: ANN202
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    yield stopped


main.add_command(replaying.command)

if __name__ == "__main__":
    main()
