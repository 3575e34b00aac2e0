"""The gateway against a simulated MQTT connection and a simulated Kafka: the order of effects, without a socket."""

import asyncio
import json

import pytest
import stamina
import structlog
from cluster import Cluster

from ingest import gateway as loop_module
from ingest.city import City
from ingest.gateway import Gateway
from ingest.health import Health, StallClock
from ingest.metrics import CityMetrics
from ingest.mqtt import LoginRefusedError, interval
from ingest.packets import Delivery
from ingest.settings import Settings


class FakeConnection:
    """A connection that the test opens, feeds and loses."""

    present = True
    refuse: Exception | None = None
    made: list["FakeConnection"]

    def __init__(self, city, accepted, receive, **_):
        self.accepted, self.receive = accepted, receive
        self.lost = asyncio.get_running_loop().create_future()
        self.sent = b""
        self.subscribed: list[tuple[str, ...]] = []
        self.unsubscribed: list[tuple[str, ...]] = []
        self.paused = False
        self.gate = asyncio.Event()
        self.gate.set()
        type(self).made.append(self)

    async def open(self):
        await type(self).opens.wait()
        if type(self).refuse is not None:
            raise type(self).refuse
        self.accepted(self, type(self).present)
        return type(self).present

    async def subscribe(self, filters):
        self.subscribed.append(filters)

    async def unsubscribe(self, filters):
        self.unsubscribed.append(filters)

    def acknowledge(self, acks):
        assert not self.lost.done()
        self.sent += acks

    def pause(self):
        self.paused = True

    def resume(self):
        self.paused = False

    async def close(self):
        self.abort("closed", "")

    def abort(self, reason, detail):
        if not self.lost.done():
            self.lost.set_result((reason, detail))


class Kafka(Cluster):
    async def producer(self, topic):
        return await self.made()

    async def probe(self):
        pass

    async def clock_skew(self):
        return self.skew

    skew = 0.0


def ack(mid):
    return b"\x40\x02" + mid.to_bytes(2, "big")


def message(mid, payload=b"21.5", topic=b"hanse/r/1", qos=1):
    return Delivery(topic, payload, qos, ack(mid) if qos else b"", 1_700)


class Rig:
    def __init__(self, fresh=True, settings=None, limits=None, topics=("hanse/#",)):
        self.city = City.model_validate(
            {
                "city": {"key": "unit", "name": "Unit"},
                "mqtt": {"dropped_topic": ""},
                "route": [{"filter": topic, "dialect": "hanse"} for topic in topics],
                "limits": limits or {},
            }
        )
        self.kafka = Kafka()
        self.metrics = CityMetrics("unit")
        self.health = Health(self.metrics, 600)
        self.connections = []
        self.kind = type("Here", (FakeConnection,), {"made": self.connections, "opens": asyncio.Event()})
        self.kind.opens.set()
        self.gateway = Gateway(
            self.city,
            settings or Settings(kafka_partitions=2),
            self.kafka,
            self.health,
            fresh=fresh,
            connection=self.kind,
        )
        self.stop = asyncio.Event()

    @property
    def connection(self):
        return self.connections[-1]

    async def start(self):
        self.running = asyncio.create_task(self.gateway.run(self.stop))
        await self.settle()
        return self

    async def settle(self):
        for _ in range(300):
            await asyncio.sleep(0)

    async def reconnect(self):
        before = self.connection
        before.lost.set_result(("lost", "cut"))
        await self.settle()
        assert self.connection is not before
        return self.connection

    def payloads(self):
        return sorted(value for partition in self.kafka.log for value in self.kafka.values(partition))


@pytest.fixture
async def made():
    rigs = []

    async def make(**given):
        rigs.append(Rig(**given))
        return await rigs[-1].start()

    stamina.set_testing(True, attempts=1_000)
    yield make
    stamina.set_testing(False)
    for rig in rigs:
        rig.running.cancel()
        await asyncio.gather(rig.running, return_exceptions=True)


