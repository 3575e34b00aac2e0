"""Every alert has what the person on call needs, and speaks of metrics that exist."""

import re
from pathlib import Path

import pytest
from prometheus.metrics_page import QUESTIONS, metrics

CHECKOUT = Path(__file__).parents[3]
PROMETHEUS = CHECKOUT / "deploy/prometheus"
RUNBOOK = (CHECKOUT / "docs/runbook.md").read_text("utf-8")
FIELDS = "expr|for|labels|annotations|severity|summary|description|runbook_url"
PARTS = ("What it means", "How to look", "What to do", "When it is over")


def rules(name):
    """The rules of a file, read line by line: each begins with `- alert:` or `- record:`, its fields follow."""
    found = []
    for line in (PROMETHEUS / name).read_text("utf-8").splitlines():
        if begun := re.match(r" +- (alert|record): (\S+)$", line):
            found.append({begun[1]: begun[2], "expr": ""})
            continue
        field = re.match(rf" +({FIELDS}): *(.*)$", line)
        if found and field and not line.startswith(" " * 12):
            found[-1][field[1]] = "" if field[2] == ">-" else field[2].strip("'")
        elif found and field and line.startswith(" " * 10) and "annotations" in found[-1]:
            found[-1][field[1]] = field[2].strip("'")
        elif found and not line.lstrip().startswith("#"):
            found[-1]["expr"] += " " + line.strip()
    return found


ALERTS = rules("alerts.yml")
RECORDED = rules("rules.yml")
KNOWN = {metric.name for found in metrics().values() for metric in found}


def section(alert):
    found = re.search(rf"^### {alert}\n(.*?)(?=^##|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert found, f"docs/runbook.md has no section {alert}"
    return found[1]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_leads_to_what_to_do(alert):
    assert alert["severity"] in {"critical", "warning"}
    assert all(len(alert[text]) > 15 for text in ("expr", "summary", "description"))
    assert alert["runbook_url"].endswith(f"/docs/runbook.md#{alert['alert'].lower()}")
    told = section(alert["alert"])
    assert [part for part in PARTS if f"**{part}.**" in told] == list(PARTS)


def test_the_runbook_has_no_section_for_an_alert_that_is_gone():
    assert re.findall(r"^### (Hanse\w+)$", RUNBOOK, re.MULTILINE) == [alert["alert"] for alert in ALERTS]


@pytest.mark.parametrize(
    "expression",
    [rule["expr"] for rule in [*ALERTS, *RECORDED]] + [query for _, query, _ in QUESTIONS],
)
def test_an_expression_speaks_of_metrics_that_exist(expression):
    recorded = {rule["record"] for rule in RECORDED}
    for name in re.findall(r"\b(?:\w+:)?hanse_\w+(?::\w+)?", expression):
        base = re.sub(r"_(sum|count|bucket)$", "", name)
        assert name in KNOWN | recorded or base in KNOWN


def test_every_alert_has_its_unit_test():
    tested = re.findall(r"^  - name: (Hanse\w+)$", (PROMETHEUS / "tests/alerts.test.yml").read_text(), re.MULTILINE)
    assert [alert["alert"] for alert in ALERTS] == tested
