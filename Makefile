# One word for each chore; every one makes what it needs. Works on a Debian machine with only
# python3 (3.10 or newer), python3-venv and make.

PYTHON ?= python3
BIN := .venv/bin
# Compiled code is kept apart, and kept: hundreds of processes are started by the tests.
export PYTHONPYCACHEPREFIX ?= $(CURDIR)/.pytest_cache/bytecode
unexport PYTHONDONTWRITEBYTECODE
CLIENTS := binance_interface python_binance ccxt binance_connector binance_futures_connector binance_sdk unicorn_binance
# Heavy ones, or of another language: `make test` leaves their tests out where they are not made.
MORE_CLIENTS := freqtrade node_binance

.PHONY: help run demo test clients more-clients test-fast test-browser screenshots check format bench docs docs-tables docs-check package deps clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

run: .venv/runtime  ## Serve, with the settings of settings.py and the environment
	$(BIN)/python run.py

demo: .venv/runtime  ## Serve against the built-in sandbox exchange
	$(BIN)/python run.py demo

# Each part runs whatever becomes of the others, but not after Ctrl+C (2). What fails is told at once and tried a
# second time with the machine to itself: tests that judge moments share it with three others before. A fault
# fails again, at the first test.
SKIPPED := .venv/skipped
# The many that only compute go on in the background at the lowest priority: they take what those leave that wait for
# something and judge moments, and keep none of them waiting. More run at once than there are cores, as most of them
# wait at any moment. What makes a machine of its own comes last: Linux weighs its processes by themselves, whatever
# their niceness (sched(7), autogroup).
MANY := .venv/many.log
test: .venv/dev $(CLIENTS:%=.venv-clients/%/ready)  ## Run all tests
	@rm -f $(SKIPPED); failed=0; nice=; \
	again() { \
		echo "what failed, alone:"; \
		$$nice $(BIN)/python -m pytest "$$@" -n 0 -x --last-failed --last-failed-no-failures none || failed=$$?; \
	}; \
	once() { \
		echo "$(BIN)/python -m pytest $$*"; \
		SKIPPED_TO=$(SKIPPED) $$nice $(BIN)/python -m pytest "$$@" && return; \
		code=$$?; [ $$code -eq 1 ] || exit $$code; return 1; \
	}; \
	part() { once "$$@" -o cache_dir=.pytest_cache/$$name || again "$$@" -o cache_dir=.pytest_cache/$$name; }; \
	(nice="nice -n 19" name=many TEST_PORTS=10000; export TEST_PORTS; \
		part -n 4 --dist loadfile -m "not (alone or waits or machine)"; exit $$failed) >$(MANY) 2>&1 & \
	many=$$!; \
	trap "pkill -P $$many || :" EXIT; \
	name=waits; part tests/component/truth tests/component/accounts tests/component/nodes -n 12 --dist load -m "waits"; \
	name=alone; part tests/component tests/e2e -n 2 --dist loadfile --no-loadscope-reorder -m alone; \
	name=machine; part tests/e2e/test_container.py tests/e2e/test_install.py -m machine; \
	wait $$many || failed=$$?; trap - EXIT; cat $(MANY); \
	$(BIN)/python -m tests.support.wanting $(SKIPPED); exit $$failed

clients: $(CLIENTS:%=.venv-clients/%/ready)  ## Make the environments of the client libraries

more-clients: $(MORE_CLIENTS:%=.venv-clients/%/ready)  ## Make those of freqtrade (600 MB, Python 3.11) and of node's binance

test-fast: .venv/dev  ## Run the tests that need no process, client library or long time
	$(BIN)/python -m pytest -m "not e2e and not slow and not browser and not waits"

test-browser: .venv/dev .venv-clients/binance_interface/ready  ## Run the tests in a browser (chromium)
	$(BIN)/python -m pytest tests/browser

screenshots: .venv/dev  ## Take pictures of all admin pages into tests/browser/screenshots
	$(BIN)/python -m tests.browser.screenshots

check: .venv/dev  ## Lint, format, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_architecture.py

# Without the advertisement for another program, which MkDocs Material prints into every build.
docs: export NO_MKDOCS_2_WARNING := 1
docs: .venv/docs  ## Build the documentation into site/; needs no network
	$(BIN)/mkdocs build --quiet --strict

