"""A batch put together and taken apart: letters, replays, the order of its spans, and one batch a span. Pure."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from processors.secrets import names_a_secret
from processors.standard.observation import Ignored, Leaf, Reason, Rejection
from storage.deadletters import TEXT_CHARACTERS
from storage.rows import Batch, Columns, DeadLetter, Replayed, Replays, clean


def letter(number: int, offset: int, place: int | None, rejection: Rejection) -> DeadLetter:
    """The dead letter of a refused reading, or of a whole message (`place` None)."""
    if rejection.key is not None and rejection.value and names_a_secret(rejection.key):
        hidden = "*" * len(rejection.value)
        rejection = rejection._replace(value=hidden, detail="the value of a secret is not kept")
    return DeadLetter(
        number,
        offset,
        place,
        rejection.reason,
        rejection.detail,
        rejection.device,
        rejection.channel,
        rejection.key,
        None if rejection.value is None else str(rejection.value),
        rejection.unit,
        rejection.time,
    )


def chosen(leaves: Sequence[Leaf], place: int, key: str | None) -> Sequence[Leaf] | Rejection:
    """Of a message decoded anew, the reading that a letter stands for: at its place, or alone in being called so.

    A dialect may count its readings otherwise by now, and a wrong reading is worse than a letter that stays open.
    """

    def called(leaf: Leaf) -> str | None:
        return None if isinstance(leaf, Ignored) or leaf.key is None else clean(leaf.key, TEXT_CHARACTERS)

    if place < len(leaves) and (key is None or called(leaves[place]) == key):
        return leaves[place : place + 1]
    namesakes = [leaf for leaf in leaves if key is not None and called(leaf) == key]
    if len(namesakes) == 1:
        return namesakes
    if place < len(leaves) and not namesakes and isinstance(leaves[place], Ignored):
        return leaves[place : place + 1]
    return Rejection(Reason.MALFORMED, f"decoded anew, the message has {len(namesakes)} readings called {key!r:.80}")


def set_apart(
    columns: Columns, dead: Sequence[DeadLetter], replayed: list[Replayed]
) -> tuple[Columns, list[DeadLetter], Replays]:
    """Rows and letters of replayed records (span -1, -2, …) apart from the others, numbered 0, 1, …."""
    theirs = columns.span < 0
    rows = _some(columns, theirs)
    rows.span = (-1 - rows.span).astype(np.int16)
    letters = [one._replace(span=-1 - one.span) for one in dead if one.span < 0]
    return _some(columns, ~theirs), [one for one in dead if one.span >= 0], Replays(replayed, rows, letters)


def _some(columns: Columns, mask: npt.NDArray[np.bool_]) -> Columns:
    return Columns(*(getattr(columns, name)[mask] for name in Columns.__dataclass_fields__))


def _replays_of(replays: Replays | None, number: int) -> Replays | None:
    """Those that came with one span, which is then the only one."""
    if replays is None:
        return None
    places = [place for place, record in enumerate(replays.records) if record.span == number]
    new = {place: at for at, place in enumerate(places)}
    columns = _some(replays.columns, np.isin(replays.columns.span, places))
    columns.span = np.array([new[place] for place in columns.span.tolist()], np.int16)
    dead = [one._replace(span=new[one.span]) for one in replays.dead if one.span in new]
    return Replays([dataclasses.replace(replays.records[place], span=0) for place in places], columns, dead)


def ordered(batch: Batch) -> Batch:
    """Sort the spans by partition, and the rows by span; within a span they are in order already."""
    order = sorted(range(len(batch.spans)), key=lambda n: batch.spans[n].partition)
    if order == list(range(len(order))) and (np.diff(batch.columns.span) >= 0).all():
        return batch
    rank = np.empty(len(order), np.int16)
    rank[order] = np.arange(len(order), dtype=np.int16)
    batch.columns.span = rank[batch.columns.span]
    rows = np.argsort(batch.columns.span, kind="stable")
    for name in Columns.__dataclass_fields__:
        setattr(batch.columns, name, getattr(batch.columns, name)[rows])
    batch.spans = [batch.spans[n] for n in order]
    batch.dead = [one._replace(span=int(rank[one.span])) for one in batch.dead]
    batch.state = [one._replace(span=int(rank[one.span])) for one in batch.state]
    for record in batch.replays.records if batch.replays is not None else ():
        record.span = int(rank[record.span])
    return batch


def split(batch: Batch) -> list[Batch]:
    """One batch a span, for partitions that must stand or fall alone."""
    parts = []
    for number, span in enumerate(batch.spans):
        columns = _some(batch.columns, batch.columns.span == number)
        columns.span = np.zeros_like(columns.span)
        dead = [one._replace(span=0) for one in batch.dead if one.span == number]
        state = [one._replace(span=0) for one in batch.state if one.span == number]
        parts.append(Batch([span], columns, batch.streams, dead, state, _replays_of(batch.replays, number)))
    return parts
