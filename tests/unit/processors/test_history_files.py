"""History files: every row is an observation or a refusal by its line, whatever its neighbours are."""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import wire
from processors.batching import Intake as LiveIntake
from processors.cursor import Bounds, Cursor
from processors.history.chunk import FileError
from processors.history.command import since
from processors.history.csv_file import CsvFile
from processors.history.parquet_file import ParquetFile
from storage.rows import TopicPartition
from tests.simulated.log import SimulatedRecord
from tests.unit.processors.history_files import KIEL, NOW, SINCE, batches, csv_file, intake, refusals, rows

GOOD = "w1,,air_temperature,2021-05-01T00:00:00Z,7.5,Cel,1"
T = 1_619_827_200_000_000  # 2021-05-01T00:00:00Z


def balanced(batch):
    span = batch.spans[0]
    assert span.next_offset - span.first_offset == span.messages
    assert span.messages == span.decoded + span.dead_messages + span.ignored_messages
    assert span.readings == len(batch.columns) + span.dead_readings + span.ignored_readings
    assert len(batch.dead) == span.dead_messages + span.dead_readings


def test_a_row_is_an_observation_in_the_canonical_unit_at_its_line(tmp_path):
    path = csv_file(tmp_path, GOOD, 'w1,roof,air_temperature,2021-05-01T02:00:00.5+02:00,"32",degF,')
    assert rows(batches(CsvFile(path))) == [
        (2, "w1", "", "air_temperature", T, "7.5", 1, 0, NOW),
        (3, "w1", "roof", "air_temperature", T + 500_000, "0.0", 1, 0, NOW),
    ]


@pytest.mark.parametrize(
    ("line", "reading", "reason"),
    [
        (b"w1,,air_temperature,2021-05-01T00:00:00Z,7.5,Cel", None, "malformed"),
        (b"w1,,air_temperature,2021-05-01T00:00:00Z,7.5,Cel,1,more", None, "malformed"),
        (b'"w1,,air_temperature,2021-05-01T00:00:00Z,7.5,Cel,1', None, "malformed"),
        (b'"w"1,,air_temperature,2021-05-01T00:00:00Z,7.5,Cel,1', None, "malformed"),
        (b"w\xff,,air_temperature,2021-05-01T00:00:00Z,7.5,Cel,1", None, "not_utf8"),
        (b"w\0,,air_temperature,2021-05-01T00:00:00Z,7.5,Cel,1", None, "invalid_text"),
        (b",,air_temperature,2021-05-01T00:00:00Z,7.5,Cel,1", 0, "no_device"),
        (b"w" * 256 + b",,air_temperature,2021-05-01T00:00:00Z,7.5,Cel,1", 0, "device_too_long"),
        (b"w1,,air_temprature,2021-05-01T00:00:00Z,7.5,Cel,1", 0, "unmapped_property"),
        (b"w1,,air_temperature,2021-05-01T00:00:00Z,7.5,,1", 0, "unknown_unit"),
        (b"w1,,air_temperature,2021-05-01T00:00:00Z,7.5,hPa,1", 0, "wrong_dimension"),
        (b"w1,,air_temperature,2021-05-01T00:00:00,7.5,Cel,1", 0, "naive_time"),
        (b"w1,,air_temperature,01.05.2021,7.5,Cel,1", 0, "invalid_time"),
        (b"w1,,air_temperature,,7.5,Cel,1", 0, "invalid_time"),
        (b"w1,,air_temperature,2019-12-31T23:59:59Z,7.5,Cel,1", 0, "time_out_of_range"),
        (b"w1,,air_temperature,2026-11-23T12:10:01Z,7.5,Cel,1", 0, "time_out_of_range"),
        (b'w1,,air_temperature,2021-05-01T00:00:00Z,"7,5",Cel,1', 0, "not_a_number"),
        (b"w1,,air_temperature,2021-05-01T00:00:00Z,NaN,Cel,1", 0, "not_a_number"),
        (b"w1,,air_temperature,2021-05-01T00:00:00Z,1_0,Cel,1", 0, "not_a_number"),
        (b"w1,,air_temperature,2021-05-01T00:00:00Z,-,Cel,1", 0, "not_a_number"),
        (b"w1,,air_temperature,2021-05-01T00:00:00Z,,Cel,1", 0, "not_a_number"),
        (b"w1,,air_temperature,2021-05-01T00:00:00Z,7.5,Cel,9", 0, "not_a_number"),
        (b"w1,,air_temperature,2021-05-01T00:00:00Z,1e999,Cel,1", 0, "not_finite"),
        (b"w1,,air_temperature,2021-05-01T00:00:00Z,1.7e300,degF,1", 1, ""),  # converts, and fails its range
        (b"w1,,co,2021-05-01T00:00:00Z,1.7e308,g/m3,1", 0, "not_finite"),
        (b"w1,,air_temperature,2021-05-01T00:00:00Z,7.5,Cel,5", 0, "malformed"),
    ],
)
def test_a_bad_row_is_refused_by_its_line_and_its_neighbours_are_not(tmp_path, line, reading, reason):
    path = csv_file(tmp_path, GOOD, "BAD", GOOD.replace("05-01", "05-02"))
    path.write_bytes(path.read_bytes().replace(b"BAD", line))
    (batch,) = batches(CsvFile(path))
    balanced(batch)
    assert refusals([batch]) == ([(3, reading, reason)] if reason else [])
    assert [row.offset for row in rows([batch])] == ([2, 4] if reason else [2, 3, 4])
    assert batch.spans[0].messages_at(3).payload == line


