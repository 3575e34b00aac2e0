"""The devices of a city's networks and the messages they make: what is measured, in which unit, in which format.

A reading starts as a canonical value from a curve, is rounded in the device's own unit, and the published number turned
back into the canonical unit is the truth the pipeline must arrive at. The factors here are the simulator's own.
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

from simulator.curves import City, counted
from simulator.expectation import Good

Curve = Callable[[float, Random], float]


class Unit(NamedTuple):
    """A spelling on the wire; canonical = number * factor + offset, published with `decimals` places."""

    spelling: str
    factor: float = 1.0
    offset: float = 0.0
    decimals: int = 1


class Quantity(NamedTuple):
    """One thing a device measures. `path` is its place in a LoRaWAN payload, "" in a native one."""

    property: str
    unit: Unit
    curve: Curve
    channel: str = ""
    path: str = ""

    def measure(self, t: float, random: Random) -> tuple[float, float]:
        """The number on the wire and the canonical value it stands for."""
        unit = self.unit
        number = round((self.curve(t, random) - unit.offset) / unit.factor, unit.decimals) + 0.0  # no minus zero
        if self.property == "wind_direction":
            number %= 360
        return number, number * unit.factor + unit.offset


@dataclass(frozen=True, slots=True)
class Device:
    """One sensor. `tick`: microseconds its clock can tell apart. `variant`: where a LoRaWAN message has its time."""

    name: str
    network: str
    quantities: tuple[Quantity, ...]
    tick: int = 1
    variant: int = 0


class Draft(NamedTuple):
    """A message before it is bytes, so that copies and faults can be made of it."""

    topic: str
    body: dict[str, Any]
    good: list[Good]

    @property
    def payload(self) -> bytes:
        """JSON as a device would write it."""
        return encode(self.body)


def encode(body: object) -> bytes:
    """Compact JSON."""
    return json.dumps(body, separators=(",", ":")).encode()


def stamp(time: int, digits: str = "") -> str:
    """Microseconds since the epoch as RFC 3339 in UTC; `digits` are appended to the fraction."""
    seconds, fraction = divmod(time, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:06d}{digits}Z"


def native(city: str, device: Device, time: int, random: Random) -> Draft:
    """A message of the alliance's own format, one reading per quantity."""
    readings: list[dict[str, Any]] = []
    good: list[Good] = []
    for quantity in device.quantities:
        number, value = quantity.measure(time / 1e6, random)
        reading: dict[str, Any] = {"property": quantity.property, "value": number, "unit": quantity.unit.spelling}
        if quantity.channel:
            reading["channel"] = quantity.channel
        readings.append(reading)
        good.append(Good(device.name, quantity.channel, quantity.property, time, value))
    body = {"v": 1, "device": device.name, "time": stamp(time), "readings": readings}
    return Draft(f"hanse/{city}/{device.network}/{device.name}", body, good)


def application(city: str) -> str:
    """The city's LoRaWAN application, with its tenant."""
    return f"smarte-hanse-{city}@ttn"


def lorawan(city: str, device: Device, time: int, random: Random) -> Draft:
    """An uplink of The Things Stack with a normalized payload. Its time has nanoseconds and one of three places."""
    measured: dict[str, Any] = {}
    good: list[Good] = []
    for quantity in device.quantities:
        number, value = quantity.measure(time / 1e6, random)
        *groups, leaf = quantity.path.split(".")
        place = measured
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = number
        good.append(Good(device.name, "", quantity.property, time, value))
    later = time + random.randrange(40_000, 250_000)
    nano = f"{random.randrange(1000):03d}"
    first, second, arrived = (stamp(t, nano) for t in (time, time + random.randrange(1, 9_000), later))
    gateways: list[dict[str, Any]] = [
        {
            "gateway_ids": {"gateway_id": f"{city}-{n}"},
            "timestamp": random.randrange(1 << 32),
            "rssi": -71 - n,
            "snr": 7.5,
        }
        for n in (1, 2)
    ]
    match device.variant:
        case 0:
            measured["time"] = first
        case 1:  # the earliest gateway's time counts, not the first in the list
            gateways[0]["time"], gateways[1]["time"] = second, first
        case _:
            arrived = first
    name, tenant = application(city).split("@")
    body = {
        "end_device_ids": {
            "device_id": device.name,
            "dev_eui": f"70B3D57ED0{random.randrange(1 << 24):06X}",
            "application_ids": {"application_id": name},
        },
        "received_at": arrived,
        "uplink_message": {
            "f_port": 2,
            "f_cnt": time // 1_000_000 % 65_536,
            "frm_payload": base64.b64encode(random.randbytes(11)).decode(),
            "normalized_payload": [measured],
            "rx_metadata": gateways,
            "settings": {"data_rate": {"lora": {"bandwidth": 125000, "spreading_factor": 7}}, "frequency": "868300000"},
            "received_at": arrived,
        },
    }
    return Draft(f"v3/{name}@{tenant}/devices/{device.name}/up", body, good)


