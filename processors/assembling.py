"""A batch put together and taken apart: letters, the order of its spans, and one batch a span. Pure."""

import numpy as np

from processors.standard.observation import Rejection
from storage.rows import Batch, Columns, DeadLetter


def letter(number: int, offset: int, place: int | None, rejection: Rejection) -> DeadLetter:
    """The dead letter of a refused reading, or of a whole message (`place` None)."""
    return DeadLetter(
        number,
        offset,
        place,
        rejection.reason,
        rejection.detail,
        rejection.device,
        rejection.channel,
        rejection.key,
        rejection.value,
        rejection.unit,
        rejection.time,
    )


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
    return batch


def split(batch: Batch) -> list[Batch]:
    """One batch a span, for partitions that must stand or fall alone."""
    parts = []
    for number, span in enumerate(batch.spans):
        mine = batch.columns.span == number
        columns = Columns(*(getattr(batch.columns, name)[mine] for name in Columns.__dataclass_fields__))
        columns.span = np.zeros_like(columns.span)
        dead = [one._replace(span=0) for one in batch.dead if one.span == number]
        state = [one._replace(span=0) for one in batch.state if one.span == number]
        parts.append(Batch([span], columns, batch.streams, dead, state))
    return parts
