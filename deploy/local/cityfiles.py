"""City files with the real addresses of the local brokers in them: the originals name hosts of the cities."""

import re
import tomllib
from pathlib import Path

from local.paths import LocalError

# What says where the broker is and how to log in there; the local brokers listen on loopback and ask for nothing.
REPLACED = re.compile(r"\s*(host|port|tls|ca_file|cert_file|key_file|username|password_file)\s*=")
HEADER = re.compile(r"\s*\[")


def localised(text: str, port: int) -> str:
    """The city file's text with [mqtt] pointing at a port of loopback; everything else stays as it is written."""
    lines, table, done = [], "", False
    for line in text.splitlines():
        if HEADER.match(line):
            table = line.split("#")[0].strip()
        if table == "[mqtt]" and REPLACED.match(line):
            continue
        lines.append(line)
        if table == "[mqtt]" and not done:
            lines += ['host = "127.0.0.1"', f"port = {port}"]
            done = True
    if not done:
        lines += ["", "[mqtt]", 'host = "127.0.0.1"', f"port = {port}"]
    return "\n".join([*lines, ""])


def write(source: Path, target: Path, port: int) -> None:
    """Write the city file `source` with the broker's port to `target`, and make sure that it says so."""
    text = localised(source.read_text(encoding="utf-8"), port)
    mqtt = tomllib.loads(text)["mqtt"]
    if (mqtt["host"], mqtt["port"]) != ("127.0.0.1", port):
        raise LocalError(f"{source}: its [mqtt] table could not be pointed at the local broker; write it as [mqtt]")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