def test_blank_lines_are_ignored_and_counted(tmp_path):
    path = csv_file(tmp_path, GOOD, "", "  ", GOOD.replace("w1", "w2"))
    (batch,) = batches(CsvFile(path))
    balanced(batch)
    assert batch.spans[0].ignored_messages == 2
    assert [row.offset for row in rows([batch])] == [2, 5]


def test_line_ends_of_windows_a_byte_order_mark_and_a_missing_last_end_change_nothing(tmp_path):
    path = csv_file(tmp_path, GOOD, GOOD.replace("w1", "w2"))
    plain = rows(batches(CsvFile(path)))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().rstrip(b"\n").replace(b"\n", b"\r\n"))
    assert plain == rows(batches(CsvFile(path)))


CELL = st.sampled_from(
    ["", "1", "2.5", "-1e3", " 3", "x", "9", "1e400", "0x1", "٣", "2021-05-01T00:00:00Z", "2021-05-01", 'a"b']
)
LINE = st.one_of(
    st.tuples(
        st.sampled_from(["w1", "w2", "", "ä"]), st.sampled_from(["", "c"]),
        st.sampled_from(["air_temperature", "wind_direction", "parking_spot_occupied", "no_such"]),
        st.sampled_from(["2021-05-01T00:00:00Z", "2021-05-01T00:00:00.1234567+01:00", "2021-05-01", "1970-01-01T00Z"]),
        CELL, st.sampled_from(["Cel", "deg", "1", "K", ""]), st.sampled_from(["", "1", "3", "4", "9", "7"]),
    ).map(",".join),
    st.lists(CELL, max_size=9).map(",".join),
)  # fmt: skip


