"""SQLSTATE to verdict."""

import psycopg
import pytest
from psycopg import errors as pg

from storage.errors import Fenced, Refused, Unavailable, Verdict, outcome, verdict
from storage.rows import TopicPartition


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("22008", Verdict.DATA),  # time out of range
        ("22021", Verdict.DATA),  # character not in repertoire
        ("22P03", Verdict.DATA),  # bad binary representation
        ("23502", Verdict.DATA),
        ("23514", Verdict.DATA),
        ("54000", Verdict.DATA),
        ("2200H", Verdict.CRASH),  # ids used up: no row's fault
        ("23505", Verdict.CRASH),  # expected where rows are copied, a bug elsewhere
        ("08006", Verdict.RETRY),
        ("40001", Verdict.RETRY),
        ("40P01", Verdict.RETRY),
        ("53100", Verdict.RETRY),
        ("53300", Verdict.RETRY),
        ("55P03", Verdict.RETRY),
        ("57P01", Verdict.RETRY),
        ("57P03", Verdict.RETRY),
        ("25P03", Verdict.RETRY),
        ("25P04", Verdict.RETRY),
        ("25006", Verdict.RETRY),
        ("28P01", Verdict.REFUSE),
        ("3D000", Verdict.REFUSE),
        ("42501", Verdict.REFUSE),
        ("42P01", Verdict.REFUSE),
        ("42601", Verdict.CRASH),
        ("XX000", Verdict.CRASH),
        ("XX001", Verdict.CRASH),
    ],
)
def test_a_sqlstate_has_a_verdict(state, expected):
    error = psycopg.DatabaseError("said")
    error.sqlstate = state
    assert expected is verdict(error)


def test_a_chunk_dropped_under_the_writer_is_retried():
    assert Verdict.RETRY is verdict(pg.InternalError_("could not open relation with OID 4711"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), Verdict.RETRY),
        (psycopg.InterfaceError("the connection is lost"), Verdict.RETRY),
        (psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"), Verdict.DATA),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), Verdict.DATA),
        (psycopg.ProgrammingError("the query has 1 placeholders but 2 parameters were passed"), Verdict.CRASH),
        (KeyError("kiel"), Verdict.CRASH),
    ],
)
def test_an_error_without_a_sqlstate_is_judged_by_its_kind(error, expected):
    assert expected is verdict(error)


@pytest.mark.parametrize(
    ("error", "halve"),
    [
        (pg.LockNotAvailable("waited"), True),
        (pg.IdleInTransactionSessionTimeout("idle"), True),
        (pg.TransactionTimeout("long"), True),
        (pg.DeadlockDetected("dead"), False),
        (psycopg.OperationalError("gone\nand more"), False),
    ],
)
def test_trouble_outside_is_unavailable_and_asks_for_half_where_time_ran_out(error, halve):
    told = outcome(error)
    assert isinstance(told, Unavailable)
    assert (error.sqlstate, halve) == (told.sqlstate, told.halve)
    assert "\n" not in str(told)


def test_a_wrong_set_up_is_refused_in_a_sentence_with_a_cure():
    told = outcome(pg.InsufficientPrivilege("permission denied for table city"))
    assert isinstance(told, Refused)
    assert "permission denied for table city (42501); connect as the role that may" in str(told)


def test_a_bug_stays_the_error_it_was():
    bug = pg.SyntaxError("at or near")
    assert bug is outcome(bug)


def test_a_fence_names_its_partitions():
    assert str(Fenced([TopicPartition("b", 2), TopicPartition("b", 0)])) == "fenced: b/0, b/2"
