"""What storage reads from the environment: once, at start, frozen. A wrong value names itself and the cure."""

from datetime import timedelta
from typing import Annotated, Self, TypeVar

import psycopg
from psycopg import conninfo
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_settings import NoDecode

from service.settings import PREFIX, HttpAddress, LogLevel, ProcessSettings, faults
from storage.connection import passfile_fault

PROGRAM = "hanse-storage"


class SettingsError(ValueError):
    """The environment can't be used; one line a fault: name, value, cure."""


def _dsn(text: str) -> str:
    try:
        params = conninfo.conninfo_to_dict(text)
    except psycopg.Error as error:  # its message may quote a password
        raise ValueError("not a connection string, as in host=db dbname=hanse user=hanse_ingest passfile=…") from error
    if "password" in params:
        raise ValueError(
            "holds a password; name a file instead: passfile=… (one host:port:database:user:password a line)"
        )
    if fault := passfile_fault(params):
        raise ValueError(fault)
    return text


# For every settings model that names the database.
DatabaseDsn = Annotated[str, AfterValidator(_dsn)]


class Settings(ProcessSettings):
    """Settings of `hanse-storage`."""

    database_dsn: DatabaseDsn = Field(min_length=1)
    log_level: LogLevel = "INFO"


class Retention(Settings):
    """How long what is kept: settings of `hanse-storage maintain`, ISO 8601 durations in days, as in P90D.

    Chunks hold every domain, so raw readings have one age; hours have one for each domain.
    """

    raw_retention: timedelta = Field(default=timedelta(days=180))
    compress_after: timedelta = Field(default=timedelta(days=35))  # Community edition
    rollup_retention: timedelta = Field(default=timedelta(days=3_650))
    rollup_retention_by_domain: Annotated[dict[str, timedelta], NoDecode] = Field(default_factory=dict)
    dead_letter_retention: timedelta = Field(default=timedelta(days=90), ge=timedelta(days=1))
    kafka_retention: timedelta = Field(default=timedelta(days=14), ge=timedelta(days=1))

    @field_validator("rollup_retention_by_domain", mode="before")
    @classmethod
    def _pairs(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        pairs = [pair.strip().partition("=") for pair in given.split(",") if pair.strip()]
        try:
            return {domain: TypeAdapter(timedelta).validate_python(age) for domain, _, age in pairs}
        except ValidationError as error:
            raise ValueError(f"{given!r}: not a list like energy=P1095D,parking=P730D") from error

    @model_validator(mode="after")
    def _hours_outlive_readings(self) -> Self:
        for name, age in {"": self.rollup_retention, **self.rollup_retention_by_domain}.items():
            if age < self.raw_retention:
                where = f"{PREFIX}ROLLUP_RETENTION_BY_DOMAIN {name}" if name else f"{PREFIX}ROLLUP_RETENTION"
                raise ValueError(
                    f"{where} is shorter than {PREFIX}RAW_RETENTION: hours would be deleted and summed up again; "
                    "keep hours at least as long as readings"
                )
        return self

    def rollup_age(self, domain: str) -> timedelta:
        """How long hours of a domain are kept."""
        return self.rollup_retention_by_domain.get(domain, self.rollup_retention)


class Maintain(Retention):
    """And how the daemon goes about it."""

    http_address: HttpAddress = "127.0.0.1:9104"
    maintain_interval: timedelta = Field(default=timedelta(seconds=15), ge=timedelta(seconds=1), le=timedelta(hours=1))


S = TypeVar("S", bound=Settings)


def load() -> Settings:
    """Settings from the environment. Raises SettingsError."""
    return load_as(Settings)


def load_as(kind: type[S]) -> S:
    """The same for a command with settings of its own."""
    try:
        return kind()  # the environment supplies the fields
    except ValidationError as error:
        raise SettingsError("\n".join(faults(error))) from error
