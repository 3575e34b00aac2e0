"""`make up` and `make down`: brokers, Kafka, PostgreSQL and the pipeline as its users start it, in the background.

Each process has the database role that it has in production, as `hanse-storage init` makes them, so that what it may
not do is seen here first. What runs is known from the records in `.servers/run` alone, so that another command ends it;
where it listens is in `.servers/env` and `.servers/stack.json`. A failed or interrupted start ends everything it began.
"""

import contextlib
import json
import shlex
import shutil
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from local import cityfiles, fetch
from local.commands import Commands, all_done
from local.paths import CHECKOUT, HOME, OWNED, account, folder, free_port, locked, store
from local.process import Process, ServerError, recorded, sweep, tail
from local.prometheus import Prometheus
from local.servers import Kafka, Mosquitto, Postgres

CITY_FILES = CHECKOUT / "deploy/cities"
RUN, LOGS, CITIES, STATES = HOME / "run", HOME / "logs", HOME / "cities", HOME / "states"
ENV, STATE, RECORD = HOME / "env", HOME / "stack.json", HOME / "simulator"
DATABASE = "hanse"
MIGRATOR, INGEST, METRICS, READER = "hanse_migrator", "hanse_ingest", "hanse_metrics", "hanse_reader_alliance"
READY_SECONDS = 60.0
Report = Callable[[str], None]


@dataclass
class Endpoints:
    """Where everything listens. `mqtt`: city to port; `metrics`: process name to host:port.

    `dsn` is the address for the role that owns the tables, `reader_dsn` for the alliance's reader.
    """

    dsn: str
    reader_dsn: str
    kafka: str
    cities_dir: str
    mqtt: dict[str, int]
    metrics: dict[str, str] = field(default_factory=dict)
    prometheus: str | None = None

    def environment(self) -> dict[str, str]:
        """What a process of the pipeline, or a person, needs to find the stack."""
        return {
            "HANSE_DATABASE_DSN": self.dsn,
            "HANSE_READER_DSN": self.reader_dsn,
            "HANSE_KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "HANSE_KAFKA_REPLICATION": "1",
            "HANSE_CITIES_DIR": self.cities_dir,
            **{f"HANSE_METRICS_{name.upper().replace('-', '_')}": at for name, at in sorted(self.metrics.items())},
        }


def running() -> Endpoints | None:
    """Where the stack listens if all of it runs; None if any of it does not."""
    processes = recorded(RUN)
    if not STATE.exists() or not processes or not all(one.identity.alive() for one in processes):
        return None
    return Endpoints(**json.loads(STATE.read_text()))


def up(
    *, demo: bool = False, servers_only: bool = False, prometheus: bool = False, report: Report = print
) -> Endpoints:
    """Start everything unless all of it runs; with `demo` the simulator too. LocalError says what failed."""
    with locked("stack"):
        endpoints = running()
        if endpoints is None:
            for one in (one for one in recorded(RUN) if not one.identity.alive()):
                report(f"{one.name} was no longer running; the end of its log ({one.log}):\n{tail(one.log, 5)}")
            _end_all()
            with _Start(report) as start:
                endpoints = start.servers() if servers_only else start.everything()
        else:
            report("It runs already.")
        if prometheus and endpoints.prometheus is None:
            with _Start(report) as start:
                start.prometheus(endpoints)
        if demo and not any(one.name == "simulator" for one in recorded(RUN)):
            with _Start(report) as start:
                start.simulator()
        return endpoints


def down() -> list[str]:
    """End what `up` started, and the servers of test runs that were killed; gives the names of what was ended."""
    with locked("stack"):
        sweep(OWNED)
        return _end_all()


def _end_all() -> list[str]:
    """Whoever writes ends before what it writes to; all of a kind at once."""
    STATE.unlink(missing_ok=True)
    ended = []
    for tier in ("simulator", "prometheus", "status", "gateway-", "processor", "maintain", ""):
        processes = [one for one in recorded(RUN) if one.name.startswith(tier)]
        ended += [one.name for one in processes if one.identity.alive()]
        if processes:
            with ThreadPoolExecutor(len(processes)) as pool:
                list(pool.map(lambda one: one.stop(), processes))
    return ended


