"""Trying again: by the rules that a job carries, which only matter once it has failed."""

import pytest
import rq

from jiffy import Enqueue, Retry, actions, keys, options, wait
from jiffy.clock import wall
from jiffy.errors import JobFailed, StillRunning
from jiffy.queues import Queue
from jiffy.retry import TIMED_OUT
from tests import worker_jobs
from tests.worker_support import (
    claim,
    finish,
    job,
    queued,
    reason,
    registered,
    status,
    work_one,
)


@pytest.fixture
def put(redis):
    """Enqueue one job of these rules, as stock RQ does, with our field beside its own."""

    def put(func, *args, retry, **options):
        Queue("default", connection=redis).enqueue(
            func, args=args, retry=retry, job_id="default-0", **options
        )
        if isinstance(retry, Retry) and retry.text:
            redis.hset(keys.job("default-0"), keys.RETRY_FIELD, retry.text)

    return put


def retries_left(redis):
    return redis.hget(keys.job("default-0"), "retries_left")


def test_an_error_that_is_worth_it_is_tried_again(redis, put, work):
    put(worker_jobs.fail, retry=Retry(max=2, pause=0, on=ValueError))
    work()

    assert (status(redis), retries_left(redis)) == ("failed", b"0")


def test_an_error_that_is_not_worth_it_ends_the_job_at_once(redis, put, work):
    put(worker_jobs.fail, retry=Retry(max=2, on=OSError))

    assert work() == 1
    assert (status(redis), retries_left(redis)) == ("failed", b"2")
    assert registered(redis, "failed") == ["default-0"]
    assert reason(redis).rstrip().endswith("ValueError: it broke")


def test_a_fatal_error_ends_the_job_at_once_and_the_log_says_why(redis, put, work, caplog):
    put(worker_jobs.fail, retry=Retry(max=2, pause="1m", fatal=(ValueError,)))
    work()

    assert (status(redis), registered(redis, "scheduled")) == ("failed", [])
    assert "job.given_up job=default-0 reason='ValueError is fatal to it'" in caplog.text


def test_a_job_whose_tries_are_spent_was_not_given_up(put, work, caplog):
    put(worker_jobs.fail, retry=Retry(max=1, pause=0, on=ValueError))
    work()

    assert "given_up" not in caplog.text


def test_an_error_decides_also_where_the_failure_callback_raises_another(redis, put, work):
    broken = rq.Callback(worker_jobs.fail_as_callback)
    put(worker_jobs.fail, retry=Retry(max=2, fatal=ValueError), on_failure=broken)

    assert work() == 1
    assert status(redis) == "failed"


def test_a_pause_with_jitter_is_no_longer_than_it_was_asked_for(redis, put, work):
    put(worker_jobs.fail, retry=Retry(max=3, pause="100s"))
    before_s = wall()
    work()
    due_s = redis.zscore("rq:scheduled:default", "default-0")

    assert before_s + 49 <= due_s <= wall() + 101
    assert job(redis).retry_intervals == [100, 200, 400]


def test_pauses_with_jitter_differ(redis, put, work):
    pauses = set()
    for _ in range(12):
        redis.flushdb()
        put(worker_jobs.fail, retry=Retry(max=1, pause="1000s"))
        work()
        pauses.add(redis.zscore("rq:scheduled:default", "default-0"))

    assert len(pauses) > 6


def test_a_pause_without_jitter_is_exact_and_grows(redis, put, work):
    put(worker_jobs.fail, retry=Retry(max=3, pause="100s", jitter=False))
    for pause_s in (100, 200, 400):
        before_s = wall()
        work()
        due_s = redis.zscore("rq:scheduled:default", "default-0")
        redis.zrem("rq:scheduled:default", "default-0")
        redis.rpush("rq:queue:default", "default-0")

        assert before_s - 1 <= due_s - pause_s <= wall()


def test_stock_rq_pauses_as_long(redis, put):
    put(worker_jobs.fail, retry=Retry(max=3, pause="100s", on=OSError))
    before_s = wall()
    queue = Queue("default", connection=redis)
    rq.SimpleWorker([queue], connection=redis, job_class=queue.job_class, serializer="json").work(
        burst=True, logging_level="CRITICAL"
    )

    assert status(redis) == "scheduled"
    due_s = redis.zscore("rq:scheduled:default", "default-0")
    assert before_s - 1 <= due_s - 100 <= wall()


@pytest.mark.parametrize(
    ("rules", "then"),
    [({}, "queued"), ({"on": "rq.timeouts.JobTimeoutException"}, "queued"),
     ({"on": TimeoutError}, "failed"), ({"fatal": "rq.timeouts.BaseTimeoutException"}, "failed")],
)  # fmt: skip
def test_a_job_that_is_over_its_time_has_raised_rqs_timeout(redis, put, rules, then):
    put(worker_jobs.nothing, retry=Retry(max=2, pause=0, **rules))
    finish(redis, *claim(redis), "failed", error="killed", error_names=TIMED_OUT)

    assert (status(redis), queued(redis)) == (then, ["default-0"] * (then == "queued"))


