import asyncio
import json

import pytest
from cluster import Cluster

from ingest import forward
from ingest.forward import Forwarder, Lane
from ingest.metrics import CityMetrics

HEADERS = [("v", b"1")]


def record(payload: bytes):
    return (b"key", payload, 1_000, HEADERS)


class Rig:
    def __init__(self, partitions=1):
        self.cluster = Cluster()
        self.kept: list[int] = []
        self.size = 0
        self.forwarder = Forwarder(partitions, self.cluster.made, self._kept, self._resized, CityMetrics("unit"))
        self.next = 0

    def _kept(self, numbers, size):
        self.kept += numbers
        self.size -= size

    def _resized(self, size):
        self.size += size

    def add(self, *payloads, partition=0):
        lane = self.forwarder.lanes[partition]
        for payload in payloads:
            lane.records.append(record(payload))
            lane.numbers.append(self.next)
            self.size += forward.size_of([record(payload)])
            self.next += 1
        lane.filled.set()

    async def settle(self):
        for _ in range(400):
            await asyncio.sleep(0)


@pytest.fixture
async def rig(monkeypatch):
    monkeypatch.setattr(forward, "backoff", lambda failures: 0)
    made = Rig(partitions=2)
    running = asyncio.create_task(made.forwarder.run())
    await made.settle()
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_arrives_while_a_batch_is_under_way_is_one_batch_afterwards(rig):
    rig.cluster.hold = asyncio.Event()
    rig.add(b"1")
    await rig.settle()
    rig.add(b"2")
    rig.add(b"3")
    await rig.settle()
    assert rig.kept == []
    rig.cluster.hold.set()
    await rig.settle()
    assert rig.cluster.sent == [1, 2]
    assert rig.cluster.values() == [b"1", b"2", b"3"]
    assert rig.kept == [0, 1, 2]
    assert rig.size == 0


@pytest.mark.parametrize("position", [0, 1, 6, 7, 12])
async def test_the_one_record_kafka_refuses_becomes_a_stub_in_its_place(rig, position):
    payloads = [b"%d" % number for number in range(13)]
    rig.cluster.refuses = lambda one: one[1] == payloads[position] and len(one[3]) == 1
    rig.add(*payloads)
    await rig.settle()
    assert rig.kept == list(range(13))
    assert rig.cluster.values() == payloads  # a stub keeps the first 64 KB
    [(at, stub)] = [(at, one) for at, one in enumerate(rig.cluster.log[0]) if len(one[3]) > 1]
    assert at == position
    assert json.loads(stub[3][1][1])["why"] == "Kafka refuses it: MESSAGE_TOO_LARGE"
    assert stub[2] > 1_000, "stamped anew: the time may be what Kafka refuses"
    assert rig.size == 0


async def test_two_refused_records_in_one_batch_are_both_found(rig):
    rig.cluster.refuses = lambda one: one[1] in {b"3", b"4"} and len(one[3]) == 1
    rig.add(*(b"%d" % number for number in range(9)))
    await rig.settle()
    assert rig.kept == list(range(9))
    assert [len(one[3]) for one in rig.cluster.log[0]] == [1, 1, 1, 2, 2, 1, 1, 1, 1]


async def test_a_refusal_that_hits_the_stub_too_is_trouble_outside_and_costs_no_other_record(rig):
    rig.cluster.refuses = lambda one: True
    rig.add(b"1", b"2")
    await rig.settle()
    assert rig.kept == []
    assert rig.forwarder.trouble == "Kafka refuses even a stub: MESSAGE_TOO_LARGE"
    rig.cluster.refuses = lambda one: False
    await rig.settle()
    assert rig.kept == [0, 1]
    assert [len(one[3]) for one in rig.cluster.log[0]] == [2, 1]
    assert rig.forwarder.trouble is None


async def test_a_refused_write_is_waited_for_with_a_new_producer_each_time(rig):
    rig.cluster.trouble = "no right to"
    rig.add(b"1")
    await rig.settle()
    assert rig.forwarder.trouble == "no right to"
    assert len(rig.cluster.producers) > 2
    rig.cluster.trouble = None
    await rig.settle()
    assert rig.cluster.values() == [b"1"]
    assert [producer.closed.is_set() for producer in rig.cluster.producers[:-1]] == [True] * (
        len(rig.cluster.producers) - 1
    )


async def test_a_producer_that_stands_still_is_replaced_and_the_same_records_are_sent_in_order(rig):
    rig.cluster.hold = asyncio.Event()
    rig.add(b"1", b"2")
    rig.add(b"3", partition=1)
    await rig.settle()
    rig.cluster.hold, held = None, rig.cluster.hold
    await rig.forwarder.replace("nothing passed")
    await rig.settle()
    assert not held.is_set()
    assert len(rig.cluster.producers) == 2
    assert (rig.cluster.values(0), rig.cluster.values(1)) == ([b"1", b"2"], [b"3"])
    assert sorted(rig.kept) == [0, 1, 2]


async def test_several_lanes_that_fail_together_replace_the_producer_once(rig):
    rig.cluster.hold = asyncio.Event()
    rig.add(b"1")
    rig.add(b"2", partition=1)
    await rig.settle()
    rig.cluster.refuses = lambda one: len(rig.cluster.producers) == 1
    rig.cluster.hold.set()
    await rig.settle()
    assert len(rig.cluster.producers) == 2
    assert sorted(rig.kept) == [0, 1]


def test_records_under_way_or_suspected_are_not_given_up_when_the_broker_sends_again():
    lane = Lane(0)
    lane.records = [record(b"%d" % number) for number in range(6)]
    lane.numbers = list(range(6))
    lane.sending = 2
    assert lane.forget(lambda number: number != 4) == (3, forward.size_of([record(b"x")] * 3))
    assert lane.numbers == [0, 1, 4]


async def test_draining_says_whether_kafka_got_everything(rig):
    rig.add(b"1")
    assert await rig.forwarder.drain(5.0)
    rig.cluster.hold = asyncio.Event()
    rig.add(b"2")
    assert not await rig.forwarder.drain(0.0)
