-- oldest-code: 1
-- What the tests over time compare with, where the rows alone do not say it.

create table store.series_state (
  datastream_id  int4 primary key,
  last_time      timestamptz not null,
  last_value     float8 not null,
  good_time      timestamptz,
  good_value     float8,
  since          timestamptz not null,
  check ((good_time is null) = (good_value is null))
) with (fillfactor = 70);
comment on table store.series_state is 'newest witness of a datastream, written in a batch''s transaction only where late, repeated or replayed readings make it another than its rows say; newer rows follow from it';
comment on column store.series_state.good_time is 'of the newest witness that was neither a spike nor too fast a change';
comment on column store.series_state.since is 'when the value last changed';
