"""A batch makes no job wait that an idle worker could run."""

import os
import re

import pytest

from jiffy.producer.enqueue import Queue
from tests.jobs import worker as worker_jobs
from tests.support.worker_processes import let_go_on, until_over, until_said
from tests.support.worker_support import enqueue, registered, said

pytestmark = pytest.mark.slow


def test_a_slow_job_at_the_head_of_many_small_ones_does_not_hold_them_back(start_worker, redis):
    queue = Queue("default", connection=redis)
    queue.enqueue(worker_jobs.wait_for, "slow", job_id="slow")
    small = enqueue(redis, 500)
    worker = start_worker("-n", "2")
    until_over(worker, redis, *small)
    still_runs = registered(redis, "started")
    let_go_on(redis, "slow")
    until_over(worker, redis, "slow")

    assert still_runs == ["slow"]


def test_what_has_ended_is_in_the_log_while_the_last_one_of_a_batch_runs(start_worker, redis):
    quick = enqueue(redis, 3)
    Queue("default", connection=redis).enqueue(worker_jobs.wait_for, "last", job_id="last")
    worker = start_worker("-n", "1")
    until_said(worker, redis, "last begun")
    logged = worker.lines("job.finished")
    let_go_on(redis, "last")
    until_over(worker, redis, "last")

    assert [re.search("job=([^ ]+)", line)[1] for line in logged] == quick


@pytest.mark.parametrize("holds", [False, True], ids=["waits", "holds the interpreter"])
def test_a_function_that_is_suddenly_slow_gives_back_what_it_was_taken_with(
    start_worker, redis, tmp_path, holds
):
    os.mkfifo(gate := tmp_path / "gate")
    queue = Queue("default", connection=redis)
    names = [f"job-{number}" for number in range(300)]
    for name in names:
        path = str(gate) if name == "job-100" else ""
        queue.enqueue(worker_jobs.say_or_wait, name, path, holds, job_id=name)
    worker = start_worker("-n", "2")
    worker.until(lambda: set(said(redis)) == set(names) - {"job-100"})
    gate.open("w").close()
    until_over(worker, redis, *names)

    assert sorted(said(redis)) == sorted(names)


def test_with_one_worker_a_slow_job_is_followed_by_the_rest_in_order(start_worker, redis):
    enqueue(redis, 60, worker_jobs.nothing, queue="first")
    queue = Queue("default", connection=redis)
    for number in range(30):
        queue.enqueue(worker_jobs.quick_or_slow, str(number), 0.3 if number == 10 else 0)
    worker = start_worker("-n", "1", "first", "default")
    until_said(worker, redis, "29")

    assert said(redis) == [str(number) for number in range(30)]
