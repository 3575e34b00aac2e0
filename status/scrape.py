"""The pipeline's own metrics, read from its processes as Prometheus would. Blocking; called in a thread."""

import socket
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from service.settings import endpoint

TIMEOUT = 2.0
MOST_BYTES = 4_194_304
AT_ONCE = 16

Labels = frozenset[tuple[str, str]]


@dataclass(slots=True)
class Process:
    """One process as it answered: `samples` by name and labels, or the trouble."""

    address: str
    component: str = ""
    version: str = ""
    trouble: str | None = None
    samples: Mapping[tuple[str, Labels], float] = field(default_factory=dict)

    def by_city(self, name: str) -> dict[str, float]:
        """A metric summed over all labels but the city."""
        found: dict[str, float] = {}
        for (sample, labels), value in self.samples.items():
            city = dict(labels).get("city")
            if sample == name and city is not None:
                found[city] = found.get(city, 0.0) + value
        return found

    def value(self, name: str) -> float | None:
        """A metric without labels."""
        return self.samples.get((name, frozenset()))


def addresses(entry: str) -> list[str]:
    """host:port for every address the host's name has: containers that are scaled share one name."""
    host, port = endpoint(entry)
    try:
        found = socket.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except OSError:
        return [entry]
    places = sorted({str(place[4][0]) for place in found})
    return [entry] if len(places) == 1 else [f"{place}:{port}" for place in places]


def read(address: str) -> Process:
    """Scrape one process; what is wrong with it is part of the answer."""
    process = Process(address)
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=TIMEOUT) as answer:
            text = answer.read(MOST_BYTES).decode("utf-8", "replace")
        process.samples = _samples(text)
    except OSError as error:
        process.trouble = f"does not answer: {getattr(error, 'reason', error)}"
    except ValueError as error:
        process.trouble = f"answers no metrics: {error}"
    for name, labels in process.samples:
        if name == "hanse_build_info":
            told = dict(labels)
            process.component, process.version = told.get("component", ""), told.get("version", "")
    return process


def _samples(text: str) -> dict[tuple[str, Labels], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        if family.name.startswith("hanse_")
        for sample in family.samples
    }


def read_all(entries: Iterable[str]) -> list[Process]:
    """Every process, in order; all at once, so that one that stands still does not make the others old."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [address for several in pool.map(addresses, entries) for address in several]
        return list(pool.map(read, found))
