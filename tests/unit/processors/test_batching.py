"""Records in, columns and dead letters out. The dialect here is a stand-in: what it answers is the payload."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ingest import wire
from ingest.city import Device
from processors.assembling import split
from processors.batching import Intake
from processors.cursor import Bounds, Cursor, digest
from processors.standard.observation import Decoded, Ignored, Leaf, Message, QualityTest, Reading, Reason, Rejection
from storage.rows import Batch, TopicPartition
from tests.simulated.log import SimulatedRecord
from tests.simulated.notes import NOTES
from tests.simulated.world import RECEIVED_MS, city

FIRST = TopicPartition("hanse.raw.wismar", 0)
SECOND = TopicPartition("hanse.raw.wismar", 1)
NOW = RECEIVED_MS * 1000


def told(message: Message) -> Decoded:
    """The payload is a list of readings' keyword arguments, "bug" or "ignored"."""
    what = json.loads(message.payload)
    if what == "bug":
        raise ZeroDivisionError("a bug in the dialect")
    if what == "ignored":
        return Ignored("simulated")
    leaves: list[Leaf] = []
    for leaf in what:
        if "reason" in leaf:
            told_so = Rejection(Reason(leaf["reason"]), f"told so: {leaf.get('value')}", device="w1")
            leaves.append(told_so._replace(key=leaf.get("key"), value=leaf.get("value")))
        elif "why" in leaf:
            leaves.append(Ignored(leaf["why"]))
        else:
            leaves.append(Reading(**leaf))
    return leaves


DIALECTS = {"hanse": told, "notes": NOTES}


def reading(**changed: Any) -> dict[str, Any]:
    return {
        "device": "w1",
        "channel": "",
        "key": "air_temperature",
        "value": 20.0,
        "unit": "Cel",
        "time": NOW,
        "property": "air_temperature",
        **changed,
    }


def record(
    offset: int,
    what: Any,
    *,
    topic: str = "hanse/wismar/weather/w1",
    headers: Sequence[tuple[str, bytes]] | None = None,
) -> SimulatedRecord:
    made = wire.headers("gateway", qos=1, retain=False, dup=False) if headers is None else headers
    return SimulatedRecord(offset, RECEIVED_MS, topic.encode(), json.dumps(what).encode(), tuple(made))


def batch(*records: SimulatedRecord, partition: TopicPartition = FIRST, intake: Intake | None = None) -> Batch:
    intake = intake or Intake([city()], dialects=DIALECTS)
    cursor = Cursor(partition, None, Bounds(records[0].offset, 10_000))
    taken, _ = cursor.admit(records)
    intake.add(cursor, taken)
    return intake.take()


def test_a_reading_becomes_a_row_in_the_canonical_unit() -> None:
    made = batch(record(7, [reading(unit="°F", value=50.0)]))
    assert made.streams.streams[made.columns.stream[0]][:4] == ("wismar", "w1", "", "air_temperature")
    assert made.columns.value[0] == pytest.approx(10.0)
    assert (made.columns.offset[0], made.columns.reading[0], made.columns.received[0]) == (7, 0, NOW)
    assert (made.columns.quality[0], made.columns.quality_tests[0]) == (1, 0)


def test_a_value_outside_the_gross_range_is_kept_with_flag_4() -> None:
    made = batch(record(0, [reading(value=99.0)]))
    assert (made.columns.quality[0], made.columns.quality_tests[0]) == (4, QualityTest.GROSS_RANGE)


def test_a_reading_without_its_own_time_gets_one_that_is_the_same_in_every_replay() -> None:
    made = batch(record(12_345, [reading(time=None)]))
    assert made.columns.time[0] == NOW + 345
    assert made.columns.quality_tests[0] == QualityTest.GATEWAY_TIME


def test_a_missing_value_is_null_with_flag_9() -> None:
    made = batch(record(0, [reading(value=None, quality=9)]))
    assert np.isnan(made.columns.value[0])
    assert made.columns.quality[0] == 9


