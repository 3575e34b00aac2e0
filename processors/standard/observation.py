"""The values that flow through the middle: a reading as a network sent it, and why one was refused or left out.

Bad data is a value here (`Rejection`), never an exception. Nothing in this module knows Kafka, MQTT or SQL.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum, IntFlag, StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from processors.standard.zones import BERLIN, Zones


class Reason(StrEnum):
    """Why something became a dead letter: a closed list, a label in metrics, a column in SQL."""

    # of a message
    EMPTY_PAYLOAD = "empty_payload"
    NOT_UTF8 = "not_utf8"
    INVALID_JSON = "invalid_json"
    NOT_AN_OBJECT = "not_an_object"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    TOO_MANY_READINGS = "too_many_readings"
    MALFORMED = "malformed"
    NO_DEVICE = "no_device"
    DEVICE_TOO_LONG = "device_too_long"
    NO_ROUTE = "no_route"
    UNKNOWN_STATE = "unknown_state"
    # of a reading
    NOT_FINITE = "not_finite"
    NOT_A_NUMBER = "not_a_number"
    INVALID_TEXT = "invalid_text"
    UNMAPPED_PROPERTY = "unmapped_property"
    UNKNOWN_UNIT = "unknown_unit"
    WRONG_DIMENSION = "wrong_dimension"
    NAIVE_TIME = "naive_time"
    INVALID_TIME = "invalid_time"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    BEFORE_RETENTION = "before_retention"
    CONFLICTING_VALUE = "conflicting_value"
    DATASTREAM_QUOTA = "datastream_quota"
    UNKNOWN_ALIAS = "unknown_alias"
    REJECTED_BY_DATABASE = "rejected_by_database"
    # of either
    INTERNAL_ERROR = "internal_error"


class Quality(IntEnum):
    """QARTOD flags. `value` is null with MISSING and only then."""

    GOOD = 1
    NOT_EVALUATED = 2
    SUSPECT = 3
    FAIL = 4
    MISSING = 9


class QualityTest(IntFlag):
    """Which tests fired: the public bit mask `quality_tests`."""

    GROSS_RANGE = 1 << 0
    STATION_RANGE = 1 << 1
    GATEWAY_TIME = 1 << 2
    SOURCE_FLAGGED = 1 << 3
    SPIKE = 1 << 4
    RATE_OF_CHANGE = 1 << 5
    FLAT_LINE = 1 << 6
    UNIT_IMPLIED = 1 << 7
    VALUE_CLIPPED = 1 << 8
    LOCAL_TIME_AMBIGUOUS = 1 << 9


class Message(NamedTuple):
    """What a dialect decodes. `received_us`: receive time at the gateway, microseconds since the epoch, the only clock.

    `retain`: a copy the broker kept, sent because of a subscription (rule 12). `zones`: of clocks without.
    `options`: the route's, as written in the city file. `replayed`: a dead letter's message once more; `received_us`
    is then its original receive time. `max_readings` bounds a pack, `max_keys` the different keys in it.
    """

    topic: str
    payload: bytes
    received_us: int
    retain: bool = False
    zones: Zones = BERLIN
    max_readings: int = 10_000
    options: Mapping[str, Any] = MappingProxyType({})
    replayed: bool = False
    max_keys: int = 1_000


class Reading(NamedTuple):
    """One leaf under a dialect's measurement object, before it has a meaning.

    `key` is the leaf's path in the payload or topic, the same for every message of a device. `value` is a finite float,
    or None for a declared missing value (quality 9). `unit` is the spelling that came, None where the network leaves it
    open. `time` is the phenomenon time in microseconds since the epoch, None where the payload has none.
    `property` names the observed property where the dialect itself fixes the key's meaning (with `unit` then in the
    dialect's fixed unit); None leaves it to the mapping. `quality`: the source's own flag, 0 for none. `tests`:
    QualityTest bits that the dialect already knows to be set. `model`: what the network says of the device's model,
    "brand/model" or the name of its profile, for the device profiles to match. `raw`: the value as it came, where it
    was no JSON number ("45%", true); None: `value` says it.
    """

    device: str
    channel: str
    key: str
    value: float | None
    unit: str | None
    time: int | None
    property: str | None = None
    quality: int = 0
    tests: int = 0
    model: str = ""
    raw: str | bool | None = None


class Rejection(NamedTuple):
    """A refused reading, or with no key a refused message. `detail` says what a person needs to cure it."""

    reason: Reason
    detail: str
    device: str | None = None
    channel: str | None = None
    key: str | None = None
    value: str | None = None  # the raw value as text
    unit: str | None = None
    time: int | None = None
    model: str = ""  # as a reading's: a text that only a profile can read comes as `unmapped_property`


class Ignored(NamedTuple):
    """A leaf, or a message, that is known to be no observation. `why` is one of a few words, a label in metrics."""

    why: str


Leaf = Reading | Rejection | Ignored
# A message's leaves in their order (the place in the list is the reading's index), or one verdict on the whole message.
Decoded = Sequence[Leaf] | Rejection | Ignored
