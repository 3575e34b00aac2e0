"""The metrics of a Sparkplug B message: readings and verdicts, and what a birth declares of them. Pure.

A reading is a number or a boolean: a metric, an element of an array, a cell of a data set, a member of a template. The
key is its name, with the place behind it (`name.0`, `name.0.column`) or the template's name before it (`motor/rpm`).
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from processors.dialects.leaves import most_keys, too_many, unit_text
from processors.dialects.sparkplug_schema import NAMES, elements, number
from processors.dialects.strict_json import Written, shown, storable
from processors.standard.observation import Decoded, Ignored, Leaf, Message, Quality, Reading, Reason, Rejection
from processors.standard.units import LONGEST as LONGEST_UNIT

LONGEST_KEY = 255
LATEST_MS = 253_402_300_799_999  # the end of year 9999

# No observations: commands and what a node says of itself.
_CONTROL = ("Node Control/", "Device Control/", "Properties/", "Node Properties/")
_QUALITIES = {192: int(Quality.GOOD), 500: int(Quality.SUSPECT), 0: int(Quality.FAIL)}
# The specification names no property for units; engUnit is the one that the well-known implementations use.
_UNITS = frozenset({b"engunit", b"engunits", b"engineering units", b"unit", b"units"})
_COMPOSED = frozenset({"bytes_value", "dataset_value", "template_value"})
_SHOWN = 200
_BROKEN = frozenset({Reason.UNKNOWN_ALIAS, Reason.MALFORMED, Reason.INVALID_TEXT, Reason.INVALID_TIME})


class _Metric(NamedTuple):
    """What is known of a metric before its value is looked at."""

    name: str
    kind: int
    unit: str | None


class At(NamedTuple):
    """Whose metrics they are. `birth`: what is in force; `own`: whether it is this very message."""

    device: str
    time: int | None
    birth: dict[str, Any] | None
    own: bool
    model: str
    retained: bool


def bdseq(payload: Any) -> int | None:
    """The number of the connection that a birth or death of a node belongs to."""
    for metric in payload.metrics:
        if metric.name == b"bdSeq":
            field = metric.WhichOneof("value")
            return int(getattr(metric, field)) % 256 if field in {"int_value", "long_value"} else None
    return None


def declared(payload: Any) -> dict[str, Any]:
    """What a birth says its metrics are: type and unit by name, name by alias (null where it names two), the model."""
    metrics: dict[str, list[Any]] = {}
    aliases: dict[str, str | None] = {}
    maker = {"Make": "", "Model": ""}
    for path, metric in _flat(payload.metrics):
        if not path or len(path) > LONGEST_KEY or not storable(path):
            continue
        metrics[path] = [metric.datatype, _unit(metric)]
        if metric.HasField("alias"):
            alias = str(metric.alias)
            aliases[alias] = path if aliases.get(alias, path) == path else None
        what = path.removeprefix("Properties/Hardware ")
        if what in maker and metric.string_value:
            maker[what] = (_text(metric.string_value) or "")[:LONGEST_UNIT]
    model = "/".join(part for part in maker.values() if part)
    return {"metrics": metrics, "aliases": aliases, "model": model if storable(model) else ""}


def _flat(metrics: Any, prefix: str = "") -> Iterator[tuple[str | None, Any]]:
    """Metrics with their names, those of template instances with the template's before it; None: no UTF-8."""
    for metric in metrics:
        text = _text(metric.name)
        path = None if text is None else f"{prefix}{text}"
        yield path, metric
        if path is None or not metric.HasField("template_value"):
            continue
        if len(path) < LONGEST_KEY and not metric.template_value.is_definition:
            yield from _flat(metric.template_value.metrics, f"{path}/")


