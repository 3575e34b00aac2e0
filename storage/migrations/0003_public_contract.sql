-- oldest-code: 1
-- The rest of the public contract, and what forgetting a device needs.

-- Forgetting a device ---------------------------------------------------------------------------------------------------

create table store.forgotten (
  forgotten_id    int4 generated always as identity primary key,
  city_id         int2 not null references store.city,
  device_sha256   bytea not null,
  datastream_ids  int4[] not null,
  requested_at    timestamptz not null default now(),
  requested_by    text not null default session_user,
  finished_at     timestamptz,
  counts          jsonb
);
create unique index forgotten_begun on store.forgotten (city_id, device_sha256) where finished_at is null;
comment on table store.forgotten is 'that a device was forgotten, when, by whom and how much; not which: its id would be what was to be forgotten';
comment on column store.forgotten.device_sha256 is 'of city, NUL, device: proves it to who knows the id';

alter table store.rollup_state add column generation int8 not null default 0;
comment on column store.rollup_state.generation is 'raised when datastreams go: a session that began under an older one ends, since its writer remembers their ids';

-- A writer remembers ids as long as its connection lives (correctness.md, rule 4), so ending the session is what makes
-- it forget. The setting is the session's own: a new session takes over the generation that it finds.
create or replace function store.batch_limits(out threshold timestamptz, out retained_from timestamptz)
language plpgsql volatile as $$
declare
  mine text := current_setting('hanse.generation', true);
  now_at int8;
begin
  perform pg_advisory_xact_lock_shared(7353, 1);
  select s.threshold, s.retained_from, s.generation into strict threshold, retained_from, now_at from store.rollup_state s;
  if coalesce(mine, '') = '' then
    perform set_config('hanse.generation', now_at::text, false);
  elsif mine::int8 <> now_at then
    perform pg_terminate_backend(pg_backend_pid());
    perform pg_sleep(0);  -- the signal is taken here at the latest
    raise exception 'datastreams were removed; connect again' using errcode = '57P01';
  end if;
end $$;

-- Datastreams and dead letters -------------------------------------------------------------------------------------------

create view hanse.datastreams as
select c.key as city, p.key as property, p.unit, p.domain, p.kind, p.aggregation, d.device, d.channel,
       d.latitude, d.longitude, d.parameters, d.first_seen, d.raw_key, d.raw_unit, d.dialect, d.datastream_id
  from store.datastream d
  join store.city c using (city_id)
  join store.property p using (property_id);
comment on view hanse.datastreams is 'what is measured where: one row a city, device, channel and observed property';

create view hanse.dead_letters as
select c.key as city, l.letter_id, l.state, l.reason, l.detail, l.device, l.channel, l.raw_key, l.raw_value, l.raw_unit,
       l.phenomenon_time, l.received_at, l.created_at, l.replayed_at, m.mqtt_topic, octet_length(m.payload) as payload_bytes,
       l.topic, l.partition, l."offset" as record_offset, l.reading
  from store.dead_letter l
  join store.city c using (city_id)
  left join store.dead_message m
    on m.topic = l.topic and m.partition = l.partition and m."offset" = l."offset" and m.received_at = l.received_at;
comment on view hanse.dead_letters is 'every refusal with its reason; the message itself stays inside';
