"""Device profiles: what the keys of a sensor model mean, where the network itself leaves it open.

`deploy/profiles/*.toml` is shared by all cities, a city's own `[[profile]]` tables go before it. Both are read and
checked whole before anything connects: a fault names its file, place, value and cure. Which profile serves a reading
is `meaning`'s business; running a profile's examples is `check`'s.
"""

import os
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ingest.city import City, CityFileError, TopicFilter
from processors.standard import units
from processors.standard.observation import Reason
from processors.standard.vocabulary import VOCABULARY
from service import toml
from service.settings import place, said

DIRECTORY = "HANSE_PROFILES_DIR"
CAPTURE = re.compile(r"\{([^{}]*)\}")

# How a key that tells the time tells it: an epoch's unit, text with a zone or in the device's zone, text in UTC.
Clock = Literal["s", "ms", "us", "ns", "text", "utc"]
# What an enumerated value stands for: a number, a missing value (flag 9), or nothing (ignored).
Meaning = float | Literal["missing", "drop"]


class ProfileError(CityFileError):
    """Profiles that can't be used; one line a fault: file, place, value, cure."""


def _property(key: str) -> str:
    if key not in VOCABULARY:
        raise ValueError("no such property in the vocabulary (docs/standard.md)")
    return key


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Key(_Table):
    """What one key means: an observed property, or the time of what stands beside and below it."""

    property: Annotated[str, AfterValidator(_property)] | None = None
    unit: str | None = None  # None: the one that comes with the value; "1" where the property has it
    channel: str | None = None  # None: the one that came
    scale: float = Field(default=1.0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)
    values: dict[str, Meaning] = Field(default_factory=dict)
    drop: tuple[float | str, ...] = ()
    time: Clock | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> "Key":
        if (self.property is None) is (self.time is None):
            raise ValueError("a key is either a property or a time; what is neither belongs into the list 'ignore'")
        if self.time is not None and self.model_fields_set != {"time"}:
            raise ValueError("a time has neither unit, channel, scale, offset, values nor drop")
        if self.scale == 0:
            raise ValueError("scale = 0 leaves nothing of the value")
        if self.property is not None:
            observed = VOCABULARY[self.property]
            if self.unit is not None and isinstance(units.conversion(self.unit, observed), Reason):
                raise ValueError(f"unit {self.unit!r} does not convert; {observed.key} takes {observed.unit}")
            if observed.kind == "state" and any(v not in {0, 1, "missing", "drop"} for v in self.values.values()):
                raise ValueError(f'{observed.key} is a state: its values are 0, 1, "missing" or "drop"')
        return self


class Expected(_Table):
    """An observation that an example must give; without `value` a missing one (null, flag 9)."""

    property: Annotated[str, AfterValidator(_property)]
    value: float | None = None
    channel: str = ""
    time: str | None = None  # RFC 3339; not compared where left out


class Example(_Table):
    """A message and all that must come of it: what is neither an observation here nor unmapped must be ignored.

    `decoded` is what the maker's payload decoder returns, as JSON; it travels as an uplink of The Things Stack. For any
    other network the whole message: dialect, topic, payload.
    """

    decoded: str | None = None
    model: str | None = None  # what the network says of the model; None: the first pattern of `match` without wildcard
    dialect: str | None = None
    topic: str | None = None
    payload: str | None = None
    received_at: str = "2026-01-15T12:00:00Z"
    observations: tuple[Expected, ...] = ()
    unmapped: tuple[str, ...] = ()  # keys that are known to have no property in the vocabulary

    @model_validator(mode="after")
    def _whole(self) -> "Example":
        message = (self.dialect, self.topic, self.payload)
        if (self.decoded is None) is (None in message) or (self.decoded is not None and message != (None,) * 3):
            raise ValueError("either 'decoded', or 'dialect', 'topic' and 'payload'")
        return self


def _path(pattern: str) -> str:
    if not pattern or pattern.startswith(".") or pattern.endswith("."):
        raise ValueError("a path is names joined by '.', with * for any part of one name and ** for any number of them")
    return pattern


Path_ = Annotated[str, AfterValidator(_path)]


