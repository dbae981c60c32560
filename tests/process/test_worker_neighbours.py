"""What a job has done is seen at once, whatever becomes of it, or of the job behind it."""

import pytest

from jiffy.producer.enqueue import Queue
from tests.jobs import worker as worker_jobs
from tests.support.worker_processes import begin, let_go_on, until_over
from tests.support.worker_support import registered, said, status

pytestmark = pytest.mark.slow


def test_what_has_finished_is_seen_while_a_job_of_its_batch_runs_on(start_worker, redis):
    queue = Queue("default", connection=redis)
    for number in range(60):
        queue.enqueue(worker_jobs.nothing_or_wait, number == 30, job_id=f"job-{number}")
    worker = start_worker()
    begin(worker, redis, "a")
    worker.until(lambda: len(registered(redis, "finished")) == 30)
    let_go_on(redis, "a")


def test_what_has_finished_does_not_run_again_because_its_neighbour_kills(start_worker, redis):
    queue = Queue("default", connection=redis)
    names = [f"job-{number}" for number in range(60)]
    for name in names:
        queue.enqueue(worker_jobs.say_or_die, name, name == "job-30", job_id=name)
    worker = start_worker()
    until_over(worker, redis, *names)

    assert status(redis, "job-30") == "failed"
    assert sorted(said(redis)) == sorted(set(names) - {"job-30"})


def test_what_a_job_prints_is_seen_while_it_runs(start_worker, redis):
    Queue("default", connection=redis).enqueue(worker_jobs.print_and_wait, "a")
    worker = start_worker(PYTHONUNBUFFERED="")
    begin(worker, redis, "a")
    assert "a printed\n" in worker.log
    let_go_on(redis, "a")
