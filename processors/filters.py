"""What MQTT topic filters have in common: which covers another, which meet, and what several leave of one. Pure.

Wildcards follow MQTT 3.1.1, section 4.7: `+` takes a level, `#` the rest and the level above it, neither takes a first
level that begins with `$`.
"""

from collections.abc import Sequence

from ingest.routing import matches


def covers(wide: str, narrow: str) -> bool:
    """Whether every topic that `narrow` takes is taken by `wide`."""
    return matches(wide, narrow) and not any(
        level == "+" and own == "#" for level, own in zip(wide.split("/"), narrow.split("/"), strict=False)
    )


def meet(one: str, other: str) -> bool:
    """Whether some topic is taken by both filters."""
    left, right = one.split("/"), other.split("/")
    if any(a.startswith("$") and b in {"+", "#"} for a, b in ((left[0], right[0]), (right[0], left[0]))):
        return False
    for a, b in zip(left, right, strict=False):
        if "#" in {a, b}:
            return True
        if "+" not in {a, b} and a != b:
            return False
    longer, shorter = (left, right) if len(left) > len(right) else (right, left)
    return len(left) == len(right) or longer[len(shorter) :] == ["#"]


def left_over(narrow: str, earlier: Sequence[str]) -> str | None:
    """A topic that `narrow` takes and none of the earlier filters does; None where together they take all of it."""
    return _Search(narrow.split("/"), [one.split("/") for one in earlier]).topic(0, frozenset(range(len(earlier))))


class _Search:
    """Level by level: of each level only matters which of the earlier filters still fit."""

    def __init__(self, own: list[str], earlier: list[list[str]]) -> None:
        self._own, self._earlier = own, earlier
        self._open = own[-1] == "#"
        self._other = "?" * (1 + max(len(level) for levels in (own, *earlier) for level in levels))  # none names it
        self._dead: set[tuple[int, frozenset[int]]] = set()

    def topic(self, place: int, fitting: frozenset[int]) -> str | None:
        """The rest of a topic from a level on, of which only `fitting` have taken all before; "" at its end."""
        if (place, fitting) in self._dead or (place and any(self._takes_all(one, place) for one in fitting)):
            return None
        ends = place == len(self._own) or (self._open and place >= len(self._own) - 1)
        if ends and place and all(len(self._earlier[one]) != place for one in fitting):
            return ""
        if place < len(self._own) or self._open:
            for level in self._levels(place, fitting):
                after = frozenset(one for one in fitting if self._takes(one, place, level))
                rest = self.topic(place + 1, after)
                if rest is not None:
                    return f"{level}/{rest}" if rest else level
        self._dead.add((place, fitting))
        return None

    def _takes_all(self, one: int, place: int) -> bool:
        return self._level(one, place) == "#" or self._earlier[one] == ["#"]

    def _level(self, one: int, place: int) -> str | None:
        levels = self._earlier[one]
        return levels[place] if place < len(levels) else None

    def _takes(self, one: int, place: int, level: str) -> bool:
        wanted = self._level(one, place)
        wild = wanted == "+" or (wanted == "#" and place == 0)
        return wanted == level or (wild and not (place == 0 and level.startswith("$")))

    def _levels(self, place: int, fitting: frozenset[int]) -> list[str]:
        """The values of a level that make a difference."""
        own = self._own[min(place, len(self._own) - 1)]
        if own not in {"+", "#"}:
            return [own]
        named = {self._level(one, place) for one in fitting} - {None, "+", "#"}
        return [self._other, *sorted(str(level) for level in named if place or not str(level).startswith("$"))]
