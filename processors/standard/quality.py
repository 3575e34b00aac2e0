"""Quality of observations in QARTOD flags: the worst verdict wins. Arrays in, arrays out; `worse` is the scalar rule.

The tests over time (spike, rate of change, flat line) need what the database holds: `consistency` has their figures,
`storage.series` adds their bits.
"""

import numpy as np
import numpy.typing as npt

from processors.standard.observation import Quality, QualityTest

# From best to worst as seen by a merge: 9 < 2 < 1 < 3 < 4. A missing value says nothing, so every verdict beats it.
ORDER = (Quality.MISSING, Quality.NOT_EVALUATED, Quality.GOOD, Quality.SUSPECT, Quality.FAIL)

_FLAG = np.array(ORDER, dtype=np.int16)
# 0, the source's silence, ranks lowest like 9. Anything else outside the table is a bug upstream and raises.
_RANK = np.full(max(ORDER) + 1, -1, dtype=np.int16)
_RANK[list(ORDER)] = range(len(ORDER))
_RANK[0] = 0

Floats = npt.NDArray[np.float64]
Shorts = npt.NDArray[np.int16]


def worse(one: int, other: int) -> int:
    """The worse of two QARTOD flags."""
    return int(_FLAG[max(_RANK[one], _RANK[other])])


def assess_station(value: Floats, minimum: Floats, maximum: Floats, quality: Shorts, tests: Shorts) -> None:
    """Flag, in place, values outside the range that their station can show: suspect, and the bit STATION_RANGE.

    NaN in a limit: there is none. A missing value has nothing to test; a value nobody tested yet is good if it passes.
    """
    outside = (value < minimum) | (value > maximum)
    passed = ((value >= minimum) | (value <= maximum)) & ~outside
    quality[outside] = _FLAG[np.maximum(_RANK[quality[outside]], _RANK[Quality.SUSPECT])]
    quality[passed] = _FLAG[np.maximum(_RANK[quality[passed]], _RANK[Quality.GOOD])]
    tests[outside] |= np.int16(QualityTest.STATION_RANGE)


def assess(
    value: Floats,
    minimum: Floats,
    maximum: Floats,
    source_quality: Shorts,
    tests: Shorts,
    suspect_above: Floats | None = None,
) -> tuple[Shorts, Shorts]:
    """Flags and test bits of canonical values, all arrays of one length.

    value: NaN is missing (flag 9, whatever else is known of it).
    minimum, maximum: the gross range, inclusive; outside it the flag is 4. NaN in both: there is nothing to test.
    source_quality: the source's own flag, 0 for none; 3 and 4 set the bit SOURCE_FLAGGED.
    tests: bits known to be set already.
    suspect_above: flag 3 above it; NaN or no array: no such limit.
    """
    outside = (value < minimum) | (value > maximum)
    ranks = np.where(np.isnan(minimum) & np.isnan(maximum), _RANK[Quality.NOT_EVALUATED], _RANK[Quality.GOOD])
    fired = outside
    if suspect_above is not None:
        suspect = value > suspect_above
        ranks[suspect] = _RANK[Quality.SUSPECT]
        fired = outside | suspect
    ranks[outside] = _RANK[Quality.FAIL]
    source = _RANK[source_quality]
    missing = np.isnan(value)
    quality = _FLAG[np.maximum(ranks, source)]
    quality[missing] = Quality.MISSING
    flagged = source >= _RANK[Quality.SUSPECT]
    bits = tests | fired * np.int16(QualityTest.GROSS_RANGE) | flagged * np.int16(QualityTest.SOURCE_FLAGGED)
    return quality, bits
