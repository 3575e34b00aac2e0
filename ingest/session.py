"""Which filters the MQTT session in the broker is subscribed to, remembered across processes in one small file.

Optional: without a directory for it (HANSE_GATEWAY_STATE_DIR) a new process subscribes anew, which brings every
retained message again, and filters taken out of the city file stay subscribed. Losing the file costs the same.
"""

import json
from pathlib import Path

import structlog

from ingest.city import City

log = structlog.get_logger()


class SessionState:
    """The remembered filters of one city's session."""

    def __init__(self, directory: Path | None, city: City) -> None:
        self._file = None if directory is None else directory / f"{city.key}.session.json"
        self._client_id = city.client_id

    def filters(self) -> tuple[str, ...]:
        """Filters an earlier process subscribed to under this client id, as far as known."""
        if self._file is None:
            return ()
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
            return tuple(str(text) for text in known["filters"]) if known["client_id"] == self._client_id else ()
        except (OSError, ValueError, KeyError, TypeError):
            return ()

    def remember(self, filters: tuple[str, ...]) -> None:
        """Write them down, whole or not at all."""
        if self._file is None:
            return
        draft = self._file.with_suffix(".draft")
        try:
            draft.write_text(json.dumps({"client_id": self._client_id, "filters": filters}), encoding="utf-8")
            draft.replace(self._file)
        except OSError as error:
            log.warning("HANSE_GATEWAY_STATE_DIR can't be written", why=error.strerror)
