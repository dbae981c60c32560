"""`overlap="queue one"` and `"replace"` with real workers: one runs, never two at once."""

import signal
from datetime import UTC, datetime, timedelta
from itertools import count

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
def overlap():
    return "queue one"


@pytest.fixture
def tick(redis, environ, overlap):
    """Let the next slot of the entry come, ahead of its time; returns what became of it."""
    environ(JOBS_MODULES="jobs,tests")
    line = every("1h", worker_jobs.wait_for, args=["a"], name="nap", overlap=overlap)
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


@pytest.mark.parametrize("overlap", ["replace"])
def test_a_run_whose_worker_did_not_hear_that_it_is_replaced_is_stopped_later(
    start_worker, tick, redis
):
    worker = start_worker("-n", "3")
    first = tick()
    begin(worker, redis, "a")
    worker.send(signal.SIGSTOP)
    redis.client_kill_filter(_type="pubsub")
    second = tick()
    worker.send(signal.SIGCONT)
    begin(worker, redis, "a", count=2)

    looks = (datetime(2100, 1, 1, tzinfo=UTC) + timedelta(days=days) for days in count())

    def are_in_turn():
        entries.follow_up(redis, next(looks))
        return statuses(redis, first, second) == ["stopped", "started"]

    worker.until(are_in_turn)
