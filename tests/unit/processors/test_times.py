from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.standard import times
from processors.standard.observation import QualityTest, Reason
from processors.standard.times import from_epoch, instant, local, parse, rfc3339
from processors.standard.zones import BERLIN, Zones

AMBIGUOUS = int(QualityTest.LOCAL_TIME_AMBIGUOUS)


def us(text):
    found = parse(text)
    assert isinstance(found, int), found
    return found


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"),
        ("2026-11-23t10:00:00z", "2026-11-23T10:00:00Z"),
        ("2026-11-23 10:00:00Z", "2026-11-23T10:00:00Z"),
        ("2026-11-23T10:00:00.5Z", "2026-11-23T10:00:00.500000Z"),
        ("2026-11-23T11:00:00+01:00", "2026-11-23T10:00:00Z"),
        ("2026-11-23T04:30:00.250-05:30", "2026-11-23T10:00:00.250000Z"),
        ("2026-11-23T10:00:00-00:00", "2026-11-23T10:00:00Z"),
        ("2020-02-12T15:15:46.014773143Z", "2020-02-12T15:15:46.014773Z"),
        ("2022-07-18T09:34:15.775023999+00:00", "2022-07-18T09:34:15.775023Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999Z"),
        ("2036-02-07T06:28:16Z", "2036-02-07T06:28:16Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
    ],
)
def test_times_with_a_zone_are_read_to_the_microsecond(text, utc):
    assert rfc3339(us(text)) == utc


def test_offsets_may_lead_out_of_the_calendar_without_harm():
    assert us("0001-01-01T00:00:00+01:00") < us("0001-01-01T00:00:00Z")
    assert us("9999-12-31T23:59:59-01:00") > us("9999-12-31T23:59:59Z")


def test_a_leap_second_is_the_last_microsecond_of_its_day():
    assert rfc3339(us("2016-12-31T23:59:60Z")) == "2016-12-31T23:59:59.999999Z"
    assert us("2017-01-01T00:59:60.7+01:00") == us("2016-12-31T23:59:60Z")


@pytest.mark.parametrize(
    "text",
    ["2026-11-23T10:00:00", "2026-11-23 10:00:00.123", "2026-03-29T02:30:00"],
)
def test_a_time_without_a_zone_is_naive(text):
    assert parse(text) is Reason.NAIVE_TIME


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-23",
        "10:00:00Z",
        "2026-11-23T10:00Z",
        "2026-11-23T10Z",
        "20261123T100000Z",
        "2026-W48-1T10:00:00Z",
        "2026-11-23x10:00:00Z",
        "2026-11-23T10:00:00,5Z",
        "2026-11-23T10:00:00.Z",
        "2026-11-23T10:00:00.123801:0Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T10:60:00Z",
        "2026-11-23T10:00:60Z",
        "2026-11-23T10:00:61Z",
        "2026-02-30T10:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-11-23T10:00:00+1:00",
        "2026-11-23T10:00:00+01:99",
        "2026-11-23T10:00:00+24:00",
        "2026-11-23T10:00:00 Z",
        "2026-11-23T10:00:00Z\n",
        "２０２６-11-23T10:00:00Z",  # noqa: RUF001 - full-width digits are what is tested
        "2026-11-23T10:00:00\0Z",
        "1795428000",
    ],
)
def test_what_is_no_rfc_3339_time_is_invalid(text):
    assert parse(text) is Reason.INVALID_TIME


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T10:00Z",
        "2026-11-23T11:00:00+0100",
        "2026-11-23T11:00:00.000+01",
        "20261123T100000Z",
        "20261123T1000Z",
        "2026/11/23 10:00:00 UTC",
        "2026-11-23 11:00:00 MEZ",
        "2026-11-23 12:00 cest",
        "2026-11-23T10:00:00,000Z",
        "2026-11-23 11:00:00 +0100",
    ],
)
def test_other_forms_of_iso_8601_are_read_where_they_name_one_instant(text):
    assert parse(text) is Reason.INVALID_TIME
    assert instant(text) == us("2026-11-23T10:00:00Z")
    assert local(text, BERLIN, "", 0) == (us("2026-11-23T10:00:00Z"), 0)


