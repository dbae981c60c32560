"""Run: what a job may do and return, and what is told of it."""

import pytest
from rq import Callback, Retry

from jiffy import job_progress, keys
from jiffy.queues import Queue
from jiffy.worker.child import Stint
from tests import worker_jobs
from tests.worker_support import (
    child,
    enqueue,
    face,
    job,
    queued,
    reason,
    registered,
    said,
    status,
)


def run(redis, work, func, *args, **options):
    """Run one job of this function; return it."""
    enqueue(redis, 1, func, *args, **options)
    work()
    return job(redis)


def test_an_async_function_is_awaited(redis, work):
    assert run(redis, work, worker_jobs.add_later, 2, 3).return_value() == 5


def test_a_job_knows_its_id(redis, work):
    assert run(redis, work, worker_jobs.tell_id).return_value() == "default-0"


def test_a_job_writes_its_meta_before_it_has_read_any(redis, work):
    Queue("default", connection=redis).enqueue(
        worker_jobs.write_meta, rows=12, job_id="default-0", meta={"by": "Ann"}
    )
    work()

    assert job(redis).get_meta() == {"by": "Ann", "rows": 12}


def test_a_job_assigns_to_itself_before_it_has_read_anything(redis, work):
    ran = run(redis, work, worker_jobs.rename, "a better name")

    assert (ran.description, ran.get_status()) == ("a better name", "finished")


def test_a_job_tells_its_progress(redis, work):
    ran = run(redis, work, worker_jobs.step)

    assert job_progress.read(ran) == job_progress.State(0.5, "half-way")


def test_a_job_whose_progress_cannot_be_written_goes_on(redis, work):
    [job_id] = enqueue(redis, 1, worker_jobs.step_while_redis_is_full, queue="full")
    work("full")

    ran = job(redis, job_id)
    assert (ran.return_value(), job_progress.read(ran)) == ("went on", None)


def test_a_job_that_raises_fails_with_its_traceback(redis, work):
    run(redis, work, worker_jobs.fail)

    assert status(redis) == "failed"
    assert reason(redis).startswith("Traceback (most recent call last):\n")
    assert reason(redis).rstrip().endswith("ValueError: it broke")


def test_a_job_that_exits_fails_and_the_worker_goes_on(redis, work):
    run(redis, work, worker_jobs.leave, 3)
    enqueue(redis, queue="low")

    assert work() == 1
    assert "SystemExit: 3" in reason(redis)


def test_a_result_that_is_too_large_fails_with_its_size_and_is_not_retried(redis, work, environ):
    environ(RESULT_MAX_BYTES="1000")
    run(redis, work, worker_jobs.return_text, 2000, retry=Retry(max=3))

    assert (status(redis), queued(redis)) == ("failed", [])
    assert "2,002 bytes; 1,000 are stored at most (RESULT_MAX_BYTES)." in reason(redis)
    assert redis.xlen(keys.results("default-0")) == 1


def test_a_result_up_to_the_limit_is_kept(redis, work, environ):
    environ(RESULT_MAX_BYTES="1000")

    assert len(run(redis, work, worker_jobs.return_text, 998).return_value()) == 998


def test_a_result_that_cannot_be_stored_fails_with_its_type_and_is_not_retried(redis, work):
    run(redis, work, worker_jobs.return_what_cannot_be_sent, retry=Retry(max=3))

    assert (status(redis), queued(redis)) == ("failed", [])
    assert "The job returned dict, which cannot be stored" in reason(redis)
    assert redis.xlen(keys.results("default-0")) == 1


def test_the_success_callback_is_called_with_the_result(redis, work):
    run(redis, work, worker_jobs.add, 2, 3, on_success=Callback(worker_jobs.note_success))

    assert said(redis) == ["success of default-0: 5"]
    assert status(redis) == "finished"


