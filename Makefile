# Needs Python 3.11 or newer and make; everything else goes into .venv. `make` alone lists the targets.

# The first interpreter that really runs: version managers leave launchers that exist and fail.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	if $$python -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1; \
	then echo $$python; break; fi; done)

UV_VERSION := 0.13.8
AIRFLOW := 3.3
CONSTRAINTS := constraints/airflow-$(AIRFLOW).txt

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV := $(BIN)/uv

# Airflow starts twice as fast with bytecode.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/pycache
# Certificates as the system has them, as pip takes them: networks that look inside TLS add their own.
export UV_SYSTEM_CERTS := true
# Tools find the environment by these, whatever else is active.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install demo test chaos fuzz witnesses check format bench constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv with the provider, Airflow and the tools

$(UV):
	@test -n "$(PYTHON)" || { echo "No working Python 3.11 or newer found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(INSTALLED): $(UV) pyproject.toml $(CONSTRAINTS)
	$(UV) pip install --quiet --constraint $(CONSTRAINTS) --editable '.[emulator,dev]'
	@touch $@

demo: $(INSTALLED) ## Draw pictures through a whole Airflow; KEEP=1 leaves it running, IMAGEGEN_HOST/_API_KEY/_GATEWAY use a real API
	$(BIN)/python -m tests.stack.demo

test: check ## Everything: check, and all tests with coverage
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov=airflow_provider_imagegen --cov-fail-under=95

chaos: $(INSTALLED) ## Kill workers, triggerers and schedulers at random, then audit the bill; KILLS=200 SEED=1 TASKS=36
	$(BIN)/python -m tests.chaos $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) $(if $(TASKS),--tasks $(TASKS))

fuzz: $(INSTALLED) ## Damage pictures and answers at random until one is not borne; FUZZ_SECONDS=600 CASES=1000000 SEED=1
	$(BIN)/python -m tests.fuzz $(if $(CASES),--cases $(CASES)) $(if $(FUZZ_SECONDS),--seconds $(FUZZ_SECONDS)) $(if $(SEED),--seed $(SEED))

witnesses: $(INSTALLED) ## Tests with software that is not ours, the heavy ones too
	HEAVY_WITNESSES=1 $(BIN)/python -m pytest tests/witnesses

check: $(INSTALLED) ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict airflow_provider_imagegen

format: $(INSTALLED) ## Format the code and fix what the linter can
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Measure import time and memory
	$(BIN)/python -m tests.benchmarks

constraints: $(UV) ## Resolve anew the versions everything is tested with
	echo 'apache-airflow==$(AIRFLOW).*' | $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links \
		--extra emulator --extra dev --output-file $(CONSTRAINTS) pyproject.toml -

clean: ## Remove the environment, caches and outputs
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage demo-output stack-logs dist
