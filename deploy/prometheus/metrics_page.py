"""Writes docs/metrics.md from the code: `python deploy/prometheus/metrics_page.py`. A test says when it is old."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs/metrics.md"

# What an operator asks first, each one query. The tests put every one of them to a real Prometheus.
QUESTIONS = (
    ("Is anything lost?", "city:hanse_loss:count1d > 0", "No answer: nothing. `where` says at which place to look."),
    (
        "Is anyone silent?",
        "hanse_gateway_silent == 1 or hanse_gateway_connected == 0",
        "Value 1: connected without messages; 0: the city's broker is away.",
    ),
    (
        "How old is the newest row of each city, in seconds?",
        "time() - max by (city) (hanse_processor_newest_row_timestamp_seconds)",
        "A city without an answer has stored nothing since the processors started.",
    ),
    (
        "What is rejected, and why (a minute)?",
        "60 * sum by (city, reason) (rate(hanse_processor_rejections_total[5m])) > 0",
        "`hanse-processor explain` says of a topic and payload what is wrong with it.",
    ),
    (
        "What is the bottleneck now?",
        "topk(1, stage:hanse_saturation:ratio)",
        "From 0, idle, to 1, at its limit or away. Without the topk: all four stages.",
    ),
    ("How far behind is each city, in seconds?", "max by (city) (hanse_processor_lag_seconds)", ""),
    (
        "Which sensors' networks are down though their city is not?",
        "hanse_datastreams_overdue / (hanse_datastreams > 0)",
        "Which sensors: `select * from hanse.overdue`.",
    ),
    ("Which versions run?", "count by (component, version) (hanse_build_info)", ""),
)

HEAD = """# Metrics

<!-- Made by deploy/prometheus/metrics_page.py from the code; change the help texts there and run it again. -->

Every process serves `/metrics` at HANSE_HTTP_ADDRESS. Names follow Prometheus' guide: base units in the name, `_total`
for counters. Labels are bounded (city, reason, outcome, …), never a device. Counters of a city exist from the start, at
0, so `increase()` sees the first event; a gauge that is not known is NaN or absent, and never a comforting 0.

Alerts: [runbook.md](runbook.md). Rules: [rules.yml](../deploy/prometheus/rules.yml),
[alerts.yml](../deploy/prometheus/alerts.yml). Dashboards: [deploy/grafana](../deploy/grafana).

## What one asks first

"""


class Metric(NamedTuple):
    """A metric as it is declared."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def declared(names: Mapping[str, object]) -> Iterator[Metric]:
    """The metrics among what a module or an object has, in its order."""
    for value in names.values():
        if isinstance(value, MetricWrapperBase):
            kind = value._type  # noqa: SLF001  (the library tells it nowhere else)
            name = value._name + "_total" * (kind == "counter")  # noqa: SLF001  (as above)
            yield Metric(name, kind, tuple(value._labelnames), value._documentation)  # noqa: SLF001  (as above)


def _families(collector: object) -> Iterator[Metric]:
    for family in collector.collect():  # type: ignore[attr-defined]  # a collector's one method
        yield Metric(family.name, family.type, tuple(getattr(family, "_labelnames", ())), family.documentation)


def metrics() -> dict[str, list[Metric]]:
    """All metrics of ours, by the process that serves them."""
    import ingest.metrics  # noqa: PLC0415  (the script is read by tests that need no metrics)
    import processors.metrics  # noqa: PLC0415
    import service.build  # noqa: PLC0415
    import status.metrics  # noqa: PLC0415
    import storage.metrics  # noqa: PLC0415
    from status.state import State  # noqa: PLC0415

    by_column = CollectorRegistry()
    processors.metrics.latency(by_column)
    processors.metrics.clock_skew(by_column, ["city"])
    upkeep = storage.metrics.Upkeep(CollectorRegistry())
    return {
        "Every process": list(declared(vars(service.build))),
        "Gateway (`hanse-gateway`)": list(declared(vars(ingest.metrics))),
        "Processor (`hanse-processor`)": [*declared(vars(processors.metrics)), *_families(by_column)],
        "Processor, write path": list(declared(vars(storage.metrics))),
        "Maintenance (`hanse-storage maintain`)": list(declared(vars(upkeep))),
        "Status (`hanse-status`)": list(_families(status.metrics.DatabaseMetrics(State()))),
    }


def page() -> str:
    """docs/metrics.md."""
    parts = [HEAD]
    for question, query, note in QUESTIONS:
        parts.append(f"**{question}** {note}".rstrip() + f"\n\n    {query}\n\n")
    for process, found in metrics().items():
        parts.append(f"## {process}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
        parts += [f"| `{m.name}` | {m.kind} | {', '.join(m.labels)} | {m.text} |\n" for m in found]
        parts.append("\n")
    parts.append(
        "Python's own metrics (`process_cpu_seconds_total`, `process_resident_memory_bytes`, `python_gc_*`, …) come "
        "with every process.\n"
    )
    return "".join(parts)


if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT))
    PAGE.write_text(page(), encoding="utf-8")