def leaves(payload: Any, message: Message, at: At) -> Decoded:
    """A verdict on every metric, or one on the message where nothing can be said without a birth."""
    if not payload.metrics:
        if payload.HasField("timestamp") or payload.HasField("seq"):
            return Ignored("no_observation")
        return Rejection(Reason.MALFORMED, "no metrics, no time and no seq: no Sparkplug B message", at.device)
    if at.birth is None and _all_unknown(payload, message.max_keys):
        return _unborn(at)
    found: list[Leaf] = []
    # For what is broken or unknown: a letter for each of thousands would hold up the neighbours.
    room = message.max_keys
    seen: set[tuple[str, int | None, float | None]] = set()
    for metric in payload.metrics:
        composed = metric.WhichOneof("value") in _COMPOSED
        members = _composed(metric, at, most_keys(message)) if composed else (_simple(metric, at),)
        for place, leaf in enumerate(members):
            if place == most_keys(message):
                return too_many(message, at.device)
            if type(leaf) is Reading:
                reading = (leaf.key, leaf.time, leaf.value)
                if at.retained and leaf.time is None:
                    found.append(Ignored("retained"))
                elif reading in seen:
                    found.append(Ignored("second_copy"))
                else:
                    seen.add(reading)
                    found.append(leaf)
            elif composed and type(leaf) is Rejection and leaf.reason is Reason.UNKNOWN_ALIAS:
                # It stands for several readings. One letter for all of them could not be replayed reading by reading.
                return Rejection(Reason.UNKNOWN_STATE, leaf.detail, at.device)
            else:
                found.append(leaf)
                if type(leaf) is Rejection and leaf.reason in _BROKEN:
                    room -= 1
                    if room < 0:
                        return _too_broken(leaf, message, at)
            if len(found) > message.max_readings:
                return too_many(message, at.device)
    return found or Ignored("no_observation")  # templates without members


def _all_unknown(payload: Any, most: int) -> bool:
    """Whether every metric is one that only a birth could explain; metrics with an alias only count beyond `most`."""
    aliases = 0
    for metric in payload.metrics:
        if not metric.name:
            if not metric.HasField("alias"):
                return False
            aliases += 1
        elif _is_complete(metric):
            return False
    return aliases == 0 or aliases > most


def _too_broken(last: Rejection, message: Message, at: At) -> Rejection:
    if last.reason is Reason.UNKNOWN_ALIAS:
        return _unborn(at)
    return Rejection(Reason.MALFORMED, f"more than {message.max_keys} broken parts: {last.detail}", at.device)


def _unborn(at: At) -> Rejection:
    detail = "no birth of this session was seen; replay this once it was, or have the node send it (Rebirth)"
    return Rejection(Reason.UNKNOWN_STATE, detail, at.device)


def _is_complete(metric: Any) -> bool:
    """Whether a metric says all of itself that a birth could say."""
    return bool(metric.datatype) and (metric.WhichOneof("value") == "boolean_value" or _unit(metric) is not None)


def _simple(metric: Any, at: At, prefix: str = "") -> Leaf:
    found = _identified(metric, at, prefix)
    if type(found) is not _Metric:
        return found  # type: ignore[return-value] # a verdict
    time, fault = _metric_time(metric, at)
    if fault is not None:
        return _rejected(*fault, found, metric, at, time)
    field = metric.WhichOneof("value")
    if metric.is_null or field is None:
        return _missing(found, at, time)
    value = number(found.kind, field, getattr(metric, field))
    return _no_number(found, metric, at, time) if value is None else _reading(found, value, metric, at, time)


