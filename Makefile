# What a developer runs; CI calls the same targets (.ci/run). Needs Python, make and a package index.

PYTHON ?= python3
ARGS ?=
EXAMPLES ?= 10000

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --quiet --disable-pip-version-check --no-compile
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-all test-failed test-lowest test-mixed test-python fuzz chaos soak bench lint types package site lock clean
.DELETE_ON_ERROR:
.NOTPARALLEL: # everything shares one .venv
unexport PYTHONDONTWRITEBYTECODE # else each process would compile all that it imports

help: ## Show this list
	@echo "usage: make TARGET [ARGS='…'] [PYTHON=python3.13]"
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' Makefile

setup: $(DEV) ## Make .venv, with everything that developing takes, from the hashed locks
	@echo "$(VENV) is ready"

demo: $(RUNTIME) ## Deliver a handful of jobs to a stand-in of ChartMogul, all on this machine
	@$(BIN)/courier demo $(ARGS)

up: $(RUNTIME) ## Run an embedded Redis and a worker in this terminal, until Ctrl-C
	@$(BIN)/courier up $(ARGS)

test: $(DEV) ## Run the tests but the long ones, or some: make test ARGS=tests/unit
	@$(BIN)/pytest --numprocesses 4 --dist worksteal -m 'not long' $(ARGS)

test-all: $(DEV) ## Run all the tests, as CI does
	@$(BIN)/pytest --numprocesses 4 --dist worksteal $(ARGS)

# A machine that stands still for seconds fails a test that waits for something. More than three that
# fail are no accident.
test-failed: $(DEV) ## Run once more, one by one, the tests that failed last (three at most)
	@$(BIN)/python -c 'import json, sys; \
		failed = json.load(open(".pytest_cache/v/cache/lastfailed")); \
		print("failed beside others, now alone:", *failed, sep="\n  "); sys.exit(len(failed) > 3)'
	@$(BIN)/pytest --last-failed --last-failed-no-failures none

# What touches the libraries whose versions a host application chooses: the promises, the tour, the
# schema, connections and the public API; on the lowest versions brokers, hosts and commands, too.
# In a .venv of its own each.
BOUNDS := tests/tour tests/integration/test_promises.py tests/unit/test_connections.py \
	tests/unit/test_sender.py tests/unit/test_turns.py tests/unit/test_notifier.py \
	tests/unit/test_schema.py tests/unit/test_public.py tests/unit/test_chartmogul.py
LOWEST := $(BOUNDS) tests/integration/test_broker.py tests/integration/test_rabbitmq.py \
	tests/integration/test_install.py tests/unit/test_cli.py \
	tests/integration/test_failover.py::test_all_connections_fall_silent

test-lowest: build/lowest/.installed ## Run the promises' tests on the lowest versions of everything
	@build/lowest/bin/pytest --numprocesses 4 --dist worksteal $(LOWEST) $(ARGS)

test-mixed: build/mixed/.installed ## Run them on the lowest Celery beside the newest of all else
	@build/mixed/bin/pytest --numprocesses 4 --dist worksteal -m 'not long' $(BOUNDS) $(ARGS)

# Both locks, since some requirements come as source only, which the first one's setuptools builds.
test-python: ## Run them on another Python: make test-python PYTHON=python3.13
	@$(PYTHON) -m venv --clear build/python
	@build/python/bin/python $(PIP_INSTALL) --require-hashes --requirement requirements.txt
	@build/python/bin/python $(PIP_INSTALL) --require-hashes --no-build-isolation \
		--requirement requirements-dev.txt
	@build/python/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@build/python/bin/pytest --numprocesses 4 --dist worksteal -m 'not long' $(BOUNDS) \
		tests/integration/test_install.py $(ARGS)

build/%/.installed: requirements-%.txt pyproject.toml
	@echo "Installing $< into build/$*"
	@$(PYTHON) -m venv --clear build/$*
	@build/$*/bin/python $(PIP_INSTALL) --require-hashes --requirement $<
	@build/$*/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# Of the tests that try random inputs, `make test` runs a quick share.
fuzz: $(DEV) ## Try 10,000 random inputs of each kind; EXAMPLES=500 for fewer
	@FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -m fuzz --timeout 7200 --numprocesses 2 $(ARGS)

chaos: $(DEV) ## Try to break the promises for a minute; ARGS='--seconds 600 --seed 7' for longer
	@$(BIN)/python -m tests.chaos $(ARGS)

soak: $(DEV) ## Work steadily for an hour, and see that nothing grows; ARGS='--minutes 10' for less
	@$(BIN)/python -m tests.soak $(ARGS)

