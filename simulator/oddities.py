"""Unusual messages that are good or known to be none: what must be stored with a flag, or ignored and counted."""

from collections.abc import Callable
from typing import Any

from simulator.devices import application, encode, stamp
from simulator.expectation import Expectation, Good, Publication
from simulator.faults import Scene

Oddity = Callable[[Scene], Publication]


def _reading(
    scene: Scene, network: str, device: str, good: Good, *, retain: bool = False, **fields: Any
) -> Publication:
    body: dict[str, Any] = {"v": 1, "device": device}
    if good.time is not None:
        body["time"] = stamp(good.time)
    body["readings"] = [{"property": good.property} | fields]
    topic = f"hanse/{scene.city}/{network}/{device}"
    return Publication(topic, encode(body), retain, Expectation("", (good,)))


def _without_clock(scene: Scene, device: str, *, retain: bool) -> Publication:
    """A tipping bucket that only counts: its readings are told apart by their values, so those never repeat."""
    total = round(0.2 * scene.serial, 1)
    good = Good(device, "", "precipitation_total", None, total)
    return _reading(scene, "weather", device, good, retain=retain, value=total, unit="mm")


def _clockless(scene: Scene) -> Publication:
    return _without_clock(scene, "rain-clockless", retain=False)


def _retained_untimed(scene: Scene) -> Publication:
    """Live it is a reading like any other; the copy that the broker keeps is none."""
    return _without_clock(scene, "rain-retained", retain=True)


def _retained_timed(scene: Scene) -> Publication:
    good = Good("buoy-retained", "", "water_temperature", scene.time, 7.25)
    return _reading(scene, "water", "buoy-retained", good, retain=True, value=7.25, unit="Cel")


def _implausible(scene: Scene) -> Publication:
    """Outside the gross range, and still data: flag 4."""
    good = Good("weather-hot", "", "air_temperature", scene.time, 61.5, quality=4)
    return _reading(scene, "weather", "weather-hot", good, value=61.5, unit="Cel")


def _missing(scene: Scene) -> Publication:
    good = Good("weather-hot", "", "air_temperature", scene.time, None, quality=9)
    return _reading(scene, "weather", "weather-hot", good, value=None, unit="Cel", quality=9)


def _suspect(scene: Scene) -> Publication:
    good = Good("weather-hot", "", "air_temperature", scene.time, 21.5, quality=3)
    return _reading(scene, "weather", "weather-hot", good, value=21.5, unit="Cel", quality=3)


def _status(scene: Scene) -> Publication:
    payload = encode({"online": True, "since": stamp(scene.time)})
    return Publication(f"hanse/{scene.city}/status", payload, retain=False, expected=Expectation("", ignored=1))


def _join(scene: Scene) -> Publication:
    payload = encode({"end_device_ids": {"device_id": "lora-01"}, "received_at": stamp(scene.time), "join_accept": {}})
    topic = f"v3/{application(scene.city)}/devices/lora-01/join"
    return Publication(topic, payload, retain=False, expected=Expectation("", ignored=1))


def _simulated(scene: Scene) -> Publication:
    """An uplink that someone tried out in the stack's console."""
    body = {
        "end_device_ids": {"device_id": "lora-01"},
        "received_at": stamp(scene.time),
        "uplink_message": {"f_port": 2, "normalized_payload": [{"air": {"temperature": 99.0}}]},
        "simulated": True,
    }
    topic = f"v3/{application(scene.city)}/devices/lora-01/up"
    return Publication(topic, encode(body), retain=False, expected=Expectation("", ignored=1))


ODDITIES: dict[str, Oddity] = {
    "clockless": _clockless,
    "retained_timed": _retained_timed,
    "retained_untimed": _retained_untimed,
    "implausible": _implausible,
    "missing": _missing,
    "suspect": _suspect,
    "ignored_status": _status,
    "ignored_join": _join,
    "ignored_simulated": _simulated,
}
