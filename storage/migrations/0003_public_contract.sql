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

create view hanse.contract_version as select 1 as major, 0 as minor;
comment on view hanse.contract_version is 'of the views in this schema: minor grows when something is added, major when something is taken away or means something else';

-- Cities side by side ----------------------------------------------------------------------------------------------------

-- The mean of a city's datastreams, each weighing the same, so that cities with more sensors compare with those with
-- fewer. All columns of the outer window but the city: a condition on any of them reaches the datastreams.
create view hanse.city_comparison as
select g.*,
       case g.aggregation
         when 'direction' then null
         when 'energy' then 10 * log(avg(power(10, g.value / 10)) over side_by_side)
         else avg(g.value) over side_by_side end as alliance_value,
       count(g.value) over side_by_side as cities
  from (
    select v.resolution, v.begins, v.property, v.unit, v.aggregation, v.city,
           case v.aggregation
             when 'energy' then 10 * log(avg(power(10, v.value / 10)))
             when 'direction' then case when avg(sind(v.value)) ^ 2 + avg(cosd(v.value)) ^ 2 > 1e-9
               then mod((atan2d(avg(sind(v.value)), avg(cosd(v.value))) + 360)::numeric, 360)::float8 end
             else avg(v.value) end as value,
           min(v.minimum) as minimum, max(v.maximum) as maximum, count(v.value) as datastreams, sum(v.count)::int8 as readings
      from (
        select 'hour' as resolution, hour as begins, property, unit, aggregation, city, value, minimum, maximum, count from hanse.hourly
        union all
        select 'day', day_start, property, unit, aggregation, city, value, minimum, maximum, count from hanse.daily) v
     group by 1, 2, 3, 4, 5, 6) g
window side_by_side as (partition by g.resolution, g.begins, g.property, g.unit, g.aggregation);
comment on view hanse.city_comparison is 'each property by hour and by day, city by city, beside the mean of all cities';
comment on column hanse.city_comparison.value is 'mean over the city''s datastreams of their hour''s or day''s value; levels by energy, directions as vectors';
comment on column hanse.city_comparison.alliance_value is 'mean over the cities; null for directions';

-- Extreme weather --------------------------------------------------------------------------------------------------------

create table store.warning_threshold (
  hazard   text not null,
  measure  text not null,
  level    int2,
  lower    float8 not null,
  label    text not null,
  source   text not null,
  primary key (hazard, measure, lower)
);
comment on table store.warning_threshold is 'lower bounds; DWD: wettergefahren.de/warnungen/wetterwarnkriterien.html, BSH: sturmflutmonitor.de/faq';
insert into store.warning_threshold (hazard, measure, level, lower, label, source) values
  ('heavy_rain', 'rain_1h', 2, 15, 'Starkregen', 'DWD'), ('heavy_rain', 'rain_1h', 3, 25, 'heftiger Starkregen', 'DWD'),
  ('heavy_rain', 'rain_1h', 4, 40, 'extrem heftiger Starkregen', 'DWD'),
  ('heavy_rain', 'rain_6h', 2, 20, 'Starkregen', 'DWD'), ('heavy_rain', 'rain_6h', 3, 35, 'heftiger Starkregen', 'DWD'),
  ('heavy_rain', 'rain_6h', 4, 60, 'extrem heftiger Starkregen', 'DWD'),
  ('gust', 'gust', 1, 14, 'Windböen', 'DWD'), ('gust', 'gust', 2, 18, 'Sturmböen', 'DWD'),
  ('gust', 'gust', 2, 25, 'schwere Sturmböen', 'DWD'), ('gust', 'gust', 3, 29, 'orkanartige Böen', 'DWD'),
  ('gust', 'gust', 3, 33, 'Orkanböen', 'DWD'), ('gust', 'gust', 4, 39, 'extreme Orkanböen', 'DWD'),
  ('frost', 'cold', 1, 0, 'Frost', 'DWD'), ('frost', 'cold', 2, 10, 'strenger Frost', 'DWD'),
  ('heat', 'heat', null, 30, 'Heißer Tag (Kenntag, keine Warnung)', 'DWD'),
  ('storm_surge', 'surge', 1, 1.00, 'Sturmflut', 'BSH'), ('storm_surge', 'surge', 2, 1.25, 'mittlere Sturmflut', 'BSH'),
  ('storm_surge', 'surge', 3, 1.50, 'schwere Sturmflut', 'BSH'), ('storm_surge', 'surge', 4, 2.00, 'sehr schwere Sturmflut', 'BSH');
