"""Docker Compose itself reads docker-compose.yml, without an engine: its schema, merges, variables and profiles."""

import json
import os
import subprocess
from pathlib import Path

import yaml
from local import fetch

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]


def config(*arguments: str, **environment: str) -> str:
    """What `docker compose config` answers; nothing of this machine's own settings reaches it."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HANSE_", "COMPOSE_", "DOCKER_"))}
    made = subprocess.run(
        [fetch.compose(), "--project-directory", ROOT, *arguments],
        env={**clean, **environment}, capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "level=warning" not in made.stderr
    return made.stdout


def test_compose_takes_the_file_and_starts_the_simulator_in_its_profile_alone():
    ordinary = set(config("config", "--services").split())
    with_demo = set(config("--profile", "demo", "config", "--services").split())
    assert with_demo == set(SERVICES)
    assert with_demo - ordinary == {"simulator"}


def test_gateways_topics_and_maintenance_keep_to_one_promise_and_a_city_to_one_number_of_partitions():
    told = json.loads(config("config", "--format", "json", HANSE_KAFKA_RETENTION="P3D", HANSE_KAFKA_PARTITIONS="4"))
    environments = {name: one.get("environment") or {} for name, one in told["services"].items()}
    gateways = {name for name in SERVICES if name.startswith("gateway-")}
    kept = {name for name, told in environments.items() if told.get("HANSE_KAFKA_RETENTION") == "P3D"}
    parted = {name for name, told in environments.items() if told.get("HANSE_KAFKA_PARTITIONS") == "4"}
    assert kept == gateways | {"topics", "maintain"}
    assert parted == gateways | {"topics", "processors"}
