"""What holds of every verdict on any bytes, and the messages to start from: the golden cases. No test by itself."""

import copy
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processors.dialects import DIALECTS
from processors.dialects.memory import Stateful, merged
from processors.standard.observation import Ignored, Message, Reading, Reason, Rejection
from processors.standard.vocabulary import VOCABULARY
from tests.golden import test_golden as golden

HERE = Path(__file__).parent
RECEIVED = 1_795_428_000_000_000


@dataclass(frozen=True)
class Seed:
    """A golden case: its message, and the state that the messages before it left."""

    topic: str
    payload: bytes
    options: dict[str, Any]
    state: dict[str, Any] = field(default_factory=dict)


def seeds(dialect: str) -> list[Seed]:
    """The golden cases of a dialect, and the messages before them as cases of their own."""
    found = []
    for case in (case for case in golden.CASES if case.parts[0] == dialect):
        told = json.loads((golden.HERE / case / "expected.json").read_text())
        earlier = golden.HERE / case / "earlier.json"
        before = json.loads(earlier.read_text()) if earlier.exists() else []
        state = _state_after(dialect, before)
        options = told.get("options", {})
        found.append(Seed(told["topic"], golden.payload_of(case), options, state))
        found.extend(Seed(one["topic"], golden.bytes_of(one["payload"]), options) for one in before)
    return found


def _state_after(dialect: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    states: dict[str | None, dict[str, Any]] = defaultdict(dict)
    decoder = DIALECTS[dialect]
    if not isinstance(decoder, Stateful):
        return {}
    for one in messages:
        source = decoder.source(one["topic"])
        step = decoder.decode(golden.message(one, golden.bytes_of(one["payload"])), states[source])
        states[source] = json.loads(json.dumps(dict(merged(states[source], step.changed))))
    return {name: part for state in states.values() for name, part in state.items()}


def decode_and_check(dialect: str, message: Message, state: dict[str, Any]) -> dict[str, Any]:
    """Decode, assert what must hold whatever came, and give back the state after it."""
    decoder = DIALECTS[dialect]
    if not isinstance(decoder, Stateful):
        check(decoder(message), message.max_readings)
        return state
    source = decoder.source(message.topic)
    assert source is None or isinstance(source, str)
    untouched = copy.deepcopy(state)
    step = decoder.decode(message, state)
    assert state == untouched, "a dialect changes no part in place"
    check(step.decoded, message.max_readings)
    assert not (message.replayed and step.changed), "a replay changes nothing that is remembered"
    text = json.dumps(dict(step.changed), allow_nan=False, ensure_ascii=False)
    assert "\0" not in text
    text.encode()
    return dict(merged(state, step.changed))


def check(verdict: Any, limit: int) -> None:
    if isinstance(verdict, Rejection | Ignored):
        _check_leaf(verdict)
        return
    assert isinstance(verdict, list)
    assert 0 < len(verdict) <= limit
    for leaf in verdict:
        _check_leaf(leaf)


def _check_leaf(leaf: Any) -> None:
    if isinstance(leaf, Reading):
        assert leaf.device
        assert leaf.key
        assert leaf.value is None or (type(leaf.value) is float and abs(leaf.value) < float("inf"))
        assert (leaf.value is None) == (leaf.quality == 9)
        assert leaf.time is None or (type(leaf.time) is int and abs(leaf.time) < 1 << 62)
        assert leaf.property is None or leaf.property in VOCABULARY
        names = f"{leaf.device}{leaf.channel}{leaf.key}{leaf.unit}{leaf.model}"
        assert "\0" not in names
        names.encode()  # storable: no lone surrogate
        assert len(leaf.device) <= 255
        assert len(leaf.key) <= 300
        assert leaf.raw is None or isinstance(leaf.raw, str | bool)
    elif isinstance(leaf, Rejection):
        assert type(leaf.reason) is Reason
        assert leaf.detail
        assert all(text is None or isinstance(text, str) for text in (leaf.device, leaf.channel, leaf.key, leaf.value))
        assert leaf.time is None or abs(leaf.time) < 1 << 62
    else:
        assert isinstance(leaf, Ignored)
        assert leaf.why
