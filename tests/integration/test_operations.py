"""What the people on call see, on the whole stack with the simulator and a real Prometheus: queries, page, alerts.

The alerts' windows are scaled down to a thirtieth and Prometheus looks every second; everything else is as delivered.
The faults come last, in the order of the file, and stay.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import partial
from pathlib import Path

import psycopg
import pytest
from grafana.build import DASHBOARDS
from local import fetch, paths
from local.process import recorded
from local.prometheus import RULE_FILES, RULES
from prometheus.metrics_page import QUESTIONS

CHECKOUT = Path(__file__).parents[2]
SCALE = 30
WAIT = 90.0


def until(what, seconds=WAIT):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.25)
    return found


def scaled(text):
    """The rules with windows of minutes divided by SCALE."""

    def shorter(match):
        return f"{match[1]}{max(2, int(match[2]) * 60 // SCALE)}s{match[3]}"

    return re.sub(r"(for: )(\d+)m()", shorter, re.sub(r"(\[)(\d+)m(\])", shorter, text))


def test_promtool_finds_rules_and_their_tests_right():
    tool = fetch.prometheus() / "promtool"
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "tests/alerts.test.yml"]):
        ran = subprocess.run([tool, *command], cwd=RULES, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


class Stack:
    def __init__(self, home):
        self.home = home
        told = json.loads((home / "stack.json").read_text())
        self.metrics, self.reader_dsn = told["metrics"], told["reader_dsn"]

    def end(self, name):
        next(one for one in recorded(self.home / "run") if one.name == name).stop()

    def get(self, path, process="status"):
        with urllib.request.urlopen(f"http://{self.metrics[process]}{path}", timeout=10) as answer:
            return answer.read().decode()

    @property
    def page(self):
        return json.loads(self.get("/status.json"))


def local(home, *arguments):
    command = [sys.executable, "-m", "local", *arguments]
    environment = {**os.environ, "PYTHONPATH": "deploy", "HANSE_SERVERS_DIR": str(home)}
    subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, timeout=200, capture_output=True)


@pytest.fixture(scope="module")
def stack():
    fetch.install()
    home = Path(tempfile.mkdtemp(prefix="hanse operations "))
    home.chmod(0o755)
    (home / "parts").symlink_to(paths.store() / "parts")
    try:
        local(home, "up", "--demo")
        yield Stack(home)
    finally:
        local(home, "down")
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def prometheus(servers, stack):
    rules = Path(tempfile.mkdtemp(prefix="hanse rules "))
    for name in RULE_FILES:
        (rules / name).write_text(scaled((RULES / name).read_text()))
    server = servers.prometheus(targets=stack.metrics, interval=1.0, rules=rules)
    until(lambda: len(server.query("up == 1")) == len(stack.metrics))
    until(lambda: len(server.query("stage:hanse_saturation:ratio")) == 4)
    until(lambda: server.query("city:hanse_rejections:ratio_rate10m"))
    until(lambda: stack.page["newest"])
    yield server
    servers.remove(server)
    shutil.rmtree(rules)


def firing(prometheus):
    """What fires, by name and city; whatever it is, what is said to the person on call is complete."""
    alerts = prometheus.alerts()
    for text in (text for alert in alerts for text in alert["annotations"].values()):
        assert text
        assert not re.search(r"error expanding|no value|\{\{", text), text
    return {(a["labels"]["alertname"], a["labels"].get("city")) for a in alerts if a["state"] == "firing"}


# --- while all is well ---


@pytest.mark.parametrize(("question", "query"), [(question, query) for question, query, _ in QUESTIONS])
def test_what_an_operator_asks_first_is_one_query(prometheus, question, query):
    if question in {"Is anything lost?", "Is anyone silent?"}:
        until(lambda: prometheus.query(query) == [])
    else:
        until(lambda: prometheus.query(query))


@pytest.mark.parametrize(
    ("dashboard", "panel"),
    [(name, panel) for name, (_, panels, _) in DASHBOARDS.items() for panel in panels],
    ids=lambda value: value if isinstance(value, str) else value.title,
)
def test_every_panel_shows_something(stack, prometheus, dashboard, panel):
    for query, how in panel.queries:
        text = query.replace("$city", "rostock").replace("$__rate_interval", "20s").replace("$__range", "5m")
        if panel.sql:
            text = text.replace("$__interval", "1m")  # as Grafana writes it
            text = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 between now() - interval '1 hour' and now()", text)
            assert "$" not in text
            with psycopg.connect(stack.reader_dsn, autocommit=True) as connection:
                names = [column.name for column in connection.execute(text).description]
                assert names[:3] == ["time", "metric", "value"] or how == "table"
                until(lambda asked=text: connection.execute(asked).fetchall())
        else:
            assert "$" not in text
            assert panel.may_be_empty or until(partial(prometheus.query, text))


def test_nothing_fires_while_all_is_well(prometheus):
    # The simulator's share of bad readings is its own; whether it passes a threshold is not the question here. With
    # windows of seconds a machine that is busy makes others fire for a moment; what stays is a false alarm.
    until(lambda: {name for name, _ in firing(prometheus)} <= {"HanseRejections"})


def test_the_page_tells_of_all_cities_with_units_and_umlauts(stack, prometheus):
    cities = sorted(name.removeprefix("gateway-") for name in stack.metrics if name.startswith("gateway-"))

    def untroubled():
        page = stack.page
        troubles = [page["database"]["trouble"], *(one["trouble"] for one in page["processes"])]
        connected = [city["key"] for city in page["cities"] if city["connected"] and city["stored_rate"]]
        return connected == cities and page["dead_letters"] and page["newest"] and not any(troubles) and page

    page = until(untroubled)
    assert "Hansestadt Lübeck" in {city["name"] for city in page["cities"]}
    assert [city["counts"]["unaccounted"] for city in page["cities"]] == [0] * len(cities)
    assert all(one["unit"] and one["quality"] in {1, 2, 3, 4, 9} for one in page["newest"])


# --- faults, each seen by its alert ---


def test_a_citys_broker_that_goes_away_fires_for_that_city_alone(stack, prometheus):
    stack.end("mosquitto-wismar")
    until(lambda: {city for name, city in firing(prometheus) if name == "HanseBrokerAway"} == {"wismar"})
    # The page looks at the processes on its own, every few seconds.
    until(lambda: [city["key"] for city in stack.page["cities"] if city["connected"] == 0] == ["wismar"])


def test_a_gateway_that_ends_fires(stack, prometheus):
    stack.end("gateway-kiel")
    until(lambda: ("HanseProcessDown", None) in firing(prometheus))
    gone = [stack.metrics["gateway-kiel"]]
    until(lambda: [process["address"] for process in stack.page["processes"] if process["trouble"]] == gone)


def test_the_page_outlives_the_database_and_says_what_its_numbers_are_of(stack, prometheus):
    before = stack.page["cities"]
    stack.end("postgres")
    until(lambda: ("HanseDatabaseAway", None) in firing(prometheus))
    page = until(lambda: (p := stack.page)["database"]["trouble"] and p)
    assert page["database"]["read"] <= page["database"]["since"] + 10
    assert [city["name"] for city in page["cities"]] == [city["name"] for city in before]
    until(lambda: "hanse_status_database_up 0.0" in stack.get("/metrics"))
    received = stack.get("/metrics", "gateway-rostock")
    until(lambda: stack.get("/metrics", "gateway-rostock") != received)  # the ingest goes on


def test_kafka_that_goes_away_fires(stack, prometheus):
    stack.end("kafka")
    until(lambda: ("HanseKafkaAway", None) in firing(prometheus))
    until(lambda: stack.page["kafka"] is True)
