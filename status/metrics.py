"""What only the database knows, for Prometheus; once for all processors. What is not known now is not said."""

import time
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from status.state import State

FRESH_SECONDS = 120.0


class DatabaseMetrics(Collector):
    """Reads the state at each scrape."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give what is fresh."""
        state = self._state
        up = GaugeMetricFamily("hanse_status_database_up", "1 if hanse-status could read the database lately, else 0.")
        up.add_metric((), float(state.database_trouble is None))
        yield up
        fresh = state.database_read is not None and time.time() - state.database_read < FRESH_SECONDS
        streams = GaugeMetricFamily("hanse_datastreams", "Datastreams of the city.", labels=["city"])
        overdue = GaugeMetricFamily(
            "hanse_datastreams_overdue",
            "Datastreams silent beyond three times their own usual interval (view hanse.overdue). A rise: sensors, a "
            "LoRa gateway or a network of the city are down, though the city is not silent.",
            labels=["city"],
        )
        letters = GaugeMetricFamily(
            "hanse_dead_letters_open",
            "Open dead letters by reason, counted up to 10,000. They stay until purged or replayed.",
            labels=["city", "reason"],
        )
        weight = GaugeMetricFamily(
            "hanse_dead_letters_open_bytes",
            "What the city's open dead letters weigh; beyond limits.dead_letter_bytes the city is paused.",
            labels=["city"],
        )
        if fresh:
            for one in state.streams:
                streams.add_metric((one.city,), one.datastreams)
                overdue.add_metric((one.city,), one.overdue)
            for entry in state.letters:
                letters.add_metric((entry.city, entry.reason), entry.letters)
            for city in state.cities:
                weight.add_metric((city.key,), city.dead_bytes)
        yield from (streams, overdue, letters, weight)
