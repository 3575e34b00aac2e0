"""What is taken for granted of paho and aiokafka beyond their documentation: fails where a new version differs."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from paho.mqtt.client import Client

from ingest.city import City
from ingest.mqtt import Connection, LoginRefusedError, _Client
from ingest.stream import Stream

CONNECT = b"\x10\x16\x00\x04MQTT\x04\x00\x00\x1e\x00\x0agateway-xy"


class Wire:
    """A socket in memory."""

    def __init__(self):
        self.written = b""
        self.closed = False

    def send(self, data):
        self.written += data
        return len(data)

    def fileno(self):
        return -1

    def close(self):
        self.closed = True


@pytest.fixture
async def wire():
    return Wire()


@pytest.fixture
async def client(wire):
    made = _Client(Stream(wire), "gateway-xy", clean_session=False)
    made.connect("broker.invalid", 1883, keepalive=30)
    return made


def test_paho_makes_its_socket_where_ours_is_put_in_its_place():
    assert "_create_socket" in vars(Client)


async def test_paho_logs_in_by_the_stream_with_a_session_and_no_other_socket(client, wire):
    assert wire.written == CONNECT


async def test_paho_reads_a_packet_handed_to_it_whole_and_no_further(client, wire):
    told = []
    client.on_connect = lambda _c, _u, flags, reason, _p: told.append((flags.session_present, reason.getName()))
    client._stream.hand_to_paho(b"\x20\x02\x01\x00")
    client.loop_read()
    assert told == [(True, "Success")]
    client.loop_read()
    assert client.is_connected()


async def test_paho_pings_though_it_saw_no_message_and_takes_the_answer(client, wire, monkeypatch):
    client._stream.hand_to_paho(b"\x20\x02\x00\x00")
    client.loop_read()
    now = [1_000_000.0]
    monkeypatch.setattr("paho.mqtt.client.time_func", lambda: now[0])
    client.loop_misc()
    assert wire.written.endswith(b"\xc0\x00")
    client._stream.hand_to_paho(b"\xd0\x00")
    client.loop_read()
    now[0] += 31
    client.loop_misc()
    assert client.is_connected()
    assert wire.written.endswith(b"\xc0\x00\xc0\x00")


async def test_paho_subscribes_in_one_write_and_says_what_was_granted(client, wire):
    client._stream.hand_to_paho(b"\x20\x02\x00\x00")
    client.loop_read()
    told = []
    client.on_subscribe = lambda _c, _u, mid, codes, _p: told.append((mid, [code.value for code in codes]))
    _, mid = client.subscribe([("a/#", 1), ("b", 1)])
    assert wire.written.endswith(b"\x82\x0c" + mid.to_bytes(2, "big") + b"\x00\x03a/#\x01\x00\x01b\x01")
    client._stream.hand_to_paho(b"\x90\x04" + mid.to_bytes(2, "big") + b"\x01\x80")
    client.loop_read()
    assert told == [(mid, [1, 128])]


@pytest.mark.parametrize(
    ("code", "kind"), [(2, LoginRefusedError), (4, LoginRefusedError), (5, LoginRefusedError), (3, ConnectionError)]
)
async def test_a_refused_login_is_told_from_a_broker_in_trouble(code, kind):
    city = City.model_validate({"city": {"key": "xy", "name": "X"}, "route": [{"filter": "#", "dialect": "x"}]})
    connection = Connection(city, lambda *_: None, lambda _: None)
    connection._stream = Stream(Wire())
    connection._client = _Client(connection._stream, "gateway-xy", clean_session=False)
    connection._client.on_connect = connection._on_connect
    connection._client.on_disconnect = connection._on_disconnect
    connection._client.connect("broker.invalid", 1883)
    connection._control(b"\x20\x02\x00" + bytes((code,)))
    assert type(connection._connack.exception()) is kind
    assert connection.lost.done()


async def test_aiokafkas_sender_is_a_task_that_can_be_ended():
    producer = AIOKafkaProducer(bootstrap_servers="broker.invalid:1")
    assert producer._sender.sender_task is None
    producer._sender._sender_task = asyncio.create_task(asyncio.sleep(0))
    assert producer._sender.sender_task.cancel()
    await producer.stop()
