"""Keys that explain themselves, and the many that do not."""

import pytest

from processors.selfevident import Evident, NoObservation, Unfit, meaning, misplaced
from processors.standard import names, units
from processors.standard.vocabulary import VOCABULARY


def found(key: str, unit: str | None = None, dialect: str = "ttn") -> str | None:
    told = meaning(key, unit, dialect)
    return f"{told.property} {told.unit}" if isinstance(told, Evident) else None


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("temperature_C", "air_temperature Cel"),
        ("tempF", "air_temperature [degF]"),
        ("Temperatur [°C]", "air_temperature °C"),
        ("outTemp_C", "air_temperature Cel"),
        ("VorlaufTemperatur_C", "heat_flow_temperature Cel"),
        ("Luftfeuchte_%", "relative_humidity %"),
        ("pressure_hPa", "air_pressure hPa"),
        ("air_pressure_Pa", "air_pressure Pa"),
        ("co2_ppm", "co2 ppm"),
        ("co2ppm", "co2 ppm"),
        ("PM10 (µg/m³)", "pm10 µg/m³"),
        ("pm1_0_ugm3", "pm1 ug/m3"),
        ("windSpeed_kph", "wind_speed km/h"),
        ("wind_speed_ms", "wind_speed m/s"),
        ("batV", "device_battery_voltage V"),
        ("battery_mV", "device_battery_voltage mV"),
        ("battery_pct", "device_battery_level %"),
        ("lux", "illuminance lx"),
        ("laeq_dBA", "noise_laeq dBA"),
        ("uv_index", "uv_index 1"),
        ("Windgeschwindigkeit in m/s", "wind_speed m/s"),
        ("Luftdruck, hPa", "air_pressure hPa"),
        ("Temperatur in Raum", "None"),
        ("water_ph", "water_ph [pH]"),
        ("ph", "None"),
        ("wind_avg_m_s", "wind_speed m/s"),
        ("light_lux", "illuminance lx"),
        ("salinity_g/kg", "water_salinity g/kg"),
        ("Wärmemenge_MWh", "heat_energy_total MWh"),
        ("heat_energy_mWh", "None"),
        ("Wasserstand_mNHN", "water_level_nhn m ü.NHN"),
        ("Pegelstand [m ü. NHN]", "water_level_nhn m ü. NHN"),
        ("Grundwasserstand_mNHN", "groundwater_level m ü.NHN"),
        ("Grundwasserstand_m", "None"),
    ],
)
def test_a_unit_in_the_key_makes_it_certain(key: str, expected: str) -> None:
    assert str(found(key)) == expected


@pytest.mark.parametrize(
    ("key", "unit", "expected"),
    [
        ("Vorlauftemperatur", "°C", "heat_flow_temperature °C"),
        ("Rücklauftemperatur", "°C", "heat_return_temperature °C"),
        ("Außentemperatur", "°C", "air_temperature °C"),
        ("Wasserstand", "cm", "water_level cm"),
        ("humidity", "%", "relative_humidity %"),
        ("values.temperature.0", "C", "air_temperature C"),
        ("water.temperature", "C", "water_temperature C"),
        ("PM2.5", "µg/m³", "pm2_5 µg/m³"),
        ("PM1.0", "µg/m³", "pm1 µg/m³"),
        ("battery", "V", "device_battery_voltage V"),
        ("battery", "%", "device_battery_level %"),
        ("o3", "ppb", "o3 ppb"),
        ("temperature_C", "°C", "air_temperature Cel"),
    ],
)
def test_a_unit_beside_the_key_makes_it_certain(key: str, unit: str, expected: str) -> None:
    assert found(key, unit) == expected


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("temperature", None),
        ("humidity", None),
        ("wind_speed", None),
        ("co2", None),
        ("t", "°C"),
        ("fridge.temperature", "°C"),
        ("DS18B20.Temperature", "°C"),
        ("temp_in", None),
        ("temp_C_max", None),
        ("ph", "pH"),
        ("voltage", "V"),
        ("power", "W"),
        ("energy_kWh", None),
        ("rain_mm", None),
        ("precipitation", "mm"),
        ("pressure", "bar"),
        ("count", "1"),
        ("vehicle_count", "1"),
        ("eco2_ppm", None),
        ("flow", "m3/h"),
        ("level", "%"),
        ("fill_level", "%"),
        ("conductivity", "uS/cm"),
        ("1.7.0", "W"),
        ("4.7.0", "var"),
        ("", "°C"),
        ("x" * 300, "°C"),
    ],
)
def test_what_is_not_certain_is_not_answered(key: str, unit: str | None) -> None:
    assert meaning(key, unit, "ttn") is None


