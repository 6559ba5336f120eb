.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check bench chaos fuzz audit clean

PYTHON ?= python3
BIN := .venv/bin

# pytest compiles its plugins' assertions: where nothing may be kept, each of its workers does so anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: .venv/.ready ## everything into .venv; the command is .venv/bin/panguard

# What running needs; `setup` adds what developing needs. pip shows its progress.
.venv/.running: pyproject.toml constraints.txt
	@test -e .venv/bin/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

demo: .venv/.running ## broker, manager and three guards on this machine, live
	$(BIN)/panguard demo

test: setup ## the tests before a commit; services that are not installed are skipped. With CI=true all tests, and all services must be there
	$(BIN)/pytest -n 6 --dist loadfile --no-loadscope-reorder $(TESTS)

test-all: TESTS = --long
test-all: test ## all tests, also those that are left to CI because they take minutes

# The checker of the console's types; the lock file pins it by version and content. It trusts the system's authorities, as pip does.
node_modules/.ready: package.json package-lock.json .venv/.ready
	NODE_OPTIONS=--use-system-ca $(BIN)/npm ci --no-audit --no-fund --loglevel=error
	@touch $@

check: setup node_modules/.ready ## ruff, mypy --strict, import-linter, the console's types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/node node_modules/typescript/bin/tsc

fuzz: setup ## every decoder on hostile bytes, 15 minutes, and 10,000 histories of the engine; FUZZ="--minutes 60 --only HTTP --seed 7"
	nice -n 19 $(BIN)/python -m tests.fuzz.long_run $(FUZZ)
	PANGUARD_HISTORIES=10000 nice -n 19 $(BIN)/pytest -q tests/property/test_engine_histories.py

chaos: setup ## kills, stops, cuts and damage under load; CHAOS="--kills 200 --minutes 10 --only store --seed 7"
	$(BIN)/python -m chaos $(CHAOS)

bench: setup ## what is measured, beside its own limit
	$(BIN)/python -m benchmarks

audit: setup ## known vulnerabilities of the pinned dependencies; asks PyPI, so it needs the internet
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

clean: ## remove what setup made
	rm -rf .venv node_modules *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
