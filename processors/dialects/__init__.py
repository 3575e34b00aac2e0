"""One pure module per dialect, and the explicit table of them; nothing registers itself by being imported.

A dialect takes from topic and payload what they say and never raises on any bytes. What a key means is the mapping's
business wherever the dialect does not fix it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from processors.dialects import generic, hanse, homie, sensorthings, shelly, sparkplug, ttn, vzlogger, zigbee2mqtt
from processors.dialects.memory import Stateful
from processors.standard.observation import Decoded, Message

Decode = Callable[[Message], Decoded]
Dialect = Decode | Stateful

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        "generic": generic.decode,
        "hanse": hanse.decode,
        "homie": Stateful(homie.source, homie.decode),
        "sensorthings": Stateful(sensorthings.source, sensorthings.decode),
        "shelly": shelly.decode,
        "sparkplug": Stateful(sparkplug.source, sparkplug.decode),
        "ttn": ttn.decode,
        "vzlogger": Stateful(vzlogger.source, vzlogger.decode),
        "zigbee2mqtt": Stateful(zigbee2mqtt.source, zigbee2mqtt.decode),
    }
)