@pytest.mark.parametrize(("key", "unit"), [("temperature_C", "°F"), ("Temperatur [°C]", "K"), ("co2_ppm", "%")])
def test_units_that_contradict_each_other_leave_nothing_certain(key: str, unit: str) -> None:
    assert meaning(key, unit, "ttn") is None


@pytest.mark.parametrize(
    ("key", "unit", "expected"),
    [
        ("tvoc", "ppb", "tvoc"),
        ("air_temperature", "hPa", "air_temperature"),
        ("station.Lufttemperatur", "parsec", "air_temperature"),
        ("Lufttemperatur [hPa]", None, "air_temperature"),
        ("1-0:1.8.0", "W", "electric_energy_import"),
    ],
)
def test_a_name_that_is_certain_with_a_unit_that_is_not_its_own_is_told_apart_from_an_unknown_one(
    key: str, unit: str | None, expected: str
) -> None:
    told = meaning(key, unit, "generic")
    assert isinstance(told, Unfit)
    assert told.property == expected


@pytest.mark.parametrize("dialect", sorted(names.SMART_HOME))
def test_plain_names_are_not_enough_in_the_smart_home(dialect: str) -> None:
    assert found("temperature", "°C", dialect) is None
    assert found("outdoor_temperature", "°C", dialect) == "air_temperature °C"


@pytest.mark.parametrize(
    ("code", "unit", "expected"),
    [
        ("1-0:1.8.0", "Wh", Evident("electric_energy_import", "Wh")),
        ("1-0:2.8.0*255", "kWh", Evident("electric_energy_export", "kWh")),
        ("1.8.0", "kWh", Evident("electric_energy_import", "kWh")),
        ("1-0:1.8.2", "kWh", Evident("electric_energy_import", "kWh", "T2")),
        ("0100020800ff", "Wh", Evident("electric_energy_export", "Wh")),
        ("1-0:16.7.0", "W", Evident("electric_active_power", "W")),
        ("1-0:32.7.0", "V", Evident("electric_voltage", "V", "L1")),
        ("1-0:71.7.0", "A", Evident("electric_current", "A", "L3")),
        ("1-0:56.7.0", "W", Evident("electric_active_power", "W", "L2")),
        ("6-0:10.0.0", "°C", Evident("heat_flow_temperature", "°C")),
        ("7-0:3.0.0", "m3", Evident("gas_volume_total", "m3")),
        ("8-0:1.0.0", "m3", Evident("water_volume_total", "m3")),
    ],
)
def test_obis_codes_name_property_and_phase(code: str, unit: str, expected: Evident) -> None:
    assert meaning(code, unit, "vzlogger") == expected


def test_an_obis_code_without_a_unit_is_not_enough() -> None:
    assert meaning("1-0:1.8.0", None, "vzlogger") is None


@pytest.mark.parametrize(
    "key", ["alarm.threshold_C", "Grenzwert_PM10", "fwVersion", "firmware", "f_cnt", "config.temperature_C", "Sollwert"]
)
def test_settings_limits_and_versions_are_no_observation(key: str) -> None:
    assert meaning(key, None, "ttn") == NoObservation()


def test_every_name_of_the_table_is_found_by_its_own_unit_and_means_its_property() -> None:
    wrong = {
        name: told
        for key, text in names.NAMES.items()
        for name in text.split()
        if (told := meaning(name, VOCABULARY[key].unit, "ttn")) is None
        or not isinstance(told, Evident)
        or told.property != key
    }
    assert wrong == {}