create view hanse.warning_thresholds as select hazard, measure, level, lower, label, source from store.warning_threshold;
comment on view hanse.warning_thresholds is 'the official levels that hanse.extreme_weather goes by; cold is counted in degrees below zero and exceeds its bound';

create function store.number_of(parameters jsonb, key text) returns float8 language sql immutable as $$
  select case when jsonb_typeof(parameters -> key) = 'number' then (parameters ->> key)::float8 end
$$;

-- Rain slides: the most in any 60 minutes (6 hours) that end in this hour, from the readings; where they are dropped
-- already, whole hours stand for them, which may miss a peak over the border. A surge needs the gauge's mean water.
create view hanse.extreme_weather as
select h.city, h.property, h.device, h.channel, h.hour, t.hazard, t.level, t.label, m.measure, m.value, t.lower, t.source, h.datastream_id
  from hanse.hourly h
  join store.datastream d using (datastream_id)
 cross join lateral (
   select 'gust' as measure, h.maximum as value where h.property = 'wind_speed_gust'
   union all select 'heat', h.maximum where h.property = 'air_temperature'
   union all select 'cold', -h.minimum where h.property = 'air_temperature' and h.minimum < 0
   union all select 'surge', h.maximum - store.number_of(d.parameters, 'mean_water_level') where h.property = 'water_level'
   union all select 'surge', h.maximum - store.number_of(d.parameters, 'mean_water_level') - store.number_of(d.parameters, 'gauge_zero')
    where h.property = 'water_level_nhn'
   union all select unnest(array['rain_1h', 'rain_6h']), unnest(array[
       coalesce(w.one, h.value), coalesce(w.six, (select sum(r.total) from store.observation_hour r
         where r.datastream_id = h.datastream_id and r.hour > h.hour - interval '6 hours' and r.hour <= h.hour))])
     from (select max(s.one) as one, max(s.six) as six from (
         select phenomenon_time,
                sum(value) over (order by phenomenon_time range between '59 min 59.999999 s' preceding and current row) as one,
                sum(value) over (order by phenomenon_time range between '5 h 59 min 59.999999 s' preceding and current row) as six
           from store.observation o
          where o.datastream_id = h.datastream_id and o.quality in (1, 2)
            and o.phenomenon_time >= h.hour - interval '6 hours' and o.phenomenon_time < h.hour + interval '1 hour') s
       where s.phenomenon_time >= h.hour) w
    where h.property = 'precipitation') m
 cross join lateral (
   select * from store.warning_threshold t
    where t.measure = m.measure and (m.value > t.lower or m.value = t.lower and m.measure <> 'cold')
    order by t.lower desc limit 1) t
 where h.property in ('precipitation', 'wind_speed_gust', 'air_temperature', 'water_level', 'water_level_nhn');
comment on view hanse.extreme_weather is 'hours in which a datastream reached an official warning level, with the highest one reached';
comment on column hanse.extreme_weather.value is 'mm, m/s, °C (cold: degrees below zero), m above mean water';

