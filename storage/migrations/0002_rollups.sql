-- oldest-code: 1
-- Hours and days of every datastream, on both editions: own tables instead of continuous aggregates, refreshed by
-- `hanse-storage maintain` through the log of late hours, with the hours since then computed in the view.

alter table store.city add column max_age interval not null default '31 days';
comment on column store.city.max_age is 'how late a reading of the city may come, by its file; raw readings are kept for longer';

alter table store.rollup_state
  add column dropped_before timestamptz not null default '2020-01-01T00:00:00Z',
  add column refreshed_at timestamptz;
comment on column store.rollup_state.dropped_before is
  'readings before it are dropped: their hours stay as they are. Follows retained_from once the last late hours before that are summed up';
comment on column store.rollup_state.refreshed_at is 'when a maintenance cycle last ended well';

-- Every hour that holds a reading; what a property's aggregation has no use for stays null and costs nothing.
create table store.observation_hour (
  datastream_id  int4 not null,
  good           int4 not null,
  unchecked      int4 not null,
  suspect        int4 not null,
  failed         int4 not null,
  missing        int4 not null,
  hour           timestamptz not null,
  first_time     timestamptz,
  last_time      timestamptz,
  minimum        float8,
  maximum        float8,
  total          float8,
  covered        float8,
  power          float8,
  east           float8,
  north          float8,
  increase       float8,
  first_value    float8,
  last_value     float8,
  before         float8
);
select create_hypertable('store.observation_hour', by_range('hour', interval '30 days'), create_default_indexes => false);
create unique index observation_hour_key on store.observation_hour (datastream_id, hour);
comment on table store.observation_hour is 'hours before rollup_state.materialized; but for the counts, of readings flagged 1 and 2 alone';
comment on column store.observation_hour.total is 'sum of values; of a state: seconds in which it was on';
comment on column store.observation_hour.covered is 'of a state: seconds in which it is known, from its first reading in the hour on';
comment on column store.observation_hour.power is 'of a level: sum of 10^(value/10)';
comment on column store.observation_hour.east is 'with north: sum of the unit vectors of a direction';
comment on column store.observation_hour.increase is 'of a counter: from its first to its last reading of the hour';
comment on column store.observation_hour.before is 'of a counter: its last reading before the hour, so that the step over the border counts';

create table store.rollup_expired (
  domain  text primary key,
  before  timestamptz not null
);
comment on table store.rollup_expired is 'by domain, the hours that are deleted already, so that no cycle searches the old chunks again';

-- A counter's arithmetic -----------------------------------------------------------------------------------------------

create function store.modulus(parameters jsonb) returns float8 language sql immutable as $$
  select case when jsonb_typeof(parameters -> 'modulus') = 'number' then nullif(greatest((parameters ->> 'modulus')::float8, 0), 0) end
$$;
comment on function store.modulus is 'where a counter rolls over to 0, as its city file says; null: it does not';

-- A smaller reading is a reset to 0, unless the counter's modulus makes a rollover of less than half a turn of it.
create function store.counted(before float8, value float8, modulus float8) returns float8 language sql immutable as $$
  select case when value >= before then value - before
              when before < modulus and value - before + modulus < modulus / 2 then value - before + modulus
              when before is not null then value end
$$;
comment on function store.counted is 'what a counter counted between two readings; null where one is missing';

-- Hours of one datastream from its readings ----------------------------------------------------------------------------

-- One text for those that are summed up and for those that the view computes, so that they can't disagree. The function
-- has to be inlined to plan for the one chunk that holds the hour (as security definer it opened every chunk for every
-- datastream: 5 ms each); but what is inlined runs with the reader's rights, so the view has the text itself.
-- Readings come in the order of time, so the sums are the same to the last bit however often they are computed. A state
-- holds until the next reading, at most to the end of the hour or until now.
-- In the view: dimensions outside, LATERAL inside, so that a datastream's hours come by its index and a range on hour
-- reaches it.
do $do$
declare
  hours text := $hours$
