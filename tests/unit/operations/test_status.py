"""What the status page is told: sums over processes, rates over restarts, and nothing that is not known."""

import http.server
import json
import re
import threading
from datetime import UTC, datetime
from importlib import resources

import pytest
from pydantic import ValidationError

from processors.standard.observation import Quality, QualityTest
from processors.standard.vocabulary import VOCABULARY
from status.metrics import DatabaseMetrics
from status.scrape import Process, read, read_all
from status.settings import Settings
from status.state import State
from storage.overview import CityCounts, Letters, Newest, Streams

PAGE = (resources.files("status") / "page.html").read_text("utf-8")
NOW = 1_000_000.0


def process(**samples):
    return Process(
        "h:1", samples={(name, frozenset({("city", "kiel")})): float(value) for name, value in samples.items()}
    )


def counts(stored=0, key="kiel", name="Landeshauptstadt Kiel"):
    return CityCounts(key, name, 1, stored, stored, 0, 0, 0, 0, 0)


def city(state, now=NOW):
    return state.page(now)["cities"][0]


def test_lag_in_records_is_summed_over_processors_and_in_seconds_the_largest():
    state = State()
    state.processes = [
        process(hanse_processor_lag_records=3, hanse_processor_lag_seconds=9),
        process(hanse_processor_lag_records=4, hanse_processor_lag_seconds=2),
    ]
    state.cities = [counts()]
    assert (city(state)["lag_records"], city(state)["lag_seconds"]) == (7, 9)


def test_a_rate_is_between_two_looks_and_unknown_before():
    state = State()
    for at, stored in ((0, 100), (5, 150)):
        assert city(state)["stored_rate"] is None if state.cities else True
        state.cities = [counts(stored)]
        state.counted(NOW + at)
    assert city(state)["stored_rate"] == 10


def test_the_share_that_is_rejected_is_of_what_came_between_two_looks():
    state = State()
    for at, (stored, dead) in ((0, (100, 900)), (5, (180, 920)), (10, (180, 920))):
        state.cities = [counts(stored)._replace(dead=dead)]
        state.counted(NOW + at)
        told = city(state)["rejected"]
        assert told == {0: None, 5: 0.2, 10: 0.2}[at]
    for later in (30, 31):
        state.counted(NOW + later)
    assert city(state)["rejected"] is None, "nothing came"


def test_a_counter_that_began_anew_gives_no_negative_rate():
    state = State()
    state.cities = [counts()]
    for at, received in ((0, 1_000), (5, 50)):
        state.processes = [process(hanse_gateway_messages_received_total=received)]
        state.counted(NOW + at)
    assert city(state)["received_rate"] == 10


def test_a_city_is_shown_by_its_gateway_alone_while_the_database_was_never_read():
    state = State()
    state.database("database at h:1: refused", NOW)
    state.processes = [process(hanse_gateway_connected=1)]
    told = city(state)
    assert (told["name"], told["connected"], told["counts"]) == ("kiel", 1, None)
    assert state.page(NOW)["database"] == {
        "trouble": "database at h:1: refused",
        "since": state.database_since,
        "read": None,
    }


def test_what_is_not_a_number_is_not_known():
    state = State()
    state.processes = [process(hanse_gateway_connected=1, hanse_gateway_last_message_timestamp_seconds="nan")]
    at = datetime.fromtimestamp(NOW, UTC)
    state.newest = [Newest("kiel", "p", "1", "d", "", at, float("nan"), 9, 0, at)]
    told = json.loads(json.dumps(state.page(NOW), allow_nan=False))
    assert told["cities"][0]["last_message"] is None
    assert told["newest"][0]["value"] is None


def test_what_the_database_said_long_ago_is_not_told_to_prometheus(monkeypatch):
    state = State()
    state.streams, state.letters, state.cities = [Streams("kiel", 5, 1)], [Letters("kiel", "no_route", 2)], [counts()]
    state.database(None, NOW)

    def told(at):
        monkeypatch.setattr("status.metrics.time.time", lambda: at)
        return {family.name: [s.value for s in family.samples] for family in DatabaseMetrics(state).collect()}

    assert told(NOW + 60)["hanse_datastreams_overdue"] == [1]
    state.database("away", NOW + 60)
    later = told(NOW + 600)
    assert (later["hanse_datastreams_overdue"], later["hanse_status_database_up"]) == ([], [0])


def test_a_process_that_answers_nonsense_is_a_line_on_the_page():
    class Nonsense(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hanse_x{city= nonsense\n\xff")

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Nonsense)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = read(f"127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
    assert found.trouble.startswith("answers no metrics")
    assert read(f"127.0.0.1:{server.server_port}").trouble.startswith("does not answer")


def test_processes_are_asked_all_at_once_and_told_in_order():
    everybody = threading.Barrier(3, timeout=10)

    class Waiting(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            everybody.wait()  # answered one after the other, nobody would be
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Waiting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_port
    found = read_all([f"127.0.0.1:{port}", f"127.0.0.1:{port}", f"127.0.0.1:{port}"])
    server.shutdown()
    server.server_close()
    assert [(one.address, one.trouble) for one in found] == [(f"127.0.0.1:{port}", None)] * 3


@pytest.mark.parametrize("text", ["http://a:1", "a", "a:0", "a:1,b", "a:99999", "u@a:1"])
def test_an_address_out_of_form_is_named(text):
    with pytest.raises(ValidationError, match="should be host:port"):
        Settings(database_dsn="dbname=x", status_processes=text)


def test_the_page_knows_every_flag_by_its_name():
    told = re.search(r"const TESTS = \[(.*?)\];", PAGE, re.DOTALL)[1]
    assert re.findall(r'"(.*?)"', told) == [test.name.lower().replace("_", " ") for test in QualityTest]
    shown = re.search(r"const QUALITY = \{(.*?)\};", PAGE, re.DOTALL)[1]
    assert [int(number) for number in re.findall(r"(\d): \[", shown)] == [int(quality) for quality in Quality]


def test_no_unit_of_the_vocabulary_is_shown_in_brackets_of_ucum():
    told = dict(re.findall(r'"([^"]+)": "([^"]*)"', re.search(r"const UNITS = \{(.*?)\};", PAGE, re.DOTALL)[1]))
    units = {one.unit for one in VOCABULARY.values()}
    assert set(told) <= units
    assert [unit for unit in units if re.search(r"[\[{]", told.get(unit, unit))] == []


def test_the_page_loads_nothing_from_elsewhere_and_writes_no_markup_from_data():
    assert re.findall(r'(?:src|href)="(?!data:|#|/status\.json|/metrics)[^"]*"', PAGE) == []
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", PAGE)


@pytest.mark.parametrize(
    "part",
    [
        '<html lang="en">',
        "<main",
        "<header>",
        "<footer>",
        'role="status" aria-live="polite"',
        'scope: "col"',
        "rowheader",
    ],
)
def test_a_screen_reader_finds_its_way(part):
    assert part in PAGE
