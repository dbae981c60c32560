"""A deploy, a restart, Ctrl-C: what runs is given its time, and nothing fails."""

import os
import signal

import pytest
from rq import Retry

from jiffy import keys
from jiffy.producer.enqueue import Queue
from tests.jobs import worker as worker_jobs
from tests.support.worker_processes import begin, let_go_on, until_said
from tests.support.worker_support import enqueue, job, queued, registered, said, status

pytestmark = pytest.mark.slow

# The job is asked to leave three seconds before the end of the grace, killed one second before it.
SHORT_GRACE = {"GRACE_S": "3.5"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_ends_at_once(start_worker, redis, number):
    worker = start_worker("-n", "2")
    worker.until(lambda: redis.exists(keys.WORKERS))
    worker.until(lambda: len(worker.children()) == 2)
    worker.send(number)

    assert worker.wait() == 0
    assert not redis.exists(keys.WORKERS, keys.LEASES)
    assert worker.log.rstrip().splitlines()[-1].split()[2] == "worker.stopped"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_job_ends_within_the_grace_and_no_other_begins(start_worker, redis, number):
    enqueue(redis, 1, worker_jobs.wait_for, "a")
    enqueue(redis, 1, worker_jobs.say, "too late", queue="low")
    worker = start_worker()
    begin(worker, redis, "a")
    worker.send(number)
    worker.until_logged("worker.stopping")
    let_go_on(redis, "a")

    assert worker.wait() == 0
    assert (status(redis), job(redis).return_value()) == ("finished", "a")
    assert queued(redis, "low") == ["low-0"]


def test_many_sigterms_to_every_process_change_nothing(start_worker, redis):
    enqueue(redis, 1, worker_jobs.wait_for, "a")
    worker = start_worker("-n", "2")
    begin(worker, redis, "a")
    for _ in range(3):
        worker.send_to_all(signal.SIGTERM)
    worker.until_logged("worker.stopping")
    os.killpg(worker.process.pid, signal.SIGTERM)
    let_go_on(redis, "a")

    assert worker.wait() == 0
    assert status(redis) == "finished"
    assert said(redis) == ["a begun", "a ended"]


def test_after_the_grace_a_job_goes_back_to_the_front(start_worker, redis):
    enqueue(redis, 2, worker_jobs.tidy_up, "a", retry=Retry(max=2))
    worker = start_worker(**SHORT_GRACE)
    begin(worker, redis, "a")
    worker.send(signal.SIGTERM)

    assert worker.wait() == 0
    assert queued(redis) == ["default-0", "default-1"]
    assert (status(redis), job(redis).retries_left) == ("queued", 2)
    assert said(redis) == ["a begun", "a left by Interrupted"]
    assert "job=default-0" in worker.until_logged("job.requeued")


@pytest.mark.parametrize("func", [worker_jobs.swallow_the_interruption, worker_jobs.hold])
def test_a_job_that_does_not_leave_goes_back_to_the_front_too(start_worker, redis, func):
    enqueue(redis, 2, func, "a", retry=Retry(max=2))
    worker = start_worker(**SHORT_GRACE)
    begin(worker, redis, "a")
    worker.send(signal.SIGTERM)

    assert worker.wait() == 0
    assert queued(redis) == ["default-0", "default-1"]
    assert (status(redis), job(redis).retries_left) == ("queued", 2)
    assert not redis.hexists(keys.job("default-0"), "jiffy:crashes")
    assert registered(redis, "failed") == registered(redis, "started") == []


def test_a_job_that_went_back_runs_on_the_next_worker(start_worker, redis):
    enqueue(redis, 1, worker_jobs.wait_for, "a")
    old = start_worker(**SHORT_GRACE)
    begin(old, redis, "a")
    new = start_worker()
    old.send(signal.SIGTERM)
    begin(new, redis, "a", count=2)
    let_go_on(redis, "a")
    new.until(lambda: status(redis) == "finished")  # its line in the log comes a moment before

    assert said(redis) == ["a begun", "a begun", "a ended"]


def test_the_second_ctrl_c_stops_at_once_and_gives_the_job_back(start_worker, redis):
    enqueue(redis, 1, worker_jobs.wait_for, "a")
    worker = start_worker(GRACE_S="1000")
    begin(worker, redis, "a")
    worker.send(signal.SIGINT)
    worker.until_logged("worker.stopping")
    worker.until(lambda: is_over_after(worker, signal.SIGINT))

    assert (queued(redis), status(redis)) == (["default-0"], "queued")


def is_over_after(worker, number):
    if worker.process.poll() is None:
        worker.send(number)
    return worker.process.poll() is not None


def test_what_was_taken_and_not_begun_goes_back_at_once(start_worker, redis):
    """The first jobs make the worker believe that all of them are quick."""
    queue = Queue("default", connection=redis)
    for number in range(60):
        queue.enqueue(worker_jobs.nothing_or_wait, number == 30, job_id=f"job-{number}")
    worker = start_worker(GRACE_S="1000")
    begin(worker, redis, "a")
    worker.send(signal.SIGTERM)
    worker.until(lambda: len(queued(redis)) == 29)
    let_go_on(redis, "a")

    assert worker.wait() == 0
    assert len(registered(redis, "finished")) == 31
    assert queued(redis) == [f"job-{number}" for number in range(31, 60)]


def test_a_worker_that_is_killed_after_its_grace_has_failed_nothing(start_worker, redis):
    enqueue(redis, 1, worker_jobs.wait_for, "a")
    worker = start_worker(GRACE_S="1000")
    begin(worker, redis, "a")
    worker.send_to_all(signal.SIGTERM)
    worker.until_logged("worker.stopping")
    worker.send_to_all(signal.SIGKILL)
    worker.until(lambda: not worker.pids())

    assert registered(redis, "failed") == []
    assert registered(redis, "started") == ["default-0"]  # until another finds it, see the deaths


def test_burst_ends_when_the_queues_are_empty(start_worker, redis):
    enqueue(redis, 100, worker_jobs.nothing)
    worker = start_worker("-n", "2", "--burst")

    assert worker.wait() == 0
    assert len(registered(redis, "finished")) == 100
    assert len(worker.lines("job.finished")) == 100


def test_a_worker_ends_after_max_jobs(start_worker, redis):
    enqueue(redis, 10)
    worker = start_worker("-n", "1", "--max-jobs", "7")

    assert worker.wait() == 0
    assert len(queued(redis)) == 3


def test_a_worker_ends_after_max_idle_time(start_worker, redis):
    enqueue(redis, 1, worker_jobs.say, "done")
    worker = start_worker("-n", "1", "--max-idle-time", "1")
    until_said(worker, redis, "done")

    assert worker.wait() == 0
