-- oldest-code: 1
-- The tables of the write path and the first public views. Base tables live in schema store, what others read in hanse.
-- Plain SQL, run whole in one transaction, never edited once merged: a change is a migration of its own.

create schema hanse;
comment on schema store is 'base tables of the sensor pipeline; readers are granted the views in hanse, nothing here';
comment on schema hanse is 'the public contract: views for downstream services';

-- Dimensions ---------------------------------------------------------------------------------------------------------

create table store.city (
  city_id     int2 generated always as identity primary key,
  key         text not null unique check (key ~ '^[a-z][a-z0-9_]{0,31}$'),
  name        text not null,
  ags         text not null default '',
  first_seen  timestamptz not null default now()
);
comment on column store.city.ags is 'Amtlicher Gemeindeschlüssel, eight digits, or empty';
comment on column store.city.first_seen is 'a city younger than a day is exempt from the quota of new datastreams';

create table store.property (
  property_id  int2 generated always as identity primary key,
  key          text not null unique,
  unit         text not null,
  domain       text not null,
  kind         text not null check (kind in ('gauge', 'mean', 'max', 'sum', 'counter', 'state')),
  aggregation  text not null check (aggregation in ('mean', 'sum', 'max', 'counter', 'energy', 'direction', 'state')),
  minimum      float8 not null,
  maximum      float8 not null
);
comment on column store.property.unit is 'UCUM; fixed once rows exist, so the writer refuses a vocabulary that says otherwise';
comment on column store.property.aggregation is 'how the hours of this property are summed up';

-- 300 characters a name keep the widest possible index entry (4 bytes a character) below a third of a page.
create table store.datastream (
  datastream_id  int4 generated always as identity primary key,
  city_id        int2 not null references store.city,
  device         text not null check (char_length(device) <= 300),
  channel        text not null check (char_length(channel) <= 300),
  property_id    int2 not null references store.property,
  raw_key        text not null,
  raw_unit       text not null,
  dialect        text not null,
  latitude       float8 check (latitude between -90 and 90),
  longitude      float8 check (longitude between -180 and 180),
  parameters     jsonb not null default '{}',
  first_seen     timestamptz not null default now(),
  unique (city_id, device, channel, property_id)
);
create index datastream_property_city on store.datastream (property_id, city_id);
comment on column store.datastream.raw_key is 'with raw_unit and dialect: provenance, as last seen';

create table store.datastream_quota (
  city_id  int2 not null references store.city,
  hour     timestamptz not null,
  used     int4 not null,
  primary key (city_id, hour)
);
comment on table store.datastream_quota is 'new datastreams by city and hour of receive time; updated in the batch''s transaction';

-- Observations -------------------------------------------------------------------------------------------------------

-- The order of columns saves 8 bytes a row in alignment. No foreign keys: they deadlock with the creation of chunks.
create table store.observation (
  datastream_id    int4 not null,
  quality          int2 not null,
  quality_tests    int2 not null,
  phenomenon_time  timestamptz not null,
  value            float8,
  received_at      timestamptz not null,
  constraint observation_time_range check (phenomenon_time >= '2020-01-01T00:00:00Z' and phenomenon_time < '2100-01-01T00:00:00Z'),
  constraint observation_missing check ((value is null) = (quality = 9))
) with (
  -- Rows are only ever inserted: vacuum for the visibility map and freezing, in few large steps.
  autovacuum_vacuum_insert_threshold = 1000000,
  autovacuum_vacuum_insert_scale_factor = 0.3,
  autovacuum_analyze_threshold = 100000,
  autovacuum_analyze_scale_factor = 0.2
);
select create_hypertable('store.observation', by_range('phenomenon_time', interval '1 day'), create_default_indexes => false);
create unique index observation_key on store.observation (datastream_id, phenomenon_time);
comment on column store.observation.quality is 'QARTOD: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing (value null, and only then)';
comment on column store.observation.quality_tests is 'bit mask of the tests that fired';
comment on column store.observation.received_at is 'when the city''s gateway received the message';

-- Offsets and the ledger ---------------------------------------------------------------------------------------------

