"""Tests over time, by property: when a reading is suspect beside those before it. A table of published figures.

A property stands here only where a figure is published for it; a city's file may say otherwise for its devices. The
figures are upper ones: a squall or a shower must pass, or extreme weather would be left out of every mean.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

WMO = "WMO"
MADIS = "MADIS"
EUROGOOS = "EuroGOOS"
ESTEVEZ = "Estévez"

SOURCES = {
    WMO: "I. Zahumenský, Guidelines on Quality Control Procedures for Data from Automatic Weather Stations, WMO "
    "CBS/OPAG-IOS/ET AWS-3/Doc. 4(1), 2004: greatest variability of one-minute values",
    MADIS: "NOAA MADIS, Meteorological Surface Quality Control Checks, "
    "https://madis.ncep.noaa.gov/madis_sfc_qc_notes.shtml: greatest change in one hour (35 °F, that is 19.44 K, "
    "50 %, and 10 mb of the altimeter setting)",
    EUROGOOS: "EuroGOOS DATA-MEQ, Recommendations for in-situ data Near Real Time Quality Control, 2010, "
    "https://doi.org/10.13155/36230: spike test near the surface",
    ESTEVEZ: "J. Estévez, P. Gavilán, J. V. Giráldez, Guidelines on validation procedures for meteorological data from "
    "automatic weather stations, J. Hydrol. 402, 2011, https://doi.org/10.1016/j.jhydrol.2011.02.031: four equal "
    "hourly values; the WMO's guideline asks for 0.1 °C within one hour already",
}


class Step(NamedTuple):
    """A difference in the property's unit, and the seconds within which it is too large."""

    difference: float
    seconds: int
    source: str


class Consistency(NamedTuple):
    """The tests of a property. `spike`: a difference; `flat`: seconds; each with its source."""

    spike: tuple[float, str] | None = None
    rate: tuple[Step, ...] = ()  # at most two
    flat: tuple[int, str] | None = None


_PRESSURE = Consistency(rate=(Step(2.0, 60, WMO), Step(10.0, 3600, MADIS)))

CONSISTENCY: Mapping[str, Consistency] = MappingProxyType(
    {
        "air_temperature": Consistency(rate=(Step(3.0, 60, WMO), Step(19.5, 3600, MADIS)), flat=(3 * 3600, ESTEVEZ)),
        "relative_humidity": Consistency(rate=(Step(15.0, 60, WMO), Step(50.0, 3600, MADIS))),
        "air_pressure": _PRESSURE,
        "air_pressure_sea_level": _PRESSURE,
        "wind_speed": Consistency(rate=(Step(20.0, 60, WMO),)),
        "solar_irradiance": Consistency(rate=(Step(800.0, 60, WMO),)),
        "water_temperature": Consistency(spike=(6.0, EUROGOOS)),
    }
)
