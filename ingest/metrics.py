"""Every metric of the gateway, with what a rise means. Counted per batch, never per message."""

from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram

_CITY = ("city",)

# Should run in step with forwarded; received above forwarded for long: Kafka is slow or away (see in_flight).
RECEIVED = Counter("hanse_gateway_messages_received", "MQTT messages received.", _CITY)
FORWARDED = Counter("hanse_gateway_messages_forwarded", "Messages that Kafka acknowledged.", _CITY)
# Below forwarded by the QoS 0 messages, which are owed none, and by what was kept on a connection that was lost.
ACKNOWLEDGED = Counter("hanse_gateway_messages_acknowledged", "PUBACKs sent, each after Kafka had the message.", _CITY)
# A rise: Kafka does not keep up. At the bound, reading pauses and QoS 0 messages may be dropped.
IN_FLIGHT = Gauge("hanse_gateway_messages_in_flight", "Messages received and not yet in Kafka.", _CITY)
IN_FLIGHT_BYTES = Gauge("hanse_gateway_in_flight_bytes", "Payload bytes received and not yet in Kafka.", _CITY)
CONNECTED = Gauge("hanse_gateway_connected", "1 while connected to the city's MQTT broker.", _CITY)
KAFKA_CONNECTED = Gauge("hanse_gateway_kafka_connected", "1 while Kafka answers and takes this city's writes.", _CITY)
# 1: connected, but nothing came for limits.silent_after. A wrong right (ACL) looks exactly so: the broker grants every
# subscription and filters at delivery.
SILENT = Gauge("hanse_gateway_silent", "1 while connected without a message for limits.silent_after.", _CITY)
LAST_MESSAGE = Gauge("hanse_gateway_last_message_timestamp_seconds", "When the last message came, Unix time.", _CITY)
# Any rise is a possible loss: the broker had forgotten the session, and what came meanwhile was not queued for us.
SESSIONS_LOST = Counter("hanse_gateway_sessions_lost", "Connections that found no session though there was one.", _CITY)
# A steady rise: unstable network, or two gateways with the same client id throwing each other out.
RECONNECTS = Counter("hanse_gateway_reconnects", "MQTT connections lost, by reason.", ("city", "reason"))
# Each becomes a dead letter; a rise means a publisher sends what can't be taken.
REFUSED = Counter("hanse_gateway_refused", "Payloads forwarded as a stub, by reason.", ("city", "reason"))
# A loss, of messages that were never promised: QoS 0, more than the bounds hold while Kafka is away.
DROPPED = Counter("hanse_gateway_qos0_dropped", "QoS 0 messages dropped because the in-flight bounds were full.", _CITY)
# A rise: Kafka refused writes or stood still; the log says why.
REBUILDS = Counter("hanse_gateway_producer_rebuilds", "Kafka producers replaced.", _CITY)
# Beyond ±60 s the gateway is not ready: receive times would be wrong. NaN: not known.
CLOCK_SKEW = Gauge("hanse_gateway_clock_skew_seconds", "The gateway's clock minus Kafka's.", _CITY)
PRODUCE = Histogram(
    "hanse_gateway_produce_seconds",
    "From handing a batch to the producer until Kafka acknowledged it.",
    _CITY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
)


class CityMetrics:
    """The gateway's metrics with their city filled in once; every name exists from the start, at 0."""

    def __init__(self, city: str) -> None:
        self.received = RECEIVED.labels(city)
        self.forwarded = FORWARDED.labels(city)
        self.acknowledged = ACKNOWLEDGED.labels(city)
        self.in_flight = IN_FLIGHT.labels(city)
        self.in_flight_bytes = IN_FLIGHT_BYTES.labels(city)
        self.connected = CONNECTED.labels(city)
        self.kafka_connected = KAFKA_CONNECTED.labels(city)
        self.silent = SILENT.labels(city)
        self.last_message = LAST_MESSAGE.labels(city)
        self.sessions_lost = SESSIONS_LOST.labels(city)
        self.reconnects = {reason: RECONNECTS.labels(city, reason) for reason in ("lost", "keepalive", "malformed")}
        self.refused = {reason: REFUSED.labels(city, reason) for reason in ("max_payload_bytes", "kafka")}
        self.dropped = DROPPED.labels(city)
        self.rebuilds = REBUILDS.labels(city)
        self.clock_skew = CLOCK_SKEW.labels(city)
        self.clock_skew.set(float("nan"))
        self.produce = PRODUCE.labels(city)


def announce(component: str) -> None:
    """Say which version runs; once a process, whose only component this is."""
    build = Gauge("hanse_build_info", "1; the labels say what runs.", ("version", "component"))
    build.labels(version("hanse-sensor-pipeline"), component).set(1)