def test_a_time_limit_is_not_tried_again_where_only_other_errors_are(redis, put, work):
    put(worker_jobs.last, 5, retry=Retry(max=2, on=OSError), job_timeout=1)

    assert work() == 1
    assert "JobTimeoutException" in reason(redis)


def test_a_stopped_job_is_stopped_whatever_its_rules_say(redis, put):
    put(worker_jobs.nothing, retry=Retry(max=2, fatal=ValueError))
    finish(redis, *claim(redis), "stopped", error="stopped")

    assert status(redis) == "stopped"


def test_a_job_that_returns_our_retry_waits_by_its_pauses(redis, work):
    Queue("default", connection=redis).enqueue(worker_jobs.ask_for_our_retry, job_id="default-0")
    before_s = wall()
    work()
    due_s = redis.zscore("rq:scheduled:default", "default-0")

    assert status(redis) == "scheduled"
    assert before_s + 49 <= due_s <= wall() + 101


def test_broken_rules_are_none(redis, put, work):
    put(worker_jobs.fail, retry=rq.Retry(2))
    redis.hset(keys.job("default-0"), keys.RETRY_FIELD, "[1, {")
    work()

    assert (status(redis), retries_left(redis)) == ("failed", b"0")


def test_a_job_that_is_worth_it_succeeds_in_the_end(redis, put, work):
    put(worker_jobs.fail_until_the_last_try, retry=Retry(max=2, pause=0, on=ValueError))
    work()

    assert job(redis).return_value() == "at last"


def test_the_rules_of_usual_options_are_in_the_job(redis, environ, work):
    environ(JOBS_MODULES="tests.worker_jobs")
    mine = Enqueue({worker_jobs.fail: options(retry=Retry(max=2, fatal=ValueError))})
    put = mine(worker_jobs.fail)

    assert work() == 1
    assert redis.hget(keys.job(put.id), "retries_left") == b"2"


# Why it is tried again


def why(redis):
    return (redis.hget(keys.job("default-0"), keys.REASON_FIELD) or b"").decode()


@pytest.mark.parametrize("pause", [0, "1h"])
def test_a_job_that_is_to_be_tried_again_says_why(redis, put, pause):
    put(worker_jobs.fail, retry=Retry(max=3, pause=pause))
    work_one(redis)

    assert status(redis) == ("scheduled" if pause else "queued")
    assert why(redis).startswith("Traceback (most recent call last):")
    assert why(redis).endswith("\nValueError: it broke")


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("x" * 3000, "ValueError: " + "x" * 3000),
        ("x" * 9000, "ValueError: " + "x" * 3988),
        ("x" * 3000 + "\n" + "y" * 3000, "y" * 3000),
    ],
)
def test_of_a_long_reason_the_end_is_kept_in_whole_lines(redis, put, work, message, kept):
    put(worker_jobs.fail, message, retry=Retry(max=3, pause="1h"))
    work()

    assert why(redis).endswith(kept)
    assert len(why(redis)) <= 4000


def test_a_reason_that_is_no_text_is_kept_as_well_as_it_can_be(redis, put):
    put(worker_jobs.fail, retry=Retry(max=3, pause="1h"))
    finish(redis, *claim(redis), "failed", error="ValueError: caf\udce9")

    assert (status(redis), why(redis)) == ("scheduled", "ValueError: caf?")


def test_the_newest_try_is_the_one_that_is_told_of(redis, put, work):
    put(worker_jobs.fail, retry=Retry(max=3, pause="1h"))
    redis.hset(keys.job("default-0"), keys.REASON_FIELD, "ValueError: an older one")
    work()

    assert why(redis).endswith("\nValueError: it broke")


def test_who_waits_for_a_job_that_is_to_be_tried_again_is_told_why(redis, put, work):
    put(worker_jobs.fail, retry=Retry(max=3, pause="1h"))
    work()
    with pytest.raises(StillRunning) as late:
        wait(job(redis), timeout=0.05)

    assert str(late.value) == (
        "Job default-0 is still scheduled after 50 ms, to be tried again: ValueError: it broke. "
        "It goes on."
    )


def test_a_job_that_is_canceled_before_its_next_try_says_so(redis, put, work):
    put(worker_jobs.fail, retry=Retry(max=3, pause="1h"))
    work()
    actions.cancel(job(redis))
    with pytest.raises(JobFailed) as canceled:
        wait(job(redis), timeout="5s")

    assert canceled.value.reason == "It was not tried again after ValueError: it broke"


def test_a_job_that_finishes_in_the_end_is_waited_for_as_if_it_had_never_failed(redis, put, work):
    put(worker_jobs.fail_until_the_last_try, retry=Retry(max=2, pause=0))
    work()

    assert wait(job(redis), timeout="5s") == "at last"


def test_a_job_that_fails_in_the_end_is_not_to_be_tried_again(redis, put, work):
    put(worker_jobs.fail, retry=Retry(max=2, pause=0))
    work()

    assert (status(redis), why(redis)) == ("failed", "")
