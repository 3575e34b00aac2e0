"""Where each network publishes unless somebody changed it: the routes of `explain` where no city file takes a topic.

A dialect module says its own (`FILTERS`, and `KEY_LEVELS` if it remembers its sources); here are their order, what a
module leaves open, and the topics beside them that hold no readings. A city file names its own routes: these are no
part of the pipeline.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import NamedTuple

from ingest.city import City, Route
from processors.dialects import DIALECTS, Dialect
from processors.dialects.memory import Stateful
from processors.dialects.tasmota import PLACES
from processors.routes import IGNORE


class Usual(NamedTuple):
    """What a dialect's module need not say: more filters, and topics beside them without readings."""

    filters: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    key_levels: tuple[int, ...] = ()


# In this order, the catch-all last.
ORDER: Mapping[str, Usual] = {
    "hanse": Usual(("hanse/#",)),
    "ttn": Usual(
        ("v3/+/devices/+/up", "v3/+/devices/+/up/normalized"),
        (
            "v3/+/devices/+/join",
            "v3/+/devices/+/down/#",
            "v3/+/devices/+/service/#",
            "v3/+/devices/+/location/#",
        ),
    ),
    "chirpstack": Usual(("application/+/device/+/event/+",), ("gateway/#", "+/gateway/+/event/#")),
    "sparkplug": Usual(("spBv1.0/#",), key_levels=(1, 3)),
    "pegelonline": Usual(("edis/pegelonline/#",)),
    "sensorthings": Usual(("v1.1/#", "v1.0/#"), key_levels=(0,)),
    "tasmota": Usual(
        ("tele/SENSOR",),
        (
            *(f"{place.format('tele')}/{kind}" for place in PLACES for kind in ("LWT", "INFO1", "INFO2", "INFO3")),
            *(f"{place.format('stat')}/RESULT" for place in PLACES),
            "cmnd/#",
            "tasmota/discovery/#",
        ),
    ),
    "zigbee2mqtt": Usual(("zigbee2mqtt/#",), key_levels=(0,)),
    "homie": Usual(("homie/#",), key_levels=(0, 1)),
    "vzlogger": Usual(("vzlogger/#",), key_levels=(0, 1)),
    "iot_agent_json": Usual(("/json/+/+/attrs", "/json/+/+/attrs/+", "/json/+/+/cmdexe")),
    "ultralight": Usual(("/ul/+/+/attrs", "/ul/+/+/attrs/+", "/ul/+/+/cmdexe", "/+/+/attrs", "/+/+/attrs/+")),
    "shelly": Usual(("+/events/rpc", "+/status/#", "+/online", "+/+/events/rpc", "+/+/+/events/rpc")),
    "sensor_community": Usual(("sensor.community/#", "sensor_community/#", "luftdaten/#", "airrohr/#")),
    "ecowitt": Usual(("ecowitt/#", "ecowitt2mqtt/#", "weewx/#", "weather/#")),
    "senml": Usual(("senml/#", "+/senml", "+/senml/#")),
    "generic": Usual(("#",)),
}


def default_routes(dialects: Mapping[str, Dialect] = DIALECTS) -> tuple[Route, ...]:
    """Routes of the dialects that there are, the first match wins. `$SYS` and its like are ignored."""
    found = [Route(filter="$SYS/#", dialect=IGNORE)]
    for name, usual in ORDER.items():
        if name in dialects:
            found += _of(name, usual, remembers=isinstance(dialects[name], Stateful))
    return tuple(found)


def with_defaults(city: City, dialects: Mapping[str, Dialect] = DIALECTS) -> City:
    """The city, with the default routes after its own."""
    return city.model_copy(update={"route": (*city.route, *default_routes(dialects))})


def _of(name: str, usual: Usual, *, remembers: bool) -> Iterator[Route]:
    module = import_module(f"processors.dialects.{name}")
    levels = tuple(getattr(module, "KEY_LEVELS", usual.key_levels or (0,))) if remembers else ()
    for ignored in usual.ignored:
        yield Route(filter=ignored, dialect=IGNORE)
    for topic_filter in dict.fromkeys((*getattr(module, "FILTERS", ()), *usual.filters)):
        yield Route(filter=topic_filter, dialect=name, key_levels=levels or None)
