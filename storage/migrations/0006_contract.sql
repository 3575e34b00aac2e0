-- oldest-code: 1
-- Smart Data Models of more domains, one name for the interval of a sensor, and what is overdue for sensors that live.

-- Dead letters -----------------------------------------------------------------------------------------------------------

-- What imports refused weighs on no city any more.
update store.dead_letter_bytes b set open_bytes = greatest(0, b.open_bytes - i.bytes)
  from (select city_id, sum(bytes)::int8 as bytes
          from (select city_id, count(*) * 256 as bytes from store.dead_letter
                 where starts_with(topic, 'import:') and state = 'open' group by 1
                union all
                select m.city_id, sum(octet_length(m.payload)) from store.dead_message m
                 where starts_with(m.topic, 'import:')
                   and exists (select from store.dead_letter l
                                where l.topic = m.topic and l.partition = m.partition and l."offset" = m."offset"
                                  and l.received_at = m.received_at and l.state = 'open') group by 1) w
         group by 1) i
 where i.city_id = b.city_id;
comment on table store.dead_letter_bytes is
  'by city, what its open dead letters weigh: payload bytes of their messages and 256 a letter; those of imports weigh nothing';

-- Sensors that are silent beyond their own usual interval ------------------------------------------------------------------

create or replace view hanse.overdue as
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
                case when jsonb_typeof(d.parameters -> 'interval_s') = 'number'
                     then least(greatest((d.parameters ->> 'interval_s')::numeric, 0), 31622400)::float8 * interval '1 second' end,
                -- of fewer than five intervals nothing is known
                case when count(g.gap) >= 5
                     then percentile_disc(0.9) within group (order by g.gap) end) as usual_interval,
              jsonb_typeof(d.parameters -> 'interval_s') is not distinct from 'number' as configured
         from (
           select t.seen, t.seen - lag(t.seen) over (order by t.seen) as gap
             from (
               select distinct date_trunc('second', r.received_at) as seen
                 from (
                   select l.received_at
                     from store.observation l where l.datastream_id = d.datastream_id
                    order by l.phenomenon_time desc limit 64) r) t) g) s
    offset 0) h
 where d.dialect <> 'import'  -- no network ever brought it: an import does not overwrite what was seen live
   and d.parameters -> 'retired' is distinct from 'true'::jsonb
   and n.received_at < now() - interval '5 minutes'
   and h.last_seen < now() - h.allowed
   and h.last_seen >= now() - greatest(interval '30 days', 10 * h.allowed);
comment on view hanse.overdue is
  'datastreams silent for three times their usual interval (at least 5 minutes more): the 90th percentile between receipts of the last 64 readings, or interval_s of parameters; not those that only imports filled, nor retired ones (parameters.retired, or silent for 30 days and ten times what is allowed)';

-- NGSI-LD ----------------------------------------------------------------------------------------------------------------

create table store.smart_data_type (
  type            text primary key,
  repository      text not null,
  needs_location  bool not null,
  observed        text,
  period          text check (period in ('possible', 'required'))
);
comment on table store.smart_data_type is 'what each Smart Data Model asks of a whole entity, by its published schema';
comment on column store.smart_data_type.observed is 'its attribute for the time of observation; null: it has none but NGSI-LD''s observedAt';
comment on column store.smart_data_type.period is 'whether it has dateObservedFrom and dateObservedTo, and whether it requires them';
insert into store.smart_data_type (type, repository, needs_location, observed, period) values
  ('WeatherObserved', 'dataModel.Weather', true, 'dateObserved', null),
  ('AirQualityObserved', 'dataModel.Environment', true, 'dateObserved', null),
  ('NoiseLevelObserved', 'dataModel.Environment', true, null, 'required'),
  ('WaterObserved', 'dataModel.Environment', true, 'dateObserved', 'possible'),
  ('FloodMonitoring', 'dataModel.Environment', false, 'observationDateTime', null),
  ('WaterQualityObserved', 'dataModel.WaterQuality', true, 'dateObserved', null),
  ('ThreePhaseAcMeasurement', 'dataModel.Energy', false, null, null),
  ('SolarEnergy', 'dataModel.Energy', false, 'observationDateTime', null),
  ('SmartMeteringObservation', 'dataModel.Device', false, null, null),
  ('TrafficFlowObserved', 'dataModel.Transportation', true, 'dateObserved', 'possible'),
  ('CrowdFlowObserved', 'dataModel.Transportation', true, 'dateObserved', 'possible'),
  ('OffStreetParking', 'dataModel.Parking', true, 'observationDateTime', null),
  ('WasteContainer', 'dataModel.WasteManagement', true, 'TimeInstant', null);

