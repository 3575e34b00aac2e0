"""`hanse-processor explain`: messages by hand or in bulk, with every decision; and unit conversions. No server needed.

The decisions are the pipeline's own (`explaining`); here they are read and written. Lines come as they are there: what
has arrived is answered before more is waited for.
"""

import base64
import binascii
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import from_json
from rich.console import Console

from ingest.city import load
from processors.dialects.strict_json import Written, kind
from processors.explain_table import show
from processors.explaining import Explained, Explainer, Row, Told
from processors.matching import NO_PROFILES, load_profiles
from processors.standard import times, units
from processors.standard.observation import Leaf, Reading, Reason, Rejection
from processors.standard.vocabulary import VOCABULARY
from processors.verbatim import Numbers, dumps, marked
from storage.rows import DeadLetter

CHUNK_BYTES = 1 << 20
LINES_AT_ONCE = 1_000
_INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf}  # what a token beyond a double is in a letter

Json = dict[str, Any]


class LineError(ValueError):
    """A line that is no message; says why."""


def read_line(line: bytes) -> Told:
    """The message that a line of `--jsonl` is. Raises LineError."""
    try:
        body = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise LineError(f"no JSON: {error}") from error
    if not isinstance(body, dict):
        raise LineError(f"JSON {kind(body)} where an object is expected")
    topic, city = body.get("topic"), body.get("city")
    if not isinstance(topic, str):
        raise LineError("topic is missing or no string")
    if not isinstance(city, str | None):
        raise LineError(f"city: {kind(city)} where a string is expected")
    retain, dup = body.get("retain"), body.get("dup")
    for name, flag in (("retain", retain), ("dup", dup)):
        if not isinstance(flag, bool | None):
            raise LineError(f"{name}: {kind(flag)} where true or false is expected")
    return Told(topic, _payload(body), received(body.get("received_at")), city, bool(retain), bool(dup))


def _payload(body: Json) -> bytes:
    text, coded = body.get("payload"), body.get("payload_base64")
    if (text is None) is (coded is None):
        raise LineError("one of payload and payload_base64 is expected")
    if coded is not None:
        if not isinstance(coded, str):
            raise LineError(f"payload_base64: {kind(coded)} where a string is expected")
        try:
            return base64.b64decode(coded, validate=True)
        except (ValueError, binascii.Error) as error:
            raise LineError(f"payload_base64: {error}") from error
    if isinstance(text, dict | list):  # a convenience: exact bytes need a string
        return json.dumps(text).encode()
    if not isinstance(text, str):
        raise LineError(f"payload: {kind(text)} where a string is expected")
    return text.encode("utf-8", "surrogatepass")


def received(told: object) -> int:
    """Receive time in milliseconds: RFC 3339 or a number of milliseconds since the epoch; now where none is told."""
    if told is None:
        return time.time_ns() // 1_000_000
    if isinstance(told, int) and not isinstance(told, bool) and 0 <= told < 2**53:
        return told
    found = times.parse(told) if isinstance(told, str) else Reason.INVALID_TIME
    if isinstance(found, Reason):
        raise LineError(f"received_at: {told!r:.40} is no RFC 3339 time with a zone")
    return found // 1000


def bulk(source: BinaryIO, sink: BinaryIO, explainer: Explainer) -> None:
    """Answer each line of `source` with one line, in order."""

    def answers(lines: list[bytes]) -> Iterator[Json]:
        read: list[Told | LineError] = []
        for line in lines:
            try:
                read.append(read_line(line))
            except LineError as error:
                read.append(error)
        explained = iter(explainer.explain([one for one in read if isinstance(one, Told)]))
        for one in read:
            yield answer(next(explained)) if isinstance(one, Told) else unreadable(str(one))

    _each(source, sink, answers)


