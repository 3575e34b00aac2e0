"""For tests of the hours: an independent sum of raw readings, in plain Python, and what the views say."""

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import psycopg

HOUR = timedelta(hours=1)
AGGREGATIONS = ("mean", "sum", "max", "energy", "direction", "counter", "state")


class Expected(NamedTuple):
    value: float | None
    minimum: float | None
    maximum: float | None
    flags: tuple[int, int, int, int, int]  # good, unchecked, suspect, failed, missing


def counted(before: float, value: float, modulus: float | None) -> float:
    if value >= before:
        return value - before
    if modulus is not None and before < modulus and value - before + modulus < modulus / 2:
        return value - before + modulus
    return value


def value_of(
    aggregation: str,
    readings: list[tuple[datetime, float]],
    hour: datetime,
    before: float | None,
    modulus: float | None,
    now: datetime,
) -> float | None:
    """The hour's value from its usable readings in order of time."""
    values = [value for _, value in readings]
    match aggregation:
        case "mean":
            return math.fsum(values) / len(values)
        case "sum":
            return math.fsum(values)
        case "max":
            return max(values)
        case "energy":
            return 10 * math.log10(math.fsum(10 ** (v / 10) for v in values) / len(values))
        case "direction":
            east = math.fsum(math.sin(math.radians(v)) for v in values)
            north = math.fsum(math.cos(math.radians(v)) for v in values)
            if math.hypot(east, north) / len(values) < 1e-4:
                return None
            degrees = math.degrees(math.atan2(east, north)) % 360
            return 0.0 if math.isclose(degrees, 360) else degrees
        case "counter":
            line = values if before is None else [before, *values]
            return math.fsum(counted(a, b, modulus) for a, b in pairwise(line))
        case _:
            end = min(hour + HOUR, now)
            times = [t for t, _ in readings] + [end]
            held = [max(b - a, timedelta(0)).total_seconds() for a, b in pairwise(times)]
            known = math.fsum(held)
            return math.fsum(s for s, v in zip(held, values, strict=True) if v) / known if known else None


def from_raw(conn: psycopg.Connection[Any]) -> dict[tuple[int, datetime], Expected]:
    """Every hour of every datastream, computed here from what lies in the hypertable."""
    (now,) = conn.execute("select now()").fetchone() or (None,)
    streams = conn.execute(
        "select datastream_id, aggregation, (parameters ->> 'modulus')::float8 from store.datastream"
        " join store.property using (property_id)"
    ).fetchall()
    rows: dict[int, list[tuple[datetime, float | None, int]]] = defaultdict(list)
    for stream, time, value, quality in conn.execute(
        "select datastream_id, phenomenon_time, value, quality from store.observation order by 1, 2"
    ):
        rows[stream].append((time, value, quality))
    expected = {}
    for stream, aggregation, modulus in streams:
        before: float | None = None
        hours: dict[datetime, list[tuple[datetime, float | None, int]]] = defaultdict(list)
        for row in rows[stream]:
            hours[row[0].astimezone(UTC).replace(minute=0, second=0, microsecond=0)].append(row)
        for hour, inside in sorted(hours.items()):
            usable = [(t, v) for t, v, q in inside if q in (1, 2) and v is not None]
            flags = tuple(sum(q == flag for *_, q in inside) for flag in (1, 2, 3, 4, 9))
            value = value_of(aggregation, usable, hour, before, modulus, now) if usable else None
            low, high = (min(v for _, v in usable), max(v for _, v in usable)) if usable else (None, None)
            expected[stream, hour] = Expected(value, low, high, flags)  # type: ignore[arg-type]
            before = usable[-1][1] if usable else before
    return expected


def shown(conn: psycopg.Connection[Any], view: str = "hanse.hourly") -> dict[tuple[int, datetime], Expected]:
    """The same as the view has it."""
    return {
        (row[0], row[1]): Expected(row[2], row[3], row[4], tuple(row[5:10]))
        for row in conn.execute(
            "select datastream_id, hour, value, minimum, maximum, good, unchecked, suspect, failed, missing"
            f" from {view}"
        )
    }


def differences(conn: psycopg.Connection[Any]) -> dict[tuple[int, datetime], tuple[Any, Any]]:
    """Hours in which view and readings disagree, in one snapshot; float sums up to their last digits."""
    with conn.transaction():
        conn.execute("set transaction isolation level repeatable read")
        here, there = from_raw(conn), shown(conn)
    return {
        key: (here.get(key), there.get(key))
        for key in here.keys() | there.keys()
        if not same(here.get(key), there.get(key))
    }


def same(a: Expected | None, b: Expected | None) -> bool:
    if a is None or b is None:
        return False
    close = (a.value is None and b.value is None) or (
        a.value is not None and b.value is not None and math.isclose(a.value, b.value, rel_tol=1e-9, abs_tol=1e-7)
    )
    return close and a[1:] == b[1:]
