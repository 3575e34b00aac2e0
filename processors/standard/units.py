"""Units: from the spelling that came to the unit that a property is kept in. Every conversion is affine.

Each pair of spelling and property is worked out once, exactly (pint on fractions), and cached; per reading there is one
line of arithmetic left. What is ambiguous or of another dimension is refused: there is no guess here. The spellings are
data, in `spellings`; what is not among them is read by UCUM's own rules (`ucum`).
"""

import math
import re
import unicodedata
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, NamedTuple

import pint

from processors.standard.observation import Reason
from processors.standard.spellings import DEFINITIONS, FOR_PROPERTY, NUMBERS, UNITS
from processors.standard.ucum import expression
from processors.standard.unece import CODES
from processors.standard.vocabulary import VOCABULARY, ObservedProperty

EXACT = 2**53  # whole numbers up to there are doubles
LONGEST = 64  # longer than any unit; keeps junk out of the cache
_CACHED = 4096

# What NFKC does not unify, or would spoil: º would become o, a ring would part from its letter.
_BEFORE = str.maketrans({"º": "°", "˚": "°"})
_AFTER = str.maketrans({"−": "-", "–": "-", "·": ".", "⋅": ".", "∙": ".", "×": ".", "*": ".", "μ": "u", "^": None})  # noqa: RUF001 - the look-alikes are the point
_SPACE = re.compile(r"\s+")
_AROUND = re.compile(r"\s*([/.])\s*")


class Affine(NamedTuple):
    """canonical = (raw * factor + offset) / divisor.

    All three are whole numbers where doubles hold them: 3050 mV are 3.05 V then, as a sensor says that sends both, and
    not 3.0500000000000003.
    """

    factor: float
    offset: float
    divisor: float = 1.0

    def __call__(self, raw: float) -> float:
        """One value."""
        return (raw * self.factor + self.offset) / self.divisor

    def after(self, scale: float, offset: float) -> "Affine":
        """The same for values that are raw * scale + offset in this conversion's unit."""
        factor, own, divisor = map(Fraction, self)
        scaled, shifted = Fraction(repr(scale)), Fraction(repr(offset))
        return affine(scaled * factor / divisor, (shifted * factor + own) / divisor)


IDENTITY = Affine(1.0, 0.0)


def affine(factor: Fraction, offset: Fraction) -> Affine:
    """For canonical = raw * factor + offset, in whole numbers where they are not too large to be exact."""
    divisor = math.lcm(factor.denominator, offset.denominator)
    whole = (factor * divisor, offset * divisor, Fraction(divisor))
    if all(abs(number) <= EXACT for number in whole):
        return Affine(*map(float, whole))
    return Affine(float(factor), float(offset))


def normal(spelling: str) -> str:
    """The one form of look-alike spellings, as in the table."""
    text = unicodedata.normalize("NFKC", spelling.translate(_BEFORE)).replace("**", "").translate(_AFTER)
    return _AROUND.sub(r"\1", _SPACE.sub(" ", text).strip())


@lru_cache(maxsize=_CACHED)
def conversion(spelling: str, to_property: ObservedProperty) -> Affine | Reason:
    """How values in a unit become the property's own; UNKNOWN_UNIT or WRONG_DIMENSION where they don't."""
    code = canonical(spelling, to_property)
    return code if isinstance(code, Reason) else _between(code, to_property)


def canonical(spelling: str, to_property: ObservedProperty) -> str | Reason:
    """The UCUM code that a spelling stands for where the property is measured; a Reason where it stands for none."""
    codes = _codes(spelling)
    if not codes:
        return Reason.UNKNOWN_UNIT
    fitting = [code for code in codes if isinstance(_between(code, to_property), Affine)]
    if len(fitting) == 1:
        return fitting[0]
    # None fits: the dimension is wrong. More than one would be ambiguous, so it is as good as no unit.
    return Reason.UNKNOWN_UNIT if fitting else Reason.WRONG_DIMENSION


@lru_cache(maxsize=_CACHED)
def is_unit(spelling: str) -> bool:
    """Whether a spelling stands for a unit, or for several."""
    return bool(_codes(spelling))


def _codes(spelling: str) -> tuple[str, ...]:
    if len(spelling) > LONGEST:
        return ()
    text = normal(spelling)
    known = _spelled().get(text)
    if known is not None:
        return known
    return (text,) if expression(text) else ()


@cache
def _spelled() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for code, (_, spellings) in UNITS.items():
        for spelling in spellings.split("|"):
            found[spelling] = (*found.get(spelling, ()), code)
    listed = found.keys() | {""}
    for code, common in CODES.items():  # UN/CEFACT's, as NGSI and others send them
        if common not in listed and not common.isdigit():
            found[common] = (*found.get(common, ()), code)
    return found


@lru_cache(maxsize=_CACHED)
def between(spelling: str, other: str) -> Affine | Reason:
    """How values in one unit become another's, where no property says what an ambiguous spelling stands for."""
    pairs = [(code, to) for code in _codes(spelling) for to in _codes(other)]
    if not pairs:
        return Reason.UNKNOWN_UNIT
    found = {made for pair in pairs if isinstance(made := _affine(*pair), Affine)}
    if not found:
        numbers = {NUMBERS[code] / NUMBERS[to] for code, to in pairs if code in NUMBERS and to in NUMBERS}
        found = {affine(factor, Fraction(0)) for factor in numbers}
    if len(found) == 1:
        return found.pop()
    return Reason.UNKNOWN_UNIT if found else Reason.WRONG_DIMENSION


def _between(code: str, to_property: ObservedProperty) -> Affine | Reason:
    special = FOR_PROPERTY.get((code, to_property.key))
    return _affine(code, to_property.unit) if special is None else IDENTITY.after(special, 0.0)


@lru_cache(maxsize=4 * _CACHED)  # all pairs of the table
def _affine(code: str, to: str) -> Affine | Reason:
    if code == to:
        return IDENTITY
    ureg = _registry()
    source, target = (ureg.parse_units(UNITS[one][0] if one in UNITS else expression(one)) for one in (code, to))
    if source.dimensionality != target.dimensionality:
        return Reason.WRONG_DIMENSION
    offset, one = (Fraction(ureg.Quantity(Fraction(raw), source).to(target).magnitude) for raw in (0, 1))
    return affine(one - offset, offset)


@cache
def _registry() -> Any:
    ureg: Any = pint.UnitRegistry(non_int_type=Fraction)
    for definition in DEFINITIONS:
        ureg.define(definition)
    return ureg


def _check() -> None:
    """Refuse a vocabulary whose units this table lacks, and a table that its own `normal` can't reach."""
    for known in VOCABULARY.values():
        if known.unit not in UNITS:
            raise ValueError(f"property {known.key!r}: unit {known.unit!r} is not in the table of spellings")
    for spelling in _spelled():
        if normal(spelling) != spelling:
            raise ValueError(f"unit spelling {spelling!r} can't be found: it is normalised to {normal(spelling)!r}")
    for code, key in FOR_PROPERTY:
        if code not in UNITS or key not in VOCABULARY:
            raise ValueError(f"conversion of {code!r} for {key!r}: no such unit or property")


_check()
