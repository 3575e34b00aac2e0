"""How sensor networks spell units. Data only: `units` decides and converts.

`UNITS` maps a UCUM code to what pint calls it and to the spellings seen in the field. Spellings are written as
`units.normal` leaves them: NFKC, u for micro, no ^ or **, - and . for every kind of minus and middle dot. One spelling
may stand under several codes (m, dB): the property's dimension then decides.

What looks like a number to pint but is a quantity of its own here (counts, percentages, levels, angles, mole fractions,
apparent and reactive power) has a base dimension of its own, so that nothing converts into it by accident.
"""

from fractions import Fraction

DEFINITIONS = (
    "hanse_count = [hanse_count]",
    "hanse_index = [hanse_index]",
    "hanse_percent = [hanse_ratio]",
    "hanse_permille = 1/10 * hanse_percent",
    "hanse_fraction = 100 * hanse_percent",
    "hanse_mole_ppm = [hanse_mole_fraction]",
    "hanse_mole_ppb = 1/1000 * hanse_mole_ppm",
    "hanse_okta = [hanse_okta]",
    "hanse_degree = [hanse_angle]",
    "hanse_radian = 57.29577951308232 * hanse_degree",
    "hanse_gon = 9/10 * hanse_degree",
    "hanse_ph = [hanse_ph]",
    "hanse_ntu = [hanse_ntu]",
    "hanse_db = [hanse_level]",
    "hanse_db_spl = [hanse_sound_level]",
    "hanse_dbm = [hanse_power_level]",
    "hanse_va = [hanse_apparent_power]",
    "hanse_kva = 1000 * hanse_va",
    "hanse_mva = 1000000 * hanse_va",
    "hanse_var = [hanse_reactive_power]",
    "hanse_kvar = 1000 * hanse_var",
    "hanse_mvar = 1000000 * hanse_var",
    # The conventional inch, by which barometers are scaled: 29.92 inHg = 1013.2 hPa.
    "hanse_inhg = 3386.389 * pascal",
    # By the conventional density of water, 1 kg/L at standard gravity: 9.80665 kPa. pint's is that of 4 Cel.
    "hanse_mh2o = 9806.65 * pascal",
    "hanse_cmh2o = 1/100 * hanse_mh2o",
    "hanse_mmh2o = 1/1000 * hanse_mh2o",
    "hanse_inh2o = 254/10000 * hanse_mh2o",
    # A level above a datum converts to no other height.
    "hanse_nhn = [hanse_nhn]",
)