def draft(city: str, device: Device, time: int, random: Random) -> Draft:
    """A message in the format of the device's network."""
    return (lorawan if device.network == "lorawan" else native)(city, device, time, random)


def _noisy(curve: Callable[[float], float], sigma: float, low: float = -1e9, high: float = 1e9) -> Curve:
    return lambda t, random: min(high, max(low, curve(t) + random.gauss(0, sigma)))


CELSIUS = (
    Unit("Cel", decimals=2),
    Unit("°C", decimals=1),
    Unit("[degF]", 5 / 9, -160 / 9),
    Unit("K", 1.0, -273.15, 2),
)
PRESSURE = (Unit("hPa"), Unit("Pa", 0.01, decimals=0), Unit("hPa", decimals=2))
SPEED = (Unit("m/s"), Unit("km/h", 1 / 3.6), Unit("m/s", decimals=2))
COUNT = Unit("1", decimals=0)
PERCENT = Unit("%")


def weather(sky: City, number: int) -> Device:
    """A weather station. Stations differ in their makers' units; their clocks tell microseconds."""
    cel, hpa, speed = CELSIUS[number % 4], PRESSURE[number % 3], SPEED[number % 3]
    return Device(
        f"weather-{number + 1:02d}",
        "weather",
        (
            Quantity("air_temperature", cel, _noisy(sky.temperature, 0.15)),
            Quantity("relative_humidity", PERCENT, _noisy(sky.humidity, 0.8, 5, 100)),
            Quantity("air_pressure", hpa, _noisy(sky.pressure, 0.1)),
            Quantity("wind_speed", speed, _noisy(sky.wind, 0.5, 0)),
            Quantity("wind_speed_gust", speed, _noisy(lambda t: 1.5 * sky.wind(t), 1.2, 0)),
            Quantity("wind_direction", Unit("deg", decimals=0), _noisy(sky.wind_from, 8)),
            Quantity("precipitation", Unit("mm", decimals=2), _noisy(lambda t: sky.rain(t) / 60, 0, 0)),
            Quantity("solar_irradiance", Unit("W/m2", decimals=0), _noisy(sky.irradiance, 3, 0)),
        ),
    )


def gauge(sky: City, name: str, mean: float, number: int) -> Device:
    """A water level gauge: level above gauge zero, in m or cm."""
    level = (Unit("m", decimals=3), Unit("cm", 0.01))[number % 2]
    return Device(
        name,
        "water",
        (
            Quantity("water_level", level, _noisy(lambda t: mean + sky.seiche(t), 0.004)),
            Quantity("water_temperature", CELSIUS[number % 2], _noisy(sky.water_temperature, 0.05)),
        ),
        tick=1_000,
    )


