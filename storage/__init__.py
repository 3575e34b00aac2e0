"""Rows to TimescaleDB: one transaction a batch, exact counts, a ledger. Knows columns, not sensors."""
