"""Which dialect an MQTT topic speaks: the city file's routes, first match wins.

Filters follow MQTT's rules (3.1.1, section 4.7). What a topic matched is cached by the caller, who knows how many
topics to expect; the dialects themselves are called elsewhere.
"""

import re
from collections.abc import Collection, Mapping

from ingest.city import City, CityFileError, Route
from processors.dialects import OPTIONS, Dialect
from processors.dialects.memory import Stateful

IGNORE = "ignore"


def unknown_dialects(city: City, dialects: Collection[str]) -> list[str]:
    """One line per route whose dialect does not exist, with its place, value and cure."""
    known = ", ".join(sorted([*dialects, IGNORE]))
    return [
        f"route[{place}].dialect = {route.dialect!r}: no such dialect; one of {known}"
        for place, route in enumerate(city.route, start=1)
        if route.dialect != IGNORE and route.dialect not in dialects
    ]


def unordered_sources(city: City, dialects: Mapping[str, Dialect]) -> list[str]:
    """One line per route whose dialect remembers its sources, but which does not say what keeps a source's order."""
    return [
        f"route[{place}].key_levels is not set: dialect {route.dialect} remembers what came before, so all messages of "
        f"a source must be in one partition; name the levels of {route.filter!r} that name a source, counted from 0, "
        "as in key_levels = [1, 3]"
        for place, route in enumerate(city.route, start=1)
        if isinstance(dialects.get(route.dialect), Stateful) and not route.key_levels
    ]


def unusable_options(city: City, dialects: Collection[str]) -> list[str]:
    """One line per option that its route's dialect does not know, or whose value is of another kind than it takes."""
    found: list[str] = []
    for place, route in enumerate(city.route, start=1):
        if route.dialect != IGNORE and route.dialect not in dialects:
            continue
        known = OPTIONS.get(route.dialect, {})
        for name, value in route.options.items():
            where = f"route[{place}].options.{name} = {value!r:.80}"
            if name not in known:
                cure = f"it has {', '.join(known)}" if known else "it has none"
                found.append(f"{where}: dialect {route.dialect} has no such option; {cure}")
            elif not known[name].fits(value):
                found.append(f"{where}: takes {known[name].takes} ({known[name].does})")
    return found


def faults(city: City, dialects: Mapping[str, Dialect]) -> list[str]:
    """Everything that is wrong with a city's routes, one line each."""
    return [*unknown_dialects(city, dialects), *unordered_sources(city, dialects), *unusable_options(city, dialects)]


def pattern(topic_filter: str) -> re.Pattern[str]:
    """Regular expression whose full match is the filter's match."""
    *levels, last = topic_filter.split("/")
    parts = [_level(level) for level in levels]
    if topic_filter == "#":
        text = ".*"
    elif last == "#":
        text = "/".join(parts) + "(?:/.*)?"  # the parent itself matches too: a/# takes a
    else:
        text = "/".join([*parts, _level(last)])
    if topic_filter[0] in "+#":
        text = r"(?!\$)" + text  # wildcards at the start never take $SYS and its like
    return re.compile(text, re.DOTALL)


def _level(level: str) -> str:
    return "[^/]*" if level == "+" else re.escape(level)


class Routes:
    """A city's routes, compiled once. Raises CityFileError for a route that can't be used."""

    def __init__(self, city: City, dialects: Mapping[str, Dialect]) -> None:
        if wrong := faults(city, dialects):
            raise CityFileError("\n".join(f"city {city.key}: {fault}" for fault in wrong))
        self._routes = [(pattern(route.filter).fullmatch, route) for route in city.route]

    def match(self, topic: str) -> Route | None:
        """The first route whose filter takes the topic."""
        for matches, route in self._routes:
            if matches(topic):
                return route
        return None
