"""Records that replay dead letters: as of their original time, only the reading meant, apart from all counts."""

import json
from typing import Any

import pytest

from ingest import wire
from processors.assembling import chosen, split
from processors.batching import Intake
from processors.cursor import Bounds, Cursor
from processors.readings import GATEWAY_TIME
from processors.replaying import unfit
from processors.standard.observation import Ignored, Reading, Reason, Rejection
from storage.rows import Batch, Replays
from tests.simulated.log import SimulatedRecord
from tests.simulated.world import DIALECTS, PARTITIONS, RECEIVED_MS, city, payload

ONE, TWO = PARTITIONS
DAY_MS = 86_400_000
LATER = RECEIVED_MS + 40 * DAY_MS
PLAIN = wire.headers("gateway", qos=1, retain=False, dup=False)


def replay(letter: int = 7, reading: int | None = 0, key: str | None = "air_temperature", **more: Any) -> wire.Replay:
    return wire.Replay(letter, reading, key, **{"received_ms": RECEIVED_MS, "offset": 12_345, **more})


def record(
    offset: int, value: bytes, told: wire.Replay | None = None, topic: str = "hanse/wismar/weather/w1"
) -> SimulatedRecord:
    extra = [] if told is None else [wire.replay_header(told)]
    return SimulatedRecord(offset, LATER, topic.encode(), value, (*PLAIN, *extra))


def intake(*records: SimulatedRecord, partition: Any = ONE, into: Intake | None = None) -> Intake:
    made = into or Intake([city()], dialects=DIALECTS)
    cursor = Cursor(partition, None, Bounds(records[0].offset, 10_000))
    made.add(cursor, cursor.admit(records)[0])
    return made


def replays(batch: Batch) -> Replays:
    assert batch.replays is not None
    return batch.replays


def message(*readings: dict[str, Any]) -> bytes:
    return json.dumps({"v": 1, "device": "w1", "readings": readings}).encode()


def warm(value: Any, **more: Any) -> dict[str, Any]:
    return {"property": "air_temperature", "value": value, "unit": "Cel", **more}


def test_a_replayed_reading_has_the_window_and_the_derived_time_of_its_original_record() -> None:
    made = replays(intake(record(3, message(warm(5), warm(6)), replay(reading=1))).take())
    assert made.columns.time.tolist() == [RECEIVED_MS * 1000 + 345]
    assert made.columns.quality_tests.tolist() == [GATEWAY_TIME]
    assert made.columns.value.tolist() == [6.0]
    assert (made.columns.received[0], made.columns.offset[0], made.columns.reading[0]) == (
        RECEIVED_MS * 1000,
        12_345,
        1,
    )


def test_replays_stand_apart_from_the_counts_of_their_span() -> None:
    made = intake(
        record(0, payload("w1", -40 * 86_400, 1)), record(1, payload("w1", 0, 2), replay()), record(2, b"{")
    ).take()
    span = made.spans[0]
    assert (span.messages, span.decoded, span.dead_messages, span.readings, span.replayed) == (2, 1, 1, 1, 1)
    assert (span.first_offset, span.next_offset) == (0, 3)
    assert made.columns.value.tolist() == [1.0]
    assert [letter.reason for letter in made.dead] == ["invalid_json"]
    assert replays(made).columns.value.tolist() == [2.0]
    assert replays(made).dead == []


def test_a_replayed_message_brings_all_its_readings() -> None:
    told = replay(reading=None, key=None)
    [one] = (made := replays(intake(record(0, message(warm(1), warm(2, unit="m"), warm(3)), told)).take())).records
    assert made.columns.value.tolist() == [1.0, 3.0]
    assert made.columns.reading.tolist() == [0, 2]
    assert [(letter.reading, letter.reason, letter.span) for letter in made.dead] == [(1, "wrong_dimension", 0)]
    assert (one.letter, one.offset, one.reading, one.readings) == (7, 12_345, None, 3)


@pytest.mark.parametrize("value", [b"{", message(warm(1, time="1970-01-01T00:00:00Z")), message(warm(1, unit="m"))])
def test_what_is_still_dead_keeps_the_place_of_its_letter(value: bytes) -> None:
    made = replays(intake(record(0, value, replay())).take())
    assert len(made.columns) == 0
    assert [(letter.offset, letter.reading, letter.span) for letter in made.dead] == [(12_345, 0, 0)]


def test_a_bug_on_a_replay_is_its_letters_new_reason_and_not_the_records() -> None:
    def bug(message: Any) -> Any:
        raise ZeroDivisionError

    made = intake(record(0, b"{}", replay()), into=Intake([city()], dialects={**DIALECTS, "hanse": bug})).take()
    assert made.dead == []
    assert [letter.reason for letter in replays(made).dead] == ["internal_error"]
    assert made.spans[0].messages == 0


