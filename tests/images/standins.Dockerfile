# Stand-ins for the official images, from Debian's packages, where no image registry can be reached: the same users, paths
# and environment as far as docker-compose.yml uses them. For trying the deployment, never for running it.
FROM standin/debian AS mosquitto
RUN userdel mosquitto && groupadd --gid 1883 mosquitto && useradd --uid 1883 --gid 1883 mosquitto \
 && mkdir -p /mosquitto/config /mosquitto/data /mosquitto/log && chown -R 1883:1883 /mosquitto
VOLUME ["/mosquitto/data", "/mosquitto/log"]
CMD ["/usr/sbin/mosquitto", "-c", "/mosquitto/config/mosquitto.conf"]

FROM standin/debian AS kafka
COPY libs /opt/kafka/libs
RUN useradd --uid 1000 --user-group appuser && mkdir -p /opt/kafka/config /opt/kafka/logs /var/lib/kafka/data \
      /etc/kafka/docker /etc/kafka/secrets /mnt/shared/config \
 && touch /etc/kafka/docker/server.properties /etc/kafka/docker/log4j2.yaml /etc/kafka/docker/tools-log4j2.yaml \
 && printf '%s\n' '#!/bin/bash' 'set -e' 'export CLUSTER_ID=${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}' \
      'said=$(java -cp "/opt/kafka/libs/*" kafka.docker.KafkaDockerWrapper setup --default-configs-dir /etc/kafka/docker'\
' --mounted-configs-dir /mnt/shared/config --final-configs-dir /opt/kafka/config 2>&1) \
  || grep -i "already formatted" <<< "$said" || { echo "$said"; exit 1; }' \
      'exec java $KAFKA_HEAP_OPTS -cp "/opt/kafka/libs/*" kafka.Kafka /opt/kafka/config/server.properties' > /etc/kafka/docker/run \
 && chmod 755 /etc/kafka/docker/run && chown -R appuser:appuser /opt/kafka /var/lib/kafka /etc/kafka /mnt/shared
USER appuser
VOLUME ["/etc/kafka/secrets", "/var/lib/kafka/data", "/mnt/shared/config"]
CMD ["/etc/kafka/docker/run"]

# Debian's TimescaleDB is the Apache edition.
FROM standin/debian AS timescaledb
RUN groupmod --gid 70 postgres && usermod --uid 70 --gid 70 postgres && rm -rf /var/lib/postgresql \
 && mkdir -p /var/lib/postgresql/data /var/run/postgresql && chown -R 70:70 /var/lib/postgresql /var/run/postgresql \
 && printf '%s\n' '#!/bin/bash' 'set -e' 'if [ ! -s "$PGDATA/PG_VERSION" ]; then' \
      '  PASSWORD=${POSTGRES_PASSWORD:-$(cat "$POSTGRES_PASSWORD_FILE")}' \
      '  initdb --username=postgres --pwfile=<(printf "%s\n" "$PASSWORD") --auth-local=trust --auth-host=scram-sha-256' \
      '  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"' \
      '  printf "listen_addresses = '"'*'"'\nshared_preload_libraries = '"'timescaledb'"'\n" >> "$PGDATA/postgresql.conf"' \
      '  pg_ctl start -w -o "$(printf "%q " "${@:2}") -c listen_addresses= -p 5432"' \
      '  [ "${POSTGRES_DB:-postgres}" = postgres ] || psql -U postgres -c "create database \"$POSTGRES_DB\""' \
      '  psql -U postgres "${POSTGRES_DB:-postgres}" -c "create extension if not exists timescaledb"' \
      '  pg_ctl stop -w -m fast' 'fi' 'exec "$@"' > /usr/local/bin/docker-entrypoint.sh \
 && chmod 755 /usr/local/bin/docker-entrypoint.sh
ENV PGDATA=/var/lib/postgresql/data PATH=/usr/lib/postgresql/17/bin:$PATH LANG=C.UTF-8
USER postgres
VOLUME ["/var/lib/postgresql/data"]
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]

FROM standin/debian AS prometheus
RUN mkdir -p /prometheus && chown 65534:65534 /prometheus
USER nobody
VOLUME ["/prometheus"]
ENTRYPOINT ["/usr/bin/prometheus"]

FROM standin/debian AS alertmanager
RUN mkdir -p /alertmanager && chown 65534:65534 /alertmanager
USER nobody
VOLUME ["/alertmanager"]
ENTRYPOINT ["/usr/bin/prometheus-alertmanager"]
