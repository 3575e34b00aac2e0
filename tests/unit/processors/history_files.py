"""Files of history for tests, and what an import makes of them, row by row."""

from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from ingest.city import City, Identity, Limits, Route
from processors.history.chunk import HistoryFile
from processors.history.intake import Intake, Origin, Window
from storage.rows import Batch

SINCE = 1_577_836_800_000_000  # 2020-01-01T00:00:00Z
NOW = 1_795_435_200_000_000  # 2026-11-23T12:00:00Z
HEADER = "device,channel,property,phenomenon_time,value,unit,quality"
KIEL = City(
    city=Identity(key="kiel", name="Kiel"),
    route=(Route(filter="hanse/kiel/#", dialect="hanse"),),
    limits=Limits(max_ahead=timedelta(minutes=10)),
)


class Row(NamedTuple):
    """An observation as a batch holds it."""

    offset: int
    device: str
    channel: str
    property: str
    time: int
    value: str  # repr: NaN is equal to itself
    quality: int
    tests: int
    received: int


def csv_file(folder: Path, *lines: str, header: str = HEADER, name: str = "h.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def intake(city: City = KIEL, since: int = SINCE) -> Intake:
    return Intake(city, Origin("h.csv", "00" * 32), Window(since, NOW))


def batches(file: HistoryFile, *, at: int | None = None, rows: int = 1000, **changed: Any) -> list[Batch]:
    made = intake(**changed)
    return [made.batch(chunk, new=False) for chunk in file.chunks(file.first if at is None else at, rows)]


def rows(found: list[Batch]) -> list[Row]:
    return [
        Row(int(c.offset[n]), *batch.streams.streams[c.stream[n]][1:4], int(c.time[n]), repr(float(c.value[n])),
            int(c.quality[n]), int(c.quality_tests[n]), int(c.received[n]))
        for batch in found for c in [batch.columns] for n in range(len(c))
    ]  # fmt: skip


def refusals(found: list[Batch]) -> list[tuple[int, int | None, str]]:
    return sorted((letter.offset, letter.reading, str(letter.reason)) for batch in found for letter in batch.dead)
