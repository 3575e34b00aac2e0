"""JSON as the dialects take it: strict, of bounded depth, and every refusal a `Rejection` with its place.

Not accepted: NaN and Infinity tokens, byte order marks, other encodings than UTF-8, more than MAX_DEPTH levels. A
number too large for a float is no fault of the text: it costs its own reading only. A member that appears twice counts
as it was written last.
"""

import json
import math
from collections.abc import Iterable
from typing import Any, NoReturn

from pydantic_core import from_json

from processors.standard.observation import Reason, Rejection

MAX_DEPTH = 201  # where the fast parser stops, too
LONGEST_VALUE = 200
_KINDS = {type(None): "null", bool: "boolean", str: "string", list: "array", dict: "object"}
_written = json.JSONEncoder(ensure_ascii=False).encode  # made once: making one costs more than using it
_LONGEST_INTEGER = 18  # digits that need no second thought; Python refuses to read 4,300 of them


class Written(str):
    """The JSON text of a value that was no string, so that it can be shown again as what it was."""

    __slots__ = ()


class _TokenError(ValueError):
    pass


def load_object(payload: bytes) -> dict[str, Any] | Rejection:
    """The JSON object that a payload is. Never raises."""
    body = load(payload)
    if isinstance(body, dict | Rejection):
        return body
    return Rejection(Reason.NOT_AN_OBJECT, f"JSON {kind(body)} where an object is expected")


def load(payload: bytes) -> Any:
    """The JSON value that a payload is, or a `Rejection` (which no JSON value can be). Never raises."""
    try:
        return from_json(payload, allow_inf_nan=False)
    except ValueError:
        return _load_slowly(payload)


def storable(text: str) -> bool:
    """Whether PostgreSQL can keep the text: no NUL, no lone surrogate."""
    if "\0" in text:
        return False
    if text.isascii():  # as most names are
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def number(value: float) -> float | None:
    """A JSON number as a float; None if it is too large for one."""
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def kind(value: object) -> str:
    """What JSON calls a value."""
    return _KINDS.get(type(value), "number")


def shown(value: object) -> str:
    """A raw value as text for a dead letter: strings as they are, the rest as JSON, clipped."""
    text = value if isinstance(value, str) else Written(_written(value))
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _load_slowly(payload: bytes) -> Any:
    """The verdict on what the fast parser refused, and the few valid texts that it can't read."""
    if not payload:
        return Rejection(Reason.EMPTY_PAYLOAD, "the message has no payload")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        return Rejection(Reason.NOT_UTF8, f"byte {error.start} is not UTF-8: {error.reason}")
    try:
        body = json.loads(text, parse_constant=_refuse, parse_int=_integer)
    except RecursionError:
        return _too_deep()
    except _TokenError as error:
        return Rejection(Reason.INVALID_JSON, str(error))
    except json.JSONDecodeError as error:
        return Rejection(Reason.INVALID_JSON, f"{error.msg} at line {error.lineno} column {error.colno}")
    return _too_deep() if _deeper_than(MAX_DEPTH, body) else body


def _too_deep() -> Rejection:
    return Rejection(Reason.TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels")


def _deeper_than(limit: int, body: object) -> bool:
    level: list[object] = [body]
    for _ in range(limit):
        level = [child for node in level for child in _children(node) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _children(node: object) -> Iterable[object]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def _refuse(token: str) -> NoReturn:
    raise _TokenError(f"{token} is not JSON")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)
