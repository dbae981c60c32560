"""What several tests of Redis share: a line to it that can be cut, and a schedule."""

import pytest

from jiffy import connection, redis_io
from jiffy.scheduler import table
from jiffy.scheduler.schedule import Scheduler
from tests.support.cutting import Cutter


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
        connection.shared.cache_clear()
        yield cutter
        connection.shared().close()
    connection.shared.cache_clear()


@pytest.fixture
def scheduler(redis):
    return Scheduler(connection=redis)


@pytest.fixture
def declare(scheduler):
    """Put a table in force, at a moment: `declare(every(…), …, now=…)`; returns what changed."""

    def put(*lines, now=None):
        found, wrong = table.read(lines)
        assert wrong == []
        return table.apply(scheduler, found, now or scheduler.look().now)

    return put
