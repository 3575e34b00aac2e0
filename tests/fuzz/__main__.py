"""Fuzz one dialect, guided by coverage: `python -m tests.fuzz DIALECT --seconds N`, a minute by default.

Starts from the golden cases: their messages, the topics and the state that earlier ones left. What must hold is in
`verdicts`; besides, a payload may not take longer than a bound. Ends with 0 if it found nothing; a finding prints the
bytes, and atheris writes them to build/fuzz/. Needs atheris (development requirement, Linux on x86-64).
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["processors"]):
    from processors.dialects import DIALECTS
    from processors.standard.observation import Message

from tests.fuzz.verdicts import RECEIVED, decode_and_check, seeds

ROOT = Path(__file__).parents[2]
# Instrumented code on a busy machine is some ten times slower than in production: this catches what grows out of
# proportion, not a few milliseconds.
SLOWEST_S = 2.0
LARGEST = 65_536
HEAD = 3  # bytes before a payload: which seed's topic, which seed's state, flags


def fuzz(dialect: str, seconds: int) -> None:
    known = seeds(dialect)
    states = [seed.state for seed in known]

    def one(data: bytes) -> None:
        if len(data) < HEAD:
            return
        seed = known[data[0] % len(known)]
        state, flags = states[data[1] % len(states)], data[2]
        message = Message(
            seed.topic,
            data[HEAD:],
            RECEIVED,
            retain=bool(flags & 1),
            max_readings=3 if flags & 2 else 10_000,
            options=seed.options,
            replayed=bool(flags & 4),
        )
        began = time.process_time()
        after = decode_and_check(dialect, message, state)
        if flags & 8:  # what a message left behind is read by the next one
            decode_and_check(dialect, message._replace(replayed=False), after)
        took = time.process_time() - began
        assert took < SLOWEST_S, f"{len(data)} bytes took {took:.1f} s"

    findings = ROOT / "build" / "fuzz" / dialect
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for place, seed in enumerate(known):
            if len(seed.payload) <= LARGEST:
                head = bytes([place % 256, place % 256, 0])
                (Path(corpus) / f"seed-{place}").write_bytes(head + seed.payload)
        options = [
            f"-max_total_time={seconds}",
            f"-max_len={LARGEST}",
            f"-artifact_prefix={findings}/",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *options, corpus], one)
        atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz one dialect.")
    parser.add_argument("dialect", choices=sorted(DIALECTS))
    parser.add_argument("--seconds", type=int, default=60)
    told = parser.parse_args()
    fuzz(told.dialect, told.seconds)


if __name__ == "__main__":
    main()
