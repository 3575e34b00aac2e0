"""The last of the three layers of meaning: keys that explain themselves, by a table, with a unit in or beside them.

It answers only what is certain (the names are data, in `processors.standard.names`): a key alone is never enough where
the property has a unit, and what stands around a plain name (`fridge.temperature`, `thresholds.temperature`) takes its
certainty away. German and English; OBIS codes in both spellings.
"""

import re
import unicodedata
from functools import cache, lru_cache
from typing import NamedTuple

from processors.standard import names, units
from processors.standard.vocabulary import VOCABULARY

LONGEST_KEY = 255
_CACHED = 65_536

_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "%": " pct "})
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORDS = re.compile(r"[0-9a-z]+(?:_[0-9a-z]+)*")  # as they come out
_LEVELS = re.compile(r"[./]")  # of paths in JSON, and in the names of Homie's properties and Sparkplug's metrics
_APART = re.compile(r"[^0-9a-z]+")
_BRACKETS = re.compile(r"(?P<name>[^\[(]+?)[\s_]*[\[(]\s*(?P<unit>[^\])]+?)\s*[\])]")
_LABELLED = re.compile(r"(?P<name>\S.*?)(?: in |, ?)(?P<unit>\S+)")  # as people head a table: Wasserstand in cm
_OBIS = re.compile(r"(?:(?P<medium>\d)-\d{1,3}:)?(?P<code>\d{1,3}\.\d{1,3}\.\d{1,3})(?:[*&]\d{1,3})?")
_OBIS_HEX = re.compile(r"0(?P<medium>[1678])[0-9a-fA-F]{2}(?P<code>[0-9a-fA-F]{6})[0-9a-fA-F]{2}")
_LONGEST_SUFFIX = 4  # words: u_g_per_m3
# Letters of a unit that hangs on the name without anything between, the longest first: kwh before wh.
_GLUED = sorted({len(suffix) for suffix in names.SUFFIXES if len(suffix) > 1}, reverse=True)
_NO_OBSERVATION = re.compile(f"_(?:{'|'.join(sorted(names.NO_OBSERVATION))})_")
_VALUE = ".value"
_IMPLIED = {"1": ("1",), "[pH]": ("[pH]",)}  # units that nobody writes
_DIGIT = re.compile(r"\d")


class Evident(NamedTuple):
    """What a key says: property, the spelling of its unit, and a channel (None: the one that came)."""

    property: str
    unit: str
    channel: str | None = None
    plain: bool = False  # the name alone says what, not of what


class Unfit(NamedTuple):
    """The key says what it is, but the unit beside it is none of that: which of the two is wrong, nobody knows."""

    property: str
    unit: str


class NoObservation(NamedTuple):
    """The key names a setting, a limit, a version or a counter of frames."""


