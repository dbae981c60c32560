"""A stage for each worker: RQ's and ours."""

import pytest

from tests.compat import traces
from tests.compat.stage import Stage, WorkerProcess

# How a worker runs its jobs -> RQ's, and ours, which must leave the same traces.
WORKERS = {
    "in its own process": ("rq.SimpleWorker", "jiffy.SimpleWorker"),
    "in a child": ("rq.Worker", "jiffy.Worker"),
}


@pytest.fixture(scope="session")
def worker_process():
    """The process that plays the workers of a session."""
    process = WorkerProcess()
    yield process
    process.close()


@pytest.fixture
def on_stage(redis, worker_process):
    """Play a scenario with a worker on an empty Redis; give the traces that it leaves."""

    def play(scenario, worker):
        redis.flushall()
        scenario(Stage(redis, worker_process, worker))
        return traces.take(redis)

    return play
