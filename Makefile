# Every command sets up what it needs: a fresh machine needs `make` and Python 3.10 or newer.
SHELL := /bin/bash
PY := .venv/bin/python
RUN := .venv/.run-$(shell cksum < requirements.txt | cut -d' ' -f1)
DEV := .venv/.dev-$(shell cat requirements.txt requirements-dev.txt | cksum | cut -d' ' -f1)
PIP := $(PY) -m pip install --quiet --disable-pip-version-check

.PHONY: help run test test-all fix check bench chaos sizes
help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1  /p' Makefile | column -t -s '  '

run: $(RUN)  ## start it all: Redis, web, worker, scheduler, and a sample job
	@$(PY) -m jiffy.devrun

test: $(DEV)  ## all tests but the slow ones, in under 3 minutes
	@$(PY) -m pytest -q -n auto -m "not slow"

test-all: $(DEV)  ## all tests
	@$(PY) -m pytest -q -n auto

fix: $(DEV)  ## put code into shape
	@$(PY) -m ruff check -q --fix . ; $(PY) -m ruff format -q .

check: $(DEV)  ## format, lint, types, unit tests: under 20 s
	@$(PY) -m ruff format --check -q . && $(PY) -m ruff check -q .
	@$(PY) -m mypy
	@$(PY) -m pytest -q tests/unit

sizes: $(DEV)  ## lines per file of the engine, against its budget
	@wc -l enqueue.py scheduler.py dashboard.py worker.py jiffy/*.py jiffy/*/*.py | sort -n

# The first Python of the versions that everything here has wheels for.
.venv/bin/python:
	@bin/venv

$(RUN): .venv/bin/python requirements.txt
	@echo "Installing requirements.txt ..."
	@$(PIP) -r requirements.txt && touch $@

$(DEV): $(RUN) requirements-dev.txt
	@echo "Installing requirements-dev.txt ..."
	@$(PIP) -r requirements-dev.txt && touch $@
