"""The stream of messages: reproducible, plausible, and with every kind of trouble in it."""

import csv
import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from simulator.devices import Quantity, Unit
from simulator.expectation import digest
from simulator.faults import FAULTS, READINGS
from simulator.networks import COPIES, PROBES
from simulator.oddities import ODDITIES
from tests.unit.simulator.streams import START, stream, taken

VOCABULARY = Path(__file__).parents[3] / "processors" / "standard" / "vocabulary.csv"
DAY = 86_400_000_000


def test_the_same_seed_and_clock_give_the_same_messages() -> None:
    assert list(islice(stream(), 1_000)) == list(islice(stream(), 1_000))


def test_another_seed_or_city_gives_other_messages() -> None:
    assert taken(50) != taken(50, seed=2)
    assert [each.payload for each in taken(50)] != [each.payload for each in taken(50, city="kiel")]


def test_seven_cities_have_shown_every_fault_and_oddity_after_twenty_seconds() -> None:
    seen = Counter(
        each.expected.kind
        for share in range(7)
        for each in islice(stream(f"city{share}", share=share, shares=7), 20 * 40)
    )

    assert set(FAULTS) | set(ODDITIES) <= set(seen)


def test_one_city_alone_has_shown_every_fault_and_oddity_after_twenty_seconds() -> None:
    assert set(FAULTS) | set(ODDITIES) <= {each.expected.kind for each in taken(20 * 40)}


def test_in_the_long_run_one_message_in_two_hundred_is_bad_and_one_in_a_hundred_a_copy_or_late() -> None:
    kinds = Counter(each.expected.kind for each in islice(stream(share=3, shares=7), 12_000))
    bad = sum(kinds[name] for name in FAULTS)

    assert bad / kinds.total() == pytest.approx(0.005, rel=0.15)
    assert kinds["copy"] / kinds.total() == pytest.approx(COPIES, rel=0.3)
    assert kinds["late"] / kinds.total() == pytest.approx(0.01, rel=0.3)


def test_no_two_readings_share_an_identity_unless_the_message_says_it_is_a_copy() -> None:
    fresh = [good for each in taken(6_000) if not each.expected.copy for good in each.expected.good]
    identities = [(*good[:4], good.value if good.time is None else None) for good in fresh]

    assert [identity for identity, times in Counter(identities).items() if times > 1] == []


def test_identities_stay_apart_when_the_clock_stands_still() -> None:
    from simulator.networks import Site, messages

    frozen = islice(messages(Site("kiel"), seed=1, clock=lambda: START), 2_000)
    fresh = [good for each in frozen if not each.expected.copy for good in each.expected.good if good.time]

    assert len(fresh) == len({good[:4] for good in fresh})


def test_a_copy_is_its_original_byte_for_byte_and_follows_it() -> None:
    earlier: dict[bytes, tuple[str, object]] = {}
    copies = 0
    for each in taken(6_000):
        if each.expected.kind == "copy":
            copies += 1
            assert (each.topic, each.expected.good) == earlier[each.payload]
        earlier[each.payload] = (each.topic, each.expected.good)

    assert copies > 30


def test_a_conflict_repeats_an_earlier_message_with_another_value_in_one_reading() -> None:
    published: dict[tuple[object, ...], float | None] = {}
    conflicts = 0
    for each in taken(6_000):
        if each.expected.kind == "conflict":
            conflicts += 1
            body = json.loads(each.payload)
            reading = body["readings"][each.expected.bad[0].reading]
            assert each.expected.copy
            assert all(good[:4] in published for good in each.expected.good)
            assert reading["value"] != published["raw", each.topic, body["time"], reading["property"]]
            continue
        published |= {good[:4]: good.value for good in each.expected.good}
        if each.topic.startswith("hanse/") and not each.expected.bad and b"readings" in each.payload:
            body = json.loads(each.payload)
            for reading in body["readings"]:
                published.setdefault(("raw", each.topic, body.get("time"), reading["property"]), reading["value"])

    assert conflicts


def test_late_readings_stay_within_the_accepted_month() -> None:
    ages = [START + 150_000_000 - good.time for each in taken(6_000) if each.expected.kind == "late"
            for good in each.expected.good if good.time]  # fmt: skip

    assert min(ages) > 3_000_000_000
    assert max(ages) < 30 * DAY
    assert sum(age > DAY for age in ages) > 10


def test_probes_carry_the_instant_of_publication_and_are_never_late() -> None:
    last = 0
    for each in taken(5_000):
        if each.expected.kind == "copy" or each.topic.rpartition("/")[2] not in PROBES:
            continue
        (time,) = {good.time for good in each.expected.good}
        assert time is not None
        assert time > last
        last = time

    assert last > START


