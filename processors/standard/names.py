"""Keys that explain themselves, once their unit is known. Data only: `processors.selfevident` reads it.

Conservative on purpose. What may mean several properties is not here: a voltage (mains or battery), a pH value (soil
or water), an amount of rain (since when?), a power (of what?), a count (of what, since when?). Names are written as
`words` leaves them: lower case, ä as ae, words joined by `_`; compounds are found without the `_`, too.
"""

# The vocabulary's own names belong here as well, all but these: their meaning hangs on more than the name says.
NOT_BY_NAME = frozenset(
    {"travel_time", "vehicle_count", "bicycle_count", "pedestrian_count", "people_count", "lightning_strike_count",
     "precipitation", "sunshine_duration", "water_pressure", "air_quality_index"}
)  # fmt: skip

NAMES: dict[str, str] = {
    # weather
    "air_temperature": "air_temp temp_air temperature_air lufttemperatur luft_temperatur aussentemperatur "
    "temperatur_aussen outdoor_temperature outside_temperature temperature_outdoor temperature_outside temp_outdoor "
    "out_temp outdoor_temp aussenlufttemperatur",
    "dew_point_temperature": "dew_point dewpoint dew_point_temp taupunkt taupunkttemperatur",
    "relative_humidity": "air_humidity humidity_air rel_humidity relative_luftfeuchte relative_luftfeuchtigkeit "
    "luftfeuchte luftfeuchtigkeit outdoor_humidity outside_humidity humidity_outdoor rh",
    "air_pressure": "atmospheric_pressure pressure_air absolute_pressure station_pressure luftdruck "
    "luftdruck_absolut baro_abs",
    "air_pressure_sea_level": "sea_level_pressure pressure_sea_level pressure_msl msl_pressure mslp qnh qff "
    "luftdruck_nn luftdruck_nhn luftdruck_meereshoehe reduced_pressure luftdruck_reduziert",
    "wind_speed": "wind_velocity wind_avg avg_wind average_wind_speed "
    "windgeschwindigkeit wind_geschwindigkeit wind_speed_avg windspeed_avg wind_speed_mean "
    "mean_wind_speed avg_wind_speed",
    "wind_speed_gust": "wind_gust gust_speed wind_gust_speed peak_wind_gust windboe windboeen windspitze "
    "boeengeschwindigkeit",
    "wind_direction": "wind_dir windrichtung wind_direction_avg",
    "precipitation_rate": "rain_rate rainfall_rate rain_intensity rainfall_intensity precipitation_intensity "
    "regenrate regenintensitaet niederschlagsintensitaet niederschlagsrate",
    "precipitation_total": "rain_total total_rain rainfall_total total_rainfall cumulative_rain rain_cumulative "
    "niederschlag_gesamt regen_gesamt",
    "snow_depth": "snow_height schneehoehe",
    "solar_irradiance": "solar_radiation global_radiation solarradiation globalstrahlung solarstrahlung irradiance "
    "solare_einstrahlung",
    "illuminance": "beleuchtungsstaerke lux light light_intensity light_level ambient_light illumination luminosity "
    "brightness helligkeit light_lux light_level_lux",
    "uv_index": "uv_index uvindex",
    "cloud_cover": "cloud_coverage cloudiness bewoelkung bedeckungsgrad wolkenbedeckung",
    "ambient_dose_rate": "dose_rate ortsdosisleistung dosisleistung gamma_dose_rate",
    # air quality
    "pm1": "pm_1 pm1_0 pm_1_0 pm1p0 pm1_0_mass_concentration feinstaub_pm1 mc_1p0 mc_1_0",
    "pm2_5": "pm25 pm_2_5 pm2p5 pm_25 pm2_5_mass_concentration feinstaub_pm25 feinstaub_pm2_5 mc_2p5 mc_2_5",
    "pm4": "pm_4 pm4_0 pm_4_0 pm4p0 pm4_mass_concentration feinstaub_pm4 mc_4p0 mc_4_0",
    "pm10": "pm_10 pm10_0 pm10p0 pm10_mass_concentration feinstaub_pm10 mc_10p0 mc_10_0",
    "no2": "nitrogen_dioxide no2_concentration stickstoffdioxid",
    "no": "nitrogen_monoxide stickstoffmonoxid nitric_oxide no_concentration",
    "o3": "ozone ozon o3_concentration ozone_concentration",
    "so2": "sulfur_dioxide sulphur_dioxide so2_concentration schwefeldioxid",
    "co": "carbon_monoxide co_concentration kohlenmonoxid kohlenstoffmonoxid",
    "co2": "carbon_dioxide co2_concentration co2_level kohlendioxid kohlenstoffdioxid",
    "nh3": "ammonia ammoniak",
    "h2s": "hydrogen_sulfide hydrogen_sulphide schwefelwasserstoff",
    "benzene": "benzol c6h6",
    # water
    "water_level": "wasserstand pegelstand",
    "water_level_nhn": "wasserstand_nhn water_level_nhn pegelstand_nhn",
    "water_temperature": "water_temp temp_water temperature_water wassertemperatur temperatur_wasser",
    "water_flow_rate": "discharge abfluss",
    "water_flow_speed": "fliessgeschwindigkeit stroemungsgeschwindigkeit flow_velocity water_velocity",
    "water_salinity": "salinity salzgehalt salinitaet",
    "water_dissolved_oxygen": "dissolved_oxygen sauerstoffgehalt geloester_sauerstoff",
    "water_turbidity": "turbidity truebung",
    "water_ph": "ph_water water_ph_value wasser_ph ph_wasser",
    "wave_height_significant": "significant_wave_height signifikante_wellenhoehe",
    # energy
    "electric_energy_import": "energy_import import_energy energy_imported imported_energy active_energy_import "
    "wirkenergie_bezug zaehlerstand_bezug netzbezug_gesamt",
    "electric_energy_export": "energy_export export_energy energy_exported exported_energy active_energy_export "
    "wirkenergie_einspeisung zaehlerstand_einspeisung wirkenergie_lieferung netzeinspeisung_gesamt",
    "electric_active_power": "active_power wirkleistung",
    "electric_reactive_power": "reactive_power blindleistung",
    "electric_apparent_power": "apparent_power scheinleistung",
    "electric_power_factor": "power_factor leistungsfaktor cos_phi cosphi",
    "electric_voltage": "netzspannung mains_voltage grid_voltage line_voltage phase_voltage",
    "electric_frequency": "netzfrequenz mains_frequency grid_frequency line_frequency",
    "pv_power": "pv_leistung solarleistung photovoltaic_power",
    "heat_energy_total": "waermemenge heat_energy thermal_energy waermeenergie",
    "heat_flow_temperature": "vorlauftemperatur vorlauf_temperatur temperatur_vorlauf vorlauf supply_temperature",
    "heat_return_temperature": "ruecklauftemperatur ruecklauf_temperatur temperatur_ruecklauf ruecklauf "
    "return_temperature",
    "heat_power": "waermeleistung thermal_power",
    "gas_volume_total": "gaszaehlerstand gas_meter_volume gas_volume gasvolumen",
    "water_volume_total": "wasserzaehlerstand water_meter_volume",
    # traffic, parking, noise
    "vehicle_speed_mean": "average_vehicle_speed mean_vehicle_speed durchschnittsgeschwindigkeit "
    "mittlere_geschwindigkeit",
    "lane_occupancy": "fahrstreifenbelegung",
    "road_surface_temperature": "road_temperature road_surface_temp fahrbahntemperatur strassentemperatur "
    "fahrbahnoberflaechentemperatur strassenoberflaechentemperatur belagstemperatur",
    "parking_spots_free": "freie_parkplaetze freie_stellplaetze free_parking_spots free_parking_spaces",
    "noise_laeq": "laeq la_eq l_aeq laf_eq",
    "noise_lamax": "lamax la_max lafmax laf_max l_afmax",
    # soil, indoor, device
    "soil_moisture": "bodenfeuchte bodenfeuchtigkeit soil_humidity soil_water_content water_soil "
    "volumetric_water_content vwc",
    "soil_temperature": "soil_temp temp_soil temperature_soil bodentemperatur erdbodentemperatur",
    "soil_conductivity": "soil_ec conductivity_soil conduct_soil",
    "indoor_temperature": "indoor_temp temp_indoor temperature_indoor room_temperature temperature_room "
    "innentemperatur raumtemperatur temperatur_innen",
    "indoor_relative_humidity": "indoor_humidity humidity_indoor room_humidity raumfeuchte innenfeuchte "
    "raumluftfeuchte raumluftfeuchtigkeit innenluftfeuchtigkeit",
    "device_battery_level": "battery_level battery_percent battery_percentage battery_pct batteriestand "
    "akkustand batterieladung battery_soc",
    "device_battery_voltage": "battery_voltage voltage_battery batt_voltage battery_volt batteriespannung vbat vbatt "
    "bat_v batt_v akkuspannung",
    "device_temperature": "board_temperature cpu_temperature chip_temperature mcu_temperature device_temp "
    "geraetetemperatur cpu_temp",
    "device_rssi": "rssi",
    "device_snr": "snr",
}  # fmt: skip

