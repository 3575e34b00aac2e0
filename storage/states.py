"""What stateful dialects remember, written part by part in the batch's transaction.

The middle writes names and values so that nothing in them can fail (`stored_name`, JSON in ASCII). Should the database
refuse a part all the same, it is found by halving and left out, and the caller is told: its memory is then another than
the table's, and has to be read again. The partition's row is locked, so nobody else writes these rows meanwhile.
"""

from collections.abc import Sequence
from typing import Any

import psycopg
import structlog

from storage.errors import Verdict, one_line, verdict
from storage.rows import Span, StateChange

KEEP = """
insert into store.dialect_state (topic, partition, dialect, source, part, format, state)
select topic, partition, dialect, source, part, format, state::json
  from unnest(%s::text[], %s::int4[], %s::text[], %s::text[], %s::text[], %s::int4[], %s::text[])
    as c (topic, partition, dialect, source, part, format, state)
on conflict (topic, partition, dialect, source, part)
   do update set format = excluded.format, state = excluded.state, updated_at = now()
"""
FORGET = """
delete from store.dialect_state s
 using unnest(%s::text[], %s::int4[], %s::text[], %s::text[], %s::text[])
    as c (topic, partition, dialect, source, part)
 where s.topic = c.topic and s.partition = c.partition and s.dialect = c.dialect and s.source = c.source
   and s.part = c.part
"""

log = structlog.get_logger()
Connection = psycopg.AsyncConnection[Any]


async def write(conn: Connection, spans: Sequence[Span], changes: Sequence[StateChange]) -> int:
    """Write the changes; returns how many the database refused. Each part may appear once."""
    refused = 0
    pieces = [list(changes)] if changes else []
    while pieces:
        piece = pieces.pop()
        try:
            async with conn.pipeline():
                await conn.execute("savepoint state")
                await _put(conn, spans, piece)
                await conn.execute("release savepoint state")
        except (psycopg.Error, UnicodeError) as error:
            if verdict(error) is not Verdict.DATA:
                raise
            await conn.execute("rollback to savepoint state")
            if len(piece) == 1:
                refused += 1
                log.warning("the database refuses a part of state", dialect=piece[0].dialect, why=one_line(error))
            else:
                middle = len(piece) // 2
                pieces += [piece[middle:], piece[:middle]]
    return refused


async def _put(conn: Connection, spans: Sequence[Span], changes: Sequence[StateChange]) -> None:
    kept = [(*_place(spans, c), c.format, c.state) for c in changes if c.state is not None]
    gone = [_place(spans, c) for c in changes if c.state is None]
    if kept:
        await conn.execute(KEEP, [list(column) for column in zip(*kept, strict=True)])
    if gone:
        await conn.execute(FORGET, [list(column) for column in zip(*gone, strict=True)])


def _place(spans: Sequence[Span], change: StateChange) -> tuple[str, int, str, str, str]:
    return (*spans[change.span].partition, change.dialect, change.source, change.part)