bench: $(DEV) ## Compare with Celery, dramatiq and taskiq, in half an hour; ARGS=--quick in five minutes
	@$(BIN)/python -m benchmarks $(ARGS)

lint: $(DEV) ## Check style, format and the import rule
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@cd typings && ../$(BIN)/lint-imports --config ../pyproject.toml

types: $(DEV) ## Check the types
	@$(BIN)/mypy

package: build/package/.installed ## Build the distributions into build/dist, and check what they hold and tell
	@rm -rf build/dist
	@build/package/bin/python -m build --no-isolation --outdir build/dist . > build/package.log 2>&1 \
		|| { cat build/package.log; exit 1; }
	@build/package/bin/twine check --strict build/dist/*
	@build/package/bin/check-wheel-contents build/dist/*.whl
	@build/package/bin/pyroma --min=10 build/dist/*.tar.gz
	@for pins in tests/unit/fixtures/pins/*.txt; do echo "Beside $$pins:"; \
		build/package/bin/python $(PIP_INSTALL) --dry-run --ignore-installed --constraint $$pins \
			"$$(echo build/dist/*.whl)[flower,xlsx]" || exit 1; echo "  installs"; done

# The tool stays out of .venv, which holds what the locks name and nothing else. All locks but those
# of old versions are held to the first one's versions, so that they describe one resolution.
LOCK_BIN := build/lock/bin
COMPILE := $(LOCK_BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make lock"
PRODUCTION := --extra flower --extra outbox --extra xlsx
EXTRAS := $(PRODUCTION) --extra sandbox
HELD := --constraint requirements-dev.txt --group build

site: build/docs/.installed ## Build the site of the documentation into build/site
	@NO_MKDOCS_2_WARNING=1 build/docs/bin/mkdocs build --clean

lock: ## Resolve the locks again; ARGS=--upgrade takes the newest versions
	@test -x $(LOCK_BIN)/uv || { $(PYTHON) -m venv --clear build/lock \
		&& $(LOCK_BIN)/python $(PIP_INSTALL) uv; }
	@$(COMPILE) $(ARGS) $(EXTRAS) --group dev --output-file requirements-dev.txt pyproject.toml
	@$(COMPILE) $(ARGS) $(EXTRAS) $(HELD) --output-file requirements.txt pyproject.toml
	@$(COMPILE) $(ARGS) $(PRODUCTION) $(HELD) --output-file requirements-production.txt pyproject.toml
	@$(COMPILE) $(ARGS) --group package --constraint requirements-dev.txt \
		--output-file requirements-package.txt pyproject.toml
	@$(COMPILE) $(ARGS) --group docs --constraint requirements-dev.txt \
		--output-file requirements-docs.txt pyproject.toml
	@rm -f requirements-lowest.txt  # its pins would be kept, and a lower bound with them
	@$(COMPILE) $(ARGS) $(EXTRAS) --group test --resolution lowest-direct \
		--output-file requirements-lowest.txt pyproject.toml
	@sed -n '/^\(celery\|kombu\)==/s/ .*//p' requirements-lowest.txt > build/lock/mixed.txt
	@$(COMPILE) $(ARGS) $(EXTRAS) --group test --constraint build/lock/mixed.txt \
		--output-file requirements-mixed.txt pyproject.toml

clean: ## Remove what was made here, but not .courier, which may hold jobs
	@rm -rf $(VENV) .demo build dist *.egg-info .coverage \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make set-up run once, and again when a lock changes. .place holds where .venv was made:
# in a checkout that was moved or copied, .venv would run the code of the old place.
ifneq "$(shell test -x $(BIN)/python && cat $(VENV)/.place 2>/dev/null)" "$(CURDIR)"
.PHONY: $(VENV)/.place
endif

$(VENV)/.place:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed, but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)" >&2; \
		echo "Name another one: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@printf '%s\n' "$(CURDIR)" > $@

$(RUNTIME): requirements.txt pyproject.toml $(VENV)/.place
	@echo "Installing requirements.txt into $(VENV)"
	@$(BIN)/python $(PIP_INSTALL) --require-hashes --requirement requirements.txt
	@$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# Some requirements come as source only: setuptools of the runtime's lock builds them.
$(DEV): requirements-dev.txt $(RUNTIME)
	@echo "Installing requirements-dev.txt into $(VENV)"
	@$(BIN)/python $(PIP_INSTALL) --require-hashes --no-build-isolation --requirement requirements-dev.txt
	@touch $@
