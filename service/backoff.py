"""How long to wait before something outside is tried once more."""

import random

FIRST, CAP = 0.1, 15.0  # seconds


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures before this one: exponential, capped, full jitter.

    Jitter over the whole span, because all cities and processors meet the same outage and must not come back in step.
    """
    return random.uniform(FIRST / 2, min(CAP, FIRST * 2.0 ** min(failures, 10)))
