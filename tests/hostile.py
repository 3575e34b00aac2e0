"""Messages of 64 KB that are made to cost as much as they can: thousands of leaves, keys or broken parts. No test.

`MESSAGES` are no packs of readings, so that their cost is bounded whatever they hold; `PACKS` are, and each of their
readings costs what a reading costs.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from processors.dialects.sparkplug_schema import Payload

SIZE = 65_536
MOST = 10_000  # of anything: beyond the bound on readings all of it would be refused at once


class Hostile(NamedTuple):
    """A message, and what of its state must be known before."""

    dialect: str
    topic: str
    payload: bytes
    before: tuple[tuple[str, bytes], ...] = ()


def _json(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _keys(count: int, value: Any = 1) -> dict[str, Any]:
    return {f"{number:x}": value for number in range(count)}


def _ttn(uplink: dict[str, Any]) -> bytes:
    return _json({"end_device_ids": {"device_id": "d"}, "uplink_message": uplink})


def _shelly(params: dict[str, Any]) -> bytes:
    return _json({"method": "NotifyStatus", "params": params})


def _hanse(readings: list[Any]) -> bytes:
    return _json({"v": 1, "device": "d", "readings": readings})


def _pegel(series: Any) -> bytes:
    return _json({"uuid": "u", "timeseries": series})


def _z2m(exposes: list[Any]) -> bytes:
    return _json([{"friendly_name": "a", "definition": {"vendor": "v", "model": "m", "exposes": exposes}}])


def _chirpstack(n: int, value: Any) -> bytes:
    return _json({"deviceInfo": {"devEui": "01" * 8}, "object": _keys(n, value)})


def _homie(n: int) -> bytes:
    return _json({"nodes": {"n": {"properties": _keys(n, {})}}})


def _sensorthings(n: int) -> bytes:
    stream = {"@iot.id": 1, "name": "d", "unitOfMeasurement": {"symbol": "m"}}
    return _json({"result": [1] * n, "Datastream": stream})


def _birth(n: int, *, array: bool = False, **more: int) -> bytes:
    payload: Any = Payload()
    payload.seq = 0
    if array:
        payload.metrics.add(name=b"a", datatype=22, bytes_value=b"\1" * n)
    for number in range(0 if array else n):
        payload.metrics.add(name=f"{number:x}".encode(), alias=number, datatype=4, long_value=1, **more)
    return payload.SerializeToString()  # type: ignore[no-any-return]  # made by protobuf


def _nameless(n: int) -> bytes:
    payload: Any = Payload()
    for _ in range(n):
        payload.metrics.add(datatype=4, long_value=1)
    return payload.SerializeToString()  # type: ignore[no-any-return]  # made by protobuf


def _data(n: int) -> bytes:
    payload: Any = Payload()
    payload.seq = 1
    for number in range(n):
        payload.metrics.add(alias=number, datatype=4, long_value=1)
    return payload.SerializeToString()  # type: ignore[no-any-return]  # made by protobuf


TTN, SHELLY = "v3/a/devices/d/up", "shellypro-001122334455/events/rpc"
CHIRPSTACK, PEGEL = "application/1/device/0101010101010101/event/up", "edis/pegelonline/a/b/c/d/u/w"
Make = Callable[[int], bytes]
_MESSAGES: dict[str, tuple[str, str, Make]] = {
    "ttn: numbers": ("ttn", TTN, lambda n: _ttn({"decoded_payload": _keys(n)})),
    "ttn: texts": ("ttn", TTN, lambda n: _ttn({"decoded_payload": _keys(n, "x")})),
    "ttn: an array": ("ttn", TTN, lambda n: _ttn({"decoded_payload": {"a": [1] * n}})),
    "ttn: normalized": ("ttn", TTN, lambda n: _ttn({"normalized_payload": [{"battery": 1}] * n})),
    "ttn: no measurements": ("ttn", TTN, lambda n: _ttn({"normalized_payload": [1] * n})),
    "ttn: gateways": ("ttn", TTN, lambda n: _ttn({"decoded_payload": {"a": 1}, "rx_metadata": [{"time": "x"}] * n})),
    "chirpstack: texts": ("chirpstack", CHIRPSTACK, lambda n: _chirpstack(n, "x")),
    "tasmota: sensors": ("tasmota", "tele/t/SENSOR", lambda n: _json(_keys(n, {"a": 1}))),
    "tasmota: texts": ("tasmota", "tele/t/SENSOR", lambda n: _json({"X": _keys(n, "x")})),
    "tasmota: relays": ("tasmota", "tele/t/STATE", lambda n: _json({f"POWER{i}": "x" for i in range(n)})),
    "generic: numbers": ("generic", "g/d", lambda n: _json(_keys(n))),
    "generic: commas": ("generic", "g/d", lambda n: _json(_keys(n, "1,5"))),
    "generic: objects": ("generic", "g/d", lambda n: _json(_keys(n, {"a": 1}))),
    "generic: an array": ("generic", "g/d", lambda n: _json([1] * n)),
    "generic: no times": ("generic", "g/d", lambda n: _json([{"ts": "x", "a": 1}] * n)),
    "senml: no records": ("senml", "senml/x", lambda n: _json([1] * n)),
    "senml: no values": ("senml", "senml/x", lambda n: _json([{}] * n)),
    "senml: names": ("senml", "senml/x", lambda n: _json([{"n": f"{i:x}", "v": 1} for i in range(n)])),
    "iot_agent_json: commas": ("iot_agent_json", "/json/k/d/attrs", lambda n: _json(_keys(n, "1,5"))),
    "iot_agent_json: measures": ("iot_agent_json", "/json/k/d/attrs", lambda n: _json([{"a": 1}] * n)),
    "iot_agent_json: no times": (
        "iot_agent_json",
        "/json/k/d/attrs/a",
        lambda n: _json([{"value": 1, "timestamp": "x"}] * n),
    ),
    "ultralight: values": ("ultralight", "/ul/k/d/attrs", lambda n: b"|".join([b"a|1"] * n)),
    "ultralight: texts": ("ultralight", "/ul/k/d/attrs", lambda n: b"|".join(b"%x|x" % i for i in range(n))),
    "ultralight: groups": ("ultralight", "/ul/k/d/attrs", lambda n: b"#" * n),
    "sensor_community: values": (
        "sensor_community",
        "sensor.community/x",
        lambda n: _json({"esp8266id": "1", "sensordatavalues": [{"value_type": "a", "value": "1"}] * n}),
    ),
    "ecowitt: texts": ("ecowitt", "ecowitt/x", lambda n: _json(_keys(n, "1"))),
    "ecowitt: weewx": ("ecowitt", "ecowitt/loop", lambda n: _json(_keys(n, "1"))),
    "pegelonline: one value": (
        "pegelonline",
        PEGEL,
        lambda n: _pegel({"shortname": "W", "unit": "cm", "measurements": [{"value": 1}] * n}),
    ),
    "pegelonline: no series": ("pegelonline", PEGEL, lambda n: _pegel([{}] * n)),
    "shelly: components": ("shelly", SHELLY, lambda n: _shelly(_keys(n, {"a": 1}))),
    "shelly: fields": ("shelly", SHELLY, lambda n: _shelly({"em:0": _keys(n)})),
    "hanse: no readings": ("hanse", "hanse/a/b/d", lambda n: _hanse([1] * n)),
    "hanse: empty ones": ("hanse", "hanse/a/b/d", lambda n: _hanse([{}] * n)),
    "sensorthings: results": ("sensorthings", "v1.1/Datastreams(1)/Observations", _sensorthings),
    "homie: a description": ("homie", "homie/5/d/$description", _homie),
    "zigbee2mqtt: exposes": (
        "zigbee2mqtt",
        "zigbee2mqtt/bridge/devices",
        lambda n: _z2m([{"property": f"{i:x}", "type": "numeric", "access": 1} for i in range(n)]),
    ),
    "zigbee2mqtt: texts": ("zigbee2mqtt", "zigbee2mqtt/a", lambda n: _json(_keys(n, "x"))),
    "vzlogger: no number": ("vzlogger", "vzlogger/c/raw", lambda n: _json({"value": [1] * n})),
    "sparkplug: an array": ("sparkplug", "spBv1.0/g/NBIRTH/e", lambda n: _birth(n, array=True)),
    "sparkplug: no birth": ("sparkplug", "spBv1.0/g/NDATA/e", _data),
    "sparkplug: other aliases": ("sparkplug", "spBv1.0/g/NDATA/e", _data),
    "sparkplug: no names": ("sparkplug", "spBv1.0/g/NBIRTH/e", _nameless),
    "sparkplug: no times": ("sparkplug", "spBv1.0/g/NBIRTH/e", lambda n: _birth(n, timestamp=2**63)),
    "json: depth": ("generic", "g/d", lambda n: b"[" * n),
    "json: NaN at the end": ("generic", "g/d", lambda n: b"[" + b"1," * n + b"NaN]"),
    "json: digits": ("generic", "g/d", lambda n: b"1" * n),
}
_TIMES = [f"2026-11-23T{hour:02}:{minute:02}:00Z" for hour in range(10) for minute in range(60)]
_PACKS: dict[str, tuple[str, str, Make]] = {
    "generic": ("generic", "g/d", lambda n: _json([{"ts": _TIMES[i % 600], "a": i} for i in range(n)])),
    "senml": ("senml", "senml/x", lambda n: _json([{"n": "a", "t": 1_795_428_000 + i, "v": i} for i in range(n)])),
    "hanse, unknown properties": ("hanse", "hanse/a/b/d", lambda n: _hanse([{"property": "x"}] * n)),
    "sparkplug birth": ("sparkplug", "spBv1.0/g/NBIRTH/e", _birth),
}
_BEFORE = {
    "zigbee2mqtt: texts": (("zigbee2mqtt/bridge/devices", _z2m([])),),
    "sparkplug: other aliases": (("spBv1.0/g/NBIRTH/e", _birth(0)),),
}


def _largest(make: Make) -> bytes:
    count = MOST
    while len(made := make(count)) > SIZE:
        count = count * SIZE // len(made) - 1
    return made


def _made(of: dict[str, tuple[str, str, Make]]) -> dict[str, Hostile]:
    return {
        name: Hostile(dialect, topic, _largest(make), _BEFORE.get(name, ()))
        for name, (dialect, topic, make) in of.items()
    }


MESSAGES = _made(_MESSAGES)
PACKS = _made(_PACKS)
