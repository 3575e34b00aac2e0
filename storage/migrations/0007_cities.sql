-- oldest-code: 1
-- Hours and days of each city and property, so that a question about a city does not read the hours of all its
-- datastreams; and hours that no value of another aggregation can stop.

-- The log's order of tables is the batches': rollup_state first.
alter table store.rollup_state add column cities_from timestamptz not null default '-infinity';
comment on column store.rollup_state.cities_from is
  'a midnight of Berlin: city_hour and city_day are complete from here to materialized; the views compute what is older themselves until `hanse-storage maintain` has filled it in, day by day backwards';
update store.rollup_state
   set cities_from = date_trunc('day', date_trunc('day', materialized, 'Europe/Berlin') + interval '30 hours', 'Europe/Berlin')
 where exists (select from store.observation_hour);

create table store.city_hour (
  city_id      int2 not null,
  property_id  int2 not null,
  datastreams  int4 not null,
  good         int4 not null,
  unchecked    int4 not null,
  suspect      int4 not null,
  failed       int4 not null,
  missing      int4 not null,
  hour         timestamptz not null,
  value        float8,
  minimum      float8,
  maximum      float8,
  total        float8
);
select create_hypertable('store.city_hour', by_range('hour', interval '90 days'), create_default_indexes => false);
-- All columns, so that a year is read from the index: in the table its hours lie a page apart, among all others' hours.
create unique index city_hour_key on store.city_hour (city_id, property_id, hour)
  include (datastreams, good, unchecked, suspect, failed, missing, value, minimum, maximum, total);
comment on table store.city_hour is 'hours before rollup_state.materialized, made of observation_hour; as the columns of hanse.city_hourly';

create table store.city_day (
  city_id      int2 not null,
  property_id  int2 not null,
  datastreams  int4 not null,
  good         int4 not null,
  unchecked    int4 not null,
  suspect      int4 not null,
  failed       int4 not null,
  missing      int4 not null,
  day_start    timestamptz not null,
  value        float8,
  minimum      float8,
  maximum      float8,
  total        float8,
  primary key (city_id, property_id, day_start)
);
comment on table store.city_day is 'days of Berlin that ended before rollup_state.materialized, made of observation_hour; as the columns of hanse.city_daily';

create table store.city_dirty (
  city_id      int2 not null,
  property_id  int2 not null,
  since        timestamptz not null,
  until        timestamptz not null
);
comment on table store.city_dirty is 'hours of a city and property to make anew, with their days; no key, as rollup_dirty. Written where their hours change, in the same transaction';

-- The texts --------------------------------------------------------------------------------------------------------------

