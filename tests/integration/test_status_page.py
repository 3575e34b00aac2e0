"""The status page in a real browser: on a phone and a desk, light and dark, by eye and by ear.

The data are made up, and the worst that can be: long names, markup in names, a database that is away. The page and its
server are the real ones. Chromium is the machine's own; `.ci/run` installs Debian's. In CI these tests fail without it,
elsewhere they are skipped and say so.
"""

import json
import time
from datetime import UTC, datetime

import pytest

from service.http import Endpoints
from status.__main__ import pages
from status.scrape import Process
from status.state import State
from storage.overview import CityCounts, Letters, Newest, Streams
from tests.browser import Browser, required

SIZES = pytest.mark.parametrize("width", [390, 1280])
SCHEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
EVIL = '<img src=x onerror="document.title=1">' + "ü" * 120
# For every text: the contrast of its colour to the background that lies behind it, by WCAG 2.1.
CONTRASTS = """
(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * x + .7152 * y + .0722 * z;
  };
  const behind = node => {
    for (; node; node = node.parentElement) {
      const found = parse(getComputedStyle(node).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const told = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(node.nodeName)) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    told.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), walker.currentNode.data.trim().slice(0, 40)]);
  }
  return told;
})()
"""


@pytest.fixture(scope="module")
def browser():
    with Browser(required()) as made:
        yield made


@pytest.fixture
def state():
    made = State()
    at = datetime.fromtimestamp(time.time() - 7, UTC)
    gateway = Process("127.0.0.1:9111", "gateway", "0.1.0")
    gateway.samples = {
        ("hanse_gateway_connected", frozenset({("city", "rostock")})): 1.0,
        ("hanse_gateway_silent", frozenset({("city", "rostock")})): 0.0,
    }
    made.processes = [
        gateway,
        Process("a-very-long-name-of-a-server.rostock.example:9102", trouble="does not answer: " + "x" * 90),
    ]
    made.cities = [
        CityCounts(
            "rostock",
            "Hanse- und Universitätsstadt Rostock",
            12_345_678,
            98_765_432,
            98_000_000,
            7,
            765_425,
            0,
            0,
            10**9,
        ),
        CityCounts("wismar", "Hansestadt Wismar", 1, 1, 0, 0, 0, 0, 1, 0),
    ]
    made.letters = [Letters("rostock", "unknown_unit", 10_000), Letters("wismar", "unknown_unit", 3)]
    made.streams = [Streams("rostock", 280, 3)]
    made.newest = [
        Newest("rostock", "air_temperature", "Cel", EVIL, "1", at, -3.25, 3, 0b11, at),
        Newest("wismar", "electric_reactive_power", "V.A{reactive}", "meter-09", "", at, None, 9, 0, at),
    ]
    made.database(None, time.time())
    return made


@pytest.fixture
def url(state):
    served = Endpoints("127.0.0.1:0", unready=tuple, pages=pages(state))
    yield f"http://127.0.0.1:{served.port}/"
    served.close()


def shown(browser, url, width=1280, *, dark=False):
    browser.open(url, width=width, dark=dark)
    browser.until("document.querySelectorAll('#newest tbody tr').length === 2")


@SIZES
@SCHEMES
def test_nothing_is_cut_off_at_the_side(browser, url, width, dark):
    shown(browser, url, width, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") == width


@SIZES
@SCHEMES
def test_every_text_stands_out_from_what_is_behind_it(browser, url, width, dark):
    shown(browser, url, width, dark=dark)
    told = browser.evaluate(CONTRASTS)
    assert len(told) > 60
    assert [one for one in told if one[0] < 4.5] == []


@SCHEMES
def test_dark_is_dark_and_light_is_light(browser, url, dark):
    shown(browser, url, dark=dark)
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(ground) < 60) if dark else (min(ground) > 200)


@SIZES
def test_a_screen_reader_hears_landmarks_and_tables_with_their_headers(browser, url, width):
    shown(browser, url, width)
    told = browser.accessible()
    roles = [role for role, _ in told]
    for role in ("banner", "navigation", "main", "contentinfo", "status"):
        assert roles.count(role) == 1, role
    sections = ["Cities", "Newest readings", "Ledger", "Open dead letters", "Processes"]
    assert [name for role, name in told if role == "region"] == sections
    assert [name for role, name in told if role == "table"] == sections
    headers = [name for role, name in told if role == "columnheader"]
    assert {"City", "State", "Value", "Unaccounted", "Reason"} <= set(headers)
    assert ("rowheader", "gateway Rostock") in told


def test_what_a_device_calls_itself_is_text_and_never_markup(browser, url):
    shown(browser, url)
    assert browser.evaluate("document.images.length") == 0
    assert browser.evaluate("document.title").startswith("Smarte Hanse")
    assert browser.evaluate("document.querySelector('#newest tbody').textContent").count(EVIL) == 1


def test_numbers_have_units_and_flags_words(browser, url):
    shown(browser, url)
    told = browser.evaluate("document.querySelector('#newest').innerText")
    for word in ("-3.25 °C", "suspect", "gross range, station range", "missing", "electric reactive power"):
        assert word in told


def test_the_first_line_names_what_is_wrong_and_is_said_once(browser, url, state):
    shown(browser, url)
    assert "Records unaccounted for: Hansestadt Wismar." in browser.evaluate(
        "document.querySelector('#verdict').innerText"
    )
    browser.evaluate(
        "window.said = 0; new MutationObserver(() => said++).observe(document.getElementById('verdict'),"
        " {childList: true, characterData: true, subtree: true}); 1"
    )
    first = browser.evaluate("document.getElementById('clock').textContent")
    browser.until(f"document.getElementById('clock').textContent !== {json.dumps(first)}")
    assert browser.evaluate("said") == 0, "nothing new: a screen reader is left in peace"
    state.database("database at db:5432: refused", time.time())
    browser.until("document.querySelector('#verdict').innerText.includes('The database is away since')")
    assert browser.evaluate("said") > 0
    assert browser.evaluate("document.querySelectorAll('.stale').length") == 3


def test_a_look_renews_the_numbers_and_leaves_the_table_where_it_is(browser, url, state):
    shown(browser, url)
    browser.evaluate("window.kept = document.querySelector('#ledger tbody tr td'); 1")
    state.cities = [state.cities[0]._replace(messages=12_345_679), *state.cities[1:]]
    browser.until("document.querySelector('#ledger tbody tr td').textContent === '12,345,679'")
    assert browser.evaluate("kept.isConnected && kept.textContent === '12,345,679'")
    state.cities = state.cities[:1]
    browser.until("document.querySelectorAll('#ledger tbody tr').length === 1")


def test_the_keyboard_reaches_every_part_and_shows_where_it_is(browser, url):
    shown(browser, url)
    reached = []
    for _ in range(6):
        browser.tab()
        reached.append(browser.evaluate("document.activeElement.getAttribute('href')"))
        x, y, outline = browser.evaluate(
            "(a => [a.getBoundingClientRect().x, a.getBoundingClientRect().y, getComputedStyle(a).outlineStyle])"
            "(document.activeElement)"
        )
        assert min(x, y) >= 0, "the hidden link appears once it has the focus"
        assert outline == "solid"
    assert reached == ["#main", "#h-cities", "#h-newest", "#h-ledger", "#h-dead", "#h-processes"]
    assert browser.evaluate(f"{json.dumps(reached)}.every(to => document.querySelector(to))")
