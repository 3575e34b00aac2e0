"""Every dialect against real and spoilt messages: a folder is a case, <dialect>/<case>/.

    message        the payload, byte for byte; or, for a person to read, message.diag (CBOR in diagnostic notation) or
                   message.textproto (Sparkplug's protobuf as text)
    expected.json  `topic`, optionally `received`, `retain`, `zone`, `zones` ({pattern: zone}), `options`,
                   `replayed`, `max_readings`, `max_keys`; then what the dialect makes of it: `leaves` in
                   their order, or `rejected` or `ignored` for all of it
    earlier.json   for a stateful dialect: the messages before this one, a list of {topic, payload (text, JSON or
                   {"base64": …} or {"textproto": …}), received?, retain?}

Times are RFC 3339, members with their default are left out. A `detail` is compared only where the case gives one.
"""

import base64
import json
from collections import defaultdict
from pathlib import Path

import cbor_diag
import pytest
from google.protobuf import text_format

from processors.dialects import DIALECTS
from processors.dialects.memory import Stateful, merged
from processors.dialects.sparkplug_schema import Payload
from processors.standard.observation import Ignored, Message, Reading
from processors.standard.times import parse, rfc3339
from processors.standard.zones import Zones

HERE = Path(__file__).parent
CASES = sorted(path.parent.relative_to(HERE) for path in HERE.glob("*/*/expected.json"))
DEFAULTS = {"channel": "", "property": None, "quality": 0, "tests": 0, "model": "", "raw": None}
ZONES = ("zone", "zones")
OPTIONS = ("retain", "max_readings", "max_keys", "options", "replayed")


def told(verdict):
    """A verdict as the cases write it."""
    if isinstance(verdict, Ignored):
        return {"ignored": verdict.why}
    fields = {**verdict._asdict()}
    if fields["time"] is not None:
        fields["time"] = rfc3339(fields["time"])
    if isinstance(verdict, Reading):
        return {name: value for name, value in fields.items() if value != DEFAULTS.get(name, ...)}
    del fields["model"]  # a letter does not keep it
    rejected = {"rejected": fields.pop("reason").value}
    return rejected | {name: value for name, value in fields.items() if value is not None}


def message(case, payload):
    options = {name: case[name] for name in OPTIONS if name in case}
    zones = Zones(case.get("zone", "Europe/Berlin"), list(case.get("zones", {}).items()))
    received = parse(case.get("received", "2026-11-23T10:00:01Z"))
    return Message(case["topic"], payload, received, zones=zones, **options)


def payload_of(case):
    for name, form in (("message.textproto", "textproto"), ("message.diag", "diag")):
        text = HERE / case / name
        if text.exists():
            return bytes_of({form: text.read_text()})
    return (HERE / case / "message").read_bytes()


def bytes_of(payload):
    if isinstance(payload, dict) and set(payload) == {"textproto"}:
        return text_format.Parse(payload["textproto"], Payload()).SerializeToString()
    if isinstance(payload, dict) and set(payload) == {"diag"}:
        return cbor_diag.diag2cbor(payload["diag"])
    if isinstance(payload, dict) and set(payload) == {"base64"}:
        return base64.b64decode(payload["base64"])
    return payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()


def outcome(dialect, payload, case, earlier=()):
    decode = DIALECTS[dialect]
    now = message(case, payload)
    if isinstance(decode, Stateful):
        states = defaultdict(dict)
        for before in earlier:
            source = decode.source(before["topic"])
            step = decode.decode(message(before, bytes_of(before["payload"])), states[source])
            states[source] = json.loads(json.dumps(merged(states[source], step.changed)))  # as it is kept
        verdict = decode.decode(now, states[decode.source(now.topic)]).decoded
    else:
        verdict = decode(now)
    return {"leaves": [told(leaf) for leaf in verdict]} if isinstance(verdict, list) else told(verdict)


def without_details(found, expected):
    if isinstance(found, dict) and isinstance(expected, dict):
        return {name: value for name, value in found.items() if name != "detail" or "detail" in expected}
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_message_is_decoded_as_the_case_says(case):
    told_before = json.loads((HERE / case / "expected.json").read_text())
    expected = {
        name: value for name, value in told_before.items() if name not in {"topic", "received", *OPTIONS, *ZONES}
    }
    earlier = HERE / case / "earlier.json"
    before = json.loads(earlier.read_text()) if earlier.exists() else ()
    found = outcome(case.parts[0], payload_of(case), told_before, before)
    if "leaves" in expected and len(expected["leaves"]) == len(found.get("leaves", ())):
        found["leaves"] = [without_details(*pair) for pair in zip(found["leaves"], expected["leaves"], strict=True)]
    assert without_details(found, expected) == expected


def test_every_dialect_has_cases_and_every_folder_is_one():
    assert {case.parts[0] for case in CASES} == set(DIALECTS)
    assert {path.relative_to(HERE) for path in HERE.glob("*/*") if path.parent.name in DIALECTS} == set(CASES)
