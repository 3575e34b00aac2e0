-- oldest-code: 1
-- statement by statement
-- Dead letters by MQTT topic, with ten million of them: topics in the order of their bytes, so that a filter's level can be
-- skipped through (storage/topics.py), and messages in the order of their receipt. Built beside running writers, who wait
-- for nothing; building waits for transactions that began before it. An index that an earlier attempt left half built is
-- dropped first.

set lock_timeout = '60s';

drop index concurrently if exists store.dead_message_bytes;

create index concurrently dead_message_bytes
    on store.dead_message ((left(mqtt_topic, 200)) collate "C", received_at);

drop index concurrently if exists store.dead_message_received;

create index concurrently dead_message_received on store.dead_message (received_at);

-- Older code finds the same without it, more slowly.
drop index concurrently if exists store.dead_message_topic;

set lock_timeout = '500ms';
