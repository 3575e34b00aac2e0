"""What stateful dialects remember: births, descriptions, announcements, without which later messages mean nothing.

A dialect stays pure: what it remembers of a source comes in, what changes goes out. Keeping it in the database, in the
transaction of the batch that changed it, and giving it back after a restart is the pipeline's business (rules 21, 23).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from processors.standard.observation import Decoded, Message

# A source's parts by name, each a JSON value; never changed in place. Parts are what is written on its own, so what
# changes with every message does not share one with what is large and stays.
State = Mapping[str, Any]


class Step(NamedTuple):
    """What a dialect made of a message, and the parts to keep from now on (None: to forget); mostly none changed.

    `missed`: how many messages of the source, by the numbers it gives them, should have come before it and did not.
    """

    decoded: Decoded
    changed: State = MappingProxyType({})
    missed: int = 0


class Stateful(NamedTuple):
    """A dialect whose messages are read by what came before from the same source.

    `source` names it from the MQTT topic, None for a topic that has none; all messages of a source must be in one Kafka
    partition, so the route names `key_levels`. `decode` never raises on any bytes. `format` is raised when older code
    could not read the parts any more. A dialect that must know when a part was learned keeps `received_us` in it: a
    replayed message (`Message.replayed`) is decoded with the parts in force at its original receive time, or the first
    of the same session after it; where neither is there it is rejected as before. Nothing it changes is kept.
    """

    source: Callable[[str], str | None]
    decode: Callable[[Message, State], Step]
    format: int = 1


def merged(state: State, changed: State) -> State:
    """The parts after a step."""
    return {name: part for name, part in {**state, **changed}.items() if part is not None} if changed else state