@lru_cache(maxsize=_CACHED)
def meaning(key: str, unit: str | None, dialect: str) -> Evident | Unfit | NoObservation | None:
    """What a key (its whole path) means with the unit that came beside it; None where that is not certain."""
    if len(key) > LONGEST_KEY:
        return None
    if (metered := _obis(key)) is not None:
        name, channel = metered
        return _with_unit(_Named((name,), channel), (), unit) or (Unfit(name, unit) if unit else None)
    spelled, bracketed = key, None
    described = key[-len(_VALUE) :] == _VALUE
    if described:
        spelled = key[: -len(_VALUE)]  # {"air_temperature": {"value": 7.4, "unit": "°C"}}
    if brackets := _BRACKETS.fullmatch(spelled):
        spelled, bracketed = brackets["name"], brackets["unit"]
    elif (
        (" in " in spelled or "," in spelled)
        and (label := _LABELLED.fullmatch(spelled))
        and units.is_unit(label["unit"])
    ):
        spelled, bracketed = label["name"], label["unit"]
    whole = words(spelled)
    if _NO_OBSERVATION.search(f"_{whole}_"):
        return NoObservation()
    beside = unit if bracketed is None else bracketed
    if bracketed is not None and unit is not None and unit != bracketed:
        return None
    *around, last = [words(part) for part in _LEVELS.split(spelled)]
    if around and last.isdigit():
        last = around.pop()  # one of an array: values.temperature.0
    house = dialect in names.SMART_HOME
    # A decoder that puts a unit to everything calls a probe in water or in soil so, too.
    certain = not house and (not described or last in names.PLAIN_OF_DEVICE)
    found = _named(whole, beside, plain=certain and not around)
    if found is None and around:
        places = {word for part in around for word in part.split("_")}
        if not places.isdisjoint(names.QUALIFYING):
            return None
        found = _named(last, beside, plain=certain and _leaves_plain(around))
        if found is not None and found.property in names.OUTDOORS and not places.isdisjoint(names.INDOORS):
            return None
        if found is not None and not places.isdisjoint(names.NOT_OF.get(found.property, ())):
            return None
        if found is not None and found.channel is None:
            found = found._replace(channel=_one_of_several(spelled))
    if house and found is not None and found.property in names.OUTDOORS and _nowhere(whole, found.property):
        return None
    if found is None and beside and last not in names.BY_UNIT:
        known = _candidates(whole, plain=False) or _candidates(last, plain=False)
        return None if known is None else Unfit(known.properties[0], beside)
    return found


def _nowhere(whole: str, name: str) -> bool:
    """Whether a key of a smart home, which calls any hygrometer's value a relative humidity, does not say outdoors.

    A dew point is calculated by the chip, wherever it hangs.
    """
    return name == "dew_point_temperature" or names.OPEN_AIR.isdisjoint(whole.split("_"))


@lru_cache(maxsize=_CACHED)
def misplaced(device: str, property_key: str, *, plain: bool) -> bool:
    """Whether a device's name (mostly its topic) says that it measures something else than the property.

    Air that is not the weather's, or no air at all; what is in a vessel, and the power of a plant.
    """
    others = names.NOT_OF.get(property_key, frozenset())
    if not others and property_key not in names.OUTDOORS:
        return False
    said = {part.strip("0123456789") for part in words(device).split("_")}
    if others:
        return not said.isdisjoint(others)
    return not said.isdisjoint(names.ROOMS) or (plain and not said.isdisjoint(names.NO_AIR))


def words(text: str) -> str:
    """A key's words in lower case, joined by `_`: LuftTemperatur, luft-temperatur and Luft Temperatur are one."""
    if _WORDS.fullmatch(text):
        return text
    if "MW" in text:  # in lower case it would be a thousandth of a watt as well
        text = text.replace("MW", " megaw")
    spaced = _HUMP.sub("_", unicodedata.normalize("NFKC", text).translate(_UMLAUTS)).replace("μ", "u")
    return _APART.sub("_", spaced.lower()).strip("_")


def _one_of_several(path: str) -> str | None:
    """The channel that a path names by a numbered part (sensor1, probe_2): two sensors are not one datastream.

    A number alone is a place in an array, which may be a series of one sensor as well.
    """
    numbered = [part for part in _LEVELS.split(path)[:-1] if part[-1:].isdigit() and not part.isdigit()]
    return ".".join(numbered) or None


def _leaves_plain(around: list[str]) -> bool:
    return all(part.isdigit() or part in names.AROUND_PLAIN for part in around)


def _named(text: str, beside: str | None, *, plain: bool) -> Evident | None:
    """By name, with the unit beside it, at its end (battery_mV) or as its name (lux)."""
    parts = text.split("_")
    endings = [
        (spellings, "_".join(parts[:-length]))
        for length in range(1, min(_LONGEST_SUFFIX, len(parts)) + 1)
        if (spellings := names.SUFFIXES.get("".join(parts[-length:])))
    ]
    inside = tuple(spelling for spellings, _ in endings for spelling in spellings)
    glued = [(spellings, text[:-length]) for length in _GLUED if (spellings := names.SUFFIXES.get(text[-length:]))]
    for spellings, name in ((inside, text), ((), text), *endings, *glued):
        if name in names.UNIT_NEEDED and not spellings and beside is None:
            continue
        known = _candidates(name, plain=plain)
        found = known and _with_unit(known, spellings, beside)
        if found:
            return found
    return None


