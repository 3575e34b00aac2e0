"""The units of deploy/systemd: what systemd says of them, and that what they start behaves as they count on.

Whether systemd runs here or not: each ExecStart line is started with the unit's environment, and systemd's socket is
the test's own. No server is reachable, as on the morning after a power cut.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

import ingest.settings
import processors.settings
import status.settings
import storage.settings
from tests.units import BIN, COMMON, FOLDER, UNITS, env, settings

DAEMONS = sorted(name for name, unit in UNITS.items() if unit.last("Service.Type") == "notify")
READS: dict[str, type[BaseSettings]] = {
    "hanse-gateway@.service": ingest.settings.Settings,
    "hanse-processor@.service": processors.settings.Settings,
    "hanse-maintain.service": storage.settings.Maintain,
    "hanse-migrate.service": storage.settings.Settings,
    "hanse-status.service": status.settings.Settings,
}
NOT_OURS = {"PGPASSFILE", "HANSE_CITY_FILES"}  # libpq's; the unit's own, for its command line
SCRIPTS = Path(sys.executable).parent


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_systemd_finds_the_units_right(tmp_path):
    place = tmp_path / "etc/systemd/system"
    shutil.copytree(FOLDER, place)
    for drop_in in ("hanse-gateway@", "hanse-processor@"):
        (place / f"{drop_in}.service.d").mkdir()
        shutil.copy(FOLDER / "kafka-login.conf", place / f"{drop_in}.service.d")
    for unit in UNITS.values():
        program = tmp_path / unit.command[0].lstrip("/")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/true\n")
        program.chmod(0o755)
    names = [name.replace("@.", "@rostock.") for name in UNITS] + ["hanse.target"]
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"--root={tmp_path}", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in ran.stderr.splitlines() if "hanse" in line] == []
    assert "Unknown" not in ran.stderr


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_command_that_is_installed(name):
    program, *arguments = UNITS[name].command
    assert program.startswith(BIN)
    script = SCRIPTS / program.removeprefix(BIN)
    assert subprocess.run([script, arguments[0], "--help"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_sets_nothing_that_its_process_does_not_read(name):
    unit = UNITS[name]
    told = set(unit.environment) | {key for path in unit.environment_files for key in env(path)}
    known = {f"HANSE_{field.upper()}" for field in READS[name].model_fields}
    assert told - NOT_OURS <= known
    assert not [key for key in told if "PASSWORD" in key], "secrets come as credentials, by file"


def test_the_login_of_kafka_is_what_both_its_clients_read():
    told = {
        value.split("=", 1)[0] for key, value in settings(FOLDER / "kafka-login.conf") if key.endswith("Environment")
    }
    for model in (ingest.settings.Settings, processors.settings.Settings):
        assert told <= {f"HANSE_{field.upper()}" for field in model.model_fields}


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_is_started_again_after_a_crash_and_not_for_a_wrong_configuration(name):
    unit = UNITS[name]
    assert (unit.last("Service.Restart"), unit.last("Service.RestartPreventExitStatus")) == ("on-failure", "78")
    assert unit.last("Unit.StartLimitIntervalSec") == "0"
    assert int(unit.last("Service.TimeoutStopSec")) >= 10, "twice what a process takes to end"


def test_nothing_runs_with_more_rights_than_it_needs():
    told = dict(settings(COMMON))
    assert told["Service.CapabilityBoundingSet"] == ""
    for key in ("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateDevices", "MemoryDenyWriteExecute"):
        assert told[f"Service.{key}"] == "yes"
    assert told["Service.ProtectSystem"] == "strict"
    own = {key for unit in UNITS.values() for key, _ in settings(FOLDER / unit.name)}
    assert own & set(told) == set(), "the drop-in is read last, so a unit's own setting would not hold"


class Started:
    """A unit's ExecStart as systemd would run it, as far as a test can; `told` is what it tells systemd."""

    def __init__(self, name, folder, address="127.0.0.1:0"):
        unit = UNITS[name]
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.socket.settimeout(120)
        city = folder / "rostock.toml"
        city.write_text(
            '[city]\nkey = "rostock"\nname = "Rostock"\n[mqtt]\nhost = "127.0.0.1"\nport = 1\n'
            '[[route]]\nfilter = "hanse/rostock/+/+"\ndialect = "hanse"\n'
        )
        (folder / "passfile").write_text("*:*:*:*:secret\n")
        (folder / "passfile").chmod(0o600)
        own = {key: value.replace("%d/database", str(folder / "passfile")) for key, value in unit.environment.items()}
        own = {key: re.sub(r"%S\S+", str(folder), value).replace("%H-%i", "test") for key, value in own.items()}
        files = {key: value.strip('"') for path in unit.environment_files for key, value in env(path).items()}
        away = {
            "HANSE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "HANSE_HTTP_ADDRESS": address,
            "HANSE_DATABASE_DSN": "postgresql://hanse_ingest@127.0.0.1:1/hanse",
            "HANSE_STATUS_PROCESSES": "",
        }
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("HANSE_", "PG"))}
        notify = {"NOTIFY_SOCKET": self.socket.getsockname(), "WATCHDOG_USEC": "1000000"}
        argv = [
            word.replace("/etc/hanse/cities/%i.toml", str(city)).replace("$HANSE_CITY_FILES", str(city))
            for word in shlex.split(unit.last("Service.ExecStart").replace(BIN, f"{SCRIPTS}/"))
        ]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(argv, env={**clean, **files, **own, **away, **notify}, stderr=log)

    def told(self, what):
        while what not in (said := self.socket.recv(4_096).decode()):
            pass
        return said

    def port(self):
        """As the log says, which may come after systemd was told."""
        found = None
        while found is None and self.process.poll() is None:
            found = re.search(r'"http_port": (\d+)', self.log.read_text())
            time.sleep(0.01)
        return int(found[1])

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(120)
        self.socket.close()
        return code