-- Updated by every batch: room on the page keeps the updates heap-only.
create table store.consumer_offset (
  topic           text not null,
  partition       int4 not null,
  first_offset    int8 not null,
  next_offset     int8 not null,
  last_timestamp  int8,
  last_hash       bytea,
  primary key (topic, partition)
) with (fillfactor = 30);
comment on table store.consumer_offset is 'the authority on what was processed; moved by compare-and-set in the rows'' transaction';
comment on column store.consumer_offset.last_timestamp is 'with last_hash: of the record at next_offset - 1; another record there means the log was replaced';

create table store.ledger (
  topic               text not null,
  partition           int4 not null,
  city_id             int2 not null references store.city,
  messages            int8 not null default 0,
  decoded             int8 not null default 0,
  dead_messages       int8 not null default 0,
  ignored_messages    int8 not null default 0,
  readings            int8 not null default 0,
  stored              int8 not null default 0,
  duplicate           int8 not null default 0,
  dead_readings       int8 not null default 0,
  ignored_readings    int8 not null default 0,
  skipped             int8 not null default 0,
  replayed            int8 not null default 0,
  replayed_stored     int8 not null default 0,
  replayed_duplicate  int8 not null default 0,
  replayed_corrected  int8 not null default 0,
  replayed_dead       int8 not null default 0,
  replayed_ignored    int8 not null default 0,
  primary key (topic, partition)
) with (fillfactor = 30);
comment on table store.ledger is 'messages = decoded + dead_messages + ignored_messages; readings = stored + duplicate + dead_readings + ignored_readings; next_offset - first_offset = messages + replayed + skipped; a replayed record counts in replayed alone, what became of its readings in the other replayed_ columns';

create table store.dialect_state (
  topic       text not null,
  partition   int4 not null,
  dialect     text not null,
  source      text not null,
  part        text not null,
  format      int2 not null,
  state       json not null,
  updated_at  timestamptz not null default now(),
  primary key (topic, partition, dialect, source, part)
);
comment on table store.dialect_state is 'what a stateful dialect remembers of a source, part by part; written in the batch''s transaction';
comment on column store.dialect_state.part is 'with source: the inside of a JSON string';
comment on column store.dialect_state.state is 'json, not jsonb: a restart must decode as before, so numbers come back as they were written, and \u0000 is no error';

-- Dead letters -------------------------------------------------------------------------------------------------------

-- received_at is in the key: a log that was replaced after a rebuild of the cluster counts its offsets anew.
create table store.dead_message (
  topic        text not null,
  partition    int4 not null,
  "offset"     int8 not null,
  received_at  timestamptz not null,
  city_id      int2 not null references store.city,
  mqtt_topic   text not null,
  retained     bool not null,
  stub         bool not null,
  masked       bool not null default false,
  payload      bytea not null,
  primary key (topic, partition, "offset", received_at)
);
create index dead_message_topic on store.dead_message (left(mqtt_topic, 200), received_at);
alter table store.dead_message alter column payload set storage external;  -- mostly too short or too odd to compress
comment on table store.dead_message is 'the exact bytes of a message with at least one dead letter, once';
comment on column store.dead_message.masked is 'the one exception to exact bytes: secrets in payload or topic are masked, byte for byte';
comment on column store.dead_message.stub is 'only the beginning of a payload that was refused at the gateway: not to be replayed';

create table store.dead_letter (
  letter_id        int8 generated always as identity primary key,
  topic            text not null,
  partition        int4 not null,
  "offset"         int8 not null,
  received_at      timestamptz not null,
  reading          int4,
  city_id          int2 not null references store.city,
  reason           text not null,
  detail           text not null,
  device           text,
  channel          text,
  raw_key          text,
  raw_value        text,
  raw_unit         text,
  phenomenon_time  timestamptz,
  state            text not null default 'open' check (state in ('open', 'replaying', 'closed')),
  created_at       timestamptz not null default now(),
  replayed_at      timestamptz,
  outcome          text,
  unique nulls not distinct (topic, partition, "offset", received_at, reading)
);
create index dead_letter_state on store.dead_letter (state, city_id, reason, received_at, letter_id);
comment on column store.dead_letter.state is 'replaying: on its way through Kafka once more, and out of the city''s budget meanwhile';
comment on column store.dead_letter.outcome is 'what became of its last replay, at replayed_at';
comment on column store.dead_letter.reading is 'place of the reading in its message; null: the whole message';

