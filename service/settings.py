"""What the settings of all processes have in common: the environment, and a wrong one in a line: name, value, cure."""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "HANSE_"
SECRET = ("password", "dsn")
HIGHEST_PORT = 65_535
ALIKE = 0.9  # of two names' letters: one letter missing, doubled or wrong
CURES = {
    "missing": "is required",
    "time_delta_parsing": "should be an ISO 8601 duration, as P14D or PT10M",
    "time_delta_type": "should be an ISO 8601 duration, as P14D or PT10M",
}


class ProcessSettings(BaseSettings):
    """Base of every process's settings: HANSE_ and a field's name in capitals; an empty variable is none.

    The processes share one environment, so names that this one does not know are others'; one that is nearly its own
    is a misspelt setting, which would leave the default in force without a word.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _spelt(cls, given: Any) -> Any:
        known = [PREFIX + field.upper() for field in cls.model_fields]
        for name in sorted(os.environ):
            if name.startswith(PREFIX) and name not in known:
                short, names = name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in known]
                if meant := difflib.get_close_matches(short, names, n=1, cutoff=ALIKE):
                    raise ValueError(f"{name}: no such setting; is {PREFIX}{meant[0]} meant?")
        return given


def endpoint(text: str) -> tuple[str, int]:
    """Host and port of `host:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > HIGHEST_PORT or set(host) & set("/@:, \t"):
        raise ValueError(f"{text!r} should be host:port")
    return host, int(port)


def _listening(text: str) -> str:
    endpoint(text)
    return text


def addresses(text: str) -> str:
    """Several of them, separated by commas, without blanks and empty ones between. Raises ValueError."""
    entries = [entry for part in text.split(",") if (entry := part.strip())]
    for entry in entries:
        host, port = endpoint(entry)
        if not host or not port:
            raise ValueError(f"{entry!r} should be host:port; several are separated by commas")
    return ",".join(entries)


HttpAddress = Annotated[str, AfterValidator(_listening)]  # no host: loopback; port 0: any free one
Addresses = Annotated[str, AfterValidator(addresses)]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    BeforeValidator(lambda text: text.upper() if isinstance(text, str) else text),
]


def said(fault: Mapping[str, Any]) -> str:
    """What would be right in place of one of pydantic's faults."""
    return CURES.get(fault["type"], str(fault["msg"]).removeprefix("Value error, "))


def place(path: Sequence[int | str]) -> str:
    """Where in a document a fault is, counted from 1, as in route[2].filter."""
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def faults(error: ValidationError) -> Iterator[str]:
    """One sentence for each wrong setting of a pydantic-settings model; never a secret's value."""
    for fault in error.errors():
        name = PREFIX + "".join(str(part) for part in fault["loc"]).upper()
        if not fault["loc"]:
            yield said(fault)
        elif fault["type"] == "missing":
            yield f"{name} {said(fault)}"
        elif any(word in name.lower() for word in SECRET):
            yield f"{name}: {said(fault)}"
        else:
            yield f"{name} = {str(fault['input'])!r:.80}: {said(fault)}"