def count(counter):
    return counter._value.get()


async def test_nothing_is_acknowledged_before_kafka_has_it(made):
    rig = await made()
    rig.kafka.hold = asyncio.Event()
    rig.connection.receive([message(1)])
    await rig.settle()
    assert rig.connection.sent == b""
    rig.kafka.hold.set()
    await rig.settle()
    assert rig.payloads() == [b"21.5"]
    assert rig.connection.sent == ack(1)


async def test_partitions_complete_out_of_order_but_acks_keep_the_order_of_receipt(made):
    rig = await made()
    slow, quick = asyncio.Event(), asyncio.Event()
    partition = {topic: rig.gateway._target(topic).partition for topic in (b"hanse/a", b"hanse/b", b"hanse/c")}
    other = next(topic for topic in partition if partition[topic] != partition[b"hanse/a"])
    producer = rig.kafka.producers[0]
    send = producer.send

    async def delayed(number, batch):
        await (slow if number == partition[b"hanse/a"] else quick).wait()
        await send(number, batch)

    producer.send = delayed
    rig.connection.receive([message(1, topic=b"hanse/a"), message(2, topic=other), message(3, topic=b"hanse/a")])
    quick.set()
    await rig.settle()
    assert rig.connection.sent == b""
    slow.set()
    await rig.settle()
    assert rig.connection.sent == ack(1) + ack(2) + ack(3)


async def test_an_ack_of_the_earlier_connection_is_not_sent_on_the_next_one(made):
    rig = await made()
    rig.kafka.hold = asyncio.Event()
    rig.connection.receive([message(1)])
    await rig.settle()
    connection = await rig.reconnect()
    connection.receive([message(1, payload=b"another")])
    rig.kafka.hold.set()
    await rig.settle()
    assert rig.payloads() == [b"21.5", b"another"]
    assert connection.sent == ack(1), "one ack, of the message of this connection"


async def test_an_ack_that_falls_due_while_the_next_login_is_awaited_is_not_sent(made):
    rig = await made()
    rig.kafka.hold = asyncio.Event()
    rig.connection.receive([message(1)])
    await rig.settle()
    rig.kind.opens.clear()
    connection = await rig.reconnect()
    rig.kafka.hold.set()
    await rig.settle()
    assert rig.payloads() == [b"21.5"]
    rig.kind.opens.set()
    await rig.settle()
    assert connection.sent == b""


async def test_what_waits_for_kafka_is_given_up_when_the_broker_sends_it_again(made):
    rig = await made()
    rig.kafka.hold = asyncio.Event()
    rig.connection.receive([message(1, payload=b"under way")])
    await rig.settle()
    rig.connection.receive([message(2, payload=b"waits"), message(0, payload=b"qos 0", qos=0)])
    connection = await rig.reconnect()
    connection.receive([message(1, payload=b"under way"), message(2, payload=b"waits")])
    rig.kafka.hold.set()
    await rig.settle()
    assert rig.payloads() == [b"qos 0", b"under way", b"under way", b"waits"]
    assert rig.gateway._in_flight.messages == 0
    assert rig.gateway._in_flight.size == 0


async def test_what_waits_for_kafka_is_kept_when_the_broker_forgot_the_session(made):
    rig = await made()
    rig.kafka.hold = asyncio.Event()
    rig.connection.receive([message(1, payload=b"under way")])
    await rig.settle()
    rig.connection.receive([message(2, payload=b"waits")])
    rig.kind.present = False
    lost = count(rig.metrics.sessions_lost)
    connection = await rig.reconnect()
    rig.kafka.hold.set()
    await rig.settle()
    assert rig.payloads() == [b"under way", b"waits"]
    assert connection.sent == b""
    assert count(rig.metrics.sessions_lost) == lost + 1
    assert connection.subscribed == [("hanse/#",)]


