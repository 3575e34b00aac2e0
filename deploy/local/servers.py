"""The servers, each started, ended, killed and started again on its own port and data."""

from local.kafka import Kafka
from local.mosquitto import Mosquitto
from local.postgres import Postgres
from local.prometheus import Prometheus
from local.server import Server

__all__ = ["Kafka", "Mosquitto", "Postgres", "Prometheus", "Server"]
