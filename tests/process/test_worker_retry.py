"""Real workers try jobs again: after their pauses, by their rules, each once."""

import pytest
from rq.timeouts import JobTimeoutException

from jiffy import Enqueue, Retry, keys
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import reason, registered, said, status

pytestmark = pytest.mark.slow


@pytest.fixture
def enqueue(redis, environ):
    environ(JOBS_MODULES="tests.jobs.worker")
    return Enqueue()


def test_delayed_retries_need_no_scheduler_and_several_workers_double_none(
    start_worker, redis, enqueue
):
    names = [f"job-{number}" for number in range(40)]
    put = enqueue.options(retry=Retry(max=2, pause="1s", factor=1))
    put.many(worker_jobs.say_and_fail, [(name,) for name in names], job_ids=names)
    first, _ = start_worker("-n", "2"), start_worker("-n", "2")
    first.until(lambda: set(registered(redis, "failed")) == set(names))

    assert sorted(said(redis)) == sorted(names * 3)


def test_a_job_that_is_killed_at_its_limit_has_raised_rqs_timeout(start_worker, redis, enqueue):
    for name, on in (("again", JobTimeoutException), ("never", OSError)):
        retry = Retry(max=1, pause="10m", on=on)
        enqueue.options(job_id=name, timeout=1, retry=retry)(worker_jobs.hold, name)
    worker = start_worker("-n", "2")
    worker.until(lambda: registered(redis, "failed") and registered(redis, "scheduled"))

    assert (status(redis, "again"), status(redis, "never")) == ("scheduled", "failed")
    assert reason(redis, "never").startswith("exceeded its limit of 1 s")
    assert "JobTimeoutException is not one of its `on` errors" in worker.until_logged(
        "job.given_up"
    )


def test_what_waited_too_long_for_a_worker_is_canceled_and_the_log_says_so(
    start_worker, redis, enqueue
):
    late = enqueue.options(expires=1)(worker_jobs.say, "too late")
    redis.zadd(keys.EXPIRING, {late.id: 1})
    worker = start_worker()
    line = worker.until_logged("job.expired")

    assert (status(redis, late.id), said(redis)) == ("canceled", [])
    assert "Expired: not started within 1 second." in line