@pytest.mark.parametrize(("fresh", "alarms"), [(True, 0), (False, 1)])
async def test_no_session_at_start_is_a_loss_unless_nothing_was_ever_written(made, fresh, alarms):
    before = count(CityMetrics("unit").sessions_lost)
    FakeConnection.present = False
    try:
        rig = await made(fresh=fresh)
    finally:
        FakeConnection.present = True
    assert count(rig.metrics.sessions_lost) - before == alarms


async def test_a_reconnect_to_a_present_session_does_not_subscribe_again(made):
    rig = await made()
    assert rig.connection.subscribed == [("hanse/#",)]
    connection = await rig.reconnect()
    assert connection.subscribed == []


async def test_a_new_process_subscribes_to_new_filters_and_leaves_those_that_are_gone(made, tmp_path):
    settings = Settings(kafka_partitions=2, gateway_state_dir=tmp_path)
    first = await made(settings=settings, topics=("a/#", "b/#"))
    assert first.connection.subscribed == [("a/#", "b/#")]
    same = await made(settings=settings, topics=("a/#", "b/#"))
    assert (same.connection.subscribed, same.connection.unsubscribed) == ([], [])
    changed = await made(settings=settings, topics=("b/#", "c/#"))
    assert (changed.connection.subscribed, changed.connection.unsubscribed) == ([("c/#",)], [("a/#",)])


async def test_a_payload_over_the_limit_goes_on_as_a_stub_and_is_acknowledged(made):
    rig = await made(limits={"max_payload_bytes": 10})
    rig.connection.receive([message(1, payload=b"x" * 11), message(2, payload=b"y" * 10)])
    await rig.settle()
    records = [one for partition in rig.kafka.log.values() for one in partition]
    told = {one[1]: dict(one[3]).get("refused") for one in records}
    assert json.loads(told[b"x" * 11])["why"] == "payload of 11 bytes exceeds max_payload_bytes 10"
    assert told[b"y" * 10] is None
    assert rig.connection.sent == ack(1) + ack(2)


async def test_full_bounds_pause_reading_and_room_resumes_it(made):
    rig = await made(settings=Settings(kafka_partitions=2, gateway_max_in_flight=100))
    rig.kafka.hold = asyncio.Event()
    rig.connection.receive([message(number) for number in range(1, 100)])
    assert not rig.connection.paused
    rig.connection.receive([message(100)])
    assert rig.connection.paused
    rig.kafka.hold.set()
    await rig.settle()
    assert not rig.connection.paused


async def test_a_pause_too_long_for_the_keepalive_ends_and_qos_0_is_dropped_and_counted(made):
    rig = await made(settings=Settings(kafka_partitions=2, gateway_max_in_flight=100))
    rig.kafka.hold = asyncio.Event()
    rig.connection.receive([message(0, qos=0)] * 100)
    rig.gateway._overflow()  # the timer's callback
    assert not rig.connection.paused
    before = count(rig.metrics.dropped)
    rig.connection.receive([message(0, qos=0)] * 5 + [message(1, payload=b"owed")])
    assert count(rig.metrics.dropped) == before + 5
    assert not rig.connection.paused
    rig.kafka.hold.set()
    await rig.settle()
    assert rig.connection.sent == ack(1)
    rig.connection.receive([message(0, qos=0, payload=b"after")])
    await rig.settle()
    assert b"after" in rig.payloads()


async def test_a_login_refused_at_the_start_ends_the_gateway(made):
    FakeConnection.refuse = LoginRefusedError("Not authorized")
    try:
        rig = await made()
        with pytest.raises(LoginRefusedError):
            await rig.running
    finally:
        FakeConnection.refuse = None


async def test_a_login_refused_later_is_waited_for(made):
    rig = await made()
    rig.kind.refuse = LoginRefusedError("Not authorized")
    await rig.reconnect()
    assert rig.health.unready() == ["Not authorized"]
    rig.kind.refuse = None
    await rig.settle()
    assert rig.health.mqtt_trouble is None


