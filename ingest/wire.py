"""The contract between ingest and processors: what a Kafka record of `hanse.raw.<city>` looks like.

    key        MQTT topic (UTF-8), or the topic levels that a route names as ordering key
    value      the payload, untouched
    timestamp  receive time at the gateway, milliseconds since the epoch
    headers    v      wire version
               gw     id of the gateway
               mqtt   one byte: QoS in bits 0-1, retain in bit 2, dup in bit 3
               topic  the MQTT topic, only where the key is not it
               refused  only on a stub: JSON {"size": bytes, "sha256": hex, "why": text}; the value is then the
                      payload's first REFUSED_KEEPS bytes
               replay  only on a dead letter's message sent once more: JSON {"letter": id, "reading": its place in
                      the message or null, "key": what it was called or null, "received_ms" and "offset": of the
                      original record, "correct": true or false}; the record's own timestamp is that of the replay

The city is the Kafka topic's, never the payload's. No I/O here.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

WIRE_VERSION = b"1"
TOPIC_PREFIX = "hanse.raw."
REFUSED_KEEPS = 65_536

Headers = Sequence[tuple[str, bytes]]


def kafka_topic(city: str) -> str:
    """Name of the Kafka topic that takes one city's messages."""
    return TOPIC_PREFIX + city


def city_of(kafka_topic: str) -> str:
    """City key of a Kafka topic name made by `kafka_topic`."""
    return kafka_topic.removeprefix(TOPIC_PREFIX)


class Replay(NamedTuple):
    """Which dead letter a record replays. Members as in the header."""

    letter: int
    reading: int | None
    key: str | None
    received_ms: int
    offset: int
    correct: bool = False


class Envelope(NamedTuple):
    """What key and headers of a record say about its payload."""

    topic: str  # MQTT topic
    gateway: str
    qos: int
    retain: bool
    dup: bool
    refused: str | None  # a stub: why, with the size and digest of the whole payload
    replay: Replay | None = None


class Foreign(NamedTuple):
    """A record that no gateway of a known wire version wrote."""

    detail: str


def headers(gateway: str, *, qos: int, retain: bool, dup: bool, topic: str | None = None) -> list[tuple[str, bytes]]:
    """Headers of a record; one list per combination may be shared by many records."""
    flags = qos | retain << 2 | dup << 3
    made = [("v", WIRE_VERSION), ("gw", gateway.encode()), ("mqtt", bytes((flags,)))]
    if topic is not None:
        made.append(("topic", topic.encode()))
    return made


def refusal(payload: bytes, why: str) -> tuple[bytes, tuple[str, bytes]]:
    """Value and extra header of the stub that stands for a payload Kafka would never take."""
    told = {"size": len(payload), "sha256": hashlib.sha256(payload).hexdigest(), "why": why}
    return payload[:REFUSED_KEEPS], ("refused", json.dumps(told).encode())


def replay_header(replay: Replay) -> tuple[str, bytes]:
    """Extra header of a record that brings a dead letter's message once more."""
    return "replay", json.dumps(replay._asdict()).encode()


def _replay(text: bytes) -> Replay | None:
    try:
        told = json.loads(text)
        read = Replay(*(told[name] for name in Replay._fields))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    numbers = (
        (read.letter, 2**63),
        (0 if read.reading is None else read.reading, 2**31),
        (read.received_ms, 2**53),
        (read.offset, 2**63),
    )
    whole = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < limit for n, limit in numbers)
    return read if whole and isinstance(read.correct, bool) and isinstance(read.key, str | None) else None


def envelope(key: bytes | None, headers: Headers) -> Envelope | Foreign:
    """Read a record's key and headers. Never raises: what is not ours is a `Foreign` with the reason."""
    found = dict(headers)
    version = found.get("v")
    if version != WIRE_VERSION:
        return Foreign(f"wire version {version!r}, expected {WIRE_VERSION!r}")
    flags = found.get("mqtt", b"")
    topic = found.get("topic", key)
    if len(flags) != 1 or topic is None:
        return Foreign("no mqtt header" if len(flags) != 1 else "no MQTT topic")
    refused = found.get("refused")
    replay = None
    if "replay" in found and (replay := _replay(found["replay"])) is None:
        return Foreign("a replay header that is none")
    return Envelope(
        topic=topic.decode("utf-8", "backslashreplace"),
        gateway=found.get("gw", b"").decode("utf-8", "backslashreplace"),
        qos=flags[0] & 3,
        retain=bool(flags[0] & 4),
        dup=bool(flags[0] & 8),
        refused=None if refused is None else refused.decode("utf-8", "backslashreplace"),
        replay=replay,
    )
