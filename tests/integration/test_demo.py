"""The demo on the whole stack: it agrees when nothing was lost, and says no when the database is off by one.

The sabotage is the owner's: no process of the path may delete or change what it wrote.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from local import demo, demo_weather, stack
from local.paths import CHECKOUT

SECONDS = 5
INLAND = {"schwerin", "neubrandenburg"}
CITIES = {"kiel", "luebeck", "rostock", "stralsund", "wismar", *INLAND}


@pytest.fixture(scope="module", autouse=True)
def _running() -> Iterator[None]:
    """The stack of `make up`; one that ran before runs on."""
    ran = stack.running() is not None
    _make("up")
    yield
    if not ran:
        _make("down")


def _make(*target: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "deploy")}
    command = [sys.executable, "-m", "local", *target]
    made = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout


def _last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return _verdict(capsys.readouterr().out)


def _verdict(shown: str) -> dict[str, object]:
    return json.loads(shown.splitlines()[-1])


def test_a_run_without_a_fault_accounts_for_every_reading(capsys):
    code = demo.run(SECONDS)

    told = _last_line(capsys)
    assert code == 0
    assert told["cities"] == 7
    assert told["unaccounted"] == 0
    assert told["redelivered"] == 0
    assert told["published"] == told["stored"] + told["duplicate"] + told["dead_lettered"] + told["ignored"]
    assert told["stored"] > 5_000
    assert told["dead_lettered"] > 0
    assert told["dialects"] == 12
    assert 0 < told["p50_ms"] <= told["p99_ms"]


def test_the_storm_of_the_run_is_found_with_gusts_rain_and_surge_in_hours_that_had_none(capsys):
    with psycopg.connect(stack.running().dsn, autocommit=True) as connection:
        before = demo_weather.storm_end(connection, datetime.now(UTC))

        assert demo.run(SECONDS) == 0

        after = demo_weather.storm_end(connection, datetime.now(UTC))
        found = connection.execute(
            "select hazard, city, max(level) from hanse.weather_events(%s, %s) group by 1, 2",
            (before - demo_weather.HOURS * demo_weather.HOUR, before),
        ).fetchall()
    levels = {(hazard, city): level for hazard, city, level in found}
    shown = capsys.readouterr()
    assert after < before  # the next run has its storm elsewhere
    assert {city for hazard, city in levels if hazard == "gust"} == CITIES
    assert {city for hazard, city in levels if hazard == "heavy_rain"} == CITIES
    assert {city for hazard, city in levels if hazard == "storm_surge"} == CITIES - INLAND
    assert all(level >= 2 for (hazard, _), level in levels.items() if hazard in demo_weather.HAZARDS)
    assert json.loads(shown.out.splitlines()[-1])["weather_events"] == 19
    assert "Cities side by side" in shown.err
    assert "Sturmflut" in shown.err


def test_a_second_run_counts_its_own_readings_only(capsys):
    assert demo.run(SECONDS) == 0

    assert _last_line(capsys)["stored"] < 20_000


@pytest.mark.parametrize(
    ("sabotage", "complaint"),
    [
        pytest.param(
            """delete from store.observation where (datastream_id, phenomenon_time) = (
                 select datastream_id, phenomenon_time from store.observation order by received_at desc limit 1)""",
            "missing row",
            id="a row is gone",
        ),
        pytest.param(
            """update store.observation set value = value + 1e-3 where (datastream_id, phenomenon_time) = (
                 select datastream_id, phenomenon_time from store.observation where quality = 1
                  order by received_at desc limit 1)""",
            "other value",
            id="a value is off",
        ),
        pytest.param(
            "delete from store.dead_letter where letter_id = (select max(letter_id) from store.dead_letter)",
            "missing dead letter",
            id="a dead letter is gone",
        ),
        pytest.param(
            """update store.ledger set stored = stored - 1 where (topic, partition) = (
                 select topic, partition from store.ledger order by stored desc limit 1)""",
            "1 unaccounted",
            id="the ledger does not add up",
        ),
    ],
)
def test_one_disagreement_is_named_and_fails_the_run(capsys, monkeypatch, sabotage, complaint):
    drain = demo._Demo._drain

    def drained(self, connection: psycopg.Connection, baseline: demo.Baseline) -> None:
        drain(self, connection, baseline)
        changed = connection.execute(sabotage).rowcount
        assert changed == 1

    monkeypatch.setattr(demo._Demo, "_drain", drained)

    code = demo.run(4)

    captured = capsys.readouterr()
    if "ledger" in sabotage:
        with psycopg.connect(stack.running().dsn) as connection:
            connection.execute(
                "update store.ledger set stored = readings - duplicate - dead_readings - ignored_readings"
            )
    assert code == 1
    assert complaint in captured.err
    assert json.loads(captured.out.splitlines()[-1])["cities"] == 7


def test_what_the_brokers_retain_from_earlier_runs_is_not_taken_for_this_one():
    _make("down")

    told = _verdict(
        _make("demo", "--seconds", str(SECONDS))
    )  # gateways subscribe anew, and are sent all that is retained

    assert told["redelivered"] == 0
    assert told["published"] == told["stored"] + told["duplicate"] + told["dead_lettered"] + told["ignored"]
    _make("up")
