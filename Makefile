# `make help` lists what there is. Everything installs into .venv/ of this checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_WORKERS ?= 4

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos model fuzz lint types contracts check format bench bench-setup bench-rivals \
	bench-reading bench-inbox bench-report lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install Pombo and its tools into .venv/ (then .venv/bin/pombo is the command)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Pombo needs Python 3.11 or newer; PYTHON=python3.12 make ... names another one.") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV)/ (once; about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## Start everything, send a campaign to 10,000 sandbox contacts (ONCE=1: end by itself)
	@$(BIN)/pombo demo $(if $(ONCE),--once)

test: setup ## Run all tests (some four minutes on two cores, nothing needs to be installed or running)
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder

chaos: setup ## Kill, stop, cut off and disturb everything while sending (20 minutes; POMBO_SEED chooses the moments)
	@POMBO_CHAOS=long $(BIN)/python -m pytest tests/chaos
	@POMBO_STOPS=20 $(BIN)/python -m pytest tests/e2e/test_stop_and_start.py

model: setup ## Live through 10,000 histories of the lease and send protocol (about ten minutes)
	@POMBO_MODEL_RUNS=10000 $(BIN)/python -m pytest -n $(PYTEST_WORKERS) tests/unit/test_protocol_model.py

fuzz: setup ## Ten minutes of spoilt webhooks for the parser and what follows it
	@$(BIN)/python -m tests.fuzz.webhooks 600

lint: setup ## Check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup ## Check types
	@$(BIN)/mypy

contracts: setup ## Check which package may import which
	@$(BIN)/lint-imports

check: lint types contracts test ## Everything that .ci/run checks

format: setup ## Format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: setup ## Measure Pombo: rate against the ceiling, many channels, replies, reading ahead, real time (some 8 minutes)
	@$(BIN)/python -m bench sending
	@$(BIN)/python -m bench steady
	@$(BIN)/python -m bench reply
	@$(BIN)/python -m bench reading
	@$(BIN)/python -m bench realtime

bench-setup: setup ## Install what the bench needs: nginx, wrk, redis-server (as root), the rivals from npm and pip
	@$(BIN)/python -m bench setup

bench-rivals: setup ## Measure Pombo and four rivals in turn on the same work (some 40 minutes)
	@$(BIN)/python -m bench rivals

bench-reading: setup ## Measure reading ahead up to 10,000,000 waiting rows, and under a snapshot of ten minutes (20 minutes)
	@$(BIN)/python -m bench reading --rows 10000 100000 1000000 10000000 --snapshot-s 600

bench-inbox: setup ## Measure lists, search and threads of the inbox with 10,000,000 messages
	@$(BIN)/python -m bench inbox

bench-report: setup ## Put the last results into docs/benchmarks.md
	@$(BIN)/python -m bench report

lock: setup ## Resolve constraints.txt anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--group dev pyproject.toml -o constraints.txt

clean: ## Remove what was built and the embedded database's data
	@rm -rf $(VENV) .pombo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