def test_every_suffix_is_a_known_unit_of_some_property() -> None:
    useless = [
        spelling
        for spellings in names.SUFFIXES.values()
        for spelling in spellings
        if not any(isinstance(units.conversion(spelling, known), units.Affine) for known in VOCABULARY.values())
    ]
    assert useless == []


def test_every_name_of_another_table_exists() -> None:
    assert names.NOT_BY_NAME | set(names.NAMES) | set(names.BY_PHASE.values()) <= set(VOCABULARY)
    assert {property_key for text in names.PLAIN.values() for property_key in text.split()} <= set(VOCABULARY)
    assert {property_key for property_key, _ in names.OBIS.values()} <= set(VOCABULARY)


@pytest.mark.parametrize(
    ("key", "unit", "dialect", "expected"),
    [
        ("weather/air-temperature", "°C", "homie", "air_temperature °C"),
        ("station/Luftdruck", "hPa", "homie", "air_pressure hPa"),
        ("Outdoor/Temperature", "°C", "sparkplug", "air_temperature °C"),
        ("Meter 1/Active Power", "kW", "sparkplug", "electric_active_power kW"),
        ("pump/Wasserstand", "cm", "sparkplug", "water_level cm"),
        ("soil/temperature", "°C", "sparkplug", "soil_temperature °C"),
        ("weather/temperature", "°C", "homie", None),  # a plain name, in a network of the smart home
        ("Boiler/Temperature", "°C", "sparkplug", None),
        ("Line 3/Pressure", "bar", "sparkplug", None),
        ("Alarms/Air Temperature", "°C", "sparkplug", None),
        ("Forecast/air_temperature", "°C", "homie", None),
        ("history/air_temperature", "°C", "homie", None),
        ("kitchen/air-temperature", "°C", "homie", None),
        ("km/h", None, "sparkplug", None),
    ],
)
def test_the_last_part_of_a_name_with_slashes_counts_unless_what_stands_before_takes_it_away(
    key: str, unit: str | None, dialect: str, expected: str | None
) -> None:
    assert found(key, unit, dialect) == expected


@pytest.mark.parametrize(
    "key", ["config/air-temperature", "setpoint/room_temperature", "Limits/Water Level", "hw/rssi"]
)
def test_settings_and_limits_with_slashes_are_no_observations(key: str) -> None:
    assert isinstance(meaning(key, "°C", "sparkplug"), NoObservation)


@pytest.mark.parametrize(
    "around", ["alarm", "alarms", "previous", "yesterday", "forecast", "min", "daily_max", "offset", "history.0", "avg"]
)
def test_a_whole_name_below_a_limit_an_aggregate_or_another_time_is_not_certain(around: str) -> None:
    assert found(f"{around}.air_temperature_C") is None
    assert found(f"{around}.water_level_cm") is None
    assert found("data.air_temperature_C") == "air_temperature Cel"


@pytest.mark.parametrize(
    ("device", "of_the_key", "of_a_plain_one"),
    [
        ("rathaus/raum-12/klima", True, True),
        ("wohnung/Küche", True, True),
        ("room2", True, True),
        ("hafen/wasser/1", False, True),
        ("heizung/vorlauf", False, True),
        ("pegel-7", False, True),
        ("park/station-3", False, False),
        ("Innenstadt/Warnemuende", False, False),
        ("device-07", False, False),
    ],
)
def test_a_devices_name_takes_the_weather_away_from_a_room_and_the_air_from_what_is_wet_or_hot(
    device: str, of_the_key: bool, of_a_plain_one: bool
) -> None:
    assert misplaced(device, "air_temperature", plain=False) is of_the_key
    assert misplaced(device, "relative_humidity", plain=True) is of_a_plain_one
    assert not misplaced(device, "water_temperature", plain=True)


def test_the_level_in_a_vessel_is_no_gauges_and_the_power_of_a_plant_not_the_mains() -> None:
    assert found("tank.water_level_cm") is None
    assert found("station.water_level_cm") == "water_level cm"
    assert found("solar.0.active_power_W") is None
    assert found("grid.active_power_W") == "electric_active_power W"
    assert misplaced("garten/zisterne-2", "water_level", plain=False)
    assert misplaced("pv/wr1", "electric_active_power", plain=False)
    assert not misplaced("rathaus/zaehler", "electric_active_power", plain=False)
    assert not misplaced("hafen/pegel", "water_level", plain=False)


