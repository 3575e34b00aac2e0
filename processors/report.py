"""`make standard-report`: how much of the standard is reachable, by dialect, profile, key and spelling."""

from collections import defaultdict
from collections.abc import Mapping
from importlib import import_module
from inspect import getmembers
from typing import Any

from rich.console import Console
from rich.table import Table

from processors.dialects import DIALECTS
from processors.profiles import SharedProfile, directory, load
from processors.selfevident import Evident, meaning
from processors.standard import names
from processors.standard.spellings import UNITS
from processors.standard.unece import CODES
from processors.standard.vocabulary import VOCABULARY


def fixed_by(dialect: str) -> set[str]:
    """Properties that a dialect's tables name; the native message names them all itself."""
    if dialect == "hanse":
        return set(VOCABULARY)
    module = import_module(f"processors.dialects.{dialect}")
    return {word for name, value in getmembers(module) if name.isupper() for word in _words(value)} & set(VOCABULARY)


def _words(value: Any) -> set[str]:
    if isinstance(value, str):
        return {value}
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return {word for inner in value for word in _words(inner)}
    return set()


def by_profile(profiles: Mapping[str, SharedProfile]) -> dict[str, set[str]]:
    """Profiles by the property that they give."""
    found: dict[str, set[str]] = defaultdict(set)
    for profile in profiles.values():
        for key in profile.keys.values():
            if key.property is not None:
                found[key.property].add(profile.name)
    return found


def by_key() -> set[str]:
    """Properties that some self-explaining key gives with the property's own unit."""
    spelled = {key: [key, *names.NAMES.get(key, "").split()] for key in VOCABULARY}
    return {
        key
        for key, keys in spelled.items()
        if any(isinstance(meaning(one, VOCABULARY[key].unit, ""), Evident) for one in keys)
    } | {key for key, _ in names.OBIS.values()}


def main() -> None:
    """Print the report."""
    console = Console()
    profiles = load(directory())
    fixed = {name: fixed_by(name) for name in sorted(DIALECTS)}
    mapped, evident = by_profile(profiles), by_key()
    table = Table("property", "dialects", "profiles", "by its key", title=f"{len(VOCABULARY)} properties")
    for key in VOCABULARY:
        told = [name for name, known in fixed.items() if key in known and name != "hanse"]
        table.add_row(key, ", ".join(told), str(len(mapped[key]) or ""), "yes" if key in evident else "")
    console.print(table)
    told_by_dialects = set().union(*(known for name, known in fixed.items() if name != "hanse"))
    reachable = told_by_dialects | {key for key, who in mapped.items() if who} | evident
    models = sum(len(profile.match) for profile in profiles.values())
    spellings = {spelling for _, text in UNITS.values() for spelling in text.split("|")}
    keys = sum(len(text.split()) for text in names.NAMES.values())
    console.print(
        f"{len(reachable)} of {len(VOCABULARY)} properties are reachable without the native message\n"
        f"{len(DIALECTS)} dialects: " + ", ".join(f"{name} {len(known)}" for name, known in fixed.items()) + "\n"
        f"{len(profiles)} profiles with {models} patterns of models and "
        f"{sum(len(profile.example) for profile in profiles.values())} examples; {keys} self-explaining names\n"
        f"{len(spellings)} spellings of {len(UNITS)} units, {len(CODES)} with a code of UN/CEFACT"
    )


if __name__ == "__main__":
    main()
