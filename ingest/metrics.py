"""Every metric of the gateway; the help text says what a rise means. Counted per batch, never per message.

Counters of a city exist from the start, at 0, so that the first event is a rise. A gauge whose value is not known yet
is NaN, which no comparison takes for a fault. docs/metrics.md is made from this.
"""

from prometheus_client import Counter, Gauge, Histogram

_CITY = ("city",)
DISCONNECTS = ("lost", "keepalive", "malformed")
REFUSALS = ("max_payload_bytes", "kafka")
_PRODUCE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30)

RECEIVED = Counter(
    "hanse_gateway_messages_received_total",
    "MQTT messages received. Runs in step with forwarded; ahead of it for long: Kafka is slow or away.",
    _CITY,
)
FORWARDED = Counter("hanse_gateway_messages_forwarded_total", "Messages that Kafka has, fully replicated.", _CITY)
ACKNOWLEDGED = Counter(
    "hanse_gateway_messages_acknowledged_total",
    "PUBACKs sent, each after Kafka had the message. Below forwarded by the QoS 0 messages, which are owed none, and "
    "by what was kept on a connection that was lost.",
    _CITY,
)
IN_FLIGHT = Gauge(
    "hanse_gateway_messages_in_flight",
    "Messages received and not yet in Kafka. A rise: Kafka does not keep up.",
    _CITY,
)
IN_FLIGHT_LIMIT = Gauge(
    "hanse_gateway_messages_in_flight_limit",
    "Bound of messages in flight; at it reading pauses, and QoS 0 messages may be dropped.",
    _CITY,
)
IN_FLIGHT_BYTES = Gauge("hanse_gateway_in_flight_bytes", "Bytes received and not yet in Kafka.", _CITY)
IN_FLIGHT_BYTES_LIMIT = Gauge(
    "hanse_gateway_in_flight_limit_bytes",
    "Bound of bytes in flight; see hanse_gateway_messages_in_flight_limit.",
    _CITY,
)
CONNECTED = Gauge(
    "hanse_gateway_connected", "1 while connected and subscribed to the city's MQTT broker, else 0.", _CITY
)
KAFKA_CONNECTED = Gauge(
    "hanse_gateway_kafka_connected", "1 while Kafka answers and takes this city's writes, else 0.", _CITY
)
SILENT = Gauge(
    "hanse_gateway_silent",
    "1 while connected without a message for limits.silent_after, else 0. A missing right to read looks the same: the "
    "broker grants every subscription and filters at delivery.",
    _CITY,
)
SILENT_AFTER = Gauge("hanse_gateway_silent_after_seconds", "The city file's limits.silent_after.", _CITY)
LAST_MESSAGE = Gauge(
    "hanse_gateway_last_message_timestamp_seconds",
    "When the last message came, Unix time; NaN before the first.",
    _CITY,
)
SESSIONS_LOST = Counter(
    "hanse_gateway_sessions_lost_total",
    "Connections for which the broker had no session though there was one. Any rise is a possible loss: what was "
    "published meanwhile was not queued for us.",
    _CITY,
)
BROKER_DROPPED = Counter(
    "hanse_gateway_broker_messages_dropped_total",
    "Messages the city's broker dropped, for whatever client, since the broker started, as it tells under $SYS. A "
    "rise is a loss before the gateway: a queue limit was reached. Absent where the broker does not tell.",
    _CITY,
)
RECONNECTS = Counter(
    "hanse_gateway_reconnects_total",
    "MQTT connections lost, by reason. A steady rise: an unstable network, or two gateways with one client id that "
    "throw each other out.",
    ("city", "reason"),
)
REFUSED = Counter(
    "hanse_gateway_messages_refused_total",
    "Payloads forwarded as a stub, by reason; each becomes a dead letter. A rise: a publisher sends what can't be "
    "taken.",
    ("city", "reason"),
)
DROPPED = Counter(
    "hanse_gateway_messages_dropped_total",
    "QoS 0 messages dropped because the in-flight bounds were full while Kafka was away. A loss of what was never "
    "promised: their publishers should use QoS 1.",
    _CITY,
)
REBUILDS = Counter(
    "hanse_gateway_producer_rebuilds_total",
    "Kafka producers replaced. A rise: Kafka refused writes or stood still; the log says why.",
    _CITY,
)
CLOCK_SKEW = Gauge(
    "hanse_gateway_clock_skew_seconds",
    "The gateway's clock minus Kafka's; NaN while not known. Beyond 60 s either way the gateway is not ready, for "
    "receive times would be wrong.",
    _CITY,
)
PRODUCE = Histogram(
    "hanse_gateway_produce_seconds",
    "From handing a batch to the producer until Kafka acknowledged it. A rise: Kafka or its disks are slow.",
    _CITY,
    buckets=_PRODUCE_BUCKETS,
)


class CityMetrics:
    """The gateway's metrics with their city filled in once."""

    def __init__(self, city: str) -> None:
        self.received = RECEIVED.labels(city)
        self.forwarded = FORWARDED.labels(city)
        self.acknowledged = ACKNOWLEDGED.labels(city)
        self.in_flight = IN_FLIGHT.labels(city)
        self.in_flight_limit = IN_FLIGHT_LIMIT.labels(city)
        self.in_flight_bytes = IN_FLIGHT_BYTES.labels(city)
        self.in_flight_bytes_limit = IN_FLIGHT_BYTES_LIMIT.labels(city)
        self.connected = CONNECTED.labels(city)
        self.kafka_connected = KAFKA_CONNECTED.labels(city)
        self.silent = SILENT.labels(city)
        self.silent_after = SILENT_AFTER.labels(city)
        self.last_message = LAST_MESSAGE.labels(city)
        self.last_message.set(float("nan"))
        self.sessions_lost = SESSIONS_LOST.labels(city)
        self.reconnects = {reason: RECONNECTS.labels(city, reason) for reason in DISCONNECTS}
        self.refused = {reason: REFUSED.labels(city, reason) for reason in REFUSALS}
        self.dropped = DROPPED.labels(city)
        self.rebuilds = REBUILDS.labels(city)
        self.clock_skew = CLOCK_SKEW.labels(city)
        self.clock_skew.set(float("nan"))
        self.produce = PRODUCE.labels(city)
        self._city = city
        self._broker_dropped: float | None = None  # what the broker said last

    def broker_dropped(self, total: float) -> None:
        """The broker's own count; it starts at 0 again with the broker.

        The series begins with the broker's count, not at 0: else every start of the gateway would look like a rise.
        """
        before = self._broker_dropped
        BROKER_DROPPED.labels(self._city).inc(total if before is None or total < before else total - before)
        self._broker_dropped = total
