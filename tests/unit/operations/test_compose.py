"""docker-compose.yml holds together: what it names exists, what it starts is shut in, and nothing in it is a secret."""

import itertools
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from containers import setup
from paho.mqtt.client import topic_matches_sub

from ingest.city import load
from ingest.settings import Settings as Gateway
from processors.settings import Settings as Processor
from simulator.cities import load as load_places
from simulator.networks import messages
from status.settings import Settings as Status
from storage.settings import Maintain, Settings
from tests.unit.simulator.streams import Ticking

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
PROMETHEUS = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
CITIES = sorted(path.stem for path in (ROOT / "deploy/cities").glob("*.toml"))
ONCE = {"setup", "init", "migrate", "topics"}
SETTINGS = {
    "hanse-gateway": Gateway,
    "hanse-processor": Processor,
    "hanse-status": Status,
    "hanse-storage init": Settings,
    "hanse-storage migrate": Settings,
    "hanse-storage maintain": Maintain,
}

every_service = pytest.mark.parametrize("name", SERVICES)


def environment(name):
    return SERVICES[name].get("environment", {})


def command(name):
    return " ".join(SERVICES[name].get("command", []))


@every_service
def test_an_image_is_pinned_to_a_version_and_can_be_replaced(name):
    assert re.fullmatch(r"\$\{HANSE_IMAGE\w*:-[a-z./-]+:v?\d+\.\d+\.\d+[\w.-]*}", SERVICES[name]["image"])


def test_the_base_image_is_the_same_in_the_dockerfile():
    assert SERVICES["setup"]["build"]["args"]["BASE"].endswith(
        re.search("^ARG BASE=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1] + "}"
    )


