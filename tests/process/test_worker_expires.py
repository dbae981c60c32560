"""What must begin in time is canceled in time, whether or not a worker is free for it."""

import pytest

from jiffy import enqueue
from jobs import numbers
from tests.jobs import worker as worker_jobs
from tests.support.worker_processes import begin, let_go_on, until_over
from tests.support.worker_support import enqueue as put
from tests.support.worker_support import status

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("queue", ["default", "nobody"])
def test_a_job_expires_while_every_worker_is_busy_or_listens_elsewhere(start_worker, redis, queue):
    put(redis, 1, worker_jobs.wait_for, "a")
    worker = start_worker()
    begin(worker, redis, "a")
    late = enqueue.options(expires="1s", queue=queue)(numbers.add, 2, 3)
    worker.until(lambda: status(redis, late.id) == "canceled")

    assert f"job={late.id} queue={queue}" in worker.until_logged("job.expired")
    let_go_on(redis, "a")
    until_over(worker, redis, "default-0")


def test_an_isolated_job_expires_while_it_waits_for_another_process(start_worker, redis):
    """The one that has run a job claims it, and leaves it to the next, which takes a while."""
    worker = start_worker("-n", "1", HOOKS="tests.support.slow_to_begin:HOOKS")
    put(redis, 1, worker_jobs.nothing)
    until_over(worker, redis, "default-0")
    late = enqueue.options(expires="1s", isolate=True)(numbers.add, 2, 3)
    worker.until(lambda: status(redis, late.id) in ("canceled", "finished"))

    assert status(redis, late.id) == "canceled"
