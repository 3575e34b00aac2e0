"""Command line of the simulator: seven cities' sensors against seven real brokers."""

import signal
import sys
from pathlib import Path
from threading import Event

import click

from simulator.cities import CityFileError, load
from simulator.run import NoBrokerError, Plan, Run


@click.group()
def main() -> None:
    """Simulated sensor networks of the Smarte Hanse."""


@main.command()
@click.option("--cities-dir", type=click.Path(path_type=Path, file_okay=False), required=True, help="city files")
@click.option("--record", type=click.Path(path_type=Path, file_okay=False), required=True, help="own account, replaced")
@click.option("--rate", type=click.FloatRange(0.1, 50_000), default=40.0, show_default=True, help="messages/s and city")
@click.option("--seconds", type=click.FloatRange(min=0), default=None, help="stop by itself (default: at SIGTERM)")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--backlog", type=click.FloatRange(min=0), default=0.0, help="seconds of messages that waited before")
@click.option(
    "--storm-ended", type=int, default=None, help="full hour, seconds since the epoch (default: the last one)"
)
def run(
    cities_dir: Path,
    record: Path,
    rate: float,
    seconds: float | None,
    seed: int,
    backlog: float,
    storm_ended: int | None,
) -> None:
    """Publish until SIGTERM, then wait for every PUBACK; exits 1 if one is missing."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        simulation = Run(load(cities_dir), record, Plan(rate, seconds, seed, backlog, storm_ended), stop)
    except CityFileError as error:
        sys.exit(str(error))
    try:
        simulation.connect()
        simulation.publish()
        missing = simulation.settle()
    except NoBrokerError as error:
        sys.exit(str(error))
    finally:
        simulation.close()
    published = sum(each.messages for each in simulation.totals.values())
    click.echo(f"{published} messages published, {published - missing} acknowledged", err=True)
    if missing:
        sys.exit(f"{missing} messages were never acknowledged; the record names them")


if __name__ == "__main__":
    main()
