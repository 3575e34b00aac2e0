"""How a Baltic city's day looks to its sensors: functions of time (seconds since the epoch), seeded and pure.

Plausible, not meteorology: seasons, days, fronts that pass within days, commuters, the seiche of a sea without tides.
Every curve returns its property's canonical unit.
"""

import math
from random import Random

HOUR = 3_600.0
DAY = 24 * HOUR
YEAR = 365.2422 * DAY
LATITUDE = math.radians(54)
UTC_OFFSET = HOUR  # people live by the clock of Central Europe
COUNTERS_BEGIN = 1_704_067_200.0  # 2024-01-01: meters were installed at zero


def _wave(t: float, period: float, phase: float) -> float:
    return math.sin(2 * math.pi * (t / period + phase))


def _hour(t: float) -> float:
    return (t + UTC_OFFSET) % DAY / HOUR


def _bump(hour: float, centre: float, width: float) -> float:
    distance = (hour - centre + 12) % 24 - 12
    return math.exp(-((distance / width) ** 2))


def _is_weekend(t: float) -> bool:
    return int((t + UTC_OFFSET) // DAY + 3) % 7 >= 5  # noqa: PLR2004  (Saturday, with Monday as 0)


class City:
    """One city's weather and habits. Sensors of the same city see the same sky."""

    def __init__(self, random: Random) -> None:
        self._phase = [random.random() for _ in range(8)]
        self._warmth = random.uniform(-1, 1)

    def temperature(self, t: float) -> float:
        """Air temperature in Cel: coldest in February and before sunrise."""
        season = -math.cos(2 * math.pi * ((t / YEAR) % 1 - 0.08))
        day = _bump(_hour(t), 15, 6) - 0.5
        front = _wave(t, 5.3 * DAY, self._phase[0]) + 0.4 * _wave(t, 1.7 * DAY, self._phase[1])
        return 9 + self._warmth + 8.5 * season + (3 + 2 * season) * day + 2.5 * front

    def humidity(self, t: float) -> float:
        """Relative humidity in %: dry in the afternoon."""
        return min(99.0, max(30.0, 82 - 18 * _bump(_hour(t), 15, 5) + 9 * _wave(t, 3.1 * DAY, self._phase[2])))

    def pressure(self, t: float) -> float:
        """Station pressure in hPa."""
        return 1012 + 13 * _wave(t, 5.3 * DAY, self._phase[3]) + 4 * _wave(t, 2.2 * DAY, self._phase[4])

    def wind(self, t: float) -> float:
        """Mean wind speed in m/s."""
        return max(0.3, 5.5 + 3 * _wave(t, 2.9 * DAY, self._phase[5]) + 1.2 * _bump(_hour(t), 14, 5))

    def wind_from(self, t: float) -> float:
        """Direction in deg, mostly west."""
        return (250 + 70 * _wave(t, 3.7 * DAY, self._phase[6]) + 15 * _wave(t, 2 * HOUR, self._phase[1])) % 360

    def sun(self, t: float) -> float:
        """Sine of the sun's elevation at the coast, 0 at night."""
        declination = math.radians(-23.44) * math.cos(2 * math.pi * ((t / YEAR) % 1 + 10 / 365))
        angle = 2 * math.pi * ((t + 0.8 * HOUR) % DAY / DAY - 0.5)
        sine = math.sin(LATITUDE) * math.sin(declination)
        return max(0.0, sine + math.cos(LATITUDE) * math.cos(declination) * math.cos(angle))

    def irradiance(self, t: float) -> float:
        """Global irradiance in W/m2, under clouds that come and go."""
        return 990 * self.sun(t) * (0.6 + 0.4 * _wave(t, 0.7 * HOUR, self._phase[7]))

    def rain(self, t: float) -> float:
        """Rain in mm/h: showers while the pressure is low."""
        shower = _wave(t, 5 * HOUR, self._phase[2]) - 0.7 + (1005 - self.pressure(t)) / 40
        return max(0.0, 6 * shower)

    def seiche(self, t: float) -> float:
        """Sea level against its mean in m: wind set-up and the 27-hour seiche of the western Baltic."""
        setup = 0.03 * (self.wind(t) - 5) * _wave(t, 3.7 * DAY, self._phase[6])
        return setup + 0.11 * _wave(t, 27.4 * HOUR, self._phase[3]) + 0.04 * _wave(t, 3.1 * HOUR, self._phase[4])

    def water_temperature(self, t: float) -> float:
        """Water temperature in Cel: the season six weeks late."""
        return 10.5 - 8 * math.cos(2 * math.pi * ((t / YEAR) % 1 - 0.14)) + 0.3 * _wave(t, DAY, 0.6)

    def load(self, t: float) -> float:
        """Electric load of a household quarter against its mean, with a morning and an evening peak."""
        hour = _hour(t)
        return 0.55 + 0.5 * _bump(hour, 7.5, 2) + 0.95 * _bump(hour, 19, 3) + 0.25 * _bump(hour, 13, 3)

    def traffic(self, t: float) -> float:
        """Vehicles an hour and lane."""
        hour = _hour(t)
        if _is_weekend(t):
            return 40 + 380 * _bump(hour, 14, 5)
        return 40 + 820 * _bump(hour, 7.6, 1.4) + 900 * _bump(hour, 16.7, 2) + 330 * _bump(hour, 12, 3.5)


def counted(t: float, per_hour: float, swing: float = 0.6) -> float:
    """A meter's counter: grows by `per_hour`, faster by day than by night, and never falls."""
    since = t - COUNTERS_BEGIN
    return per_hour / HOUR * (since - swing * DAY / (2 * math.pi) * math.sin(2 * math.pi * (t / DAY)))
