-- oldest-code: 1
-- Sensors that are silent beyond their own usual interval.

-- The usual interval is learned when asked, from the newest readings, and only of those silent for longer than any sensor
-- may be: one index probe a datastream while all is well, 64 rows of those that are not. Nothing is kept, so nothing grows
-- old. By receive time and not by phenomenon time: a sensor that sends an hour's readings in one pack is not overdue
-- between two packs.
create view hanse.overdue as
select c.key as city, p.key as property, d.device, d.channel, d.datastream_id,
       h.last_seen, now() - h.last_seen as age, h.usual_interval, h.allowed, h.configured
  from store.datastream d
  join store.city c using (city_id)
  join store.property p using (property_id)
 cross join lateral (
   select l.received_at
     from store.observation l where l.datastream_id = d.datastream_id
    order by l.phenomenon_time desc limit 1) n
 cross join lateral (
   select s.last_seen, s.usual_interval, s.configured,
          greatest(3 * s.usual_interval, s.usual_interval + interval '5 minutes') as allowed
     from (
       select max(g.seen) as last_seen,
              coalesce(
                case when jsonb_typeof(d.parameters -> 'interval_seconds') = 'number'
                     then least(greatest((d.parameters ->> 'interval_seconds')::numeric, 0), 31622400)::float8 * interval '1 second' end,
                -- of fewer than five intervals nothing is known
                case when count(g.gap) >= 5
                     then percentile_disc(0.9) within group (order by g.gap) end) as usual_interval,
              jsonb_typeof(d.parameters -> 'interval_seconds') is not distinct from 'number' as configured
         from (
           select t.seen, t.seen - lag(t.seen) over (order by t.seen) as gap
             from (
               select distinct date_trunc('second', r.received_at) as seen
                 from (
                   select l.received_at
                     from store.observation l where l.datastream_id = d.datastream_id
                    order by l.phenomenon_time desc limit 64) r) t) g) s
    offset 0) h
 where n.received_at < now() - interval '5 minutes'
   and h.last_seen < now() - h.allowed;
comment on view hanse.overdue is
  'datastreams silent for three times their usual interval (at least 5 minutes more): the 90th percentile between receipts of the last 64 readings, or interval_seconds of parameters';