def test_good_values_lie_within_the_vocabularys_gross_range_all_year_round() -> None:
    with VOCABULARY.open(encoding="utf-8") as file:
        ranges = {row["property"]: (float(row["min"]), float(row["max"])) for row in csv.DictReader(file)}
    from simulator.networks import Site, messages

    for month in range(12):
        now = iter(range(START + month * 30 * DAY, START + (month + 1) * 30 * DAY, DAY // 20))
        for each in islice(messages(Site("wismar"), seed=month, clock=lambda now=now: next(now)), 400):
            for good in each.expected.good:
                if good.quality != 1:
                    continue
                low, high = ranges[good.property]
                assert good.value is not None
                assert low <= good.value <= high, good


def test_counters_never_fall() -> None:
    with VOCABULARY.open(encoding="utf-8") as file:
        counters = {row["property"] for row in csv.DictReader(file) if row["kind"] == "counter"}
    last: dict[tuple[str, str, str], tuple[int, float]] = {}
    grown: Counter[str] = Counter()
    for place, each in enumerate(taken(6_000)):
        if each.expected.copy:
            continue
        for good in each.expected.good:
            if good.property not in counters:
                continue
            time = place if good.time is None else good.time
            before = last.get(good[:3])
            if before is not None and before[0] < time:
                assert good.value is not None
                assert good.value >= before[1]
                grown[good.property] += good.value > before[1]
            if before is None or before[0] < time:
                last[good[:3]] = (time, good.value or 0.0)

    assert set(grown.elements()) >= {"electric_energy_import", "electric_energy_export", "water_volume_total"}
    assert {"heat_energy_total", "precipitation_total"} <= set(grown)


@pytest.mark.parametrize(
    ("unit", "canonical", "number"),
    [
        (Unit("[degF]", 5 / 9, -160 / 9), 7.0, 44.6),
        (Unit("K", 1.0, -273.15, 2), 7.0, 280.15),
        (Unit("Pa", 0.01, decimals=0), 1013.25, 101325.0),
        (Unit("km/h", 1 / 3.6), 10.0, 36.0),
    ],
)
def test_the_truth_is_the_number_on_the_wire_turned_back(unit: Unit, canonical: float, number: float) -> None:
    published, truth = Quantity("", unit, lambda *_: canonical).measure(0.0, None)  # type: ignore[arg-type]

    assert number == published
    assert canonical == pytest.approx(truth, abs=1e-9)


def test_a_wind_from_the_north_is_zero_degrees_not_three_hundred_and_sixty() -> None:
    quantity = Quantity("wind_direction", Unit("deg", decimals=0), lambda *_: 359.8)

    assert quantity.measure(0.0, None) == (0.0, 0.0)  # type: ignore[arg-type]


def _fault(name: str):
    return next(each for each in taken(2_000) if each.expected.kind == name)


def test_a_dead_letter_is_due_with_the_bytes_that_were_published() -> None:
    for each in taken(2_000):
        if each.expected.bad and each.expected.kind != "too_large":
            assert digest(each.payload) == each.expected.kept


def test_a_payload_one_byte_too_large_is_due_as_its_first_sixty_four_kilobytes() -> None:
    large = _fault("too_large")

    assert len(large.payload) == 262_145
    assert digest(large.payload[:65_536]) == large.expected.kept


def test_the_pack_of_too_many_readings_fits_the_byte_limit_so_that_its_number_is_what_is_wrong() -> None:
    pack = _fault("too_many_readings")

    assert len(json.loads(pack.payload)["readings"]) == READINGS
    assert len(pack.payload) <= 262_144


def test_json_with_nan_infinity_or_a_cut_is_due_whole_but_an_overflow_only_as_a_reading() -> None:
    assert b"NaN" in _fault("nan").payload
    assert b"-Infinity" in _fault("infinity").payload
    assert b"1e999" in _fault("overflow").payload
    assert [_fault(name).expected.bad[0].reading for name in ("nan", "infinity", "overflow")] == [None, None, 0]
    with pytest.raises(json.JSONDecodeError):
        json.loads(_fault("truncated_json").payload)
    with pytest.raises(UnicodeDecodeError):
        _fault("not_utf8").payload.decode()


def test_a_bad_reading_has_good_neighbours() -> None:
    for name in ("number_as_string", "true_as_value", "unknown_unit", "year_9999", "naive_time", "nul_in_string"):
        assert len(_fault(name).expected.good) == 7
        assert _fault(name).expected.units == 8
