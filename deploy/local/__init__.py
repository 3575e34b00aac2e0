"""The real servers without containers: PostgreSQL with TimescaleDB, Mosquitto and Kafka, unprivileged, on loopback.

`fetch` brings the programs into `.servers/`, `servers` starts and ends them one by one (the tests' fixtures use it
directly), `stack` runs all of them with the whole pipeline for `make up`. Nothing here is part of the pipeline, and
nothing of the host is changed but, for root, one user without rights (PostgreSQL refuses to run as root).
"""