def _composed(metric: Any, at: At, limit: int, prefix: str = "") -> Iterator[Leaf]:
    """The readings of an array, a data set or a template."""
    field = metric.WhichOneof("value")
    if field not in _COMPOSED or metric.is_null:
        yield _simple(metric, at, prefix)
        return
    found = _identified(metric, at, prefix)
    if type(found) is not _Metric:
        yield found  # type: ignore[misc] # a verdict
        return
    if field == "template_value":
        if metric.template_value.is_definition:
            yield Ignored("no_observation")
            return
        for member in metric.template_value.metrics:
            yield from _composed(member, at, limit, f"{found.name}/")
        return
    time, fault = _metric_time(metric, at)
    if fault is not None:
        yield _rejected(*fault, found, metric, at, time)
    elif field == "dataset_value":
        yield from _cells(metric.dataset_value, found, metric, at, time)
    else:
        members = elements(found.kind, metric.bytes_value)
        if members is None:
            yield _no_number(found, metric, at, time)
            return
        for place, value in enumerate(itertools.islice(members, limit + 1)):
            yield _reading(_Metric(f"{found.name}.{place}", found.kind, found.unit), value, metric, at, time)


def _missing(found: _Metric, at: At, time: int | None) -> Reading:
    return Reading(at.device, "", found.name, None, found.unit, time, None, int(Quality.MISSING), 0, at.model)


def _identified(metric: Any, at: At, prefix: str) -> _Metric | Rejection | Ignored:
    text = _text(metric.name)
    name = f"{prefix}{text}"
    if text == "" and not at.own and metric.HasField("alias"):
        alias = str(metric.alias)
        named = _member(at.birth, "aliases", alias)
        if not isinstance(named, str):
            # Without a key: the reading's place finds it again when its name is known.
            return _unknown("", f"no birth of this session in force names the alias {alias}", metric, at)
        name = named
    elif text == "":
        return _unknown("", "a metric without a name", metric, at, Reason.MALFORMED)
    if text is None or not storable(name):
        return _unknown(
            repr(metric.name[:_SHOWN]), "the name is no UTF-8 or holds a NUL", metric, at, Reason.INVALID_TEXT
        )
    if len(name) > LONGEST_KEY:
        return _unknown(name[:LONGEST_KEY], f"a name of {len(name)} characters", metric, at, Reason.MALFORMED)
    if name == "bdSeq" or name.startswith(_CONTROL) or metric.is_transient:
        return Ignored("no_observation")
    if at.own:
        return _Metric(name, metric.datatype, _unit(metric))
    return _known(name, metric, at)


def _known(name: str, metric: Any, at: At) -> _Metric | Rejection:
    """Type and unit of a metric by its name; what the message itself says goes before the birth."""
    entry = _member(at.birth, "metrics", name)
    unit = _unit(metric)
    if isinstance(entry, list) and len(entry) == 2 and type(entry[0]) is int:  # noqa: PLR2004 - type and unit
        declared = (
            entry[1] if isinstance(entry[1], str) and len(entry[1]) <= LONGEST_UNIT and storable(entry[1]) else None
        )
        return _Metric(name, metric.datatype or entry[0], unit or declared)
    if _is_complete(metric) or metric.WhichOneof("value") == "template_value":
        return _Metric(name, metric.datatype, unit)
    return _unknown(name, "no birth of this session in force says what type and unit it has", metric, at)


def _member(birth: dict[str, Any] | None, table: str, name: str) -> Any:
    entries = birth.get(table) if birth else None
    return entries.get(name) if isinstance(entries, dict) else None


def _metric_time(metric: Any, at: At) -> tuple[int | None, tuple[Reason, str] | None]:
    if not metric.HasField("timestamp"):
        if metric.is_historical:
            return None, (Reason.INVALID_TIME, "historical, but without the time it was measured")
        return at.time, None
    if metric.timestamp > LATEST_MS:
        return None, (Reason.INVALID_TIME, f"time {metric.timestamp} ms is after the year 9999")
    return metric.timestamp * 1000, None


def time_us(payload: Any) -> int | None:
    """When the message was sent, microseconds since the epoch; None where it does not say."""
    return payload.timestamp * 1000 if payload.HasField("timestamp") and payload.timestamp <= LATEST_MS else None


