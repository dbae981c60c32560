# Every command sets up what it needs: a fresh machine needs `make` and Python 3.11 or newer.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PIP := python -m pip install --quiet --disable-pip-version-check
# A stamp says what is installed; it is named after the contents of the files that list it.
RUN := .venv/.run-$(shell cksum < requirements.txt | cut -d' ' -f1)
DEV := .venv/.dev-$(shell cat requirements.txt requirements-dev.txt | cksum | cut -d' ' -f1)

.DELETE_ON_ERROR:
.PHONY: help run test test-all fix check bench compat chaos sizes
help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

run: $(RUN)  ## start it all: Redis, web, worker, scheduler, and a sample job
	@exec python -m jiffy.devrun

test: $(DEV)  ## all tests but the slow ones, in under 3 minutes
	@python -m pytest -q -n auto -m "not slow"

test-all: $(DEV)  ## all tests
	@python -m pytest -q -n auto

fix: $(DEV)  ## put code into shape
	@ruff check -q --fix . ; ruff format -q .

check: $(DEV)  ## format, lint, types, unit tests: under 20 s
	@ruff format --check -q . && ruff check -q .
	@mypy
	@python -m pytest -q -n auto -m "not slow" tests/unit

bench: $(RUN)  ## speed beside that of the peers, an hour or so (BENCH='--quick --only jiffy,rq')
	@python -m bench $(BENCH)

compat: $(RUN)  ## RQ's and rq-scheduler's own tests on ours (SUITE=rq; WORKER=rq: on theirs)
	@python -m bench.compat --worker $(or $(WORKER),jiffy) $(addprefix --suite ,$(SUITE))

chaos: $(RUN)  ## kill, cut, freeze and poison, and count what became of every job
	@python -m bench.chaos $(CHAOS)

sizes: $(DEV)  ## lines per file of the engine, against its budget
	@wc -l enqueue.py scheduler.py dashboard.py worker.py jiffy/*.py jiffy/*/*.py | sort -n

.venv/bin/python:
	@PATH="$${PATH#*:}" bin/venv

$(RUN): | .venv/bin/python
	@echo "Installing requirements.txt ..."
	@$(PIP) -r requirements.txt && touch $@

$(DEV): | $(RUN)
	@echo "Installing requirements-dev.txt ..."
	@$(PIP) -r requirements-dev.txt && touch $@
