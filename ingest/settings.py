"""What the gateway is told by its environment, read once at start and frozen. What differs by city: city.py."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field, field_validator

from service.kafka import KafkaSettings
from service.settings import HttpAddress, LogLevel


class Settings(KafkaSettings):
    """Every field is HANSE_ and its name in capitals."""

    kafka_replication: int = Field(default=1, ge=1, le=15)
    kafka_retention: timedelta = Field(default=timedelta(days=14), ge=timedelta(hours=1))  # maintain reads it too
    http_address: HttpAddress = "127.0.0.1:9101"
    log_level: LogLevel = "INFO"
    gateway_id: str | None = Field(default=None, max_length=255)  # in every record; default: the MQTT client id
    # Above the broker's max_inflight_messages (1,000 by our recipe), so that the broker stops first.
    gateway_max_in_flight: int = Field(default=20_000, ge=100)
    gateway_max_in_flight_bytes: int = Field(default=67_108_864, ge=1_048_576)
    # Between two reads while messages come, up to eight times of it where many do: half of it is added latency;
    # longer saves CPU here and in Kafka.
    gateway_read_interval_ms: float = Field(default=5.0, ge=0, le=1_000)
    gateway_state_dir: Path | None = None

    @field_validator("gateway_state_dir")
    @classmethod
    def _directory(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_dir():
            raise ValueError("should be an existing directory that the gateway may write")
        return path
