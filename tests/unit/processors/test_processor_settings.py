"""A processor's environment: what is wrong with it is said before anything connects, and no secret with it."""

import pytest
from pydantic import ValidationError

from processors.settings import Settings
from service.settings import faults


def test_a_batch_holds_no_more_messages_than_its_columns_can_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSE_PROCESSOR_BATCH_MESSAGES", "40000")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert list(faults(caught.value)) == [
        "HANSE_PROCESSOR_BATCH_MESSAGES = '40000': Input should be less than or equal to 30000"
    ]


@pytest.mark.parametrize(
    ("dsn", "told"),
    [
        ("host=db password=hunter2", "HANSE_DATABASE_DSN: holds a password; name a file instead"),
        ("nonsense", "HANSE_DATABASE_DSN: not a connection string"),
        ("host=db passfile=/nowhere/at/all", "HANSE_DATABASE_DSN: password file /nowhere/at/all: No such file"),
    ],
)
def test_a_connection_string_is_held_to_what_the_other_programs_hold_it_to(
    monkeypatch: pytest.MonkeyPatch, dsn: str, told: str
) -> None:
    monkeypatch.setenv("HANSE_DATABASE_DSN", dsn)
    with pytest.raises(ValidationError) as caught:
        Settings()
    (line,) = faults(caught.value)
    assert line.startswith(told)
    assert "hunter2" not in f"{line}{caught.value}"