select %1$s as datastream_id, count(*) filter (where q = 1)::int4 as good, count(*) filter (where q = 2)::int4 as unchecked,
       count(*) filter (where q = 3)::int4 as suspect, count(*) filter (where q = 4)::int4 as failed, count(*) filter (where q = 9)::int4 as missing, l.hour,
       min(t) filter (where ok) as first_time, max(t) filter (where ok) as last_time,
       min(v) filter (where ok) as minimum, max(v) filter (where ok) as maximum,
       case %2$s when 'state' then sum(case when v <> 0 then held else 0 end) filter (where ok)
                when 'mean' then sum(v) filter (where ok) when 'sum' then sum(v) filter (where ok) end as total,
       case %2$s when 'state' then sum(held) filter (where ok) end as covered,
       case %2$s when 'energy' then sum(power(10, least(v, 300) / 10)) filter (where ok) end as power,
       case %2$s when 'direction' then sum(sind(v)) filter (where ok) end as east,
       case %2$s when 'direction' then sum(cosd(v)) filter (where ok) end as north,
       case %2$s when 'counter' then sum(case when b is null then 0 else store.counted(b, v, %3$s) end) filter (where ok) end as increase,
       case %2$s when 'counter' then (array_agg(v order by t) filter (where ok))[1] end as first_value,
       case %2$s when 'counter' then (array_agg(v order by t desc) filter (where ok))[1] end as last_value,
       null::float8 as before
  from (select r.*, lag(v) over kept as b,
               case %2$s when 'state' then extract(epoch from greatest(interval '0',
                 coalesce(lead(t) over kept, least(hour + interval '1 hour', now())) - t))::float8 end as held
          from (select date_trunc('hour', phenomenon_time, 'UTC') as hour, phenomenon_time as t, value as v,
                       quality as q, quality in (1, 2) as ok
                  from store.observation
                 where datastream_id = %1$s and phenomenon_time >= %4$s and phenomenon_time < %5$s) r
        window kept as (partition by hour, ok order by t)) l
 group by l.hour
