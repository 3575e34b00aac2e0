"""What one message costs where no server is: decoding by dialect, the worst 64 KB, and lines of `explain --jsonl`.

CPU time of this process, the least of several rounds: what another process on the machine takes is not in it, though a
busy machine's caches are. No figure here passes or fails anything.
"""

import base64
import json
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from processors.dialects import DIALECTS
from processors.dialects.memory import Stateful
from processors.explain import bulk
from processors.explaining import Explainer, Told
from processors.matching import load_profiles
from processors.standard.observation import Message, Reading
from tests.fuzz.verdicts import RECEIVED, Seed, seeds
from tests.hostile import MESSAGES, PACKS, Hostile

ROUNDS = 7
ROUND_SECONDS = 0.05
LINES = 10_000


class Cost(NamedTuple):
    """What a dialect's golden messages cost it, in microseconds of CPU."""

    messages: int
    readings: int
    us_per_message: float
    us_per_reading: float


def least(what: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Seconds of CPU that a call takes at best."""
    began = time.process_time()
    what()
    times = max(1, round(ROUND_SECONDS / max(time.process_time() - began, 1e-6)))
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(times):
            what()
        best = min(best, (time.process_time() - began) / times)
    return best


def decoding(dialect: str) -> Cost:
    """Over all golden messages of a dialect that hold readings."""
    decoder = DIALECTS[dialect]
    ready: list[Callable[[], Any]] = []
    readings = 0
    for seed in seeds(dialect):
        decode = _decode(decoder, seed)
        found = decode()
        found = found.decoded if isinstance(decoder, Stateful) else found
        count = sum(isinstance(leaf, Reading) for leaf in found) if isinstance(found, list) else 0
        if count:
            ready.append(decode)
            readings += count
    seconds = sum(map(least, ready))
    return Cost(len(ready), readings, seconds / len(ready) * 1e6, seconds / readings * 1e6)


def _decode(decoder: Any, seed: Seed) -> Callable[[], Any]:
    message = Message(seed.topic, seed.payload, RECEIVED, options=seed.options)
    if isinstance(decoder, Stateful):
        return lambda: decoder.decode(message, seed.state)
    return lambda: decoder(message)


def hostile(one: Hostile) -> tuple[float, float]:
    """Milliseconds of CPU of the dialect alone, and of the way from bytes to rows and letters."""
    decoder = DIALECTS[one.dialect]
    message = Message(one.topic, one.payload, RECEIVED)
    by = Explainer(profiles=load_profiles([]))
    by.explain([Told(topic, payload, RECEIVED // 1000) for topic, payload in one.before])
    alone = least(lambda: decoder.decode(message, {}) if isinstance(decoder, Stateful) else decoder(message), 3)
    whole = least(lambda: by.explain([Told(one.topic, one.payload, RECEIVED // 1000)]), 3)
    return alone * 1e3, whole * 1e3


def explaining() -> float:
    """Lines of `explain --jsonl` a second of CPU, over the golden messages of all dialects in turn."""
    every = [
        {
            "topic": seed.topic,
            "payload_base64": base64.b64encode(seed.payload).decode(),
            "received_at": RECEIVED // 1000,
        }
        for dialect in sorted(DIALECTS)
        for seed in seeds(dialect)
        if len(seed.payload) < 4_000
    ]
    mixed = [json.dumps(every[n * 7919 % len(every)]).encode() + b"\n" for n in range(LINES)]
    by = Explainer(profiles=load_profiles([]))
    rates = []
    with tempfile.TemporaryFile() as source, open(os.devnull, "wb") as sink:  # noqa: PTH123 - a device, no path
        source.write(b"".join(mixed))
        for _ in range(3):
            source.seek(0)
            began = time.process_time()
            bulk(source, sink, by)
            rates.append(LINES / (time.process_time() - began))
    return max(rates)


def main(console: Console) -> None:
    """Measure and print all of it."""
    table = Table("dialect", "messages", "µs a message", "readings", "µs a reading", title="Decoding golden messages")
    for dialect in sorted(DIALECTS):
        cost = decoding(dialect)
        table.add_row(
            dialect, f"{cost.messages}", f"{cost.us_per_message:.1f}", f"{cost.readings}", f"{cost.us_per_reading:.1f}"
        )
    console.print(table)
    worst = Table("message", "KB", "ms in its dialect", "ms to rows and letters", title="The worst of 64 KB")
    for name, one in [*MESSAGES.items(), *((f"pack: {name}", one) for name, one in PACKS.items())]:
        alone, whole = hostile(one)
        worst.add_row(name, f"{len(one.payload) / 1024:.0f}", f"{alone:.1f}", f"{whole:.1f}")
    console.print(worst)
    console.print(f"explain --jsonl: {explaining():,.0f} lines a second of CPU", highlight=False)