@pytest.mark.parametrize("text", ["2026/11/23 11:00", "20261123 110000", "2026-11-23T11:00"])
def test_other_forms_without_a_zone_are_naive_and_read_in_the_devices(text):
    assert instant(text) is Reason.NAIVE_TIME
    assert local(text, BERLIN, "", 0) == (us("2026-11-23T10:00:00Z"), 0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026-11/23 10:00Z", "20261123100000", "2026-11-23", "11/23/2026 10:00", "26-11-23 10:00Z", "10:00Z"),
        *(
            "2026-11-23T10:00:00EST",
            "2026-13-23T10:00Z",
            "2026-11-23T25:00Z",
            "2026-11-23T10:00:00.Z",
            "2026-W48-1T10Z",
        ),
        *("2026-11-23T1000:00Z", "2026-11-23T10:00+25", "2026-11-23T10:00 Europe/Berlin"),
    ],
)
def test_what_may_be_read_in_two_ways_or_none_is_no_instant(text):
    assert instant(text) is Reason.INVALID_TIME
    assert local(text, BERLIN, "", 0) is Reason.INVALID_TIME


@given(
    st.text("0123456789:-+.TZtz W,")
    | st.from_regex(r"20\d\d-[01]\d-\d\dT\d\d:\d\d:[0-6]\d(\.\d{0,12})?(Z|[+-]\d\d:\d\d)?", fullmatch=True)
)
def test_the_short_way_and_the_long_way_read_the_same(text):
    assert parse(text) == times._parse_any(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_is_written_is_read_back(at):
    text = rfc3339(us(at.isoformat()))
    assert datetime.fromisoformat(text) == at


def test_local_time_is_read_in_its_zone():
    received = us("2026-07-01T12:00:00Z")
    assert local("2026-07-01T12:00:00", BERLIN, "", received) == (us("2026-07-01T10:00:00Z"), 0)
    assert local(datetime(2026, 1, 1, 12), BERLIN, "", received) == (us("2026-01-01T11:00:00Z"), 0)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("received", "utc"),
    [
        ("2026-10-25T00:31:00Z", "2026-10-25T00:30:00Z"),  # summer time's pass
        ("2026-10-25T01:31:00Z", "2026-10-25T01:30:00Z"),  # winter time's pass
        ("2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
        ("2026-10-26T12:00:00Z", "2026-10-25T01:30:00Z"),
    ],
)
def test_the_repeated_hour_is_the_pass_nearer_the_receive_time_and_flagged(received, utc):
    assert local("2026-10-25T02:30:00", BERLIN, "", us(received)) == (us(utc), AMBIGUOUS)


def test_the_hours_around_the_repeated_one_are_not_flagged():
    received = us("2026-10-25T02:00:00Z")
    assert local("2026-10-25T01:59:59", BERLIN, "", received) == (us("2026-10-24T23:59:59Z"), 0)
    assert local("2026-10-25T03:00:00", BERLIN, "", received) == (us("2026-10-25T02:00:00Z"), 0)


def test_the_missing_hour_is_read_as_a_clock_that_was_not_put_forward_and_flagged():
    assert local("2026-03-29T02:30:00", BERLIN, "", us("2026-03-29T01:31:00Z")) == (
        us("2026-03-29T01:30:00Z"),
        AMBIGUOUS,
    )


def test_a_local_time_that_brings_its_zone_is_read_by_that():
    assert local("2026-10-25T02:30:00+02:00", BERLIN, "", 0) == (us("2026-10-25T00:30:00Z"), 0)


@pytest.mark.parametrize("text", ["", "18:28", "2026-11-23", "2026-11-23T23:59:60", "2026-02-30T00:00:00"])
def test_what_is_no_local_time_is_invalid(text):
    assert local(text, BERLIN, "", 0) is Reason.INVALID_TIME


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00", "9999-12-31T23:59:59"])
def test_the_ends_of_the_calendar_do_not_raise(text):
    for zone in ("Europe/Berlin", "Pacific/Auckland", "America/Adak"):
        found = local(text, Zones(zone), "", 0)
        assert found is Reason.INVALID_TIME or isinstance(found, tuple)


@pytest.mark.parametrize(
    ("number", "unit_us", "utc"),
    [
        (1_795_428_000, 1_000_000, "2026-11-23T10:00:00Z"),
        (1_276_020_076.001, 1_000_000, "2010-06-08T18:01:16.001000Z"),
        (1_795_428_000_250, 1_000, "2026-11-23T10:00:00.250000Z"),
        (-1, 1_000_000, "1969-12-31T23:59:59Z"),
        (253_402_300_799, 1_000_000, "9999-12-31T23:59:59Z"),
    ],
)
def test_an_epoch_is_read_in_the_unit_that_its_dialect_declares(number, unit_us, utc):
    assert rfc3339(from_epoch(number, unit_us)) == utc


@pytest.mark.parametrize("number", [253_402_300_800, -62_135_596_801, 10**400, -1e300, float("inf"), float("nan")])
def test_an_epoch_beyond_the_calendar_is_invalid(number):
    assert from_epoch(number, 1_000_000) is Reason.INVALID_TIME
