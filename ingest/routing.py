"""Where a message goes: key, partition and headers of its Kafka record, found once per MQTT topic and remembered.

A topic is its own key unless the city file's route names the levels that order a source's messages; then the topic
travels in a header. What a message means is the processors' business. Pure.
"""

from collections.abc import Callable
from functools import lru_cache

from ingest import wire
from ingest.city import City, Route

REMEMBERED_TOPICS = 65_536

Headers = list[tuple[str, bytes]]


class HeadersByFlags(dict[int, Headers]):
    """Headers per flags (QoS, retain, dup), made on first use and shared by all records that need the same."""

    def __init__(self, gateway: str, topic: str | None = None) -> None:
        super().__init__()
        self._gateway = gateway
        self._topic = topic

    def __missing__(self, flags: int) -> Headers:
        made = self[flags] = wire.headers(
            self._gateway, qos=flags & 3, retain=bool(flags & 4), dup=bool(flags & 8), topic=self._topic
        )
        return made


class Target:
    """Where the messages of one MQTT topic go."""

    __slots__ = ("headers", "key", "partition")

    def __init__(self, key: bytes, partition: int, headers: HeadersByFlags) -> None:
        self.key = key
        self.partition = partition
        self.headers = headers


def matches(topic_filter: str, topic: str) -> bool:
    """MQTT 3.1.1, 4.7: whether a topic filter takes a topic."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in {"+", levels[index]}:
            return False
    return len(wanted) == len(levels)


def ordering_key(routes: tuple[Route, ...], topic: str) -> str:
    """The topic, or the levels of it that the first matching route names (those that it has), joined by '/'."""
    for route in routes:
        if matches(route.filter, topic):
            if route.key_levels is None:
                return topic
            levels = topic.split("/")
            return "/".join(levels[index] for index in route.key_levels if index < len(levels))
    return topic


def targets(city: City, gateway: str, partition_of: Callable[[bytes], int]) -> Callable[[bytes], Target]:
    """A function from MQTT topic to target that remembers the topics used last."""
    shared = HeadersByFlags(gateway)

    @lru_cache(maxsize=REMEMBERED_TOPICS)
    def target(raw: bytes) -> Target:
        topic = raw.decode("utf-8", "backslashreplace")
        key = ordering_key(city.route, topic)
        headers = shared if key == topic else HeadersByFlags(gateway, topic)
        encoded = key.encode()
        return Target(encoded, partition_of(encoded), headers)

    return target
