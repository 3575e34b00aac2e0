"""Dead letters on a terminal: payloads as text or hex, secrets masked. No I/O."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

MASK = "•••"
SHOWN_BYTES = 16_384
WIDE = 160
COLUMNS = ("id", "received (UTC)", "city", "reason", "device", "key", "value", "topic", "outcome", "masked")

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


def listing(letters: Sequence[dict[str, Any]], width: int) -> Table | Group:
    """A page of letters: a table where it has the width for one, two lines a letter elsewhere."""
    if width < WIDE:
        return Group(*(line for letter in letters for line in _two_lines(letter, cut=width > 0)))
    table = Table(*COLUMNS, box=SIMPLE_HEAD)
    for letter in letters:
        table.add_row(*(Text(word, overflow="ellipsis") for word in _words(letter)))
    return table


def _words(letter: dict[str, Any]) -> list[str]:
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
    return [word or "" for word in words]


def _two_lines(letter: dict[str, Any], *, cut: bool) -> Iterator[Text]:
    """Which and why; then of what, as much as there is of it."""
    number, received, city, reason, device, key, value, topic, outcome, hidden = _words(letter)
    how: Any = {"no_wrap": True, "overflow": "ellipsis"} if cut else {}
    yield Text.assemble(f"{number:>7}  {received}  {city:<14}  ", (reason, "bold"), **how)
    said = [device, f"{key} = {value}" if key else value, topic, outcome, "masked" if hidden else ""]
    yield Text(" " * 9 + "  ".join(one for one in said if one), style="dim", **how)


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
