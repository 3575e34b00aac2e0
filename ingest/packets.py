"""PUBLISH packets out of MQTT 3.1.1's byte stream, as many at a time as one read brought.

paho takes about 20 µs a message (three reads from the socket, a dozen objects, five locks); this takes about one. It
knows PUBLISH and where a packet ends, nothing else: every other packet is paho's. Pure.
"""

from typing import NamedTuple

PUBLISH = 0x30
PUBREL = 0x62
PUBACK_OF = b"\x40\x02"
PUBREC_OF = b"\x50\x02"
DISCONNECT = b"\xe0\x00"
PUBCOMP_OF = b"\x70\x02"
ACK_BYTES = 4
MORE = 128  # a byte of the remaining length from here on says that another follows
QOS_BITS, QOS_1, QOS_3 = 6, 2, 6  # of a PUBLISH's first byte


class MalformedError(ValueError):
    """The stream is not MQTT; only a new connection helps."""


class Delivery(NamedTuple):
    """A message together with its ack."""

    topic: bytes
    payload: bytes
    flags: int  # as in the wire's header `mqtt`: QoS in bits 0-1, retain in bit 2, dup in bit 3
    ack: bytes  # the packet that acknowledges it on the connection it came by; empty at QoS 0
    received_at: int  # ms since the epoch


# MQTT's flags (retain, QoS, QoS, dup) in the wire's order.
_WIRE_FLAGS = tuple(bits >> 1 & 3 | (bits & 1) << 2 | bits & 8 for bits in range(16))
_make = tuple.__new__  # NamedTuple's own constructor costs twice as much


def packet_end(stream: bytes, start: int) -> int:
    """Index after the packet at `start`, which may lie past the end; -1 while its length is not all there."""
    length = shift = 0
    for at in range(start + 1, min(start + 5, len(stream))):
        byte = stream[at]
        length |= (byte & MORE - 1) << shift
        if byte < MORE:
            return at + 1 + length
        shift += 7
    if len(stream) >= start + 5:
        raise MalformedError("a remaining length of more than four bytes")
    return -1


def take_publishes(stream: bytes, start: int, received_at: int, into: list[Delivery]) -> int:
    """Append the PUBLISH packets from `start` on; return where one begins that is another or not all there.

    QoS 2 (never asked for, but an older subscription of the same session may have left such messages) is answered with
    PUBREC only once the message is kept, so it is at least once like QoS 1.
    """
    end = len(stream)
    append = into.append
    while start + 2 <= end:
        first = stream[start]
        if first & 0xF0 != PUBLISH:
            break
        length = stream[start + 1]
        at = start + 2
        if length < MORE:
            stop = at + length
        elif at < end and (high := stream[at]) < MORE:  # two bytes: nearly every message
            at += 1
            stop = at + (length - MORE | high << 7)
        else:
            stop = packet_end(stream, start)
            if stop < 0:
                break
            while stream[at] >= MORE:
                at += 1
            at += 1
        if stop > end:
            break
        body = at + 2
        if body > stop:
            raise MalformedError("a PUBLISH without a topic")
        topic_end = body + (stream[at] << 8 | stream[at + 1])
        qos = first & QOS_BITS
        payload_at = topic_end + 2 if qos else topic_end
        if payload_at > stop or qos == QOS_3:
            raise MalformedError("a PUBLISH with a topic longer than itself" if qos != QOS_3 else "a PUBLISH of QoS 3")
        if qos == QOS_1:
            ack = PUBACK_OF + stream[topic_end:payload_at]
        else:
            ack = PUBREC_OF + stream[topic_end:payload_at] if qos else b""
        append(
            _make(
                Delivery,
                (stream[body:topic_end], stream[payload_at:stop], _WIRE_FLAGS[first & 15], ack, received_at),
            )
        )
        start = stop
    return start
