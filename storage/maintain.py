"""`hanse-storage maintain`: one session that keeps hours, chunks and retention in order, cycle after cycle.

Of several such processes one works and the others wait for the lock that ends with its session. A step that fails for
a passing reason is counted and tried again in the next cycle, the steps after it go on; a lost connection starts over.
Hours are refreshed in every cycle, what goes by days once an hour.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
import structlog
from rich.table import Table

from service.backoff import backoff
from storage import connection, lifecycle, rollups
from storage.errors import Unavailable, Verdict, one_line, outcome, verdict
from storage.metrics import Upkeep
from storage.settings import Maintain, Retention

NAME = "hanse-storage maintain"
# Locks are waited for shortly (readers and writers come first), work may take its time.
SESSION = """
set lock_timeout = '2s';
set idle_in_transaction_session_timeout = '10s';
set timezone = 'UTC';
set client_min_messages = 'warning';
set jit = off
"""
BACKLOG = """
select extract(epoch from now() - materialized)::float8, (select count(*) from store.rollup_dirty)
  from store.rollup_state
"""
REFRESHED = "update store.rollup_state set refreshed_at = clock_timestamp()"
HOURLY = 3_600.0
FILL_SECONDS = 10.0  # of a cycle, at most, for cities' hours from before there were any

log = structlog.get_logger()
Connection = psycopg.AsyncConnection[Any]


async def connect(dsn: str) -> Connection:
    """A session for maintenance. Raises Unavailable or Refused."""
    conn = await connection.connect(dsn, NAME, session=False)
    await conn.execute(SESSION)
    return conn


class Maintainer:
    """The daemon. `run` until `stop`; `once` for a single cycle that waits for its turn."""

    def __init__(self, settings: Maintain, metrics: Upkeep) -> None:
        self._settings = settings
        self._metrics = metrics
        self._stopped = asyncio.Event()
        self._away = "not connected yet"
        self._by_days_due = 0.0
        self._repair_due = 0.0
        self.failed: list[str] = []  # steps of the last cycle

    def unready(self) -> Sequence[str]:
        """Why the process can't work; waiting for another maintainer is no reason."""
        return (f"database: {self._away}",) if self._away else ()

    def stop(self) -> None:
        """End after the transaction under way."""
        self._stopped.set()

    async def run(self) -> None:
        """Work until stopped. Raises Refused for what waiting doesn't cure."""
        failures = 0
        while not self._stopped.is_set():
            try:
                await self._session(cycles=None)
            except Unavailable as error:
                self._away = str(error)
                self._metrics.active.set(0)
                self._metrics.failures.labels("connect").inc()
                log.error(str(error), retrying=True)  # noqa: TRY400  (one line for a person, no traceback)
                await self._pause(backoff(failures))
                failures += 1
            else:
                failures = 0

    async def once(self) -> None:
        """One whole cycle, as soon as no other process works. Raises Unavailable or Refused."""
        await self._session(cycles=1)

    async def _session(self, cycles: int | None) -> None:
        """Connect, wait for the turn, work; returns when stopped or done."""
        conn = await connect(self._settings.database_dsn)
        try:
            self._away = ""
            await lifecycle.check(conn, self._settings)
            if not await self._my_turn(conn):
                return
            self._by_days_due = self._repair_due = 0.0
            while not self._stopped.is_set():
                await self._cycle(conn)
                if cycles is not None:
                    return
                await self._pause(self._settings.maintain_interval.total_seconds())
        except psycopg.Error as error:
            raise outcome(error) from error
        finally:
            self._metrics.active.set(0)
            await conn.close()

    async def _my_turn(self, conn: Connection) -> bool:
        said = False
        while not self._stopped.is_set():
            if await rollups.only_one(conn):
                self._metrics.active.set(1)
                log.info("maintenance begins", edition=await lifecycle.edition(conn))
                return True
            if not said:
                log.info("another process maintains this database; waiting")
                said = True
            await self._pause(min(5.0, self._settings.maintain_interval.total_seconds()))
        return False

    async def _cycle(self, conn: Connection) -> None:
        self.failed = []
        await self._step("refresh", lambda: self._refresh(conn))
        await self._step("cities", lambda: self._cities(conn))
        await self._step("chunks", lambda: self._counted("chunks_made", lifecycle.make_chunks(conn)))
        if time.monotonic() >= self._by_days_due:
            keep: Retention = self._settings
            for what, act in (
                ("chunks_dropped", lifecycle.drop_observations),
                ("hours_expired", lifecycle.expire_hours),
                ("letters_expired", lifecycle.expire_letters),
                ("chunks_compressed", lifecycle.compress),
            ):
                await self._step(what, lambda what=what, act=act: self._counted(what, act(conn, keep)))  # type: ignore[misc]
            if not self.failed:
                self._by_days_due = time.monotonic() + HOURLY
        row = await (await conn.execute(BACKLOG)).fetchone()
        assert row is not None
        self._metrics.lag.set(row[0])
        self._metrics.dirty.set(row[1])
        if not self.failed:
            await conn.execute(REFRESHED)
            self._metrics.success.set_to_current_time()

    async def _refresh(self, conn: Connection) -> None:
        """Hour by hour: a stop need not wait for a backlog, and what was done counts although the next fails."""
        await rollups.advance(conn, await rollups.settled(conn))
        while not self._stopped.is_set() and await rollups.materialize_next(conn):
            self._metrics.done.labels("hours").inc()
        if time.monotonic() >= self._repair_due:
            began, entries = time.monotonic(), rollups.REPAIR_ENTRIES
            while not self._stopped.is_set() and entries == rollups.REPAIR_ENTRIES:
                entries = await rollups.repair_some(conn)
                self._metrics.done.labels("hours_repaired").inc(entries)
            self._repair_due = rollups.next_repair(began, time.monotonic())

    async def _cities(self, conn: Connection) -> None:
        """What was forgotten or corrected, then days that a migration left to be filled in, the newest first."""
        self._metrics.done.labels("city_ranges").inc(await rollups.sum_up_cities(conn))
        until, days = time.monotonic() + FILL_SECONDS, 0
        while not self._stopped.is_set() and time.monotonic() < until and await rollups.fill_cities(conn):
            days += 1
        if days:
            self._metrics.done.labels("city_days_filled").inc(days)
            log.info("cities filled in", days=days, **{"from": await rollups.cities_from(conn)})

    async def _counted(self, what: str, act: Awaitable[int]) -> None:
        count = await act
        if count:
            self._metrics.done.labels(what).inc(count)
            log.info("maintenance", what=what, count=count)

    async def _step(self, name: str, act: Callable[[], Awaitable[None]]) -> None:
        """One step; a passing error on a living connection leaves the others alone."""
        if self._stopped.is_set():
            return
        try:
            await act()
        except psycopg.Error as error:
            if verdict(error) is not Verdict.RETRY or error.sqlstate is None:
                raise
            self.failed.append(f"{name}: {one_line(error)} ({error.sqlstate})")
            self._metrics.failures.labels(name).inc()
            log.warning("maintenance step failed, tried again in the next cycle", step=name, error=one_line(error))

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return


async def dry_run(settings: Maintain) -> Table:
    """What the next cycle would do away with, as a table. Raises Unavailable or Refused."""
    conn = await connect(settings.database_dsn)
    try:
        await lifecycle.check(conn, settings)
        return table(await lifecycle.plan(conn, settings))
    except psycopg.Error as error:
        raise outcome(error) from error
    finally:
        await conn.close()


def table(plan: lifecycle.Plan) -> Table:
    """A plan for a terminal."""
    shown = Table("what", "of", "how much", title=f"Would go ({plan.edition} edition); nothing was changed")
    for _, begin, end, size in plan.chunks:
        shown.add_row("drop readings", f"{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}", f"{size / 2**20:,.1f} MiB")
    for domain, edge, count in plan.hours:
        shown.add_row("delete hours", f"{domain}, before {edge:%Y-%m-%d}", f"{count:,}")
    if plan.letters:
        shown.add_row("delete dead letters", "", f"{plan.letters:,}")
    for chunk in plan.compress:
        shown.add_row("compress", chunk, "")
    if not shown.rows:
        shown.add_row("nothing", "", "")
    return shown
