"""What a dialect's route may say besides its filter: the options of a module, each with what it takes. Pure data."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Option(NamedTuple):
    """What an option does, what it takes (in words) and whether a value is of that kind."""

    does: str
    takes: str
    fits: Callable[[Any], bool]


def one_of(does: str, *values: str) -> Option:
    """One of a few words."""
    return Option(does, f"one of {', '.join(values)}", lambda value: isinstance(value, str) and value in values)


def text(does: str) -> Option:
    """A text that is not empty."""
    return Option(does, "a text", lambda value: isinstance(value, str) and value != "")


def texts(does: str) -> Option:
    """A list of texts."""
    return Option(does, "a list of texts", lambda value: _all(value, lambda one: isinstance(one, str) and one != ""))


def levels(does: str) -> Option:
    """Topic levels, counted from 0."""
    return Option(
        does,
        "a list of topic levels, counted from 0",
        lambda value: _all(value, lambda one: type(one) is int and one >= 0),
    )


def _all(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(fits, value))
