"""What storage reads from the environment: once, at start, frozen. A wrong value names itself and the cure."""

from typing import Annotated

import psycopg
from psycopg import conninfo
from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.connection import passfile_fault

PREFIX = "HANSE_"


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


class Settings(BaseSettings):
    """Settings of `hanse-storage`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, hide_input_in_errors=True)

    database_dsn: DatabaseDsn = Field(min_length=1)
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")


def load() -> Settings:
    """Settings from the environment. Raises SettingsError."""
    try:
        return Settings()  # the environment supplies the fields
    except ValidationError as error:
        raise SettingsError("\n".join(_line(str(f["loc"][0]), f["type"], f["msg"]) for f in error.errors())) from error


def _line(field: str, kind: str, message: str) -> str:
    said = "is not set" if kind == "missing" else message.removeprefix("Value error, ")
    return f"{PREFIX}{field.upper()}: {said}"
