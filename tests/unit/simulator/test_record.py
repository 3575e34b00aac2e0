"""The record on disk says what was published, also when the simulator dies."""

from pathlib import Path

from simulator.check import count
from simulator.expectation import line, read
from simulator.record import Record, Totals, read_record, read_totals, write_totals
from tests.unit.simulator.streams import START, recorded, taken


def _written(directory: Path, number: int) -> Record:
    record = Record(directory, "rostock")
    for each in taken(number):
        record.add(START, each)
    return record


def test_a_line_reads_back_as_what_was_published() -> None:
    for each in taken(2_000):
        assert each.expected == read(line(7, START, each)).expected


def test_the_record_holds_every_message_in_order(tmp_path: Path) -> None:
    _written(tmp_path, 500).close([])

    messages, unacknowledged = read_record(tmp_path / "rostock.jsonl")

    assert recorded(taken(500)) == list(messages)
    assert set() == unacknowledged


def test_the_record_names_what_the_broker_never_acknowledged(tmp_path: Path) -> None:
    _written(tmp_path, 20).close([19, 3])

    assert {3, 19} == read_record(tmp_path / "rostock.jsonl")[1]


def test_after_a_crash_every_line_is_there_and_none_counts_as_acknowledged(tmp_path: Path) -> None:
    record = _written(tmp_path, 20)  # never closed

    messages, unacknowledged = read_record(tmp_path / "rostock.jsonl")

    assert len(list(messages)) == 20
    assert set(range(1, 21)) == unacknowledged
    record.close([])


def test_the_running_totals_agree_with_the_record(tmp_path: Path) -> None:
    record = _written(tmp_path, 2_000)
    counts = count(recorded(taken(2_000)))
    totals = record.totals
    record.close([])

    assert (counts.published, counts.stored, counts.duplicate, counts.dead_lettered, counts.ignored) == (
        totals.published,
        totals.stored,
        totals.duplicate,
        totals.dead_lettered,
        totals.ignored,
    )


def test_totals_are_replaced_whole_and_leave_nothing_behind(tmp_path: Path) -> None:
    assert read_totals(tmp_path) is None

    write_totals(tmp_path, {"kiel": Totals(messages=1)})
    write_totals(tmp_path, {"kiel": Totals(messages=2)}, ended=True)

    totals = read_totals(tmp_path)
    assert totals is not None
    assert totals["ended"]
    assert totals["cities"]["kiel"]["messages"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["totals.json"]