alter table store.smart_data_model
  add column whole bool not null default false,
  add column fixed jsonb;
comment on column store.smart_data_model.whole is 'the model takes whole numbers only';
comment on column store.smart_data_model.fixed is
  'attributes that say which property it is, where the model has one attribute for several: then it is an entity of its own';

update store.smart_data_model m set reason = null, minimum = n.minimum, maximum = n.maximum, whole = n.whole, fixed = n.fixed::jsonb
  from (values
  ('water_distance', null::float8, null::float8, false, null),
  ('water_flow_rate', 0, null, false, null),
  ('water_temperature', null, null, false, null),
  ('water_conductivity', 0, null, false, null),
  ('water_ph', 0, 14, false, null),
  ('water_dissolved_oxygen', 0, null, false, null),
  ('electric_energy_import', 0, null, false, null),
  ('electric_energy_export', 0, null, false, null),
  ('electric_active_power', null, null, false, null),
  ('electric_reactive_power', null, null, false, null),
  ('electric_apparent_power', 0, null, false, null),
  ('electric_power_factor', -1, 1, false, null),
  ('electric_frequency', 0, null, false, null),
  ('pv_energy_total', null, null, false, null),
  ('gas_volume_total', null, null, false, '{"meterType": "Gas"}'),
  ('water_volume_total', null, null, false, '{"meterType": "Water"}'),
  ('vehicle_count', 0, null, false, null),
  ('vehicle_speed_mean', 0, null, false, null),
  ('lane_occupancy', 0, 1, false, null),
  ('pedestrian_count', 0, null, true, null),
  ('parking_spots_free', 0, null, true, null),
  ('parking_spots_total', 1, null, true, null),
  ('parking_occupancy', 0, 1, false, null),
  ('waste_temperature', null, null, false, null),
  ('waste_fill_level', 0, 1, false, null)) as n (property, minimum, maximum, whole, fixed)
 where m.property = n.property;

update store.smart_data_model m set reason = n.reason
  from (values
  ('water_level', 'the published model has no attribute waterLevel; its height is said of alert coasts alone'),
  ('water_turbidity', 'the published model names no unit for it, and UN/CEFACT has no code for NTU'),
  ('water_salinity', 'no published schema of its model could be read in full'),
  ('wave_height_significant', 'no published schema of its model could be read in full'),
  ('bicycle_count', 'no published schema of its model could be read in full'),
  ('indoor_temperature', 'no published schema of its model could be read in full'),
  ('indoor_relative_humidity', 'no published schema of its model could be read in full'),
  ('people_count', 'no published schema of its model could be read in full'),
  ('electric_voltage', 'the published model wants an object by phase, and a reading names none'),
  ('electric_current', 'the published model wants an object by phase, and a reading names none'),
  ('pv_power', 'the published model requires refPhotovoltaicDevice, dateEnergyMeteringStarted and temperature'),
  ('ev_charge_points_available', 'the published model requires name, socketType, capacity and allowedVehicleType'),
  ('parking_spot_occupied', 'the published model requires category and refParkingSite'),
  ('lamp_dim_level', 'the published model requires status, the lamp''s health'),
  ('lamp_on', 'the published model requires status, the lamp''s health'),
  ('soil_moisture', 'the published model requires hasAgriParcel'),
  ('soil_temperature', 'the published model requires hasAgriParcel'),
  ('soil_conductivity', 'the published model requires hasAgriParcel, and calls it soilMoistureEC'),
  ('device_battery_level', 'the published model requires category and controlledProperty'),
  ('device_rssi', 'the published model wants a share from 0 to 1, not dBm')) as n (property, reason)
 where m.property = n.property;

