"""`hanse-status`: one page and a few metrics, from the database and the processes' own metrics. It writes nothing."""

import asyncio
import contextlib
import importlib.resources
import json
import signal
import time

import click
import structlog
from prometheus_client import REGISTRY
from pydantic import ValidationError

import service.logs
from service.build import announce
from service.cli import CONFIGURATION_ERROR, Program, fail
from service.http import AddressTakenError, Endpoints, Page, html
from service.settings import faults
from status.metrics import DatabaseMetrics
from status.scrape import read_all
from status.settings import Settings
from status.state import State
from storage.errors import Refused, Unavailable
from storage.overview import Overview

PROGRAM = "hanse-status"
LOOK_SECONDS = 2.0
NEWEST_SECONDS, NEWEST_EACH = 6.0, 4
STREAMS_SECONDS = 30.0
WATCHED_SECONDS = 20.0  # the newest readings are read only while somebody looks at the page
AWAY_SECONDS = 5.0

log = structlog.get_logger()


@click.group(cls=Program)
def main() -> None:
    """Show what the pipeline does now."""


@main.command()
def run() -> None:
    """Serve the page until SIGTERM."""
    try:
        settings = Settings()
        service.logs.configure(level=settings.log_level)
        asyncio.run(_run(settings))
    except ValidationError as error:
        fail(PROGRAM, CONFIGURATION_ERROR, *faults(error))
    except (Refused, AddressTakenError) as error:
        fail(PROGRAM, CONFIGURATION_ERROR, error)


def pages(state: State) -> dict[str, Page]:
    """The page and its data, by path."""
    text = (importlib.resources.files("status") / "page.html").read_text("utf-8")
    page = html(text)
    return {
        "/": page,
        "/status": page,
        "/status.json": lambda: (
            [("Content-Type", "application/json"), ("Cache-Control", "no-store")],
            json.dumps(state.page(time.time()), allow_nan=False).encode(),
        ),
    }


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    version = announce("status")
    state = State()
    REGISTRY.register(DatabaseMetrics(state))
    endpoints = Endpoints(settings.http_address, unready=tuple, pages=pages(state))
    log.info("status page", version=version, http_port=endpoints.port)
    tasks = [
        asyncio.create_task(watch_database(settings.database_dsn, state)),
        asyncio.create_task(watch_processes(settings.processes, state)),
        asyncio.create_task(stop.wait()),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        endpoints.close()


async def watch_processes(entries: list[str], state: State) -> None:
    """Scrape every process again and again."""
    while True:
        state.processes = await asyncio.to_thread(read_all, entries)
        state.counted(time.time())
        await asyncio.sleep(LOOK_SECONDS)


async def watch_database(dsn: str, state: State) -> None:
    """Read the database again and again; while it is away, say so. Raises Refused at the first attempt only."""
    began = False
    while True:
        try:
            overview = await Overview.open(dsn)
            began = True
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(overview.close)
                await _look(overview, state)
        except Unavailable as error:
            _away(state, error)
        except Refused as error:
            if not began:
                raise
            _away(state, error)
        await asyncio.sleep(AWAY_SECONDS)


def _away(state: State, error: Exception) -> None:
    if state.database_trouble != str(error):
        log.warning(str(error))
    state.database(str(error), time.time())


async def _look(overview: Overview, state: State) -> None:
    newest_due = streams_due = 0.0
    while True:
        now = time.monotonic()
        state.cities = await overview.cities()
        state.letters = await overview.letters()
        if now >= streams_due:
            state.streams = await overview.streams()
            streams_due = now + STREAMS_SECONDS if any(one.datastreams for one in state.streams) else now
        if now >= newest_due and time.time() - state.looked_at < WATCHED_SECONDS:
            state.newest = await overview.newest(NEWEST_EACH)
            newest_due = now + NEWEST_SECONDS
        state.database(None, time.time())
        await asyncio.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
