"""In which time zone a device's clock is, where its times don't say so: the city file's word, by device. Pure."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

_REMEMBERED = 65_536  # devices; their names come from messages


class Zones:
    """IANA zones of clocks. `own`: (shell pattern on the device id, zone), the first match; else the `usual` one."""

    __slots__ = ("_own", "_remembered", "usual")

    def __init__(self, usual: str = "Europe/Berlin", own: Sequence[tuple[str, str]] = ()) -> None:
        self.usual = usual
        self._own = tuple(own)
        self._remembered = lru_cache(_REMEMBERED)(self._find)

    def of(self, device: str) -> str:
        """The zone of a device's clock."""
        return self._remembered(device) if self._own else self.usual

    def same(self, one: str, other: str) -> bool:
        """Whether the clocks of two devices are in one zone."""
        return not self._own or self.of(one) == self.of(other)

    def _find(self, device: str) -> str:
        return next((zone for match, zone in self._own if fnmatchcase(device, match)), self.usual)


BERLIN = Zones()
UTC = Zones("UTC")