-- As before one arithmetic for the hours that are summed up and for those that a view computes. New is that an
-- aggregation's arithmetic sees that aggregation's readings alone: CASE around an aggregate leaves out its result, not
-- its work, and 10^(-5000 W / 10) stopped all hours with an underflow. A view does it by FILTER; what is summed up, by a
-- branch for each aggregation and without grouping, at half the cost.
do $do$
declare
  counts text := $t$count(*) filter (where q = 1)::int4 as good, count(*) filter (where q = 2)::int4 as unchecked,
       count(*) filter (where q = 3)::int4 as suspect, count(*) filter (where q = 4)::int4 as failed, count(*) filter (where q = 9)::int4 as missing$t$;
  extent text := $t$min(t) filter (where ok) as first_time, max(t) filter (where ok) as last_time,
       min(v) filter (where ok) as minimum, max(v) filter (where ok) as maximum$t$;
  -- Readings come in the order of time, so the sums are the same to the last bit however often they are computed.
  total text := 'sum(v) filter (where ok';
  power text := 'sum(power(10, greatest(least(v, 300), -300) / 10)) filter (where ok';
  east text := 'sum(sind(v)) filter (where ok';
  north text := 'sum(cosd(v)) filter (where ok';
  increase text := 'sum(case when b is null then 0 else store.counted(b, v, store.modulus(d.parameters)) end) filter (where ok';
  first_value text := 'first(v, t) filter (where ok';
  last_value text := 'last(v, t) filter (where ok';
  on_ text := 'sum(case when v <> 0 then held else 0 end) filter (where ok';
  covered text := 'sum(held) filter (where ok';
  -- A state holds until the next reading, at most to the end of the hour or until now.
  held text := $t$extract(epoch from greatest(interval '0',
                 coalesce(lead(t) over kept, least(hour + interval '1 hour', now())) - t))::float8$t$;
  readings text := $t$select %s as hour, phenomenon_time as t, value as v, quality as q, quality in (1, 2) as ok
          from store.observation where datastream_id = d.datastream_id and phenomenon_time >= %s and phenomenon_time < %s$t$;
  -- time_bucket and not date_trunc: of it the planner knows that the order of time is the order of hours, and sorts once.
  since text := format(readings, 'time_bucket(''1 hour'', phenomenon_time)', 'w.materialized', '''infinity''::timestamptz');
  hours text := format($t$
select %s, l.hour, %s,
       %s and p.aggregation in ('mean', 'sum')) as total, null::float8 as covered,
       %s and p.aggregation = 'energy') as power,
       %s and p.aggregation = 'direction') as east,
       %s and p.aggregation = 'direction') as north,
       null::float8 as increase, null::float8 as first_value
  from (%s and p.aggregation not in ('counter', 'state') order by phenomenon_time) l
 group by l.hour
union all
select %s, l.hour, %s,
       %s and p.aggregation = 'state'), %s and p.aggregation = 'state'),
       null, null, null, %s and p.aggregation = 'counter'), %s and p.aggregation = 'counter')
  from (select r.*, lag(v) over kept as b, case p.aggregation when 'state' then %s end as held
          from (%s and p.aggregation in ('counter', 'state')) r
        window kept as (partition by hour, ok order by t)) l
 group by l.hour
$t$, counts, extent, total, power, east, north, since, counts, extent, on_, covered, increase, first_value, held, since);
  -- What is not summed up yet, of a datastream d of property p, with what lay before a counter's hour.
  live text := $t$
   select l.hour, l.good, l.unchecked, l.suspect, l.failed, l.missing, l.first_time, l.last_time, l.minimum, l.maximum,
          l.total, l.covered, l.power, l.east, l.north, l.increase, l.first_value,
          case p.aggregation when 'counter' then coalesce(
            (select o.value from store.observation o
              where o.datastream_id = d.datastream_id and o.phenomenon_time >= w.materialized
                and o.phenomenon_time < l.hour and o.quality in (1, 2) order by o.phenomenon_time desc limit 1),
            (select e.last_value from store.observation_hour e
              where e.datastream_id = d.datastream_id and e.last_value is not null order by e.hour desc limit 1)) end as before
     from store.rollup_state w
    cross join lateral ($t$ || hours || $t$) l$t$;
  stored text := $t$
   select r.hour, r.good, r.unchecked, r.suspect, r.failed, r.missing, r.first_time, r.last_time, r.minimum, r.maximum,
          r.total, r.covered, r.power, r.east, r.north, r.increase, r.first_value, r.before
     from store.observation_hour r where r.datastream_id = d.datastream_id$t$;
  -- The value of one datastream's hour s.
  value text := $t$case when s.good + s.unchecked > 0 then case p.aggregation
         when 'mean' then s.total / (s.good + s.unchecked)
         when 'sum' then s.total
         when 'max' then s.maximum
         when 'energy' then 10 * log(s.power / (s.good + s.unchecked))
         when 'direction' then case when s.east ^ 2 + s.north ^ 2 > 1e-9 * (s.good + s.unchecked) ^ 2
           then mod((atan2d(s.east, s.north) + 360)::numeric, 360)::float8 end
         when 'counter' then s.increase + coalesce(store.counted(s.before, s.first_value, store.modulus(d.parameters)), 0)
         when 'state' then s.total / nullif(s.covered, 0) end end$t$;
  -- The same of one datastream's day, as hanse.daily has it.
  day_value text := $t$case p.aggregation
         when 'mean' then sum(s.total) / nullif(sum(s.good + s.unchecked), 0)
         when 'sum' then sum(s.total)
         when 'max' then max(s.maximum)
         when 'energy' then 10 * log(sum(s.power) / nullif(sum(s.good + s.unchecked), 0))
         when 'direction' then case when sum(s.east) ^ 2 + sum(s.north) ^ 2 > 1e-9 * sum(s.good + s.unchecked) ^ 2
           then mod((atan2d(sum(s.east), sum(s.north)) + 360)::numeric, 360)::float8 end
         when 'counter' then sum($t$ || value || $t$) filter (where p.aggregation = 'counter')
         when 'state' then sum(s.total) / nullif(sum(s.covered), 0) end$t$;
  -- One datastream's hours and days, as `city` reads them.
  hour_of text := $t$select s.hour, s.good, s.unchecked, s.suspect, s.failed, s.missing, s.minimum, s.maximum, $t$ || value || $t$ as value$t$;
  day_of text := $t$select time_bucket('1 day', s.hour, 'Europe/Berlin') as day_start, sum(s.good) as good, sum(s.unchecked) as unchecked,
       sum(s.suspect) as suspect, sum(s.failed) as failed, sum(s.missing) as missing, min(s.minimum) as minimum, max(s.maximum) as maximum,
       $t$ || day_value || $t$ as value$t$;
  -- Of a city: its datastreams' values, each weighing the same; levels by energy, directions as vectors.
  city text := $t$count(v.value)::int4 as datastreams, sum(v.good)::int4 as good, sum(v.unchecked)::int4 as unchecked,
       sum(v.suspect)::int4 as suspect, sum(v.failed)::int4 as failed, sum(v.missing)::int4 as missing, v.%s,
       case p.aggregation
         when 'energy' then 10 * log(avg(power(10, v.value / 10)) filter (where p.aggregation = 'energy'))
         when 'direction' then case when avg(sind(v.value)) filter (where p.aggregation = 'direction') ^ 2
               + avg(cosd(v.value)) filter (where p.aggregation = 'direction') ^ 2 > 1e-9
           then mod((atan2d(avg(sind(v.value)) filter (where p.aggregation = 'direction'),
                            avg(cosd(v.value)) filter (where p.aggregation = 'direction')) + 360)::numeric, 360)::float8 end
         else avg(v.value) end as value,
       min(v.minimum) as minimum, max(v.maximum) as maximum, sum(v.value) filter (where p.aggregation in ('sum', 'counter')) as total$t$;
  -- Hours of an aggregation's datastreams d that are summed up. %1$s: where they come from, %2$s: the hour, %3$s: which
  -- readings.
  branch text := $t$
select d.datastream_id, %%2$s as hour, a.*, null::float8 as before
  from %%1$s
  join store.property p using (property_id)
 cross join lateral (
   select $t$ || counts || ', ' || extent || $t$, %s
     from (%s) l having count(*) > 0) a
 where p.aggregation %s$t$;
  hour_readings text := $t$select %2$s as hour, phenomenon_time as t, value as v, quality as q, quality in (1, 2) as ok
          from store.observation where datastream_id = d.datastream_id and %3$s$t$;
  in_order text := hour_readings || ' order by phenomenon_time';
  with_neighbours text := 'select r.*, %s from (' || replace(hour_readings, '%', '%%') || ') r window kept as (partition by ok order by t)';
  none text := 'null::float8';
  hour_sums text := concat_ws(' union all ',
    format(branch, concat_ws(', ', total || ')', none, none, none, none, none, none, none), in_order, $t$in ('mean', 'sum')$t$),
    format(branch, concat_ws(', ', none, none, none, none, none, none, none, none), in_order, $t$not in ('mean', 'sum', 'energy', 'direction', 'counter', 'state')$t$),
    format(branch, concat_ws(', ', none, none, power || ')', none, none, none, none, none), in_order, $t$= 'energy'$t$),
    format(branch, concat_ws(', ', none, none, none, east || ')', north || ')', none, none, none), in_order, $t$= 'direction'$t$),
    format(branch, concat_ws(', ', on_ || ')', covered || ')', none, none, none, none, none, none), format(with_neighbours, held || ' as held'), $t$= 'state'$t$),
    replace(format(branch, concat_ws(', ', none, none, none, none, none, increase || ')', first_value || ')', last_value || ') as last_value'),
      format(with_neighbours, 'lag(v) over kept as b'), $t$= 'counter'$t$),
      'null::float8 as before', $t$case when a.last_value is not null then (
         select e.last_value from store.observation_hour e
          where e.datastream_id = d.datastream_id and e.hour < %2$s and e.hour < %5$s and e.last_value is not null
          order by e.hour desc limit 1) end as before$t$));
  -- What both ways to sum up do: %4$s and %5$s bound all their hours, as constants, which leave chunks out of the plan. A
  -- counter's next hour learns what now lies before it, and cities what they have to make anew.
  sum_up text := $t$
insert into store.observation_hour (datastream_id, hour, good, unchecked, suspect, failed, missing, first_time, last_time, minimum, maximum,
                                    total, covered, power, east, north, increase, first_value, last_value, before)
$t$ || hour_sums || $t$
on conflict (datastream_id, hour) do update set
  (good, unchecked, suspect, failed, missing, first_time, last_time, minimum, maximum, total, covered, power, east, north,
   increase, first_value, last_value, before)
  = (excluded.good, excluded.unchecked, excluded.suspect, excluded.failed, excluded.missing, excluded.first_time, excluded.last_time,
     excluded.minimum, excluded.maximum, excluded.total, excluded.covered, excluded.power, excluded.east, excluded.north,
     excluded.increase, excluded.first_value, excluded.last_value, excluded.before);
with moved as (
  update store.observation_hour n set before = f.last_value
    from %1$s
    join store.property p using (property_id)
   cross join lateral (select x.hour from store.observation_hour x
       where x.datastream_id = d.datastream_id and x.hour > %2$s and x.hour > %4$s and x.last_value is not null order by x.hour limit 1) following
   cross join lateral (select e.last_value from store.observation_hour e
       where e.datastream_id = d.datastream_id and e.hour < following.hour and e.last_value is not null
       order by e.hour desc limit 1) f
   where p.aggregation = 'counter'
     and n.datastream_id = d.datastream_id and n.hour = following.hour and n.before is distinct from f.last_value
  returning n.datastream_id, n.hour)
insert into store.city_dirty
select distinct d.city_id, d.property_id, m.hour, m.hour + interval '1 hour' from moved m join store.datastream d using (datastream_id);
insert into store.city_dirty
select distinct d.city_id, d.property_id, %2$s, %2$s + interval '1 hour' from %1$s;$t$;
begin
  execute 'create or replace view store.hour_values as
select d.datastream_id, c.key as city, p.key as property, p.unit, p.aggregation, d.device, d.channel, s.hour, ' || value || ' as value,
       s.minimum, s.maximum, s.good + s.unchecked as count, s.good, s.unchecked, s.suspect, s.failed, s.missing,
       s.first_time, s.last_time, s.total, s.covered, s.power, s.east, s.north
  from store.datastream d
  join store.city c using (city_id)
  join store.property p using (property_id)
 cross join lateral (' || stored || ' union all ' || live || ') s';

  -- Make the hours and days of `pairs` anew, each in its range; all ranges lie within first and last, which as constants
  -- leave chunks out of the plan.
  execute 'create function store.make_city_hours(pairs store.city_dirty[], first timestamptz, last timestamptz) returns void
language plpgsql set plan_cache_mode = force_custom_plan as $f$
begin
  delete from store.city_hour h using unnest(pairs) q
   where h.city_id = q.city_id and h.property_id = q.property_id and h.hour >= q.since and h.hour < q.until
     and h.hour >= first and h.hour < last;
  insert into store.city_hour (city_id, property_id, datastreams, good, unchecked, suspect, failed, missing, hour, value, minimum, maximum, total)
  select d.city_id, d.property_id, ' || format(city, 'hour') || '
    from unnest(pairs) q
    join store.datastream d using (city_id, property_id)
    join store.property p using (property_id)
   cross join lateral (' || hour_of || '
     from (' || stored || ' and r.hour >= q.since and r.hour < q.until and r.hour >= first and r.hour < last) s) v
   group by d.city_id, d.property_id, p.aggregation, v.hour;
end $f$';
  execute 'create function store.make_city_days(pairs store.city_dirty[], first timestamptz, last timestamptz) returns void
language plpgsql set plan_cache_mode = force_custom_plan as $f$
begin
  delete from store.city_day y using unnest(pairs) q
   where y.city_id = q.city_id and y.property_id = q.property_id and y.day_start >= q.since and y.day_start < q.until;
  insert into store.city_day (city_id, property_id, datastreams, good, unchecked, suspect, failed, missing, day_start, value, minimum, maximum, total)
  select d.city_id, d.property_id, ' || format(city, 'day_start') || '
    from unnest(pairs) q
    join store.datastream d using (city_id, property_id)
    join store.property p using (property_id)
   cross join lateral (' || day_of || '
     from (' || stored || ' and r.hour >= q.since and r.hour < q.until and r.hour >= first and r.hour < last) s group by 1) v
   group by d.city_id, d.property_id, p.aggregation, v.day_start;
end $f$';

  -- Dimensions outside, LATERAL inside: a condition on city, property and range reaches the index of what is summed up.
  execute 'create view store.city_hour_values as
select c.key as city, p.key as property, p.unit, p.aggregation, s.*
  from store.city c
 cross join store.property p
 cross join lateral (
   select h.datastreams, h.good, h.unchecked, h.suspect, h.failed, h.missing, h.hour, h.value, h.minimum, h.maximum, h.total
     from store.city_hour h, store.rollup_state o
    where h.city_id = c.city_id and h.property_id = p.property_id and h.hour >= o.cities_from and h.hour < o.materialized
   union all
   select ' || format(city, 'hour') || '
     from store.datastream d
    cross join store.rollup_state o
    cross join lateral (' || hour_of || '
      from (' || stored || ' and r.hour < o.cities_from union all ' || live || ') s) v
    where d.city_id = c.city_id and d.property_id = p.property_id
    group by v.hour) s';
  execute 'create view store.city_day_values as
select c.key as city, p.key as property, p.unit, p.aggregation, s.*
  from store.city c
 cross join store.property p
 cross join lateral (
   select y.datastreams, y.good, y.unchecked, y.suspect, y.failed, y.missing, y.day_start, y.value, y.minimum, y.maximum, y.total
     from store.city_day y, store.rollup_state o
    where y.city_id = c.city_id and y.property_id = p.property_id
      and y.day_start >= o.cities_from and y.day_start < date_trunc(''day'', o.materialized, ''Europe/Berlin'')
   union all
   select ' || format(city, 'day_start') || '
     from store.datastream d
    cross join store.rollup_state o
    cross join lateral (' || day_of || '
      from (' || stored || ' and r.hour < o.cities_from
            union all ' || stored || ' and r.hour >= greatest(o.cities_from, date_trunc(''day'', o.materialized, ''Europe/Berlin''))
            union all ' || live || ') s group by 1) v
    where d.city_id = c.city_id and d.property_id = p.property_id
    group by v.day_start) s';

  drop function store.hours_of(int4, text, float8, timestamptz, timestamptz);
  -- Without bitmaps: the index has the order of time, a bitmap would lose it.
  execute 'create or replace function store.rollup_hour(h timestamptz, streams int4[] default null) returns void
language plpgsql set plan_cache_mode = force_custom_plan set enable_bitmapscan = off as $f$
declare
  next constant timestamptz := h + interval ''1 hour'';
begin
if streams is not null then  -- a maintain of before asks so
  perform store.rollup_late(array(select distinct (s, h)::store.rollup_dirty from unnest(streams) s));
  return;
end if;' || format(sum_up, 'store.datastream d', 'h', 'phenomenon_time >= h and phenomenon_time < next', 'h', 'h') || '
end $f$';
  execute 'create function store.rollup_late(late store.rollup_dirty[]) returns void
language plpgsql set plan_cache_mode = force_custom_plan set enable_bitmapscan = off
set timescaledb.enable_runtime_exclusion = off  -- asked for every hour, and there is one chunk
as $f$
declare
  first constant timestamptz := (select min(hour) from unnest(late));
  last constant timestamptz := (select max(hour) + interval ''1 hour'' from unnest(late));
begin' || format(sum_up, 'unnest(late) k join store.datastream d using (datastream_id)', 'k.hour',
      'phenomenon_time >= k.hour and phenomenon_time < k.hour + interval ''1 hour'' and phenomenon_time >= first and phenomenon_time < last',
      'first', 'last') || '
end $f$';
end $do$;
comment on function store.rollup_hour is 'one hour of all datastreams, run by maintain alone, before the threshold while its readings are there; cities follow by sum_up_cities';
comment on function store.rollup_late is 'the same for some hours of some datastreams, each once and of one day';
comment on view store.city_hour_values is 'hanse.city_hourly: what is summed up, and beside it what is not yet, from hours and readings';

-- Keeping them right -----------------------------------------------------------------------------------------------------

-- Cities' hours are made of hours, never of readings, so they need no protocol with the writers: whoever changes an hour
-- logs it in the same transaction. One at a time makes them anew (the lock: maintain and forget may both), of what it
-- took out of the log in an earlier statement. A long entry is worked off by 30 days a call.
create function store.sum_up_cities() returns int8 language plpgsql as $$
declare
  upto timestamptz;
  oldest timestamptz;
  hours store.city_dirty[];
  days store.city_dirty[];
begin
  perform pg_advisory_xact_lock(7353, 4);
  select materialized into strict upto from store.rollup_state;
  if exists (select from store.city_dirty where since = '-infinity') then
    select coalesce(min(range_start), upto) into oldest from timescaledb_information.chunks
     where hypertable_schema = 'store' and hypertable_name in ('observation_hour', 'city_hour');
  end if;
  with taken as (delete from store.city_dirty returning *),
  -- Hours in a row as one range: each of its datastreams is looked up once.
  clipped as (select city_id, property_id, lower(r) as since, upper(r) as until
    from (select city_id, property_id, range_agg(tstzrange(greatest(since, oldest), least(until, upto))) as ranges
            from taken where greatest(since, oldest) < least(until, upto) group by 1, 2) m
   cross join lateral unnest(m.ranges) r),
  rest as (insert into store.city_dirty select city_id, property_id, since + interval '30 days', until from clipped where until > since + interval '30 days')
  select array_agg(distinct (city_id, property_id, since, least(until, since + interval '30 days'))::store.city_dirty) into hours
    from clipped where since < until;
  if hours is null then return 0; end if;
  perform store.make_city_hours(hours, min(since), max(until)) from unnest(hours);
  select array_agg(distinct (q.city_id, q.property_id, d.day, d.ends)::store.city_dirty) into days
    from unnest(hours) q
   cross join lateral (
     select b.day, date_trunc('day', b.day + interval '30 hours', 'Europe/Berlin') as ends
       from (select distinct date_trunc('day', g, 'Europe/Berlin') as day from generate_series(q.since, q.until - interval '1 hour', interval '1 hour') g) b) d
   where d.ends <= upto;
  if days is not null then
    perform store.make_city_days(days, min(since), max(until)) from unnest(days);
  end if;
  return cardinality(hours);
end $$;
comment on function store.sum_up_cities is 'makes anew what city_dirty names, and says how many entries it took; last in every transaction of maintain that changes hours';

-- The day before cities_from; false where nothing older is left. Needed once, on a database that has hours from before.
create function store.fill_cities() returns bool language plpgsql as $$
declare
  edge timestamptz;
  upto timestamptz;
  day timestamptz;
  pairs store.city_dirty[];
begin
  select cities_from, materialized into strict edge, upto from store.rollup_state;
  if edge = '-infinity' then return false; end if;
  if edge <= coalesce((select min(range_start) from timescaledb_information.chunks
                        where hypertable_schema = 'store' and hypertable_name = 'observation_hour'), edge) then
    update store.rollup_state set cities_from = '-infinity';
    return false;
  end if;
  perform pg_advisory_xact_lock(7353, 4);
  day := date_trunc('day', edge - interval '1 hour', 'Europe/Berlin');
  select array_agg((city_id, property_id, day, edge)::store.city_dirty) into pairs from (select distinct city_id, property_id from store.datastream) s;
  perform store.make_city_hours(pairs, day, edge);
  if edge <= upto then
    perform store.make_city_days(pairs, day, edge);
  end if;
  update store.rollup_state set cities_from = day;
  return true;
end $$;

-- Deleted first, summed up by later statements: each of a volatile function's has a snapshot of its own. By days, as
-- readings lie in chunks.
create function store.repair_hours(most int8) returns int8 language plpgsql as $$
declare
  upto timestamptz;
  edge timestamptz;
  entries int8;
  late store.rollup_dirty[];
  of_a_day store.rollup_dirty[];
begin
  select materialized into strict upto from store.rollup_state;
  with taken as (
    delete from store.rollup_dirty
     where ctid = any (array(select ctid from store.rollup_dirty where hour < upto order by hour limit most))
    returning datastream_id, hour)
  select array_agg(distinct (datastream_id, hour)::store.rollup_dirty), count(*) into late, entries from taken;
  select dropped_before into strict edge from store.rollup_state;
  for of_a_day in
    select array_agg(q order by q.datastream_id, q.hour) from unnest(late) q where q.hour >= edge
     group by date_trunc('day', q.hour, 'UTC') order by date_trunc('day', q.hour, 'UTC')
  loop
    perform store.rollup_late(of_a_day);
  end loop;
  return entries;
end $$;
comment on function store.repair_hours is 'sums up again what up to so many entries of rollup_dirty name, and says how many it took; hours whose readings are dropped keep their sums';

-- Of a counter that is corrected, hours whose readings are gone change too: their border lies in `before`.
create or replace function store.modulus_changed() returns trigger language plpgsql security definer set search_path = store, pg_temp as $$
declare
  upto timestamptz;
begin
  select l.threshold into upto from batch_limits() l;
  insert into rollup_dirty (datastream_id, hour)
  select distinct new.datastream_id, date_trunc('hour', phenomenon_time, 'UTC') from observation
   where datastream_id = new.datastream_id and phenomenon_time < upto;
  insert into city_dirty values (new.city_id, new.property_id, '-infinity', 'infinity');
  return null;
end $$;

-- A datastream that is forgotten leaves its city's sums. All of them, and not those of its hours: one of these may be
-- summed up right now by a transaction that still sees it.
create function store.datastream_removed() returns trigger language plpgsql security definer set search_path = store, pg_temp as $$
begin
  insert into city_dirty values (old.city_id, old.property_id, '-infinity', 'infinity');
  return null;
end $$;
create trigger datastream_removed after delete on store.datastream for each row execute function store.datastream_removed();

-- What readers see -------------------------------------------------------------------------------------------------------

create view hanse.city_hourly as
select city, property, unit, aggregation, hour, value, minimum, maximum, total, datastreams, good + unchecked as count,
       good, unchecked, suspect, failed, missing
  from store.city_hour_values;
comment on view hanse.city_hourly is 'each property of a city by the hour: mean over its datastreams, each weighing the same; readings flagged 1 and 2';
comment on column hanse.city_hourly.total is 'of sums and counters: all datastreams together; else null';
comment on column hanse.city_hourly.datastreams is 'datastreams that have a value';

create view hanse.city_daily as
select city, property, unit, aggregation, day_start, (day_start at time zone 'Europe/Berlin')::date as day, value, minimum, maximum, total,
       datastreams, good + unchecked as count, good, unchecked, suspect, failed, missing
  from store.city_day_values;
comment on view hanse.city_daily is 'the same by the day of Europe/Berlin: mean over the datastreams'' days, as hanse.daily has them';
comment on column hanse.city_daily.day_start is 'begin of the day; a range on it (>= and <) is fast, = and functions are not';

-- The same columns and meaning as before. FILTER for the same reason as above: 50,000 lx are no level.
create or replace view hanse.city_comparison as
select g.*,
       case g.aggregation
         when 'direction' then null
         when 'energy' then 10 * log(avg(power(10, g.value / 10)) filter (where g.aggregation = 'energy') over side_by_side)
         else avg(g.value) over side_by_side end as alliance_value,
       count(g.value) over side_by_side as cities
  from (
    select 'hour' as resolution, hour as begins, property, unit, aggregation, city, value, minimum, maximum,
           datastreams::int8 as datastreams, (good + unchecked)::int8 as readings from store.city_hour_values
    union all
    select 'day', day_start, property, unit, aggregation, city, value, minimum, maximum,
           datastreams, good + unchecked from store.city_day_values) g
window side_by_side as (partition by g.resolution, g.begins, g.property, g.unit, g.aggregation);

create or replace view hanse.contract_version as select 1 as major, 1 as minor;