def test_make_image_builds_on_the_base_that_the_variable_names(monkeypatch):
    monkeypatch.setenv("HANSE_IMAGE_PYTHON", "python:of-the-site")
    said = subprocess.run(["make", "-n", "image"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--build-arg BASE=python:of-the-site" in said


@every_service
def test_a_service_is_asked_whether_it_is_well_unless_it_runs_once(name):
    assert SERVICES[name]["healthcheck"].get("disable", False) == (name in ONCE)
    assert name in ONCE or SERVICES[name]["healthcheck"]["test"]


@every_service
def test_a_service_is_shut_in(name):
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["restart"] == ("on-failure:5" if name in ONCE else "unless-stopped")
    assert service["logging"]["options"]["max-size"]
    assert not service.get("privileged")
    if name == "setup":  # the one that gives files away: without a network, and before everything else
        assert service["network_mode"] == "none"
        return
    assert "cap_add" not in service
    # `topics` runs as the image's own user.
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service.get("user", "10001:10001"))


@every_service
def test_ports_are_open_to_this_machine_alone(name):
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


@every_service
def test_secrets_are_written_by_setup_alone(name):
    mounted = [volume for volume in SERVICES[name].get("volumes", ()) if volume.startswith("secrets:")]
    assert all(volume.endswith(":ro") for volume in mounted) or name == "setup"


@every_service
def test_no_secret_is_in_the_environment(name):
    for variable, value in environment(name).items():
        if "PASSWORD" in variable:
            assert variable.endswith("_FILE")
            assert value.startswith("/run/hanse/")
        assert "password=" not in str(value)


@every_service
def test_what_is_mounted_exists(name):
    for volume in SERVICES[name].get("volumes", ()):
        source = volume.partition(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


@every_service
def test_a_service_waits_for_services_that_exist_in_the_way_they_end(name):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
        assert how["condition"] == wanted


@every_service
def test_settings_of_our_processes_are_ones_they_know(name):
    ours = next((model for start, model in SETTINGS.items() if start in command(name)), None)
    told = {variable for variable in environment(name) if variable.startswith("HANSE_")}
    if ours is None:  # Grafana's stand in its provisioning
        provisioning = (ROOT / "deploy/grafana/provisioning/datasources/hanse.yml").read_text()
        assert all(variable in provisioning for variable in told)
    else:
        assert {variable.removeprefix("HANSE_").lower() for variable in told} <= set(ours.model_fields)


@pytest.mark.parametrize("city", CITIES)
def test_a_city_has_a_broker_a_gateway_a_role_and_a_place_on_the_status_page(city):
    assert SERVICES[f"mosquitto-{city}"]["working_dir"] == f"/run/hanse/mosquitto/{city}"
    assert f"mosquitto-{city}:/mosquitto/data" in SERVICES[f"mosquitto-{city}"]["volumes"]
    assert SERVICES[f"gateway-{city}"]["command"][-1] == f"/run/hanse/gateway/{city}.toml"
    assert f"--city {city}" in command("init")
    assert f"gateway-{city}:9101" in environment("status")["HANSE_STATUS_PROCESSES"]
    assert f"gateway-{city}" in SERVICES["simulator"]["depends_on"]


def test_no_city_is_served_that_has_no_file():
    found = {name.partition("-")[2] for name in SERVICES if name.startswith(("mosquitto-", "gateway-"))}
    assert found == set(CITIES)


def targets():
    jobs = PROMETHEUS["scrape_configs"]
    for job in jobs:
        for group in job.get("static_configs", ()):
            yield from group["targets"]
        for found in job.get("dns_sd_configs", ()):
            yield from (f"{host}:{found['port']}" for host in found["names"])
    for one in PROMETHEUS["alerting"]["alertmanagers"]:
        yield from one["static_configs"][0]["targets"]


@pytest.mark.parametrize("target", list(targets()))
def test_what_prometheus_asks_is_there(target):
    host, _, port = target.partition(":")
    assert "watch" in SERVICES[host]["networks"]
    serves = environment(host).get("HANSE_HTTP_ADDRESS", "")
    assert serves.endswith(f":{port}") or host == "alertmanager"


def test_prometheus_asks_every_process_that_serves_metrics():
    asked = {target.partition(":")[0] for target in targets()} - {"alertmanager"}
    assert asked == {name for name in SERVICES if "HANSE_HTTP_ADDRESS" in environment(name)}


def test_kafka_and_the_database_are_reached_from_their_own_networks_alone():
    for service, network in (("kafka", "bus"), ("database", "data")):
        assert SERVICES[service]["networks"] == [network]
        assert COMPOSE["networks"][network]["internal"]


@pytest.fixture
def secrets(tmp_path):
    return tmp_path / "secrets"


def files(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_second_start_keeps_every_secret(secrets):
    setup.make(ROOT / "deploy/cities", secrets)
    first = files(secrets)
    setup.make(ROOT / "deploy/cities", secrets)
    assert files(secrets) == first
    passwords = [text for name, text in first.items() if name.endswith(("password", "health"))]
    assert len(passwords) > 2 * len(CITIES)
    assert len(set(passwords)) == len(passwords)


def test_a_new_city_gets_its_secrets_and_the_others_keep_theirs(secrets, tmp_path):
    shared = tmp_path / "cities"
    shared.mkdir()
    text = (ROOT / "deploy/cities/wismar.toml").read_text()
    (shared / "wismar.toml").write_text(text)
    setup.make(shared, secrets)
    first = files(secrets)
    (shared / "greifswald.toml").write_text(text.replace('key = "wismar"', 'key = "greifswald"'))
    setup.make(shared, secrets)
    assert files(secrets).items() >= first.items()
    assert (secrets / "mosquitto/greifswald/passwords").exists()
    assert (secrets / "storage/hanse_reader_greifswald.pgpass").exists()


@pytest.mark.parametrize("city", CITIES)
def test_sensors_may_write_all_that_is_routed_and_the_gateway_may_read_it(city):
    known = load(ROOT / f"deploy/cities/{city}.toml")
    sections = re.split("^user ", setup.rights(known), flags=re.MULTILINE)
    for user, verb in ((f"sensors-{city}", "write"), (f"gateway-{city}", "read")):
        section = next(part for part in sections if part.startswith(f"{user}\n"))
        for one in (*known.subscriptions, *(route.filter for route in known.route)):
            assert f"topic {verb} {one}\n" in section


@pytest.mark.parametrize("place", load_places(ROOT / "deploy/cities"), ids=lambda place: place.site.key)
def test_the_broker_drops_nothing_that_simulated_sensors_of_every_dialect_publish(place):
    text = setup.rights(load(ROOT / f"deploy/cities/{place.site.key}.toml"))
    sensors, gateway = re.split("^user gateway", text, flags=re.MULTILINE)
    written, read = re.findall("topic write (.+)", sensors), re.findall("topic read (.+)", gateway)
    spoken = set()
    for publication in itertools.islice(messages(place.site, seed=1, clock=Ticking()), 5_000):
        assert any(topic_matches_sub(one, publication.topic) for one in written)
        assert any(topic_matches_sub(one, publication.topic) for one in read)
        spoken.add(publication.expected.kind)
    assert spoken >= set(place.site.dialects)


@pytest.mark.parametrize("kind", ["gateway", "simulator"])
def test_a_client_of_the_broker_has_a_city_file_of_its_own(secrets, kind):
    setup.make(ROOT / "deploy/cities", secrets)
    mqtt = tomllib.loads((secrets / kind / "rostock.toml").read_text())["mqtt"]
    assert mqtt["host"] == "mosquitto-rostock"
    password = (secrets / kind / mqtt["password_file"]).read_text()
    accounts = (secrets / "mosquitto/rostock/passwords").read_text()
    assert setup.account(mqtt["username"], password) in accounts
    assert password not in accounts
