"""A minute of coverage-guided fuzzing on every dialect; `make test-long` only."""

import subprocess
import sys

import pytest

from processors.dialects import DIALECTS
from tests.fuzz.verdicts import HERE

MINUTE = 60


@pytest.mark.long
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_a_minute_of_fuzzing_finds_nothing(dialect):
    command = [sys.executable, "-m", "tests.fuzz", dialect, "--seconds", str(MINUTE)]
    ran = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=10 * MINUTE, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