def convert(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer each line {"value", "from", "to"} with {"value"} or {"error"}; `to` is a unit, or a property for its."""
    _each(source, sink, lambda lines: map(_converted, lines))


def _each(source: BinaryIO, sink: BinaryIO, answers: Callable[[list[bytes]], Any]) -> None:
    for lines in _arriving(source):
        for start in range(0, len(lines), LINES_AT_ONCE):
            made = answers(lines[start : start + LINES_AT_ONCE])
            sink.write(b"".join(dumps(one, ensure_ascii=True).encode() + b"\n" for one in made))
        sink.flush()


def _arriving(source: BinaryIO) -> Iterator[list[bytes]]:
    """Lines, as many at a time as are there."""
    rest = b""
    while chunk := os.read(source.fileno(), CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        yield lines
    if rest:
        yield [rest]


def answer(explained: Explained) -> Json:
    """The JSON that says what became of a message, for `verbatim.dumps` to write."""
    numbers = Numbers(explained.told.payload)
    left_out = None
    if not explained.rows and not explained.letters:
        words = dict.fromkeys(why for _, why in explained.left_out)
        left_out = explained.ignored or ", ".join(words) or None
    return {
        "dialect": explained.dialect or None,
        "observations": [_observation(row, numbers) for row in explained.rows],
        "rejections": [_rejection(letter, leaf, numbers) for letter, leaf in explained.letters],
        "ignored": left_out,
    }


def unreadable(why: str) -> Json:
    """The answer to a line that is no message."""
    told = dict.fromkeys(("device", "channel", "raw_key", "raw_value", "raw_unit", "phenomenon_time"))
    rejection = {"reason": Reason.MALFORMED.value, "detail": f"this line is no message: {why}", **told}
    return {"dialect": None, "observations": [], "rejections": [rejection], "ignored": None}


def raw_value(leaf: Leaf, numbers: Numbers) -> Any:
    """The value as it came: a number that no double holds by its own digits."""
    if isinstance(leaf, Rejection):
        infinite = _INFINITE.get(leaf.value or "")
        token = None if infinite is None else numbers.written(infinite, leaf.key)
        if token is None:
            return _unwritten(leaf.value) if isinstance(leaf.value, Written) else leaf.value
        return marked(token)
    if not isinstance(leaf, Reading):
        return None
    if leaf.raw is not None or leaf.value is None:
        return leaf.raw
    token = numbers.written(leaf.value, leaf.key)
    if token is not None:
        return marked(token)
    return int(leaf.value) if leaf.value.is_integer() and abs(leaf.value) < 2**53 else leaf.value


def _unwritten(text: Written) -> Any:
    """A value of a rejection as it came; where it is no JSON (CBOR's NaN), its text."""
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        return str(text)


def _observation(row: Row, numbers: Numbers) -> Json:
    leaf, meaning = row.leaf, row.meaning
    return {
        "device": leaf.device,
        "channel": meaning.channel,
        "property": meaning.observed.key,
        "value": row.value,
        "unit": meaning.observed.unit,
        "phenomenon_time": times.rfc3339(row.time),
        "quality": row.quality,
        "quality_tests": row.tests,
        "raw_key": leaf.key,
        "raw_value": raw_value(leaf, numbers),
        "raw_unit": meaning.unit,
    }


def _rejection(letter: DeadLetter, leaf: Leaf | None, numbers: Numbers) -> Json:
    return {
        "reason": str(letter.reason),
        "detail": letter.detail,
        "device": letter.device,
        "channel": letter.channel,
        "raw_key": letter.raw_key,
        "raw_value": letter.raw_value if leaf is None else raw_value(leaf, numbers),
        "raw_unit": letter.raw_unit,
        "phenomenon_time": shown_time(letter.phenomenon_time),
    }


def shown_time(us: int | None) -> str | None:
    """RFC 3339 in UTC; what lies outside the calendar as its microseconds since the epoch."""
    if us is None:
        return None
    try:
        return times.rfc3339(us)
    except OverflowError:
        return f"{us} us"


def _converted(line: bytes) -> Json:
    try:
        body = from_json(line, allow_inf_nan=False)
        value, source, target = body["value"], body["from"], body["to"]
    except (ValueError, TypeError, KeyError) as error:
        return {"error": f'this line is no {{"value", "from", "to"}}: {error}'}
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {"error": f"value: {kind(value)} where a number is expected"}
    if not isinstance(source, str) or not isinstance(target, str):
        return {"error": "from and to are strings"}
    observed = VOCABULARY.get(target)
    made = units.between(source, target) if observed is None else units.conversion(source, observed)
    if isinstance(made, Reason):
        return {"error": f"{made}: {source!r:.40} to {target!r:.40}"}
    result = made(value)
    if not math.isfinite(result):
        return {"error": f"{Reason.NOT_FINITE}: too large for a double"}
    return {"value": result}


def command(
    *,
    topic: str | None,
    payload: str | None,
    payload_file: Path | None,
    received_at: str | None,
    retain: bool,
    city_files: Sequence[Path],
    no_profiles: bool,
    as_json: bool,
    jsonl: bool,
    converts: bool,
) -> None:
    """What the options ask for. Raises LineError, CityFileError, ProfileError."""
    if converts:
        return convert(sys.stdin.buffer, sys.stdout.buffer)
    cities = [load(path) for path in city_files]
    profiles = NO_PROFILES if no_profiles else load_profiles(cities)
    explainer = Explainer(cities, profiles=profiles)
    if jsonl:
        return bulk(sys.stdin.buffer, sys.stdout.buffer, explainer)
    if topic is None or (payload is None) is (payload_file is None):
        raise LineError("name --topic and one of --payload and --file; or --jsonl, or --convert")
    if payload_file is not None:
        body = payload_file.read_bytes()
    else:
        body = sys.stdin.buffer.read() if payload == "-" else str(payload).encode("utf-8", "surrogateescape")
    told = Told(topic, body, received(received_at), None, retain)
    (explained,) = explainer.explain([told])
    if as_json:
        print(dumps(answer(explained), ensure_ascii=False, indent=2))  # noqa: T201  (it is the answer)
        return None
    console = Console(width=None if sys.stdout.isatty() else 200)
    return show(explained, explainer.city(None), explainer.route(told), console)