create function hanse.weather_events(from_ timestamptz, to_ timestamptz, of_city text default null)
returns table (city text, hazard text, level int2, label text, device text, channel text, begins timestamptz, ends timestamptz, peak float8, datastream_id int4)
language sql stable as $$
  with worst as (
    select distinct on (w.datastream_id, w.hazard, w.hour) w.*
      from hanse.extreme_weather w
     where w.hour >= from_ and w.hour < to_ and (of_city is null or w.city = of_city)
     order by w.datastream_id, w.hazard, w.hour, w.level desc nulls last, w.measure),
  islands as (
    select w.*, w.hour - interval '1 hour' * row_number() over (partition by w.datastream_id, w.hazard order by w.hour) as island from worst w)
  select min(i.city), i.hazard, max(i.level), (array_agg(i.label order by i.level desc nulls last, i.value desc))[1], min(i.device),
         min(i.channel), min(i.hour), max(i.hour) + interval '1 hour',
         (array_agg(i.value order by i.level desc nulls last, i.value desc))[1], i.datastream_id
    from islands i group by i.datastream_id, i.hazard, i.island order by 7, 1, 10
$$;
comment on function hanse.weather_events is 'hours of hanse.extreme_weather in a row as one event each, with the highest level and its value';

-- Energy -----------------------------------------------------------------------------------------------------------------

create view hanse.energy_consumption as
select 'hour' as resolution, h.hour as begins, h.hour + interval '1 hour' as ends, h.city, h.property, h.unit, h.device, h.channel,
       h.value as consumption, h.count as readings, h.datastream_id
  from hanse.hourly h join store.property p on p.key = h.property
 where h.aggregation = 'counter' and p.domain = 'energy'
union all
select 'day', a.day_start, (a.day + 1)::timestamp at time zone 'Europe/Berlin', a.city, a.property, a.unit, a.device, a.channel, a.value, a.count, a.datastream_id
  from hanse.daily a join store.property p on p.key = a.property
 where a.aggregation = 'counter' and p.domain = 'energy';
comment on view hanse.energy_consumption is 'what each meter (electricity, heat, gas, water, charging) counted by hour and by day, across resets and rollovers';

-- Gaps -------------------------------------------------------------------------------------------------------------------

create function hanse.hourly_filled(of_datastream int4, from_ timestamptz, to_ timestamptz, carry interval default '3 hours')
returns table (hour timestamptz, value float8, source text) language sql stable as $$
  select g.hour, coalesce(h.value, c.value), case when h.value is not null then 'measured' when c.value is not null then 'carried' else 'gap' end
    from generate_series(date_trunc('hour', from_, 'UTC'), to_ - interval '1 microsecond', interval '1 hour') as g (hour)
    left join hanse.hourly h on h.datastream_id = of_datastream and h.hour = g.hour and h.hour >= date_trunc('hour', from_, 'UTC') and h.hour < to_
    left join lateral (
      select l.value from hanse.hourly l
       where h.value is null and l.datastream_id = of_datastream and l.hour >= g.hour - carry and l.hour < g.hour
         and l.value is not null and l.aggregation in ('mean', 'energy', 'direction', 'state')
       order by l.hour desc limit 1) c on true
   order by 1
$$;
comment on function hanse.hourly_filled is 'every hour of a range: measured, carried from an hour before (not sums, maxima and counters), or a gap (null)';

-- SensorThings -------------------------------------------------------------------------------------------------------------

create function store.rfc3339(at timestamptz) returns text language sql immutable as $$
  select to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

create view hanse.sensorthings_observations as
select c.key as city, p.key as property, d.device, d.channel, o.phenomenon_time, d.datastream_id,
       jsonb_build_object(
         '@iot.id', d.datastream_id || ':' || (extract(epoch from o.phenomenon_time) * 1000000)::int8,
         'phenomenonTime', store.rfc3339(o.phenomenon_time),
         'resultTime', store.rfc3339(o.phenomenon_time),
         'result', o.value,
         'resultQuality', case o.quality when 1 then 'good' when 2 then 'not evaluated' when 3 then 'suspect' when 4 then 'fail' else 'missing' end,
         'parameters', jsonb_build_object('quality', o.quality, 'qualityTests', o.quality_tests, 'receivedAt', store.rfc3339(o.received_at)),
         'Datastream', jsonb_build_object(
           '@iot.id', d.datastream_id,
           'name', concat_ws(' ', c.name, d.device, nullif(d.channel, ''), p.key),
           'description', 'observed property ' || p.key || ' of device ' || d.device,
           'observationType', 'http://www.opengis.net/def/observationType/OGC-OM/2.0/OM_Measurement',
           'unitOfMeasurement', jsonb_build_object('name', p.unit, 'symbol', p.unit, 'definition', 'http://unitsofmeasure.org/ucum.html#' || p.unit),
           'properties', d.parameters)) as observation
  from store.observation o
  join store.datastream d using (datastream_id)
  join store.city c using (city_id)
  join store.property p using (property_id);