def test_a_replay_never_writes_state_and_reads_the_one_in_force() -> None:
    topic = "notes/wismar/n1/x"
    told = replay(reading=None, key=None)
    made = intake(
        record(0, b'{"note": {"a": 3}}', topic=topic),
        record(1, b'{"note": {"a": 100}, "second": 0}', told, topic),
        record(2, b'{"second": 1}', topic=topic),
    ).take()
    assert {(change.part, change.state) for change in made.state} == {("a", "3"), ("count", "2")}
    assert made.dead == []


def test_a_replay_that_is_known_to_be_no_observation_now_says_why() -> None:
    [one] = replays(intake(record(0, b"x", replay(), "quiet/please")).take()).records
    assert (one.ignored, one.ignored_messages) == ("ignore", 1)


@pytest.mark.parametrize(
    "header",
    [
        *(b"", b"{}", b"[]", b"7", b'{"letter": -1}', b"[" * 100_000),
        wire.replay_header(replay(letter=2**63))[1],
        wire.replay_header(replay(received_ms=2**53))[1],
        wire.replay_header(replay(reading=2**31))[1],
        wire.replay_header(replay(letter=True))[1],
        wire.replay_header(replay(key=7))[1],  # type: ignore[arg-type]
    ],
    ids=lambda header: header[:20].decode(),
)
def test_a_replay_header_out_of_form_is_a_foreign_record(header: bytes) -> None:
    odd = record(0, payload("w1", 0, 1))._replace(headers=(*PLAIN, ("replay", header)))
    made = intake(odd).take()
    assert [(letter.reason, letter.offset) for letter in made.dead] == [("malformed", 0)]
    assert made.replays is None


def test_the_header_comes_back_as_it_was_written_and_others_have_none() -> None:
    told = wire.envelope(b"t", [*PLAIN, wire.replay_header(replay(correct=True))])
    assert isinstance(told, wire.Envelope)
    assert told.replay == replay(correct=True)
    plain = wire.envelope(b"t", PLAIN)
    assert isinstance(plain, wire.Envelope)
    assert plain.replay is None


def test_replays_follow_their_span_when_spans_are_sorted_and_split() -> None:
    into = intake(record(0, payload("w1", 0, 1), replay(1)), partition=TWO)
    made = intake(
        record(0, payload("w1", 1, 2), replay(2)), record(1, b"{", replay(3)), partition=ONE, into=into
    ).take()
    assert [made.spans[one.span].partition for one in replays(made).records] == [TWO, ONE, ONE]
    parts = split(made)
    assert [[one.letter for one in replays(part).records] for part in parts] == [[2, 3], [1]]
    assert [replays(part).columns.value.tolist() for part in parts] == [[2.0], [1.0]]
    assert [replays(part).columns.span.tolist() for part in parts] == [[0], [0]]
    assert [[letter.span for letter in replays(part).dead] for part in parts] == [[1], []]


def leaf(key: str) -> Reading:
    return Reading("d", "", key, 1.0, "Cel", None)


def test_the_reading_of_a_letter_is_found_by_its_place_and_name_and_never_guessed() -> None:
    leaves = [leaf("a"), leaf("b"), Ignored("x"), leaf("c"), leaf("c")]
    assert chosen(leaves, 1, "b") == [leaf("b")]
    assert chosen(leaves, 0, "b") == [leaf("b")]  # the dialect counts otherwise now
    assert chosen(leaves, 3, "c") == [leaf("c")]
    assert chosen(leaves, 2, "gone") == [Ignored("x")]
    assert chosen(leaves, 0, None) == [leaf("a")]
    assert chosen([Rejection(Reason.NOT_A_NUMBER, "x", key="k")], 0, "k") == [
        Rejection(Reason.NOT_A_NUMBER, "x", key="k")
    ]
    for place, key in ((0, "gone"), (0, "c"), (9, None), (9, "gone")):
        assert isinstance(chosen(leaves, place, key), Rejection)


def test_a_receive_time_beyond_all_clocks_stops_nothing() -> None:
    far = record(0, payload("w1", 0, 1))._replace(timestamp=2**63 - 1)
    before = record(1, payload("w1", 0, 1))._replace(timestamp=-1)
    assert [letter.reason for letter in intake(far, before).take().dead] == ["time_out_of_range"] * 2


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"topic": "import:ab12"}, "correct the file and import it again"),
        ({"stub": True}, "only the payload's beginning was kept"),
        ({"mqtt_topic": ""}, "no MQTT topic"),
    ],
)
def test_a_letter_that_no_gateway_could_send_again_is_not_replayed(told, why):
    letter = {"topic": "hanse.raw.wismar", "stub": False, "mqtt_topic": "hanse/wismar/weather/w1"}
    assert unfit(letter, with_payload=True) is None
    assert why in str(unfit(letter | told, with_payload=True))
    assert unfit(letter, with_payload=False) == "payload purged"
