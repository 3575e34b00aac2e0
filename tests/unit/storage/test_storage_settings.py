"""What the environment may say, and the sentences for what it may not."""

import psycopg
import pytest

from storage.connection import parameters, refusal
from storage.errors import Refused, Unavailable
from storage.migrate import Migration, migration, packaged, pending
from storage.schema import CODE_LEVEL, NEEDED, fault_of_schema
from storage.settings import SettingsError, load


def test_settings_are_frozen_and_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("HANSE_DATABASE_DSN", "host=db dbname=hanse user=hanse_ingest")
    settings = load()
    assert settings.database_dsn == "host=db dbname=hanse user=hanse_ingest"
    with pytest.raises(ValueError, match="frozen"):
        settings.database_dsn = "other"


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        (None, "HANSE_DATABASE_DSN is required"),
        ("host=db password=hunter2", "HANSE_DATABASE_DSN: holds a password; name a file instead"),
        ("postgresql://u:hunter2@db/x", "HANSE_DATABASE_DSN: holds a password"),
        ("host=db hunter2", "HANSE_DATABASE_DSN: not a connection string, as in"),
        ("host=db passfile=/nowhere/at/all", "HANSE_DATABASE_DSN: password file /nowhere/at/all: No such file"),
    ],
)
def test_a_wrong_address_is_named_in_one_line_without_its_secret(monkeypatch, dsn, said):
    monkeypatch.delenv("HANSE_DATABASE_DSN", raising=False)
    if dsn is not None:
        monkeypatch.setenv("HANSE_DATABASE_DSN", dsn)
    with pytest.raises(SettingsError) as error:
        load()
    assert str(error.value).startswith(said)
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_password_file_that_others_may_read_is_refused_because_libpq_ignores_it(monkeypatch, tmp_path):
    passfile = tmp_path / "pass"
    passfile.write_text("*:*:*:*:x")
    passfile.chmod(0o644)
    monkeypatch.setenv("HANSE_DATABASE_DSN", f"host=db passfile={passfile}")
    with pytest.raises(SettingsError, match="mode 0644, and libpq ignores it above 0600; chmod 600 it"):
        load()
    passfile.chmod(0o400)
    load()


def test_the_sessions_settings_join_the_addresss_own_options():
    params = parameters("host=db options='-c work_mem=8MB' connect_timeout=3", "me")
    assert params["options"].startswith("-c work_mem=8MB -c synchronous_commit=off ")
    assert r"default_transaction_isolation=read\ committed" in params["options"]
    assert (params["connect_timeout"], params["application_name"]) == ("3", "me")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('connection failed: FATAL:  password authentication failed for user "u"', Refused),
        ("FATAL:  Passwort-Authentifizierung für Benutzer »u« fehlgeschlagen", Refused),
        ('FATAL:  role "u" does not exist', Refused),
        ('FATAL:  role "u" is not permitted to log in', Refused),
        ('FATAL:  database "x" does not exist', Refused),
        ("FATAL:  Datenbank »x« existiert nicht", Refused),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "u", database "x", no encryption', Refused),
        ("SSL error: certificate verify failed", Refused),
        ('root certificate file "/ca.crt" does not exist', Refused),
        ("server does not support SSL, but SSL was required", Refused),
        ('FATAL:  unrecognized configuration parameter "transaction_timeout"', Refused),
        ("fe_sendauth: no password supplied", Refused),
        ('connection is bad: invalid port number: "99999"', Refused),
        ("FATAL:  the database system is starting up", Unavailable),
        ("FATAL:  sorry, too many clients already", Unavailable),
        ("Connection refused\n\tIs the server running on that host?", Unavailable),
        ("SSL connection has been closed unexpectedly", Unavailable),
        ('failed to resolve host "db": Temporary failure in name resolution', Unavailable),
        ("connection timeout expired", Unavailable),
    ],
)
def test_a_failed_attempt_to_connect_is_refused_or_retried_by_what_was_said(text, kind):
    told = refusal(psycopg.OperationalError(text), parameters("host=db port=5433 dbname=x user=u", "me"))
    assert kind is type(told)
    assert str(told).startswith("database 'x' at db:5433 as 'u': ")
    assert "\n" not in str(told)


def test_a_schema_is_usable_unless_it_is_missing_too_old_or_for_newer_code():
    assert fault_of_schema(NEEDED, CODE_LEVEL) is None
    assert fault_of_schema(NEEDED + 7, CODE_LEVEL) is None
    assert "missing; run `hanse-storage migrate`" in str(fault_of_schema(None, None))
    assert "run `hanse-storage migrate`" in str(fault_of_schema(NEEDED - 1, CODE_LEVEL))
    assert "upgrade this program" in str(fault_of_schema(NEEDED, CODE_LEVEL + 1))


def test_a_migration_says_its_number_and_the_oldest_code():
    read = migration("0002_more.sql", "-- oldest-code: 1\nselect 1;")
    assert (read.version, read.name, read.oldest_code) == (2, "more", 1)
    assert len(read.checksum) == 32


@pytest.mark.parametrize(("file", "text"), [("2_more.sql", "-- oldest-code: 1"), ("0002_more.sql", "select 1;")])
def test_a_migration_out_of_form_is_a_bug(file, text):
    with pytest.raises(ValueError, match=file):
        migration(file, text)


def test_only_what_is_missing_is_pending_and_an_altered_file_is_refused(monkeypatch):
    monkeypatch.setattr("storage.schema.NEEDED", 1)
    one, two = Migration(1, "one", "a", 1), Migration(2, "two", "b", 1)
    done = {1: ("one", one.checksum, 1)}
    assert [two] == pending([one, two], done)
    with pytest.raises(Refused, match="0001_one"):
        pending([one._replace(sql="c"), two], done)
    assert pending([one], done | {2: ("two", two.checksum, CODE_LEVEL)}) == []
    with pytest.raises(Refused, match="upgrade this program"):
        pending([one], done | {2: ("two", two.checksum, CODE_LEVEL + 1)})


def test_no_migration_needs_newer_code_than_it_ships_with():
    assert all(m.oldest_code <= CODE_LEVEL for m in packaged())
    assert len(packaged()) >= NEEDED
