"""Prometheus with the rules of deploy/prometheus, scraping whatever it is given; fetched only when asked for."""

import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local import fetch
from local.paths import CHECKOUT, give
from local.server import Server

RULES = CHECKOUT / "deploy/prometheus"
RULE_FILES = ("rules.yml", "alerts.yml")
Targets = Mapping[str, str]  # process name, as in `gateway-rostock`, to host:port


def job(name: str) -> str:
    """The job that deploy/prometheus/prometheus.yml scrapes such a process under."""
    return f"hanse-{name.partition('-')[0]}"


class Prometheus(Server):
    """One Prometheus. `interval`: seconds between scrapes and between evaluations; `rules`: the folder of its rules."""

    kind = "prometheus"

    def __init__(
        self, directory: Path, *, targets: Targets, interval: float = 5.0, rules: Path = RULES, **common: Any
    ) -> None:
        super().__init__(directory, **common)
        self._targets = targets
        self._interval = f"{round(interval * 1000)}ms"
        self._rules = rules

    def prepare(self, programs: fetch.Installation) -> list[str | Path]:  # noqa: ARG002  (its program is its own)
        """Write the configuration."""
        return [fetch.prometheus() / "prometheus", *self.configure()]

    def configure(self) -> list[str]:
        """Write prometheus.yml, give the flags; targets are in a file of their own, read again when it changes."""
        self.make_folder(self.directory / "data")
        for name in RULE_FILES:
            give(Path(shutil.copyfile(self._rules / name, self.directory / name)))
        self.aim(self._targets)
        self.write(
            "prometheus.yml",
            json.dumps(  # which is YAML
                {
                    "global": {
                        "scrape_interval": self._interval,
                        "scrape_timeout": self._interval,
                        "evaluation_interval": self._interval,
                    },
                    "rule_files": RULE_FILES,
                    "scrape_configs": [
                        {
                            "job_name": "hanse",
                            "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}],
                            "relabel_configs": [{"source_labels": ["hanse_job"], "target_label": "job"}],
                            "metric_relabel_configs": [{"regex": "hanse_job", "action": "labeldrop"}],
                        }
                    ],
                }
            ),
        )
        return [
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--web.console.templates={self.directory}",
            f"--web.console.libraries={self.directory}",
            "--log.level=warn",
        ]

    def aim(self, targets: Targets) -> None:
        """Scrape these from now on."""
        self._targets = targets
        groups = [
            {"targets": [at], "labels": {"hanse_job": job(name), "process": name}} for name, at in targets.items()
        ]
        draft = self.write("targets.json.draft", json.dumps(groups))
        draft.rename(self.directory / "targets.json")

    def ready(self) -> bool:
        """By its own word."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)  # noqa: PLR2004  (HTTP's OK)
        except OSError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query's vector: [{metric: {label: value}, value: [time, text]}]; HTTPError if it is wrong."""
        return list(self._ask("query", query=expression)["result"])

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """A range query's matrix."""
        return list(self._ask("query_range", query=expression, start=start, end=end, step=step)["result"])

    def alerts(self) -> list[dict[str, Any]]:
        """What fires or is pending: [{labels, annotations, state, activeAt}]."""
        return list(self._ask("alerts")["alerts"])

    def _ask(self, what: str, **parameters: Any) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]