@pytest.mark.parametrize("name", DAEMONS)
def test_before_its_servers_are_there_a_unit_is_up_says_what_is_missing_and_ends_cleanly(name, tmp_path):
    unit = Started(name, tmp_path)
    try:
        assert unit.told("READY=1") == "READY=1"
        assert "WATCHDOG=1" in unit.told(
            "STATUS=working"
            if "status" in name
            else "not connected yet"
            if "processor" not in name
            else "the database is away"
        )
    finally:
        code = unit.end()
    assert code == 0, unit.log.read_text()


@pytest.mark.parametrize("name", DAEMONS)
def test_a_metrics_port_that_is_taken_is_a_wrong_configuration_in_one_line(name, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        unit = Started(name, tmp_path, address)
        assert unit.process.wait(120) == int(UNITS[name].last("Service.RestartPreventExitStatus"))
        unit.end()
    last = unit.log.read_text().splitlines()[-1]
    assert f"HANSE_HTTP_ADDRESS {address}: " in last
    assert "choose a free port" in last


def test_scrapers_that_ask_for_nonsense_or_never_finish_leave_a_gateway_at_its_work(tmp_path):
    unit = Started("hanse-gateway@.service", tmp_path)
    try:
        unit.told("READY=1")
        unit.told("WATCHDOG=1")
        slow = [socket.create_connection(("127.0.0.1", unit.port())) for _ in range(30)]
        for number, one in enumerate(slow):
            one.sendall(b"GET /%00../metrics\xff HTTP/9.9\r\n\r\n" if number % 2 else b"GET /metrics HT")
        began = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{unit.port()}/metrics", timeout=30) as answer:
            assert b'hanse_gateway_connected{city="rostock"}' in answer.read()
        while time.monotonic() - began < 1.0:
            assert "WATCHDOG=1" in unit.told("STATUS="), "its loop turns all the while"
        for one in slow:
            one.close()
    finally:
        code = unit.end()
    assert code == 0