def test_north_is_one_direction() -> None:
    wind = {"key": "wind_direction", "property": "wind_direction", "unit": "deg"}
    made = batch(record(0, [reading(value=360.0, **wind), reading(value=359.0, **wind, time=NOW + 1)]))
    assert made.columns.value.tolist() == [0.0, 359.0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"property": None, "key": "t"}, Reason.UNMAPPED_PROPERTY),
        ({"property": "no_such"}, Reason.UNMAPPED_PROPERTY),
        ({"unit": None}, Reason.UNKNOWN_UNIT),
        ({"unit": "furlong/fortnight"}, Reason.UNKNOWN_UNIT),
        ({"unit": "hPa"}, Reason.WRONG_DIMENSION),
        ({"time": 0}, Reason.TIME_OUT_OF_RANGE),
        ({"time": NOW + 601_000_000}, Reason.TIME_OUT_OF_RANGE),
        ({"time": NOW - 31 * 86_400_000_000 - 1}, Reason.TIME_OUT_OF_RANGE),
        ({"property": "electric_active_power", "unit": "MW", "value": 1e305}, Reason.NOT_FINITE),
    ],
)
def test_what_cannot_be_mapped_is_one_dead_letter_and_its_neighbours_are_rows(
    change: dict[str, Any], reason: Reason
) -> None:
    made = batch(record(5, [reading(), reading(**change), reading(time=NOW - 1)]))
    assert [(letter.offset, letter.reading, letter.reason) for letter in made.dead] == [(5, 1, reason)]
    assert made.columns.reading.tolist() == [0, 2]
    assert (made.spans[0].readings, made.spans[0].dead_readings) == (3, 1)


def test_the_window_is_closed_at_both_ends() -> None:
    made = batch(record(0, [reading(time=NOW + 600_000_000), reading(time=NOW - 31 * 86_400_000_000)]))
    assert len(made.columns) == 2


def test_a_bug_on_one_message_is_a_dead_letter_with_its_traceback() -> None:
    made = batch(record(0, [reading()]), record(1, "bug"), record(2, [reading(time=NOW + 1)]))
    (letter,) = made.dead
    assert (letter.reason, letter.reading, letter.offset) == (Reason.INTERNAL_ERROR, None, 1)
    assert "ZeroDivisionError: a bug in the dialect" in letter.detail
    assert len(made.columns) == 2
    assert (made.spans[0].messages, made.spans[0].decoded, made.spans[0].dead_messages) == (3, 2, 1)


def test_a_bug_in_the_mapping_leaves_nothing_of_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    intake = Intake([city()], dialects=DIALECTS)
    find = intake.slots.slot

    def slot(scope: int, leaf: Reading) -> Any:
        if leaf.key == "boom":
            raise RuntimeError("a bug in the mapping")
        return find(scope, leaf)

    monkeypatch.setattr(intake.slots, "slot", slot)
    bad = [reading(), reading(unit=None), reading(key="boom")]
    made = batch(record(0, bad), record(1, [reading()]), intake=intake)
    assert [(letter.offset, letter.reason) for letter in made.dead] == [(0, Reason.INTERNAL_ERROR)]
    assert made.columns.offset.tolist() == [1]
    assert (made.spans[0].readings, made.spans[0].dead_readings, made.spans[0].dead_messages) == (1, 0, 1)


def test_every_message_is_counted_in_exactly_one_place() -> None:
    made = batch(
        record(0, [reading(), {"why": "retained"}, {"reason": "not_a_number"}]),
        record(1, "ignored"),
        record(2, [], topic="nobody/takes/this"),
        record(3, [], topic="quiet/please"),
        record(4, [], headers=[("v", b"9")]),
        record(5, [], headers=[]),
    )
    span = made.spans[0]
    assert (span.messages, span.decoded, span.dead_messages, span.ignored_messages) == (6, 1, 3, 2)
    assert (span.readings, span.dead_readings, span.ignored_readings, len(made.columns)) == (3, 1, 1, 1)
    assert [letter.reason for letter in made.dead] == ["not_a_number", "no_route", "malformed", "malformed"]


def test_a_stub_of_the_gateway_is_too_large_and_says_how_large() -> None:
    value, header = wire.refusal(b"x" * 300_000, "payload of 300000 bytes exceeds 262144")
    stub = record(0, None, headers=[*wire.headers("gateway", qos=1, retain=False, dup=False), header])
    made = batch(stub._replace(value=value))
    assert made.dead[0].reason == Reason.TOO_LARGE
    assert '"size": 300000' in made.dead[0].detail
    assert made.spans[0].messages_at(0).payload == value


def test_the_topic_of_a_record_with_an_ordering_key_is_its_header() -> None:
    keyed = wire.headers("gateway", qos=1, retain=False, dup=False, topic="hanse/wismar/weather/w1")
    made = batch(record(0, [reading()], topic="w1", headers=keyed), record(1, [reading()], topic="w1"))
    assert len(made.columns) == 1
    assert made.spans[0].messages_at(0).topic == "hanse/wismar/weather/w1"
    assert [letter.reason for letter in made.dead] == ["no_route"]