# Properties without a unit are told by their name alone, but for these: many devices send a power factor in per cent.
UNIT_NEEDED = frozenset({"power_factor", "leistungsfaktor"})
# Names that only their unit makes certain: light in per cent is that of a lamp or of a cell, and no broken illuminance.
BY_UNIT = frozenset(
    {
        "light",
        "light_intensity",
        "light_level",
        "ambient_light",
        "illumination",
        "luminosity",
        "brightness",
        "helligkeit",
    }
)

# Names that say what is measured, not of what: taken with a unit in the key or beside it, where nothing around them
# says otherwise; of several the unit decides. Not in networks of the smart home, whose sensors hang inside, on pipes or
# in fridges, nor in that of sensor.community, which registers apart whether a node hangs outdoors.
PLAIN: dict[str, str] = {
    "temperature": "air_temperature",
    "temp": "air_temperature",
    "temperatur": "air_temperature",
    "humidity": "relative_humidity",
    "pressure": "air_pressure",
    "battery": "device_battery_level device_battery_voltage",
    "bat": "device_battery_level device_battery_voltage",
    "batt": "device_battery_level device_battery_voltage",
    "batterie": "device_battery_level device_battery_voltage",
    "akku": "device_battery_level device_battery_voltage",
    "grundwasserstand": "groundwater_level",
}
PLAIN_OF_DEVICE = frozenset(name for name, text in PLAIN.items() if text.startswith("device_"))
# The units that make a plain name certain: a pressure in hPa is the air's, one in bar may be a pipe's; a groundwater
# level in metres may as well be the depth below ground.
PLAIN_UNITS: dict[str, frozenset[str]] = {
    "air_pressure": frozenset({"hPa", "mbar"}),
    "groundwater_level": frozenset({"m{NHN}"}),
}
# Levels above a gauge's zero, unless the unit names the datum.
ABOVE_NHN: dict[str, str] = {"water_level": "water_level_nhn"}
SMART_HOME = frozenset({"homie", "sensor_community", "shelly", "tasmota", "zigbee2mqtt"})
# Names of objects around a plain name that leave it what it is; any other (water, soil, board, probe, …) takes it away.
_AROUND_PLAIN = (
    "air luft data daten decoded payload values value werte messwerte reading readings measurement measurements sensor "
    "sensors sensordata telemetry fields weather wetter environment umwelt outdoor aussen object"
)
AROUND_PLAIN = frozenset(_AROUND_PLAIN.split())

