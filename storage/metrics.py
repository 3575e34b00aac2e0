"""Every metric of the write path, each with what a rise means. Declared here, counted where it happens."""

from prometheus_client import Counter, Histogram

# A rise means the database is slower or the batches are larger; beyond 30 s transaction_timeout ends them.
COMMIT_SECONDS = Histogram(
    "hanse_storage_commit_seconds",
    "Duration of a batch's transaction, committed ones only; a rise means a slower database or larger batches",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)

# Tells which part of the transaction got slower: begin waits for locks, datastreams for new devices, rows for the
# hypertable, state for what dialects remember, finish for dead letters and the log.
PHASE_SECONDS = Counter(
    "hanse_storage_phase_seconds_total",
    "Time in the parts of a transaction (begin, datastreams, rows, replays, state, finish); what rises is what waits",
    ["phase"],
)

# Merged rows cost about three times as much. A rise of merge against optimistic means late or repeated readings.
ROWS = Counter(
    "hanse_storage_copied_rows_total",
    "Rows written by path: optimistic (straight COPY) or merge (late, repeated or bisected); merge rising costs CPU",
    ["path"],
)

# Each is one batch sent twice: two writers share datastreams, or the memory of newest times is cold.
COLLISIONS = Counter(
    "hanse_storage_collisions_total",
    "Optimistic copies that met an existing key and were merged; a steady rise means batches are sent twice",
)

# A row the database refused although the standard accepted it: someone should look at the rule that let it through.
BISECTIONS = Counter(
    "hanse_storage_bisections_total",
    "Batches searched for the row that the database refuses; a rise means bad rows pass the standard's checks",
)

# retry: locks, restarts, disk. fenced: another owner of the partition. refuse and crash stop the process,
# cancelled is its end.
ROLLBACKS = Counter(
    "hanse_storage_rollbacks_total",
    "Transactions given up by cause (retry, fenced, refuse, crash, cancelled); a rise of retry means trouble outside",
    ["cause"],
)

CONNECTIONS = Counter(
    "hanse_storage_connections_total",
    "Connections made to the database; a rise means they are being lost",
)