UNITS: dict[str, tuple[str, str]] = {
    # temperature
    "Cel": (
        "degC",
        (
            "Cel|C|°C|oC|degC|deg C|deg_C|deg.C|celsius|Celsius|degrees Celsius|degree Celsius|Grad Celsius|°c"
            "|DegC|DEGC|Deg C|deg_c|degreeC|degreesC|degree_Celsius|degree_celsius|degrees_celsius|degree celsius"
            "|degrees celsius|°Celsius|° C|GradC|Grad C|grad C|CELSIUS"
        ),
    ),
    "K": ("kelvin", "K|°K|degK|kelvin|Kelvin|KELVIN|KEL"),
    "[degF]": (
        "degF",
        (
            "[degF]|F|°F|oF|degF|deg F|deg_F|fahrenheit|Fahrenheit|degrees Fahrenheit|°f|° F|DegF|DEGF|Deg F"
            "|deg_f|degree_Fahrenheit|degree_fahrenheit|degrees_fahrenheit|degree Fahrenheit|°Fahrenheit"
            "|FAHRENHEIT|FAH"
        ),
    ),
    # pressure
    "Pa": ("pascal", "Pa|pascal|Pascal|pascals|N/m2"),
    "hPa": ("hectopascal", "hPa|HPA|hpa|hectopascal|Hektopascal|hPA|Hpa"),
    "kPa": ("kilopascal", "kPa|kpa|KPA|kilopascal"),
    "MPa": ("megapascal", "MPa"),
    "mbar": ("millibar", "mbar|mb|mBar|millibar"),
    "bar": ("bar", "bar|Bar|BAR|bars"),
    "mm[Hg]": ("mmHg", "mm[Hg]|mmHg|mmhg|mm Hg|Torr|torr"),
    "[in_i'Hg]": ("hanse_inhg", "[in_i'Hg]|inHg|inhg|in Hg|inches Hg"),
    "[psi]": ("psi", "[psi]|psi|PSI|lbf/in2"),
    "atm": ("atm", "atm"),
    "m[H2O]": ("hanse_mh2o", "m[H2O]|mH2O|mWS|m WS"),
    "cm[H2O]": ("hanse_cmh2o", "cm[H2O]|cmH2O|cmWS"),
    "mm[H2O]": ("hanse_mmh2o", "mm[H2O]|mmH2O|mmWS"),
    "[in_i'H2O]": ("hanse_inh2o", "[in_i'H2O]|inH2O|in H2O"),
    "kgf/cm2": ("kgf/cm**2", "kgf/cm2|kp/cm2|at|[att]"),
    "cbar": ("centibar", "cbar|cb|centibar|centibars"),
    # speed and rates
    "m/s": (
        "m/s",
        (
            "m/s|mps|m s-1|m.s-1|m/sec|MPS|meters per second|Meter pro Sekunde|ms-1|meter/sec|meters/second"
            "|metres per second|meter per second|metre per second|m/second|m/Sek|MTS"
        ),
    ),
    "cm/s": ("cm/s", "cm/s|cm.s-1|cm s-1"),
    "km/h": (
        "km/h",
        (
            "km/h|kmh|KMH|kph|KPH|km/hr|kmph|km.h-1|km h-1|Km/h|km/H|KM/H|KMPH|kilometers per hour"
            "|kilometres per hour|Kilometer pro Stunde|km/Std"
        ),
    ),
    "[mi_i]/h": ("mile/h", "[mi_i]/h|mph|MPH|mi/h|mi/hr|miles per hour|miles/hour"),
    "[kn_i]": ("knot", "[kn_i]|kn|kt|kts|kn.|knot|knots|Knoten|Kn|KNT"),
    "[ft_i]/s": ("foot/s", "[ft_i]/s|ft/s|fps"),
    "mm/h": (
        "mm/h",
        (
            "mm/h|mm/hr|mm h-1|mm.h-1|mmh|l/m2/h|L/m2/h|l/(m2.h)|mm/Stunde|mm/Std|mm/hour|l/qm/h|l/m2h"
            "|millimeters per hour"
        ),
    ),
    "mm/d": ("mm/day", "mm/d|mm/day|mm/Tag|mm/24h|mm d-1|mm.d-1"),
    "cm/h": ("cm/h", "cm/h|cm/hr|cm.h-1|cm h-1"),
    "[in_i]/h": ("inch/h", "[in_i]/h|in/h|in/hr|inh|inches/hour|inch/h|in/hour|inches per hour"),
    # length
    "m": ("m", "m|meter|metre|meters|metres|Meter|mtr|MTR"),
    "cm": ("cm", "cm|CM|Zentimeter|centimeter|centimetre|centimeters|centimetres|CMT"),
    "mm": (
        "mm",
        (
            "mm|MM|millimeter|millimetre|Millimeter|l/m2|L/m2|l.m-2|millimeters|millimetres|l/qm|l m-2|Liter/m2"
            "|liter/m2|litre/m2|MMT"
        ),
    ),
    "dm": ("dm", "dm"),
    "km": ("km", "km|KM|Kilometer|kilometer|kilometre"),
    "[in_i]": ("inch", "[in_i]|in|inch|inches|INH|Zoll"),
    "[ft_i]": ("foot", "[ft_i]|ft|feet|foot|Fuß"),
    "[mi_i]": ("mile", "[mi_i]|mi|mile|miles"),
    # time
    "s": ("s", "s|sec|secs|second|seconds|Sek|Sekunden|SEC|Sekunde|SECOND|Sek."),
    "ms": ("ms", "ms|msec|millisecond|milliseconds"),
    "min": ("minute", "min|mins|minute|minutes|Minuten|m|Minute|MINUTE|MIN|min."),
    "h": ("hour", "h|hr|hrs|hour|hours|Std|Stunden|Stunde|HUR|h."),
    "d": ("day", "d|day|days|Tage|Tag"),
    # angle
    "deg": ("hanse_degree", "deg|°|degree|degrees|Grad|DEG|arcdeg|degs|Degrees|Degree"),
    "rad": ("hanse_radian", "rad|radian|radians"),
    "gon": ("hanse_gon", "gon"),
    # light and radiation
    "lx": ("lux", "lx|lux|Lux|LUX|lm/m2|Lx|lumen/m2|LX"),
    "klx": ("kilolux", "klx|klux|kLux"),
    "W/m2": ("W/m**2", "W/m2|W.m-2|W m-2|w/m2|W/qm|Wm-2|Watt/m2|W/sqm|watts per square meter|w/qm|WM2"),
    "kW/m2": ("kW/m**2", "kW/m2|kW.m-2"),
    "mW/cm2": ("mW/cm**2", "mW/cm2"),
    "uSv/h": ("uSv/h", "uSv/h|uSv.h-1|usv/h|microsievert/h|uSv/hr|uSv/Std"),
    "nSv/h": ("nSv/h", "nSv/h|nSv.h-1"),
    "mSv/h": ("mSv/h", "mSv/h|mSv.h-1"),
    # concentration
    "ug/m3": (
        "ug/m**3",
        (
            "ug/m3|ug.m-3|ug m-3|ugm3|ugm-3|mcg/m3|ug/cbm|UG/M3|microg/m3|microgram/m3|micrograms/m3"
            "|micrograms per cubic meter|ug/Kubikmeter|ugr/m3"
        ),
    ),
    "mg/m3": ("mg/m**3", "mg/m3|mg.m-3|mg m-3|milligrams per cubic meter"),
    "ng/m3": ("ng/m**3", "ng/m3|ng.m-3"),
    "g/m3": ("g/m**3", "g/m3|g.m-3"),
    "mg/L": ("mg/L", "mg/L|mg/l|MG/L|mg.L-1|mg.l-1|mg/liter|mg/Liter|mg/dm3"),
    "ug/L": ("ug/L", "ug/L|ug/l"),
    "g/L": ("g/L", "g/L|g/l"),
    "[ppm]": ("hanse_mole_ppm", "[ppm]|ppm|PPM|ppmv|umol/mol|parts per million|ppm(v)|Ppm"),
    "[ppb]": ("hanse_mole_ppb", "[ppb]|ppb|PPB|ppbv|nmol/mol|parts per billion"),
    "g/kg": ("g/kg", "g/kg|g.kg-1|g kg-1"),
    "mg/kg": ("mg/kg", "mg/kg|mg.kg-1|mg kg-1|ug/g"),
    "[pH]": ("hanse_ph", "[pH]|pH|PH|ph|pH units"),
    "{NTU}": ("hanse_ntu", "{NTU}|NTU|ntu|[NTU]"),
    # conductivity
    "S/m": ("S/m", "S/m|S.m-1"),
    "mS/m": ("mS/m", "mS/m|mS.m-1"),
    "dS/m": ("dS/m", "dS/m|ds/m|dS.m-1"),
    "mS/cm": ("mS/cm", "mS/cm|ms/cm|mS.cm-1|mmho/cm|millisiemens/cm|mS cm-1"),
    "uS/cm": ("uS/cm", "uS/cm|us/cm|uS.cm-1|umho/cm|microsiemens/cm|US/CM|uS cm-1"),
    # ratio and number
    "%": (
        "hanse_percent",
        (
            "%|percent|Percent|Prozent|pct|%RH|% RH|RH%|%rh|%RF|% RF|%rH|% rH|%rF|% rF|%r.F.|% r.F.|%r.H."
            "|vol-%|Vol-%|vol%|Vol%|Vol.-%|vol.-%|vol.%|%vol|% vol|Vol.%|%VWC|% VWC|%EL|percent RH|/100"
        ),
    ),
    "[ppth]": ("hanse_permille", "[ppth]|‰|per mille|permille|Promille|/1000"),
    # A ratio as UCUM and SenML write it. 1 is a number as well: the property says which.
    "{fraction}": ("hanse_fraction", "{fraction}|1|/|fraction|ratio|m3/m3|m3.m-3|m3 m-3|cm3/cm3|cm3.cm-3|v/v|L/L|l/l"),
    "1": (
        "hanse_count",
        (
            "1|/|count|counts|Count|pcs|pcs.|Stk|Stk.|Stück|Anzahl|#|{#}|{count}|vehicles|vehicle|veh|cars|Fahrzeuge|Kfz|KFZ"
            "|Fzg|bikes|bicycles|cyclists|Fahrräder|Räder|pedestrians|Fußgänger|persons|people|Personen|spaces|spots|Plätze"
            "|Stellplätze"
        ),
    ),
    "{index}": ("hanse_index", "{index}|index|Index|UVI|UV index|UV-Index|AQI"),
    "{okta}": ("hanse_okta", "{okta}|okta|oktas|Achtel|octa|octas|1/8"),
    # sound and radio levels
    "dB[SPL]": ("hanse_db_spl", "dB[SPL]|dB(A)|dBA|dB A|dbA|dba|db(A)|dB(SPL)|dB SPL|dB|dB (A)|dBa|dB_A|DBA"),
    "dB": ("hanse_db", "dB|db|DB"),
    "dB{mW}": ("hanse_dbm", "dB{mW}|dBm|dbm|DBM|dBmW|dB[mW]"),
    # electricity and heat
    "V": ("V", "V|volt|volts|Volt|VDC|VAC|v|Volts|VOLT|V DC|V AC"),
    "mV": ("mV", "mV|mv|millivolt"),
    "kV": ("kV", "kV"),
    "A": ("A", "A|amp|amps|ampere|Ampere|amperes|Amperes|Amp|Amps|AMP"),
    "mA": ("mA", "mA"),
    "kA": ("kA", "kA"),
    "Hz": ("hertz", "Hz|hz|HZ|hertz|Hertz|1/s|s-1|/s|1/sec"),
    "mHz": ("millihertz", "mHz"),
    "W": ("W", "W|watt|watts|Watt|w|Watts|WATT|J/s"),
    "mW": ("mW", "mW"),
    "kW": ("kW", "kW|KW|kw|kilowatt|Kilowatt|kilowatts|KILOWATT|kJ/s"),
    "MW": ("MW", "MW|Megawatt"),
    "V.A": ("hanse_va", "V.A|VA|va|volt-ampere|Voltampere|volt ampere"),
    "kV.A": ("hanse_kva", "kV.A|kVA|KVA|kva"),
    "MV.A": ("hanse_mva", "MV.A|MVA"),
    "V.A{reactive}": ("hanse_var", "V.A{reactive}|var|VAr|VAR|Var|vars|volt-ampere reactive"),
    "kV.A{reactive}": ("hanse_kvar", "kV.A{reactive}|kvar|kVAr|kVAR|kVar"),
    "MV.A{reactive}": ("hanse_mvar", "MV.A{reactive}|Mvar|MVAr|MVAR|MVar"),
    "W.h": ("W*h", "W.h|Wh|WH|wh|W h|Wattstunde|Wattstunden|watt-hours|watt hours|watthour|watt hour|WHR"),
    "kW.h": (
        "kW*h",
        (
            "kW.h|kWh|KWH|kwh|kWH|KWh|Kilowattstunden|kW h|Kilowattstunde|kilowatt hours|kilowatt hour"
            "|kilowatt-hours|kilowatt-hour|kilowatthour|kilowatthours|KWHR"
        ),
    ),
    "MW.h": ("MW*h", "MW.h|MWh|MW h|Megawattstunden|Megawattstunde|megawatt hours"),
    "GW.h": ("GW*h", "GW.h|GWh"),
    "TW.h": ("TW*h", "TW.h|TWh|TW h"),
    "kW.s": ("kW*s", "kW.s|kWs"),
    "J": ("joule", "J|joule|Joule|W.s|Ws"),
    "kJ": ("kilojoule", "kJ"),
    "MJ": ("megajoule", "MJ"),
    "GJ": ("gigajoule", "GJ"),
    # volume and flow
    "m3": ("m**3", "m3|cbm|cubic meter|cubic metre|Kubikmeter|M3|cubic meters|cubic metres|Kubikmetern"),
    "L": ("L", "L|l|ltr|liter|litre|Liter|liters|litres|dm3|LTR|ltrs|LITER|Litre|Litres"),
    "mL": ("mL", "mL|ml|milliliter|millilitre"),
    "[cft_i]": ("foot**3", "[cft_i]|ft3|cu ft|cuft"),
    "[gal_us]": ("gallon", "[gal_us]|US gal|gal(US)"),
    "cm3": ("cm**3", "cm3|ccm"),
    "[cft_i]/s": ("foot**3/s", "[cft_i]/s|ft3/s|cfs"),
    # Water on a surface: one kilogram on a square metre is one millimetre of rain (WMO-No. 8), of snow it is not.
    "kg/m2": ("kg/m**2", "kg/m2|kg.m-2|kg m-2"),
    "kg/m2/s": ("kg/m**2/s", "kg/m2/s|kg.m-2.s-1|kg m-2 s-1|kg/(m2.s)"),
    # Above normal height null: a height that says its datum.
    "m{NHN}": ("hanse_nhn", "m{NHN}|m+NHN|m NHN|mNHN|m ü.NHN|m ü NHN|mü.NHN|müNHN|m üNHN|m.ü.NHN|m über NHN"),
    "m3/d": ("m**3/day", "m3/d|m3/day|m3/Tag|m3 d-1|m3.d-1"),
    "m3/s": ("m**3/s", "m3/s|m3.s-1|m3 s-1|cbm/s|m3/sec|cumec|cumecs|m3/Sek"),
    "m3/h": ("m**3/h", "m3/h|m3.h-1|cbm/h|m3/hr|m3h|m3/Std|m3/hour|m3 h-1|MQH"),
    "L/s": ("L/s", "L/s|l/s|L.s-1|l/sec|Liter/s"),
    "L/min": ("L/minute", "L/min|l/min|lpm|LPM|L.min-1|ltr/min|Liter/min|liters per minute|l/Min|L2"),
    "L/h": ("L/h", "L/h|l/h|lph|L.h-1|l/hr|L/hr|Liter/h|l/Std|Liter/Stunde|liters per hour"),
}

