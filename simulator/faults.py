"""Bad input, one class a function: what broken devices, gateways and decoders really send, and the reason due to each.

Where a single reading is bad its neighbours are good, and must be stored.
"""

import base64
import json
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from simulator.devices import Device as Sensor
from simulator.devices import Draft, application, encode, native, stamp
from simulator.expectation import Bad, Expectation, Publication, digest

DEPTH = 5_000
READINGS = 10_001
DEVICE_CHARACTERS = 300
STUB_BYTES = 65_536  # what is kept of a payload beyond the city's limit
NO_NUMBER = 0.123456789  # replaced in the JSON text by what no JSON writer makes


class Scene(NamedTuple):
    """What a fault is made of. `serial` counts the faults of a city; `sensor` is a native device of its own."""

    city: str
    time: int
    random: Random
    serial: int
    sensor: Sensor
    max_payload_bytes: int
    earlier: Draft | None = None  # a message published before, for a conflict

    def draft(self) -> Draft:
        """A good message to be spoiled."""
        return native(self.city, self.sensor, self.time, self.random)


Fault = Callable[[Scene], Publication]


def whole(draft_topic: str, payload: bytes, reason: str, kept: bytes | None = None) -> Publication:
    """A message refused as one."""
    expected = Expectation("", bad=(Bad(None, reason),), kept=digest(payload if kept is None else kept))
    return Publication(draft_topic, payload, retain=False, expected=expected)


def single(draft: Draft, index: int, reason: str, payload: bytes | None = None) -> Publication:
    """A message with one bad reading among good ones."""
    payload = draft.payload if payload is None else payload
    good = tuple(reading for place, reading in enumerate(draft.good) if place != index)
    expected = Expectation("", good, (Bad(index, reason),), kept=digest(payload))
    return Publication(draft.topic, payload, retain=False, expected=expected)


def _spoiled(reason: str, **fields: Any) -> Fault:
    """A fault that is a reading with other fields than it should have."""

    def fault(scene: Scene) -> Publication:
        draft = scene.draft()
        index = scene.serial % len(draft.good)
        draft.body["readings"][index] |= fields
        return single(draft, index, reason)

    return fault


def _token(token: str, *, refused_whole: bool) -> Fault:
    """A fault that is a value which JSON, or a double, does not know."""

    def fault(scene: Scene) -> Publication:
        draft = scene.draft()
        draft.body["readings"][0]["value"] = NO_NUMBER
        payload = draft.payload.replace(str(NO_NUMBER).encode(), token.encode())
        if refused_whole:
            return whole(draft.topic, payload, "invalid_json")
        return single(draft, 0, "not_finite", payload)

    return fault


def _empty(scene: Scene) -> Publication:
    return whole(scene.draft().topic, b"", "empty_payload")


def _not_utf8(scene: Scene) -> Publication:
    draft = scene.draft()
    draft.body["site"] = "@"
    return whole(draft.topic, draft.payload.replace(b"@", "Lübeck".encode("latin-1")), "not_utf8")


def _truncated(scene: Scene) -> Publication:
    draft = scene.draft()
    return whole(draft.topic, draft.payload[: -scene.random.randrange(1, 60)], "invalid_json")


def _not_an_object(scene: Scene) -> Publication:
    draft = scene.draft()
    body = (draft.body["readings"], "offline", scene.serial, None)[scene.serial % 4]
    return whole(draft.topic, encode(body), "not_an_object")


def _too_deep(scene: Scene) -> Publication:
    draft = scene.draft()
    draft.body["readings"] = "@"
    nest = b"[" * DEPTH + b"]" * DEPTH
    return whole(draft.topic, draft.payload.replace(b'"@"', nest), "too_deep")


def _too_large(scene: Scene) -> Publication:
    draft = scene.draft()
    payload = draft.payload.ljust(scene.max_payload_bytes + 1)  # blanks: nothing else is wrong with it
    return whole(draft.topic, payload, "too_large", payload[:STUB_BYTES])


def _too_many_readings(scene: Scene) -> Publication:
    draft = scene.draft()
    draft.body["readings"] = [{"property": "o3"}] * READINGS  # written out they would pass the byte limit first
    return whole(draft.topic, draft.payload, "too_many_readings")


