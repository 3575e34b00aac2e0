"""What the broker dropped: read from its own count, and nothing else depends on it."""

import asyncio

import pytest
from prometheus_client import REGISTRY
from pydantic import ValidationError

from ingest import broker
from ingest.city import City, Mqtt
from ingest.metrics import CityMetrics
from ingest.packets import Delivery

TOPIC = "$SYS/broker/publish/messages/dropped"


def city(**mqtt):
    return City.model_validate(
        {"city": {"key": "unit", "name": "U"}, "mqtt": mqtt, "route": [{"filter": "#", "dialect": "hanse"}]}
    )


class Fake:
    made = ()

    def __init__(self, city, accepted, receive, *, passing):
        self.receive, self.passing, self.aborted = receive, passing, False
        self.lost = asyncio.get_running_loop().create_future()
        self.asked = []
        type(self).made += (self,)

    async def open(self):
        return False

    async def subscribe(self, filters, qos):
        self.asked.append((filters, qos))

    def abort(self, reason, detail):
        self.aborted = True


class Refusing(Fake):
    async def subscribe(self, filters, qos):
        raise ConnectionError("MQTT broker refuses to subscribe")


@pytest.fixture
def waits(monkeypatch):
    made = []

    async def wait(seconds):
        made.append(seconds)
        await asyncio.Event().wait() if len(made) > 2 else None

    monkeypatch.setattr(broker.asyncio, "sleep", wait)
    return made


async def turns():
    for _ in range(20):
        done = asyncio.Event()
        asyncio.get_running_loop().call_soon(done.set)
        await done.wait()


async def watched(kind, told=lambda _: None, **mqtt):
    task = asyncio.create_task(broker.watch_dropped(city(**mqtt), told, type("Here", (kind,), {"made": ()})))
    await turns()
    return task


async def test_the_count_comes_by_a_connection_of_its_own_at_qos_0():
    told = []
    kind = type("Here", (Fake,), {"made": ()})
    task = asyncio.create_task(broker.watch_dropped(city(), told.append, kind))
    await turns()
    one = kind.made[0]
    one.receive([Delivery(TOPIC.encode(), b"17", 0, b"", 0), Delivery(b"else", b"5", 0, b"", 0)])
    one.receive([Delivery(TOPIC.encode(), b"nan", 0, b"", 0)])
    assert (one.passing, one.asked, told) == ("watch", [((TOPIC,), 0)], [17.0])
    task.cancel()


async def test_a_broker_that_refuses_is_asked_less_and_less_often_and_the_connection_is_given_up(waits):
    kind = type("Here", (Refusing,), {"made": ()})
    task = asyncio.create_task(broker.watch_dropped(city(), lambda _: None, kind))
    await turns()
    assert not task.done()
    assert all(one.aborted for one in kind.made)
    assert 5 <= waits[0] <= 10 <= waits[1] <= 20 <= waits[2] <= 40
    task.cancel()


async def test_a_broker_is_not_asked_where_the_city_file_says_so():
    kind = type("Here", (Fake,), {"made": ()})
    task = asyncio.create_task(broker.watch_dropped(city(dropped_topic=""), lambda _: None, kind))
    await turns()
    assert kind.made == ()
    task.cancel()


def test_the_topic_is_one_topic():
    with pytest.raises(ValidationError, match="without"):
        Mqtt(dropped_topic="$SYS/#")


@pytest.mark.parametrize("payload", [b"", b"-1", b"1.5", b"1e9", b"9" * 16, b"\xff", b"Infinity"])
def test_anything_but_a_plausible_count_is_no_answer(payload):
    assert broker.number(payload) is None


def test_the_count_begins_where_the_broker_stands_and_survives_its_restart():
    metrics = CityMetrics("dropped")

    def now():
        return REGISTRY.get_sample_value("hanse_gateway_broker_messages_dropped_total", {"city": "dropped"})

    assert now() is None  # no rise from 0 at the gateway's start
    for told, counted in ((100, 100), (100, 100), (103, 103), (2, 105)):
        metrics.broker_dropped(told)
        assert now() == counted
