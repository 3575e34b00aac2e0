"""The city files as the simulator needs them: where the broker is and which gauges stand there. Read on its own."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.dialects import DIALECTS
from simulator.networks import Site

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # what a federal gauge is called
AT_SEA = 0.5  # m: mean water nearer to sea level than this is the Baltic's


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


def _gauges(document: Mapping[str, Any]) -> dict[str, Any]:
    """The site's gauges, stations and which of them stand at sea, as far as the file names any."""
    found: dict[str, list[Any]] = {"gauges": [], "stations": [], "sea": []}
    for device in document.get("device", ()):
        name, parameters = str(device["match"]), device.get("parameters", {})
        if "mean_water_level" not in parameters or set(name) & set("*?["):
            continue
        mean = float(parameters["mean_water_level"])
        found["stations" if UUID.fullmatch(name) else "gauges"].append((name, mean))
        if abs(float(parameters.get("gauge_zero", 0)) + mean) < AT_SEA:
            found["sea"].append(name)
    return found if found["gauges"] else {}


def _dialects(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the city's networks speak: the dialects that it routes, in the simulator's order."""
    routed = {route.get("dialect") for route in document.get("route", ())}
    return {"dialects": tuple(name for name in DIALECTS if name in routed)} if routed else {}


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
                max_payload_bytes=int(document.get("limits", {}).get("max_payload_bytes", 262_144)),
                share=number,
                shares=len(paths),
                **_gauges(document),
                **_dialects(document),
            )
            places.append(Place(site, _broker(path, document.get("mqtt", {}))))
        except OSError as error:
            raise CityFileError(f"{path}: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise CityFileError(f"{path}: not TOML: {error}") from error
        except KeyError as error:
            raise CityFileError(f"{path}: {error.args[0]} is required") from error
    return places
