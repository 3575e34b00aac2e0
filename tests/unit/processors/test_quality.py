import itertools

import numpy as np
import pytest

from processors.standard.observation import Quality, QualityTest
from processors.standard.quality import assess, worse

NAN = float("nan")
RANGE = int(QualityTest.GROSS_RANGE)
SOURCE = int(QualityTest.SOURCE_FLAGGED)
GATEWAY = int(QualityTest.GATEWAY_TIME)


def judge(value, *, low=0.0, high=60.0, source=0, tests=0, suspect_above=None):
    limit = None if suspect_above is None else np.array([suspect_above])
    quality, bits = assess(
        np.array([value]),
        np.array([low]),
        np.array([high]),
        np.array([source], dtype=np.int16),
        np.array([tests], dtype=np.int16),
        limit,
    )
    return int(quality[0]), int(bits[0])


@pytest.mark.parametrize(("value", "expected"), [(0.0, 1), (60.0, 1), (-0.001, 4), (60.001, 4), (NAN, 9)])
def test_the_gross_range_includes_its_ends(value, expected):
    assert judge(value) == (expected, RANGE if expected == 4 else 0)


def test_a_value_with_nothing_to_test_it_against_is_not_evaluated():
    assert judge(5.0, low=NAN, high=NAN) == (2, 0)


@pytest.mark.parametrize(
    ("source", "expected"), [(0, (1, 0)), (1, (1, 0)), (2, (1, 0)), (3, (3, SOURCE)), (4, (4, SOURCE))]
)
def test_the_source_can_only_make_it_worse(source, expected):
    assert judge(5.0, source=source) == expected


def test_a_suspect_value_outside_the_range_fails_with_both_bits():
    assert judge(99.0, source=3) == (4, RANGE | SOURCE)


def test_a_missing_value_is_missing_whatever_its_source_says():
    assert judge(NAN, source=9, tests=GATEWAY) == (9, GATEWAY)


def test_bits_that_are_set_stay_set():
    assert judge(99.0, tests=GATEWAY) == (4, RANGE | GATEWAY)


@pytest.mark.parametrize(("value", "expected"), [(100.0, (1, 0)), (100.1, (3, RANGE)), (105.1, (4, RANGE))])
def test_a_humidity_above_100_is_suspect_before_it_fails(value, expected):
    assert judge(value, high=105.0, suspect_above=100.0) == expected


def test_a_limit_that_is_nan_is_none():
    assert judge(59.0, suspect_above=NAN) == (1, 0)


def test_the_worst_flag_wins_in_the_order_of_the_standard():
    order = [9, 2, 1, 3, 4]
    for one, other in itertools.product(order, order):
        assert worse(one, other) == max(one, other, key=order.index)


def test_columns_are_small_integers_of_the_length_that_came():
    n = 1000
    zeros = np.zeros(n, dtype=np.int16)
    quality, bits = assess(np.linspace(-1, 2, n), np.zeros(n), np.ones(n), zeros, zeros)
    assert (quality.dtype, bits.dtype, len(quality), len(bits)) == (np.int16, np.int16, n, n)
    assert set(quality) == {Quality.GOOD, Quality.FAIL}
    assert not zeros.any()
