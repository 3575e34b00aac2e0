# The commands of the README. Everything runs from .venv; the real servers run from .servers.
SHELL := /bin/bash
PY := .venv/bin/python
SECONDS ?= 0
DEMO ?=
PROMETHEUS ?=
WORKLOADS ?= S1,S100
WORKERS ?= 3
IMAGE ?= hanse-sensor-pipeline:0.1.0
export PYTHONPATH := deploy

.PHONY: up down demo test test-long check bench standard-report requirements image sbom clean

.venv/ready: requirements/dev.txt pyproject.toml
	python3 -m venv .venv
	.venv/bin/pip install --quiet --require-hashes -r requirements/dev.txt
	.venv/bin/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

up: .venv/ready  ## start servers and pipeline in the background (DEMO=1: the simulator too, PROMETHEUS=1: Prometheus too)
	$(PY) -m local up $(if $(DEMO),--demo) $(if $(PROMETHEUS),--prometheus)

down: .venv/ready  ## stop everything that `up` started
	$(PY) -m local down

demo: .venv/ready  ## the seven cities live in the terminal (SECONDS=60: stop by itself and prove the count)
	@$(PY) -m local demo --seconds $(SECONDS)

test: .venv/ready  ## everything but the long runs
	$(PY) -m pytest -m "not long" -n $(WORKERS) --dist loadfile

test-long: .venv/ready  ## the runs that take minutes
	$(PY) -m pytest -m long --timeout 3600

check: .venv/ready  ## what CI runs
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(MAKE) test

bench: .venv/ready  ## rates, CPU a message, latency (WORKLOADS=S1,S100); writes build/bench/latest.json
	$(PY) -m tests.bench --workloads $(WORKLOADS)

standard-report: .venv/ready  ## how much of the standard dialects, profiles and spellings reach
	$(PY) -m processors.report

requirements: .venv/ready  ## pin pyproject.toml's dependencies again, with hashes and no index address
	.venv/bin/pip install --quiet uv
	.venv/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --upgrade --quiet --custom-compile-command "make requirements" -o requirements/runtime.txt
	.venv/bin/uv pip compile pyproject.toml --group dev --group local --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --upgrade --quiet --custom-compile-command "make requirements" -o requirements/dev.txt
	.venv/bin/uv pip compile --group image --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --upgrade --quiet --custom-compile-command "make requirements" -o requirements/image.txt

image:  ## the container image that docker-compose.yml runs (HANSE_IMAGE_PYTHON: on another base)
	docker build $(if $(HANSE_IMAGE_PYTHON),--build-arg BASE=$(HANSE_IMAGE_PYTHON)) --tag $(IMAGE) .

sbom:  ## what is in that image (CycloneDX), into build/
	@mkdir -p build
	docker run --rm --network none $(IMAGE) cat /opt/hanse/share/sbom.cdx.json > build/sbom.cdx.json

clean: down  ## forget the servers' data and everything built
	rm -rf .servers build
