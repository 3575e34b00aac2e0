"""Mosquitto as a city runs it: sessions saved every second, nothing limited below what the gateway bears."""

import base64
import hashlib
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local import fetch
from local.paths import give
from local.server import Server

SETTINGS: Mapping[str, str | int] = {
    "persistence": "true",
    "persistence_location": "data/",
    "autosave_interval": 1,  # seconds; with autosave_on_changes it would be changes, and all is written for each
    "max_inflight_messages": 1000,
    "max_queued_messages": 1_000_000,
    "max_queued_bytes": 1_073_741_824,
    # Above the gateway's max_payload_bytes: an oversized payload is the pipeline's to dead-letter, with its bytes.
    "max_packet_size": 2_097_152,
    "set_tcp_nodelay": "true",
    "sys_interval": 1,
    "log_dest": "stderr",
    "log_timestamp_format": "%Y-%m-%dT%H:%M:%S",
}
CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x05\x00\x00"  # clean session, no client id, keepalive 5 s


class Mosquitto(Server):
    """One city's broker. Anonymous unless `password` (user, password); TLS if `tls` names ca, cert and key files."""

    kind = "mosquitto"

    def __init__(
        self,
        directory: Path,
        *,
        password: tuple[str, str] | None = None,
        tls: Mapping[str, Path] | None = None,
        require_certificate: bool = False,
        settings: Mapping[str, str | int] | None = None,
        listener: Sequence[str] = (),
        **common: Any,
    ) -> None:
        super().__init__(directory, **common)
        self._password = password
        self._tls = tls or {}
        self._require_certificate = require_certificate
        self._settings = {**SETTINGS, **(settings or {})}
        self._listener = listener

    def prepare(self, programs: fetch.Installation) -> list[str | Path]:
        """Write mosquitto.conf; paths in it are relative to the folder, so that its name may hold anything."""
        self.make_folder(self.directory / "data")
        lines = [f"{key} {value}" for key, value in self._settings.items()]
        lines += [f"log_type {kind}" for kind in ("error", "warning", "notice", "information")]
        lines += [f"listener {self.port} 127.0.0.1"]
        if self._password:
            self.write("passwords", _password_line(*self._password), mode=0o600)
            lines += ["allow_anonymous false", "password_file passwords"]
        else:
            lines += ["allow_anonymous true"]
        for setting, key in (("cafile", "ca"), ("certfile", "cert"), ("keyfile", "key")):
            if key in self._tls:
                give(Path(shutil.copyfile(self._tls[key], self.directory / f"{key}.pem")))
                lines.append(f"{setting} {key}.pem")
        if self._require_certificate:
            lines += ["require_certificate true"]
        self.write("mosquitto.conf", "\n".join([*lines, *self._listener, ""]))
        return [programs.mosquitto, "-c", "mosquitto.conf"]

    def ready(self) -> bool:
        """A CONNACK, whatever its code; with TLS an open port."""
        if self._tls:
            return self.connects()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(CONNECT)
                return connection.recv(1) == b"\x20"
        except OSError:
            return False


def _password_line(user: str, password: str) -> str:
    """Mosquitto's password file format: PBKDF2-SHA512, 101 rounds."""
    salt = os.urandom(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return f"{user}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"
