"""The city files as the simulator needs them: where the broker is and which gauges stand there. Read on its own."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.networks import Site

MEAN_WATER_LEVEL = 5.0  # m above gauge zero, where the file names none


class CityFileError(ValueError):
    """A city file the simulator can't use: file, place, cure, in one line."""


@dataclass(frozen=True, slots=True)
class Broker:
    """How a city's sensors reach their broker."""

    host: str
    port: int
    tls: bool
    ca_file: Path | None
    username: str | None
    password: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """One city file."""

    site: Site
    broker: Broker


def _gauges(document: Mapping[str, Any]) -> Sequence[tuple[str, float]]:
    found = []
    for device in document.get("device", ()):
        parameters = device.get("parameters", {})
        if "mean_water_level" in parameters and not set(device["match"]) & set("*?["):
            found.append((str(device["match"]), float(parameters["mean_water_level"])))
    return found or Site("").gauges


def _broker(path: Path, mqtt: Mapping[str, Any]) -> Broker:
    password = None
    if named := mqtt.get("password_file"):
        try:
            password = (path.parent / named).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise CityFileError(f"{path}: mqtt.password_file = '{named}': {error.strerror}") from error
    ca_file = path.parent / mqtt["ca_file"] if mqtt.get("ca_file") else None
    return Broker(
        host=str(mqtt.get("host", "127.0.0.1")),
        port=int(mqtt.get("port", 1883)),
        tls=bool(mqtt.get("tls", ca_file is not None)),
        ca_file=ca_file,
        username=mqtt.get("username"),
        password=password,
    )


def load(directory: Path) -> list[Place]:
    """All city files of a directory, by key. Raises CityFileError."""
    paths = sorted(directory.glob("*.toml"))
    if not paths:
        raise CityFileError(f"{directory}: no city file (*.toml); name the directory that holds them")
    places = []
    for number, path in enumerate(paths):
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
            site = Site(
                key=str(document["city"]["key"]),
                gauges=_gauges(document),
                max_payload_bytes=int(document.get("limits", {}).get("max_payload_bytes", 262_144)),
                share=number,
                shares=len(paths),
            )
            places.append(Place(site, _broker(path, document.get("mqtt", {}))))
        except OSError as error:
            raise CityFileError(f"{path}: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise CityFileError(f"{path}: not TOML: {error}") from error
        except KeyError as error:
            raise CityFileError(f"{path}: {error.args[0]} is required") from error
    return places