def _no_device(scene: Scene) -> Publication:
    draft = scene.draft()
    del draft.body["device"]
    return whole(draft.topic, draft.payload, "no_device")


def _device_too_long(scene: Scene) -> Publication:
    draft = scene.draft()
    draft.body["device"] = name = "x" * DEVICE_CHARACTERS
    return whole(f"hanse/{scene.city}/weather/{name}", draft.payload, "device_too_long")


def _topic_mismatch(scene: Scene) -> Publication:
    draft = scene.draft()
    return whole(f"hanse/{scene.city}/weather/another", draft.payload, "malformed")


def _no_route(scene: Scene) -> Publication:
    draft = scene.draft()
    topics = (f"{draft.topic}/debug", f"v3/{application(scene.city)}/devices/lora-01/down/queued")
    return whole(topics[scene.serial % 2], draft.payload, "no_route")


def _lorawan_undecoded(scene: Scene) -> Publication:
    """An uplink whose payload formatter failed: only the device's own bytes are there."""
    body = {
        "end_device_ids": {"device_id": "lora-raw"},
        "received_at": stamp(scene.time),
        "uplink_message": {"f_port": 2, "frm_payload": base64.b64encode(scene.random.randbytes(11)).decode()},
    }
    return whole(f"v3/{application(scene.city)}/devices/lora-raw/up", encode(body), "malformed")


def _year_1970(scene: Scene) -> Publication:
    """A clock that lost its battery: the message's time, so every reading of it."""
    draft = scene.draft()
    draft.body["time"] = stamp(scene.serial * 1_000_000)
    bad = tuple(Bad(place, "time_out_of_range") for place in range(len(draft.good)))
    return Publication(
        draft.topic, draft.payload, retain=False, expected=Expectation("", bad=bad, kept=digest(draft.payload))
    )


def _naive_time(scene: Scene) -> Publication:
    draft = scene.draft()
    draft.body["readings"][1]["time"] = stamp(scene.time).removesuffix("Z")
    return single(draft, 1, "naive_time")


def _conflict(scene: Scene) -> Publication:
    """An earlier message again, with another value in one reading."""
    assert scene.earlier is not None
    earlier = scene.earlier
    body = json.loads(encode(earlier.body))
    body["readings"][0]["value"] += 1 + scene.serial
    expected = single(Draft(earlier.topic, body, earlier.good), 0, "conflicting_value")
    return expected._replace(expected=expected.expected._replace(copy=True))


FAULTS: dict[str, Fault] = {
    "empty_payload": _empty,
    "not_utf8": _not_utf8,
    "truncated_json": _truncated,
    "not_an_object": _not_an_object,
    "nan": _token("NaN", refused_whole=True),
    "infinity": _token("-Infinity", refused_whole=True),
    "overflow": _token("1e999", refused_whole=False),
    "number_as_string": _spoiled("not_a_number", value="7.4"),
    "true_as_value": _spoiled("not_a_number", value=True),
    "nul_in_string": _spoiled("invalid_text", channel="mast\0"),
    "lone_surrogate": _spoiled("invalid_text", channel="mast\ud83d"),
    "too_deep": _too_deep,
    "too_large": _too_large,
    "too_many_readings": _too_many_readings,
    "unknown_property": _spoiled("unmapped_property", property="herring_density"),
    "unknown_unit": _spoiled("unknown_unit", unit="klafter"),
    "wrong_dimension": _spoiled("wrong_dimension", unit="kWh"),
    "no_device": _no_device,
    "device_too_long": _device_too_long,
    "topic_mismatch": _topic_mismatch,
    "no_route": _no_route,
    "lorawan_undecoded": _lorawan_undecoded,
    "year_1970": _year_1970,
    "year_2036": _spoiled("time_out_of_range", time="2036-02-07T06:28:16Z"),
    "year_9999": _spoiled("time_out_of_range", time="9999-12-31T23:59:59.999999Z"),
    "naive_time": _naive_time,
    "invalid_time": _spoiled("invalid_time", time="yesterday"),
    "conflict": _conflict,
}
