"""What `hanse-status` is told by its environment (prefix HANSE_), read once at start, frozen afterwards."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.settings import DatabaseDsn

PORTS = range(1, 65_536)


def _addresses(text: str) -> str:
    for entry in filter(None, (part.strip() for part in text.split(","))):
        host, _, port = entry.rpartition(":")
        if not host or not port.isdigit() or int(port) not in PORTS or any(c in host for c in "/@ "):
            raise ValueError(f"{entry!r} should be host:port; several are separated by commas")
    return text


class Settings(BaseSettings):
    """Every field is HANSE_ and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="HANSE_", frozen=True, extra="ignore", hide_input_in_errors=True)

    database_dsn: DatabaseDsn = Field(min_length=1)
    http_address: str = Field(default="127.0.0.1:9103", pattern=r"^.*:\d{1,5}$")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    # Where gateways and processors serve /metrics; a host name with several addresses stands for all of them.
    status_processes: Annotated[str, AfterValidator(_addresses)] = ""

    @property
    def processes(self) -> list[str]:
        """The addresses, one by one."""
        return [part.strip() for part in self.status_processes.split(",") if part.strip()]
