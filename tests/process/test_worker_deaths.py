"""Whatever dies, and however: its jobs run, or they fail with the cause, and no other fails."""

import os
import re
import signal
from datetime import timedelta

import pytest
from rq import Retry

import jiffy
from jiffy import keys
from jiffy.producer.enqueue import Queue
from tests.jobs import worker as worker_jobs
from tests.support.newcomer import wait_until
from tests.support.worker_processes import begin, let_go_on, until_over, worker_names
from tests.support.worker_support import (
    enqueue,
    job,
    queued,
    reason,
    registered,
    said,
    status,
)

pytestmark = pytest.mark.slow


def test_a_worker_that_was_halted_as_it_waited_does_not_run_what_another_has_run(
    start_worker, redis, environ
):
    environ(JOBS_MODULES="tests.jobs.worker")
    halted = start_worker("-n", "1")
    halted.until(lambda: redis.info("clients")["blocked_clients"])
    halted.send_to_all(signal.SIGSTOP)
    jiffy.enqueue.options(job_id="once")(worker_jobs.say, "once")
    wait_until(lambda: not queued(redis))  # Redis has given it to the one that was waiting
    other = start_worker("-n", "1")
    until_over(other, redis, "once")
    halted.send_to_all(signal.SIGCONT)
    for name in ("one", "another"):  # both are at work again
        jiffy.enqueue(worker_jobs.wait_for, name)
    for name in ("one", "another"):
        begin(halted, redis, name)
        let_go_on(redis, name)

    assert said(redis).count("once") == 1


def test_the_job_of_a_killed_child_runs_again_at_once(start_worker, redis):
    enqueue(redis, 1, worker_jobs.wait_for, "a")
    worker = start_worker()
    begin(worker, redis, "a")
    os.kill(worker.children()[0], signal.SIGKILL)
    begin(worker, redis, "a", count=2)
    let_go_on(redis, "a")
    until_over(worker, redis, "default-0")

    assert status(redis) == "finished"
    assert "cause='signal 9 (SIGKILL)'" in worker.until_logged("job.recovered")


@pytest.mark.parametrize(
    ("func", "args", "cause"),
    [
        (worker_jobs.segfault, [], "signal 11 (SIGSEGV)"),
        (worker_jobs.exit_at_once, [0], "exit code 0"),
        (worker_jobs.exit_at_once, [3], "exit code 3"),
        (worker_jobs.kill_itself, [signal.SIGRTMIN + 5], "signal 39"),
    ],
)
def test_a_job_that_kills_workers_is_quarantined_with_its_causes(
    start_worker, redis, func, args, cause
):
    before = enqueue(redis, 20, queue="before")
    enqueue(redis, 1, func, *args)
    after = enqueue(redis, 20, queue="after")
    worker = start_worker("-n", "1", "before", "default", "after")
    until_over(worker, redis, "default-0")
    until_over(worker, redis, *after, queue="after")

    assert reason(redis).startswith("its worker died 3 times: ")
    assert reason(redis).count(cause) == 3
    assert sorted(registered(redis, "finished", "before")) == sorted(before)
    assert sorted(registered(redis, "finished", "after")) == sorted(after)
    assert worker.process.poll() is None


def test_two_poisonous_jobs_in_a_batch_harm_none_of_their_neighbours(start_worker, redis):
    ids = enqueue(redis, 60)
    for poisoned in ("default-25", "default-31"):
        redis.hset(keys.job(poisoned), "data", b'["tests.jobs.worker.kill_itself", null, [], {}]')
    worker = start_worker("-n", "2")
    until_over(worker, redis, *ids)

    assert sorted(registered(redis, "failed")) == ["default-25", "default-31"]
    assert len(registered(redis, "finished")) == 58
    assert not any(redis.hexists(keys.job(good), "jiffy:crashes") for good in ids[:25])


def test_what_a_job_has_started_dies_with_it(start_worker, redis):
    enqueue(redis, 1, worker_jobs.start_a_program)
    worker = start_worker()
    worker.until(lambda: said(redis))
    program = int(said(redis)[0])
    os.kill(worker.children()[0], signal.SIGKILL)

    worker.until(lambda: program not in worker.pids())


@pytest.mark.parametrize(
    ("func", "args"), [(worker_jobs.fork_and_return, []), (worker_jobs.fork_and_exit, [7])]
)
def test_a_copy_that_a_job_has_forked_does_not_become_a_worker(start_worker, redis, func, args):
    enqueue(redis, 1, func, *args)
    neighbours = enqueue(redis, 20, queue="low")
    worker = start_worker()
    until_over(worker, redis, *neighbours, queue="low")

    assert (status(redis), job(redis).return_value()) == ("finished", "job")
    assert len(worker.pids()) == 2
    assert not worker.lines("worker.died")