$hours$;
begin
  execute format('create function store.hours_of(stream int4, agg text, modulus float8, from_ timestamptz, to_ timestamptz)
    returns setof store.observation_hour language sql stable rows 2 as $f$' || hours || '$f$',
    'stream', 'agg', 'modulus', 'from_', 'to_');
  execute format('create view store.hour_values as
select d.datastream_id, c.key as city, p.key as property, p.unit, p.aggregation, d.device, d.channel, s.hour,
       case when s.good + s.unchecked > 0 then case p.aggregation
         when ''mean'' then s.total / (s.good + s.unchecked)
         when ''sum'' then s.total
         when ''max'' then s.maximum
         when ''energy'' then 10 * log(s.power / (s.good + s.unchecked))
         when ''direction'' then case when s.east ^ 2 + s.north ^ 2 > 1e-9 * (s.good + s.unchecked) ^ 2
           then mod((atan2d(s.east, s.north) + 360)::numeric, 360)::float8 end
         when ''counter'' then s.increase + coalesce(store.counted(s.before, s.first_value, store.modulus(d.parameters)), 0)
         when ''state'' then s.total / nullif(s.covered, 0) end end as value,
       s.minimum, s.maximum, s.good + s.unchecked as count, s.good, s.unchecked, s.suspect, s.failed, s.missing,
       s.first_time, s.last_time, s.total, s.covered, s.power, s.east, s.north
  from store.datastream d
  join store.city c using (city_id)
  join store.property p using (property_id)
 cross join lateral (
   select r.hour, r.good, r.unchecked, r.suspect, r.failed, r.missing, r.first_time, r.last_time, r.minimum, r.maximum,
          r.total, r.covered, r.power, r.east, r.north, r.increase, r.first_value, r.before
     from store.observation_hour r where r.datastream_id = d.datastream_id
   union all
   select l.hour, l.good, l.unchecked, l.suspect, l.failed, l.missing, l.first_time, l.last_time, l.minimum, l.maximum,
          l.total, l.covered, l.power, l.east, l.north, l.increase, l.first_value,
          case p.aggregation when ''counter'' then coalesce(
            (select o.value from store.observation o
              where o.datastream_id = d.datastream_id and o.phenomenon_time >= w.materialized
                and o.phenomenon_time < l.hour and o.quality in (1, 2) order by o.phenomenon_time desc limit 1),
            (select e.last_value from store.observation_hour e
              where e.datastream_id = d.datastream_id and e.last_value is not null order by e.hour desc limit 1)) end
     from store.rollup_state w
    cross join lateral (' || hours || ') l) s',
    'd.datastream_id', 'p.aggregation', 'store.modulus(d.parameters)', 'w.materialized', '''infinity''::timestamptz');
end $do$;
comment on function store.hours_of is 'hours of a datastream in a range, from its readings; `before` is left to the caller';
comment on view store.hour_values is 'hanse.hourly and the sums that hanse.daily is made of';

-- Sums up one hour, of all datastreams or of some. A counter's next hour learns what now lies before it.
-- Not in language sql, which plans both statements before the first runs: the second would not know a chunk that the
-- first made.
create function store.rollup_hour(h timestamptz, streams int4[] default null) returns void language plpgsql
set plan_cache_mode = force_custom_plan as $$
declare
  next constant timestamptz := h + interval '1 hour';  -- as a constant it keeps the later chunks out of the plan
begin
insert into store.observation_hour
select a.datastream_id, a.good, a.unchecked, a.suspect, a.failed, a.missing, a.hour, a.first_time, a.last_time, a.minimum, a.maximum,
       a.total, a.covered, a.power, a.east, a.north, a.increase, a.first_value, a.last_value,
       case p.aggregation when 'counter' then (
         select e.last_value from store.observation_hour e
          where e.datastream_id = d.datastream_id and e.hour < h and e.last_value is not null order by e.hour desc limit 1) end
  from store.datastream d
  join store.property p using (property_id)
 cross join lateral store.hours_of(d.datastream_id, p.aggregation, store.modulus(d.parameters), h, next) a
 where streams is null or d.datastream_id = any (streams)
on conflict (datastream_id, hour) do update set
  (good, unchecked, suspect, failed, missing, first_time, last_time, minimum, maximum, total, covered, power, east, north,
   increase, first_value, last_value, before)
  = (excluded.good, excluded.unchecked, excluded.suspect, excluded.failed, excluded.missing, excluded.first_time, excluded.last_time,
     excluded.minimum, excluded.maximum, excluded.total, excluded.covered, excluded.power, excluded.east, excluded.north,
     excluded.increase, excluded.first_value, excluded.last_value, excluded.before);
update store.observation_hour n set before = f.last_value
  from store.datastream d
  join store.property p using (property_id)
 cross join lateral (select x.hour from store.observation_hour x
     where x.datastream_id = d.datastream_id and x.hour > h and x.last_value is not null order by x.hour limit 1) following
 cross join lateral (select e.last_value from store.observation_hour e
     where e.datastream_id = d.datastream_id and e.hour < following.hour and e.last_value is not null
     order by e.hour desc limit 1) f
 where p.aggregation = 'counter' and (streams is null or d.datastream_id = any (streams))
   and n.datastream_id = d.datastream_id and n.hour = following.hour and n.before is distinct from f.last_value;
end $$;
comment on function store.rollup_hour is 'run by maintain alone, on hours before the threshold whose readings are still there';

-- A corrected modulus changes what was counted. Under the limits' lock, as the log of late hours always is; by the
-- readings and not by the hours, because one may be summed up right now.
create function store.modulus_changed() returns trigger language plpgsql security definer set search_path = store, pg_temp as $$
declare
  upto timestamptz;
begin
  select l.threshold into upto from batch_limits() l;
  insert into rollup_dirty (datastream_id, hour)
  select distinct new.datastream_id, date_trunc('hour', phenomenon_time, 'UTC') from observation
   where datastream_id = new.datastream_id and phenomenon_time < upto;
  return null;
end $$;
create trigger modulus_changed after update of parameters on store.datastream for each row
  when (store.modulus(old.parameters) is distinct from store.modulus(new.parameters)) execute function store.modulus_changed();

-- What readers see -----------------------------------------------------------------------------------------------------

create view hanse.hourly as
select datastream_id, city, property, unit, aggregation, device, channel, hour, value, minimum, maximum, count,
       good, unchecked, suspect, failed, missing, first_time, last_time
  from store.hour_values;
comment on view hanse.hourly is 'each datastream by the hour; value as its aggregation says, of readings flagged 1 and 2';
comment on column hanse.hourly.hour is 'begin of the hour';
comment on column hanse.hourly.value is 'mean, sum, max: of the values; energy: mean level; direction: of the mean vector; counter: consumption; state: share of the known time';
comment on column hanse.hourly.count is 'readings that entered: good + unchecked';

-- Days as people in the cities count them: 23 and 25 hours long when the clocks change.
create view hanse.daily as
select h.datastream_id, h.city, h.property, h.unit, h.aggregation, h.device, h.channel,
       time_bucket('1 day', h.hour, 'Europe/Berlin') as day_start,
       (time_bucket('1 day', h.hour, 'Europe/Berlin') at time zone 'Europe/Berlin')::date as day,
       case h.aggregation
         when 'mean' then sum(h.total) / nullif(sum(h.count), 0)
         when 'sum' then sum(h.total)
         when 'max' then max(h.maximum)
         when 'energy' then 10 * log(sum(h.power) / nullif(sum(h.count), 0))
         when 'direction' then case when sum(h.east) ^ 2 + sum(h.north) ^ 2 > 1e-9 * sum(h.count) ^ 2
           then mod((atan2d(sum(h.east), sum(h.north)) + 360)::numeric, 360)::float8 end
         when 'counter' then sum(h.value)
         when 'state' then sum(h.total) / nullif(sum(h.covered), 0) end as value,
       min(h.minimum) as minimum, max(h.maximum) as maximum, sum(h.count)::int4 as count, count(*)::int2 as hours,
       sum(h.good)::int4 as good, sum(h.unchecked)::int4 as unchecked, sum(h.suspect)::int4 as suspect,
       sum(h.failed)::int4 as failed, sum(h.missing)::int4 as missing,
       min(h.first_time) as first_time, max(h.last_time) as last_time
  from store.hour_values h
 group by 1, 2, 3, 4, 5, 6, 7, 8, 9;
comment on view hanse.daily is 'each datastream by the day of Europe/Berlin; value as in hanse.hourly';
comment on column hanse.daily.day_start is 'begin of the day; a range on it (>= and <) is fast, = and functions are not';
comment on column hanse.daily.hours is 'hours of the day that have readings';
