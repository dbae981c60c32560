"""Finish: an outcome is written once, by the worker whose job it is, and kept as long as asked."""

import pytest
import rq
from rq import Repeat

from jiffy import clock, keys, redis_io
from jiffy.redis_io import Link
from jiffy.worker.recovery import Death
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import (
    WIP,
    claim,
    claimer,
    enqueue,
    finish,
    job,
    queued,
    reason,
    recovery,
    registered,
    said,
    status,
    traces,
    work_one,
)

OUTCOMES = {
    "finished": {"value": b"5"},
    "failed": {"error": "it broke"},
    "stopped": {"error": "it was stopped"},
    "retried": {"retry": rq.Retry(3)},
    "requeued": {},
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
    recovery(redis).recover(Death(worker="worker-1", cause="the network", is_gone=True))
    [theirs] = claim(redis, name="worker-2")
    before = traces(redis)

    assert finish(redis, claimed, what, **OUTCOMES[what]) == 0
    assert traces(redis) == before
    assert finish(redis, theirs, worker="worker-2") == 1


@pytest.mark.parametrize("what", OUTCOMES)
def test_an_outcome_that_is_repeated_changes_nothing(redis, claimed, what):
    finish(redis, claimed, what, **OUTCOMES[what])
    before = traces(redis)

    assert finish(redis, claimed, what, **OUTCOMES[what]) == 0
    assert traces(redis) == before


@pytest.mark.parametrize("what", OUTCOMES)
def test_of_a_job_that_was_deleted_while_it_ran_nothing_is_left(redis, claimed, what):
    redis.delete(keys.job("default-0"))
    finish(redis, claimed, what, **OUTCOMES[what])

    left = {keys.worker("worker-1"), keys.QUEUES, keys.LEASES, keys.wake("default")}
    now = keys.history("now:").encode()
    assert {key for key in redis.keys("*") if not key.startswith(now)} <= {
        key.encode() for key in left
    }


def test_a_finished_job_is_kept_with_its_result_and_nothing_else(redis, claimed):
    finish(redis, claimed, value=b"5")

    assert (status(redis), job(redis).return_value()) == ("finished", 5)
    assert (registered(redis, "finished"), registered(redis, "started")) == (["default-0"], [])
    assert not redis.exists(keys.held("worker-1"), keys.executions("worker-1"))
    assert not redis.keys(f"{keys.RQ}execution*")


def test_a_worker_keeps_the_rest_of_its_batch(redis):
    enqueue(redis, 3)
    first, *_ = claim(redis, 2)
    finish(redis, first)

    assert (registered(redis, "started"), queued(redis)) == (["default-1"], ["default-2"])
    assert redis.hget(keys.worker("worker-1"), "state") == b"busy"


def test_a_worker_counts_what_it_ran_and_is_idle_then(redis):
    enqueue(redis, 3)
    first, *others = claim(redis)
    finish(redis, first, "failed", error="it broke")
    for one in others:
        finish(redis, one)
    worker = redis.hgetall(keys.worker("worker-1"))

    assert (worker[b"successful_job_count"], worker[b"failed_job_count"]) == (b"2", b"1")
    assert worker[b"state"] == b"idle"


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


# How long it is kept


@pytest.mark.parametrize(
    ("func", "ttl", "registry"),
    [(worker_jobs.nothing, "result_ttl", "finished"), (worker_jobs.fail, "failure_ttl", "failed")],
)
def test_a_job_and_its_result_are_kept_as_long_as_it_says(redis, work, func, ttl, registry):
    enqueue(redis, 1, func, queue="default", **{ttl: 60})
    enqueue(redis, 1, func, queue="low", **{ttl: -1})
    enqueue(redis, 1, func, queue="high", **{ttl: 0})
    work("default", "low", "high")
    kept = [redis.ttl(key("default-0")) for key in (keys.job, keys.results)]

    assert all(55 <= ttl_s <= 60 for ttl_s in kept)
    assert redis.ttl(keys.job("low-0")) == redis.ttl(keys.results("low-0")) == -1
    assert registered(redis, registry, "low") == ["low-0"]
    assert not redis.exists(keys.job("high-0"), keys.results("high-0"))
    assert registered(redis, "started", "high") == []


@pytest.mark.parametrize(
    ("interval", "pauses"), [(0, []), (300, [300, 300]), ([100, 200], [100, 200])]
)
def test_a_job_repeats_as_often_and_after_as_long_as_it_says(redis, work, interval, pauses):
    enqueue(redis, 1, worker_jobs.say, "once", repeat=Repeat(2, interval), result_ttl=0)
    scheduled, found = keys.REGISTRIES["scheduled"] + "default", []
    for _ in range(2):
        before_s = clock.wall()
        work_one(redis)
        if due := redis.zscore(scheduled, "default-0"):
            found.append(round(due - before_s, -1))
            redis.zadd(scheduled, {"default-0": 1})
            Link(redis).run("due", [keys.queue("default")], [1000, 180])
    work()

    assert (found, said(redis)) == (pauses, ["once"] * 3)
    assert not redis.exists(keys.job("default-0"))


def test_a_job_that_fails_does_not_repeat(redis, work):
    enqueue(redis, 1, worker_jobs.fail, repeat=Repeat(2))

    assert work() == 1
    assert status(redis) == "failed"


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
    assert "Redis hangs up on this, and on nothing else" in reason(redis)


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