@given(lines=st.lists(LINE, min_size=1, max_size=12), at=st.integers(0, 11), size=st.integers(1, 5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_what_becomes_of_a_row_depends_on_no_other_and_on_no_cut(tmp_path, lines, at, size):
    path = csv_file(tmp_path, *lines)
    alone = batches(CsvFile(path), rows=1)
    together = batches(CsvFile(path))
    for batch in (*alone, *together):
        balanced(batch)
    assert rows(alone) == rows(together)
    assert refusals(alone) == refusals(together)
    rest = batches(CsvFile(path), at=2 + at, rows=size)
    assert rows(rest) == [row for row in rows(together) if row.offset >= 2 + at]
    assert refusals(rest) == [one for one in refusals(together) if one[0] >= 2 + at]


def test_a_file_gets_the_flags_and_values_that_the_same_readings_get_live(tmp_path):
    readings = [
        ("air_temperature", 7.5, "Cel", 1), ("air_temperature", 99.0, "Cel", 1), ("air_temperature", 40.0, "degF", 3),
        ("air_pressure", 101325.0, "Pa", None), ("wind_direction", 360.0, "deg", None),
        ("relative_humidity", 101.0, "%", 1), ("no2", 10.0, "ppb", 4),
        ("air_temperature", None, "Cel", 9), ("parking_spot_occupied", 1, "1", 2),
    ]  # fmt: skip
    lines = [
        f"d,c{n},{p},2021-05-01T00:00:00Z,{'' if v is None else v},{u},{q or ''}"
        for n, (p, v, u, q) in enumerate(readings)
    ]
    imported = batches(CsvFile(csv_file(tmp_path, *lines)))
    payload = {"v": 1, "device": "d", "time": "2021-05-01T00:00:00Z", "readings": [
        {"property": p, "channel": f"c{n}", "value": v, "unit": u} | ({"quality": q} if q else {})
        for n, (p, v, u, q) in enumerate(readings)
    ]}  # fmt: skip
    live = LiveIntake([KIEL])
    partition = TopicPartition("hanse.raw.kiel", 0)

    headers = tuple(wire.headers("gw", qos=1, retain=False, dup=False))
    record = SimulatedRecord(0, T // 1000, b"hanse/kiel/x/d", json.dumps(payload).encode(), headers)
    live.add(Cursor(partition, None, Bounds(0, 1), accept_loss=False), [record])
    batch = live.take()
    assert len(batch.dead) == 0
    assert [row[1:8] for row in rows(imported)] == [row[1:8] for row in rows([batch])]


def test_a_flag_that_this_standard_gave_is_not_taken_for_the_sources(tmp_path):
    header = "device,property,phenomenon_time,value,unit,quality,quality_tests"
    lines = [
        f"w{n},air_temperature,2021-05-01T00:00:00Z,{value},Cel,{quality},{tests}"
        for n, (value, quality, tests) in enumerate(
            [(99, 4, 1), (99, 4, 9), (7, 3, 8), (7, 3, 16), (7, 3, 0), (7, 1, 4)]
        )
    ]
    found = rows(batches(CsvFile(csv_file(tmp_path, *lines, header=header))))
    assert [(row.quality, row.tests) for row in found] == [(4, 1), (4, 9), (3, 8), (3, 16), (3, 8), (1, 4)]


def test_a_row_of_another_city_is_refused(tmp_path):
    header = "city,device,property,phenomenon_time,value,unit"
    lines = [f"{city},w1,air_temperature,2021-05-01T00:00:00Z,7,Cel" for city in ("kiel", "wismar", "")]
    assert refusals(batches(CsvFile(csv_file(tmp_path, *lines, header=header)))) == [(3, 0, "malformed")]


def test_a_receive_time_in_the_file_is_kept_and_bounds_the_row(tmp_path):
    header = "device,property,phenomenon_time,value,unit,received_at"
    lines = [
        f"w1,air_temperature,2021-05-01T0{hour}:00:00Z,7,Cel,{received}"
        for hour, received in enumerate(["2021-05-01T00:00:05Z", "2021-05-01T00:00:05Z", ""])
    ]
    found = batches(CsvFile(csv_file(tmp_path, *lines, header=header)))
    assert refusals(found) == [(3, 0, "time_out_of_range")]
    assert [row.received for row in rows(found)] == [T + 5_000_000, NOW]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("device;property;phenomenon_time;value;unit", "separated by ';'"),
        ("device,property,value,unit", "column 'phenomenon_time' is missing"),
        ("device,property,phenomenon_time,value,unit,qualty", "column 'qualty' is not of the format"),
        ("device,property,phenomenon_time,value,unit,unit", "appears twice"),
        ("", "column 'device' is missing"),
    ],
)
def test_a_file_of_another_form_is_refused_whole_with_the_cure(tmp_path, header, said):
    with pytest.raises(FileError, match=said):
        CsvFile(csv_file(tmp_path, GOOD, header=header))


def test_a_file_without_line_ends_does_not_fill_the_memory(tmp_path):
    path = csv_file(tmp_path)
    path.write_bytes(path.read_bytes() + b"x" * 3_000_000)
    with pytest.raises(FileError, match="line 2 is longer than"):
        batches(CsvFile(path))


def table(**columns):
    return pa.table(
        {
            "device": ["w1", "w2", "w3"],
            "property": ["air_temperature"] * 3,
            "phenomenon_time": pa.array([T, T + 1, None], pa.timestamp("us", tz="UTC")),
            "value": [7.5, None, 1.0],
            "unit": ["Cel"] * 3,
            "quality": [1, 9, None],
        }
        | columns
    )


def parquet(folder, made, **options):
    pq.write_table(made, folder / "h.parquet", **options)
    return folder / "h.parquet"


def test_parquet_rows_are_observations_by_their_number(tmp_path):
    (batch,) = batches(ParquetFile(parquet(tmp_path, table())))
    balanced(batch)
    assert rows([batch]) == [
        (1, "w1", "", "air_temperature", T, "7.5", 1, 0, NOW),
        (2, "w2", "", "air_temperature", T + 1, "nan", 9, 0, NOW),
    ]
    assert refusals([batch]) == [(3, 0, "invalid_time")]
    assert json.loads(batch.spans[0].messages_at(3).payload)["device"] == "w3"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("at", [1, 2, 5, 9, 10])
def test_parquet_is_read_from_any_row_on_whatever_its_row_groups(tmp_path, at, size):
    nine = table().select(["device", "property", "value", "unit", "quality"])
    nine = pa.concat_tables([nine, nine, nine]).append_column(
        "phenomenon_time", pa.array(range(T, T + 9), pa.timestamp("us", tz="UTC"))
    )
    file = ParquetFile(parquet(tmp_path, nine, row_group_size=4))
    found = batches(file, at=at, rows=size)
    assert [batch.spans[0].first_offset for batch in found][:1] == ([at] if at < 10 else [])
    assert [row.offset for row in rows(found)] == list(range(at, 10))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"phenomenon_time": pa.array([1, 2, 3], pa.timestamp("us"))}, "timestamps with a zone"),
        ({"value": ["1", "2", "3"]}, "not numbers"),
        ({"device": [1, 2, 3]}, "not strings"),
        ({"quality": [1.0, 2.0, 3.0]}, "not integers"),
    ],
)
def test_a_parquet_column_of_another_type_refuses_the_file(tmp_path, changed, said):
    with pytest.raises(FileError, match=said):
        ParquetFile(parquet(tmp_path, table(**changed)))


