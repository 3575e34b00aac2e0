"""What a reading means, in three layers of which the first that knows wins: dialect, profiles, self-explaining keys.

One answer for (dialect, model, device, channel, key, unit, property), the same for every value: how it becomes an
observation, why it does not, or that it is none. Never a guess. The mapping remembers the answers.
"""

from typing import NamedTuple

from processors.matching import Matcher, Rule
from processors.profiles import Clock, Key
from processors.selfevident import NoObservation, Unfit, meaning, misplaced
from processors.standard import units
from processors.standard.observation import Ignored, Reading, Reason
from processors.standard.vocabulary import VOCABULARY, ObservedProperty

NO_OBSERVATION = Ignored("no_observation")
LORAWAN = frozenset({"ttn", "chirpstack"})  # whose readings have the network's time, unless they have one of their own


class Refused(NamedTuple):
    """Why a reading becomes no observation."""

    reason: Reason
    detail: str


class Meaning(NamedTuple):
    """How a key's values become observations.

    `layer` says who knew: "dialect", "profile NAME" or "key". `key` is the profile's entry where values need a look
    of their own (enumerations, sentinels).
    """

    layer: str
    observed: ObservedProperty
    channel: str
    unit: str
    conversion: units.Affine
    key: Key | None = None


class Told(NamedTuple):
    """The key tells the time of what stands beside and below it."""

    layer: str
    clock: Clock


Answer = Meaning | Told | Refused | Ignored


def find(matcher: Matcher, dialect: str, filters: frozenset[str], reading: Reading) -> Answer:
    """What a reading's key means. `filters`: those of the matcher's that take its topic."""
    if reading.property is not None:
        return _by_dialect(reading)
    for profile in matcher.serving(reading.model, reading.device, filters):
        rule = profile.rule(reading.key)
        if rule is not None:
            return _by_profile(rule, reading)
    evident = meaning(reading.key, reading.unit, dialect)
    if evident is None:
        return Refused(Reason.UNMAPPED_PROPERTY, _unknown(reading))
    if isinstance(evident, NoObservation):
        return NO_OBSERVATION
    if isinstance(evident, Unfit):
        return _converted("key", VOCABULARY[evident.property], reading.channel, evident.unit, None)
    if reading.time is None and dialect in LORAWAN and _in_list(reading.key):
        return Refused(Reason.INVALID_TIME, "its own time is a number, and no profile says of what unit")
    place = f"{reading.device}/{reading.channel}"
    if misplaced(place, evident.property, plain=evident.plain):
        return Refused(
            Reason.UNMAPPED_PROPERTY, f"{place!r:.80} says that this is another thing: a profile can say which"
        )
    channel = reading.channel if evident.channel is None else evident.channel
    return _converted("key", VOCABULARY[evident.property], channel, evident.unit, None)


def _by_dialect(reading: Reading) -> Answer:
    observed = VOCABULARY.get(reading.property or "")
    if observed is None:
        return Refused(Reason.UNMAPPED_PROPERTY, f"property {reading.property!r:.80} is not in the vocabulary")
    return _converted("dialect", observed, reading.channel, reading.unit, None)


def _by_profile(rule: Rule, reading: Reading) -> Answer:
    layer = f"profile {rule.profile}"
    key = rule.key
    if key is None:
        return NO_OBSERVATION
    if key.time is not None:
        return Told(layer, key.time)
    observed = VOCABULARY[key.property or ""]
    unit = key.unit or reading.unit or ("1" if observed.unit == "1" else None)
    known, came = key.unit, reading.unit
    if known and came and units.conversion(came, observed) != units.conversion(known, observed):
        detail = f"unit {came!r:.40} came, but {layer} says {known!r}: correct one of the two"
        return Refused(Reason.UNKNOWN_UNIT, detail)
    return _converted(layer, observed, rule.channel(reading.channel), unit, key)


def _converted(layer: str, observed: ObservedProperty, channel: str, unit: str | None, key: Key | None) -> Answer:
    if unit is None:
        return Refused(Reason.UNKNOWN_UNIT, f"no unit; {observed.key} takes one convertible to {observed.unit}")
    made = units.conversion(unit, observed)
    if isinstance(made, Reason):
        return Refused(made, f"unit {unit!r:.40}; {observed.key} takes one convertible to {observed.unit}")
    if key is None:
        return Meaning(layer, observed, channel, unit, made)
    if (key.scale, key.offset) != (1.0, 0.0):
        made = made.after(key.scale, key.offset)
    return Meaning(layer, observed, channel, unit, made, key if key.values or key.drop else None)


def _in_list(key: str) -> bool:
    return any(part.isdecimal() for part in key.split(".")[:-1])


def _unknown(reading: Reading) -> str:
    model = f" of model {reading.model!r:.60}" if reading.model else ""
    return f"no mapping knows what {reading.key!r:.80}{model} means; a profile can say it (docs/profiles.md)"
