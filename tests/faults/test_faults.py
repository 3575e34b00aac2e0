"""Whatever is killed, stopped or frozen under load: no acknowledged reading is missing, none is there twice."""

import random
import time

import psycopg
import pytest

from tests.faults.again import publish_again
from tests.faults.stack import CITIES, Stack
from tests.integration.gateways import eventually

KILLS = 20


@pytest.fixture
def stack(tmp_path, own_kafka, own_postgres, mosquitto):
    made = Stack(tmp_path, own_kafka(), own_postgres(), {city: mosquitto() for city in CITIES})
    yield made
    made.close()


def _moment(chance):
    time.sleep(chance.uniform(0, 0.6))


def test_a_gateway_killed_twenty_times_loses_nothing(stack):
    chance = random.Random(1)
    for gateway in stack.gateways.values():
        gateway.start()
    stack.processor().start()
    stack.simulate()
    victim = stack.gateways["wismar"]
    for number in range(KILLS):
        _moment(chance)
        victim.kill()
        victim.start(wait=number % 4 > 0)  # every fourth is killed before or while it connects
    assert stack.settled() == []
    assert victim.metric("hanse_gateway_sessions_lost_total") == 0


def test_a_processor_killed_twenty_times_loses_and_doubles_nothing(stack):
    chance = random.Random(2)
    for gateway in stack.gateways.values():
        gateway.start()
    processor = stack.processor().start()
    stack.simulate(rate=400)
    for number in range(KILLS):
        _moment(chance)
        processor.kill()
        processor.start(wait=number % 4 > 0)
    assert stack.settled() == []
    # Nothing was redelivered by MQTT, so the counts agree too.
    assert sum(city.duplicate for city in stack.ledger().values()) == stack.published()["duplicate"]


def test_two_processors_forced_onto_the_same_partitions_store_everything_once(stack):
    for gateway in stack.gateways.values():
        gateway.start()
    # Two groups: each process is given every partition, and each believes that it is alone.
    rivals = [stack.processor(n, HANSE_KAFKA_GROUP=f"group-{n}").start() for n in (1, 2)]
    stack.simulate(rate=400)
    stack.wait_for(8_000)
    assert stack.settled() == []
    assert sum(city.duplicate for city in stack.ledger().values()) == stack.published()["duplicate"]
    assert sum(rival.metric('hanse_processor_rollbacks_total{cause="fenced"}') for rival in rivals) > 0


def test_a_frozen_processor_that_wakes_up_writes_nothing_of_what_another_took_over(stack):
    for gateway in stack.gateways.values():
        gateway.start()
    frozen = stack.processor(1, HANSE_KAFKA_GROUP="group-1").start()
    stack.simulate(rate=400)
    stack.wait_for(1_000)
    frozen.freeze()
    stack.processor(2, HANSE_KAFKA_GROUP="group-2").start()
    stack.wait_for(2_000)
    # The frozen one may hold its rows' locks until the server ends its transaction (rule 6: 30 s at most).
    taken = lambda: sum(c.messages for c in stack.ledger().values()) > 2_500  # noqa: E731
    eventually(taken, seconds=180, what="the other to take over")
    frozen.thaw()
    stack.wait_for(2_000)
    assert stack.settled() == []
    assert sum(city.duplicate for city in stack.ledger().values()) == stack.published()["duplicate"]


def test_everything_delivered_twice_is_counted_twice_and_stored_once(stack):
    for gateway in stack.gateways.values():
        gateway.start()
    stack.processor().start()
    stack.simulate(rate=300)
    stack.wait_for(3_000)
    assert stack.settled() == []
    before = stack.ledger()
    publish_again(stack.kafka.bootstrap, CITIES)
    eventually(lambda: all(stack.ledger()[c].messages == 2 * before[c].messages for c in CITIES), what="the copies")
    assert stack.wrong() == []
    for city in CITIES:
        # Readings without a time of their own take that of their record, so a copy of theirs is another row.
        twice = stack.ledger()[city]
        assert twice.units == 2 * before[city].units
        assert twice.stored - before[city].stored == stack.untimed(city)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_database_that_goes_away_under_load_costs_nothing_but_time(stack, how):
    for gateway in stack.gateways.values():
        gateway.start()
    processor = stack.processor().start()
    stack.simulate()
    for _ in range(3):
        stack.wait_for(600)
        stack.postgres.kill() if how == "killed" else stack.postgres.stop()
        stack.wait_for(300)  # the cities go on being acknowledged
        eventually(lambda: not processor.ready(), what="the processor to be not ready")
        stack.postgres.start()
        eventually(processor.ready, what=f"the processor to be ready again: {processor.log[-2000:]}")
    assert stack.settled() == []
    assert sum(city.dead_lettered for city in stack.ledger().values()) == stack.published()["dead_lettered"]


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_kafka_that_goes_away_under_load_costs_nothing_but_time(stack, how):
    for gateway in stack.gateways.values():
        gateway.start()
    stack.processor().start()
    stack.simulate()
    for _ in range(3):
        stack.wait_for(600)
        stack.kafka.kill() if how == "killed" else stack.kafka.stop()
        stack.wait_for(300)  # the brokers go on taking messages and keep them for the gateways
        stack.kafka.start()
        eventually(lambda: all(g.ready() for g in stack.gateways.values()), what="the gateways to be ready again")
    assert stack.settled() == []


def test_a_crash_that_takes_new_datastreams_with_it_hands_no_id_to_another_device(stack):
    """With asynchronous commit the last transactions are lost, and a sequence gives their ids away again."""
    for gateway in stack.gateways.values():
        gateway.start()
    stack.processor().start()
    stack.simulate(rate=100)
    for _ in range(4):
        stack.wait_for(30)
        stack.postgres.kill()
        stack.postgres.start()
    stack.wait_for(500)
    assert stack.settled() == []
    with psycopg.connect(stack.dsn) as connection:
        nameless = connection.execute(
            "select count(*) from store.observation o left join store.datastream d using (datastream_id) "
            "where d.datastream_id is null"
        ).fetchone()
    assert nameless == (0,)
