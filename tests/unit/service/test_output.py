"""What is printed and logged where there is no room for it: one line, or no line, and never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
import structlog
from click.testing import CliRunner

from service import logs
from service.cli import Program

ROOT = Path(__file__).parents[3]
PROGRAMS = ("ingest", "processors", "status", "storage")


def run(program, *words, stdout=subprocess.PIPE):
    command = [sys.executable, "-m", program, *words]
    return subprocess.run(command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_has_its_help_and_its_version(program):
    short, long = run(program, "-h"), run(program, "--help")
    assert (short.returncode, short.stdout) == (0, long.stdout)
    assert ", version " in run(program, "--version").stdout


@pytest.mark.parametrize("words", [["--json"], []])
def test_a_full_disk_is_one_line(words):
    with Path("/dev/full").open("w") as full:
        done = run("processors", "explain", "--topic", "a", "--payload", '{"t": 1}', *words, stdout=full)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(": the output can't be written: No space left on device\n")


def test_an_argument_that_is_no_text_is_a_wrong_argument():
    @click.group(cls=Program)
    def main():
        pass

    @main.command()
    @click.argument("device")
    def asked(device):
        device.encode()

    done = CliRunner().invoke(main, ["asked", os.fsdecode(b"a\xff")])
    assert done.exit_code == 2
    assert "Error: an argument is not in UTF-8: 'a\\udcff'" in done.output


def test_a_log_that_finds_no_room_stops_nobody(monkeypatch):
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        logs.configure(json=True)
        structlog.get_logger().error("said to nobody")
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # so that it can be closed
    structlog.reset_defaults()
