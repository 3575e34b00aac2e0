"""Settings of every process: a wrong one is one line with its cure, and a misspelt one is wrong."""

import re
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

import ingest.settings
import processors.settings
import status.settings
import storage.settings
from ingest.city import CityFileError
from ingest.city import load as load_city
from processors.profiles import ProfileError
from processors.profiles import load as load_profiles
from service.http import AddressTakenError, Endpoints
from service.settings import faults

ROOT = Path(__file__).parents[3]
PROGRAMS = pytest.mark.parametrize(
    "program",
    [ingest.settings.Settings, processors.settings.Settings, status.settings.Settings, storage.settings.Maintain],
    ids=lambda one: one.__module__,
)


@pytest.fixture(autouse=True)
def _database(monkeypatch):
    monkeypatch.setenv("HANSE_DATABASE_DSN", "host=db dbname=hanse")


def said(program):
    with pytest.raises(ValidationError) as caught:
        program()
    return list(faults(caught.value))


@PROGRAMS
@pytest.mark.parametrize("address", ["9101", "127.0.0.1:99999", "127.0.0.1:x", "a b:1", "http://a:1", "[::1]:9101"])
def test_an_address_to_listen_at_is_host_and_port(monkeypatch, program, address):
    monkeypatch.setenv("HANSE_HTTP_ADDRESS", address)
    assert said(program) == [f"HANSE_HTTP_ADDRESS = {address!r}: {address!r} should be host:port"]


@PROGRAMS
def test_a_level_may_be_written_small_and_an_empty_variable_is_none(monkeypatch, program):
    monkeypatch.setenv("HANSE_LOG_LEVEL", "debug")
    monkeypatch.setenv("HANSE_HTTP_ADDRESS", "")
    read = program()
    assert (read.log_level, read.http_address) == ("DEBUG", program.model_fields["http_address"].default)


@pytest.mark.parametrize("servers", ["kafka", "kafka:99999", "a:1,b", "a:0", ":9092"])
def test_kafkas_servers_are_hosts_and_ports(monkeypatch, servers):
    monkeypatch.setenv("HANSE_KAFKA_BOOTSTRAP_SERVERS", servers)
    [line] = said(processors.settings.Settings)
    assert line.startswith(f"HANSE_KAFKA_BOOTSTRAP_SERVERS = {servers!r}: ")
    assert "should be host:port" in line


def test_a_duration_out_of_form_is_told_the_form(monkeypatch):
    monkeypatch.setenv("HANSE_KAFKA_RETENTION", "14")
    form = "should be an ISO 8601 duration, as P14D or PT10M"
    assert said(ingest.settings.Settings) == [f"HANSE_KAFKA_RETENTION = '14': {form}"]
    assert said(storage.settings.Maintain) == [f"HANSE_KAFKA_RETENTION = '14': {form}"]


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("HANSE_KAFKA_PARTITION", "HANSE_KAFKA_PARTITIONS"),
        ("HANSE_KAFKA_BOOTSTRAP_SERVER", "HANSE_KAFKA_BOOTSTRAP_SERVERS"),
        ("HANSE_KAFKA_RETENTON", "HANSE_KAFKA_RETENTION"),
        ("HANSE_LOGLEVEL", "HANSE_LOG_LEVEL"),
        ("HANSE_HTTP_ADRESS", "HANSE_HTTP_ADDRESS"),
        ("HANSE_GATEWAY_STATEDIR", "HANSE_GATEWAY_STATE_DIR"),
    ],
)
def test_a_misspelt_setting_is_refused_and_not_left_out_in_silence(monkeypatch, misspelt, meant):
    monkeypatch.setenv(misspelt, "1")
    assert said(ingest.settings.Settings) == [f"{misspelt}: no such setting; is {meant} meant?"]


@PROGRAMS
def test_no_variable_of_this_project_is_taken_for_a_misspelt_one(monkeypatch, program):
    command = ["git", "grep", "-ohE", r"\bHANSE_[A-Z_]*[A-Z]\b", "--", ":!tests/unit"]
    named = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert len(set(named)) > 40
    # Names of others alone: a value is not the question here.
    for name in set(named) - {f"HANSE_{field.upper()}" for field in program.model_fields}:
        monkeypatch.setenv(name, "")
    program()


@pytest.mark.parametrize("address", ["nohost.invalid:0", "192.0.2.1:0"])
def test_an_address_of_another_machine_is_not_said_to_be_a_taken_port(address):
    with pytest.raises(AddressTakenError, match=r": .+; name an address of this machine"):
        Endpoints(address, unready=tuple)


CITY = '[city]\nkey = "x"\nname = "X"\n[[route]]\nfilter = "a"\ndialect = "hanse"\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = " + "[" * 5_000 + "]" * 5_000, "not TOML that can be read: nested too deeply"),
        ("[city", "not TOML: "),
        (CITY.replace('"a"', "3"), "route[1].filter = 3: Input should be a valid string"),
        (CITY + '[limits]\nmax_ahead = "-PT1S"', "limits.max_ahead = '-PT1S': is between PT0S and P36525D"),
        (CITY + '[limits]\nmax_age = "P999999999D"', "limits.max_age = 'P999999999D': is between PT1S and P36525D"),
        (CITY + '[limits]\nsilent_after = "PT0S"', "limits.silent_after = 'PT0S': is between PT1S and P36525D"),
        (CITY + '[limits]\nmax_age = "a month"', "limits.max_age = 'a month': should be an ISO 8601 duration, as P14D"),
    ],
    ids=["deep", "no TOML", "one fault", "ahead", "age", "silence", "duration"],
)
def test_whatever_is_wrong_with_a_city_file_is_one_line_with_its_place(tmp_path, text, line):
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(CityFileError) as caught:
        load_city(path)
    assert str(caught.value).startswith(f"{path}: {line}")
    assert "\n" not in str(caught.value)


def test_a_file_as_a_windows_editor_writes_it_is_read(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbf" + CITY.replace("\n", "\r\n").encode())
    assert load_city(path).key == "x"


def test_a_profile_nested_too_deeply_is_one_line(tmp_path):
    (tmp_path / "p.toml").write_text("a = " + "[" * 5_000 + "]" * 5_000)
    with pytest.raises(ProfileError, match=re.escape(f"{tmp_path}/p.toml: not TOML that can be read")):
        load_profiles(tmp_path)


def test_servers_are_read_by_every_client_as_they_were_checked(monkeypatch):
    monkeypatch.setenv("HANSE_KAFKA_BOOTSTRAP_SERVERS", " one:9092, two:9092,")
    assert processors.settings.Settings().kafka_bootstrap_servers == "one:9092,two:9092"
    monkeypatch.setenv("HANSE_STATUS_PROCESSES", "one:9101 , two:9102")
    assert status.settings.Settings().processes == ["one:9101", "two:9102"]


def test_no_server_at_all_is_refused(monkeypatch):
    monkeypatch.setenv("HANSE_KAFKA_BOOTSTRAP_SERVERS", " , ")
    with pytest.raises(ValidationError, match="should name a server"):
        processors.settings.Settings()