def _cells(dataset: Any, found: _Metric, metric: Any, at: At, time: int | None) -> Iterator[Leaf]:
    """A table's cells, each with its row and its column's name in the key; rows have no time of their own."""
    columns = [_text(name) for name in dataset.columns]
    for place, row in enumerate(dataset.rows):
        if not len(row.elements) == len(columns) == len(dataset.types):
            detail = f"row {place} has {len(row.elements)} elements, the table {len(columns)} columns"
            yield Rejection(Reason.MALFORMED, detail, at.device, "", found.name, None, found.unit, time)
            continue
        for column, kind, cell in zip(columns, dataset.types, row.elements, strict=True):
            here = found._replace(name=f"{found.name}.{place}.{column}", kind=kind)
            field = cell.WhichOneof("value")
            value = None if field is None else number(kind, field, getattr(cell, field))
            if column is None or len(here.name) > LONGEST_KEY or not storable(here.name):
                detail = "a column's name is no text or too long"
                yield Rejection(Reason.INVALID_TEXT, detail, at.device, "", found.name, None, found.unit, time)
            elif field is None:
                yield _missing(here, at, time)
            elif value is None:
                yield _no_number(here, cell, at, time)
            else:
                yield _reading(here, value, metric, at, time)


def _reading(found: _Metric, value: float, metric: Any, at: At, time: int | None) -> Leaf:
    if not math.isfinite(value):
        return _rejected(Reason.NOT_FINITE, f"{found.name} is {value}", found, metric, at, time)
    quality = _quality(metric)
    raw = value if isinstance(value, bool) else None
    return Reading(at.device, "", found.name, float(value), found.unit, time, None, quality, 0, at.model, raw)


def _quality(metric: Any) -> int:
    """The property Quality as a flag; 0 where there is none. A code that the specification lacks is suspect."""
    for key, value in _properties(metric):
        if key == b"Quality" and not value.is_null:
            field = value.WhichOneof("value")
            code = getattr(value, field) if field in {"int_value", "long_value"} else None
            return int(Quality.SUSPECT) if code is None else _QUALITIES.get(code, int(Quality.SUSPECT))
    return 0


def _unit(metric: Any) -> str | None:
    for key, value in _properties(metric):
        if key.lower() in _UNITS and value.string_value:
            return unit_text(_text(value.string_value))
    return None


def _properties(metric: Any) -> Iterable[tuple[bytes, Any]]:
    if not metric.HasField("properties"):
        return ()
    return zip(metric.properties.keys, metric.properties.values, strict=False)


def _no_number(found: _Metric, metric: Any, at: At, time: int | None) -> Rejection:
    name = NAMES[found.kind] if found.kind < len(NAMES) else f"number {found.kind}"
    field = metric.WhichOneof("value")
    if field in {"string_value", "bytes_value"} or name == "DateTime":
        detail = f"{found.name}: {name}, and nothing says what it means"
        return _rejected(Reason.UNMAPPED_PROPERTY, detail, found, metric, at, time)
    return _rejected(
        Reason.MALFORMED, f"{found.name}: {field} does not hold a value of type {name}", found, metric, at, time
    )


def _unknown(key: str, detail: str, metric: Any, at: At, reason: Reason = Reason.UNKNOWN_ALIAS) -> Rejection:
    return _rejected(reason, detail, _Metric(key, 0, None), metric, at, _metric_time(metric, at)[0])


def _rejected(reason: Reason, detail: str, found: _Metric, metric: Any, at: At, time: int | None) -> Rejection:
    field = metric.WhichOneof("value")
    value = None if field is None else _shown(getattr(metric, field))
    return Rejection(reason, detail, at.device, "", found.name or None, value, found.unit, time)


def _shown(value: Any) -> str:
    """A value for a person: text as text, bytes in hexadecimal."""
    if isinstance(value, bytes):
        text = _text(value[:_SHOWN])
        return shown(value[:_SHOWN].hex() if text is None or not storable(text) else text)
    if isinstance(value, int | float):
        return Written(str(value).lower() if isinstance(value, bool) else str(value))
    return f"{type(value).__name__} of {value.ByteSize()} bytes"


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
