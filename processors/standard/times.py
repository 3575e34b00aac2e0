"""Times: text to microseconds since the epoch (UTC) and back. Pure; the only clock is the message's receive time.

Whether a time lies in a city's accepted window is the mapping's question: 1970, 2036 and 9999 are read here like any
other year.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from processors.standard.observation import QualityTest, Reason
from processors.standard.zones import Zones

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_NAIVE = datetime(1970, 1, 1)  # noqa: DTZ001 - wall clock arithmetic, the offset is applied apart
_DAY_US = 86_400_000_000
_SECOND_US = 1_000_000
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_000_000  # the calendar's, in whole seconds
_PLAIN = len("2026-11-23T10:00:00Z")
_AMBIGUOUS = int(QualityTest.LOCAL_TIME_AMBIGUOUS)

# RFC 3339, with the blank between date and time that its section 5.6 tolerates; the last group is the zone.
_FORM = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(?:\.(\d+))?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)?",
    re.ASCII,
)
# ISO 8601's other forms of an instant, and zones as people write them: each can be read in one way only.
_ISO = re.compile(
    r"(?P<year>\d{4})(?P<dash>[-/]?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)(?:[Tt]| +)"
    r"(?P<hour>\d\d)(?P<colon>:?)(?P<minute>\d\d)(?:(?P=colon)(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?"
    r" *(?:(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d)?|(?P<zone>[A-Za-z]+))?",
    re.ASCII,
)
_ZONES = {
    **dict.fromkeys(("Z", "UTC", "GMT"), "Z"),
    **dict.fromkeys(("CET", "MEZ"), "+01:00"),
    **dict.fromkeys(("CEST", "MESZ"), "+02:00"),
}
_WITH_OFFSET = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?[+-]\d\d:[0-5]\d", re.ASCII)


def parse(text: str) -> int | Reason:
    """Microseconds since the epoch of an RFC 3339 time; NAIVE_TIME without a zone, INVALID_TIME if it is no time.

    Digits beyond microseconds are cut. A leap second (23:59:60 UTC) is read as the last microsecond of its minute, so
    that it stays in its day and after everything else in it.
    """
    at = _quick(text)
    return _parse_any(text) if at is None else at


def instant(text: str) -> int | Reason:
    """The same of any form of ISO 8601 that names one instant (20261123T1000Z, 2026-11-23T11:00+01)."""
    at = parse(text)
    if at is not Reason.INVALID_TIME:
        return at
    plain = _as_rfc3339(text)
    return at if plain is None else parse(plain)


def _as_rfc3339(text: str) -> str | None:
    form = _ISO.fullmatch(text.strip())
    if form is None:
        return None
    zone = "" if form["zone"] is None else _ZONES.get(form["zone"].upper())
    if zone is None:
        return None
    if form["sign"]:
        zone = f"{form['sign']}{form['hours']}:{form['minutes'] or '00'}"
    fraction = f".{form['fraction']}" if form["fraction"] else ""
    date = f"{form['year']}-{form['month']}-{form['day']}"
    return f"{date}T{form['hour']}:{form['minute']}:{form['second'] or '00'}{fraction}{zone}"


def _quick(text: str) -> int | None:
    """Of the usual forms with a zone. None: another form, a leap second, or no time."""
    # Most times end in Z and need no pattern: the signs in 2026-11-23T10:00:00Z stand three apart from the fourth, and
    # tell it from ISO 8601's other forms, which fromisoformat takes too (week dates, no separators, no seconds).
    signs = text[4:20:3]
    plain = (signs == "--T::Z" and len(text) == _PLAIN) or (
        signs == "--T::." and text[-1] == "Z" and text[20:-1].isdigit()
    )
    if plain or _WITH_OFFSET.fullmatch(text):
        try:
            since = datetime.fromisoformat(text) - _EPOCH
        except ValueError:
            return None
        return since.days * _DAY_US + since.seconds * _SECOND_US + since.microseconds
    return None


def _parse_any(text: str) -> int | Reason:
    read = _wall_clock(text)
    if read is None:
        return Reason.INVALID_TIME
    wall, leap, zone = read
    if zone is None:
        return Reason.NAIVE_TIME
    at = wall - _offset_us(zone)
    # Leap seconds are put in at the end of a UTC day, whatever the local time is then.
    if leap and at % _DAY_US < _DAY_US - _SECOND_US:
        return Reason.INVALID_TIME
    return at


def local(when: str | datetime, zones: Zones, device: str, received_us: int) -> tuple[int, int] | Reason:
    """Read a wall clock time in its device's zone: microseconds since the epoch and QualityTest bits.

    The repeated hour in October is read as the pass nearer the receive time, the missing one in March with the offset
    that was in force before it (a clock that was not put forward); both are flagged. A text that brings its own zone
    is read by that, and nobody asks for the device's.
    """
    if isinstance(when, str):
        known = _quick(when)
        if known is not None:
            return known, 0
        read = _wall_clock(when)
        if read is None:
            when = _as_rfc3339(when) or ""
            read = _wall_clock(when)
            if read is None:
                return Reason.INVALID_TIME
        wall, leap, own = read
        if own is not None:
            at = parse(when)
            return at if isinstance(at, Reason) else (at, 0)
        if leap:
            return Reason.INVALID_TIME  # a clock without a zone does not know when UTC's day ends
    else:
        wall = _since_epoch(when.replace(tzinfo=None))
    try:
        clock = (_EPOCH_NAIVE + timedelta(microseconds=wall)).replace(tzinfo=_zone(zones.of(device)))
        first, second = (wall - _us(clock.replace(fold=fold).utcoffset() or timedelta()) for fold in (0, 1))
    except OverflowError:
        return Reason.INVALID_TIME  # the first or last hours of the calendar
    if first == second:
        return first, 0
    if first > second:  # the missing hour: fold 0 is the offset before it
        return first, _AMBIGUOUS
    return (first if abs(received_us - first) <= abs(received_us - second) else second), _AMBIGUOUS


def from_epoch(number: float, unit_us: int) -> int | Reason:
    """Microseconds since the epoch of a count of units (of `unit_us` microseconds) since then, whole or broken.

    INVALID_TIME outside the years 1 to 9999. Which unit is meant is for the dialect to declare, never for the size.
    """
    if not _FIRST_US <= number * unit_us <= _LAST_US:  # False for NaN
        return Reason.INVALID_TIME
    return number * unit_us if isinstance(number, int) else round(number * unit_us)


def rfc3339(us: int) -> str:
    """RFC 3339 text in UTC, with the fraction only where there is one. Raises OverflowError outside years 1-9999."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")


def _wall_clock(text: str) -> tuple[int, bool, str | None] | None:
    """What the clock on the wall showed, in microseconds; whether it was a leap second; the zone's text."""
    form = _FORM.fullmatch(text)
    if form is None:
        return None
    date, hour, minute, second, fraction, zone = form.groups()
    leap = second == "60"
    try:
        day = datetime.fromisoformat(date)
    except ValueError:
        return None
    seconds = int(hour) * 3600 + int(minute) * 60 + (59 if leap else int(second))
    micro = 999_999 if leap else int(((fraction or "") + "000000")[:6])
    return _since_epoch(day) + seconds * _SECOND_US + micro, leap, zone


def _offset_us(zone: str) -> int:
    if zone in "Zz":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[4:6])
    return (-minutes if zone[0] == "-" else minutes) * 60 * _SECOND_US


def _since_epoch(wall: datetime) -> int:
    return _us(wall - _EPOCH_NAIVE)


def _us(delta: timedelta) -> int:
    return delta.days * _DAY_US + delta.seconds * _SECOND_US + delta.microseconds


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
