"""The city file: what one city's networks are called, where they publish and what they may send.

Read by the gateway (broker, filters, limits) and by the processors (routes, limits, devices). Everything wrong with a
file is found here before anything connects, and named with its place, its value and the cure. Which dialects exist is
the processors' knowledge, so a route's dialect is only a name here.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from service import toml
from service.settings import place, said

MQTT_TEXT_BYTES = 65_535
LONGEST = timedelta(days=36_525)  # a century: in microseconds it is far from the end of 64 bits
CITY_KEY = re.compile(r"[a-z][a-z0-9_]{0,31}")
# Taken by database roles and schemas; storage.roles refuses the same (the edges do not know each other, a test does).
RESERVED = frozenset({"alliance", "owner", "migrator", "ingest", "metrics", "reader"})


class CityFileError(ValueError):
    """The city file can't be used; one line a fault: file, place, value, cure."""


def _filter(text: str) -> str:
    levels = text.split("/")
    if not text or len(text.encode()) > MQTT_TEXT_BYTES or "\0" in text:
        raise ValueError("an MQTT topic filter has 1 to 65,535 bytes and no NUL")
    for index, level in enumerate(levels):
        if (len(level) > 1 and ("+" in level or "#" in level)) or (level == "#" and index + 1 < len(levels)):
            raise ValueError("'+' takes a whole level and '#' the whole rest, as in a/+/c or a/#")
    return text


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError("not a zone of the IANA time zone database, as in Europe/Berlin") from error
    return name


def _key(text: str) -> str:
    if not CITY_KEY.fullmatch(text):
        raise ValueError("lower-case letters, digits and '_', starting with a letter, at most 32")
    if text in RESERVED:
        raise ValueError(f"reserved for a database role, as {', '.join(sorted(RESERVED - {text}))} are; choose another")
    return text


def _no_wildcard(text: str) -> str:
    if text and set(_filter(text)) & set("+#"):
        raise ValueError("one topic without '+' and '#', or empty")
    return text


def _at_least(named: str, least: timedelta) -> AfterValidator:
    def bounded(given: timedelta) -> timedelta:
        if not least <= given <= LONGEST:
            raise ValueError(f"is between {named} and P{LONGEST.days}D")
        return given

    return AfterValidator(bounded)


TopicFilter = Annotated[str, AfterValidator(_filter)]
Zone = Annotated[str, AfterValidator(_zone)]
CityKey = Annotated[str, AfterValidator(_key)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Identity(_Table):
    """Who the city is. `ags`: Amtlicher Gemeindeschlüssel, eight digits."""

    key: CityKey
    name: str = Field(min_length=1)
    ags: str = Field(default="", pattern=r"^(\d{8})?$")
    timezone: Zone = "Europe/Berlin"


class Mqtt(_Table):
    """The city's broker. A gateway's client id is fixed: its session lives in the broker under it."""

    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65_535)
    client_id: str | None = Field(default=None, min_length=1, max_length=65_535)
    keepalive: timedelta = timedelta(seconds=30)
    tls: bool | None = None  # None: on if any certificate file is named
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    subscribe: tuple[TopicFilter, ...] = ()  # empty: the routes' filters
    # Where the broker tells how many messages it dropped, a plain number (Mosquitto's here); empty: it is not asked.
    dropped_topic: Annotated[str, AfterValidator(_no_wildcard)] = "$SYS/broker/publish/messages/dropped"

    @model_validator(mode="after")
    def _whole(self) -> "Mqtt":
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together")
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs a username")
        if not timedelta(seconds=5) <= self.keepalive <= timedelta(hours=1):
            raise ValueError("keepalive is between PT5S and PT1H")
        return self


class Route(_Table):
    """First match wins. `key_levels`: topic levels (from 0) whose values order a source's messages."""

    filter: TopicFilter
    dialect: str = Field(min_length=1)
    key_levels: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    timezone: Zone | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class Limits(_Table):
    """Bounds against bad input; durations are ISO 8601."""

    max_age: Annotated[timedelta, _at_least("PT1S", timedelta(seconds=1))] = timedelta(days=31)
    max_ahead: Annotated[timedelta, _at_least("PT0S", timedelta(0))] = timedelta(minutes=10)
    max_payload_bytes: int = Field(default=262_144, ge=1, le=1_572_864)
    max_readings: PositiveInt = 10_000
    max_keys: PositiveInt = 1_000
    new_datastreams_per_hour: PositiveInt = 5_000
    dead_letter_bytes: PositiveInt = 1_073_741_824
    silent_after: Annotated[timedelta, _at_least("PT1S", timedelta(seconds=1))] = timedelta(minutes=10)


