"""Which profiles serve a device, and what they say of a key. Compiled once, remembered by model, device and path.

A city's own profiles that fit come first, in their order; then of the shared ones the one that names the model most
exactly, and it alone: two models' keys never mix.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import translate
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ingest.city import City
from processors.profiles import CAPTURE, CityProfile, Key, Profile, SharedProfile, directory, load, of_city
from processors.routes import pattern as topic_pattern

REMEMBERED = 65_536

_OPEN = re.compile(r"(\*\*|\*)")
_WILD = re.compile(r"\*|\?|\[[^\]]*\]")
_BLANK = re.compile(r"[\s_]+")


class Profiles(NamedTuple):
    """The shared profiles by name, and the cities' own by city."""

    shared: Mapping[str, SharedProfile] = MappingProxyType({})
    cities: Mapping[str, Sequence[CityProfile]] = MappingProxyType({})


NO_PROFILES = Profiles()


class Rule(NamedTuple):
    """What a profile says of one path. `key` None: it is no observation."""

    profile: str
    key: Key | None
    captures: tuple[str, ...] = ()

    def channel(self, came: str) -> str:
        """The channel of a reading that came with one (or with "")."""
        assert self.key is not None
        if self.key.channel is None:
            return came
        found = {"channel": came, **{str(n): text for n, text in enumerate(self.captures, start=1)}}
        return CAPTURE.sub(lambda place: found[place[1]], self.key.channel)


class Matched:
    """A profile that serves a device: its rules by path."""

    def __init__(self, profile: Profile, name: str) -> None:
        self.name = name
        self._keys = [(_path(path), key) for path, key in profile.keys.items()]
        self._ignored = [_path(path) for path in profile.ignore]
        self._known: dict[str, Rule | None] = {}

    def rule(self, path: str) -> Rule | None:
        """What the profile says of a path; None: nothing."""
        try:
            return self._known[path]
        except KeyError:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[path] = self._find(path)
            return found

    def _find(self, path: str) -> Rule | None:
        for matches, key in self._keys:
            fit = matches.fullmatch(path)
            if fit:
                return Rule(self.name, key, fit.groups())
        if any(matches.fullmatch(path) for matches in self._ignored):
            return Rule(self.name, None)
        return None


def normal_model(text: str) -> str:
    """A model or a pattern of one, as they are compared."""
    return _BLANK.sub("-", text.strip().lower())


def _glob(patterns: Iterable[str]) -> list[re.Pattern[str]]:
    return [re.compile(translate(text)) for text in patterns]


def _path(path: str) -> re.Pattern[str]:
    parts = {"*": r"([^.]*)", "**": r"(.*)"}
    return re.compile("".join(parts.get(part) or re.escape(part) for part in _OPEN.split(path)), re.DOTALL)


class _Conditions:
    """What must hold for a profile to serve: model, device and topic."""

    def __init__(self, profile: Profile) -> None:
        self.models = [(_exactness(text), re.compile(translate(text))) for text in map(normal_model, profile.match)]
        self.devices = _glob(profile.devices)
        self.topics = frozenset(profile.topics)

    def hold(self, model: str, device: str, filters: frozenset[str]) -> bool:
        return (
            (not self.models or any(matches.match(model) for _, matches in self.models))
            and (not self.devices or any(matches.match(device) for matches in self.devices))
            and (not self.topics or not self.topics.isdisjoint(filters))
        )

    def exactness(self, model: str) -> int:
        """How exactly the best pattern names the model; -1 where none takes it."""
        return max((exactness for exactness, matches in self.models if matches.match(model)), default=-1)


def _exactness(text: str) -> int:
    """Literal characters; of equals the pattern without wildcards."""
    literal = _WILD.sub("", text)
    return 2 * len(literal) + (literal == text)


class Matcher:
    """One city's view of the profiles."""

    def __init__(self, profiles: Profiles, city: str) -> None:
        own = profiles.cities.get(city, ())
        self._shared = {name: Matched(profile, name) for name, profile in profiles.shared.items()}
        self._models = [(name, _Conditions(profile)) for name, profile in profiles.shared.items()]
        self._own: list[tuple[_Conditions, list[Matched]]] = []
        for number, profile in enumerate(own, start=1):
            matched = [Matched(profile, profile.name or f"{city} profile[{number}]")]
            if profile.use is not None:
                matched.append(self._shared[profile.use])
            self._own.append((_Conditions(profile), matched))
        self._filters = {text: topic_pattern(text) for one in (*own, *profiles.shared.values()) for text in one.topics}
        self._known: dict[tuple[str, str, frozenset[str]], Sequence[Matched]] = {}

    def filters(self, topic: str) -> frozenset[str]:
        """The profiles' topic filters that take a topic: all of it that matters to them."""
        return frozenset(text for text, matches in self._filters.items() if matches.fullmatch(topic))

    def serving(self, model: str, device: str, filters: frozenset[str]) -> Sequence[Matched]:
        """The profiles that serve a device, in the order in which they are asked."""
        place = (model, device, filters)
        try:
            return self._known[place]
        except KeyError:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[place] = self._find(normal_model(model), device, filters)
            return found

    def _find(self, model: str, device: str, filters: frozenset[str]) -> Sequence[Matched]:
        found = [one for conditions, matched in self._own if conditions.hold(model, device, filters) for one in matched]
        fitting = [
            (conditions.exactness(model), name)
            for name, conditions in self._models
            if model and conditions.hold(model, device, filters)
        ]
        if fitting:
            best = max(fitting, key=lambda fit: fit[0])[1]  # the first of equals: `check` names them
            found.append(self._shared[best])
        return tuple(dict.fromkeys(found))

    def rivals(self, model: str) -> list[str]:
        """Shared profiles that name a model equally exactly; more than one means that chance decides."""
        text = normal_model(model)
        fitting = [(conditions.exactness(text), name) for name, conditions in self._models]
        best = max((length for length, _ in fitting), default=-1)
        return [name for length, name in fitting if length == best >= 0]


def load_profiles(cities: Iterable[City], folder: Path | None = None) -> Profiles:
    """The shared profiles of the installation (or a folder) and the cities' own. Raises ProfileError."""
    shared = load(directory() if folder is None else folder)
    return Profiles(shared, {city.key: of_city(city, shared) for city in cities})