def test_parquet_values_and_flags_out_of_form_are_refused_row_by_row(tmp_path):
    times = pa.array([T, T + 1, T + 2], pa.timestamp("us", tz="UTC"))
    made = table(value=[float("nan"), float("inf"), 1.0], quality=[1, 1, 70_000], phenomenon_time=times)
    assert refusals(batches(ParquetFile(parquet(tmp_path, made)))) == [
        (1, 0, "not_finite"), (2, 0, "not_finite"), (3, 0, "malformed"),
    ]  # fmt: skip


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = parquet(tmp_path, table())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FileError, match=r"pip install 'hanse-sensor-pipeline\[history\]'`, or use CSV"):
        ParquetFile(path)


def test_since_is_a_day_or_a_time_with_a_zone():
    assert since("2020-01-01") == since("2020-01-01T01:00:00+01:00") == SINCE
    for wrong in ("yesterday", "2020-01-01T00:00:00"):
        with pytest.raises(FileError, match="neither a day"):
            since(wrong)


def test_a_narrower_window_refuses_older_rows(tmp_path):
    path = csv_file(tmp_path, GOOD)
    assert rows(batches(CsvFile(path), since=T)) != []
    assert refusals(batches(CsvFile(path), since=T + 1)) == [(2, 0, "time_out_of_range")]


def test_an_import_leaves_the_provenance_of_known_datastreams_alone(tmp_path):
    made = intake()
    for name, unit in (("a.csv", "Cel"), ("b.csv", "degF")):
        file = CsvFile(csv_file(tmp_path, GOOD.replace("Cel", unit), name=name))
        batch = made.batch(next(iter(file.chunks(2, 10))), new=False)
    assert batch.streams.changed == set()
