import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.packets import Delivery, MalformedError, packet_end, take_publishes


def length(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def publish(topic: bytes, payload: bytes, *, qos=1, mid=7, retain=False, dup=False) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + (mid.to_bytes(2, "big") if qos else b"") + payload
    return bytes((0x30 | dup << 3 | qos << 1 | retain,)) + length(len(body)) + body


def taken(stream: bytes) -> tuple[list[Delivery], int]:
    into: list[Delivery] = []
    return into, take_publishes(stream, 0, 1_700, into)


def test_a_message_carries_the_packet_that_acknowledges_it():
    [delivery], _ = taken(publish(b"a/b", b"21.5", mid=0x1234))
    assert delivery == Delivery(b"a/b", b"21.5", 1, b"\x40\x02\x12\x34", 1_700)


def test_qos_0_is_owed_no_ack_and_qos_2_is_owed_pubrec():
    deliveries, _ = taken(publish(b"a", b"x", qos=0) + publish(b"a", b"y", qos=2, mid=9))
    assert [delivery.ack for delivery in deliveries] == [b"", b"\x50\x02\x00\x09"]


def test_retain_and_dup_are_told_in_the_wires_order():
    deliveries, _ = taken(publish(b"a", b"x", retain=True) + publish(b"a", b"x", dup=True))
    assert [delivery.flags for delivery in deliveries] == [0b0101, 0b1001]


def test_a_run_ends_at_the_first_packet_that_is_no_publish():
    first, pingresp = publish(b"a", b"x"), b"\xd0\x00"
    deliveries, at = taken(first + pingresp + publish(b"a", b"y"))
    assert (len(deliveries), at) == (1, len(first))
    assert packet_end(pingresp, 0) == 2


@pytest.mark.parametrize("size", [0, 1, 100, 126, 127, 128, 16_381, 16_384, 2_097_150, 2_200_000])
def test_every_size_of_remaining_length_is_read(size):
    payload = b"p" * size
    [delivery], at = taken(publish(b"t", payload) + b"\x30")
    assert delivery.payload == payload
    assert at == len(publish(b"t", payload))


@pytest.mark.parametrize("kept", range(1, 140))
def test_a_packet_not_all_there_waits(kept):
    whole = publish(b"topic", b"p" * 150)
    assert taken(whole[:kept]) == ([], 0)


@pytest.mark.parametrize(
    "packet",
    [b"\x32\x00", b"\x32\x01\x00", b"\x32\x03\x00\x09a", b"\x32\x04\x00\x02ab", b"\x36\x05\x00\x01a\x00\x01"],
    ids=["no topic", "half a topic length", "topic beyond the packet", "no packet id", "QoS 3"],
)
def test_what_is_no_publish_is_malformed(packet):
    with pytest.raises(MalformedError):
        taken(packet)


def test_a_length_of_five_bytes_is_malformed():
    with pytest.raises(MalformedError):
        taken(b"\x32\xff\xff\xff\xff\x01")


@given(
    messages=st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=400), st.integers(0, 2))),
    cut=st.integers(0, 4_000),
)
def test_wherever_the_stream_is_cut_the_messages_come_out_whole_and_in_order(messages, cut):
    stream = b"".join(publish(topic, payload, qos=qos) for topic, payload, qos in messages)
    first, at = taken(stream[:cut])
    rest, _ = taken(stream[:cut][at:] + stream[cut:])
    assert [(d.topic, d.payload, d.flags & 3) for d in first + rest] == messages


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_malformed(stream):
    try:
        deliveries, at = taken(stream)
    except MalformedError:
        return
    assert 0 <= at <= len(stream)
    assert sum(len(d.topic) + len(d.payload) for d in deliveries) <= at
