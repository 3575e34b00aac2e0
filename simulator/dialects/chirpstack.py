"""ChirpStack 4: sound levels and indoor climate over LoRaWAN, decoded by the makers' codecs; status and join events."""

from random import Random

from simulator.devices import Quantity, Unit, stamp
from simulator.dialects.network import Network, Sensor, Sent, Setting, measured, noisy, quiet
from simulator.expectation import Good

APPLICATION = "7f3c1a52-4d6e-4b8a-9c10-2e5f6a7b8c9d"
UPLINK = (
    '{"deduplicationId":"%032x","time":"%s","deviceInfo":{"tenantId":"52f14cd4-c6f1-4fbd-8f87-4025e1d49242",'
    '"tenantName":"Stadt","applicationId":"@application","applicationName":"laerm-und-luft","deviceProfileId":'
    '"14855bf7-d10d-4aee-b618-ebfcb64dc7ad","deviceProfileName":"@model","deviceName":"@model @number",'
    '"devEui":"@eui","deviceClassEnabled":"CLASS_A","tags":{}},"devAddr":"01a2b3c@number","adr":true,"dr":5,'
    '"fCnt":%d,"fPort":85,"confirmed":false,"data":"AXVkA2cAAQ==","object":@object,"rxInfo":[{"gatewayId":'
    '"0016c001f153a14c","uplinkId":4217106255,"nsTime":"%s","rssi":-36,"snr":10.5,"channel":2,"location":{},'
    '"context":"E3OWOQ==","crcStatus":"CRC_OK"}],"txInfo":{"frequency":868100000,"modulation":{"lora":'
    '{"bandwidth":125000,"spreadingFactor":7,"codeRate":"CR_4_5"}}}}'
)
STATUS = (
    '{"deduplicationId":"%032x","time":"%s","deviceInfo":{"tenantName":"Stadt","applicationId":"@application",'
    '"deviceProfileName":"@model","deviceName":"@model @number","devEui":"@eui"},"margin":10,'
    '"externalPowerSource":false,"batteryLevelUnavailable":false,"batteryLevel":%s}'
)


def _nano(time: int) -> str:
    return stamp(time, "242")[:-1] + "+00:00"


def network(setting: Setting) -> Network:
    """Three sound level meters, which tell their batteries' charge by themselves, and two boxes of indoor climate."""
    sky = setting.sky
    decibel, parts = Unit("dB(A)"), Unit("ppm", decimals=0)
    sound = {
        "LAeq": Quantity("noise_laeq", decibel, noisy(lambda t: 52 + sky.traffic(t) / 60, 1.5, 30)),
        "LAFmax": Quantity("noise_lamax", decibel, noisy(lambda t: 68 + sky.traffic(t) / 60, 3, 40)),
    }
    climate = {
        "temperature": Quantity("indoor_temperature", Unit("°C"), noisy(lambda _: 21.3, 0.4)),
        "humidity": Quantity("indoor_relative_humidity", Unit("%"), noisy(lambda _: 44, 2)),
        "co2": Quantity("co2", parts, noisy(lambda t: 520 + sky.traffic(t) / 3, 20, 410)),
        "pressure": Quantity("air_pressure", Unit("hPa"), noisy(sky.pressure, 0.2)),
        "pm2_5": Quantity("pm2_5", Unit("µg/m³", decimals=0), noisy(lambda _: 9, 3, 0)),
        "battery": Quantity("device_battery_level", Unit("%", decimals=0), quiet),
    }
    euis = [f"24e124{setting.random.randrange(1 << 40):010x}" for _ in range(5)]
    sensors = [_uplinks(euis[n], "Milesight WS302", n, sound) for n in range(3)]
    sensors += [_uplinks(euis[n], "Milesight AM319", n, climate) for n in (3, 4)]
    sensors.append(_status(euis[0], "Milesight WS302", 0))

    def announced(time: int) -> list[Sent]:
        body = f'{{"time":"{_nano(time)}","deviceInfo":{{"devEui":"{euis[0]}"}},"devAddr":"01a2b3c0"}}'
        return [Sent(f"application/{APPLICATION}/device/{euis[0]}/event/join", body.encode(), ignored=1)]

    return Network(sensors, announced, late=True, copied=True)


def _filled(template: str, **parts: object) -> str:
    """The template with what never changes; `%s` and the like stay."""
    for name, part in parts.items():
        template = template.replace(f"@{name}", str(part))
    return template


def _uplinks(eui: str, model: str, number: int, quantities: dict[str, Quantity]) -> Sensor:
    decoded = "{" + ",".join(f'"{key}":%s' for key in quantities) + "}"
    template = _filled(UPLINK, application=APPLICATION, model=model, number=number, eui=eui, object=decoded)
    topic, measures = f"application/{APPLICATION}/device/{eui}/event/up", tuple(quantities.values())

    def make(time: int, random: Random, now: int) -> Sent:
        numbers, good = measured(eui, measures, time, random)
        heard = _nano(time)
        told = (random.getrandbits(128), heard, now // 1_000_000 % 65_536, *numbers, heard)
        return Sent(topic, (template % told).encode(), good)

    return Sensor(f"chirpstack/{eui}", make)


def _status(eui: str, model: str, number: int) -> Sensor:
    template = _filled(STATUS, application=APPLICATION, model=model, number=number, eui=eui)
    topic = f"application/{APPLICATION}/device/{eui}/event/status"

    def make(time: int, random: Random, _now: int) -> Sent:
        charge = round(100 * random.randrange(230, 255) / 254, 2)
        good = Good(eui, "", "device_battery_level", time, charge)
        payload = template % (random.getrandbits(128), _nano(time), charge)
        return Sent(topic, payload.encode(), (good,), ignored=1)  # the link margin

    return Sensor(f"chirpstack/{eui}/status", make)
