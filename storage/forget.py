"""Everything that the database holds of one device, removed for good; a record stays that something was.

Meters belong to households, and a household may ask (GDPR, article 17). In steps, each of which can be repeated until
the last one is through:

1. In one short transaction that no batch can overlap, the device's datastreams go, their ids into the record, and the
   generation of datastreams is raised: every writer's next batch finds that and ends its session, because it may
   remember the ids. From here on nobody writes under them, no view shows them, nobody sums them up.
2. Readings go, chunk by chunk, beside running ingest; then hours, once what was being summed up has ended. The sums of
   its city are made anew without it.
3. Dead letters, their payloads and remembered states go, and the record is closed.

What the gateway's broker, Kafka (14 days), backups and exported files hold is not in the database; the report says so.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Self

import psycopg
import stamina

from storage.connection import parameters, passfile_fault, refusal
from storage.errors import Refused, Verdict, outcome, verdict
from storage.rows import IMPORT_TOPIC, LETTER_BYTES
from storage.weights import IN_ORDER

FIND_CITY = "select city_id from store.city where key = %s"
FIND = "select datastream_id from store.datastream where city_id = %s and device = %s order by 1"
# A message is the device's where a letter names it, its topic has it as a level, or its JSON holds it as a string.
MESSAGES = f"""
select topic, partition, "offset", received_at,
       case when not starts_with(topic, '{IMPORT_TOPIC}') then octet_length(payload) else 0 end as weight
  from store.dead_message m
 where city_id = %(city)s and (
   exists (select from store.dead_letter l
            where l.topic = m.topic and l.partition = m.partition and l."offset" = m."offset"
              and l.received_at = m.received_at and l.device = %(device)s)
   or %(device)s = any (string_to_array(mqtt_topic, '/'))
   or position(%(quoted)s::bytea in payload) > 0 or position(%(escaped)s::bytea in payload) > 0)
"""  # noqa: S608  (constants)
# As whoever changes letters does (storage/weights.py): a replay that closes one of them has ended, or waits.
LOCK_MESSAGES = f"""
select from store.dead_message m
 where (topic, partition, "offset", received_at) in (select topic, partition, "offset", received_at from ({MESSAGES}) g)
 {IN_ORDER}
"""  # noqa: S608  (constants)
LETTERS = f"""
select l.letter_id, l.state from store.dead_letter l
 where l.city_id = %(city)s and (l.device = %(device)s or exists (
   select from ({MESSAGES}) m where m.topic = l.topic and m.partition = l.partition and m."offset" = l."offset"
      and m.received_at = l.received_at))
"""  # noqa: S608  (constants)
STATES = """
from store.dialect_state s
where (s.topic, s.partition) in (select topic, partition from store.ledger where city_id = %(city)s)
  and (string_to_array(s.source, '/') && %(names)s::text[] or string_to_array(s.part, '/') && %(names)s::text[])
"""

DELETE_STATES = f"""
delete from store.dialect_state where (topic, partition, dialect, source, part) in (
  select s.topic, s.partition, s.dialect, s.source, s.part {STATES})
"""  # noqa: S608  (constants)
COUNT = f"""
select (select count(*) from store.observation where datastream_id = any (%(ids)s)) as observations,
       (select count(*) from store.observation_hour where datastream_id = any (%(ids)s)) as hours,
       (select count(*) from ({LETTERS}) l) as dead_letters,
       (select count(*) from ({MESSAGES}) m) as dead_messages,
       (select count(*) {STATES}) as states
"""  # noqa: S608  (constants)

BEGIN = """
insert into store.forgotten (city_id, device_sha256, datastream_ids) values (%s, %s, %s)
on conflict (city_id, device_sha256) where finished_at is null
  do update set datastream_ids = forgotten.datastream_ids || excluded.datastream_ids
returning forgotten_id, datastream_ids
"""
DELETE_LETTERS = f"""
with gone as (select * from ({MESSAGES}) m),
letters as (
  delete from store.dead_letter where letter_id in (select letter_id from ({LETTERS}) l)
  returning topic, partition, "offset", received_at, state, city_id, reason),
messages as (
  delete from store.dead_message m using gone g
   where m.topic = g.topic and m.partition = g.partition and m."offset" = g."offset" and m.received_at = g.received_at
  returning m.topic, m.partition, m."offset", m.received_at, g.weight),
