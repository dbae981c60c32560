"""Retry: a job that failed is tried again by the rules that it carries, and says why."""

import re

import pytest
import rq

from jiffy import Retry, SimpleWorker, actions, keys, log, wait
from jiffy.errors import JobFailed, StillRunning
from jiffy.producer.enqueue import Queue
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import claim, finish, job, reason, registered, status, work_one

SCHEDULED = keys.REGISTRIES["scheduled"] + "default"


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


@pytest.mark.parametrize(
    ("retry", "ran", "left"),
    [
        (rq.Retry(2), 3, 0),
        (Retry(max=2, pause=0, on=ValueError), 3, 0),
        (Retry(max=2, on=OSError), 1, 2),
        (Retry(max=2, fatal=ValueError), 1, 2),
    ],
)
def test_a_job_is_tried_as_often_as_its_rules_say(redis, put, work, caplog, retry, ran, left):
    put(worker_jobs.fail, retry=retry)

    assert work() == ran
    assert (status(redis), job(redis).retries_left) == ("failed", left)
    assert registered(redis, "failed") == ["default-0"]
    assert reason(redis).rstrip().endswith("ValueError: it broke")
    assert ("job.given_up job=default-0 reason='ValueError is" in caplog.text) == (left > 0)


@pytest.mark.parametrize(
    ("func", "args", "retry", "logged"),
    [
        (worker_jobs.fail, [], Retry(max=1, pause=0), ["INFO job.failed", "ERROR job.failed"]),
        (worker_jobs.fail, [], Retry(max=1, on=OSError), ["ERROR job.failed"]),
        (worker_jobs.ask_for_a_retry, [1], None, ["INFO job.retried", "ERROR job.failed"]),
    ],
)
def test_a_failure_is_an_error_in_the_log_once_it_is_not_tried_again(
    redis, put, caplog, capfd, func, args, retry, logged
):
    caplog.set_level(log.INFO, "jiffy")
    log.setup("INFO")
    put(func, *args, retry=retry)
    SimpleWorker(["default"], connection=redis).work(burst=True)

    assert re.findall(r"\w+ job\.(?:failed|retried)", capfd.readouterr().out) == logged


def test_a_time_limit_is_not_tried_again_where_only_other_errors_are(redis, put, work):
    put(worker_jobs.last, 5, retry=Retry(max=2, on=OSError), job_timeout=1)

    assert work() == 1
    assert "JobTimeoutException" in reason(redis)


@pytest.mark.parametrize(
    ("func", "args", "options"),
    [
        (worker_jobs.fail, [], {"retry": Retry(max=3, pause="100s")}),
        (worker_jobs.ask_for_our_retry, [], {"retry": None}),
    ],
    ids=["failed", "returned a retry"],
)
def test_pauses_with_jitter_differ_and_are_never_longer_than_asked(
    redis, put, work, func, args, options
):
    pauses = set()
    for _ in range(10):
        redis.flushdb()
        put(func, *args, **options)
        work()
        ended_s = job(redis).ended_at.timestamp()
        pauses.add(round(redis.zscore(SCHEDULED, "default-0") - ended_s))

    assert status(redis) == "scheduled"
    assert len(pauses) > 4
    assert 49 <= min(pauses) <= max(pauses) <= 102


# Why it is tried again


def why(redis):
    return (redis.hget(keys.job("default-0"), keys.REASON_FIELD) or b"").decode()


@pytest.mark.parametrize("pause", [0, "1h"])
def test_a_job_that_is_to_be_tried_again_says_why(redis, put, pause):
    put(worker_jobs.fail, retry=Retry(max=3, pause=pause))
    redis.hset(keys.job("default-0"), keys.REASON_FIELD, "ValueError: an older one")
    work_one(redis)

    assert status(redis) == ("scheduled" if pause else "queued")
    assert why(redis).startswith("Traceback (most recent call last):")
    assert why(redis).endswith("\nValueError: it broke")


@pytest.mark.parametrize(
    "message", ["x" * 9000 + "the end", "x" * 3000 + "\n" + "y" * 3000 + "the end"]
)
def test_of_a_long_traceback_of_a_try_its_head_and_its_tail_are_kept(redis, put, work, message):
    put(worker_jobs.fail, message, retry=Retry(max=3, pause="1h"))
    work()

    assert why(redis).startswith("Traceback (most recent call last):")
    assert "\nValueError: xxx" in why(redis)
    assert "characters cut …" in why(redis)
    assert why(redis).endswith("the end")
    assert 3900 < len(why(redis)) <= 4000


def test_a_reason_that_is_no_text_is_kept_as_well_as_it_can_be(redis, put):
    put(worker_jobs.fail, retry=Retry(max=3, pause="1h"))
    finish(redis, *claim(redis), "failed", error="ValueError: caf\udce9")

    assert (status(redis), why(redis)) == ("scheduled", r"ValueError: caf\udce9")


def test_who_waits_for_a_job_that_is_to_be_tried_again_hears_why(redis, put, work):
    put(worker_jobs.fail, retry=Retry(max=3, pause="1h"))
    work()
    with pytest.raises(StillRunning) as late:
        wait(job(redis), timeout=0.05)

    assert str(late.value).startswith(
        "Job default-0 is still scheduled after 50 ms, to be retried: ValueError: it broke ("
    )
    assert str(late.value).endswith(" in fail). It goes on.")


def test_a_job_that_is_canceled_before_its_next_try_says_so(redis, put, work):
    put(worker_jobs.fail, retry=Retry(max=3, pause="1h"))
    work()
    actions.cancel(job(redis))
    with pytest.raises(JobFailed) as canceled:
        wait(job(redis), timeout="5s")

    assert canceled.value.reason == "It was not tried again after ValueError: it broke"


def test_a_job_that_finishes_in_the_end_is_waited_for_as_if_it_had_never_failed(redis, put, work):
    put(worker_jobs.fail_until_the_last_try, retry=Retry(max=2, pause=0, on=ValueError))
    work()

    assert wait(job(redis), timeout="5s") == "at last"
    assert redis.xlen(keys.results("default-0")) == 1
