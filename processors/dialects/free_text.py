"""Numbers in the strings of networks that send text: "23.5", "23,5", "1.234,5", "45%", "12 °C". Pure.

`read` answers a `Quantity` (a number, and the unit that was glued to it), `Missing` (the source's word for having no
value) or a `Fault`; never anything else and never an exception, whatever the text. What is decided here, because texts
are ambiguous:

- One point or comma alone is the decimal separator: "1.234" and "1,234" are both 1.234, never a thousand.
- Both together: the last one is the decimal separator, the other must part groups of three: "1.234,5", "1,234.5".
- Several of one kind alone ("1.234.567") may be a version, an address or a number: no number.
- The comma counts only with `comma=True`: for text that people or their spreadsheets wrote, not for firmware's printf.
- "0xFFFF" is a number with `hexadecimal=True` only, and never 0 with a strange unit.
- "nan" and "inf" are what broken sensors print: `not_finite`, not missing.
"""

import math
import re
from typing import NamedTuple

from processors.standard.observation import Reason

LONGEST = 80  # characters of a number with its unit; a longer text is no number
_SHOWN = 40

# What sources write where they have no value. Compared without case and without blanks around.
MISSING = frozenset(
    {"", "-", "--", "---", "null", "none", "n/a", "na", "unavailable", "unknown", "undefined", "k.a.", "keine daten"}
)
_NOT_FINITE = frozenset({"nan", "inf", "infinity"})

# Digits are ASCII ones: float() would take Arabic ones and underscores, too.
_SIGN = r"[+\-\u2212]?"
_EXPONENT = r"(?:[eE][+-]?[0-9]+)?"
_POINT = rf"{_SIGN}(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+){_EXPONENT}"
_GROUPS = r"[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+\.[0-9]+"
_COMMA = rf"{_SIGN}(?:{_GROUPS}|[0-9]*,[0-9]+{_EXPONENT})"
# A unit begins with a letter or one of these signs, and holds nothing that could be part of a second number or a list.
_UNIT = r"(?P<unit>(?:[^\W\d_]|[%‰°º˚℃℉])[^,;:=\"'\\<>|\x00-\x1f\ud800-\udfff]{0,30})"
# Between them a blank, or the asterisk of meters (IEC 62056-21); what holds digits side by side is an identity.
_REST = rf"(?![.,0-9])(?:\s*\*?\s*(?!\S*[0-9][0-9]){_UNIT})?"
_WITH_POINT = re.compile(rf"(?P<number>{_POINT}){_REST}")
_WITH_COMMA = re.compile(rf"(?P<number>{_COMMA}|{_POINT}){_REST}")
_CODE = re.compile(r"[+-]?0[xX]")
_HEXADECIMAL = re.compile(r"0[xX]([0-9a-fA-F]{1,12})")


class Quantity(NamedTuple):
    """A number, finite, and the spelling of its unit where one was glued on."""

    value: float
    unit: str | None = None


class Missing(NamedTuple):
    """The source says that it has no value."""


_MISSING = Missing()


class Fault(NamedTuple):
    """Why a text is no number: NOT_A_NUMBER or NOT_FINITE."""

    reason: Reason
    detail: str


def read(text: str, *, comma: bool = False, hexadecimal: bool = False, unit: bool = True) -> Quantity | Missing | Fault:
    """What a text says. `unit=False` takes bare numbers only."""
    if len(text) > LONGEST:
        return Fault(Reason.NOT_A_NUMBER, f"a text of {len(text)} characters is no number")
    stripped = text.strip()
    if not stripped[:1].isdigit():  # most that are digits need no look at the words
        word = stripped.lower()
        if word in MISSING:
            return _MISSING
        if word.lstrip("+-") in _NOT_FINITE:
            return Fault(Reason.NOT_FINITE, f"{stripped!r} is no finite number")
        if word[0].isalpha():
            return _fault(stripped)
    if _CODE.match(stripped):
        code = _HEXADECIMAL.fullmatch(stripped)
        return Quantity(float(int(code[1], 16))) if hexadecimal and code else _fault(stripped)
    found = (_WITH_COMMA if comma else _WITH_POINT).fullmatch(stripped)
    if found is None or (found["unit"] and not unit):
        return _fault(stripped)
    value = float(_plain(found["number"]))
    if not math.isfinite(value):
        return Fault(Reason.NOT_FINITE, f"{stripped[:_SHOWN]!r} is too large for a double")
    return Quantity(value, found["unit"])


def _fault(text: str) -> Fault:
    return Fault(Reason.NOT_A_NUMBER, f"{text[:_SHOWN]!r} is no number")


def _plain(number: str) -> str:
    """The number as `float` takes it: the last separator is the decimal one, others part thousands."""
    number = number.replace("\u2212", "-")
    if "," not in number:
        return number
    if number.rfind(",") > number.rfind("."):
        return number.replace(".", "").replace(",", ".")
    return number.replace(",", "")
