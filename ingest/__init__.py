"""MQTT to Kafka, for one city: a message is acknowledged to its broker only once Kafka has it.

Knows nothing of what a payload means, and nothing of tables.
"""
