# Every command sets up what it needs: a fresh machine needs `make` and Python 3.11 or newer.
# PYTHON=python3.13 chooses the Python, SERVER=path the Redis that is started privately.
# RQ_KEY_PREFIX={shop} make test: all of it behind a key prefix.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
ifdef SERVER
export REDIS_SERVER := $(SERVER)
endif
# Two for each core: most quick tests wait for a server, a process or a browser.
PROCESSES := $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
RESIZE := jobs.images.resize samples/photo.jpg
.PHONY: help run test test-all test-dates fix check bench compat chaos sizes installed installed-dev
help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

run: installed  ## start it all: Redis, web, worker, scheduler, and a sample job
	@exec python -m jiffy dev --job "$(RESIZE) 200 150" --job "$(RESIZE) 800"

test: installed-dev  ## all tests but the slow ones, in under 3 minutes
	@python -m pytest -q -n $(PROCESSES) -m "not slow"

test-all: test  ## these, then the slow ones
	@python -m pytest -q -n auto -m slow

test-dates: installed-dev  ## the quick tests on two other dates (ALL=1: on seven, in three zones)
	@bin/test-dates

fix: installed-dev  ## put code into shape
	@ruff check -q --fix . ; ruff format -q .

check: installed-dev  ## format, lint, types, unit tests: under 20 s
	@ruff format --check -q . && ruff check -q .
	@mypy
	@python -m pytest -q -n auto -m "not slow" tests/unit

bench: installed  ## speed beside that of the peers, an hour or so (BENCH='--quick --only jiffy,rq')
	@python -m bench $(BENCH)

compat: installed  ## RQ's and rq-scheduler's own tests on ours (SUITE=rq; WORKER=rq: on theirs)
	@python -m bench.compat --worker $(or $(WORKER),jiffy) $(addprefix --suite ,$(SUITE)) \
		$(addprefix --rq-scheduler ,$(RQ_SCHEDULER))

chaos: installed  ## kill, cut, freeze and poison, and count what became of every job
	@python -m bench.chaos $(CHAOS)

sizes:  ## lines and files of the engine and its tests, beside the plan
	@python3 bin/sizes

# .venv is made, where it has to be, by a Python outside of it.
installed:
	@PATH="$${PATH#*:}" bin/venv requirements.txt requirements-run.txt

installed-dev:
	@PATH="$${PATH#*:}" bin/venv requirements.txt requirements-run.txt requirements-dev.txt