def _tests(told: object) -> object:
    if told is False:
        return None
    if not isinstance(told, dict) or not told:
        raise ValueError('false for no tests over time, or { spike = 0.5, rate = [0.3, "PT10M"], flat = "PT6H" }')
    return told


Difference = Annotated[float, Field(gt=0, allow_inf_nan=False)]  # in the property's unit


class TimeTests(_Table):
    """How a property of a device is tested over time, in place of what the standard says of it."""

    spike: Difference | None = None
    rate: tuple[Difference, timedelta] | None = None  # so much within this time
    flat: timedelta | None = None

    @model_validator(mode="after")
    def _sound(self) -> "TimeTests":
        if self.rate is not None and not timedelta(seconds=1) <= self.rate[1] <= timedelta(days=1):
            raise ValueError('rate: a difference and a time between PT1S and P1D, as in [0.3, "PT10M"]')
        if self.flat is not None and not timedelta(minutes=1) <= self.flat <= timedelta(hours=12):
            raise ValueError("flat is between PT1M and PT12H")
        return self


class Device(_Table):
    """What the city knows of a sensor that the sensor does not say. `match` is a shell pattern on the device id."""

    match: str = Field(min_length=1)
    name: str | None = Field(default=None, min_length=1)
    latitude: float | None = Field(default=None, ge=-90, le=90)
    longitude: float | None = Field(default=None, ge=-180, le=180)
    timezone: Zone | None = None
    range: dict[str, tuple[float, float]] = Field(default_factory=dict)  # in the property's unit, inf for no limit
    tests: dict[str, Annotated[TimeTests | None, BeforeValidator(_tests)]] = Field(default_factory=dict)  # None: none
    parameters: dict[str, Annotated[float, Field(allow_inf_nan=False)] | str | bool] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sound(self) -> "Device":
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("latitude and longitude belong together")
        texts = [self.match, self.name, *self.parameters, *self.parameters.values()]
        if any(isinstance(text, str) and "\0" in text for text in texts):
            raise ValueError("U+0000 can't be stored; leave it out")
        if "interval_seconds" in self.parameters:
            raise ValueError("parameters.interval_seconds: it is called interval_s; rename it")
        for key, (low, high) in self.range.items():
            if not low < high:
                raise ValueError(f"range.{key} = [{low}, {high}]: the lower limit comes first")
        return self


class City(_Table):
    """One city file."""

    city: Identity
    mqtt: Mqtt = Mqtt()
    route: tuple[Route, ...] = Field(min_length=1)
    limits: Limits = Limits()
    device: tuple[Device, ...] = ()
    profile: tuple[dict[str, Any], ...] = ()

    @property
    def key(self) -> str:
        """The city's key, as in Kafka topics, roles and files."""
        return self.city.key

    @property
    def client_id(self) -> str:
        """The gateway's MQTT client id."""
        return self.mqtt.client_id or f"gateway-{self.city.key}"

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Filters the gateway subscribes to, each once."""
        return tuple(dict.fromkeys(self.mqtt.subscribe or (r.filter for r in self.route)))


def _lines(path: Path, error: ValidationError) -> Iterator[str]:
    found = error.errors()
    for fault in found:
        if fault["type"] == "too_short" and any(len(other["loc"]) > len(fault["loc"]) for other in found):
            continue  # its items are wrong, and said to be
        value = "" if fault["type"] == "missing" else f" = {fault['input']!r:.80}"
        extra = fault["type"] == "extra_forbidden"
        cure = "no such setting; remove it or correct its name" if extra else said(fault)
        yield f"{path}: {place(fault['loc'])}{value}: {cure}"


def load(path: Path) -> City:
    """Read and check a city file; paths in it are relative to the file. Raises CityFileError."""
    try:
        city = City.model_validate(toml.read(path))
    except OSError as error:
        raise CityFileError(f"{path}: {error.strerror}") from error
    except ValidationError as error:  # a ValueError too
        raise CityFileError("\n".join(_lines(path, error))) from error
    except ValueError as error:
        raise CityFileError(f"{path}: {error}") from error
    files: dict[str, Path] = {}
    kinds: tuple[Literal["ca_file", "cert_file", "key_file", "password_file"], ...] = (
        "ca_file",
        "cert_file",
        "key_file",
        "password_file",
    )
    for kind in kinds:
        named: Path | None = getattr(city.mqtt, kind)
        if named is None:
            continue
        files[kind] = path.parent / named
        try:
            files[kind].open("rb").close()
        except OSError as error:
            raise CityFileError(f"{path}: mqtt.{kind} = '{named}': {error.strerror}; name a readable file") from error
    return city.model_copy(update={"mqtt": city.mqtt.model_copy(update=files)}) if files else city
