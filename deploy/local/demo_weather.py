"""What the demo shows at its end: the cities side by side, the storm that its readings tell of, the dialects spoken.

All of it is what any reader of the public views would see: `hanse.city_comparison`, `hanse.weather_events()` and
`hanse.datastreams`. The loggers of the simulator tell of a storm that is over; when it was is chosen here, so that the
storm of one run never adds its rain to that of another.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import psycopg
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from simulator.storm import HOURS

Connection = psycopg.Connection[Any]

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = timedelta(hours=1)
APART = timedelta(hours=4)  # a surge is in the middle of its storm, which begins and ends so long before and after it
OLDEST = timedelta(days=20)  # well within the month in which readings are taken

SURGES = "select distinct hour from hanse.extreme_weather where property = 'water_level' and hour >= %s"
# Late hours that maintain has yet to sum up; those since `materialized` are computed in the view.
UNSUMMED = """
select count(*) from store.rollup_dirty d, store.rollup_state s
 where d.hour < s.materialized and d.hour >= %s and d.hour < %s"""
COMPARISON = """
select city, property, value, maximum, alliance_value from hanse.city_comparison
 where resolution = 'day' and property = any(%s) and begins >= %s and begins < %s"""
EVENTS = """
select distinct on (city, hazard) city, hazard, level, label, begins, ends, peak
  from hanse.weather_events(%s, %s) where hazard = any(%s)
 order by city, hazard, level desc, peak desc"""
DIALECTS = """
select d.dialect, count(distinct d.city)::int4, count(*)::int4
  from hanse.latest l join hanse.datastreams d using (datastream_id)
 where l.received_at >= %s group by 1 order by 1"""

# Property, heading, whether the day's highest value is shown instead of its mean, decimals.
COMPARED = (
    ("air_temperature", "air\n°C", False, 1),
    ("relative_humidity", "humidity\n%", False, 0),
    ("wind_speed", "wind\nm/s", False, 1),
    ("wind_speed_gust", "gusts to\nm/s", True, 1),
    ("noise_laeq", "noise\ndB(A)", False, 1),
    ("pm2_5", "PM2.5\nµg/m³", False, 1),
    ("vehicle_speed_mean", "traffic\nkm/h", False, 0),
)
HAZARDS = {"gust": ("gusts", "m/s"), "heavy_rain": ("heavy rain", "mm"), "storm_surge": ("storm surge", "m")}


class Event(NamedTuple):
    """The highest event of a hazard in a city. `level` as the warning service numbers them."""

    city: str
    hazard: str
    level: int
    label: str
    begins: datetime
    ends: datetime
    peak: float


class Findings(NamedTuple):
    """What the views say after a run; `compared`: by city and property (value, maximum), and the alliance's value."""

    compared: Mapping[tuple[str, str], tuple[float | None, float | None]]
    alliance: Mapping[str, float | None]
    events: Sequence[Event]
    dialects: Sequence[tuple[str, int, int]]


def storm_end(connection: Connection, now: datetime) -> datetime:
    """The end of the newest nine hours for which no storm is known yet, a full hour at least one hour ago."""
    newest = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - HOUR
    surges = [hour for (hour,) in connection.execute(SURGES, (newest - OLDEST,))]
    for hours in range(OLDEST // HOUR - HOURS):
        ended = newest - hours * HOUR
        if not any(ended - (HOURS * HOUR) - APART <= surge < ended + APART for surge in surges):
            return ended
    return newest


def summed_up(connection: Connection, ended: datetime, seconds: float) -> bool:
    """Wait until the storm's hours are in the rollups, so long at most; whether they are."""
    deadline = time.monotonic() + seconds
    while True:
        row = connection.execute(UNSUMMED, (ended - HOURS * HOUR, ended)).fetchone()
        if row is not None and row[0] == 0:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)


def findings(connection: Connection, ended: datetime, began: datetime) -> Findings:
    """What the public views say of today, of the storm that was over at `ended`, and of what came since `began`."""
    today = datetime.now(BERLIN).replace(hour=0, minute=0, second=0, microsecond=0)
    names = [name for name, *_ in COMPARED]
    compared, alliance = {}, {}
    for city, name, value, maximum, mean in connection.execute(COMPARISON, (names, today, today + timedelta(days=1))):
        compared[city, name] = (value, maximum)
        alliance[name] = mean
    found = connection.execute(EVENTS, (ended - HOURS * HOUR, ended, list(HAZARDS)))
    events = [Event(*row) for row in found]
    return Findings(compared, alliance, events, connection.execute(DIALECTS, (began,)).fetchall())


def page(cities: Sequence[str], found: Findings, ended: datetime) -> Group:
    """All of it, 80 columns wide at most."""
    spoken = ", ".join(f"{dialect} {streams}" for dialect, _, streams in found.dialects)
    notes = Text(f"{len(found.dialects)} dialects, with their datastreams: {spoken}.", style="dim")
    return Group(_side_by_side(cities, found), _storm(cities, found.events, ended), notes, Text())


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _side_by_side(cities: Sequence[str], found: Findings) -> Table:
    table = _table("Cities side by side, today (hanse.city_comparison)")
    table.show_footer = True
    table.add_column("city", footer="alliance", no_wrap=True)
    for name, heading, highest, decimals in COMPARED:
        footer = "" if highest else _number(found.alliance.get(name), decimals)
        table.add_column(heading, footer=footer, justify="right", no_wrap=True)
    for city in cities:
        cells = []
        for name, _, highest, decimals in COMPARED:
            value, maximum = found.compared.get((city, name), (None, None))
            cells.append(_number(maximum if highest else value, decimals))
        table.add_row(city, *cells)
    return table


def _storm(cities: Sequence[str], events: Sequence[Event], ended: datetime) -> Table:
    begin, end = (at.astimezone(BERLIN) for at in (ended - HOURS * HOUR, ended))
    table = _table(f"Storm of {begin:%d %b %H:%M} to {end:%d %b %H:%M} (hanse.weather_events())")
    table.add_column("city", no_wrap=True)
    for heading, _ in HAZARDS.values():
        table.add_column(heading)
    by_place = {(event.city, event.hazard): event for event in events}
    for city in cities:
        table.add_row(city, *(_event(by_place.get((city, hazard)), HAZARDS[hazard][1]) for hazard in HAZARDS))
    return table


def _event(event: Event | None, unit: str) -> Text:
    """Level, peak and hours; the service's word for it below."""
    if event is None:
        return Text("-", style="dim")
    begin, end = event.begins.astimezone(BERLIN), event.ends.astimezone(BERLIN)
    strong = "bold red" if event.level >= 3 else "yellow" if event.level == 2 else ""  # noqa: PLR2004  (as warnings are coloured)
    text = Text(f"{event.level}", style=strong)
    text.append(f"  {event.peak:.{2 if unit == 'm' else 1}f} {unit}  {begin:%H}-{end:%H} h", style="")
    return text.append(f"\n{event.label}", style="dim")
