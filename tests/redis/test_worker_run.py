"""Run: what a job may do and return, and what is known of it."""

import logging

import pytest
from redis.connection import AbstractConnection
from rq import Repeat, Retry
from rq.timeouts import JobTimeoutException

from jiffy import keys
from jiffy import progress as job_progress
from jiffy.producer.enqueue import Queue
from jiffy.producer.progress import State
from jiffy.worker.child import RetireWhen
from jiffy.worker.claim import Pace
from jiffy.worker.run import Interrupted
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import (
    child,
    enqueue,
    job,
    queued,
    reason,
    registered,
    rq_worker,
    said,
    status,
)


def run(redis, work, func, *args, **options):
    """Run one job of this function; return it."""
    enqueue(redis, 1, func, *args, **options)
    work()
    return job(redis)


def test_a_job_changes_itself_before_it_has_read_anything(redis, work):
    Queue("default", connection=redis).enqueue(
        worker_jobs.write_meta, rows=12, job_id="default-0", meta={"by": "Ann"}
    )
    work()
    meta = job(redis).get_meta()
    ran = run(redis, work, worker_jobs.rename, "a better name")

    assert meta == {"by": "Ann", "rows": 12}
    assert (ran.description, ran.get_status()) == ("a better name", "finished")


@pytest.mark.parametrize("how", ["save", "save_meta"])
def test_a_job_that_is_deleted_while_it_runs_does_not_come_back_to_life(redis, work, how):
    enqueue(redis, 1, worker_jobs.delete_and, how)
    work()

    assert redis.keys("*default-0*") == []


@pytest.mark.parametrize(
    ("func", "progress"),
    [
        (worker_jobs.step, State(0.5, "half-way")),
        (worker_jobs.step_while_redis_is_full, None),
    ],
)
def test_a_job_tells_its_progress_and_goes_on_where_that_cannot_be(redis, work, func, progress):
    queue = func.__name__  # the id of each is its own: a job's progress is not written too often
    enqueue(redis, 1, func, queue=queue)
    work(queue)

    assert job_progress.read(job(redis, f"{queue}-0")) == progress
    assert status(redis, f"{queue}-0") == "finished"


@pytest.mark.parametrize(
    ("func", "args", "why"),
    [
        (worker_jobs.return_text, [2000], "2,002 bytes; at most 1,000 are stored (RESULT_MAX_BY"),
        (worker_jobs.return_what_cannot_be_sent, [], "The job returned dict, which cannot be stor"),
    ],
)
def test_a_result_that_cannot_be_stored_fails_with_the_reason_and_is_not_retried(
    redis, work, environ, func, args, why
):
    environ(RESULT_MAX_BYTES="1000")
    run(redis, work, func, *args, retry=Retry(max=3))

    assert (status(redis), queued(redis), why in reason(redis)) == ("failed", [], True)
    assert redis.xlen(keys.results("default-0")) == 1


@pytest.mark.parametrize(
    ("func", "why"),
    [
        (worker_jobs.ask_for_a_retry_never, "retry.interval is nan; it must be a number of"),
        (worker_jobs.raise_what_has_no_text, "SyntaxError: it cannot be written as text (TypeErr"),
    ],
)
def test_an_end_that_cannot_be_written_is_a_failure_with_the_reason(redis, work, func, why):
    run(redis, work, func)

    assert (status(redis), why in reason(redis)) == ("failed", True)


def test_a_result_up_to_the_limit_is_kept(redis, work, environ):
    environ(RESULT_MAX_BYTES="1000")

    assert len(run(redis, work, worker_jobs.return_text, 998).return_value()) == 998


@pytest.mark.parametrize(
    ("handler", "becomes"),
    [
        (worker_jobs.handle, "ValueError: it broke"),
        (worker_jobs.fail_as_handler, "RuntimeError: the handler broke"),
        (worker_jobs.exit_as_handler, "SystemExit: the handler left"),
    ],
)
def test_an_exception_handler_hears_of_it_and_ends_no_worker_if_it_breaks(redis, handler, becomes):
    enqueue(redis, 1, worker_jobs.fail)
    enqueue(redis, queue="low")
    worker = rq_worker(redis, queues=["default", "low"])
    worker.push_exc_handler(handler)
    worker.work(burst=True, logging_level="CRITICAL")

    assert (status(redis), status(redis, "low-0")) == ("failed", "finished")
    assert "ValueError: it broke" in reason(redis)
    assert reason(redis).rstrip().endswith(becomes)
    assert said(redis) == (["handled default-0: ValueError"] if "ValueError" in becomes else [])


def test_a_level_of_our_log_that_its_program_has_set_is_kept(redis, caplog):
    caplog.set_level("ERROR", "jiffy")
    rq_worker(redis).work(burst=True)

    assert logging.getLogger("jiffy").level == logging.ERROR


# What it costs


@pytest.fixture
def round_trips(monkeypatch):
    """How often something is sent to Redis by this process while it does that."""
    sent, send = [], AbstractConnection.send_packed_command

    def counted(*args, **options):
        sent.append(1)
        return send(*args, **options)

    def count(work):
        monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
        work()
        return len(sent)

    return count


@pytest.fixture
def warm(redis):
    """Redis knows the scripts, and the connection is there."""
    enqueue(redis)
    child(redis).work()
    redis.flushdb()


@pytest.mark.usefixtures("warm")
def test_a_thousand_small_jobs_cost_less_than_a_tenth_of_a_round_trip_each(
    redis, round_trips, monkeypatch
):
    learn = Pace.learn  # on a busy machine, they would not be small
    monkeypatch.setattr(Pace, "learn", lambda pace, name, _: learn(pace, name, 1e-5))
    enqueue(redis, 1000)
    worker = child(redis)

    assert round_trips(worker.work) < 100
    assert len(registered(redis, "finished")) == 1000


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("func", "options", "becomes"),
    [
        (worker_jobs.nothing, {}, "finished"),
        (worker_jobs.nothing, {"repeat": Repeat(1, 60)}, "scheduled"),
        (worker_jobs.fail, {}, "failed"),
        (worker_jobs.fail, {"retry": Retry(1, 60)}, "scheduled"),
    ],
)
def test_a_lone_job_costs_two_round_trips(redis, round_trips, func, options, becomes):
    enqueue(redis, 1, func, **options)
    worker = child(redis, retire_when=RetireWhen(max_jobs=1))

    assert round_trips(worker.work) == 2
    assert registered(redis, becomes) == ["default-0"]


def interrupted(redis, late, *, runs):
    """Work on one job, and raise `late` just after its end, or in its place."""
    worker = child(redis, retire_when=RetireWhen(burst=True, max_jobs=1))
    run = worker._runner.run

    def run_and_raise(outcome, call):
        if runs:
            run(outcome, call)
        raise late

    worker._runner.run = run_and_raise
    worker.work()


@pytest.mark.parametrize("late", [Interrupted(), JobTimeoutException("too long")])
def test_an_interrupt_or_a_limit_just_after_the_end_changes_nothing(redis, late):
    enqueue(redis)
    interrupted(redis, late, runs=True)

    assert status(redis) == "finished"


def test_a_job_that_must_not_start_twice_fails_if_it_is_interrupted(redis):
    enqueue(redis)
    redis.hset(keys.job("default-0"), keys.RESCUE_FIELD, "no")
    interrupted(redis, Interrupted(), runs=False)

    assert (status(redis), queued(redis)) == ("failed", [])
