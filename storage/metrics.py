"""Every metric of the write path; the help text says what a rise means. Declared here, counted where it happens."""

from prometheus_client import Counter, Histogram

COMMIT_SECONDS = Histogram(
    "hanse_storage_commit_seconds",
    "Duration of a batch's transaction, committed ones only. A rise: the database is slower or the batches are "
    "larger; beyond 30 s transaction_timeout ends them.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
PHASE_SECONDS = Counter(
    "hanse_storage_phase_seconds_total",
    "Time in the parts of a transaction: begin waits for locks, datastreams for new devices, rows for the hypertable, "
    "replays for dead letters sent again, state for what dialects remember, finish for dead letters and the log. The "
    "part that rises is the one that waits.",
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

for _phase in ("begin", "datastreams", "rows", "replays", "state", "finish"):
    PHASE_SECONDS.labels(_phase)
for _path in ("optimistic", "merge"):
    ROWS.labels(_path)
for _cause in ("retry", "fenced", "refuse", "crash", "cancelled"):
    ROLLBACKS.labels(_cause)