class _Start:
    """One start of the stack: a context that ends everything if it is left by an exception."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._pool = ThreadPoolExecutor(24)
        self._commands = Commands()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._commands.__exit__()
        if kind is not None:
            _end_all()  # first what runs, so that threads which wait for it stop waiting …
            self._pool.shutdown(cancel_futures=True)
            _end_all()  # … then what they began meanwhile
        self._pool.shutdown()

    def servers(self) -> Endpoints:
        """Kafka, PostgreSQL with an empty database and the brokers."""
        self._prepare()
        self._report("starting the servers …")
        all_done(
            [
                self._pool.submit(self._database),
                *(self._pool.submit(one.start) for one in (self._kafka, *self._mqtt.values())),
            ]
        )
        return self._done()

    def everything(self) -> Endpoints:
        """The servers, then the pipeline on them; each process as soon as what it needs is there."""
        self._prepare()
        self._report("starting the servers and the pipeline …")
        database = self._pool.submit(self._database, migrate=True)
        kafka = self._pool.submit(self._kafka.start)
        mqtt = {city: self._pool.submit(broker.start) for city, broker in self._mqtt.items()}
        topics = self._pool.submit(self._topics, kafka)
        gateways = [self._pool.submit(self._gateway, city, topics, broker) for city, broker in mqtt.items()]
        all_done([database, topics])
        processor = self._pool.submit(self._pipeline, "processor", "processors", *self._mqtt, role=INGEST)
        maintain = self._pool.submit(self._pipeline, "maintain", "storage", verb="maintain", role=MIGRATOR)
        all_done([*gateways, processor, maintain])
        self._pipeline("status", "status", role=METRICS)
        return self._done()

    def prometheus(self, endpoints: Endpoints) -> None:
        """Prometheus on everything that runs; fetched now if it is not there."""
        self._endpoints = endpoints
        data = folder(store() / "data")
        fetch.prometheus(self._report)
        # Ports change with every start: what an earlier stack's processes said last would count for five minutes more.
        shutil.rmtree(data / "prometheus", ignore_errors=True)
        server = Prometheus(data / "prometheus", targets=endpoints.metrics, run=RUN).start()
        endpoints.prometheus = f"127.0.0.1:{server.port}"
        self._done()

    def simulator(self) -> None:
        """The sensors of all cities, until they are ended."""
        process = self._process("simulator", "simulator", "run", "--cities-dir", str(CITIES), "--record", str(RECORD))
        shutil.rmtree(RECORD, ignore_errors=True)
        process.spawn()
        process.wait_until(lambda: any(RECORD.glob("*")), seconds=READY_SECONDS)
        self._report(f"simulating the cities' sensors; own record in {RECORD}")

    def _prepare(self) -> None:
        """Programs, folders, ports and the city files with these ports in them."""
        fetch.install(self._report)
        if store() != HOME:
            owner = account()
            self._report(f"{HOME} is closed to the user '{owner and owner.name}': programs and data are in {store()}")
        for path in (RUN, LOGS, STATES):
            folder(path)
        sources = {path.stem: path for path in sorted(CITY_FILES.glob("*.toml"))}
        data = folder(store() / "data")
        self._kafka = Kafka(data / "kafka", run=RUN)
        self._postgres = Postgres(data / "postgres", run=RUN)
        self._mqtt = {
            city: Mosquitto(data / f"mosquitto-{city}", name=f"mosquitto-{city}", run=RUN) for city in sources
        }
        self._endpoints = Endpoints(
            dsn=self._postgres.dsn(DATABASE, role=MIGRATOR),
            reader_dsn=self._postgres.dsn(DATABASE, role=READER),
            kafka=self._kafka.bootstrap,
            cities_dir=str(CITIES),
            mqtt={city: broker.port for city, broker in self._mqtt.items()},
        )
        shutil.rmtree(CITIES, ignore_errors=True)  # a city that is gone leaves no file behind
        for city, source in sources.items():
            cityfiles.write(source, CITIES / f"{city}.toml", cityfiles.loopback(self._mqtt[city].port))

    def _done(self) -> Endpoints:
        for one in recorded(RUN):
            if not one.identity.alive():
                raise ServerError(f"{one.name} ended; the end of its log ({one.log}):\n{tail(one.log)}")
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in self._endpoints.environment().items()]
        ENV.write_text("".join(lines))
        STATE.write_text(json.dumps(asdict(self._endpoints)))
        return self._endpoints

    def _database(self, *, migrate: bool = False) -> None:
        self._postgres.start()
        self._postgres.ensure_database(DATABASE)
        folder(self._postgres.passfiles, 0o700)
        cities = [word for city in self._mqtt for word in ("--city", city)]
        init = ["storage", "init", "--passfiles", str(self._postgres.passfiles), *cities]
        superuser = self._postgres.dsn(DATABASE, superuser=True)
        self._once("making the database's roles", *init, HANSE_DATABASE_DSN=superuser)
        if migrate:
            self._once("migrating the database", "storage", "migrate", HANSE_DATABASE_DSN=self._endpoints.dsn)

    def _topics(self, kafka: "Future[Any]") -> None:
        kafka.result()
        files = [str(CITIES / f"{city}.toml") for city in self._mqtt]
        self._once("creating the cities' Kafka topics", "ingest", "create-topic", *files)

    def _gateway(self, city: str, *before: "Future[Any]") -> None:
        all_done(before)
        self._pipeline(f"gateway-{city}", "ingest", city)

    def _pipeline(self, name: str, module: str, *cities: str, verb: str = "run", role: str | None = None) -> None:
        """Start one of the pipeline's processes and wait until it says it is ready; `role`: its database role."""
        address = f"127.0.0.1:{free_port()}"
        files = [str(CITIES / f"{city}.toml") for city in cities]
        told = {"HANSE_PROCESSOR_INSTANCE": name, "HANSE_STATUS_PROCESSES": ",".join(self._endpoints.metrics.values())}
        if role is not None:
            told["HANSE_DATABASE_DSN"] = self._postgres.dsn(DATABASE, role=role)
        process = self._process(name, module, verb, *files, HANSE_HTTP_ADDRESS=address, **told)
        process.spawn()
        process.wait_until(lambda: _answers(f"http://{address}/readyz"), seconds=READY_SECONDS)
        self._endpoints.metrics[name] = address

    def _process(self, name: str, module: str, *arguments: str, **env: str) -> Process:
        known = {} if module == "simulator" else self._environment()
        return Process(
            name=name,
            argv=[sys.executable, "-m", module, *arguments],
            log=LOGS / f"{name}.log",
            record=RUN / f"{name}.json",
            cwd=CHECKOUT,
            env={**known, **env},
        )

    def _environment(self) -> dict[str, str]:
        """Without the database: who needs it is told his own role's address."""
        known = {name: value for name, value in self._endpoints.environment().items() if not name.endswith("_DSN")}
        return {**known, "HANSE_GATEWAY_STATE_DIR": str(STATES)}

    def _once(self, what: str, module: str, *arguments: str, **env: str) -> None:
        argv = [sys.executable, "-m", module, *arguments]
        self._commands.run(argv, what=what, cwd=CHECKOUT, env={**self._environment(), **env})


def _answers(url: str) -> bool:
    """Whether a GET gives 200."""
    try:
        with contextlib.closing(urllib.request.urlopen(url, timeout=2)) as answer:  # noqa: S310  (our own http address)
            return bool(answer.status == 200)  # noqa: PLR2004  (HTTP's OK)
    except OSError:
        return False
