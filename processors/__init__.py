"""Kafka to TimescaleDB: raw messages to the shared standard to rows. Knows both edges."""
