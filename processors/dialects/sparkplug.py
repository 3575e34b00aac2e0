"""Sparkplug B: `spBv1.0/<group>/<type>/<edge node>[/<device>]`, protobuf.

DATA messages name metrics by alias, so what births said is remembered per edge node; without the birth a metric is
`unknown_alias`. Readings are every numeric or boolean metric, of births too (they carry current values); keys are
metric names. Meaning is open; the unit is the property `engUnit` where there is one. Specification: Sparkplug 3.0.0.
"""

from typing import Any

from google.protobuf.message import DecodeError

from processors.dialects import sparkplug_births as births
from processors.dialects.history import in_force, learned
from processors.dialects.memory import State, Step
from processors.dialects.sparkplug_metrics import At, bdseq, declared, leaves, time_us
from processors.dialects.sparkplug_schema import Payload
from processors.dialects.strict_json import storable
from processors.standard.observation import Ignored, Message, Reason, Rejection

FILTERS = ("spBv1.0/#",)
KEY_LEVELS = (1, 3)  # group and edge node: seq, births and deaths of a node and its devices are one sequence
LONGEST_DEVICE = 255

_NODE, _DEVICE = 4, 5  # topic levels
_KINDS = {"BIRTH", "DEATH", "DATA", "CMD"}


def source(topic: str) -> str | None:
    """The edge node: its births, deaths and sequence hold for its devices too."""
    levels = topic.split("/")
    if len(levels) not in {_NODE, _DEVICE} or levels[2][1:] not in _KINDS:
        return None
    return f"{levels[1]}/{levels[3]}"


def decode(message: Message, state: State) -> Step:
    """Metrics of births and data, and what to remember. Never raises."""
    levels = message.topic.split("/")
    if len(levels) > 1 and levels[1] == "STATE":
        return Step(Ignored("no_observation"))
    if (
        source(message.topic) is None
        or (levels[2][0] == "D") is not (len(levels) == _DEVICE)
        or levels[2][0] not in "ND"
    ):
        detail = f"topic {message.topic!r:.200} is not spBv1.0/<group>/<type>/<edge node>[/<device>]"
        return Step(Rejection(Reason.MALFORMED, detail))
    kind = levels[2][1:]
    if kind == "CMD":
        return Step(Ignored("no_observation"))
    device = "/".join((levels[1], *levels[3:]))
    if len(device) > LONGEST_DEVICE:
        detail = f"device has {len(device)} characters, at most {LONGEST_DEVICE} are taken"
        return Step(Rejection(Reason.DEVICE_TOO_LONG, detail))
    if not storable(device):
        return Step(Rejection(Reason.MALFORMED, "the topic holds a NUL or half a surrogate pair"))
    try:
        payload = Payload.FromString(message.payload)
    except DecodeError:
        return Step(Rejection(Reason.MALFORMED, "the payload is no Sparkplug B protobuf message", device))
    changed, missed = _sequence(payload, state, kind)
    name = levels[4] if len(levels) == _DEVICE else ""
    if kind == "DEATH":
        step = _death(payload, message, state, name)
    elif not message.payload:
        step = Step(Rejection(Reason.EMPTY_PAYLOAD, "the message has no payload", device))
    elif len(payload.metrics) > message.max_readings:
        detail = f"{len(payload.metrics)} metrics in one message, at most {message.max_readings} are taken"
        step = Step(Rejection(Reason.TOO_MANY_READINGS, detail, device))
    elif payload.uuid == b"SPBV1.0_COMPRESSED":
        step = Step(Rejection(Reason.MALFORMED, "compressed payloads are not read; switch compression off", device))
    elif kind == "BIRTH":
        step = _birth(payload, message, state, name, device)
    else:
        step = _data(payload, message, state, name, device)
    return Step(step.decoded) if message.replayed else Step(step.decoded, {**changed, **step.changed}, missed)


def _sequence(payload: Any, state: State, kind: str) -> tuple[State, int]:
    """The part `seq` if it changed, and how many messages are missing right before this one."""
    if not payload.HasField("seq"):
        return {}, 0
    after = births.counted(state, payload.seq % 256, birth=kind == "BIRTH" and payload.seq == 0)
    if after is None or after == state.get("seq"):
        return {}, 0
    return {"seq": after}, after["missed"] - births.missed(state)


def _death(payload: Any, message: Message, state: State, name: str) -> Step:
    if name:
        session = births.session_of(state, message) or 0
        part = learned(state.get(f"birth:{name}"), None, message.received_us, session)
        return Step(Ignored("no_observation"), {} if part is None else {f"birth:{name}": part})
    sessions = births.died(state, bdseq(payload), message.received_us)
    return Step(Ignored("no_observation"), {} if sessions is None else {"sessions": sessions})


def _birth(payload: Any, message: Message, state: State, name: str, device: str) -> Step:
    """A birth is read by itself; what it declares is remembered, unless it came late."""
    own, at, changed = time_us(payload), message.received_us, dict[str, Any]()
    birth = declared(payload)
    found = leaves(payload, message, At(device, own, birth, True, birth["model"], message.retain))
    if name:
        session = births.session_of(state, message)
        if session is None:
            session, changed["sessions"] = births.noticed(state, at)
        before = state.get(f"time:{name}")
        if own is not None and isinstance(before, list) and before[:1] == [session] and _later(before[1:], own):
            return Step(found)  # an older birth never replaces a newer one
    else:
        begun = births.born(state, bdseq(payload), own, at)
        if begun is None:
            return Step(found)
        session, changed["sessions"] = begun
    if own is not None and name:
        changed[f"time:{name}"] = [session, own]
    part = learned(state.get(f"birth:{name}"), birth, at, session)
    if part is not None:
        changed[f"birth:{name}"] = part
    return Step(found, changed)


def _later(known: list[Any], own: int) -> bool:
    return bool(known) and type(known[0]) is int and known[0] > own


def _data(payload: Any, message: Message, state: State, name: str, device: str) -> Step:
    changed: State = {}
    session = births.session_of(state, message)
    if session is None and not message.replayed:
        changed = {"sessions": births.noticed(state, message.received_us)[1]}
    birth = None if session is None else in_force(state.get(f"birth:{name}"), message, session)
    birth = birth if isinstance(birth, dict) else None
    model = birth.get("model") if birth else ""
    at = At(device, time_us(payload), birth, False, model if isinstance(model, str) else "", message.retain)
    return Step(leaves(payload, message, at), changed)
