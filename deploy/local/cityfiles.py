"""City files with the real addresses of our own brokers in them: the originals name hosts of the cities."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from local.paths import LocalError

# What says where the broker is and how to log in there.
REPLACED = re.compile(r"\s*(host|port|tls|ca_file|cert_file|key_file|username|password_file)\s*=")
HEADER = re.compile(r"\s*\[")
Broker = Mapping[str, str | int]


def loopback(port: int) -> Broker:
    """A broker on this machine that asks for nothing."""
    return {"host": "127.0.0.1", "port": port}


def localised(text: str, broker: Broker) -> str:
    """The city file's text with [mqtt] pointing at `broker` (its settings); everything else stays as it is written."""
    ours = [f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in broker.items()]
    lines, table, done = [], "", False
    for line in text.splitlines():
        if HEADER.match(line):
            table = line.split("#")[0].strip()
        if table == "[mqtt]" and REPLACED.match(line):
            continue
        lines.append(line)
        if table == "[mqtt]" and not done:
            lines += ours
            done = True
    if not done:
        lines += ["", "[mqtt]", *ours]
    return "\n".join([*lines, ""])


def read(source: Path, broker: Broker) -> str:
    """The city file `source` with `broker` in it; LocalError if it could not be made to say so."""
    text = localised(source.read_text(encoding="utf-8"), broker)
    mqtt = tomllib.loads(text)["mqtt"]
    if any(mqtt[key] != value for key, value in broker.items()):
        raise LocalError(f"{source}: its [mqtt] table could not be pointed at the local broker; write it as [mqtt]")
    return text


def write(source: Path, target: Path, broker: Broker) -> None:
    """Write the city file `source` with `broker` in it to `target`."""
    text = read(source, broker)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