comment on view hanse.sensorthings_observations is 'each reading as an Observation of OGC SensorThings 1.1, its Datastream inside';

-- NGSI-LD ----------------------------------------------------------------------------------------------------------------

-- From the vocabulary, which a test compares; bounds are the published schemas', in the model's unit.
create table store.smart_data_model (
  property   text primary key,
  type       text,
  attribute  text,
  factor     float8,
  unit_code  text,
  minimum    float8,
  maximum    float8,
  reason     text
);
comment on column store.smart_data_model.unit_code is 'UN/CEFACT common code of the attribute''s number: the canonical value times factor';
comment on column store.smart_data_model.reason is 'why the property is not expressed; null: it is';
insert into store.smart_data_model (property, type, attribute, factor, unit_code, minimum, maximum, reason) values
  ('air_temperature', 'WeatherObserved', 'temperature', 1, 'CEL', null, null, null),
  ('dew_point_temperature', 'WeatherObserved', 'dewPoint', 1, 'CEL', null, null, null),
  ('relative_humidity', 'WeatherObserved', 'relativeHumidity', 0.01, 'C62', 0, 1, null),
  ('air_pressure', 'WeatherObserved', 'atmosphericPressure', 1, 'A97', 0, null, null),
  ('air_pressure_sea_level', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('wind_speed', 'WeatherObserved', 'windSpeed', 1, 'MTS', 0, null, null),
  ('wind_speed_gust', 'WeatherObserved', 'gustSpeed', 1, 'MTS', null, null, null),
  ('wind_direction', 'WeatherObserved', 'windDirection', 1, 'DD', 0, 360, null),
  ('precipitation', 'WeatherObserved', 'precipitation', 1, 'MMT', 0, null, null),
  ('precipitation_rate', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('precipitation_total', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('snow_depth', 'WeatherObserved', 'snowHeight', 1, 'CMT', 0, null, null),
  ('solar_irradiance', 'WeatherObserved', 'solarRadiation', 1, 'D54', 0, null, null),
  ('illuminance', 'WeatherObserved', 'illuminance', 1, 'LUX', 0, null, null),
  ('uv_index', 'WeatherObserved', 'uVIndexMax', 1, 'C62', 1, null, null),
  ('lightning_strike_count', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('visibility', 'WeatherObserved', 'visibility', 1, 'MTR', 0, null, null),
  ('cloud_cover', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('sunshine_duration', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('ambient_dose_rate', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('pm1', 'AirQualityObserved', 'pm1', 1, 'GQ', null, null, null),
  ('pm2_5', 'AirQualityObserved', 'pm25', 1, 'GQ', 0, null, null),
  ('pm10', 'AirQualityObserved', 'pm10', 1, 'GQ', 0, null, null),
  ('no2', 'AirQualityObserved', 'no2', 1, 'GQ', 0, null, null),
  ('no', 'AirQualityObserved', 'no', 1, 'GQ', 0, null, null),
  ('o3', 'AirQualityObserved', 'o3', 1, 'GQ', 0, null, null),
  ('so2', 'AirQualityObserved', 'so2', 1, 'GQ', 0, null, null),
  ('co', 'AirQualityObserved', 'co', 1000, 'GQ', 0, null, null),
  ('tvoc', 'AirQualityObserved', 'volatileOrganicCompoundsTotal', 1, 'GQ', 0, null, null),
  ('co2', 'AirQualityObserved', 'co2', 1, '59', 0, null, null),
  ('air_quality_index', 'AirQualityObserved', 'airQualityIndex', 1, 'C62', null, null, 'the published model wants a whole number, and no scheme'),
  ('pm4', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('nox', 'AirQualityObserved', 'nox', 1, 'GQ', 0, null, null),
  ('nh3', 'AirQualityObserved', 'nh3', 1, 'GQ', null, null, 'the published model has no attribute for it'),
  ('h2s', 'AirQualityObserved', 'h2s', 1, 'GQ', null, null, 'the published model calls it sh2, without a unit'),
  ('benzene', 'AirQualityObserved', 'c6h6', 1, 'GQ', 0, null, null),
  ('water_level', 'WaterObserved', 'waterLevel', 1, 'MTR', null, null, 'its model is not checked against a published schema yet'),
  ('water_level_nhn', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('water_distance', 'FloodMonitoring', 'measuredDistance', 1, 'MTR', null, null, 'its model is not checked against a published schema yet'),
  ('water_temperature', 'WaterQualityObserved', 'temperature', 1, 'CEL', null, null, 'its model is not checked against a published schema yet'),
  ('water_flow_rate', 'WaterObserved', 'flow', 1, 'MQS', null, null, 'its model is not checked against a published schema yet'),
  ('water_flow_speed', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('water_salinity', 'SeaConditions', 'salinity', 1, 'GK', null, null, 'its model is not checked against a published schema yet'),
  ('water_conductivity', 'WaterQualityObserved', 'conductivity', 0.1, 'D10', null, null, 'its model is not checked against a published schema yet'),
  ('water_ph', 'WaterQualityObserved', 'pH', 1, 'Q30', null, null, 'its model is not checked against a published schema yet'),
  ('water_dissolved_oxygen', 'WaterQualityObserved', 'O2', 1, 'M1', null, null, 'its model is not checked against a published schema yet'),
  ('water_turbidity', 'WaterQualityObserved', 'turbidity', 1, null, null, null, 'its model is not checked against a published schema yet'),
  ('wave_height_significant', 'SeaConditions', 'waveHeight', 1, 'MTR', null, null, 'its model is not checked against a published schema yet'),
  ('groundwater_level', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('bridge_clearance', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('water_pressure', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('wave_period', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('electric_energy_import', 'ThreePhaseAcMeasurement', 'totalActiveEnergyImport', 1, 'KWH', null, null, 'its model is not checked against a published schema yet'),
  ('electric_energy_export', 'ThreePhaseAcMeasurement', 'totalActiveEnergyExport', 1, 'KWH', null, null, 'its model is not checked against a published schema yet'),
  ('electric_active_power', 'ThreePhaseAcMeasurement', 'totalActivePower', 1, 'WTT', null, null, 'its model is not checked against a published schema yet'),
  ('electric_reactive_power', 'ThreePhaseAcMeasurement', 'totalReactivePower', 1, 'D44', null, null, 'its model is not checked against a published schema yet'),
  ('electric_apparent_power', 'ThreePhaseAcMeasurement', 'totalApparentPower', 1, 'D46', null, null, 'its model is not checked against a published schema yet'),
  ('electric_power_factor', 'ThreePhaseAcMeasurement', 'totalPowerFactor', 1, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('electric_voltage', 'ThreePhaseAcMeasurement', 'phaseVoltage', 1, 'VLT', null, null, 'its model is not checked against a published schema yet'),
  ('electric_current', 'ThreePhaseAcMeasurement', 'current', 1, 'AMP', null, null, 'its model is not checked against a published schema yet'),
  ('electric_frequency', 'ThreePhaseAcMeasurement', 'frequency', 1, 'HTZ', null, null, 'its model is not checked against a published schema yet'),
  ('pv_power', 'PhotovoltaicMeasurement', 'activePower', 0.001, 'KWT', null, null, 'its model is not checked against a published schema yet'),
  ('pv_energy_total', 'SolarEnergy', 'totalEnergyGenerated', 1, 'KWH', null, null, 'its model is not checked against a published schema yet'),
  ('heat_energy_total', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('heat_flow_temperature', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('heat_return_temperature', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('gas_volume_total', 'SmartMeteringObservation', 'totalConsumption', 1, 'MTQ', null, null, 'its model is not checked against a published schema yet'),
  ('water_volume_total', 'SmartMeteringObservation', 'totalConsumption', 1, 'MTQ', null, null, 'its model is not checked against a published schema yet'),
  ('ev_charge_points_available', 'EVChargingStation', 'availableCapacity', 1, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('heat_power', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('heat_flow_rate', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('heat_volume_total', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('ev_charging_power', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('ev_charging_energy_total', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('battery_state_of_charge', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('vehicle_count', 'TrafficFlowObserved', 'intensity', 1, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('vehicle_speed_mean', 'TrafficFlowObserved', 'averageVehicleSpeed', 1, 'KMH', null, null, 'its model is not checked against a published schema yet'),
  ('lane_occupancy', 'TrafficFlowObserved', 'occupancy', 0.01, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('bicycle_count', 'ItemFlowObserved', 'intensity', 1, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('pedestrian_count', 'CrowdFlowObserved', 'peopleCount', 1, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('road_surface_temperature', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('travel_time', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('parking_spot_occupied', 'ParkingSpot', 'status', null, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('parking_spots_free', 'OffStreetParking', 'availableSpotNumber', 1, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('parking_spots_total', 'OffStreetParking', 'totalSpotNumber', 1, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('parking_occupancy', 'OffStreetParking', 'occupancy', 0.01, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('noise_laeq', 'NoiseLevelObserved', 'LAeq', 1, '2N', null, null, null),
  ('noise_lamax', 'NoiseLevelObserved', 'LAmax', 1, '2N', null, null, null),
  ('noise_la10', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('noise_la90', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('waste_temperature', 'WasteContainer', 'temperature', 1, 'CEL', null, null, 'its model is not checked against a published schema yet'),
  ('waste_fill_level', 'WasteContainer', 'fillingLevel', 0.01, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('lamp_dim_level', 'Streetlight', 'illuminanceLevel', 0.01, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('lamp_on', 'Streetlight', 'powerState', null, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('soil_moisture', 'AgriParcelRecord', 'soilMoistureVwc', 0.01, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('soil_temperature', 'AgriParcelRecord', 'soilTemperature', 1, 'CEL', null, null, 'its model is not checked against a published schema yet'),
  ('soil_conductivity', 'AgriParcelRecord', 'soilMoistureEc', 0.1, 'D10', null, null, 'its model is not checked against a published schema yet'),
  ('soil_water_tension', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('soil_ph', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('soil_nitrogen', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('soil_phosphorus', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('soil_potassium', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('indoor_temperature', 'IndoorEnvironmentObserved', 'temperature', 1, 'CEL', null, null, 'its model is not checked against a published schema yet'),
  ('indoor_relative_humidity', 'IndoorEnvironmentObserved', 'relativeHumidity', 0.01, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('presence_detected', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('people_count', 'IndoorEnvironmentObserved', 'peopleCount', 1, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('contact_open', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('water_leak', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('device_battery_level', 'Device', 'batteryLevel', 0.01, 'C62', null, null, 'its model is not checked against a published schema yet'),
  ('device_battery_voltage', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('device_temperature', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('device_rssi', 'Device', 'rssi', 1, 'DBM', null, null, 'its model is not checked against a published schema yet'),
  ('device_snr', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it'),
  ('switch_on', null, null, null, null, null, null, 'no Smart Data Model has an attribute for it');

-- RFC 3986: what is not unreserved travels as its UTF-8 bytes in percent signs.
create function store.uri_part(plain text) returns text language sql immutable as $$
  select coalesce(string_agg(case when c ~ '[A-Za-z0-9._-]' then c
           else regexp_replace(upper(encode(convert_to(c, 'UTF8'), 'hex')), '(..)', '%\1', 'g') end, '' order by n), '')
    from regexp_split_to_table(plain, '') with ordinality as s (c, n)
$$;

-- Each datastream's newest reading that is flagged 1 or 2, as the attribute that it would be, or why it can't be.
create view store.ngsi_ld_part as
select c.key as city, p.key as property, d.device, d.channel, d.datastream_id, d.latitude, d.longitude, o.phenomenon_time, o.value,
       m.type, m.attribute, m.unit_code, (o.value * m.factor)::numeric as number, store.number_of(d.parameters, 'interval_s') as interval_s,
       case when m.property is null then 'the vocabulary names no Smart Data Model for it'
            when m.reason is not null then m.reason
            when d.latitude is null or d.longitude is null then 'the model requires a location, and the datastream has none'
            when m.type = 'NoiseLevelObserved' and store.number_of(d.parameters, 'interval_s') is null
              then 'the model requires the interval measured, and parameters.interval_s is not known'
            when o.value * m.factor < m.minimum then format('%s is below the model''s minimum %s', (o.value * m.factor)::numeric, m.minimum)
            when o.value * m.factor > m.maximum then format('%s is above the model''s maximum %s', (o.value * m.factor)::numeric, m.maximum)
            end as reason
  from store.datastream d
  join store.city c using (city_id)
  join store.property p using (property_id)
  left join store.smart_data_model m on m.property = p.key
 cross join lateral (
   select l.phenomenon_time, l.value from store.observation l
    where l.datastream_id = d.datastream_id and l.quality in (1, 2) order by l.phenomenon_time desc limit 1) o;

create view hanse.ngsi_ld_unexpressed as
select city, property, device, channel, phenomenon_time, value, type, reason, datastream_id from store.ngsi_ld_part where reason is not null;
comment on view hanse.ngsi_ld_unexpressed is 'newest readings that hanse.ngsi_ld_entities leaves out, and why: nothing is clipped to fit';

create view hanse.ngsi_ld_entities as
select e.city, e.device, e.channel, e.type, e.observed_at,
       jsonb_build_object('id', e.id, 'type', e.type,
         '@context', jsonb_build_array('https://raw.githubusercontent.com/smart-data-models/' || case e.type when 'WeatherObserved' then 'dataModel.Weather'
             else 'dataModel.Environment' end || '/master/context.jsonld', 'https://uri.etsi.org/ngsi-ld/v1/ngsi-ld-core-context.jsonld'),
         'location', jsonb_build_object('type', 'GeoProperty', 'value', e.point)) || e.normalized || times.normalized as entity,
       jsonb_build_object('id', e.id, 'type', e.type, 'location', e.point) || e.plain || times.plain as key_values
  from (
    select city, device, channel, type, max(phenomenon_time) as observed_at, max(interval_s) as interval_s,
           'urn:ngsi-ld:' || type || ':' || city || ':' || store.uri_part(device) || case when channel <> '' then ':' || store.uri_part(channel) else '' end as id,
           jsonb_build_object('type', 'Point', 'coordinates', jsonb_build_array(min(longitude), min(latitude))) as point,
           jsonb_object_agg(attribute, jsonb_strip_nulls(jsonb_build_object('type', 'Property', 'value', number, 'unitCode', unit_code,
             'observedAt', store.rfc3339(phenomenon_time)))) as normalized,
           jsonb_object_agg(attribute, number) as plain
      from store.ngsi_ld_part
     where reason is null
     group by city, device, channel, type) e
 cross join lateral (
   select jsonb_object_agg(t.key, t.at) as plain,
          jsonb_object_agg(t.key, jsonb_build_object('type', 'Property', 'value', jsonb_build_object('@type', 'DateTime', '@value', t.at))) as normalized
     from (values ('dateObserved', store.rfc3339(e.observed_at)),
                  ('dateObservedFrom', store.rfc3339(e.observed_at - make_interval(secs => e.interval_s))),
                  ('dateObservedTo', store.rfc3339(e.observed_at))) as t (key, at)
    where (t.key = 'dateObserved') = (e.type <> 'NoiseLevelObserved')) times;
comment on view hanse.ngsi_ld_entities is 'newest good readings of each device as an entity of its Smart Data Model: normalized and as key-values';
