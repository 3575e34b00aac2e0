"""`python -m local up | down | demo`: what the Makefile calls."""

import importlib
import shlex
import signal
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from local import stack
from local.paths import LocalError, store

CONSOLE = Console(highlight=False, soft_wrap=True)


@click.group()
def main() -> None:
    """The real servers and the whole pipeline on this machine, without containers."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # end as Ctrl-C does: what was begun is ended first
        signal.signal(number, signal.default_int_handler)


@main.command()
@click.option("--demo", is_flag=True, help="The simulator too.")
@click.option("--prometheus", is_flag=True, help="Prometheus with the alerts too.")
@click.option("--servers-only", is_flag=True, help="Brokers, Kafka and PostgreSQL without the pipeline.")
def up(*, demo: bool, prometheus: bool, servers_only: bool) -> None:
    """Start everything in the background and print where it listens."""
    endpoints = stack.up(demo=demo, servers_only=servers_only, prometheus=prometheus, report=_say)
    table = Table(box=None, pad_edge=False, show_header=False)
    for city, port in endpoints.mqtt.items():
        table.add_row(f"MQTT {city}", f"127.0.0.1:{port}")
    table.add_row("Kafka", endpoints.kafka)
    table.add_row("PostgreSQL", endpoints.dsn.split("@")[1].split("?")[0])
    for name, address in sorted(endpoints.metrics.items()):
        table.add_row(name, f"http://{address}/metrics")
    if endpoints.prometheus:
        table.add_row("Prometheus", f"http://{endpoints.prometheus}")
    if "status" in endpoints.metrics:
        table.add_row("Status page", f"http://{endpoints.metrics['status']}/")
    CONSOLE.print(table)
    _say(f"Logs: {_near(stack.LOGS)}/*.log and {_near(store() / 'data')}/*/*.log")
    _say(f"City files with these ports: {_near(stack.CITIES)}")
    _say(f"For the shell: set -a; . {shlex.quote(_near(stack.ENV))}; set +a. `make down` ends it all.")


@main.command()
def down() -> None:
    """End everything that `up` started, and nothing else."""
    ended = stack.down()
    _say(f"ended: {', '.join(ended)}" if ended else "Nothing was running.")


@main.command()
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=0.0, help="Stop by itself and prove the count; 0: until Ctrl-C."
)
def demo(seconds: float) -> None:
    """The seven cities live in the terminal."""
    sys.exit(importlib.import_module("local.demo").run(seconds))


def _say(line: str) -> None:
    CONSOLE.print(line, markup=False)


def _near(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except LocalError as error:
        sys.exit(str(error))
    except (KeyboardInterrupt, click.Abort):
        sys.exit("interrupted; what was started has been ended")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
