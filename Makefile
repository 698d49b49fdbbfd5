# One word for each chore; every one makes what it needs. Works on a Debian machine with only
# python3 (3.10 or newer), python3-venv and make.

PYTHON ?= python3
BIN := .venv/bin
CLIENTS := binance_interface python_binance ccxt binance_connector

.PHONY: help run demo test test-fast test-browser screenshots check format bench clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

run: .venv/runtime  ## Serve, with the settings of settings.py and the environment
	$(BIN)/python run.py

demo: .venv/runtime  ## Serve against the built-in sandbox exchange
	$(BIN)/python run.py demo

test: .venv/dev $(CLIENTS:%=.venv-clients/%/ready)  ## Run all tests
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not (slow or alone or browser)"
	$(BIN)/python -m pytest -m "slow or alone or browser"

test-fast: .venv/dev  ## Run the tests that need no process, client library or long time
	$(BIN)/python -m pytest -m "not e2e and not slow and not browser"

test-browser: .venv/dev .venv-clients/binance_interface/ready  ## Run the tests in a browser (chromium)
	$(BIN)/python -m pytest tests/browser

screenshots: .venv/dev  ## Take pictures of all admin pages into tests/browser/screenshots
	$(BIN)/python -m tests.browser.screenshots

check: .venv/dev  ## Lint, format, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_architecture.py

format: .venv/dev  ## Rewrite the code in the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev  ## Measure forwarding against its baselines (see bench/README.md)
	$(BIN)/python bench/forward.py

clean:  ## Remove what was made here (not the data)
	rm -rf .venv .venv-clients .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/runtime: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt
	touch $@

.venv/dev: requirements.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	touch $@ .venv/runtime

# Each client library has its own environment: python-binance and binance-connector both install
# a package called `binance`.
.venv-clients/%/ready: tests/e2e/clients/%.txt
	$(PYTHON) -m venv .venv-clients/$*
	.venv-clients/$*/bin/python -m pip install -q --disable-pip-version-check -r $<
	touch $@
