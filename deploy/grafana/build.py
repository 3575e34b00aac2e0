"""Writes deploy/grafana/dashboards/*.json: `python deploy/grafana/build.py`. A test says when they are old.

Where a panel lies on the page follows from the order in panels.py.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from grafana.panel import HEIGHT  # noqa: E402  (found by the line above, where this is run as a script)
from grafana.panels import DASHBOARDS  # noqa: E402  (as above)

FOLDER = HERE / "dashboards"
COLUMNS = 24


def dashboard(name: str) -> str:
    """One dashboard's file."""
    title, panels, chosen = DASHBOARDS[name]
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > COLUMNS:
            x, y = 0, y + HEIGHT
        placed.append(panel.json(number, x, y))
        x += panel.width
    made = {
        "uid": f"hanse-{name}",
        "title": title,
        "tags": ["smarte-hanse"],
        "editable": False,
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "timezone": "browser",
        "templating": {"list": [] if chosen is None else [chosen]},
        "links": [{"type": "dashboards", "tags": ["smarte-hanse"], "title": "Smarte Hanse", "asDropdown": True}],
        "panels": placed,
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for each in DASHBOARDS:
        (FOLDER / f"{each}.json").write_text(dashboard(each), encoding="utf-8")
