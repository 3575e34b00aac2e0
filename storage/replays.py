"""Dead letters replayed: each closed or updated exactly once, in the transaction of the record that brought it.

A letter's row is locked and must be what the record says, and not closed; otherwise the record changes nothing. Rows go
the way of all rows; a row that conflicts takes the other's place only where the record asks for a correction. The
ledger counts all of it in columns of its own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from storage.copying import Table
from storage.datastreams import Resolved
from storage.deadletters import DETAIL_CHARACTERS, refusals, texts
from storage.rows import REPLAY_REPEATED, Batch, Columns, DeadLetter, Replayed, Span, clean
from storage.sheet import CONFLICT, DUPLICATE, STORED, Verdicts, screen
from storage.weights import AT, MessageKey, Scales

CORRECTED = -1  # a verdict that only a replay can get

LOCK = f"""
select a.place
  from unnest(%s::int8[], %s::text[], %s::int4[], %s::int8[], %s::int8[], %s::int4[])
       with ordinality as a (letter_id, topic, partition, "offset", received_ms, reading, place)
  join store.dead_letter l
    on l.letter_id = a.letter_id and l.topic = a.topic and l.partition = a.partition and l."offset" = a."offset"
   and l.received_at = {AT} and l.reading is not distinct from a.reading
 where l.state <> 'closed'
 order by l.letter_id, a.place
   for update of l
"""  # noqa: S608  (constants)
TIME = "'epoch'::timestamptz + make_interval(secs => {0} / 1000000) + ({0} %% 1000000) * interval '1 microsecond'"
CORRECT = f"""
update store.observation o
   set value = n.value, quality = n.quality, quality_tests = n.tests, received_at = {TIME.format("n.received")}
  from unnest(%s::int4[], %s::int8[], %s::float8[], %s::int4[], %s::int4[], %s::int8[])
    as n (id, time, value, quality, tests, received)
 where o.datastream_id = n.id and o.phenomenon_time = {TIME.format("n.time")}
"""  # noqa: S608  (constants)
SETTLE = """
update store.dead_letter l
   set state = n.state, outcome = n.outcome, replayed_at = now(),
       reason = coalesce(n.reason, l.reason), detail = coalesce(n.detail, l.detail)
  from unnest(%s::int8[], %s::text[], %s::text[], %s::text[], %s::text[])
    as n (letter_id, state, outcome, reason, detail)
 where l.letter_id = n.letter_id
"""
ADD = f"""
insert into store.dead_letter (topic, partition, "offset", received_at, city_id, reading, reason, detail, device,
                               channel, raw_key, raw_value, raw_unit, phenomenon_time)
select topic, partition, "offset", {AT}, city_id, reading, reason, detail, device, channel, raw_key, raw_value,
       raw_unit, {TIME.format("us")}
  from unnest(%s::text[], %s::int4[], %s::int8[], %s::int8[], %s::int4[], %s::int4[], %s::text[], %s::text[],
              %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int8[])
    as l (topic, partition, "offset", received_ms, city_id, reading, reason, detail, device, channel, raw_key,
          raw_value, raw_unit, us)