def test_the_failure_callback_is_called_with_the_error(redis, work):
    run(redis, work, worker_jobs.fail, on_failure=Callback(worker_jobs.note_failure))

    assert said(redis) == ["failure of default-0: ValueError: it broke"]


def test_a_job_whose_success_callback_breaks_fails(redis, work):
    run(redis, work, worker_jobs.nothing, on_success=Callback(worker_jobs.fail_as_callback))

    assert status(redis) == "failed"
    assert "RuntimeError: the callback broke" in reason(redis)


def test_a_job_whose_failure_callback_breaks_has_failed_all_the_same(redis, work):
    run(redis, work, worker_jobs.fail, on_failure=Callback(worker_jobs.fail_as_callback))

    assert registered(redis, "failed") == ["default-0"]
    assert "RuntimeError: the callback broke" in reason(redis)


def test_an_exception_handler_hears_of_it(redis):
    enqueue(redis, 1, worker_jobs.fail)
    worker = face(redis)
    worker.push_exc_handler(worker_jobs.handle)
    worker.work(burst=True, logging_level="CRITICAL")

    assert said(redis) == ["handled default-0: ValueError"]
    assert status(redis) == "failed"


def test_a_broken_exception_handler_ends_no_worker_and_hides_no_error(redis):
    enqueue(redis, 1, worker_jobs.fail)
    enqueue(redis, queue="low")
    worker = face(redis, queues=["default", "low"])
    worker.push_exc_handler(worker_jobs.fail_as_handler)
    worker.work(burst=True, logging_level="CRITICAL")

    assert (status(redis), status(redis, "low-0")) == ("failed", "finished")
    assert "ValueError: it broke" in reason(redis)
    assert reason(redis).rstrip().endswith("RuntimeError: the handler broke")


def test_a_job_without_a_time_limit_runs(redis, work):
    assert run(redis, work, worker_jobs.add, 2, 3, job_timeout=-1).return_value() == 5


def test_a_function_that_was_not_allowed_is_not_called_and_not_tried_again(redis):
    queue = Queue("default", connection=redis)
    queue.enqueue("os.system", "redis-cli -h", job_id="default-0", retry=Retry(max=3))
    child(redis).work()

    assert (status(redis), queued(redis)) == ("failed", [])
    assert "'os.system' is not under jobs or tests." in reason(redis)


@pytest.mark.parametrize(
    "path", ["tests.worker_jobs.threading.Thread", "tests.worker_jobs.os.system"]
)
def test_what_an_allowed_module_imports_is_not_allowed(redis, path):
    Queue("default", connection=redis).enqueue(path, "true", job_id="default-0")
    child(redis).work()

    assert status(redis) == "failed"


def test_a_worker_works_as_many_jobs_as_it_was_told(redis):
    enqueue(redis, 10)
    done = child(redis, stint=Stint(burst=True, max_jobs=7)).work()

    assert done == 7
    assert len(queued(redis)) == 3


# What it costs


def round_trips(redis, work):
    """How often Redis reads what a client sends while `work` is done."""
    before = redis.info("stats")["total_reads_processed"]
    work()
    return redis.info("stats")["total_reads_processed"] - before - 1  # the second question itself


@pytest.fixture
def warm(redis):
    """Redis knows the scripts, and the connection is there."""
    enqueue(redis)
    child(redis).work()
    redis.flushdb()


@pytest.mark.usefixtures("warm")
def test_a_thousand_small_jobs_cost_less_than_a_tenth_of_a_round_trip_each(redis):
    enqueue(redis, 1000)
    worker = child(redis)

    assert round_trips(redis, worker.work) < 100
    assert len(registered(redis, "finished")) == 1000


@pytest.mark.usefixtures("warm")
def test_a_lone_job_costs_two_round_trips(redis):
    enqueue(redis)
    worker = child(redis, stint=Stint(max_jobs=1))

    assert round_trips(redis, worker.work) == 2
    assert registered(redis, "finished") == ["default-0"]
