"""The dashboards are as build.py makes them; that their queries answer is shown on the real servers."""

import json
import re

import pytest
from grafana.build import DASHBOARDS, FOLDER, dashboard
from prometheus.metrics_page import metrics

KNOWN = {metric.name for found in metrics().values() for metric in found}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_as_it_is_built(name):
    told = (FOLDER / f"{name}.json").read_text("utf-8")
    assert told == dashboard(name), "old; run: python deploy/grafana/build.py"


def test_there_is_no_other_dashboard():
    assert {path.stem for path in FOLDER.iterdir()} == set(DASHBOARDS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap_and_name_a_provisioned_datasource(name):
    taken = set()
    for panel in json.loads(dashboard(name))["panels"]:
        place = panel["gridPos"]
        cells = {(x, place["y"]) for x in range(place["x"], place["x"] + place["w"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        provisioned = (FOLDER.parent / "provisioning/datasources/hanse.yml").read_text()
        assert f"uid: {panel['datasource']['uid']}\n" in provisioned


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_query_of_prometheus_speaks_of_metrics_that_exist(name):
    for panel in DASHBOARDS[name][1]:
        for query, _ in () if panel.sql else panel.queries:
            for metric in re.findall(r"(?<![:\w])hanse_\w+", query):
                assert re.sub(r"_(sum|count|bucket)$", "", metric) in KNOWN
