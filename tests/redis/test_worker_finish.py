"""Finish: an outcome is written once, by the worker whose job it is, and kept as long as asked."""

import pytest
import rq

from jiffy import keys, redis_io
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import (
    WIP,
    claim,
    claimer,
    die,
    enqueue,
    finish,
    job,
    queued,
    reason,
    registered,
    status,
    traces,
)

OUTCOMES = {
    "finished": {"what": "finished", "value": b"5"},
    "failed": {"what": "failed", "error": "it broke"},
    "stopped": {"what": "stopped", "error": "it was stopped"},
    "retried": {"retry": rq.Retry(3)},
    "requeued": {"what": "requeued"},
}


@pytest.fixture
def claimed(redis):
    """A job that worker-1 has claimed."""
    enqueue(redis)
    [job] = claim(redis)
    return job


@pytest.mark.parametrize("what", OUTCOMES)
def test_an_outcome_that_comes_late_changes_nothing(redis, claimed, what):
    """The worker was taken for dead, and another runs its job by now."""
    die(redis, is_gone=True)
    [theirs] = claim(redis, name="worker-2")
    before = traces(redis)

    assert finish(redis, claimed, **OUTCOMES[what]) == 0
    assert traces(redis) == before
    assert finish(redis, theirs, worker="worker-2") == 1


@pytest.mark.parametrize("what", OUTCOMES)
def test_an_outcome_that_is_repeated_changes_nothing(redis, claimed, what):
    finish(redis, claimed, **OUTCOMES[what])
    before = traces(redis)

    assert finish(redis, claimed, **OUTCOMES[what]) == 0
    assert traces(redis) == before


@pytest.mark.parametrize("what", OUTCOMES)
def test_of_a_job_that_was_deleted_while_it_ran_nothing_is_left(redis, claimed, what):
    redis.delete(keys.job("default-0"))
    finish(redis, claimed, **OUTCOMES[what])

    left = {keys.worker("worker-1"), keys.QUEUES, keys.LEASES, keys.wake("default")}
    now = keys.history("now:").encode()
    assert {key for key in redis.keys("*") if not key.startswith(now)} <= {
        key.encode() for key in left
    }


def test_a_job_that_goes_back_was_never_begun(redis, claimed):
    enqueue(redis, queue="low")
    finish(redis, claimed, "requeued")

    assert (queued(redis), status(redis)) == (["default-0"], "queued")
    assert not redis.exists(keys.results("default-0"), WIP)
    assert redis.hget(keys.worker("worker-1"), "failed_job_count") is None


def test_what_a_batch_has_finished_counts_although_its_last_finish_was_lost(redis):
    """The next claim is heard, the outcomes that were sent with it are not: they are sent again."""
    first, second = enqueue(redis, 2)
    worker = claimer(redis)
    one, two = worker.claim(2).jobs
    worker.last_begun = two.execution
    worker.claim(1)

    assert [finish(redis, one), finish(redis, two)] == [1, 1]
    assert registered(redis, "finished") == [first, second]


# Results that are too large


@pytest.fixture
def hangs_up(redis, monkeypatch):
    """A Redis that hangs up on what is over 1 MB, and a worker that believes it soon."""
    monkeypatch.setattr(redis_io, "HANGS_UP_S", 0.2)
    [most] = redis.config_get("proto-max-bulk-len").values()
    redis.config_set("proto-max-bulk-len", 1 << 20)
    yield
    redis.config_set("proto-max-bulk-len", most)


def test_a_result_that_redis_refuses_fails_its_job_with_the_reason(redis, work, environ, hangs_up):
    environ(JOBS_MODULES="tests", RESULT_MAX_BYTES="100000000")
    enqueue(redis, 1, worker_jobs.return_text, 2_000_000)
    enqueue(redis, queue="low")

    assert work("default", "low") == 2
    assert (status(redis), status(redis, "low-0")) == ("failed", "finished")
    assert "Redis closes the connection at this, and at nothing else" in reason(redis)


def test_a_result_that_does_not_fit_on_the_board_is_written_at_once(redis, work):
    enqueue(redis, 1, worker_jobs.return_text, 900_000)
    work()

    assert len(job(redis).return_value()) == 900_000


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [("RELEASE", "v42", b"v42"), ("HEROKU_SLUG_COMMIT", "0123456789abcdef", b"01234567")],
)
def test_a_failed_job_carries_its_release(redis, environ, claimed, name, value, shown):
    environ(JOBS_MODULES="jobs,tests", **{name: value})
    finish(redis, claimed, "failed", error="it broke")

    assert redis.hget(keys.job("default-0"), keys.RELEASE_FIELD) == shown