def meter(sky: City, number: int) -> Device:
    """An energy meter: electricity, and every third one heat, every fourth one a roof with photovoltaics."""
    mean = 900.0 + 170.0 * number  # W
    name, tick = f"meter-{number + 1:02d}", 1_000
    if number % 3 == 2:  # noqa: PLR2004
        return Device(
            name,
            "energy",
            (
                Quantity("heat_energy_total", Unit("MWh", 1_000.0, decimals=6), lambda t, _: counted(t, mean / 100)),
                Quantity("heat_flow_temperature", CELSIUS[1], _noisy(lambda t: 95 - sky.temperature(t), 0.4)),
                Quantity("heat_return_temperature", CELSIUS[1], _noisy(lambda t: 55 - sky.temperature(t) / 2, 0.4)),
                Quantity("heat_power", Unit("kW", decimals=2), _noisy(lambda t: mean / 100 * sky.load(t), 0.2, 0)),
            ),
            tick,
        )
    total = (Unit("kWh", decimals=4), Unit("Wh", 0.001, decimals=0))[number % 2]
    power = (Unit("W", decimals=0), Unit("kW", 1_000.0, decimals=3))[number % 2]
    quantities = [
        Quantity("electric_energy_import", total, lambda t, _: counted(t, mean / 1_000)),
        Quantity("electric_active_power", power, _noisy(lambda t: mean * sky.load(t), 25, 0)),
        Quantity("electric_frequency", Unit("Hz", decimals=3), _noisy(lambda _: 50.0, 0.015)),
        *(
            Quantity("electric_voltage", Unit("V"), _noisy(lambda _: 231.0, 1.1), channel=f"L{phase}")
            for phase in (1, 2, 3)
        ),
    ]
    if number % 4 == 3:  # noqa: PLR2004
        quantities += [
            Quantity("pv_power", Unit("kW", 1_000.0, decimals=3), _noisy(lambda t: 8 * sky.irradiance(t), 10, 0)),
            Quantity("pv_energy_total", Unit("kWh", decimals=3), lambda t, _: counted(t, 0.9, swing=1)),
        ]
    return Device(name, "energy", tuple(quantities), tick)


def counter(sky: City, number: int) -> Device:
    """A traffic counter over two lanes; its sums are of one minute."""

    def cars(t: float, random: Random) -> float:
        mean = sky.traffic(t) / 60
        return max(0.0, random.gauss(mean, mean**0.5))

    return Device(
        f"traffic-{number + 1:02d}",
        "traffic",
        (
            Quantity("vehicle_count", COUNT, cars, channel="lane-1"),
            Quantity("vehicle_count", COUNT, cars, channel="lane-2"),
            Quantity("vehicle_speed_mean", Unit("km/h"), _noisy(lambda t: 56 - sky.traffic(t) / 40, 3, 3)),
            Quantity("lane_occupancy", PERCENT, _noisy(lambda t: sky.traffic(t) / 30, 1, 0, 100)),
        ),
        tick=1_000,
    )


def lora(sky: City, number: int) -> Device:
    """A LoRaWAN sensor in a park: air and rain, or soil; the stack's normalized units are fixed."""
    battery = Quantity("device_battery_voltage", Unit("V", decimals=3), _noisy(lambda _: 3.6, 0.01), path="battery")
    fixed = Unit("")
    air = (
        Quantity("air_temperature", fixed, _noisy(sky.temperature, 0.3), path="air.temperature"),
        Quantity("relative_humidity", fixed, _noisy(sky.humidity, 1, 5, 100), path="air.relativeHumidity"),
        Quantity("air_pressure", fixed, _noisy(sky.pressure, 0.2), path="air.pressure"),
    )
    rain = Quantity("precipitation_total", Unit("", decimals=1), lambda t, _: counted(t, 0.07), path="rain.cumulative")
    soil = (
        Quantity("soil_temperature", fixed, _noisy(sky.water_temperature, 0.1), path="soil.temperature"),
        Quantity("soil_moisture", fixed, _noisy(lambda t: 31 + sky.rain(t), 0.5, 0, 100), path="soil.moisture"),
    )
    parts = ((*air, battery), (*soil, battery), (*air, rain, battery))[number % 3]
    return Device(f"lora-{number + 1:02d}", "lorawan", parts, variant=number % 3)


def devices(sky: City, gauges: Sequence[tuple[str, float]]) -> dict[str, list[Device]]:
    """All devices of a city by network; `gauges` are (name, mean level above gauge zero in m)."""
    return {
        "weather": [weather(sky, n) for n in range(12)],
        "water": [gauge(sky, name, mean, n) for n, (name, mean) in enumerate(gauges)],
        "energy": [meter(sky, n) for n in range(16)],
        "traffic": [counter(sky, n) for n in range(10)],
        "lorawan": [lora(sky, n) for n in range(9)],
    }
