"""Which version runs, as every process tells it to Prometheus."""

from importlib.metadata import version

from prometheus_client import Gauge

DISTRIBUTION = "hanse-sensor-pipeline"

BUILD = Gauge(
    "hanse_build_info", "Always 1; the labels say which component of which version runs.", ("component", "version")
)


def announce(component: str) -> str:
    """Tell the version, once a process, whose only component this is; return it for the log."""
    found = version(DISTRIBUTION)
    BUILD.labels(component, found).set(1)
    return found
