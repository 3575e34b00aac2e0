"""A Kafka and a database in memory, for the pipeline's unit tests and state machine.

tests/contract holds the store to the real writer: same batches, same answers.
"""