async def test_stopping_lets_kafka_finish_acknowledges_and_says_goodbye(made):
    rig = await made()
    rig.kafka.hold = asyncio.Event()
    rig.connection.receive([message(1)])
    await rig.settle()
    rig.stop.set()
    await rig.settle()
    assert rig.connection.paused
    assert not rig.running.done()
    rig.kafka.hold.set()
    await rig.settle()
    assert rig.connection.sent == ack(1)
    assert rig.connection.lost.result() == ("closed", "")
    assert rig.running.done()
    assert rig.kafka.producers[0].closed.is_set()


async def test_stopping_while_kafka_is_away_does_not_wait_for_it(made, monkeypatch):
    monkeypatch.setattr(loop_module, "DRAIN_SECONDS", 0.0)
    rig = await made()
    rig.kafka.hold = asyncio.Event()
    rig.connection.receive([message(1)])
    await rig.settle()
    rig.stop.set()
    await rig.settle()
    assert rig.running.done()
    assert rig.connection.sent == b""


async def test_a_clock_far_from_kafkas_makes_the_gateway_not_ready(made, monkeypatch):
    monkeypatch.setattr(Kafka, "skew", -61.0)
    rig = await made()
    assert rig.health.unready() == ["the clock is -61 s off Kafka's; set it (NTP)"]


@pytest.mark.parametrize("skew", [None, 59.0])
async def test_a_clock_in_step_or_not_to_be_known_blocks_nothing(made, monkeypatch, skew):
    monkeypatch.setattr(Kafka, "skew", skew)
    rig = await made()
    rig.connection.receive([message(1)])
    await rig.settle()
    assert rig.health.unready() == []


def test_the_time_of_an_outage_is_no_standstill():
    stall = StallClock(30)
    away = {"in_flight": True, "answers": False, "last_success": 0.0}
    back = {"in_flight": True, "answers": True, "last_success": 0.0}
    assert not stall.stalled(100.0, **away)
    assert not stall.stalled(105.0, **back)
    assert not stall.stalled(130.0, **back)
    assert stall.stalled(135.0, **back)
    assert not stall.stalled(135.0, **{**back, "last_success": 120.0})


def test_an_idle_producer_does_not_stand_still():
    stall = StallClock(30)
    assert not stall.stalled(100.0, in_flight=False, answers=True, last_success=0.0)
    assert not stall.stalled(105.0, in_flight=True, answers=True, last_success=0.0)


async def test_a_gateway_that_is_thrown_out_again_and_again_asks_for_its_double(made):
    rig = await made()
    with structlog.testing.capture_logs() as said:
        await rig.reconnect()
        await rig.reconnect()
    # The gateway's own lines: where logs are set up, each try is told with its wait besides.
    lost = [one["event"] for one in said if "cut" in one["event"] and "tried_again_in_seconds" not in one]
    assert [line.partition(", ")[2] for line in lost] == [
        "",
        "again soon after the login; does another client use the id 'gateway-unit'?",
    ]


@pytest.mark.parametrize(
    ("messages", "before", "seconds", "milliseconds"),
    [
        pytest.param(1, 0, 60.0, 5, id="the first for a minute"),
        pytest.param(2, 1, 0.04, 5, id="50 a second"),
        pytest.param(4, 3, 0.04, 10, id="100 a second"),
        pytest.param(1_000, 7, 0.02, 40, id="50,000 a second"),
        pytest.param(2, 1, 0.0, 40, id="no time at all"),
        pytest.param(20, 20, 0.02, 5, id="as many again: the broker waits for acks"),
    ],
)
def test_a_busy_citys_reads_are_further_apart_up_to_eight_times(messages, before, seconds, milliseconds):
    assert interval(0.005, messages, before, seconds) == pytest.approx(milliseconds / 1000)


def test_without_an_interval_nothing_waits_however_much_comes():
    assert interval(0.0, 1_000, 1, 0.001) == 0