on conflict do nothing
"""  # noqa: S608  (constants)

Connection = psycopg.AsyncConnection[Any]


@dataclass(slots=True)
class Settled:
    """What became of the records: words for each, counts by span, and the rows behind them."""

    words: list[str]
    columns: Columns
    found: Verdicts
    counts: dict[int, Counter[str]] = field(default_factory=dict)
    open_bytes: list[tuple[int, int]] = field(default_factory=list)


def _key(record: Replayed, spans: Sequence[Span]) -> MessageKey:
    return MessageKey(*spans[record.span].partition, record.offset, record.received_ms)


async def write(
    conn: Connection,
    batch: Batch,
    table: Table,
    resolved: Resolved,
    newest: npt.NDArray[np.int64],
    retained_from: int,
    city_ids: Mapping[str, int],
) -> Settled:
    """Write what a batch replays. The arguments are as for its own rows."""
    assert batch.replays is not None
    records = batch.replays.records
    scales = Scales([_key(record, batch.spans) for record in records])
    await scales.lock(conn)
    live = await _open(conn, records, batch.spans)
    columns = _rows_of(batch.replays.columns, live)
    found = screen(columns, resolved.ids, resolved.refused, retained_from)
    await conn.execute("savepoint rows")  # a collision must not undo the batch's own rows
    await table.write(conn, columns, resolved.ids, newest, found)
    await _correct(conn, records, columns, resolved.ids, found)
    letters: dict[int, list[DeadLetter]] = {place: [] for place in live}
    for letter in [*batch.replays.dead, *refusals(columns, batch.streams, found)]:
        if letter.span in letters:
            letters[letter.span].append(letter)
    settled = _judge(records, live, columns, found, letters)
    await _write_letters(conn, batch, settled.words, letters, city_ids)
    settled.open_bytes = await scales.settle(conn)
    return settled


async def _open(conn: Connection, records: Sequence[Replayed], spans: Sequence[Span]) -> set[int]:
    """Lock the letters that are what the records say and not closed; of several records of one letter the first."""
    keys = [_key(record, spans) for record in records]
    cursor = await conn.execute(
        LOCK, ([r.letter for r in records], *(list(c) for c in zip(*keys, strict=True)), [r.reading for r in records])
    )
    first: dict[int, int] = {}
    for (place,) in await cursor.fetchall():
        first.setdefault(records[place - 1].letter, place - 1)
    return set(first.values())


def _rows_of(columns: Columns, live: set[int]) -> Columns:
    mask = np.isin(columns.span, list(live))
    return Columns(*(getattr(columns, name)[mask] for name in Columns.__dataclass_fields__))


async def _correct(
    conn: Connection, records: Sequence[Replayed], columns: Columns, ids: npt.NDArray[np.int32], found: Verdicts
) -> None:
    """Let conflicting rows that are corrections take the place of those that stand; the last of a key wins."""
    asked = np.array([record.correct for record in records], np.bool_)
    rows = np.flatnonzero((found.codes == CONFLICT) & asked[columns.span])
    last = {(int(columns.stream[row]), int(columns.time[row])): row for row in rows.tolist()}
    if not last:
        return
    one = list(last.values())
    values = [None if np.isnan(value) else value for value in columns.value[one].tolist()]
    await conn.execute(
        CORRECT,
        (
            ids[columns.stream[one]].tolist(),
            columns.time[one].tolist(),
            values,
            columns.quality[one].tolist(),
            columns.quality_tests[one].tolist(),
            columns.received[one].tolist(),
        ),
    )
    found.codes[rows] = CORRECTED
    for row in rows.tolist():
        found.details.pop(row, None)


def _judge(
    records: Sequence[Replayed],
    live: set[int],
    columns: Columns,
    found: Verdicts,
    letters: Mapping[int, Sequence[DeadLetter]],
) -> Settled:
    """Words and counts: what became of each record's readings."""
    settled = Settled([], columns, found)
    kinds = {STORED: "stored", DUPLICATE: "duplicate", CORRECTED: "corrected"}
    rows: dict[int, Counter[str]] = {place: Counter() for place in live}
    for place, code in zip(columns.span.tolist(), found.codes.tolist(), strict=True):
        if code in kinds:
            rows[place][kinds[code]] += 1
    for place, record in enumerate(records):
        counts = settled.counts.setdefault(record.span, Counter())
        if place not in live:
            counts["ignored"] += 1
            settled.words.append(REPLAY_REPEATED)
            continue
        mine = rows[place]
        mine["dead"] += len(letters[place])
        mine["ignored"] += record.ignored_readings + record.ignored_messages
        counts.update(mine)
        settled.words.append(_words(record, +mine, letters[place]))
    return settled


def _words(record: Replayed, counts: Counter[str], letters: Sequence[DeadLetter]) -> str:
    if _still_dead(record, letters):
        return f"dead: {letters[0].reason}"
    if record.ignored:
        return f"ignored: {record.ignored}"
    if record.reading is not None:
        return next(iter(counts))
    why = f" ({', '.join(sorted({str(letter.reason) for letter in letters}))})" if letters else ""
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items(), reverse=True)) + why or "no readings"


def _still_dead(record: Replayed, letters: Sequence[DeadLetter]) -> bool:
    """Whether the record's own letter stays open; readings of a message decoded at last get letters of their own."""
    return bool(letters) and (record.reading is not None or letters[0].reading is None)


async def _write_letters(
    conn: Connection,
    batch: Batch,
    words: Sequence[str],
    letters: Mapping[int, Sequence[DeadLetter]],
    city_ids: Mapping[str, int],
) -> None:
    assert batch.replays is not None
    settled: list[tuple[Any, ...]] = []
    added: list[tuple[Any, ...]] = []
    for place, mine in letters.items():
        record = batch.replays.records[place]
        if _still_dead(record, mine):
            detail = clean(mine[0].detail, DETAIL_CHARACTERS)
            settled.append((record.letter, "open", words[place], str(mine[0].reason), detail))
            continue
        settled.append((record.letter, "closed", words[place], None, None))
        city_id = city_ids[batch.spans[record.span].city]
        added += [(*_key(record, batch.spans), city_id, *texts(letter)) for letter in mine]
    if settled:
        await conn.execute(SETTLE, [list(column) for column in zip(*settled, strict=True)])
    if added:
        await conn.execute(ADD, [list(column) for column in zip(*added, strict=True)])
