# `make test` and `make demo` need python3 (3.10 or newer) with pip, and nothing else: they make their own environment.
#   make test ARGS="-k offsets -x"       passes arguments to pytest
#   make test-sqlite                     one database only (sqlite, postgresql, mariadb)
#   make test TESTS=tests/store          part of the suite
#   make test WORKERS=0                  in one process, for a debugger; by default one process per core (SQLite: and one more)
#   make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
TESTS  ?= tests
WORKERS ?= auto
ARGS   ?=

# What no database can change: these run once, beside SQLite.
PLAIN_TESTS := tests/events tests/packaging tests/test_docs.py tests/test_public_api.py tests/test_ways.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help test test-sqlite test-postgresql test-mariadb demo demo-brokers serve lint format types contracts migrations docs \
        bench wheel ci clean

help:
	@echo "make test        the whole suite, once per database; what cannot be reached is skipped and named"
	@echo "make demo        a shop, a worker, beat and a second service: follow events through all of them"
	@echo "make demo-brokers  some of its events to RabbitMQ, Kafka, NATS and Redis, those that answer here"
	@echo "make serve       the demo, left running; prints the admin's login"
	@echo "make lint        ruff: rules and format        make format      apply both"
	@echo "make types       mypy, strict                  make contracts   the direction of imports"
	@echo "make migrations  models and migrations agree   make docs        build the documentation"
	@echo "make bench       the figures of docs/performance.md"
	@echo "make wheel       sdist and wheel into dist/    make ci          all of it, as CI does"

# --- environments: a stamp per set of packages, renewed when the metadata changes --------------------------------------

# Debian ships venv without ensurepip unless python3-venv is installed; pip can then be put in from outside.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "$(PYTHON) is not there, or older than Python 3.10; name another one by PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
	  || { rm -rf $(VENV); $(PYTHON) -m venv --without-pip $(VENV) \
	       && $(PYTHON) -m pip --disable-pip-version-check --quiet --python $(BIN)/python install pip; } \
	  || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment; it needs pip, or the package python3-venv"; exit 1; }

$(VENV)/.installed: pyproject.toml setup.cfg | $(BIN)/python
	$(PIP) install -e .
	@touch $@

$(VENV)/.installed-brokers: pyproject.toml setup.cfg | $(BIN)/python
	$(PIP) install -e '.[kafka,nats,redis]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-test: pyproject.toml setup.cfg | $(BIN)/python
	$(PIP) install -e '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-lint: pyproject.toml setup.cfg | $(BIN)/python
	$(PIP) install -e '.[test,lint]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

$(VENV)/.installed-docs: pyproject.toml setup.cfg | $(BIN)/python
	$(PIP) install -e '.[docs]'
	@touch $@ $(VENV)/.installed

# The driver has no wheels for Linux. Where it cannot be compiled the stamp stays away, so that the next run tries again.
$(VENV)/.installed-mysql: pyproject.toml | $(VENV)/.installed-test
	@if $(PIP) install -e '.[mysql]' >$(VENV)/mysqlclient.log 2>&1; then touch $@; else \
	  echo "mysqlclient, the driver for MariaDB, could not be built (needs libmariadb-dev, pkg-config, a C compiler;" \
	       "see $(VENV)/mysqlclient.log)"; fi

# --- tests ------------------------------------------------------------------------------------------------------------

# All three, also when the first is red; red when any is.
test: $(VENV)/.installed-mysql
	@$(MAKE) --no-print-directory --keep-going test-sqlite test-postgresql test-mariadb

# Also beside SQLite: the tests of private servers run there.
test-sqlite: $(VENV)/.installed-mysql
	@echo "== tests on sqlite"
	EVENTSTORE_TEST_DATABASE=sqlite $(BIN)/python -X dev -m pytest -n $(WORKERS) $(TESTS) $(ARGS)

test-mariadb: $(VENV)/.installed-mysql

# A check that itself breaks is never a skip.
test-postgresql test-mariadb: test-%: $(VENV)/.installed-test
	@echo "== tests on $*"
	@if reason=$$($(BIN)/python -m tests.servers check $* 2>&1); then \
	  set -x; EVENTSTORE_TEST_DATABASE=$* $(BIN)/python -X dev -m pytest -n $(WORKERS) $(TESTS) $(PLAIN_TESTS:%=--ignore=%) $(ARGS); \
	else \
	  case "$$reason" in *Traceback*) broken=1;; *) broken="$$CI";; esac; \
	  if [ -n "$$broken" ]; then echo "FAILED tests on $*: $$reason"; exit 1; fi; \
	  echo "SKIPPED tests on $*: $$reason"; \
	fi

bench: $(VENV)/.installed-test $(VENV)/.installed-mysql
	$(BIN)/python -m tests.benchmarks $(ARGS)

# --- the example ------------------------------------------------------------------------------------------------------

demo: $(VENV)/.installed
	@$(BIN)/python example_project/demo.py $(ARGS)

demo-brokers: $(VENV)/.installed-brokers
	@$(BIN)/python example_project/brokers.py

serve: $(VENV)/.installed
	@$(BIN)/python example_project/demo.py --serve $(ARGS)

# --- what CI also asks ------------------------------------------------------------------------------------------------

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# tests/typing holds calls of the public names: read by mypy, never run.
types: $(VENV)/.installed-lint
	$(BIN)/python -m mypy django_eventstore $(wildcard tests/typing)

contracts: $(VENV)/.installed-lint
	$(BIN)/lint-imports

migrations: $(VENV)/.installed-test
	EVENTSTORE_TEST_DATABASE=sqlite DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python -m django makemigrations --check --dry-run

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html

wheel: $(VENV)/.installed-test
	$(BIN)/python -m build

ci:
	@.ci/run

clean:
	rm -rf build dist docs/_build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
