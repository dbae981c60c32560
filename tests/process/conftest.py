"""Real workers for the tests of this folder."""

import pytest

from tests.support.newcomer import CHECKOUT, wait_until
from tests.support.worker_processes import Dyno


@pytest.fixture
def start_worker(redis, tmp_path):
    """Start `python worker.py`, of the folder `home`, with these words and settings.  None is left
    behind: that is a test of its own, since only the supervisors are killed."""
    started = []

    def start(*words, home=CHECKOUT, container=(), **environ):
        dyno = Dyno(tmp_path, words or ["-n", "1"], environ, home, container)
        started.append(dyno)
        return dyno

    yield start
    for dyno in started:
        dyno.end()
    # A dead process' connections are closed a moment later, and one that waits there for work would
    # be given the next test's.
    wait_until(lambda: not redis.info("clients")["blocked_clients"])
