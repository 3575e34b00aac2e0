"""The standard as a document: docs/standard.md and the native message's JSON Schema, made from what the code knows.

`python -m processors.document` writes both into `docs`; a test sees to it that they are current.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from processors.dialects import hanse
from processors.standard.consistency import CONSISTENCY, SOURCES
from processors.standard.meanings import MEANINGS
from processors.standard.observation import Quality, QualityTest, Reason
from processors.standard.unece import CODES
from processors.standard.vocabulary import VOCABULARY, ObservedProperty

DOCS = Path(__file__).parents[1] / "docs"
PAGE, SCHEMA = "standard.md", "schema/native-message-1.json"
DRAFT = "https://json-schema.org/draft/2020-12/schema"

KINDS = {
    "gauge": "the value at a moment",
    "mean": "the mean over the time since the previous report",
    "max": "the maximum over that time",
    "sum": "the amount since the previous report",
    "counter": "a reading that only grows, unless the device is reset; never averaged",
    "state": "0 or 1",
}
TESTS = {
    QualityTest.GROSS_RANGE: "outside the property's gross range (fail), or suspect within it",
    QualityTest.STATION_RANGE: "outside what the station can show",
    QualityTest.GATEWAY_TIME: "the message had no time: it is the gateway's receive time",
    QualityTest.SOURCE_FLAGGED: "the source itself doubts it",
    QualityTest.SPIKE: "differs too much from the readings before it (suspect)",
    QualityTest.RATE_OF_CHANGE: "changed too fast (suspect)",
    QualityTest.FLAT_LINE: "has not changed for too long (suspect)",
    QualityTest.UNIT_IMPLIED: "the unit was concluded, not told",
    QualityTest.VALUE_CLIPPED: "the source clipped it",
    QualityTest.LOCAL_TIME_AMBIGUOUS: "local time in the repeated or missing hour",
}
HEAD = """# Hanse Observation Profile 1

The shared standard of the Smarte Hanse: what is measured is called the same and kept in the same unit in every
city. A city can hand this page to a supplier. It is made by `python -m processors.document` from the vocabulary
that the code uses; the [JSON Schema of the native message](schema/native-message-1.json) is made with it.

An observation follows OGC SensorThings 1.1 and ISO 19156: one value of one observed property, from one datastream
(city, device, channel, property), at one time. `result` is always a number, states are 0 and 1. Units are UCUM
codes. Times are UTC with microseconds. Smart Data Models and CF conventions are views of it: their names stand
beside each property.

## The native message

MQTT topic `hanse/<city>/<domain>/<device>`, JSON:

    {"v": 1, "device": "weather-07", "time": "2026-11-23T10:00:00Z",
     "readings": [{"property": "air_temperature", "value": 7.4, "unit": "Cel"},
                  {"property": "precipitation", "value": 1.2, "unit": "mm", "time": "2026-11-23T09:50:00Z"}]}

`unit` is required, in any accepted spelling that converts to the property's unit: what networks write (`°C`, `µg/m³`,
`l/qm`), and what UCUM's rules spell (`mm/min`, `kg.m-2.s-1`). `time` is RFC 3339 with a zone; a
reading's own goes before the message's; without any the gateway's receive time counts, and is marked so. Optional
for each reading: `channel` (default ""), `quality` (the flags below), `parameters` (scalars). A value may be null
with quality 9, and only then.
"""
OVER_TIME = """## Tests over time

A reading is compared with those before it in its datastream, never with later ones, so its flag is final when it is
stored. What is too far from them is stored with flag 3 (suspect) and the test's value in `quality_tests`.

- **spike**: further than the difference from the newest reading and from the newest good one, if at most an hour old.
- **rate of change**: further from both than a step within its time; of readings further apart in time a step may be
  larger in proportion. Where two are given both hold.
- **flat line**: the very same number for as long as that or longer, without a longer gap.

Good is what neither spike nor rate of change doubts. So an outlier is flagged and the return from it is not, and a
lasting change of level costs one flag. Readings that are missing, or that another test or the source doubts, are
neither tested nor compared with. A reading that is not newer than every one before it (late, or delivered again) is not
tested over time. Readings of one message are taken in the order of their times. What is older than 24 hours is not
compared with.

Properties that do not stand here have no published figure that certainly holds, and are not tested over time. A city's
file may say otherwise for its devices.
"""
VERSIONS = """## Versions