@pytest.mark.parametrize("place", ["indoor", "room_2", "Kühlschrank", "pipe", "tank"])
def test_the_air_of_a_place_that_is_not_outdoors_is_not_the_weathers(place: str) -> None:
    assert found(f"{place}.air_temperature_C") is None
    assert found(f"{place}.relative_humidity_pct") in {None, "indoor_relative_humidity %"}
    assert found(f"{place}.indoor_temperature_C") == "indoor_temperature Cel"
    assert found(f"{place}.water_temperature_C") == "water_temperature Cel"


@pytest.mark.parametrize("dialect", sorted(names.SMART_HOME))
def test_the_open_air_is_named_in_the_smart_home_or_it_is_none(dialect: str) -> None:
    assert found("humidity:0.rh", "%", dialect) is None
    assert found("climate/relative-humidity", "%", dialect) is None
    assert found("thermostat/air-temperature", "°C", dialect) is None
    assert found("outdoor_temperature", "°C", dialect) == "air_temperature °C"
    assert found("Außentemperatur", "°C", dialect) == "air_temperature °C"
    assert found("outdoor_humidity", "%", dialect) == "relative_humidity %"
    assert found("station/relative-humidity", "%", "generic") == "relative_humidity %"


def test_a_dew_point_that_a_chip_at_home_calculates_is_not_the_weathers() -> None:
    assert found("AM2301.DewPoint", "C", "tasmota") is None
    assert found("DewPoint", "C", "generic") == "dew_point_temperature C"


@pytest.mark.parametrize(
    ("key", "channel"),
    [
        ("sensor1.air_temperature_C", "sensor1"),
        ("Line1/Tank2/water_temperature_C", "Line1.Tank2"),
        ("station.air_temperature_C", None),
        ("sensors.0.air_temperature_C", None),  # a place in an array: may be a series of one sensor
        ("water_temperature_C", None),
        ("PM2.5", None),
    ],
)
def test_a_numbered_part_of_a_path_is_the_channel_so_that_two_sensors_are_two_datastreams(key, channel) -> None:
    told = meaning(key, "µg/m³" if key == "PM2.5" else None, "generic")
    assert isinstance(told, Evident)
    assert told.channel == channel


@pytest.mark.parametrize("key", ["power_factor", "powerFactor", "load.powerFactor", "Leistungsfaktor"])
def test_a_power_factor_without_a_unit_may_be_in_percent(key: str) -> None:
    assert meaning(key, None, "chirpstack") is None
    assert found(key, "%", "chirpstack") == "electric_power_factor %"
    assert found("cos_phi", None, "chirpstack") == "electric_power_factor 1"


@pytest.mark.parametrize(
    ("key", "unit", "expected"),
    [
        ("air_temperature.value", "°C", "air_temperature °C"),
        ("temperature.value", "°C", None),  # of a pressure probe in a well as well
        ("battery.value", "mV", "device_battery_voltage mV"),
        ("soil.temperature.value", "°C", "soil_temperature °C"),
        ("volumetric_water_content.value", "%", "soil_moisture %"),
        ("vwc.value", "m³⋅m⁻³", "soil_moisture m³⋅m⁻³"),
        ("min.air_temperature.value", "°C", None),
        ("value", "°C", None),
        ("sensor.value", "°C", None),
    ],
)
def test_a_value_is_what_its_object_is_called(key: str, unit: str, expected: str | None) -> None:
    assert found(key, unit) == expected


def test_a_name_for_light_says_illuminance_only_in_lux() -> None:
    assert found("light_lux") == "illuminance lx"
    assert found("luminosity.value", "lux") == "illuminance lux"
    assert [meaning(key, unit, "ttn") for key, unit in [("light", None), ("light_level", None), ("light", "%")]] == [
        None
    ] * 3
