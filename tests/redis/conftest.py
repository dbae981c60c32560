"""What several tests of Redis share: a line to it that can be cut, and a schedule."""

import pytest
from redis import Redis

from jiffy import redis_io
from jiffy.dev import redis_server
from jiffy.scheduler.rq_entries import Scheduler
from tests.support import schedules
from tests.support.cutting import Cutter
from tests.support.scheduler_processes import Running
from tests.support.weekly import slot


@pytest.fixture(autouse=True)
def allowed(environ):
    """Functions of the tests are jobs, too."""
    environ(JOBS_MODULES="jobs,tests")


@pytest.fixture
def cutter(redis_address, environ, monkeypatch):
    """Between the producer and Redis: a line that can be cut at any byte."""
    monkeypatch.setattr(redis_io, "FIRST_PAUSE_S", 0.0001)
    with Cutter(redis_address) as cutter:
        environ(JOBS_MODULES="jobs,tests", REDIS_URL=cutter.url)
        redis_io.shared.cache_clear()
        yield cutter
        redis_io.shared().close()
    redis_io.shared.cache_clear()


@pytest.fixture
def redis_of_its_own(tmp_path):
    """Start a Redis that keeps what it has confirmed; again, on the same data, after its death."""
    home = tmp_path / "redis"
    home.mkdir()
    options = ("--appendfsync", "always")

    def start():
        return Redis.from_url(redis_server.start(home, keep=True, options=options))

    yield start
    redis_server.stop(f"unix://{home / 'redis.sock'}")


@pytest.fixture
def start_scheduler(tmp_path, redis_address):
    """Start a scheduler: `start_scheduler(read(…))`, perhaps of another Redis; none is left."""
    started = []

    def run(entries, url=redis_address):
        options = {"socket_timeout": redis_io.ANSWER_TIMEOUT_S, "protocol": 2}
        started.append(Running(tmp_path, entries, lambda: Redis.from_url(url, **options)))
        return started[-1]

    yield run
    for running in started:
        running.end()


@pytest.fixture
def scheduler(redis):
    """rq-scheduler's Scheduler, as ours."""
    return Scheduler(connection=redis)


@pytest.fixture
def declare(redis):
    """Put a schedule in force, at a moment: `declare(every(…), …, now=…)`; returns what changed."""

    def put(*lines, now=None):
        put.schedule = schedules.declare(redis, *lines, now=now)
        return put.schedule.counts

    return put


@pytest.fixture
def run_next(declare):
    """Let the next run times come: `run_next()`; returns what became of them.

    They are taken ahead of their time, so nothing depends on the clock.
    """
    return lambda count=1: schedules.run_next(declare.schedule, count)


@pytest.fixture
def catch_up(declare, redis):
    """As if no scheduler had run since so many weeks ago, and one does now: what became of it."""

    def run(weeks=0, entry_id="entry-jobs-numbers-add"):
        declare.schedule = schedules.set_back(redis, declare.schedule, entry_id, slot(weeks))
        return schedules.enqueue_due(declare.schedule)

    return run
