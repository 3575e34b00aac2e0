-- oldest-code: 1
-- Values far below zero no longer stop the summing up of hours.

-- The sum of 10^(value/10), which levels alone have a use for, is formed for every property: an aggregate in a case is
-- computed whatever the case says. 10^(-308) and less are beyond float8, so a power of -3.1 kW was enough. No level is so
-- low, as none is so high as the 300 that bounds it above. Text in the place of text, so that nothing else changes.
do $do$
begin
  execute replace(pg_get_functiondef('store.hours_of'::regproc), 'least(v, 300)', 'greatest(least(v, 300), -300)');
  execute 'create or replace view store.hour_values as '
    || regexp_replace(pg_get_viewdef('store.hour_values'::regclass),
                      'LEAST\((\w+\.v), \(300\)::double precision\)',
                      'GREATEST(LEAST(\1, (300)::double precision), (-300)::double precision)', 'g');
end $do$;