This is version 1, `"v": 1` in the native message. Without a new version: a property is added, a spelling of a unit
is added, a meaning is put more clearly, a gross range is widened, an optional member is added to the message. A new
version is needed where a sender or a reader that was right would become wrong: a property is removed, renamed, or
means something else; its unit or kind changes; a gross range is narrowed; a required member is added or an existing
one changes; a flag, a test or a reason changes its meaning. Both versions are then taken side by side for at least
a year.
"""


def page() -> str:
    """The text of docs/standard.md."""
    parts = [HEAD, f"## Properties\n\n{len(VOCABULARY)} properties. Kinds:\n"]
    parts.append(_table(("kind", "meaning"), KINDS.items()))
    parts.append(
        "A value outside the gross range is kept, with flag 4. Smart Data Models: type.attribute, and the factor by "
        "which the canonical value becomes theirs where it is not 1. UN/CEFACT is the unit's code in NGSI-LD.\n"
    )
    for domain, known in groupby(VOCABULARY.values(), lambda one: one.domain):
        head = ("property", "meaning", "unit", "range", "kind", "Smart Data Models", "CF standard name", "UN/CEFACT")
        parts += [f"### {domain}\n", _table(head, map(_row, known))]
    parts += ["## Quality\n", "QARTOD flags; the worst wins, in the order 9 < 2 < 1 < 3 < 4.\n"]
    parts.append(_table(("flag", "meaning"), ((flag.value, flag.name.lower().replace("_", " ")) for flag in Quality)))
    parts.append("`quality_tests` is the sum of the tests that fired:\n")
    parts.append(
        _table(("value", "test", "meaning"), ((t.value, (t.name or "").lower(), TESTS[t]) for t in QualityTest))
    )
    parts += [OVER_TIME, _table(("property", "spike", "rate of change", "flat line"), map(_tested, CONSISTENCY))]
    parts.append("".join(f"- {name}: {source}.\n" for name, source in SOURCES.items()))
    parts.append("## Reasons\n\nWhat becomes no observation is a dead letter, kept whole with one of these reasons:\n")
    parts.append(", ".join(f"`{reason}`" for reason in Reason) + "\n")
    parts.append(VERSIONS)
    return "\n".join(parts)


def _row(known: ObservedProperty) -> Sequence[str]:
    model = f"{known.sdm_type}.{known.sdm_attribute}" if known.sdm_type else ""
    if model and known.sdm_factor not in {None, 1.0}:
        model += f" x {known.sdm_factor:g}"
    meaning = MEANINGS[known.key] + (f" ({known.notes})" if known.notes else "")
    span = f"{known.minimum:g} to {known.maximum:g}"
    code = CODES.get(known.unit, "")
    return (f"`{known.key}`", meaning, f"`{known.unit}`", span, known.kind, model, known.cf_standard_name, code)


def _tested(key: str) -> Sequence[str]:
    unit, told = VOCABULARY[key].unit, CONSISTENCY[key]
    spike = f"{told.spike[0]:g} {unit} ({told.spike[1]})" if told.spike else ""
    rate = ", ".join(f"{one.difference:g} {unit} in {one.seconds // 60} min ({one.source})" for one in told.rate)
    return f"`{key}`", spike, rate, f"{told.flat[0] / 3600:g} h ({told.flat[1]})" if told.flat else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def schema() -> dict[str, Any]:
    """The JSON Schema of the native message, from the model that decodes it."""
    made = TypeAdapter(hanse.RawMessage).json_schema(ref_template="#/$defs/{model}")
    made = json.loads(json.dumps(made).replace("_RawReading", "reading").replace("RawReading", "reading"))
    _untitled(made)
    reading = made["$defs"]["reading"]
    reading["properties"]["quality"] = {"enum": [*(int(flag) for flag in Quality), None]}
    missing = {"properties": {"value": {"type": "null"}}}
    declared = {"properties": {"quality": {"const": int(Quality.MISSING)}}, "required": ["quality"]}
    reading |= {"if": missing, "then": declared, "else": {"not": declared}}
    for place in (made, reading):
        place["properties"]["time"]["description"] = "RFC 3339 with a zone"
    return {
        "$schema": DRAFT,
        "title": "Native message of the Hanse Observation Profile, version 1",
        "description": "docs/standard.md; the unit must also convert to the property's, which a schema can't say",
        **made,
    }


def _untitled(node: Any) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        for inner in node.values():
            _untitled(inner)
    elif isinstance(node, list):
        for inner in node:
            _untitled(inner)


def texts() -> dict[str, str]:
    """Every made file's text, by its path in docs."""
    return {PAGE: page(), SCHEMA: json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"}


def main(docs: Path) -> None:
    """Write them."""
    for name, text in texts().items():
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        (docs / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
