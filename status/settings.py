"""What `hanse-status` is told by its environment (prefix HANSE_), read once at start, frozen afterwards."""

from pydantic import Field

from service.settings import Addresses, HttpAddress, LogLevel, ProcessSettings
from storage.settings import DatabaseDsn


class Settings(ProcessSettings):
    """Every field is HANSE_ and its name in capitals."""

    database_dsn: DatabaseDsn = Field(min_length=1)
    http_address: HttpAddress = "127.0.0.1:9103"
    log_level: LogLevel = "INFO"
    # Where gateways and processors serve /metrics; a host name with several addresses stands for all of them.
    status_processes: Addresses = ""

    @property
    def processes(self) -> list[str]:
        """The addresses, one by one."""
        return self.status_processes.split(",") if self.status_processes else []