weight as (
  select coalesce(sum(weight) filter (where exists (
           select from letters l where l.state = 'open' and l.topic = m.topic and l.partition = m.partition
              and l."offset" = m."offset" and l.received_at = m.received_at)), 0)
         + (select count(*) filter (where state = 'open' and not starts_with(topic, '{IMPORT_TOPIC}')) from letters)
         * {LETTER_BYTES} as bytes from messages m),
noted as (
  insert into store.dead_letter_purge (city_id, reason, state, letters)
  select city_id, reason, state, count(*) from letters group by 1, 2, 3 order by 2, 3),
relieved as (
  update store.dead_letter_bytes b set open_bytes = greatest(0, open_bytes - w.bytes) from weight w
   where b.city_id = %(city)s)
select (select count(*) from letters), (select count(*) from messages)
"""  # noqa: S608  (constants)
CHUNKS = """
select range_start, range_end from timescaledb_information.chunks
 where hypertable_schema = 'store' and hypertable_name = 'observation' order by range_start
"""
# Through the hypertable, not the chunk: a chunk's own name reaches what is not compressed of it, and nothing else.
OF_CHUNK = "store.observation where datastream_id = any (%s) and phenomenon_time >= %s and phenomenon_time < %s"

Watch = Callable[[str, float], None]


def _passing(error: Exception) -> bool:
    return isinstance(error, psycopg.Error) and verdict(error) is Verdict.RETRY


class Forgetting:
    """One device of one city, on a connection of its own. A context manager. Raises Refused, Unavailable."""

    def __init__(self, dsn: str, city: str, device: str) -> None:
        self._params = parameters(dsn, "hanse-forget", session=False)
        if fault := passfile_fault(self._params):
            raise Refused(fault)
        self._city, self._device = city, device

    def __enter__(self) -> Self:
        try:
            # Nothing is prepared by itself, as on every connection of ours: each statement runs a few times at most.
            self._conn = psycopg.connect(autocommit=True, prepare_threshold=None, **self._params)
        except psycopg.Error as error:
            raise refusal(error, self._params) from error
        try:
            self._conn.execute("set timezone = 'UTC'")
            found = self._conn.execute(FIND_CITY, (self._city,)).fetchone()
        except psycopg.Error as error:
            self._conn.close()
            raise outcome(error) from error
        if found is None:
            self._conn.close()
            raise Refused(f"the database has no city {self._city!r}; `hanse-storage status` shows those it has")
        self._city_id = found[0]
        return self

    def __exit__(self, *_: object) -> None:
        self._conn.close()

    def _names(self) -> dict[str, Any]:
        return {
            "city": self._city_id,
            "device": self._device,
            "names": [
                self._device,
                json.dumps(self._device, ensure_ascii=False)[1:-1],
            ],  # names of states may be escaped as in JSON
            "quoted": json.dumps(self._device, ensure_ascii=False).encode(),
            "escaped": json.dumps(self._device).encode(),
        }

    def _digest(self) -> bytes:
        return hashlib.sha256(f"{self._city}\0{self._device}".encode()).digest()

    def plan(self) -> dict[str, int]:
        """What there is to forget; changes nothing."""
        try:
            ids = self._ids() + self._begun()
            cursor = self._conn.execute(COUNT, self._names() | {"ids": ids})
            counts = cursor.fetchone()
            assert counts is not None
            names = [column.name for column in cursor.description or ()]
        except psycopg.Error as error:
            raise outcome(error) from error
        return {"datastreams": len(ids)} | dict(zip(names, counts, strict=True))

    def run(self, watch: Watch = lambda *_: None) -> dict[str, Any]:
        """Forget, and return the record that stays."""
        try:
            record, ids = self._begin()
            counts = {
                "datastreams": len(ids),
                "observations": self._delete_readings(ids, partial(watch, "observations")),
            }
            counts["hours"] = self._delete_hours(ids)
            watch("hours", 0.5)
            while self._sum_up_city():
                pass
            watch("hours", 1.0)
            return self._finish(record, ids, counts)
        except psycopg.Error as error:
            raise outcome(error) from error

    def _ids(self) -> list[int]:
        return [row[0] for row in self._conn.execute(FIND, (self._city_id, self._device)).fetchall()]

    def _begun(self) -> list[int]:
        """Datastreams whose readings an interrupted run left."""
        query = """
        select coalesce(array_agg(id), '{}') from store.forgotten, unnest(datastream_ids) as id
         where city_id = %s and device_sha256 = %s and finished_at is null
        """
        row = self._conn.execute(query, (self._city_id, self._digest())).fetchone()
        assert row is not None
        return list(row[0])

    @stamina.retry(on=_passing, attempts=30, timeout=60, wait_max=2)
    def _begin(self) -> tuple[int, list[int]]:
        """Step 1; waits for running batches, and makes the next ones wait for a moment."""
        with self._conn.transaction():
            self._conn.execute("set local lock_timeout = '2s'")
            self._conn.execute("select pg_advisory_xact_lock(7353, 1)")
            ids = self._ids()
            row = self._conn.execute(BEGIN, (self._city_id, self._digest(), ids)).fetchone()
            assert row is not None
            if ids:
                self._conn.execute("delete from store.datastream where datastream_id = any (%s)", (ids,))
                self._conn.execute("update store.rollup_state set generation = generation + 1")
        return row[0], row[1]

    def _delete_readings(self, ids: list[int], watch: Callable[[float], None]) -> int:
        """A transaction a chunk; of compressed ones, whole segments are taken apart."""
        gone = 0
        chunks = self._conn.execute(CHUNKS).fetchall() if ids else []
        for number, (begin, end) in enumerate(chunks, 1):
            gone += self._delete_between(begin, end, ids)
            watch(number / len(chunks))
        return gone

    @stamina.retry(on=_passing, attempts=30, timeout=60, wait_max=2)
    def _delete_between(self, begin: datetime, end: datetime, ids: list[int]) -> int:
        with self._conn.transaction():
            self._conn.execute("set local timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
            # Counted apart: where whole compressed batches go, the server counts one for each.
            found = self._conn.execute(f"select count(*) from {OF_CHUNK}", (ids, begin, end)).fetchone()  # noqa: S608  (constants)
            assert found is not None
            self._conn.execute(f"delete from {OF_CHUNK}", (ids, begin, end))  # noqa: S608  (constants)
            return int(found[0])

    @stamina.retry(on=_passing, attempts=30, timeout=60, wait_max=2)
    def _delete_hours(self, ids: list[int]) -> int:
        """The lock waits for hours that are being summed up from what was still there, and for nobody else."""
        with self._conn.transaction():
            self._conn.execute("set local lock_timeout = '10s'")
            self._conn.execute("lock table store.observation_hour in share row exclusive mode")
            return self._conn.execute(
                "delete from store.observation_hour where datastream_id = any (%s)", (ids,)
            ).rowcount

    @stamina.retry(on=_passing, attempts=30, timeout=60, wait_max=2)
    def _sum_up_city(self) -> bool:
        """A part of what the removal logged, here or beside a maintainer; False where nothing is left."""
        with self._conn.transaction():
            self._conn.execute("set local lock_timeout = '10s'")
            return self._conn.execute("select store.sum_up_cities()").fetchone() != (0,)

    @stamina.retry(on=_passing, attempts=30, timeout=60, wait_max=2)
    def _finish(self, record: int, ids: list[int], counts: dict[str, int]) -> dict[str, Any]:
        """Step 3."""
        names = self._names()
        with self._conn.transaction():
            self._conn.execute("delete from store.rollup_dirty where datastream_id = any (%s)", (ids,))
            self._conn.execute("delete from store.series_state where datastream_id = any (%s)", (ids,))
            self._conn.execute(LOCK_MESSAGES, names)
            found = self._conn.execute(DELETE_LETTERS, names).fetchone()
            assert found is not None
            counts["dead_letters"], counts["dead_messages"] = found
            counts["states"] = self._conn.execute(DELETE_STATES, names).rowcount
            closed = self._conn.execute(
                "update store.forgotten set finished_at = now(), counts = %s where forgotten_id = %s "
                "returning requested_at::text, finished_at::text",
                (json.dumps(counts), record),
            ).fetchone()
            assert closed is not None
        return {
            "record": record,
            "city": self._city,
            "device_sha256": self._digest().hex(),
            "requested_at": closed[0],
            "finished_at": closed[1],
            "by": self._conn.info.user,
        } | counts
