"""The simulator's expectations and the pipeline's verdicts, held together without a server.

Neither knows the other: what the simulator says must become of its messages is checked against what routes, dialects,
mapping and window make of them. The database's part (duplicate or conflict) is a dictionary here.
"""

from pathlib import Path
from typing import NamedTuple

import pytest

from ingest import wire
from ingest.city import City
from ingest.city import load as load_city
from processors.batching import Intake
from processors.cursor import Bounds, Cursor
from processors.matching import load_profiles
from simulator.check import Letter, Row, count, verify
from simulator.cities import load as load_places
from simulator.expectation import Publication, digest
from simulator.networks import messages
from storage.rows import Batch, TopicPartition
from tests.unit.simulator.streams import START, Ticking, recorded

CITIES = Path(__file__).parents[3] / "deploy" / "cities"
HEADERS = wire.headers("gateway", qos=1, retain=False, dup=False)
MESSAGES = 2_000


class Record(NamedTuple):
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def _forwarded(offset: int, received: int, publication: Publication, city: City) -> Record:
    """What the gateway writes."""
    payload, headers = publication.payload, HEADERS
    if len(payload) > city.limits.max_payload_bytes:
        payload, refused = wire.refusal(payload, "max_payload_bytes")
        headers = [*HEADERS, refused]
    return Record(offset, received, publication.topic.encode(), payload, tuple(headers))


def _stored(batch: Batch, records: list[Record]) -> tuple[list[Row], list[Letter], int]:
    """What the database makes of a batch: rows, dead letters, duplicates."""
    rows: dict[tuple[object, ...], Row] = {}
    letters = [Letter(digest(records[dead.offset].value), dead.reading, dead.reason) for dead in batch.dead]
    duplicates = 0
    columns = batch.columns
    for n in range(len(columns)):
        stream = batch.streams.streams[columns.stream[n]]
        quality = int(columns.quality[n])
        value = None if quality == 9 else float(columns.value[n])
        row = Row(stream.device, stream.channel, stream.property, int(columns.time[n]), value, quality)
        known = rows.setdefault(row[:4], row)
        if known is row:
            continue
        if known.value == value:
            duplicates += 1
        else:
            record = records[columns.offset[n]]
            letters.append(Letter(digest(record.value), int(columns.reading[n]), "conflicting_value"))
    return list(rows.values()), letters, duplicates


@pytest.mark.parametrize("key", sorted(path.stem for path in CITIES.glob("*.toml")))
def test_the_pipeline_makes_of_every_message_what_the_simulator_expects(key: str) -> None:
    city = load_city(CITIES / f"{key}.toml")
    (place,) = (place for place in load_places(CITIES) if place.site.key == key)
    clock = Ticking()
    stream = messages(place.site, seed=3, clock=clock)
    published: list[Publication] = []
    records: list[Record] = []
    for offset in range(MESSAGES):
        published.append(next(stream))
        records.append(_forwarded(offset, clock.now // 1_000 + 5, published[-1], city))

    intake = Intake([city], profiles=load_profiles([city]))
    intake.add(Cursor(TopicPartition(wire.kafka_topic(key), 0), None, Bounds(0, MESSAGES)), records)
    batch = intake.take()
    rows, letters, duplicates = _stored(batch, records)

    record = [each._replace(published=START) for each in recorded(published)]
    assert verify(record, rows, letters) == []
    assert {each.dialect for each in batch.streams.streams} == {"hanse", "ttn", *place.site.dialects}
    counts = count(record)
    (span,) = batch.spans
    assert (counts.stored, counts.duplicate, counts.dead_lettered) == (len(rows), duplicates, len(letters))
    assert counts.ignored == span.ignored_messages + span.ignored_readings
    assert counts.published == span.readings + span.dead_messages + span.ignored_messages
