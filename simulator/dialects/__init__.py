"""The sensor networks that speak a dialect of their own, each in the form that the real one sends.

A city has those whose dialects its file routes. `hanse` and `ttn` are in `simulator.devices`: every city has them.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from simulator.dialects import (
    chirpstack,
    generic,
    homie,
    pegelonline,
    senml,
    sensorthings,
    sparkplug,
    tasmota,
    vzlogger,
    zigbee2mqtt,
)
from simulator.dialects.network import Network, Setting

DIALECTS: Mapping[str, Callable[[Setting], Network]] = MappingProxyType(
    {
        "chirpstack": chirpstack.network,
        "generic": generic.network,
        "homie": homie.network,
        "pegelonline": pegelonline.network,
        "senml": senml.network,
        "sensorthings": sensorthings.network,
        "sparkplug": sparkplug.network,
        "tasmota": tasmota.network,
        "vzlogger": vzlogger.network,
        "zigbee2mqtt": zigbee2mqtt.network,
    }
)