create table store.dead_letter_bytes (
  city_id     int2 primary key references store.city,
  open_bytes  int8 not null
) with (fillfactor = 30);
comment on table store.dead_letter_bytes is 'by city, what its open dead letters weigh: payload bytes of their messages and 256 a letter';

create table store.dead_letter_purge (
  purge_id   int8 generated always as identity primary key,
  purged_at  timestamptz not null default now(),
  city_id    int2 not null references store.city,
  reason     text not null,
  state      text not null,
  letters    int8 not null
);
comment on table store.dead_letter_purge is 'what was deleted for good: the ledger goes on counting it as dead-lettered';

-- Rollups: what the write path must know of them ---------------------------------------------------------------------

create table store.rollup_state (
  one            bool primary key default true check (one),
  threshold      timestamptz not null,
  materialized   timestamptz not null,
  retained_from  timestamptz not null default '2020-01-01T00:00:00Z'
);
comment on column store.rollup_state.threshold is 'hours before it may be summed up already: rows that fall into them are logged in rollup_dirty';
comment on column store.rollup_state.retained_from is 'rows before it are refused: their chunks are dropped or about to be';
-- Nothing is summed up yet, so any hour will do; this one is older than what a city's window accepts.
insert into store.rollup_state (threshold, materialized)
select h, h from (select date_trunc('hour', now() - interval '45 days', 'UTC') as h) s;

create table store.rollup_dirty (
  datastream_id  int4 not null,
  hour           timestamptz not null
);
comment on table store.rollup_dirty is 'hours to sum up again; no key, so that writers never wait for each other';

-- Two statements, not one: a statement's snapshot is older than the lock it takes, and would read the old limits.
create function store.batch_limits(out threshold timestamptz, out retained_from timestamptz)
language plpgsql volatile as $$
begin
  perform pg_advisory_xact_lock_shared(7353, 1);
  select s.threshold, s.retained_from into strict threshold, retained_from from store.rollup_state s;
end $$;
comment on function store.batch_limits is 'first in every batch''s transaction: holds the limits still until it ends';

-- The public views ---------------------------------------------------------------------------------------------------

create view hanse.observations as
select c.key as city, p.key as property, p.unit, d.device, d.channel, o.phenomenon_time, o.value, o.quality,
       o.quality_tests, o.received_at, o.datastream_id
  from store.observation o
  join store.datastream d using (datastream_id)
  join store.city c using (city_id)
  join store.property p using (property_id);
comment on view hanse.observations is 'every stored reading in its property''s one unit';

-- Dimensions outside, LATERAL inside: one index probe a datastream instead of a walk over all chunks.
create view hanse.latest as
select c.key as city, p.key as property, p.unit, d.device, d.channel, o.phenomenon_time, o.value, o.quality,
       o.quality_tests, o.received_at, d.datastream_id, now() - o.phenomenon_time as age
  from store.datastream d
  join store.city c using (city_id)
  join store.property p using (property_id)
 cross join lateral (
   select l.phenomenon_time, l.value, l.quality, l.quality_tests, l.received_at
     from store.observation l where l.datastream_id = d.datastream_id
    order by l.phenomenon_time desc limit 1) o;
comment on view hanse.latest is 'the newest reading of each datastream and its age';

create view hanse.ledger as
select c.key as city, l.topic, l.partition, o.first_offset, o.next_offset,
       l.messages, l.decoded, l.dead_messages, l.ignored_messages,
       l.readings, l.stored, l.duplicate, l.dead_readings, l.ignored_readings, l.skipped,
       l.replayed, l.replayed_stored, l.replayed_duplicate, l.replayed_corrected, l.replayed_dead, l.replayed_ignored,
       abs(o.next_offset - o.first_offset - l.messages - l.replayed - l.skipped) + l.skipped
         + abs(l.messages - l.decoded - l.dead_messages - l.ignored_messages)
         + abs(l.readings - l.stored - l.duplicate - l.dead_readings - l.ignored_readings) as unaccounted
  from store.ledger l
  join store.consumer_offset o using (topic, partition)
  join store.city c using (city_id);
comment on view hanse.ledger is 'what became of every Kafka record; unaccounted is 0, or something was lost';
