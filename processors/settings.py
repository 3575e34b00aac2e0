"""What a processor is told by its environment (prefix HANSE_), read once at start, frozen afterwards."""

from pydantic import Field, PositiveInt

from service.kafka import KafkaSettings
from service.settings import HttpAddress, LogLevel
from storage.settings import DatabaseDsn


class Settings(KafkaSettings):
    """Every field is HANSE_ and its name in capitals."""

    kafka_group: str = "hanse-processors"
    # One name a process slot (Kafka's group.instance.id): a process that comes back under it takes over at once, a
    # nameless one waits until the session of the dead is over (15 s).
    processor_instance: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,249}$")
    database_dsn: DatabaseDsn = "postgresql://hanse_ingest@127.0.0.1/hanse"
    http_address: HttpAddress = "127.0.0.1:9102"
    log_level: LogLevel = "INFO"
    # Below 2^15 by a margin: a batch's replayed records are numbered in 16 bits.
    processor_batch_messages: int = Field(default=8_000, ge=1, le=30_000)
    processor_batch_readings: PositiveInt = 30_000
    processor_batch_bytes: PositiveInt = 16 * 1024 * 1024

    @property
    def batch_messages(self) -> int:
        """Messages after which a batch waits for the one that commits."""
        return self.processor_batch_messages

    @property
    def batch_readings(self) -> int:
        """The same for readings."""
        return self.processor_batch_readings

    @property
    def batch_bytes(self) -> int:
        """The same for payload bytes."""
        return self.processor_batch_bytes
