"""`overlap="queue one"` with real workers: one runs, one waits behind it, never two at once."""

import pytest
from rq.command import send_stop_job_command

from jiffy import every, keys
from jiffy.control import entries
from jiffy.producer.enqueue import Job
from tests.jobs import worker as worker_jobs
from tests.support import schedules
from tests.support.worker_processes import begin, let_go_on
from tests.support.worker_support import said

pytestmark = pytest.mark.slow


@pytest.fixture
def tick(redis, environ):
    """Let the next slot of the entry come, ahead of its time; returns what became of it."""
    environ(JOBS_MODULES="jobs,tests")
    line = every("1h", worker_jobs.wait_for, args=["a"], name="nap", overlap="queue one")
    schedule = schedules.declare(redis, line)

    def come():
        [done] = schedules.run_next(schedule)
        return done

    return come


def statuses(redis, *ticks):
    return [redis.hget(keys.job(one.job_id), "status").decode() for one in ticks]


def test_never_do_two_run_at_once_and_the_one_that_waits_begins_when_the_other_ends(
    start_worker, tick, redis
):
    worker = start_worker("-n", "3")
    first = tick()
    begin(worker, redis, "a")
    second, third = tick(), tick()
    assert statuses(redis, first, second) == ["started", "deferred"]
    assert (third.outcome, third.reason[-13:]) == ("skipped", "still waiting")

    let_go_on(redis, "a")
    begin(worker, redis, "a", count=2)
    fourth = tick()
    let_go_on(redis, "a")
    begin(worker, redis, "a", count=3)
    let_go_on(redis, "a")
    worker.until(lambda: statuses(redis, first, second, fourth) == ["finished"] * 3)

    assert said(redis) == ["a begun", "a ended"] * 3
    assert [one.outcome for one in entries.history(redis, "nap")][1] == "skipped"
    assert not redis.keys("jiffy:join*") + redis.keys("jiffy:pending*")


def stop(redis, job):
    send_stop_job_command(redis, job.id)


def delete(redis, job):
    stop(redis, job)
    job.delete()


@pytest.mark.parametrize("end", [stop, delete])
def test_however_the_one_that_runs_ends_the_other_begins(end, start_worker, tick, redis):
    worker = start_worker("-n", "3")
    first = tick()
    begin(worker, redis, "a")
    second = tick()
    end(redis, Job.fetch(first.job_id, redis))
    begin(worker, redis, "a", count=2)

    assert statuses(redis, second) == ["started"]


def test_one_whose_worker_is_killed_runs_again_before_the_other(start_worker, tick, redis):
    worker = start_worker("-n", "3")
    first = tick()
    begin(worker, redis, "a")
    second = tick()
    worker.kill_children()
    begin(worker, redis, "a", count=2)
    assert statuses(redis, first, second) == ["started", "deferred"]

    let_go_on(redis, "a")
    begin(worker, redis, "a", count=3)
    assert statuses(redis, first, second) == ["finished", "started"]