class Profile(_Table):
    """What the keys of a model mean. `match`, `devices`, `topics`: all that are given must fit, one pattern of each."""

    name: str = Field(default="", max_length=80)
    title: str = ""
    source: str = ""  # the maker's payload document
    match: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    topics: tuple[TopicFilter, ...] = ()
    keys: dict[Path_, Key] = Field(default_factory=dict)
    ignore: tuple[Path_, ...] = ()
    example: tuple[Example, ...] = ()

    @model_validator(mode="after")
    def _captures(self) -> "Profile":
        for path, key in self.keys.items():
            places = {"channel", *map(str, range(1, wildcards(path) + 1))}
            if unknown := set(CAPTURE.findall(key.channel or "")) - places:
                raise ValueError(
                    f"keys.{path!r}.channel = {key.channel!r}: {{{min(unknown)}}} is none of "
                    f"{', '.join(f'{{{place}}}' for place in sorted(places))}"
                )
        return self


class SharedProfile(Profile):
    """A profile for all cities: it names its source and proves itself by examples."""

    name: str = Field(min_length=1, max_length=80, pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str = Field(min_length=1)
    source: str = Field(min_length=1)
    match: tuple[str, ...] = Field(min_length=1)
    example: tuple[Example, ...] = Field(min_length=1)


class CityProfile(Profile):
    """A city's own profile; `use` takes over the keys of a shared one, after its own."""

    use: str | None = None

    @model_validator(mode="after")
    def _finds_something(self) -> "CityProfile":
        if not (self.match or self.devices or self.topics):
            raise ValueError("name at least one of match (models), devices or topics")
        if not (self.use or self.keys or self.ignore):
            raise ValueError("give it keys, or 'use' a shared profile")
        return self


class _File(_Table):
    profile: tuple[SharedProfile, ...] = Field(min_length=1)


def wildcards(path: str) -> int:
    """How many parts of a path pattern are open."""
    return len(re.findall(r"\*\*|\*", path))


def directory() -> Path:
    """Where the shared profiles are: HANSE_PROFILES_DIR, else those of the installation or the checkout."""
    if told := os.environ.get(DIRECTORY):
        return Path(told)
    packaged = Path(str(files("processors"))) / "shared_profiles"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "deploy" / "profiles"


def load(folder: Path) -> Mapping[str, SharedProfile]:
    """The shared profiles by name, in the order of their files. Raises ProfileError with every fault of every file."""
    found: dict[str, SharedProfile] = {}
    places: dict[str, Path] = {}
    lines: list[str] = []
    if not folder.is_dir():
        raise ProfileError(f"{folder}: no such directory; {DIRECTORY} names the one with the shared profiles")
    for path in sorted(folder.glob("*.toml")):
        try:
            read = _File.model_validate(toml.read(path))
        except OSError as error:
            lines.append(f"{path}: {error.strerror}")
        except ValidationError as error:  # a ValueError too
            lines += faults(str(path), error)
        except ValueError as error:
            lines.append(f"{path}: {error}")
        else:
            for profile in read.profile:
                if profile.name in found:
                    lines.append(f"{path}: profile {profile.name!r}: {places[profile.name]} has one of that name")
                found[profile.name] = profile
                places[profile.name] = path
    if lines:
        raise ProfileError("\n".join(lines))
    return found


def of_city(city: City, shared: Iterable[str]) -> tuple[CityProfile, ...]:
    """A city's own profiles. Raises ProfileError."""
    known = set(shared)
    made: list[CityProfile] = []
    lines: list[str] = []
    for number, table in enumerate(city.profile, start=1):
        try:
            profile = CityProfile.model_validate(table)
        except ValidationError as error:
            lines += faults(f"city {city.key}: profile[{number}]", error)
            continue
        if profile.use is not None and profile.use not in known:
            lines.append(f"city {city.key}: profile[{number}].use = {profile.use!r}: no shared profile of that name")
        made.append(profile)
    if lines:
        raise ProfileError("\n".join(lines))
    return tuple(made)


def faults(where: str, error: ValidationError) -> list[str]:
    """One line a fault: where, place, value, cure."""
    lines = []
    for fault in error.errors():
        shown: Any = fault["input"]
        value = "" if isinstance(shown, dict | BaseModel) or fault["type"] == "missing" else f" = {shown!r:.80}"
        extra = fault["type"] == "extra_forbidden"
        cure = "no such setting; a path with dots is written in quotes" if extra else said(fault)
        lines.append(f"{where}: {place(fault['loc'])}{value}: {cure}")
    return lines