# Words in what stands around a name that make another thing of it: an alarm's limit, an aggregate, another time or
# instrument. Such a key says nothing for certain, whatever its last part is called.
_QUALIFYING = (
    "alarm alarms alert alerts warning warnings warnung min max minimum maximum low high lower upper avg average mean "
    "mittel mittelwert median std stddev delta diff difference differenz change trend offset offsets correction "
    "korrektur previous prev last letzte old yesterday gestern tomorrow morgen forecast prediction predicted "
    "vorhersage prognose target desired soll set history historie historic historical log logs datalog archive archiv "
    "backlog buffer past stats statistics statistik reference nominal default defaults test simulation simulated demo "
    "gateway gateways neighbour neighbours neighbor neighbors"
)
QUALIFYING = frozenset(_QUALIFYING.split())
# Places that are not outdoors, where the air's properties are others.
_ROOMS = (
    "indoor indoors inside innen room raum zimmer kitchen kueche bath bathroom bedroom office buero fridge freezer "
    "kuehlschrank gefrierschrank cellar keller basement attic garage greenhouse gewaechshaus cabinet schaltschrank "
    "boiler oven"
)
ROOMS = frozenset(_ROOMS.split()) | {
    *("rooms", "raeume", "classroom", "klassenzimmer", "klassenraum", "flur", "wohnzimmer", "schlafzimmer"),
    *("kinderzimmer", "serverraum", "rack", "livingroom", "besprechungsraum", "turnhalle", "wohnung"),
}
_PARTS = "enclosure gehaeuse housing pipe rohr duct tank device board chip"
INDOORS = ROOMS | frozenset(_PARTS.split())
# What a device hangs on or in whose temperature is not the air's. A gauge may have a thermometer for the air all the
# same: then its key says so.
_NO_AIR = (
    "water wasser abwasser grundwasser sewer kanal pegel gauge well brunnen river fluss lake pool soil boden erde "
    "ground fahrbahn asphalt heizung heating fernwaerme kessel speicher tank pipe rohr pump pumpe motor inverter "
    "wechselrichter"
)
NO_AIR = frozenset(_NO_AIR.split())
# What else a whole name may be of, by the words around it: the level in a vessel, power that is not the mains'.
_VESSELS = "tank tanks zisterne cistern boiler kessel behaelter container speicher pool barrel fass regentonne"
_PLANTS = (
    "solar pv photovoltaik inverter wechselrichter battery batterie akku speicher storage charger wallbox ev generator"
)
NOT_OF: dict[str, frozenset[str]] = {
    "water_level": frozenset(_VESSELS.split()),
    "electric_active_power": frozenset(_PLANTS.split()),
}
OUTDOORS = frozenset({"air_temperature", "relative_humidity", "dew_point_temperature"})
# What must stand in a key of a smart home for one of these.
_OPEN_AIR = "outdoor outdoors outside out aussen aussentemperatur aussenlufttemperatur weather wetter"
OPEN_AIR = frozenset(_OPEN_AIR.split())

