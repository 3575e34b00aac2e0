"""One city's connection to its broker: QoS 1, every PUBACK accounted. The only MQTT here, and not the pipeline's.

paho's own thread does the network; everything else happens in the caller's.
"""

import ssl
from collections import deque
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from simulator.cities import Place
from simulator.expectation import Publication

MOST_UNACKNOWLEDGED = 2_000  # far below paho's 65,535 message ids
KEEPALIVE_SECONDS = 30


class PublisherError(RuntimeError):
    """A message that can't be handed to the client at all."""


class Publisher:
    """Publishes and remembers which sequence numbers the broker still owes a PUBACK for."""

    def __init__(self, place: Place) -> None:
        broker = place.broker
        self.address = f"{broker.host}:{broker.port}"
        self.trouble = "no answer"
        self.refused = False
        self.pending: dict[int, int] = {}  # message id -> sequence
        self._acknowledged: deque[int] = deque()  # ids, appended by paho's thread
        self._client = client = Client(CallbackAPIVersion.VERSION2, client_id=f"simulator-{place.site.key}")
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls:
            client.tls_set_context(ssl.create_default_context(cafile=broker.ca_file))
        client.max_inflight_messages_set(1_000)
        client.reconnect_delay_set(min_delay=1, max_delay=4)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_publish = self._on_publish
        client.connect_async(broker.host, broker.port, KEEPALIVE_SECONDS)
        client.loop_start()

    @property
    def connected(self) -> bool:
        """Whether the broker accepted the connection."""
        return self._client.is_connected()

    @property
    def has_room(self) -> bool:
        """Whether another message may go out before the broker answers for the earlier ones."""
        return len(self.pending) < MOST_UNACKNOWLEDGED

    def publish(self, sequence: int, publication: Publication) -> None:
        """Hand a message to the client; it goes out again after a reconnect until the broker acknowledged it."""
        info = self._client.publish(publication.topic, publication.payload, qos=1, retain=publication.retain)
        if info.rc not in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN}:
            raise PublisherError(f"{self.address}: message {sequence} not taken: {info.rc}")
        self.pending[info.mid] = sequence

    def collect(self) -> int:
        """Strike off what was acknowledged since the last call; returns how many."""
        count = len(self._acknowledged)
        for _ in range(count):
            del self.pending[self._acknowledged.popleft()]
        return count

    def close(self) -> None:
        """Disconnect and end the network thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, _client: Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.refused = reason.is_failure
        self.trouble = f"refused: {reason}" if self.refused else ""

    def _on_connect_fail(self, _client: Client, _userdata: Any) -> None:
        self.trouble = "can't be reached"

    def _on_publish(self, _client: Client, _userdata: Any, mid: int, _reason: Any, _properties: Any) -> None:
        # Called while paho holds its own lock: no lock here, and `publish` above always registered the id before
        # `collect` looks, because both run in the caller's thread.
        self._acknowledged.append(mid)
