-- oldest-code: 1
-- statement by statement
-- Dead letters by MQTT topic, with ten million of them: topics in the order of their bytes, so that a filter's level can be
-- skipped through (storage/topics.py), and messages in the order of their receipt. While an index is built, batches with
-- dead letters wait and are tried again: no time with thousands of messages, a minute with millions. Not concurrently:
-- that would wait for a second migrator, which waits for this one.

create index if not exists dead_message_bytes on store.dead_message ((left(mqtt_topic, 200)) collate "C", received_at);

create index if not exists dead_message_received on store.dead_message (received_at);

-- Older code finds the same without it, more slowly.
drop index if exists store.dead_message_topic;
