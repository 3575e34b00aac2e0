"""UCUM's grammar, as far as sensor networks use it: products and quotients of prefixed units, without a table. Pure.

What `spellings` does not list but is written by the rules of UCUM (mm/min, kg.m-2.s-1, L/(m2.h), dbar) is read here,
with a blank for the dot, too. Left out are the units whose letter means another thing to sensors (C, F, T, H, a),
numbers beside a unit, whatever is no plain factor of SI (dB, pH, degrees), and what SI's dimensions don't tell from
another quantity (cd from lm, Bq from Hz, Gy from Sv).
"""

import re

# What pint calls them. With a prefix: metric units; alone: all.
_METRIC = {
    "m": "meter", "g": "gram", "s": "second", "A": "ampere", "K": "kelvin", "mol": "mole",
    "L": "liter", "l": "liter", "Pa": "pascal", "bar": "bar", "N": "newton", "J": "joule", "W": "watt", "V": "volt",
    "Hz": "hertz", "S": "siemens", "Ohm": "ohm", "lm": "lumen", "lx": "lux", "Sv": "sievert", "cal": "calorie",
}  # fmt: skip
_ALONE = {
    "min": "minute", "h": "hour", "d": "day", "t": "metric_ton", "[in_i]": "inch", "[ft_i]": "foot",
    "[yd_i]": "yard", "[mi_i]": "mile", "[nmi_i]": "nautical_mile", "[kn_i]": "knot", "[sft_i]": "(foot**2)",
    "[cft_i]": "(foot**3)", "[cin_i]": "(inch**3)", "[gal_us]": "gallon", "[gal_br]": "imperial_gallon",
    "[lb_av]": "pound", "[psi]": "psi",
}  # fmt: skip
_PREFIXES = {
    "p": "pico", "n": "nano", "u": "micro", "m": "milli", "c": "centi", "d": "deci", "da": "deca", "h": "hecto",
    "k": "kilo", "M": "mega", "G": "giga", "T": "tera",
}  # fmt: skip
_PREFIXED = {f"{prefix}{name}": f"{big}{told}" for prefix, big in _PREFIXES.items() for name, told in _METRIC.items()}
_NAMES = _PREFIXED | _ALONE | _METRIC
_MOST_FACTORS = 5
_FACTOR = re.compile(r"(?P<name>\[[a-z_]+\]|[A-Za-z]+)(?P<power>[+-]?[1-9])?")
_SEPARATOR = re.compile(r"([./ ])")
_BELOW = re.compile(r"(?P<above>[^()]*)/\((?P<below>[^()]+)\)")


def expression(code: str) -> str | None:
    """What pint makes of a code; None where it is none that is read here."""
    above, below = code, ""
    if found := _BELOW.fullmatch(code):
        above, below = found["above"], found["below"]
    factors = _factors(above, 1)
    if factors is not None and below:
        divisor = _factors(below, -1)
        factors = divisor and factors + divisor
    return "*".join(factors) if factors and len(factors) <= _MOST_FACTORS else None


def _factors(code: str, sign: int) -> list[str] | None:
    """Units and their powers; None where a part is none of the known. Division holds for the next unit only."""
    factors: list[str] = []
    power = sign
    for place, part in enumerate(_SEPARATOR.split(code)):
        if place % 2:
            power = -sign if part == "/" else sign
        elif place or part not in {"", "1"}:
            found = _FACTOR.fullmatch(part)
            name = found and _NAMES.get(found["name"])
            if found is None or name is None:
                return None
            factors.append(f"{name}**{power * int(found['power'] or 1)}")
    return factors
