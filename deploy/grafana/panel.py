"""One panel of a dashboard: a title, its queries and a sentence on what it shows."""

from dataclasses import dataclass
from typing import Any

HEIGHT = 8
PROMETHEUS = {"type": "prometheus", "uid": "prometheus"}
TIMESCALE = {"type": "postgres", "uid": "timescaledb"}


@dataclass(frozen=True)
class Panel:
    """`queries`: (expression, legend) of Prometheus, or (SQL, "time_series" | "table") of TimescaleDB."""

    title: str
    about: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    sql: bool = False
    bad_above: float | None = None  # from here on red
    may_be_empty: bool = False  # no answer is good news, or needs a fault first

    def json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """The panel as Grafana takes it."""
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        if self.bad_above is not None:
            steps.append({"color": "red", "value": self.bad_above})
        made: dict[str, Any] = {
            "id": number,
            "title": self.title,
            "description": self.about,
            "type": self.kind,
            "datasource": TIMESCALE if self.sql else PROMETHEUS,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": HEIGHT},
            "targets": [self._target(place, *query) for place, query in enumerate(self.queries)],
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "thresholds": {"mode": "absolute", "steps": steps},
                    **({"custom": {"showPoints": "never"}} if self.kind == "timeseries" else {}),
                },
                "overrides": [],
            },
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if self.kind == "timeseries" else {},
        }
        if self.kind == "table" and not self.sql:
            made["transformations"] = [{"id": "labelsToFields", "options": {}}, {"id": "merge", "options": {}}]
        return made

    def _target(self, place: int, query: str, how: str) -> dict[str, Any]:
        ref = chr(ord("A") + place)
        if self.sql:
            return {"refId": ref, "datasource": TIMESCALE, "rawSql": query, "format": how, "rawQuery": True}
        instant = self.kind in {"stat", "table", "bargauge"}
        return {
            "refId": ref,
            "datasource": PROMETHEUS,
            "expr": query,
            "legendFormat": how,
            "instant": instant,
            "range": not instant,
            **({"format": "table"} if self.kind == "table" else {}),
        }
