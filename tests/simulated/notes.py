"""A toy dialect that remembers: what a source noted last gives its later messages their meaning.

    {"note": {part: value or null}}   parts to keep or to forget
    {"second": n}                     a reading whose value is the sum of the remembered numbers, n seconds old
    {"both": {part: value}, "second": n}

Every message adds one to the part "count", so that a message read twice, or not at all, shows in the state.
"""

import json
from typing import Any

from processors.dialects.memory import State, Stateful, Step
from processors.standard.observation import Message, Reading, Reason, Rejection


def source(topic: str) -> str | None:
    levels = topic.split("/")
    return levels[2] if len(levels) > 2 else None


def decode(message: Message, state: State) -> Step:
    try:
        told: dict[str, Any] = json.loads(message.payload)
        noted = told.get("note", {})
    except (ValueError, AttributeError):
        return Step(Rejection(Reason.INVALID_JSON, "no note"))
    changed = {**noted, "count": state.get("count", 0) + 1}
    if "second" not in told:
        return Step([], changed)
    known = [value for name, value in {**state, **noted}.items() if name != "count" and value is not None]
    if not known:
        return Step([Rejection(Reason.UNKNOWN_ALIAS, "nothing noted yet", key="sum")], changed)
    time = message.received_us - told["second"] * 1_000_000
    device = message.topic.rsplit("/", 1)[-1]
    return Step([Reading(device, "", "sum", float(sum(known)), "Cel", time, "air_temperature")], changed)


NOTES = Stateful(source, decode)
