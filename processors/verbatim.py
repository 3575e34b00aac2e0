"""Numbers of a JSON payload as they were written, for `explain`: what a double can't hold, digit by digit. Pure.

The pipeline reads numbers as doubles, and forgets how 1e400 or an integer beyond 2**53 was written. Whoever asks why a
value was refused wants to see what came, so the payload is read once more here, and only where it holds such a number.
"""

import json
import math
import re
import secrets
from decimal import Decimal
from typing import Any

# Sixteen digits may be more than a double holds, and an exponent of three digits more than it reaches.
_SUSPECT = re.compile(rb"[\d.]{16}|[eE][+-]?\d{3}")
_MARK = f"number {secrets.token_hex(16)} "  # nobody who writes a payload can know it
_MARKED = re.compile(rf'"{_MARK}([^"]*)"')


class Numbers:
    """The numbers of a payload that a double does not hold as they were written."""

    def __init__(self, payload: bytes) -> None:
        self._found: list[tuple[str, str | None, float]] = []  # path, token if it differs from the double, double
        self._spelled = b"nfinity" in payload or b"\\u" in payload  # a text may look as such a number does in a letter
        if _SUSPECT.search(payload) is not None:
            try:
                body = json.loads(payload, parse_int=_Token, parse_float=_Token)
            except (ValueError, RecursionError):
                return  # no JSON: nothing of it was read as a JSON number
            self._walk(body, "")

    def written(self, value: float, key: str | None) -> str | None:
        """The token that became `value`, where they differ; None too if several did and the key tells none apart."""
        found = [(path, token) for path, token, double in self._found if double == value]
        doubtful = math.isinf(value) and self._spelled
        if key is not None and (doubtful or len({token for _, token in found}) > 1):
            found = [(path, token) for path, token in found if f".{path}".endswith(f".{key}")]
        tokens = {token for _, token in found}
        return tokens.pop() if len(tokens) == 1 else None

    def _walk(self, node: Any, path: str) -> None:
        if isinstance(node, _Token):
            value = float(node)
            self._found.append((path, None if _is_exact(node, value) else str(node), value))
        elif isinstance(node, dict | list):
            for name, inner in node.items() if isinstance(node, dict) else enumerate(node):
                self._walk(inner, f"{path}.{name}" if path else str(name))


class _Token(str):
    __slots__ = ()


def _is_exact(token: str, value: float) -> bool:
    try:
        return math.isfinite(value) and Decimal(token) == Decimal(repr(value))
    except ArithmeticError:  # an exponent beyond Decimal's
        return False


def marked(token: str) -> str:
    """A number's token as a text that `dumps` writes without quotes."""
    return _MARK + token


def dumps(answer: Any, **options: Any) -> str:
    """JSON text, with marked tokens as the numbers that they are."""
    text = json.dumps(answer, **options)
    return _MARKED.sub(r"\1", text) if _MARK in text else text