# Conversions that hold for one property only (standard.md): gases at 20 Cel and 1013.25 hPa, cloud cover in eighths,
# parts per million of a soil's mass, an index that is called one, a power factor in per cent.
FOR_PROPERTY: dict[tuple[str, str], float] = {
    ("[ppb]", "no2"): 1.9125,
    ("[ppb]", "no"): 1.2474,
    ("[ppb]", "o3"): 1.9953,
    ("[ppb]", "so2"): 2.6632,
    ("[ppb]", "co"): 0.0011644,
    ("[ppm]", "no2"): 1912.5,
    ("[ppm]", "no"): 1247.4,
    ("[ppm]", "o3"): 1995.3,
    ("[ppm]", "so2"): 2663.2,
    ("[ppm]", "co"): 1.1644,
    ("[ppm]", "soil_nitrogen"): 1.0,
    ("[ppm]", "soil_phosphorus"): 1.0,
    ("[ppm]", "soil_potassium"): 1.0,
    ("{index}", "uv_index"): 1.0,
    ("{index}", "air_quality_index"): 1.0,
    ("{okta}", "cloud_cover"): 12.5,
    ("%", "electric_power_factor"): 0.01,
    ("[ppth]", "water_salinity"): 1.0,
    ("%", "water_salinity"): 10.0,
    ("kg/m2", "precipitation"): 1.0,
    ("kg/m2", "precipitation_total"): 1.0,
    ("kg/m2/s", "precipitation_rate"): 3600.0,
    ("m{NHN}", "water_level_nhn"): 1.0,
    ("m{NHN}", "groundwater_level"): 1.0,
}

# What UCUM calls plain numbers, by their size: without a property to say what they count, they convert as such.
NUMBERS: dict[str, Fraction] = {
    "{fraction}": Fraction(1),
    "%": Fraction(1, 100),
    "[ppth]": Fraction(1, 1000),
    "[ppm]": Fraction(1, 10**6),
    "[ppb]": Fraction(1, 10**9),
}
