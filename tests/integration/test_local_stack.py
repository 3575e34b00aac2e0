"""The real servers without containers: they come up, crash and go as deploy/local promises."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from local import debian, fetch, paths, stack
from local.process import Identity, Process, ServerError, recorded
from local.servers import Kafka, Mosquitto, Postgres
from paho.mqtt import publish, subscribe

CHECKOUT = Path(__file__).parents[2]
READY = 240
pytestmark = pytest.mark.timeout(900)  # `up` starts twenty processes, on a machine that may be busy


@pytest.fixture
def home() -> Iterator[Path]:
    """A place for a stack of the test's own; whatever it leaves running is ended and fails the test."""
    folder = Path(tempfile.mkdtemp(prefix="hanse home "))
    folder.chmod(0o755)
    yield folder
    left = [one for one in recorded(folder / "run") + recorded(folder / "run/owned") if one.identity.alive()]
    for one in left:
        one.stop()
    shutil.rmtree(folder, ignore_errors=True)
    assert [one.name for one in left] == []


@pytest.fixture
def fetched(home: Path) -> Path:
    """The same with the programs that this checkout has already."""
    fetch.install()
    (home / "parts").symlink_to(paths.store() / "parts")
    return home


def local(home: Path, *arguments: str, **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "local", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": "deploy", "HANSE_SERVERS_DIR": str(home), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=READY)
    return process.returncode, out, err


def until(what: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + READY
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def processes_in(folder: Path) -> list[str]:
    """Command lines of all processes that name the folder or work in it."""
    found = []
    for entry in Path("/proc").glob("[1-9]*"):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in command or str(folder) in str((entry / "cwd").readlink()):
                found.append(command)
    return found


# --- one server ---


def test_servers_answer_on_ports_of_their_own_in_a_folder_with_spaces(
    kafka: Kafka, postgres: Postgres, mosquitto: Callable[..., Mosquitto]
) -> None:
    servers = [kafka, postgres, mosquitto(), mosquitto()]
    assert all(" " in str(server.directory) and server.alive and server.ready() for server in servers)
    assert len({server.port for server in servers}) == 4


def test_no_server_runs_as_root(kafka: Kafka, postgres: Postgres, mosquitto: Callable[..., Mosquitto]) -> None:
    owners = {Path(f"/proc/{server.pid}").stat().st_uid for server in (kafka, postgres, mosquitto())}
    assert 0 not in owners


def test_a_database_has_the_extension_no_background_jobs_and_an_owner_without_rights(
    database: str, postgres: Postgres
) -> None:
    with psycopg.connect(database) as connection:
        assert connection.execute("select rolsuper from pg_roles where rolname = current_user").fetchone() == (False,)
        assert connection.execute("show fsync").fetchone() == ("on",)
        connection.execute("set transaction_timeout = '30s'")
        connection.execute("create table t (at timestamptz not null)")
        connection.execute("select create_hypertable('t', by_range('at'))")
    with postgres.superuser() as connection:
        jobs = "select count(*) from pg_stat_activity where backend_type ilike '%timescale%'"
        assert connection.execute(jobs).fetchone() == (0,)


def test_the_passwords_are_asked_for_and_readable_by_their_owner_only(database: str, postgres: Postgres) -> None:
    assert postgres.passfile.stat().st_mode & 0o777 == 0o600
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(database.split("?", maxsplit=1)[0] + "?passfile=/nonexistent")


def test_postgres_keeps_committed_rows_and_its_port_over_a_crash(own_postgres: Callable[..., Postgres]) -> None:
    server = own_postgres()
    dsn = server.create_database("kept")
    with psycopg.connect(dsn) as connection:
        connection.execute("create table t as select 1 as n")
    port, pid = server.port, server.pid
    server.kill()
    assert not server.alive
    server.start()
    assert (server.port, server.pid) != (port, pid)
    assert server.port == port
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select n from t").fetchall() == [(1,)]


async def test_kafka_keeps_records_over_a_crash(own_kafka: Callable[..., Kafka]) -> None:
    server = own_kafka()
    admin = AIOKafkaAdminClient(bootstrap_servers=server.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("kept", 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=server.bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait("kept", b"x", partition=0)
    await producer.stop()
    server.kill()
    server.start()
    consumer = AIOKafkaConsumer(bootstrap_servers=server.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition("kept", 0)])
    record = await consumer.getone()
    await consumer.stop()
    assert record.value == b"x"


def test_mosquitto_keeps_what_it_has_saved_over_a_crash(mosquitto: Callable[..., Mosquitto]) -> None:
    server = mosquitto()
    payload = os.urandom(300_000)  # more than a gateway's default max_payload_bytes: the broker must not stop it
    publish.single("kept", payload, qos=1, retain=True, hostname="127.0.0.1", port=server.port)
    saved = server.directory / "data/mosquitto.db"
    deadline = time.monotonic() + READY
    while not (saved.exists() and saved.stat().st_size > len(payload)):
        assert time.monotonic() < deadline, "autosave_interval 1 did not save"
        time.sleep(0.05)
    server.kill()
    server.start()
    message = subscribe.simple("kept", qos=1, hostname="127.0.0.1", port=server.port, keepalive=10)
    assert message.payload == payload


def test_a_broker_with_a_password_refuses_others(mosquitto: Callable[..., Mosquitto]) -> None:
    server = mosquitto(password=("gateway", "secret"))
    address = {"hostname": "127.0.0.1", "port": server.port}
    publish.single("t", b"", qos=1, auth={"username": "gateway", "password": "secret"}, **address)
    with pytest.raises(Exception, match="(?i)not authorized"):
        publish.single("t", b"", qos=1, auth={"username": "gateway", "password": "wrong"}, **address)


def test_a_server_that_dies_is_reported_with_the_end_of_its_log(mosquitto: Callable[..., Mosquitto]) -> None:
    with pytest.raises(ServerError) as caught:
        mosquitto(settings={"nonsense": "1"})
    assert "mosquitto" in str(caught.value)
    assert "ended with status" in str(caught.value)
    assert "Unknown configuration variable" in str(caught.value)


def test_a_server_that_never_answers_is_reported_and_ended(home: Path) -> None:
    process = Process("mute", ["sh", "-c", "echo waiting; exec sleep 600"], home / "log", home / "run/mute.json", home)
    process.spawn()
    identity = process.identity
    with pytest.raises(ServerError, match=r"(?s)mute was not ready within 1 s.*waiting"):
        process.wait_until(lambda: False, seconds=1)
    assert identity is not None
    assert not identity.alive()
    assert recorded(home / "run") == []


def test_a_taken_port_is_named(mosquitto: Callable[..., Mosquitto], home: Path) -> None:
    server = Mosquitto(home / "m")
    server.port = mosquitto().port
    with pytest.raises(ServerError, match=f"port {server.port} .* taken"):
        server.start()


# --- ending only one's own ---


def test_down_ends_what_was_recorded_and_spares_a_stranger_with_a_reused_pid(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "RUN", home / "run")
    monkeypatch.setattr(stack, "OWNED", home / "run/owned")
    monkeypatch.setattr(stack, "STATE", home / "stack.json")
    ours, strangers = (
        Process(name, ["sleep", "600"], home / "log", home / f"run/{name}.json", home) for name in ("ours", "strangers")
    )
    ours.spawn()
    strangers.spawn()
    try:
        record = json.loads(strangers.record.read_text())
        strangers.record.write_text(json.dumps({**record, "started": record["started"] - 1}))
        assert stack.down() == ["ours"]
        assert not ours.alive()
        assert strangers.alive()
        assert recorded(home / "run") == []
    finally:
        ours.stop()
        strangers.stop()


def test_servers_of_a_killed_test_run_are_ended_by_the_next_one(home: Path) -> None:
    dead = subprocess.Popen(["true"])
    owner = Identity(dead.pid, 1)
    dead.wait()
    orphan, kept = (
        Process(name, ["sleep", "600"], home / "log", home / f"run/{name}.json", home, owner=whose)
        for name, whose in (("orphan", owner), ("kept", Identity.of(os.getpid())))
    )
    orphan.spawn()
    kept.spawn()
    try:
        stack.sweep(home / "run")
        assert (orphan.alive(), kept.alive()) == (False, True)
    finally:
        orphan.stop()
        kept.stop()


# --- fetching ---


def test_a_part_is_whole_or_absent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "store", lambda: home)
    made = []

    def interrupted(folder: Path, _: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    def whole(folder: Path, final: Path) -> None:
        (folder / "file").touch()
        made.append(final)

    with pytest.raises(KeyboardInterrupt):
        fetch.part("thing", b"1", interrupted)
    assert list((home / "parts").iterdir()) == []
    (home / "parts/thing-x.part").mkdir()  # as SIGKILL leaves it
    first = fetch.part("thing", b"1", whole)
    assert [path.name for path in (home / "parts").iterdir()] == [first.name]
    assert fetch.part("thing", b"1", whole) == first
    assert fetch.part("thing", b"2", whole) != first
    assert len(made) == 2


def test_an_interrupted_fetch_leaves_nothing(home: Path) -> None:
    process = local(home, "up")
    until(lambda: len(list(home.glob("parts/*.part/*"))) > 1, process)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 1
    assert "interrupted" in err
    assert "Traceback" not in err
    assert list((home / "parts").iterdir()) == []
    assert processes_in(home) == []


def test_a_missing_prerequisite_gets_one_sentence_with_the_cure(home: Path) -> None:
    code, out, err = finish(local(home, "up", PATH=str(home), JAVA_HOME=str(home)))
    assert code == 1
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "install" in err
    assert "docker compose up" in err


def test_without_debian_and_java_the_sentence_names_java_and_maven(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(
        fetch.MissingPrerequisiteError, match=r"Java 17 or newer and Maven not found.*docker compose up"
    ):
        fetch._java(fetch.Commands(), print)


def test_java_accepts_the_trust_store_made_for_it(home: Path) -> None:
    debian.write_trust_store(home / "cacerts")
    keytool = fetch.install().java.resolve().parent / "keytool"
    argv = [keytool, "-list", "-keystore", home / "cacerts", "-storepass", "changeit", "-J-Duser.language=en"]
    listing = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "tampered" not in listing.stdout
    assert "trustedCertEntry" in listing.stdout


# --- the whole stack ---


ROLES = {
    "hanse-processor": "hanse_ingest", "hanse-storage maintain": "hanse_migrator", "hanse-status": "hanse_metrics"
}  # fmt: skip


def roles_in_use(owner: str) -> dict[str, str]:
    """By process, the role that its database sessions have."""
    with psycopg.connect(owner) as connection:
        found = connection.execute(
            "select distinct application_name, usename from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        ).fetchall()
    return dict(found)


def test_up_starts_the_whole_path_says_where_and_down_ends_it(fetched: Path) -> None:
    code, out, err = finish(local(fetched, "up"))
    assert (code, err) == (0, "")
    exported = dict(shlex.split(line)[0].split("=", 1) for line in (fetched / "env").read_text().splitlines() if line)
    with psycopg.connect(exported["HANSE_READER_DSN"]) as connection:
        assert connection.execute("select count(*) from hanse.observations").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select count(*) from store.observation")
    # The status page connects after it is there.
    while (roles := roles_in_use(exported["HANSE_DATABASE_DSN"])).keys() < ROLES.keys():
        time.sleep(0.05)
    assert roles == ROLES
    cities = sorted(Path(exported["HANSE_CITIES_DIR"]).glob("*.toml"))
    assert [path.name for path in cities] == [path.name for path in sorted((CHECKOUT / "deploy/cities").glob("*.toml"))]
    for path in cities:
        port = tomllib.loads(path.read_text())["mqtt"]["port"]
        publish.single("nobody/listens", b"", qos=1, hostname="127.0.0.1", port=port)
        assert f"127.0.0.1:{port}" in out
        assert f"HANSE_METRICS_GATEWAY_{path.stem.upper()}" in exported
    before = {one.name: one.identity for one in recorded(fetched / "run")}
    code, again, _ = finish(local(fetched, "up"))
    assert (code, "It runs already." in again) == (0, True)
    assert {one.name: one.identity for one in recorded(fetched / "run")} == before
    code, ended, _ = finish(local(fetched, "down"))
    assert code == 0
    assert all(name in ended for name in before)
    assert processes_in(fetched) == []


def test_a_failed_start_names_the_culprit_and_leaves_nothing_running(fetched: Path) -> None:
    code, _, err = finish(local(fetched, "up", HANSE_KAFKA_PARTITIONS="none"))
    assert code == 1
    assert "HANSE_KAFKA_PARTITIONS" in err
    assert "Traceback" not in err
    assert recorded(fetched / "run") == []
    assert processes_in(fetched) == []
    assert not (fetched / "env").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing_running(fetched: Path, number: signal.Signals) -> None:
    process = local(fetched, "up")
    until((fetched / "run/kafka.json").exists, process)
    process.send_signal(number)
    code, _, err = finish(process)
    assert code == 1
    assert "Traceback" not in err
    assert processes_in(fetched) == []