def test_the_raw_bytes_of_a_message_can_be_had_by_offset() -> None:
    made = batch(record(3, [reading()]), record(4, "bug"))
    assert made.spans[0].messages_at(4).payload == b'"bug"'
    assert made.spans[0].messages_at(4).received_ms == RECEIVED_MS
    with pytest.raises(KeyError):
        made.spans[0].messages_at(5)


def test_spans_are_sorted_by_partition_and_rows_follow() -> None:
    intake = Intake([city()], dialects=DIALECTS)
    late = Cursor(SECOND, None, Bounds(0, 9))
    early = Cursor(FIRST, None, Bounds(0, 9))
    for cursor, offset in ((late, 0), (early, 0), (late, 1)):
        records, _ = cursor.admit([record(offset, [reading(time=NOW + offset), reading(unit=None)])])
        intake.add(cursor, records)
    made = intake.take()
    assert [span.partition for span in made.spans] == [FIRST, SECOND]
    assert made.columns.span.tolist() == [0, 1, 1]
    assert sorted((letter.span, letter.offset) for letter in made.dead) == [(0, 0), (1, 0), (1, 1)]
    parts = split(made)
    assert [len(part.columns) for part in parts] == [1, 2]
    assert [{letter.span for letter in part.dead} for part in parts] == [{0}, {0}]


def test_a_span_remembers_the_record_it_ends_with() -> None:
    last = record(8, [reading()])
    made = batch(record(7, [reading()]), last)
    span = made.spans[0]
    assert (span.first_offset, span.next_offset) == (7, 9)
    assert (span.last_timestamp, span.last_hash) == (RECEIVED_MS, digest(last))


def test_an_intake_starts_empty_after_each_batch() -> None:
    intake = Intake([city()], dialects=DIALECTS)
    batch(record(0, [reading()]), intake=intake)
    assert (intake.messages, intake.readings, intake.bytes, list(intake.partitions)) == (0, 0, 0, [])


def test_secrets_in_payload_topic_and_letter_are_masked_before_anything_is_kept() -> None:
    bad = {"reason": "unmapped_property", "key": "PASSKEY", "value": "F3A91C0D"}
    made = batch(record(0, [bad]), record(1, [], topic="/ul/s3cretkey/d1/attrs"), record(2, [], topic="nowhere"))
    assert [letter.offset for letter in made.dead] == [0, 1, 2]
    kept = [made.spans[0].messages_at(offset) for offset in range(3)]
    assert [message.masked for message in kept] == [True, True, False]
    assert kept[1].topic == "/ul/*********/d1/attrs"
    everything = f"{kept} {made.dead}"
    assert "s3cretkey" not in everything
    assert "F3A91C0D" not in everything


def test_a_secret_that_is_a_number_is_masked_in_its_letter_too() -> None:
    secret = reading(key="api_key", value=48151623.0, unit=None, property=None)
    (letter,) = batch(record(0, [secret])).dead
    assert letter.reason == Reason.UNMAPPED_PROPERTY
    assert "48151623" not in f"{letter}"


def test_a_letter_names_its_own_key_where_two_keys_feed_one_datastream() -> None:
    old = {"time": 0}
    made = batch(record(0, [reading(key="t1", **old), reading(key="t2", unit="K", **old)]))
    assert [(letter.reading, letter.raw_key, letter.raw_unit) for letter in made.dead] == [
        (0, "t1", "Cel"),
        (1, "t2", "K"),
    ]


def test_a_wall_clock_is_read_in_the_zone_of_its_device() -> None:
    def zoned(message: Message) -> Decoded:
        device = message.topic.rpartition("/")[2]
        time = NOW - (1_000_000 if message.zones.of(device) == "UTC" else 0)
        return [Reading(device, "", "air_temperature", 1.0, "Cel", time, "air_temperature")]

    of = city().model_copy(update={"device": (Device(match="utc-*", timezone="UTC"),)})
    intake = Intake([of], dialects={"hanse": zoned, "notes": zoned})
    topics = ["hanse/wismar/weather/utc-1", "hanse/wismar/weather/w1"]
    made = batch(*(record(n, [], topic=topic) for n, topic in enumerate(topics)), intake=intake)
    assert made.columns.time.tolist() == [NOW - 1_000_000, NOW]