# A phase, said by the last word: the channel of an electrical reading.
PHASES = {"l1": "L1", "l2": "L2", "l3": "L3"}
BY_PHASE: dict[str, str] = {
    "voltage": "electric_voltage",
    "spannung": "electric_voltage",
    "current": "electric_current",
    "strom": "electric_current",
    "power": "electric_active_power",
    "leistung": "electric_active_power",
}

# Words of keys that are no observation: settings, limits, identities, versions, counters of frames, ages.
_NO_OBSERVATION = (
    "threshold thresholds schwelle schwellwert schwellenwert grenzwert limit limits setpoint sollwert firmware fw "
    "hw hardware software version versions lifetime uptime fcnt f_cnt fport f_port frame_counter frame_count "
    "report_interval reporting_interval sampling_interval measurement_interval tx_interval interval_s serial "
    "serial_number seriennummer config configuration konfiguration settings calibration kalibrierung"
)
NO_OBSERVATION = frozenset(_NO_OBSERVATION.split())

# Unit suffixes of keys, lower case and without `_`, by the spelling that they stand for; of several the property
# decides.
_SUFFIXES = {
    "Cel": "c degc celsius gradc gradcelsius",
    "[degF]": "f degf fahrenheit",
    "K": "k kelvin",
    "hPa": "hpa",
    "Pa": "pa",
    "kPa": "kpa",
    "mbar": "mbar",
    "bar": "bar",
    "inHg": "inhg",
    "mmHg": "mmhg",
    "%": "pct percent prozent perc volpct percentage",
    "ppm": "ppm",
    "ppb": "ppb",
    "ug/m3": "ugm3 ugperm3",
    "mg/m3": "mgm3",
    "mg/L": "mgl",
    "NTU": "ntu",
    "m ü.NHN": "mnhn muenhn muebernhn",
    "g/kg": "gkg gperkg",
    "mm": "mm",
    "cm": "cm",
    "m": "m meter",
    "km": "km",
    "in": "in inch",
    "m/s": "ms mps mpers",
    "ms": "ms",
    "km/h": "kmh kph kmperh",
    "mph": "mph",
    "kn": "kn kts knots",
    "mm/h": "mmh",
    "deg": "deg degrees degree grad",
    "lx": "lx lux",
    "klx": "klx",
    "W/m2": "wm2",
    "Wh": "wh",
    "kWh": "kwh",
    "MWh": "megawh",
    "W": "w watt",
    "kW": "kw",
    "MW": "megaw",
    "VA": "va",
    "var": "var",
    "kvar": "kvar",
    "V": "v volt volts",
    "mV": "mv",
    "A": "a ampere",
    "mA": "ma",
    "Hz": "hz",
    "GJ": "gj",
    "m3": "m3",
    "m3/h": "m3h",
    "m3/s": "m3s",
    "L": "l liter litre",
    "L/h": "lh",
    "L/s": "ls",
    "dB": "db",
    "dBA": "dba",
    "dBm": "dbm",
    "uSv/h": "usvh",
    "nSv/h": "nsvh",
    "uS/cm": "uscm",
    "mS/cm": "mscm",
    "okta": "okta",
}
SUFFIXES: dict[str, tuple[str, ...]] = {}
for _unit, _text in _SUFFIXES.items():
    for _suffix in _text.split():
        SUFFIXES[_suffix] = (*SUFFIXES.get(_suffix, ()), _unit)

# OBIS codes (IEC 62056-6-1, without channel and storage number) beyond the vocabulary's own: the phases and tariffs of
# what it has. Property and channel.
OBIS: dict[str, tuple[str, str]] = {
    **{f"1:{code}.7.0": ("electric_voltage", f"L{n}") for n, code in ((1, 32), (2, 52), (3, 72))},
    **{f"1:{code}.7.0": ("electric_current", f"L{n}") for n, code in ((1, 31), (2, 51), (3, 71))},
    **{f"1:{code}.7.0": ("electric_active_power", f"L{n}") for n, code in ((1, 36), (2, 56), (3, 76))},
    **{f"1:{code}.7.0": ("electric_power_factor", f"L{n}") for n, code in ((1, 33), (2, 53), (3, 73))},
    **{f"1:1.8.{n}": ("electric_energy_import", f"T{n}") for n in range(1, 5)},
    **{f"1:2.8.{n}": ("electric_energy_export", f"T{n}") for n in range(1, 5)},
}
