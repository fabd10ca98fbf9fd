# Everything a person or CI runs. Needs python3.11 and make; the rest comes by `make` itself, once.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TIDEMILL := $(BIN)/tidemill
OFFLINE_DIR := .tidemill-offline
unexport PYTHONDONTWRITEBYTECODE  # what starts hundreds of processes compiles no module in each of them

.DEFAULT_GOAL := help
.PHONY: help demo test check chaos replay bench up down status offline-check fetch lock format clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: fetch ## A year of real flights through the whole loop (ARGS="--headless --until 2013-02-01 --keep --output json")
	$(TIDEMILL) demo $(ARGS)

test: check fetch ## Everything `check` does, then all tests but the long campaigns (ARGS="-k switch")
	$(BIN)/pytest --durations=15 $(ARGS)

check: $(READY) ## Style, types, import rules, and that no registry host or machine path is in the repository
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/traces.py

chaos: fetch ## The long campaign of kills
	$(BIN)/pytest -m chaos $(ARGS)

replay: fetch ## The year twice, once on a single core: the same switches, the same bytes (20 minutes)
	$(BIN)/pytest -m replay $(ARGS)

bench: fetch ## benchmarks/*.py, or one of them (NAME=pipeline)
	@set -e; for file in $(if $(NAME),benchmarks/$(NAME).py,benchmarks/*.py); do echo "== $$file"; $(BIN)/python $$file $(ARGS); done

up: fetch ## Start the stack and the services (ARGS="--detach")
	$(TIDEMILL) up $(ARGS)

down: $(READY) ## End every process of the stack
	$(TIDEMILL) down $(ARGS)

status: $(READY) ## What runs, where, how far behind it is
	$(TIDEMILL) status $(ARGS)

offline-check: fetch ## The demo up to its first switch, in a network namespace with nothing but loopback
	@rm -rf $(OFFLINE_DIR)
	$(BIN)/python .ci/offline.py $(TIDEMILL) demo --headless --until 2013-01-30 --data-dir $(OFFLINE_DIR)
	@rm -rf $(OFFLINE_DIR)

fetch: $(READY) ## Fetch and verify Kafka and the schema registry; nothing needs a network after it
	@$(TIDEMILL) fetch

lock: $(READY) ## Write the lock files anew from pyproject.toml and infra/artifacts
	$(BIN)/uv pip compile pyproject.toml --all-extras --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --quiet --upgrade --output-file requirements.lock
	echo uv | $(BIN)/uv pip compile - --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --quiet --upgrade --output-file requirements-installer.lock
	$(BIN)/python -m tidemill.stack.artifacts

format: $(READY) ## Let ruff put the code in order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove the environment and what tools left; .tidemill stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build $(OFFLINE_DIR)

$(READY): requirements.lock requirements-installer.lock pyproject.toml
	@command -v $(PYTHON) > /dev/null || { echo "Python 3.11 is needed and $(PYTHON) is not here: install it, or make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-installer.lock
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	touch $@
