# Requires Python 3.11 or newer and make. Everything else is installed into .venv. `make` without a target lists the targets.

# The first interpreter that runs: version managers install launchers that exist but fail.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	if $$python -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1; \
	then echo $$python; break; fi; done)

UV_VERSION := 0.13.8
AIRFLOW := 3.3
CONSTRAINTS := constraints/$(if $(filter lowest,$(AIRFLOW)),lowest,airflow-$(AIRFLOW)).txt
# Older Airflow releases are tested with the dependencies of their time, because later ones break Airflow itself.
# The exceptions are packages that Airflow does not depend on and that did not exist yet.
EXCEPTIONS := $(foreach package,genai-prices httpx2 httpcore2,--exclude-newer-package $(package)=2026-11-20)
EXCLUDE_NEWER_3.1 := --exclude-newer 2026-04-06 $(EXCEPTIONS)
EXCLUDE_NEWER_3.2 := --exclude-newer 2026-07-05 $(EXCEPTIONS)
EXCLUDE_NEWER_lowest := --exclude-newer 2026-04-06 $(EXCEPTIONS) \
	--exclude-newer-package apache-airflow-providers-common-compat=2026-02-03

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DISTRIBUTED := $(VENV)/.distributed
UV := $(BIN)/uv

# With cached bytecode Airflow starts twice as fast.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/pycache
# Use the system's certificates, as pip does: networks with TLS inspection add their own.
export UV_SYSTEM_CERTS := true
# Tools find the environment by these variables, also if another one is active.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install demo unit test test-all distributed matrix chaos hostile fuzz peers check lint formatted types format docs wheel bench constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Create .venv with the provider, Airflow and the development tools

$(UV):
	@test -n "$(PYTHON)" || { echo "No working Python 3.11 or newer found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(INSTALLED): $(UV) pyproject.toml $(CONSTRAINTS)
	$(UV) pip install --quiet --constraint $(CONSTRAINTS) --editable '.[emulator,dev,docs]'
	@touch $@

# Celery and Redis, which only the tests of a distributed Airflow need; for the newest Airflow, as the docs extra is.
$(DISTRIBUTED): $(INSTALLED)
	$(UV) pip install --quiet --constraint $(CONSTRAINTS) --editable '.[distributed]'
	@touch $@

demo: $(INSTALLED) ## Generate images with a complete Airflow; KEEP=1 keeps it running, IMAGEGEN_HOST/_API_KEY/_GATEWAY select a real API
	$(BIN)/python -m tests.stack.demo

# Two processes per core, because tests with servers are idle some of the time.
JOBS := $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder --durations=25
COVERED := --cov=airflow_provider_imagegen --cov-fail-under=95

unit: $(INSTALLED) ## Run the tests that need no server, in seconds
	$(BIN)/python -m pytest -q -n 2 tests/unit

test: browser ## Run all checks and the tests, with coverage
	@$(MAKE) --jobs=2 check tested

test-all: browser ## Run all checks and all test cases: every crash point, spelling and browser test, long property-based tests
	@$(MAKE) --jobs=2 check tested FULL=--full

distributed: $(DISTRIBUTED) ## Run the tests with the CeleryExecutor: Redis, two workers, triggerers and schedulers; workers are stopped and killed
	$(BIN)/python -m pytest --full --durations=10 tests/distributed

.PHONY: tested
tested: $(INSTALLED)
	$(PYTEST) $(COVERED) $(FULL)

matrix: $(INSTALLED) ## Run the tests on every Airflow and Python version, and on the lowest versions; AIRFLOWS="3.1 lowest" PYTHONS="3.12" TESTS=tests/unit
	$(BIN)/python -m tests.matrix $(if $(AIRFLOWS),--airflows $(AIRFLOWS)) $(if $(PYTHONS),--pythons $(PYTHONS)) $(if $(TESTS),--tests $(TESTS))

.PHONY: browser screenshots
browser: $(INSTALLED) ## Find or install Chromium for the gallery tests and screenshots
	$(BIN)/python -m tests.stack.browser

screenshots: $(INSTALLED) ## Take the screenshots of docs/ui.md again
	$(BIN)/python -m tests.gallery.screenshots

chaos: $(INSTALLED) ## Kill workers, triggerers and schedulers at random, then check that every image was billed once; KILLS=200 SEED=1 TASKS=36 LIMIT=6
	$(BIN)/python -m tests.chaos $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) $(if $(TASKS),--tasks $(TASKS)) $(if $(LIMIT),--limit $(LIMIT))

hostile: $(INSTALLED) ## Have a hostile gateway attack a whole Airflow, and measure what others notice; MINUTES=10 SEED=1 CASES=41
	$(BIN)/python -m tests.chaos.hostile $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(CASES),--cases $(CASES))

fuzz: $(INSTALLED) ## Damage images, responses and what is stored until a parser crashes; FUZZ_SECONDS=600 CASES=1000000 SEED=1 TARGETS="stream ledger"
	$(BIN)/python -m tests.fuzz $(if $(CASES),--cases $(CASES)) $(if $(FUZZ_SECONDS),--seconds $(FUZZ_SECONDS)) $(if $(SEED),--seed $(SEED)) \
		$(addprefix --target ,$(TARGETS))

peers: $(INSTALLED) ## Run the tests with third-party software, including the slow ones
	HEAVY_PEERS=1 $(BIN)/python -m pytest tests/peers

check: lint formatted types ## Check lint rules, import layers, formatting and types

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

formatted: $(INSTALLED)
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy --strict airflow_provider_imagegen tests/typing

format: $(INSTALLED) ## Format the code and apply the linter's fixes
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## Build the documentation into docs/_build, with warnings as errors
	$(BIN)/python -m sphinx -W --keep-going -n -q -E -b html docs docs/_build

bench: $(INSTALLED) ## Run the benchmarks: imports, landing, ledger, emulator, waiting tasks, batches, end to end; NAMES="whole-job" selects one
	$(BIN)/python -m tests.benchmarks $(NAMES)

wheel: $(INSTALLED) ## Build wheel and sdist into dist/, check them, and test the wheel in a separate environment
	rm -rf dist
	$(BIN)/python -m build --installer uv --outdir dist
	IMAGEGEN_DIST=dist $(BIN)/python -m pytest -p no:randomly tests/packaging

RESOLVE := $(UV) pip compile --quiet --python-version 3.11 --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
	$(if $(filter lowest,$(AIRFLOW)),,--universal)

# Resolve the provider's dependencies first, then the tools, which may be newer and keep these versions if possible.
constraints: $(UV) ## Resolve the pinned versions for the tests again; AIRFLOW=3.1, 3.2, 3.3 or lowest
	$(if $(filter lowest,$(AIRFLOW)),$(BIN)/python -m tests.matrix.lowest,echo 'apache-airflow==$(AIRFLOW).*') | $(RESOLVE) --upgrade \
		$(if $(filter lowest,$(AIRFLOW)),--resolution lowest-direct) $(EXCLUDE_NEWER_$(AIRFLOW)) \
		--extra emulator --extra openlineage --output-file $(CONSTRAINTS) pyproject.toml -
	$(RESOLVE) --extra emulator --extra dev $(if $(EXCLUDE_NEWER_$(AIRFLOW)),,--extra docs --extra distributed) --output-file $(CONSTRAINTS) pyproject.toml

clean: ## Remove the environment, caches and outputs
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage demo-output stack-logs dist docs/_build
