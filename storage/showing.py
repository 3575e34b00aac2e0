"""Dead letters on a terminal: payloads as text or hex, secrets masked. No I/O."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

MASK = "•••"
SHOWN_BYTES = 16_384

# Names whose values no terminal should show, in JSON, form fields and query strings; and keys in UltraLight topics.
_SECRET = re.compile(
    r"""(?ix) ( (?: pass_?(?:key|word|wd|phrase) | secret | token | api_?key | authorization
                    | auth(?![a-z]) )
                [\w.\-]* ["']? \s* [:=] \s* )
              ( "(?:[^"\\]|\\.)*" | '[^']*' | [^\s,;&}\]"']+ )"""
)
_TOPIC_KEY = re.compile(r"^(/?(?:ul|json)/)[^/]+")


def masked(text: str) -> str:
    """Text with the values of secrets hidden."""
    return _SECRET.sub(rf"\1{MASK}", text)


def masked_topic(topic: str) -> str:
    """An MQTT topic with the API key of UltraLight and IoT Agent topics hidden."""
    return _TOPIC_KEY.sub(rf"\1{MASK}", topic)


def payload(data: bytes | None) -> str:
    """A payload as text where it is some, as a hex dump otherwise."""
    if data is None:
        return "(purged)"
    more = f"\n… {len(data) - SHOWN_BYTES:,} bytes more" if len(data) > SHOWN_BYTES else ""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if text and all(sign.isprintable() or sign in "\t\n\r" for sign in text):
        return masked(text[:SHOWN_BYTES]) + more
    return _hex(data[:SHOWN_BYTES]) + more


def _hex(data: bytes) -> str:
    """Offset, sixteen bytes and what of them can be read, a line; secrets are masked where they can be."""
    readable = masked("".join(chr(byte) if 32 <= byte < 127 else "." for byte in data))  # noqa: PLR2004  (ASCII)
    if MASK in readable:
        return f"(binary with a secret in it, shown as text)\n{readable}"
    lines = []
    for begin in range(0, len(data), 16):
        part = data[begin : begin + 16]
        lines.append(f"{begin:08x}  {part.hex(' '):<47}  {readable[begin : begin + 16]}")
    return "\n".join(lines) or "(empty)"


def listing(letters: Sequence[dict[str, Any]]) -> Table:
    """A page of letters."""
    table = Table(
        "id",
        "received (UTC)",
        "city",
        "reason",
        "device",
        "key",
        "value",
        "topic",
        "outcome",
        "masked",
        box=SIMPLE_HEAD,
    )
    for letter in letters:
        value = " ".join(word for word in (letter["raw_value"], letter["raw_unit"]) if word)
        words = [
            str(letter["letter_id"]),
            when(letter["received_at"]),
            letter["city"],
            letter["reason"],
            letter["device"],
            letter["raw_key"],
            masked(value),
            masked_topic(letter["mqtt_topic"] or ""),
            letter["outcome"],
            "yes" if letter["masked"] else "",  # the message kept is not byte for byte what came
        ]
        table.add_row(*(Text(word or "", overflow="ellipsis") for word in words))
    return table


def details(letter: dict[str, Any]) -> Table:
    """One letter, everything but the payload."""
    table = Table(show_header=False, box=None)
    for name, value in letter.items():
        if name in {"payload", "received_ms"} or value is None:
            continue
        told = when(value) if isinstance(value, datetime) else str(value)
        told = masked_topic(told) if name == "mqtt_topic" else masked(told)
        table.add_row(Text(name.replace("_", " "), style="bold"), Text(told))
    return table


def counts(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Letters by city, state and reason."""
    table = Table("city", "state", "reason", "letters", "last", title=title, box=SIMPLE_HEAD)
    for row in rows:
        last = row.get("newest") or row.get("last")
        table.add_row(row["city"], row["state"], row["reason"], f"{row['letters']:,}", when(last) if last else "")
    return table


def when(time: datetime) -> str:
    """A time to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S")
