"""`hanse-gateway`: one city's MQTT messages into Kafka."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
import stamina
import stamina.instrumentation
import structlog
from pydantic import ValidationError

import service.logs
from ingest import metrics, wire
from ingest.city import City, CityFileError, load
from ingest.forward import KafkaTroubleError
from ingest.gateway import Gateway
from ingest.health import Health
from ingest.kafka import Kafka, KafkaLoginError
from ingest.mqtt import Connection, LoginRefusedError
from ingest.settings import Settings
from service.build import announce
from service.cli import CONFIGURATION_ERROR, Program, fail
from service.http import AddressTakenError, Endpoints
from service.settings import faults

PROGRAM = "hanse-gateway"
UNAVAILABLE = 69  # EX_UNAVAILABLE: of a command that does not wait

log = structlog.get_logger()
CITY_FILE = click.argument("city_file", type=click.Path(path_type=Path))


class StartError(Exception):
    """The gateway can't start; one line a fault."""


@click.group(cls=Program)
def main() -> None:
    """Take a city's MQTT messages to its Kafka topic."""


@main.command()
@CITY_FILE
def run(city_file: Path) -> None:
    """Forward until SIGTERM. One gateway a city."""
    _carry_out(_run(_settings(), _cities((city_file,))[0]))


@main.command("create-topic")
@click.argument("city_files", nargs=-1, required=True, type=click.Path(path_type=Path))
def create_topic(city_files: tuple[Path, ...]) -> None:
    """Make the cities' Kafka topics; needs admin rights. A topic that is there and right is left alone."""
    _carry_out(_create_topics(_settings(), _cities(city_files)))


@main.command()
@CITY_FILE
def check(city_file: Path) -> None:
    """Say whether the city file, the MQTT broker, Kafka and the topic are as they should be."""
    _carry_out(_check(_settings(), _cities((city_file,))[0]))


def _settings() -> Settings:
    try:
        settings = Settings()
    except ValidationError as error:
        fail(PROGRAM, CONFIGURATION_ERROR, *faults(error))
    service.logs.configure(level=settings.log_level)
    # Their connection errors would be repeated without their cause; ours carry it.
    logging.getLogger("aiokafka").setLevel(logging.DEBUG if settings.log_level == "DEBUG" else logging.CRITICAL)
    # Its own counter has the attempt's number for a label: without a bound where we retry for ever.
    stamina.instrumentation.set_on_retry_hooks([])
    return settings


def _cities(files: tuple[Path, ...]) -> list[City]:
    try:
        return [load(file) for file in files]
    except CityFileError as error:
        fail(PROGRAM, CONFIGURATION_ERROR, *str(error).splitlines())


def _carry_out(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except (StartError, LoginRefusedError, KafkaLoginError, AddressTakenError) as error:
        fail(PROGRAM, CONFIGURATION_ERROR, *str(error).splitlines())
    except (KafkaTroubleError, ConnectionError) as error:
        fail(PROGRAM, UNAVAILABLE, str(error))


async def _run(settings: Settings, city: City) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    version = announce("gateway")
    health = Health(metrics.CityMetrics(city.key), city.limits.silent_after.total_seconds())
    endpoints = Endpoints(settings.http_address, unready=health.unready, unhealthy=health.unhealthy)
    try:
        log.info(
            "gateway starts",
            version=version,
            city=city.key,
            client_id=city.client_id,
            http_port=endpoints.port,
        )
        work = asyncio.create_task(_work(settings, city, health, stop))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not health.started:
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        log.info("gateway stopped", city=city.key)
    finally:
        endpoints.close()


async def _work(settings: Settings, city: City, health: Health, stop: asyncio.Event) -> None:
    kafka = Kafka(settings)
    topic = wire.kafka_topic(city.key)
    fresh = await _topic_ready(kafka, topic, health)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # messages in flight are many young objects and no cycles: 15 % of the CPU
    health.started = True
    await Gateway(city, settings, kafka, health, fresh=fresh).run(stop)


async def _topic_ready(kafka: Kafka, topic: str, health: Health) -> bool:
    """Wait for Kafka, check the topic, and say whether nothing was ever written to it. Raises StartError."""
    async for attempt in stamina.retry_context(
        on=KafkaTroubleError, attempts=None, timeout=None, wait_initial=0.5, wait_max=10.0, wait_jitter=2.0
    ):
        with attempt:
            try:
                wrong, warnings = await kafka.topic_faults(topic)
                if wrong:
                    raise StartError("\n".join(f"Kafka topic {topic} {fault}" for fault in wrong))
                for warning in warnings:
                    log.warning("the Kafka topic is right, and still:", topic=topic, why=warning)
                fresh = await kafka.is_empty(topic)
            except KafkaTroubleError as error:
                health.kafka(str(error))
                raise
    return fresh


async def _create_topics(settings: Settings, cities: list[City]) -> None:
    kafka = Kafka(settings)
    wrong = []
    for city in cities:
        topic = wire.kafka_topic(city.key)
        made = await kafka.create_topic(topic)
        faulty, warnings = await kafka.topic_faults(topic)
        wrong += [f"Kafka topic {topic} {fault}" for fault in faulty]
        _warn(topic, warnings)
        if not faulty:
            click.echo(f"{topic}: {'made' if made else 'is there'}, {settings.kafka_partitions} partitions")
    if wrong:
        raise StartError("\n".join(wrong))


def _warn(topic: str, warnings: list[str]) -> None:
    for warning in warnings:
        click.echo(f"hanse-gateway: Kafka topic {topic} {warning}", err=True)


async def _check(settings: Settings, city: City) -> None:
    wrong = []
    connection = Connection(city, lambda _connection, _present: None, lambda _deliveries: None, passing="check")
    try:
        await connection.open()
        await connection.close()
        click.echo(f"MQTT {city.mqtt.host}:{city.mqtt.port}: connected and logged in")
    except ConnectionError as error:
        wrong.append(str(error))
    topic = wire.kafka_topic(city.key)
    try:
        faulty, warnings = await Kafka(settings).topic_faults(topic)
        wrong += [f"Kafka topic {topic} {fault}" for fault in faulty]
        _warn(topic, warnings)
        if not faulty:
            click.echo(f"Kafka {settings.kafka_bootstrap_servers}: logged in; topic {topic} is as it should be")
    except (KafkaTroubleError, KafkaLoginError) as error:
        wrong.append(str(error))
    if wrong:
        raise StartError("\n".join(wrong))


if __name__ == "__main__":
    main()