create or replace view store.ngsi_ld_part as
select c.key as city, p.key as property, d.device, d.channel, d.datastream_id, d.latitude, d.longitude, o.phenomenon_time, o.value,
       m.type, m.attribute, m.unit_code, (o.value * m.factor)::numeric as number, store.number_of(d.parameters, 'interval_s') as interval_s,
       case when m.property is null then 'the vocabulary names no Smart Data Model for it'
            when m.reason is not null then m.reason
            when t.needs_location and (d.latitude is null or d.longitude is null)
              then 'the model requires a location, and the datastream has none'
            when t.period = 'required' and store.number_of(d.parameters, 'interval_s') is null
              then 'the model requires the interval measured, and parameters.interval_s is not known'
            when m.whole and (o.value * m.factor)::numeric % 1 <> 0
              then format('%s is no whole number, and the model wants one', (o.value * m.factor)::numeric)
            when o.value * m.factor < m.minimum then format('%s is below the model''s minimum %s', (o.value * m.factor)::numeric, m.minimum)
            when o.value * m.factor > m.maximum then format('%s is above the model''s maximum %s', (o.value * m.factor)::numeric, m.maximum)
            end as reason,
       t.repository, t.observed, t.period, m.fixed
  from store.datastream d
  join store.city c using (city_id)
  join store.property p using (property_id)
  left join store.smart_data_model m on m.property = p.key
  left join store.smart_data_type t on t.type = m.type
 cross join lateral (
   select l.phenomenon_time, l.value from store.observation l
    where l.datastream_id = d.datastream_id and l.quality in (1, 2) order by l.phenomenon_time desc limit 1) o;

create or replace view hanse.ngsi_ld_entities as
select e.city, e.device, e.channel, e.type, e.observed_at,
       jsonb_build_object('id', e.id, 'type', e.type,
         '@context', jsonb_build_array('https://raw.githubusercontent.com/smart-data-models/' || e.repository || '/master/context.jsonld',
           'https://uri.etsi.org/ngsi-ld/v1/ngsi-ld-core-context.jsonld'))
         || case when e.point is null then '{}' else jsonb_build_object('location', jsonb_build_object('type', 'GeoProperty', 'value', e.point)) end
         || e.normalized || coalesce(more.normalized, '{}') as entity,
       jsonb_build_object('id', e.id, 'type', e.type) || case when e.point is null then '{}' else jsonb_build_object('location', e.point) end
         || e.plain || coalesce(more.plain, '{}') as key_values
  from (
    select city, device, channel, type, repository, observed, period, fixed, max(phenomenon_time) as observed_at, max(interval_s) as interval_s,
           'urn:ngsi-ld:' || type || ':' || city || ':' || store.uri_part(device) || case when channel <> '' then ':' || store.uri_part(channel) else '' end
             || case when fixed is not null then ':' || min(property) else '' end as id,
           case when min(longitude) is not null
             then jsonb_build_object('type', 'Point', 'coordinates', jsonb_build_array(min(longitude), min(latitude))) end as point,
           jsonb_object_agg(attribute, jsonb_strip_nulls(jsonb_build_object('type', 'Property', 'value', number, 'unitCode', unit_code,
             'observedAt', store.rfc3339(phenomenon_time)))) as normalized,
           jsonb_object_agg(attribute, number) as plain
      from store.ngsi_ld_part
     where reason is null
     group by city, device, channel, type, repository, observed, period, fixed) e
 cross join lateral (
   select jsonb_object_agg(t.key, t.value) as plain, jsonb_object_agg(t.key, jsonb_build_object('type', 'Property', 'value', t.normalized)) as normalized
     from (select a.key, to_jsonb(a.at) as value, jsonb_build_object('@type', 'DateTime', '@value', a.at) as normalized
             from (values (e.observed, store.rfc3339(e.observed_at)),
                          (case when e.period is not null then 'dateObservedFrom' end, store.rfc3339(e.observed_at - make_interval(secs => e.interval_s))),
                          (case when e.period is not null and e.interval_s is not null then 'dateObservedTo' end, store.rfc3339(e.observed_at))) as a (key, at)
            where a.key is not null and a.at is not null
           union all
           select f.key, f.value, f.value from jsonb_each(e.fixed) f) t) more;
comment on view hanse.ngsi_ld_entities is 'newest good readings of each device as an entity of its Smart Data Model: normalized and as key-values';

create or replace view hanse.contract_version as select 1 as major, 1 as minor;