def test_an_alarm_that_a_job_has_left_does_not_ring_in_the_next(start_worker, redis):
    enqueue(redis, 1, worker_jobs.leave_an_alarm)
    enqueue(redis, 1, worker_jobs.last, 1.5, queue="low")
    worker = start_worker()
    until_over(worker, redis, "low-0", queue="low")

    assert not worker.lines("worker.died")


def test_the_children_die_with_their_supervisor_and_another_worker_runs_their_job(
    start_worker, redis
):
    enqueue(redis, 1, worker_jobs.wait_for, "a")
    lost = start_worker("-n", "2")
    begin(lost, redis, "a")
    lost.send(signal.SIGKILL)
    wait_until(lambda: not lost.pids())
    other = start_worker()
    begin(other, redis, "a", count=2)
    let_go_on(redis, "a")
    until_over(other, redis, "default-0")

    assert status(redis) == "finished"
    assert "cause='its machine or supervisor disappeared'" in other.until_logged("job.recovered")
    other.until(lambda: len(worker_names(redis)) == 1)


def test_a_child_is_replaced_after_as_many_jobs_as_is_set(start_worker, redis):
    ids = enqueue(redis, 6, worker_jobs.tell_process)
    worker = start_worker(MAX_JOBS_PER_CHILD="2")
    until_over(worker, redis, *ids)
    pids = [job(redis, job_id).return_value() for job_id in ids]

    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]
    assert not worker.lines("worker.died")


def test_a_child_that_has_grown_is_replaced_between_two_jobs(start_worker, redis):
    enqueue(redis, 1, worker_jobs.wait_for, "a")
    worker = start_worker(MAX_CHILD_MB="1")
    begin(worker, redis, "a")
    child = worker.children()
    let_go_on(redis, "a")
    worker.until(lambda: worker.children() not in ([], child))

    assert status(redis) == "finished"
    assert not worker.lines("worker.died")


def test_a_job_that_exceeds_its_time_gets_an_exception(start_worker, redis):
    enqueue(redis, 1, worker_jobs.tidy_up, "a", job_timeout=1)
    worker = start_worker()
    until_over(worker, redis, "default-0")

    assert said(redis) == ["a begun", "a left by JobTimeoutException"]
    assert "JobTimeoutException: Task exceeded maximum timeout value (1 seconds)" in reason(redis)
    assert not worker.lines("worker.died")


def killed_after_s(redis):
    """How long the job had run, as its reason says; on a busy machine, a little longer."""
    return int(re.fullmatch(r"exceeded its limit of 1 s, killed after (\d+) s", reason(redis))[1])


@pytest.mark.parametrize("func", [worker_jobs.swallow_the_interruption, worker_jobs.hold])
def test_a_job_that_ignores_its_time_limit_is_killed_five_seconds_later(start_worker, redis, func):
    enqueue(redis, 1, func, "a", job_timeout=1)
    neighbours = enqueue(redis, 5, queue="low")
    worker = start_worker()
    until_over(worker, redis, "default-0")
    until_over(worker, redis, *neighbours, queue="low")

    assert killed_after_s(redis) >= 6
    assert registered(redis, "failed", "low") == queued(redis) == []


def test_a_job_that_is_another_program_by_then_failed_for_its_time(start_worker, redis):
    enqueue(redis, 1, worker_jobs.become_a_program, job_timeout=1)
    until_over(start_worker(), redis, "default-0")

    assert killed_after_s(redis) >= 1


def test_a_job_that_uses_too_much_memory_is_killed(start_worker, redis):
    enqueue(redis, 1, worker_jobs.hog_memory, 400)
    neighbours = enqueue(redis, 5, queue="low")
    worker = start_worker(JOB_MEMORY_MB="200")
    until_over(worker, redis, "default-0")
    until_over(worker, redis, *neighbours, queue="low")

    assert reason(redis).startswith("used ")
    assert reason(redis).endswith(" MB of memory; its limit is 200 MB")


def test_a_delayed_job_and_a_retry_run_without_any_scheduler(start_worker, redis):
    queue = Queue("default", connection=redis)
    queue.enqueue_in(timedelta(seconds=1), worker_jobs.nothing, job_id="later")
    queue.enqueue(
        worker_jobs.fail_until_the_last_try, job_id="again", retry=Retry(max=1, interval=1)
    )
    worker = start_worker()
    until_over(worker, redis, "later", "again")

    assert sorted(registered(redis, "finished")) == ["again", "later"]
