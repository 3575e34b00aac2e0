"""Programs that run side by side on one machine do not take each other's port."""

import ingest.settings
import processors.settings
import status.settings
import storage.settings

SETTINGS = (ingest.settings.Settings, processors.settings.Settings, status.settings.Settings, storage.settings.Maintain)


def test_every_program_serves_its_metrics_on_a_port_of_its_own_by_default() -> None:
    ports = [one.model_fields["http_address"].default for one in SETTINGS]
    assert len(set(ports)) == len(ports)
