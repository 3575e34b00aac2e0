"""A message of each stateless dialect, rich in what it may hold: topic, and body as JSON value or as bytes."""

MESSAGES = {
    "chirpstack": (
        "application/1/device/0101010101010101/event/up",
        {
            "time": "2026-11-23T10:00:00.775023242+00:00",
            "deviceInfo": {"devEui": "0101010101010101", "deviceProfileName": "em300"},
            "object": {"temperature": 7.5, "list": [1, True, "24.1 C", None], "probe": {"t": "x"}},
            "objectJSON": "{}",
            "rxInfo": [{"gwTime": "2026-11-23T10:00:00.5+00:00", "rssi": -35}],
        },
    ),
    "pegelonline": (
        "edis/pegelonline/elbe/hamburg/hamburg/hpa/bacb459b-0f24-4233-bb35-cd224a51678e/w",
        {
            "uuid": "bacb459b-0f24-4233-bb35-cd224a51678e",
            "timeseries": [
                {
                    "shortname": "W",
                    "unit": "cm",
                    "measurements": [{"timestamp": "2026-11-23T10:59:00+01:00", "value": 555}],
                    "currentMeasurement": {"timestamp": "2026-11-23T10:59:00+01:00", "value": 555},
                },
                {"shortname": "PH", "unit": "--", "measurement": {"timestamp": "2026-11-23T10:00:00Z", "value": 7.9}},
            ],
        },
    ),
    "tasmota": (
        "tele/tasmota_1/SENSOR",
        {
            "Time": "2026-10-25T02:30:00",
            "Epoch": 1_795_428_000,
            "ENERGY": {"TotalStartTime": "2021-10-25T15:22:04", "Total": 9098.245, "Current": [1.32, 2.1]},
            "DS18B20-1": {"Id": "00000566CC39", "Temperature": 13.3},
            "ZbReceived": {"0x1": {"Temperature": 1}},
            "LD2410": {"Distance": [200, [1]]},
            "TempUnit": "C",
            "Switch1": "ON",
        },
    ),
    "iot_agent_json": (
        "/json/4jggokgpepnvsb2uv4s40d59ov/sensor01/attrs",
        [
            {"h": "45%", "t": "23,5", "l": {"a": 2, "c": ["1", None]}, "TimeInstant": "2026-11-23T10:00:00Z"},
            {
                "id": "urn:ngsi-ld:WeatherObserved:1",
                "type": "WeatherObserved",
                "dateObserved": {"type": "DateTime", "value": "2026-11-23T10:00:00Z"},
                "temperature": {"type": "Property", "value": 7, "unitCode": "CEL", "observedAt": "2026-11-23T10:00Z"},
                "location": {"type": "GeoProperty", "value": {"type": "Point", "coordinates": [12, 54]}},
                "humidity": {"value": 1, "metadata": {"TimeInstant": {"value": "2026-11-23T10:00:00Z"}}},
            },
        ],
    ),
    "ultralight": (
        "/ul/4jggokgpepnvsb2uv4s40d59ov/sensor01/attrs",
        b"2026-11-23T10:00:00Z|t|15,5|k|abc#pos|43.46321/-3.80446#|c|7|b|18##MQTT_2@ping|MADE_OK",
    ),
    "senml": (
        "senml/hafen",
        [
            {"bn": "urn:dev:ow:10e2073a0108006:", "bt": 1_795_428_000.25, "bu": "A", "bver": 10, "bv": 1, "bs": 2},
            {"n": "voltage", "u": "V", "v": 120.1, "s": 3},
            {"n": "current", "t": -5, "v": 1.2},
            {"n": "open", "vb": True, "bt": 0, "t": -60},
            {"n": "label", "vs": "x"},
            {"n": "old", "v": 1, "future_": 1},
        ],
    ),
    "sensor_community": (
        "sensor.community/hafen",
        {
            "esp8266id": "12345678",
            "software_version": "NRZ-2021-134",
            "sensordatavalues": [
                {"value_type": "SDS_P1", "value": "12.30"},
                {"value_type": "BME280_pressure", "value": "101325.00"},
                {"value_type": "BME280_temperature", "value": "-128.00"},
            ],
        },
    ),
    "ecowitt": (
        "ecowitt/hafen",
        {
            "PASSKEY": "0123456789ABCDEF0123456789ABCDEF",
            "model": "GW2000A",
            "dateutc": "2026-11-23 10:00:00",
            "tempf": "45.1",
            "tempinf": "70.2",
            "baromabsin": "29.476",
            "lightning": "",
            "leak_ch2": 1,
            "temp1f": "44.9",
        },
    ),
}
