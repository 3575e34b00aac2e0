"""History from files: rows of the standard in CSV or Parquet to batches, each file with a ledger key of its own."""
