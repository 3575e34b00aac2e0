"""Batches for tests of the writer: readings as tuples in, a Batch with honest counts out."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from storage.rows import (
    Batch,
    CityLimits,
    Columns,
    DeadLetter,
    Property,
    RawMessage,
    Span,
    Stream,
    StreamTable,
    TopicPartition,
    columns,
)

T0 = 1_795_435_200_000_000  # 2026-11-23T12:00:00Z
SECOND = 1_000_000
HOUR = 3_600 * SECOND

KIEL = CityLimits("kiel", "Kiel", "01002000", 5_000, 1_000_000)
WISMAR = CityLimits("wismar", "Wismar", "13074087", 5_000, 1_000_000)
TEMPERATURE = Property("air_temperature", "Cel", "weather", "gauge", "mean", -45, 50)
PRESSURE = Property("air_pressure", "hPa", "weather", "gauge", "mean", 850, 1090)


class R(NamedTuple):
    """One reading; one message each."""

    device: str
    time: int  # microseconds after T0
    value: float | None
    channel: str = ""
    property: str = "air_temperature"
    key: str = "temp"
    unit: str = "C"
    received: int | None = None  # microseconds since the epoch


def stream(reading: R, city: str = "kiel") -> Stream:
    return Stream(city, reading.device, reading.channel, reading.property, reading.key, reading.unit, "hanse")


def message(offset: int) -> RawMessage:
    return RawMessage(f"hanse/kiel/{offset}", b"payload %d" % offset, T0 // 1_000 + offset)


def span(
    readings: list[R],
    *,
    at: int = 0,
    partition: int = 0,
    city: str = "kiel",
    new: bool | None = None,
    dead_messages: int = 0,
    dead_readings: int = 0,
    **changed: Any,
) -> Span:
    messages = len(readings) + dead_messages
    given: dict[str, Any] = {
        "partition": TopicPartition(f"hanse.raw.{city}", partition),
        "city": city,
        "first_offset": at,
        "next_offset": at + messages,
        "last_timestamp": 1_795_435_200_000 + at,
        "last_hash": b"%8d" % at,
        "messages_at": message,
        "new": at == 0 if new is None else new,
        "messages": messages,
        "decoded": len(readings),
        "dead_messages": dead_messages,
        "readings": len(readings) + dead_readings,
        "dead_readings": dead_readings,
    }
    return Span(**(given | changed))


def batch(
    table: StreamTable,
    readings: Iterable[R],
    *,
    at: int = 0,
    partition: int = 0,
    city: str = "kiel",
    new: bool | None = None,
    dead: Iterable[DeadLetter] = (),
    **changed: Any,
) -> Batch:
    """One span of one message a reading; dead letters of messages of their own follow them."""
    listed, letters = list(readings), list(dead)
    one = span(listed, at=at, partition=partition, city=city, new=new, dead_messages=len(letters), **changed)
    return Batch([one], rows_of(table, [(city, at, listed)]), table, letters)


def rows_of(table: StreamTable, spans: list[tuple[str, int, list[R]]]) -> Columns:
    return columns(
        [
            (
                table.number(stream(r, city)),
                T0 + r.time,
                float("nan") if r.value is None else r.value,
                9 if r.value is None else 1,
                0,
                T0 + r.time + SECOND if r.received is None else r.received,
                number,
                at + place,
                0,
                table.origin(r.key, r.unit),
            )
            for number, (city, at, readings) in enumerate(spans)
            for place, r in enumerate(readings)
        ]
    )
