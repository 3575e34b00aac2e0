"""What 64 KB can cost: work is counted in calls, Python's and C's, from bytes to rows and letters; no clock is asked.

On the machine that docs/benchmark.md speaks of a call took 40 ns, so that 5 ms were 125,000 of them.
"""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from ingest.city import City
from processors.dialects import DIALECTS
from processors.explaining import Explained, Explainer, Told
from processors.matching import load_profiles
from processors.selfevident import meaning
from tests.hostile import MESSAGES, PACKS, Hostile

RECEIVED_MS = 1_795_428_000_000
CALLS = 120_000
CALLS_A_READING = 130
PROFILES = load_profiles([])


def told(one: Hostile) -> Told:
    return Told(one.topic, one.payload, RECEIVED_MS)


def explainer(one: Hostile, **limits: int) -> Explainer:
    city = {"city": {"key": "wismar", "name": "W"}, "limits": limits, "route": [{"filter": "x", "dialect": "ignore"}]}
    made = Explainer([City.model_validate(city)], profiles=PROFILES)
    made.explain([Told(topic, payload, RECEIVED_MS) for topic, payload in one.before])
    made.explain([Told(one.topic, b'{"a": 1}', RECEIVED_MS)])  # what is compiled once is no message's cost
    meaning.cache_clear()
    return made


def calls(what: Callable[[], Any]) -> tuple[int, Any]:
    counted = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        result = what()
    finally:
        sys.setprofile(before)
    return counted, result


def verdicts(found: Explained) -> int:
    return len(found.rows) + len(found.letters) + len(found.left_out)


def test_every_dialect_has_hostile_messages() -> None:
    assert {one.dialect for one in MESSAGES.values()} == set(DIALECTS)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_64_kb_that_are_no_readings_cost_no_more_than_some_milliseconds_of_calls(name: str) -> None:
    one = MESSAGES[name]
    by = explainer(one)
    counted, (found,) = calls(lambda: by.explain([told(one)]))
    assert found.dialect == one.dialect
    assert verdicts(found) or found.ignored
    assert counted < CALLS


@pytest.mark.parametrize("name", sorted(PACKS))
def test_a_pack_costs_what_its_readings_cost_and_each_has_its_verdict(name: str) -> None:
    one = PACKS[name]
    by = explainer(one)
    counted, (found,) = calls(lambda: by.explain([told(one)]))
    assert verdicts(found) > 1_000
    assert counted < CALLS_A_READING * verdicts(found)


@pytest.mark.parametrize("name", ["ttn: texts", "generic: numbers"])
def test_a_city_may_take_more_keys_and_then_every_leaf_has_its_verdict_at_the_same_cost_a_leaf(name: str) -> None:
    one = MESSAGES[name]
    by = explainer(one, max_keys=20_000)
    counted, (found,) = calls(lambda: by.explain([told(one)]))
    assert verdicts(found) or found.ignored
    assert counted < CALLS + CALLS_A_READING * verdicts(found)
