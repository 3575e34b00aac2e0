"""How a process reaches Kafka: its settings, aiokafka's arguments, and the real cause when it can't be reached."""

import random
import ssl
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from aiokafka import errors
from aiokafka.conn import create_conn
from aiokafka.helpers import create_ssl_context
from pydantic import AfterValidator, Field, model_validator

from service.settings import Addresses, ProcessSettings, endpoint

ANSWER_MS = 5_000
MOST_PARTITIONS = 10_000

REFUSALS = (
    errors.AuthenticationFailedError,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.AuthenticationMethodNotSupported,
    ssl.SSLCertVerificationError,
)


def _some(addresses: str) -> str:
    if not addresses:
        raise ValueError("should name a server, as host:port")
    return addresses


class KafkaSettings(ProcessSettings):
    """The part of a process's settings that says where Kafka is and who we are there."""

    kafka_bootstrap_servers: Annotated[Addresses, AfterValidator(_some)] = "127.0.0.1:9092"
    kafka_partitions: int = Field(default=6, ge=1, le=MOST_PARTITIONS)
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_ca_file: Path | None = None
    kafka_username: str | None = None
    kafka_password_file: Path | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL") and not (self.kafka_username and self.kafka_password_file):
            raise ValueError("HANSE_KAFKA_SECURITY_PROTOCOL with SASL needs HANSE_KAFKA_USERNAME and …_PASSWORD_FILE")
        for name in ("kafka_ca_file", "kafka_password_file"):
            path: Path | None = getattr(self, name)
            try:
                if path is not None:
                    path.open("rb").close()
            except OSError as error:
                raise ValueError(f"HANSE_{name.upper()} = '{path}': {error.strerror}; name a readable file") from error
        return self


def arguments(settings: KafkaSettings) -> dict[str, Any]:
    """Arguments that aiokafka's clients take for TLS and SCRAM-SHA-512. Secrets are read again at every call."""
    made: dict[str, Any] = {"security_protocol": settings.kafka_security_protocol}
    if settings.kafka_security_protocol in {"SSL", "SASL_SSL"}:
        context = create_ssl_context(cafile=settings.kafka_ca_file)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        made["ssl_context"] = context
    if settings.kafka_security_protocol.startswith("SASL"):
        assert settings.kafka_password_file is not None
        made |= {
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_password_file.read_text(encoding="utf-8").strip(),
        }
    return made


class Trouble(NamedTuple):
    """Why no server lets us in; `refused`: one answered and does not want us, which waiting does not cure."""

    why: str
    refused: bool


async def trouble(settings: KafkaSettings) -> Trouble | None:
    """What is behind aiokafka's "unable to bootstrap"; None once a server answers and takes our login.

    Servers are asked in random order, so that not every process asks the same one first.
    """
    causes = []
    servers = settings.kafka_bootstrap_servers.split(",")
    for server in random.sample(servers, len(servers)):
        host, port = endpoint(server)
        try:
            conn = await create_conn(host, port, request_timeout_ms=ANSWER_MS, **arguments(settings))
        except REFUSALS as error:
            return Trouble(f"Kafka at {server} refuses the login: {said(error)}", refused=True)
        except TimeoutError:
            causes.append(f"Kafka at {server} does not answer within {ANSWER_MS // 1000} s")
        except (OSError, errors.KafkaError) as error:
            causes.append(f"Kafka at {server} can't be reached: {said(error)}")
        else:
            conn.close()
            return None
    return Trouble("; ".join(causes), refused=False)


def said(error: BaseException) -> str:
    """One line of an error, never empty."""
    if isinstance(error, errors.BrokerResponseError):
        return f"{error.message}: {error.description}" if not error.args else f"{error.message}: {error.args[0]}"
    cause = error.__cause__ if isinstance(error, errors.KafkaError) and error.__cause__ else error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause).split("\n", 1)[0] or type(cause).__name__
