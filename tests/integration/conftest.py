"""A migrated database, and a way to ask it."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from storage.migrate import migrate


@pytest.fixture
def migrated(database: str) -> str:
    """The address of a database with all migrations."""
    migrate(database)
    return database


@pytest.fixture
def sql(migrated: str) -> Callable[..., list[tuple[Any, ...]]]:
    """`sql(query, params)`: the rows, each time on a connection of its own."""

    def run(query: str, params: Any = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(migrated, autocommit=True) as conn:
            cursor = conn.execute(query, params)
            return cursor.fetchall() if cursor.description else []

    return run
