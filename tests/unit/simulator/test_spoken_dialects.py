"""Each dialect as its network sends it: what it announces, its traps, and what a restarted gateway makes of it."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from types import MappingProxyType

import pytest

from ingest import wire
from ingest.city import City as CityFile
from ingest.city import Route, load
from processors.batching import Intake
from processors.cursor import Bounds, Cursor
from processors.dialects.sparkplug_schema import Payload
from processors.matching import load_profiles
from simulator.check import Letter, Row, count, verify
from simulator.curves import City
from simulator.dialects import DIALECTS
from simulator.dialects.generic import german
from simulator.dialects.network import Sent, Setting, ambiguous
from simulator.expectation import Expectation, Publication, digest
from simulator.networks import Site, messages
from storage.rows import Batch, TopicPartition
from tests.unit.simulator.streams import START, Ticking, recorded
from tests.unit.simulator.test_agreement import Record

CITIES = Path(__file__).parents[3] / "deploy" / "cities"
FILES = {path.stem: load(path) for path in CITIES.glob("*.toml")}
ROUNDS = 90  # of all sensors: the Sparkplug edge restarts twice
MINUTE = 60_000_000
STATIONS = (("0b5f2a6e-5d1c-4f57-9a58-3c8e2f1d7a40", 5.02),)
LIVE = wire.headers("gateway", qos=1, retain=False, dup=False)
RETAINED = wire.headers("gateway", qos=1, retain=True, dup=False)


def _speaking(dialect: str) -> CityFile:
    return next(city for city in FILES.values() if any(route.dialect == dialect for route in city.route))


def _sent(dialect: str, rounds: int = ROUNDS) -> list[Sent]:
    """What a network says in so many rounds of a minute, every tenth of the past where it may be."""
    random = Random(7)
    network = DIALECTS[dialect](Setting("stadt", City(random), random, STATIONS))
    said = list(network.announced(START))
    for number in range(rounds):
        now = START + number * MINUTE
        time = now - 7_200_000_000 - 1_000_000 if network.late and number % 10 == 9 else now
        said += [sensor.make(time, random, now) for sensor in network.sensors]
    return said


def _publications(sent: Sequence[Sent]) -> list[Publication]:
    return [
        Publication(
            s.topic,
            s.payload,
            s.retain,
            Expectation("", s.good, ignored=s.ignored, kept=digest(s.payload) if s.session else None),
        )
        for s in sent
    ]


def _decoded(city: CityFile, live: Sequence[Sent], again: Sequence[Sent] = ()) -> Batch:
    """What the processors make of messages, and of those that the broker kept, sent once more."""
    headers = [LIVE] * len(live) + [RETAINED] * len(again)
    records = [
        Record(
            offset, START // 1_000 + ROUNDS * 60_000 + offset, each.topic.encode(), each.payload, tuple(headers[offset])
        )
        for offset, each in enumerate([*live, *again])
    ]
    intake = Intake([city], profiles=load_profiles([city]))
    intake.add(Cursor(TopicPartition(wire.kafka_topic(city.key), 0), None, Bounds(0, len(records))), records)
    return intake.take()


def _rows(batch: Batch) -> list[Row]:
    columns = batch.columns
    rows = []
    for n in range(len(columns)):
        told = batch.streams.streams[columns.stream[n]]
        row = (told.device, told.channel, told.property, int(columns.time[n]), float(columns.value[n]))
        rows.append(Row(*row, int(columns.quality[n])))
    return rows


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_message_becomes_exactly_the_readings_that_the_simulator_expects(dialect: str) -> None:
    sent = _sent(dialect)

    batch = _decoded(_speaking(dialect), sent)

    record = [each._replace(published=START) for each in recorded(_publications(sent))]
    assert batch.dead == []
    assert verify(record, _rows(batch), []) == []
    (span,) = batch.spans
    counts = count(record)
    assert counts.stored == len(batch.columns) > 100
    assert counts.ignored == span.ignored_messages + span.ignored_readings
    assert {each.dialect for each in batch.streams.streams} == {dialect}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_gateway_that_starts_again_gets_what_the_broker_kept_and_nothing_is_counted_twice(dialect: str) -> None:
    live = _sent(dialect)
    kept = list({each.topic: each for each in live if each.retain}.values())  # the newest of each topic

    once, twice = _decoded(_speaking(dialect), live), _decoded(_speaking(dialect), live, kept)

    assert _rows(once) == _rows(twice)
    assert twice.dead == []
    (before,), (after,) = once.spans, twice.spans
    ignored = after.ignored_messages + after.ignored_readings - before.ignored_messages - before.ignored_readings
    assert ignored == len(kept)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_a_killed_gateway_sends_again_stores_nothing_new_and_is_refused_outside_its_session_alone(
    dialect: str,
) -> None:
    sent, chance = _sent(dialect), Random(3)
    arrived: list[Sent] = []
    begin = 0
    while begin < len(sent):
        end = min(len(sent), begin + chance.randrange(1, 10))
        arrived += sent[begin:end] + sent[max(0, end - chance.randrange(1, 20)) : end]
        begin = end

    batch = _decoded(_speaking(dialect), arrived)

    rows = {row[:4]: row for row in _rows(batch)}
    letters = [Letter(digest(arrived[dead.offset].payload), dead.reading, str(dead.reason)) for dead in batch.dead]
    record = [each._replace(published=START) for each in recorded(_publications(sent))]
    assert verify(record, rows.values(), letters, redelivered=True) == []
    assert bool(letters) is (dialect == "sparkplug")
    assert len(arrived) > 2 * len(sent)


def test_what_describes_the_data_is_retained_where_the_network_retains_it_and_comes_first() -> None:
    described = {
        "homie": "/$description",
        "vzlogger": "/id",
        "zigbee2mqtt": "/bridge/devices",
    }
    for dialect, ending in described.items():
        sent = _sent(dialect, 3)
        places = [place for place, each in enumerate(sent) if each.topic.endswith(ending)]
        assert places
        assert max(places) < min(place for place, each in enumerate(sent) if each.good)
        assert all(sent[place].retain for place in places)


@pytest.mark.parametrize("dialect", ["homie", "sensorthings", "sparkplug", "vzlogger", "zigbee2mqtt"])
def test_without_what_was_announced_the_data_can_not_be_read(dialect: str) -> None:
    data = [each for each in _sent(dialect, 20) if each.good and "BIRTH" not in each.topic]

    batch = _decoded(_speaking(dialect), data)

    assert _rows(batch) == []
    assert {str(dead.reason) for dead in batch.dead} <= {"unknown_state", "unknown_alias"}


def test_a_sparkplug_edge_is_born_anew_with_the_next_session_and_numbers_from_zero() -> None:
    payloads = [(each.topic.split("/")[2], Payload.FromString(each.payload)) for each in _sent("sparkplug")]
    births = [place for place, (kind, _) in enumerate(payloads) if kind == "NBIRTH"]
    sessions = [payloads[place][1].metrics[0].long_value for place in births]

    assert births[0] == 0
    assert len(births) == 3
    assert [(after - before) % 256 for before, after in pairwise(sessions)] == [1, 1]
    for place, begin in enumerate(births):
        end = births[place + 1] - 1 if place + 1 < len(births) else len(payloads)
        session = payloads[begin:end]
        assert [kind for kind, _ in session[:4]] == ["NBIRTH", "DBIRTH", "DBIRTH", "DBIRTH"]
        assert [payload.seq for _, payload in session] == [number % 256 for number in range(len(session))]
        assert all(not metric.name for kind, payload in session if kind == "DDATA" for metric in payload.metrics)
    assert [payloads[place - 1][0] for place in births[1:]] == ["NDEATH", "NDEATH"]


def test_the_sewage_works_feed_the_grid_now_and_then() -> None:
    powers = [
        good.value for each in _sent("sparkplug") for good in each.good if good.property == "electric_active_power"
    ]

    assert min(powers) < 0 < max(powers)


def test_one_network_in_fahrenheit_and_one_in_celsius_tell_one_weather() -> None:
    warmth: dict[str, list[float]] = {}
    for each in _sent("tasmota", 30):
        for good in each.good:
            if good.property == "air_temperature":
                warmth.setdefault(good.device, []).append(good.value or 0.0)
    bodies = Counter(b'"TempUnit":"F"' in each.payload for each in _sent("tasmota", 30) if b"BME280" in each.payload)

    assert bodies == {True: 30, False: 30}
    assert warmth["klima-1"] == pytest.approx(warmth["klima-2"], abs=1.5)


def test_half_of_the_masts_send_cbor() -> None:
    begins = Counter(each.payload[:1] for each in _sent("senml", 10))

    assert begins == {b"[": 20, b"\x85": 20}


@pytest.mark.parametrize(
    ("number", "text"), [(23.5, "23,5"), (1234.5, "1.234,5"), (0.0, "0,0"), (-3.25, "-3,2"), (1e6, "1.000.000,0")]
)
def test_numbers_are_written_as_in_germany(number: float, text: str) -> None:
    assert german(number) == text


@pytest.mark.parametrize(
    ("utc", "twice"),
    [("2026-10-25T00:30:00", True), ("2026-10-25T01:30:00", True), ("2026-10-25T02:00:00", False)],
)
def test_a_clock_on_the_wall_says_nothing_in_the_hour_that_october_repeats(utc: str, twice: bool) -> None:
    at = int(datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp()) * 1_000_000
    clock = Ticking()
    clock.now = at
    stream = messages(Site("kiel", dialects=("tasmota", "generic")), seed=1, clock=clock)
    spoken = Counter(next(stream).expected.kind for _ in range(1_000))

    assert ambiguous(at) is twice
    assert (spoken["generic"] == 0) is twice
    assert (spoken["tasmota"] == 4) is twice  # its devices announce themselves at any hour


def test_a_city_that_routes_nothing_but_its_own_format_has_no_other_networks() -> None:
    spoken = Counter(
        next(stream).expected.kind
        for stream in [messages(Site("kiel", dialects=()), seed=1, clock=Ticking())]
        for _ in range(1_000)
    )

    assert not set(spoken) & set(DIALECTS)


def test_the_routes_order_what_belongs_together() -> None:
    stateful = {"homie": (0, 1), "sensorthings": (0,), "sparkplug": (1, 3), "vzlogger": (0, 1), "zigbee2mqtt": (0,)}
    ordered: dict[str, set[tuple[int, ...] | None]] = {}
    for route in _all_routes():
        ordered.setdefault(route.dialect, set()).add(route.key_levels)

    assert MappingProxyType({name: ordered[name] for name in stateful}) == {k: {v} for k, v in stateful.items()}


def _all_routes() -> list[Route]:
    return [route for city in FILES.values() for route in city.route]