docs-tables: .venv/dev  ## Write the tables of docs/ that repeat the program
	$(BIN)/python -m tools.docs_tables

docs-check: docs  ## Check the documentation: tables current, links, both languages, the built site
	$(BIN)/python -m tools.docs_tables --check
	$(BIN)/python -m tools.docs_site site
	$(BIN)/python -m pytest -q tests/unit/test_docs.py tests/unit/test_docs_tools.py

package: .venv/dev  ## Build the source archive and the wheel into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

deps:  ## Install the Debian packages the tests need: browser, database servers, proxies
	.ci/deps

format: .venv/dev  ## Rewrite the code in the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev  ## Measure forwarding against its baselines (see bench/README.md)
	$(BIN)/python bench/forward.py

clean:  ## Remove what was made here (not the data)
	rm -rf .venv .venv-clients dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis

# A virtual environment, made anew where it is broken: half-made, without pip, of an old Python.
GOOD = import sys, pip; sys.exit(sys.version_info < (3, 10))
define venv
@if ! $(1)/bin/python -c '$(GOOD)' 2>/dev/null; then \
	$(PYTHON) -c '' 2>/dev/null || { \
		echo "There is no $(PYTHON) here: apt-get install python3 python3-venv, or name another one: make PYTHON=python3.12" >&2; exit 2; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Binance Resender needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name a newer one: make PYTHON=python3.12" >&2; exit 2; }; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make a virtual environment: apt-get install python3-venv, then try again." >&2; exit 2; }; \
	if [ -e $(1) ]; then echo "$(1) is broken and is made anew." >&2; fi; \
	rm -rf $(1); \
	$(PYTHON) -m venv $(1) && $(1)/bin/python -c '$(GOOD)' || { \
		rm -rf $(1); echo "$(1) could not be made. Is python3-venv there (apt-get install python3-venv), and room on the disk?" >&2; exit 2; }; \
fi
endef
# Byte code is made when it is needed: of most modules here it never is.
install = -m pip install -q --disable-pip-version-check --no-compile -r
# The last word of pip about a network that is not there is of a version it cannot find.
FAILED = { echo "The packages were not installed: pip's lines above tell why. Where they speak of no version or of retries, there is no network, or a proxy is wanted (HTTPS_PROXY)." >&2; exit 2; }

# Looked at each time, so that a broken .venv is noticed; what is there already is not done again.
.PHONY: ALWAYS
# Its byte code is made here: the user of the service may not write there, and would compile all of it at each start.
.venv/runtime: ALWAYS
	$(call venv,.venv)
	@[ $@ -nt requirements.txt ] || { { $(BIN)/python $(install) requirements.txt || $(FAILED); } && touch $@; }
	@env -u PYTHONPYCACHEPREFIX $(BIN)/python -c 'import resender.cli.main, resender.cli.serve'

.venv/dev: ALWAYS
	$(call venv,.venv)
	@{ [ $@ -nt requirements.txt ] && [ $@ -nt requirements-dev.txt ]; } || { \
		{ $(BIN)/python $(install) requirements-dev.txt || $(FAILED); } && touch $@ .venv/runtime; }

.venv/docs: .venv/dev requirements-docs.txt
	@[ $@ -nt requirements-docs.txt ] || { $(BIN)/python $(install) requirements-docs.txt && touch $@; }

# Each client library has its own environment: python-binance and binance-connector both install
# a package called `binance`.
.venv-clients/%/ready: tests/e2e/clients/%.txt
	$(call venv,.venv-clients/$*)
	.venv-clients/$*/bin/python $(install) $<
	touch $@

# npm's lock file names the host of a registry, so there is none.
.venv-clients/node_%/ready: tests/e2e/clients/node_%.json
	@command -v node >/dev/null && command -v npm >/dev/null || { \
		echo "There is no node or no npm here: apt-get install nodejs npm" >&2; exit 2; }
	rm -rf .venv-clients/node_$*
	mkdir -p .venv-clients/node_$*
	cp $< .venv-clients/node_$*/package.json
	npm install --prefix .venv-clients/node_$* --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@
