"""One pure module per dialect, and the explicit table of them; nothing registers itself by being imported.

A dialect takes from topic and payload what they say and never raises on any bytes. What a key means is the mapping's
business wherever the dialect does not fix it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from processors.dialects import (
    chirpstack,
    ecowitt,
    generic,
    hanse,
    homie,
    iot_agent_json,
    pegelonline,
    senml,
    sensor_community,
    sensorthings,
    shelly,
    sparkplug,
    tasmota,
    ttn,
    ultralight,
    vzlogger,
    zigbee2mqtt,
)
from processors.dialects.memory import Stateful
from processors.dialects.options import Option
from processors.standard.observation import Decoded, Message

Decode = Callable[[Message], Decoded]
Dialect = Decode | Stateful

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        "chirpstack": chirpstack.decode,
        "ecowitt": ecowitt.decode,
        "generic": generic.decode,
        "hanse": hanse.decode,
        "homie": Stateful(homie.source, homie.decode),
        "iot_agent_json": iot_agent_json.decode,
        "pegelonline": pegelonline.decode,
        "senml": senml.decode,
        "sensor_community": sensor_community.decode,
        "sensorthings": Stateful(sensorthings.source, sensorthings.decode),
        "shelly": shelly.decode,
        "sparkplug": Stateful(sparkplug.source, sparkplug.decode),
        "tasmota": tasmota.decode,
        "ttn": ttn.decode,
        "ultralight": ultralight.decode,
        "vzlogger": Stateful(vzlogger.source, vzlogger.decode),
        "zigbee2mqtt": Stateful(zigbee2mqtt.source, zigbee2mqtt.decode),
    }
)

# What a dialect's routes may say besides; the others take no options.
OPTIONS: Mapping[str, Mapping[str, Option]] = MappingProxyType(
    {"generic": generic.OPTIONS, "vzlogger": vzlogger.OPTIONS}
)
