"""One explained message as tables for a person: what was decided of each value, by whom, and what cures a rejection."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ingest.city import City, Route
from processors.explaining import Explained, Row
from processors.standard import times
from processors.standard.observation import Leaf, Quality, QualityTest, Reading, Reason, Rejection
from processors.standard.units import IDENTITY

CURES: dict[Reason, str] = {
    Reason.EMPTY_PAYLOAD: "route topics that are cleared on purpose to 'ignore'",
    Reason.NOT_UTF8: "let the publisher send UTF-8, or route binary topics to their dialect",
    Reason.INVALID_JSON: "correct the publisher; NaN and Infinity are no JSON: leave the reading out, or send null",
    Reason.NOT_AN_OBJECT: "check the route's dialect",
    Reason.TOO_LARGE: "split the message, or raise limits.max_payload_bytes in the city file",
    Reason.TOO_DEEP: "flatten the message",
    Reason.TOO_MANY_READINGS: "split the message, or raise limits.max_readings or limits.max_keys in the city file",
    Reason.MALFORMED: "check the route's dialect (docs/dialects), or correct the publisher",
    Reason.NO_DEVICE: "let the publisher name the device as its dialect asks for",
    Reason.DEVICE_TOO_LONG: "give the device a shorter name",
    Reason.NO_ROUTE: "add a [[route]] to the city file, or one to 'ignore'",
    Reason.UNKNOWN_STATE: "let the source announce itself (birth, description), then replay",
    Reason.NOT_FINITE: "correct the sensor's driver; declare it in a profile's 'drop' if it says 'no measurement'",
    Reason.NOT_A_NUMBER: "say in a device profile what the value stands for ('values'), or ignore the key",
    Reason.INVALID_TEXT: "correct the publisher's text: no NUL, whole characters",
    Reason.UNMAPPED_PROPERTY: "say in a device profile what the key means, or that it is no observation",
    Reason.UNKNOWN_UNIT: "let the message or a device profile name the unit; a missing spelling: report it",
    Reason.WRONG_DIMENSION: "check property and unit: one of the two is wrong",
    Reason.NAIVE_TIME: "let the publisher add a zone",
    Reason.INVALID_TIME: "correct the device's clock or its format",
    Reason.TIME_OUT_OF_RANGE: "set the device's clock, or widen limits.max_age and replay",
    Reason.CONFLICTING_VALUE: "let the publisher name a channel for each sensor, or send one value for one time",
    Reason.UNKNOWN_ALIAS: "let the edge node send a birth, then replay",
    Reason.INTERNAL_ERROR: "report it with this message; replay after the fix",
}


WIDE = 140
COLUMNS = ("device", "key", "as it came", "property", "value", "known by", "conversion", "time", "quality")
REJECTED = ("device", "key", "as it came", "reason", "detail", "cure")


def show(explained: Explained, city: City, route: Route | None, console: Console) -> None:
    """Print every decision of one message."""
    told = explained.told
    by = "no route takes it" if route is None else f"route {route.filter!r} to dialect {route.dialect}"
    head = Text.assemble(
        (told.topic, "bold"), f"  city {city.key}: {by}\nreceived {times.rfc3339(told.received_ms * 1000)}, ",
        f"{len(told.payload)} bytes{', retained' if told.retain else ''}",
    )  # fmt: skip
    parts: list[RenderableType] = [head]
    if explained.rows:
        cells = [_observation(row) for row in explained.rows]
        parts.append(_table("Observations", COLUMNS, cells) if console.width >= WIDE else _observations(cells))
    if explained.letters:
        cells = list(_rejections(explained))
        parts.append(_table("Rejections", REJECTED, cells) if console.width >= WIDE else _refusals(cells))
    if explained.ignored is not None:
        parts.append(Text(f"ignored: {explained.ignored}", "yellow"))
    if explained.left_out:
        table = Table("ignored key", "value", "why", title="No observations", title_justify="left")
        for leaf, why in explained.left_out:
            table.add_row(Text(getattr(leaf, "key", None) or "-"), Text(_raw(leaf)), why)
        parts.append(table)
    console.print(Group(*parts))


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for cells in rows:
        table.add_row(*map(Text, cells))
    return table


def _observation(row: Row) -> Sequence[str]:
    """The cells of COLUMNS."""
    meaning = row.meaning
    device = f"{row.leaf.device} / {meaning.channel}" if meaning.channel else row.leaf.device
    factor, offset, divisor = meaning.conversion
    converted = "none" if meaning.conversion == IDENTITY else f"x {factor / divisor:.6g}"
    if offset:
        converted += f" {offset / divisor:+.6g}"
    value = "missing" if row.value is None else f"{row.value:.10g}"
    flags = ", ".join(test.name.lower() for test in QualityTest if row.tests & test and test.name)
    quality = f"{row.quality} {Quality(row.quality).name.lower()}" + (f": {flags}" if flags else "")
    came = f"{_raw(row.leaf)} {meaning.unit}"
    observed = meaning.observed
    cells = (device, row.leaf.key, came, observed.key, f"{value} {observed.unit}", meaning.layer, converted)
    return (*cells, times.rfc3339(row.time), quality)


def _observations(rows: Iterable[Sequence[str]]) -> Text:
    """The same a block each, where a table would cut off what it says."""
    shown = Text("Observations\n", "italic")
    for device, key, came, observed, value, layer, converted, time, quality in rows:
        shown.append(f"  {observed} = {value}", "bold not italic")
        shown.append(f"  {quality}\n    {time}  {device}: {key} = {came}\n", "not italic")
        shown.append(f"    known by {layer}, conversion {converted}\n", "dim not italic")
    return shown


def _rejections(explained: Explained) -> Iterator[Sequence[str]]:
    """The cells of REJECTED."""
    for letter, leaf in explained.letters:
        came = letter.raw_value or "" if leaf is None else _raw(leaf)
        unit = f" {letter.raw_unit}" if letter.raw_unit else ""
        cells = (letter.device or "", letter.raw_key or "(message)", came + unit, str(letter.reason), letter.detail)
        yield (*cells, CURES.get(Reason(letter.reason), ""))


def _refusals(rows: Iterable[Sequence[str]]) -> Text:
    shown = Text("Rejections\n", "italic")
    for device, key, came, reason, detail, cure in rows:
        what = f"{device}: {key}" if device else key
        shown.append(f"  {reason}", "bold not italic")
        shown.append(f"  {what}{f' = {came}' if came else ''}\n    {detail}\n", "not italic")
        if cure:
            shown.append(f"    cure: {cure}\n", "dim not italic")
    return shown


def _raw(leaf: Leaf) -> str:
    if isinstance(leaf, Rejection):
        return leaf.value or ""
    if not isinstance(leaf, Reading):
        return ""
    return str(leaf.raw) if leaf.raw is not None else "null" if leaf.value is None else f"{leaf.value:.10g}"
