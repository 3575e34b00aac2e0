"""`python -m tests.bench`: measure the pipeline on fresh real servers, print a table, write build/bench/latest.json."""

import sys
import time
from pathlib import Path

import click
from rich.console import Console

from tests.bench.decode import main as decoding
from tests.bench.figures import Result
from tests.bench.report import show, write
from tests.bench.run import Bench, Timing
from tests.bench.stack import Stack
from tests.bench.workloads import WORKLOADS

LATEST = Path("build/bench/latest.json")


def _names(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(WORKLOADS))
    if unknown or not names:
        raise click.BadParameter(f"{', '.join(unknown) or 'nothing'} named; there are {', '.join(WORKLOADS)}")
    return names


@click.command()
@click.option("--workloads", "names", default="S1,S100", show_default=True, callback=_names, help="Joined by commas.")
@click.option("--seconds", default=20.0, show_default=True, help="Of the saturated phase, after its warm-up.")
@click.option("--half-load-seconds", default=10.0, show_default=True, help="Of the phase that measures latency.")
@click.option("--decode", is_flag=True, help="Instead: what one message costs, dialect by dialect, without servers.")
@click.option("--output", default=LATEST, show_default=True, type=click.Path(path_type=Path), help="Figures as JSON.")
def main(names: list[str], seconds: float, half_load_seconds: float, output: Path, *, decode: bool) -> None:
    """Measure workloads one after the other, each on fresh servers. Exits 1 if any run's books do not balance."""
    console, began = Console(), time.monotonic()
    if decode:
        decoding(console)
        return
    results: dict[str, Result] = {}
    for name in names:

        def say(text: str, name: str = name) -> None:
            console.print(f"[dim]{time.monotonic() - began:4.0f} s[/] {name}: {text}", highlight=False)

        say("starting fresh servers and the pipeline")
        with Stack() as stack:
            bench = Bench(stack, WORKLOADS[name], say)
            try:
                results[name] = bench.run(Timing(seconds, half_load_seconds))
            finally:
                bench.close()
        write(output, results)
    show(console, results)
    console.print(f"figures: {output}; took {time.monotonic() - began:.0f} s", highlight=False)
    sys.exit(not all(result.balanced for result in results.values()))


if __name__ == "__main__":
    main()