class _Named(NamedTuple):
    """Properties that a name may stand for (the unit decides) and the channel that it names.

    `plain`: it says what, not of what, so that only some units make it certain.
    """

    properties: tuple[str, ...]
    channel: str | None = None
    plain: bool = False


def _candidates(name: str, *, plain: bool) -> _Named | None:
    known = _KNOWN.get(name)
    if known is None and "_" in name and _DIGIT.search(name) is None:
        known = _KNOWN.get(name.replace("_", ""))
    if known is not None:
        return _Named((known,))
    head, _, phase = name.rpartition("_")
    if phase in names.PHASES and head in names.BY_PHASE:
        return _Named((names.BY_PHASE[head],), names.PHASES[phase])
    if plain and name in names.PLAIN:
        return _Named(tuple(names.PLAIN[name].split()), plain=True)
    return None


def _with_unit(named: _Named, inside: tuple[str, ...], beside: str | None) -> Evident | None:
    """The one reading of name and unit that makes sense; None where there is none, or the units contradict."""
    found: list[Evident] = []
    for name in named.properties:
        observed = VOCABULARY[name]
        allowed = names.PLAIN_UNITS.get(name) if named.plain else None
        spellings = inside or ((beside,) if beside else ()) or _IMPLIED.get(observed.unit, ())
        for spelling in spellings:
            made = units.conversion(spelling, observed)
            if not isinstance(made, units.Affine) or (beside and units.conversion(beside, observed) != made):
                continue
            if allowed is None or units.canonical(spelling, observed) in allowed:
                found.append(Evident(name, spelling, named.channel, named.plain))
    if not found:
        found = [
            Evident(above, spelling, named.channel)
            for name in named.properties
            for spelling in inside or (beside or "",)
            if (above := names.ABOVE_NHN.get(name)) and units.canonical(spelling, VOCABULARY[above]) == "m{NHN}"
        ]
    return found[0] if len(found) == 1 else None


def _obis(key: str) -> tuple[str, str | None] | None:
    """Property and channel of an OBIS code; the medium is electricity where the code leaves it out."""
    last = key.rpartition("/")[2]
    if not last[:1].isdigit():
        return None
    if plain := _OBIS.fullmatch(last):
        medium, code = plain["medium"] or "1", plain["code"]
    elif coded := _OBIS_HEX.fullmatch(last):
        medium, code = coded["medium"], ".".join(str(octet) for octet in bytes.fromhex(coded["code"]))
    else:
        return None
    return _metered().get(f"{medium}:{code}")


def _known() -> dict[str, str]:
    found = {key: key for key in VOCABULARY if key not in names.NOT_BY_NAME}
    for key, text in names.NAMES.items():
        for name in text.split():
            if found.setdefault(name, key) != key:
                raise ValueError(f"name {name!r} stands for {found[name]} and for {key}")
            if not any(map(str.isdigit, name)) and found.setdefault(name.replace("_", ""), key) != key:
                raise ValueError(f"name {name!r} without '_' stands for another property than {key}")
    return found


@cache
def _metered() -> dict[str, tuple[str, str | None]]:
    own = {
        f"{known.obis.partition('-')[0]}:{known.obis.partition(':')[2]}": (key, None)
        for key, known in VOCABULARY.items()
        if known.obis and known.obis.partition(":")[2] + known.obis[0] not in names.OBIS
    }
    return {**own, **names.OBIS}


_KNOWN = _known()
