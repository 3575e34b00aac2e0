"""Dead letters: every refused message kept whole once, every refusal with its reason, in the batch's transaction.

All text is cleaned here, once, so that a dead letter can't fail on data (rule 16).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import psycopg

from storage.rows import IMPORT_TOPIC, LETTER_BYTES, Columns, DeadLetter, RawMessage, Span, StreamTable, clean
from storage.sheet import REASONS, STORED, Verdicts

TOPIC_CHARACTERS = 65_535  # whole: a replay needs it
DETAIL_CHARACTERS = 4_000  # a traceback's end and beginning
TEXT_CHARACTERS = 300

# Times that have a date, in microseconds since the epoch: years 1 to 9999.
FIRST_TIME, LAST_TIME = -62_135_596_800_000_000, 253_402_300_799_999_999

# One statement: what weighs is what was really inserted. Cities are counted in the order of their ids.
WRITE = f"""
with message as (
  insert into store.dead_message (topic, partition, "offset", received_at, city_id, mqtt_topic, retained, stub, masked,
                                  payload)
  select topic, partition, "offset", 'epoch'::timestamptz + received_ms * interval '1 millisecond', city_id, mqtt_topic,
         retained, stub, masked, payload
    from unnest(%s::text[], %s::int4[], %s::int8[], %s::int8[], %s::int4[], %s::text[], %s::bool[], %s::bool[],
                %s::bool[], %b::bytea[])
      as m (topic, partition, "offset", received_ms, city_id, mqtt_topic, retained, stub, masked, payload)
  on conflict do nothing
  returning city_id, case when starts_with(topic, '{IMPORT_TOPIC}') then 0 else octet_length(payload) end as weight),
letter as (
  insert into store.dead_letter (topic, partition, "offset", received_at, city_id, reading, reason, detail, device,
                                 channel, raw_key, raw_value, raw_unit, phenomenon_time)
  select topic, partition, "offset", 'epoch'::timestamptz + received_ms * interval '1 millisecond', city_id, reading,
         reason, detail, device, channel, raw_key, raw_value, raw_unit,
         'epoch'::timestamptz + make_interval(secs => us / 1000000) + (us %% 1000000) * interval '1 microsecond'
    from unnest(%s::text[], %s::int4[], %s::int8[], %s::int8[], %s::int4[], %s::int4[], %s::text[], %s::text[],
                %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int8[])
      as l (topic, partition, "offset", received_ms, city_id, reading, reason, detail, device, channel, raw_key,
            raw_value, raw_unit, us)
  on conflict do nothing
  returning city_id, case when starts_with(topic, '{IMPORT_TOPIC}') then 0 else {LETTER_BYTES} end as weight)
insert into store.dead_letter_bytes as b (city_id, open_bytes)
select city_id, sum(weight) from (select * from message union all select * from letter) w
 group by city_id order by city_id
on conflict (city_id) do update set open_bytes = b.open_bytes + excluded.open_bytes
returning city_id, open_bytes
"""  # noqa: S608  (constants)

OPEN_BYTES = """
select c.key, coalesce(b.open_bytes, 0)
  from store.city c left join store.dead_letter_bytes b using (city_id) where c.key = any(%s)
"""

Connection = psycopg.AsyncConnection[Any]


def _text(text: str | None, limit: int = TEXT_CHARACTERS) -> str | None:
    return None if text is None else clean(text, limit)


def _time(microseconds: int | None) -> int | None:
    return microseconds if microseconds is not None and FIRST_TIME <= microseconds <= LAST_TIME else None


def refusals(columns: Columns, streams: StreamTable, found: Verdicts) -> list[DeadLetter]:
    """Dead letters for the rows that only the database could refuse."""
    if found.codes.max(initial=STORED) < min(REASONS):
        return []
    letters = []
    for row in np.flatnonzero(found.codes >= min(REASONS)).tolist():
        stream = streams.streams[int(columns.stream[row])]
        raw_key, raw_unit = streams.origins[int(columns.origin[row])]
        letters.append(
            DeadLetter(
                span=int(columns.span[row]),
                offset=int(columns.offset[row]),
                reading=int(columns.reading[row]),
                reason=REASONS[int(found.codes[row])],
                detail=found.details.get(row, "older than what is kept"),
                device=stream.device,
                channel=stream.channel,
                raw_key=raw_key,
                raw_unit=raw_unit,
                phenomenon_time=int(columns.time[row]),
            )
        )
    return letters


def texts(letter: DeadLetter) -> tuple[Any, ...]:
    """What a letter says, from `reading` on in the order of its columns, storable."""
    return (
        letter.reading,
        str(letter.reason),
        clean(letter.detail, DETAIL_CHARACTERS),
        _text(letter.device),
        _text(letter.channel),
        _text(letter.raw_key),
        _text(letter.raw_value),
        _text(letter.raw_unit),
        _time(letter.phenomenon_time),
    )


def _received(message: RawMessage) -> int:
    """Receive time in milliseconds, within what has a date: a gateway's clock may say anything."""
    return min(max(message.received_ms, 0), LAST_TIME // 1_000)


async def write(
    conn: Connection, spans: Sequence[Span], letters: Sequence[DeadLetter], city_ids: Mapping[str, int]
) -> psycopg.AsyncCursor[Any]:
    """Insert letters and their messages; the cursor gives (city_id, open bytes). May run within a pipeline."""
    messages: dict[tuple[int, int], RawMessage] = {}
    for letter in letters:
        if (letter.span, letter.offset) not in messages:
            messages[letter.span, letter.offset] = spans[letter.span].messages_at(letter.offset)
    message_rows, letter_rows = [], []
    for (place_of_span, offset), message in messages.items():
        span = spans[place_of_span]
        place = *span.partition, offset, _received(message), city_ids[span.city]
        topic = clean(message.topic, TOPIC_CHARACTERS)
        message_rows.append((*place, topic, message.retained, message.stub, message.masked, message.payload))
    for letter in letters:
        span = spans[letter.span]
        received_ms = _received(messages[letter.span, letter.offset])
        place = *span.partition, letter.offset, received_ms, city_ids[span.city]
        letter_rows.append((*place, *texts(letter)))
    columns = [list(column) for rows in (message_rows, letter_rows) for column in zip(*rows, strict=True)]
    return await conn.execute(WRITE, columns)


async def open_bytes(conn: Connection, cities: Collection[str]) -> dict[str, int]:
    """Bytes of each city's open dead letters; 0 for a city that has none."""
    cursor = await conn.execute(OPEN_BYTES, (list(cities),))
    return dict.fromkeys(cities, 0) | dict(await cursor.fetchall())
