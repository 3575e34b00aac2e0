"""Waiting before another attempt: never nothing, never long, and not in step."""

from service.backoff import CAP, backoff


def test_backoff_is_capped_and_never_nothing() -> None:
    assert all(0.04 < backoff(failures) <= CAP for failures in range(2_000))


def test_it_grows_with_the_failures_and_two_processes_do_not_wait_alike() -> None:
    waits = [[backoff(failures) for _ in range(200)] for failures in (0, 4, 12)]
    assert max(waits[0]) < max(waits[1]) < max(waits[2])
    assert all(len(set(some)) > 100 for some in waits[1:])
