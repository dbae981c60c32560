"""What can be done about jobs of a real worker."""

import pytest

from jiffy import actions, enqueue, keys
from jiffy.errors import NotThisState
from tests.jobs import worker as worker_jobs
from tests.support.worker_processes import begin, let_go_on, until_over, until_said
from tests.support.worker_support import enqueue as enqueue_by_rq
from tests.support.worker_support import is_canceled, job, reason, status

pytestmark = pytest.mark.slow


@pytest.fixture
def worker(start_worker, redis, environ):
    """A worker that runs the job default-0, which waits for "a"."""
    environ(JOBS_MODULES="tests.jobs.worker")
    enqueue_by_rq(redis, 1, worker_jobs.wait_for, "a")
    worker = start_worker()
    begin(worker, redis, "a")
    return worker


def test_a_running_job_is_stopped_and_the_worker_goes_on(worker, redis):
    actions.stop("default-0")
    until_over(worker, redis, "default-0")
    enqueue.options(job_id="next")(worker_jobs.say, "next")
    until_said(worker, redis, "next")

    assert (status(redis), reason(redis)) == (
        "stopped", "Job stopped by user, work-horse terminated.",
    )  # fmt: skip


def test_a_stopped_job_is_tried_again_by_a_worker(worker, redis):
    actions.stop("default-0")
    until_over(worker, redis, "default-0")
    let_go_on(redis, "a")
    actions.retry("default-0")
    until_over(worker, redis, "default-0")

    assert status(redis) == "finished"


def test_a_running_job_is_not_canceled_and_runs_to_its_end(worker, redis):
    with pytest.raises(NotThisState, match="Stop it instead"):
        actions.cancel(job(redis))
    let_go_on(redis, "a")
    until_over(worker, redis, "default-0")

    assert status(redis) == "finished"


def test_of_jobs_that_are_canceled_while_they_are_taken_each_runs_or_is_canceled(worker, redis):
    ids = enqueue.many(worker_jobs.say, [(f"{number}",) for number in range(500)]).ids
    let_go_on(redis, "a")
    canceled = {job_id for job_id in reversed(ids) if is_canceled(job_id)}
    worker.until(lambda: redis.zcard(f"{keys.RQ}finished:default") == 501 - len(canceled))

    assert redis.llen(keys.queue("default")) == redis.zcard(f"{keys.RQ}wip:default") == 0
    assert {raw.decode() for raw in redis.zrange(f"{keys.RQ}canceled:default", 0, -1)} == canceled
