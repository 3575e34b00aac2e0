"""Every metric of the write path; the help text says what a rise means. Declared here, counted where it happens."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

COMMIT_SECONDS = Histogram(
    "hanse_storage_commit_seconds",
    "Duration of a batch's transaction, committed ones only. A rise: the database is slower or the batches are "
    "larger; beyond 30 s transaction_timeout ends them.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
PHASE_SECONDS = Counter(
    "hanse_storage_phase_seconds_total",
    "Time in the parts of a transaction: begin waits for locks, datastreams for new devices, series for tests over "
    "time (it rises while their states are read, after a start), rows for the hypertable, replays for dead letters "
    "sent again, state for what dialects remember, finish for dead letters and the log. The part that rises is the "
    "one that waits.",
    ["phase"],
)
ROWS = Counter(
    "hanse_storage_copied_rows_total",
    "Rows written, by path: optimistic (straight COPY) or merge (late, repeated or bisected), which costs about three "
    "times as much. A rise of merge: late or repeated readings.",
    ["path"],
)
COLLISIONS = Counter(
    "hanse_storage_collisions_total",
    "Optimistic copies that met an existing key and were merged: the batch was sent twice. A steady rise: two writers "
    "share datastreams.",
)
BISECTIONS = Counter(
    "hanse_storage_bisections_total",
    "Batches searched for the row that the database refuses. A rise: bad rows pass the standard's checks, and someone "
    "should look at the rule that let them through.",
)
ROLLBACKS = Counter(
    "hanse_storage_rollbacks_total",
    "Transactions given up, by cause. retry: locks, restarts, a full disk; fenced: another owner of the partition; "
    "refuse and crash stop the process; cancelled is its end.",
    ["cause"],
)
CONNECTIONS = Counter(
    "hanse_storage_connections_total", "Connections made to the database. A rise: they are being lost."
)

for _phase in ("begin", "datastreams", "series", "rows", "replays", "state", "finish"):
    PHASE_SECONDS.labels(_phase)
for _path in ("optimistic", "merge"):
    ROWS.labels(_path)
for _cause in ("retry", "fenced", "refuse", "crash", "cancelled"):
    ROLLBACKS.labels(_cause)


class Upkeep:
    """Metrics of `hanse-storage maintain`; made by it alone, so that no other process shows a lag of its own."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.active = Gauge(
            "hanse_storage_maintain_active",
            "1 while this process maintains the database, 0 while it waits for another one that does. No 1 anywhere: "
            "nobody keeps hours and retention in order.",
            registry=registry,
        )
        self.lag = Gauge(
            "hanse_storage_rollup_lag_seconds",
            "Age of the newest hour summed up. Over 7200: the refresh fails or can't keep up, and the views compute "
            "more and more themselves.",
            registry=registry,
        )
        self.dirty = Gauge(
            "hanse_storage_rollup_dirty_hours",
            "Logged hours to be summed up again. A lasting rise: more late readings than it can keep up with.",
            registry=registry,
        )
        self.success = Gauge(
            "hanse_storage_maintain_success_timestamp_seconds",
            "When a cycle last ended without a failure, Unix time; 0 before. Standing still: maintenance fails.",
            registry=registry,
        )
        self.failures = Counter(
            "hanse_storage_maintain_failures_total",
            "Steps of a cycle that failed and are tried again (connect, refresh, chunks, retention, …). A rise: the "
            "database is away or someone holds a lock; the log says which.",
            ["step"],
            registry=registry,
        )
        self.done = Counter(
            "hanse_storage_maintain_done_total",
            "What was done: hours summed up, repaired, expired; chunks made, dropped, compressed; letters expired.",
            ["what"],
            registry=registry,
        )
