"""What stateful dialects remember of the assigned partitions, as the batches decoded so far leave it. Pure.

Loaded with the offset it belongs to, changed by every message decoded after it, dropped whole when anything fails: what
is here is then ahead of the database, or behind it. A change is kept as the JSON that the database will hold and read
back at once, so that decoding goes on after a restart exactly as it would have without one. A source's parts stay text
until its first message: a partition may hold a million of them.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from processors.dialects import Dialect
from processors.dialects.memory import State, Stateful
from storage.rows import SourceState, StateChange, TopicPartition, stored_name

# Random topics and names in a payload must not grow the table without bound; what is beyond is not kept, and counted.
SOURCES_A_PARTITION = 20_000
PARTS_A_SOURCE = 20_000
PART_CHARACTERS = 1_048_576

NOTHING: State = MappingProxyType({})


class Place(NamedTuple):
    """Whose state it is; `source` as it is stored."""

    partition: TopicPartition
    dialect: str
    source: str


class Memory:
    """State by partition, dialect and source, and what of it the batch under construction changes."""

    def __init__(self) -> None:
        self._unread: dict[Place, str] = {}
        self._read: dict[Place, dict[str, Any]] = {}
        self._sources: Counter[TopicPartition] = Counter()
        self._changed: dict[tuple[Place, str], tuple[int, int, str | None]] = {}

    def drop(self) -> None:
        """Forget everything."""
        self._unread.clear()
        self._read.clear()
        self._sources.clear()
        self._changed.clear()

    def load(self, partition: TopicPartition, states: Sequence[SourceState]) -> None:
        """Take over what the database remembers of a partition."""
        self._sources[partition] = len(states)
        for state in states:
            self._unread[Place(partition, state.dialect, state.source)] = state.parts

    def of(self, partition: TopicPartition, dialect: str, source: str) -> State:
        """A source's parts; never to be changed in place."""
        place = Place(partition, dialect, source)
        known = self._read.get(place)
        if known is not None:
            return known
        text = self._unread.pop(place, None)
        if text is None:
            return NOTHING
        self._read[place] = parts = json.loads(text)
        return parts  # type: ignore[no-any-return]  # an object, as POSITIONS makes it

    def change(
        self, number: int, partition: TopicPartition, dialect: str, source: str, of_format: int, changed: State
    ) -> int:
        """Keep what a step changed, in span `number` of the batch; returns how many parts are beyond the bounds.

        Raises what json does for a value that is none, before anything is changed.
        """
        place = Place(partition, dialect, source)
        texts = {name: None if part is None else json.dumps(part, allow_nan=False) for name, part in changed.items()}
        parts = self.of(partition, dialect, source)
        new = parts is NOTHING
        if new and self._sources[partition] >= SOURCES_A_PARTITION:
            return sum(text is not None for text in texts.values())
        mine: dict[str, Any] = {} if new else self._read[place]
        refused = 0
        for name, text in texts.items():
            stored = stored_name(name)
            if text is None:
                if name not in mine:
                    continue
                del mine[name]
            elif stored is None or len(text) > PART_CHARACTERS or (name not in mine and len(mine) >= PARTS_A_SOURCE):
                refused += 1
                continue
            elif name in mine and json.dumps(mine[name]) == text:
                continue  # a birth said again, word for word, must not rewrite its thousand parts
            else:
                mine[name] = json.loads(text)
            assert stored is not None, "what is remembered has a name that can be stored"
            self._changed[place, stored] = (number, of_format, text)
        self._settle(place, mine, new=new)
        return refused

    def _settle(self, place: Place, parts: dict[str, Any], *, new: bool) -> None:
        if parts and new:
            self._sources[place.partition] += 1
            self._read[place] = parts
        elif not parts and not new:
            self._sources[place.partition] -= 1
            del self._read[place]

    def take(self) -> list[StateChange]:
        """The changes since the last call, each part once and as it is now."""
        changed, self._changed = self._changed, {}
        return [
            StateChange(number, place.dialect, place.source, part, of_format, text)
            for (place, part), (number, of_format, text) in changed.items()
        ]


def unreadable(states: Sequence[SourceState], dialects: Mapping[str, Dialect]) -> str | None:
    """Why this code must not read on with a state that newer code wrote; None where it may.

    Older formats are handed to the dialect as they are, and what no dialect asks for stays where it is.
    """
    for state in states:
        dialect = dialects.get(state.dialect)
        if isinstance(dialect, Stateful) and state.format > dialect.format:
            return (
                f"dialect {state.dialect} remembers source {state.source!r:.80} in format {state.format}, this code "
                f"knows {dialect.format}: upgrade this processor"
            )
    return None
