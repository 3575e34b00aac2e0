# One image for every command of the pipeline: hanse-gateway, hanse-processor, hanse-storage, hanse-status and
# hanse-simulator. Nothing of a compiler, of pip or of the tests is in it, and it writes nowhere but to /tmp and to volumes.
#
#   docker build --tag hanse-sensor-pipeline:0.1.0 .
ARG BASE=python:3.11.15-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/image.txt requirements/runtime.txt /src/requirements/
RUN python3 -m venv /opt/tools \
 && /opt/tools/bin/pip install --quiet --require-hashes --only-binary :all: -r /src/requirements/image.txt \
 && python3 -m venv --without-pip /opt/hanse \
 && /opt/tools/bin/pip --python /opt/hanse/bin/python install --quiet --no-compile --require-hashes --only-binary :all: \
      -r /src/requirements/runtime.txt \
 && find /opt/hanse -type d -name tests -prune -exec rm -r {} +
COPY LICENSE README.md pyproject.toml /src/
COPY service /src/service
COPY ingest /src/ingest
COPY processors /src/processors
COPY status /src/status
COPY storage /src/storage
COPY simulator /src/simulator
COPY deploy/profiles /src/deploy/profiles
# The list of parts is made of what is installed, not of what was asked for.
RUN /opt/tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels /src \
 && /opt/tools/bin/pip --python /opt/hanse/bin/python install --quiet --no-compile --no-deps --no-index /wheels/*.whl \
 && install -D -m 644 /src/LICENSE /opt/hanse/share/LICENSE \
 && /opt/tools/bin/cyclonedx-py environment --pyproject /src/pyproject.toml --output-reproducible \
      --output-file /opt/hanse/share/sbom.cdx.json /opt/hanse/bin/python \
 && /opt/hanse/bin/python -m compileall -q /opt/hanse/lib

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="hanse-sensor-pipeline" \
      org.opencontainers.image.description="MQTT to Kafka to TimescaleDB for the sensor networks of a city alliance" \
      org.opencontainers.image.licenses="EUPL-1.2" \
      org.opencontainers.image.vendor="Smarte Hanse" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/hanse /opt/hanse
COPY deploy/containers/healthy /opt/hanse/bin/hanse-healthy
# Volumes take their owner from here; docker-compose.yml runs each kind of process under a number of its own.
RUN groupadd --gid 10001 hanse \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin hanse \
 && install -d -o 10001 -g 10001 /var/lib/hanse/gateway \
 && install -d -o 10005 -g 10005 /var/lib/hanse/simulator
ENV PATH=/opt/hanse/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
# A turning loop is healthy; docker-compose.yml asks for /readyz, which also wants what is outside.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 CMD ["hanse-healthy"]
CMD ["hanse-processor", "--help"]
