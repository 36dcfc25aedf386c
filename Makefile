# `make help` lists what there is. Everything installs into .venv/ of this checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos lint types contracts check format bench lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

test: setup ## Run all tests (about two minutes, nothing needs to be installed or running)
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile

chaos: setup ## Stop and start at 20 moments while sending (several minutes; POMBO_SEED chooses the moments)
	@POMBO_STOPS=20 $(BIN)/python -m pytest tests/e2e/test_stop_and_start.py

lint: setup ## Check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup ## Check types
	@$(BIN)/mypy

contracts: setup ## Check which package may import which
	@$(BIN)/lint-imports

check: lint types contracts test ## Everything that .ci/run checks

format: setup ## Format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: setup ## Measure messages/s and CPU per message against the ceiling (about 3 minutes; needs wrk and nginx)
	@$(BIN)/python -m bench

lock: setup ## Resolve constraints.txt anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--group dev pyproject.toml -o constraints.txt

clean: ## Remove what was built and the embedded database's data
	@rm -rf $(VENV) .pombo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
