"""The independent check finds every kind of disagreement, one at a time, and none where there is none."""

import random

import pytest

from simulator.check import Counts, Letter, Row, count, verify
from simulator.expectation import Publication, Recorded, digest
from tests.unit.simulator.streams import START, recorded, taken

MESSAGES = 2_000


def _truth(publications: list[Publication]) -> tuple[list[Row], list[Letter]]:
    """What a database without a fault would hold."""
    rows: dict[tuple[object, ...], Row] = {}
    letters = []
    for number, each in enumerate(publications):
        for good in each.expected.good:
            row = Row(*good[:3], START + number if good.time is None else good.time, good.value, good.quality)
            rows.setdefault(row[:4], row)
        letters += [Letter(each.expected.kept or "", bad.reading, bad.reason) for bad in each.expected.bad]
    return list(rows.values()), letters


@pytest.fixture(scope="module")
def published() -> list[Publication]:
    return taken(MESSAGES)


@pytest.fixture
def record(published: list[Publication]) -> list[Recorded]:
    return recorded(published)


@pytest.fixture
def rows(published: list[Publication]) -> list[Row]:
    return _truth(published)[0]


@pytest.fixture
def letters(published: list[Publication]) -> list[Letter]:
    return _truth(published)[1]


def test_a_faultless_database_agrees(record: list[Recorded], rows: list[Row], letters: list[Letter]) -> None:
    random.Random(1).shuffle(rows)

    assert verify(record, rows, letters) == []
    assert len(rows) == count(record).stored
    assert len(letters) == count(record).dead_lettered


def test_units_published_are_all_stored_duplicate_dead_or_ignored(record: list[Recorded]) -> None:
    counts = count(record)

    assert counts.published == counts.stored + counts.duplicate + counts.dead_lettered + counts.ignored
    assert all(vars_ > 0 for vars_ in (counts.duplicate, counts.dead_lettered, counts.ignored))
    assert Counts() == count([])


def test_one_missing_row_is_found(record: list[Recorded], rows: list[Row], letters: list[Letter]) -> None:
    lost = rows.pop(1234)

    (sentence,) = verify(record, rows, letters)

    assert sentence.startswith(f"missing row: {lost.device}/{lost.channel}/{lost.property}")


def test_a_value_that_is_a_billionth_off_agrees_and_a_millionth_off_does_not(
    record: list[Recorded], rows: list[Row], letters: list[Letter]
) -> None:
    place = next(place for place, row in enumerate(rows) if row.property == "air_pressure")
    true = rows[place]

    rows[place] = true._replace(value=true.value * (1 + 1e-12))
    assert verify(record, rows, letters) == []

    rows[place] = true._replace(value=true.value * (1 + 1e-6))
    (sentence,) = verify(record, rows, letters)
    assert sentence.startswith("other value")


def test_a_value_where_a_missing_one_was_declared_is_found(
    record: list[Recorded], rows: list[Row], letters: list[Letter]
) -> None:
    place = next(place for place, row in enumerate(rows) if row.value is None)
    rows[place] = rows[place]._replace(value=0.0)

    assert [sentence[:11] for sentence in verify(record, rows, letters)] == ["other value"]


def test_a_lost_quality_flag_is_found(record: list[Recorded], rows: list[Row], letters: list[Letter]) -> None:
    place = next(place for place, row in enumerate(rows) if row.quality == 4)
    rows[place] = rows[place]._replace(quality=1)

    assert [sentence[:13] for sentence in verify(record, rows, letters)] == ["other quality"]


def test_a_row_nobody_published_is_found_even_when_another_is_missing(
    record: list[Recorded], rows: list[Row], letters: list[Letter]
) -> None:
    rows[77] = rows[77]._replace(time=rows[77].time + 1)

    assert [sentence[:11] for sentence in verify(record, rows, letters)] == ["row that wa", "missing row"]


def test_a_reading_stored_twice_is_found(record: list[Recorded], rows: list[Row], letters: list[Letter]) -> None:
    (sentence,) = verify(record, [*rows, rows[5]], letters, redelivered=True)

    assert sentence.startswith("stored 2 times")


def test_a_clockless_reading_may_be_stored_again_only_where_it_was_redelivered(
    record: list[Recorded], rows: list[Row], letters: list[Letter]
) -> None:
    again = next(row for row in rows if row.device == "rain-clockless")
    rows.append(again._replace(time=again.time + 1_000_000))

    assert [sentence[:14] for sentence in verify(record, rows, letters)] == ["stored 2 times"]
    assert verify(record, rows, letters, redelivered=True) == []


def test_a_clockless_reading_received_before_it_was_published_is_found(
    record: list[Recorded], rows: list[Row], letters: list[Letter]
) -> None:
    place = next(place for place, row in enumerate(rows) if row.device == "rain-clockless")
    rows[place] = rows[place]._replace(time=START - 1_000_000)

    (sentence,) = verify(record, rows, letters)

    assert sentence.startswith("received before it was published")


@pytest.mark.parametrize("redelivered", [False, True])
def test_a_missing_dead_letter_is_found(
    record: list[Recorded], rows: list[Row], letters: list[Letter], redelivered: bool
) -> None:
    letters.pop(3)

    (sentence,) = verify(record, rows, letters, redelivered=redelivered)

    assert sentence.startswith("missing dead letter")


@pytest.mark.parametrize("change", [{"kept": "0" * 64}, {"reason": "malformed"}, {"reading": 99}])
def test_a_dead_letter_with_other_bytes_reason_or_place_is_found(
    record: list[Recorded], rows: list[Row], letters: list[Letter], change: dict[str, object]
) -> None:
    letters[3] = letters[3]._replace(**change)

    sentences = verify(record, rows, letters, redelivered=True)

    assert sorted(each[:26] for each in sentences) == ["dead letter that was never", "missing dead letter: 0 of "]


def test_a_dead_letter_too_many_is_found_unless_its_message_was_redelivered(
    record: list[Recorded], rows: list[Row], letters: list[Letter]
) -> None:
    letters.append(letters[0])

    assert [sentence[:21] for sentence in verify(record, rows, letters)] == ["dead letter too often"]
    assert verify(record, rows, letters, redelivered=True) == []


def test_a_message_may_be_unreadable_when_it_comes_again_after_its_session_but_not_otherwise(
    published: list[Publication], record: list[Recorded], rows: list[Row], letters: list[Letter]
) -> None:
    data = next(each for each in published if each.topic.startswith("spBv1.0/") and "/DDATA/" in each.topic)
    letters.append(Letter(digest(data.payload), 0, "unknown_alias"))

    assert verify(record, rows, letters, redelivered=True) == []
    assert [sentence[:26] for sentence in verify(record, rows, letters)] == ["dead letter that was never"]

    letters[-1] = letters[-1]._replace(reason="unknown_unit")
    assert [sentence[:26] for sentence in verify(record, rows, letters, redelivered=True)] == [
        "dead letter that was never"
    ]


def test_what_was_never_acknowledged_may_be_there_or_not(
    published: list[Publication], record: list[Recorded], rows: list[Row], letters: list[Letter]
) -> None:
    open_ = next(each for each in record if each.expected.kind == "weather")
    gone = {good[:4] for good in open_.expected.good}

    without = [row for row in rows if row[:4] not in gone]

    assert len(gone) == len(verify(record, without, letters))
    assert verify(record, without, letters, unacknowledged={open_.sequence}) == []
    assert verify(record, rows, letters, unacknowledged={open_.sequence}) == []
