"""For tests of the hours: an independent sum of raw readings, in plain Python, and what the views say."""

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

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


def direction(values: list[float]) -> float | None:
    """Of the mean vector; None where they cancel out."""
    east = math.fsum(math.sin(math.radians(v)) for v in values)
    north = math.fsum(math.cos(math.radians(v)) for v in values)
    if math.hypot(east, north) / len(values) < 1e-4:
        return None
    degrees = math.degrees(math.atan2(east, north)) % 360
    return 0.0 if math.isclose(degrees, 360) else degrees


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
            return direction(values)
        case "counter":
            line = values if before is None else [before, *values]
            return math.fsum(counted(a, b, modulus) for a, b in pairwise(line))
        case _:
            on, known = on_and_known(readings, hour, now)
            return on / known if known else None


def on_and_known(readings: list[tuple[datetime, float]], hour: datetime, now: datetime) -> tuple[float, float]:
    """Seconds of an hour in which a state is on, and in which it is known."""
    times = [t for t, _ in readings] + [min(hour + HOUR, now)]
    held = [max(b - a, timedelta(0)).total_seconds() for a, b in pairwise(times)]
    return math.fsum(s for s, (_, v) in zip(held, readings, strict=True) if v), math.fsum(held)


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


Key = tuple[str, str, datetime]  # city, property, begin of the hour or day


def of_cities(conn: psycopg.Connection[Any]) -> tuple[dict[Key, Expected], dict[Key, Expected]]:
    """Every hour and every day of every city and property, from what lies in the hypertable."""
    (now,) = conn.execute("select now()").fetchone() or (None,)
    streams = {
        row[0]: row[1:]
        for row in conn.execute(
            "select d.datastream_id, c.key, p.key, p.aggregation from store.datastream d join store.city c using"
            " (city_id) join store.property p using (property_id)"
        ).fetchall()
    }
    usable: dict[tuple[int, datetime], list[tuple[datetime, float]]] = defaultdict(list)
    for stream, time, value in conn.execute(
        "select datastream_id, phenomenon_time, value from store.observation where quality in (1, 2) order by 1, 2"
    ):
        usable[stream, time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)].append((time, value))
    hours: dict[Key, list[Expected]] = defaultdict(list)
    parts: dict[tuple[int, datetime], list[tuple[datetime, Expected]]] = defaultdict(list)
    for (stream, hour), one in sorted(from_raw(conn).items()):
        city, prop, _ = streams[stream]
        hours[city, prop, hour].append(one)
        midnight = hour.astimezone(ZoneInfo("Europe/Berlin")).replace(hour=0)
        parts[stream, midnight.astimezone(UTC)].append((hour, one))
    days: dict[Key, list[Expected]] = defaultdict(list)
    for (stream, midnight), inside in parts.items():
        city, prop, aggregation = streams[stream]
        readings = [r for hour, _ in inside for r in usable[stream, hour]]
        known = [one for _, one in inside if one.minimum is not None]
        if aggregation == "counter":
            value = math.fsum(one.value or 0 for one in known) if known else None
        elif aggregation == "state":
            seconds = [on_and_known(usable[stream, hour], hour, now) for hour, _ in inside]  # type: ignore[arg-type]
            whole = math.fsum(s for _, s in seconds)
            value = math.fsum(on for on, _ in seconds) / whole if whole else None
        else:
            value = value_of(aggregation, readings, midnight, None, None, now) if readings else None  # type: ignore[arg-type]
        days[city, prop, midnight].append(_merged(inside, value))
    kinds = {(city, prop): aggregation for city, prop, aggregation in streams.values()}
    return tuple({key: _of_city(kinds[key[:2]], all_) for key, all_ in level.items()} for level in (hours, days))  # type: ignore[return-value]


def _merged(inside: list[tuple[datetime, Expected]], value: float | None) -> Expected:
    return _of_city("", [one._replace(value=None) for _, one in inside])._replace(value=value)


def _of_city(aggregation: str, streams: list[Expected]) -> Expected:
    """The mean of datastreams that have a value, each weighing the same."""
    values = [one.value for one in streams if one.value is not None]
    mean: float | None = None
    if values:
        match aggregation:
            case "energy":
                mean = 10 * math.log10(math.fsum(10 ** (v / 10) for v in values) / len(values))
            case "direction":
                mean = direction(values)
            case _:
                mean = math.fsum(values) / len(values)
    lows, highs = ([getattr(one, name) for one in streams] for name in ("minimum", "maximum"))
    flags = tuple(sum(n) for n in zip(*(one.flags for one in streams), strict=True))
    low, high = (
        min((v for v in lows if v is not None), default=None),
        max((v for v in highs if v is not None), default=None),
    )
    return Expected(mean, low, high, flags)  # type: ignore[arg-type]


def city_differences(conn: psycopg.Connection[Any]) -> dict[Key, tuple[Any, Any]]:
    """Hours and days of cities in which views and readings disagree, in one snapshot."""
    found: dict[Key, tuple[Any, Any]] = {}
    with conn.transaction():
        conn.execute("set transaction isolation level repeatable read")
        for here, (view, begins) in zip(
            of_cities(conn), (("city_hourly", "hour"), ("city_daily", "day_start")), strict=True
        ):
            there = {
                (row[0], row[1], row[2]): Expected(row[3], row[4], row[5], tuple(row[6:11]))
                for row in conn.execute(
                    f"select city, property, {begins}, value, minimum, maximum, good, unchecked, suspect, failed,"
                    f" missing from hanse.{view}"
                )
            }
            for key in here.keys() | there.keys():
                if not same(here.get(key), there.get(key)):
                    found[key] = (here.get(key), there.get(key))
    return found


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
