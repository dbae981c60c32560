"""Settle: an outcome is written once, by the worker whose job it is."""

import secrets

import pytest
from jiffy.worker.joins import Ending
from jiffy.worker.settle import RareSettler, Recorder
from rq.job import Dependency

from jiffy import keys
from jiffy.queues import Queue
from jiffy.worker import line
from tests import worker_jobs
from tests.worker_support import (
    enqueue,
    face,
    failed,
    finished,
    ids_of,
    job,
    queued,
    rare_settler,
    reason,
    registered,
    said,
    status,
    traces,
    turns,
)


@pytest.fixture
def worker(redis):
    return turns(redis)


@pytest.fixture
def taken(redis, worker):
    """A job that worker-1 holds."""
    enqueue(redis)
    return worker.take(1)[0][0]


def take_away(redis):
    """The worker was taken for dead, and another has its job now."""
    redis.delete(keys.held("worker-1"), "rq:wip:default", *redis.keys("rq:execution*"))
    redis.rpush("rq:queue:default", "default-0")
    return turns(redis, "worker-2").take(1)[0][0]


def test_a_finished_job_is_in_the_finished_registry_with_its_result(redis, worker, taken):
    worker.take(0, [finished(taken, b"5")])

    assert (status(redis), job(redis).return_value()) == ("finished", 5)
    assert registered(redis, "finished") == ["default-0"]


def test_of_a_finished_job_nothing_of_ours_is_left(redis, worker, taken):
    worker.take(0, [finished(taken)])
    left = set(redis.keys("rq:*:default-0*")) | set(redis.keys("jiffy:held:*"))

    assert left == {b"rq:job:default-0", b"rq:results:default-0"} & left
    assert registered(redis, "started") == []


def test_what_was_taken_away_is_not_settled_by_its_former_worker(redis, worker, taken):
    theirs = take_away(redis)
    before = traces(redis)
    worker.take(0, [finished(taken, b"5")])

    assert traces(redis) == before
    assert redis.hget("rq:execution:default-0:" + theirs.execution, "worker_name") == b"worker-2"


def test_what_was_taken_away_is_not_failed_by_its_former_worker(redis, taken):
    take_away(redis)
    before = traces(redis)

    assert not rare_settler(redis).settle(failed(taken))
    assert traces(redis) == before


def test_what_cannot_be_read_and_was_taken_away_is_not_failed(redis, taken):
    take_away(redis)
    before = traces(redis)

    assert not rare_settler(redis).fail_unread(taken, "it cannot be read")
    assert traces(redis) == before


def test_settling_again_changes_nothing(redis, worker, taken):
    worker.take(0, [finished(taken, b"5")])
    before = traces(redis)
    worker.take(0, [finished(taken, b"5")])

    assert traces(redis) == before


def test_failing_again_changes_nothing(redis, taken):
    rare_settler(redis).settle(failed(taken))
    before = traces(redis)

    assert not rare_settler(redis).settle(failed(taken))
    assert traces(redis) == before


def test_what_was_taken_unheard_is_taken_again(redis, worker):
    """The reply to the first turn was lost on its way."""
    enqueue(redis, 5)
    unheard, _, _ = worker.take(3)
    heard, _, _ = worker.take(3)

    assert ids_of(heard) == ids_of(unheard) == ["default-0", "default-1", "default-2"]
    assert queued(redis) == ["default-3", "default-4"]
    assert redis.zcard("rq:wip:default") == 3


def test_what_a_worker_keeps_is_still_its_own(redis, worker):
    enqueue(redis, 3)
    first, second, _ = worker.take(3)[0]
    worker.take(0, [finished(first)], keep=[second])

    assert registered(redis, "started") == ["default-1"]
    assert queued(redis) == ["default-2"]


def test_what_goes_back_is_queued_as_before(redis, worker):
    enqueue(redis, 3)
    worker.take(2)
    worker.take(0)

    assert queued(redis) == ["default-0", "default-1", "default-2"]
    assert [status(redis, job_id) for job_id in queued(redis)] == ["queued"] * 3
    assert registered(redis, "started") == []
    assert not redis.keys("rq:execution*")


def test_a_worker_that_holds_nothing_says_that_it_is_idle(redis, worker, taken):
    worker.take(0, [finished(taken)])

    assert redis.hget("rq:worker:worker-1", "state") == b"idle"
    assert not redis.exists("rq:worker:worker-1:executions")


def test_a_worker_counts_what_it_finished(redis, worker):
    enqueue(redis, 3)
    worker.take(0, [finished(taken) for taken in worker.take(3)[0]])

    assert redis.hget("rq:worker:worker-1", "successful_job_count") == b"3"
    assert float(redis.hget("rq:worker:worker-1", "total_working_time")) >= 0


def test_a_worker_counts_what_failed(redis, taken):
    rare_settler(redis).settle(failed(taken))

    assert redis.hget("rq:worker:worker-1", "failed_job_count") == b"1"


def test_a_result_is_kept_as_long_as_its_job(redis, work):
    enqueue(redis, 1, worker_jobs.add, 2, 3, result_ttl=60)
    work()

    assert redis.ttl("rq:job:default-0") == redis.ttl("rq:results:default-0")
    assert 50 < redis.ttl("rq:job:default-0") <= 60


def test_a_result_may_be_kept_for_ever(redis, work):
    enqueue(redis, 1, worker_jobs.add, 2, 3, result_ttl=-1)
    work()

    assert redis.ttl("rq:job:default-0") == redis.ttl("rq:results:default-0") == -1
    assert redis.zscore("rq:finished:default", "default-0") == float("inf")


def test_a_result_that_nobody_wants_leaves_nothing(redis, work):
    enqueue(redis, 1, worker_jobs.add, 2, 3, result_ttl=0)

    assert work() == 1
    assert not redis.keys("rq:*default-0*")
    assert registered(redis, "finished") == registered(redis, "started") == []


def test_a_job_that_was_deleted_while_it_ran_leaves_nothing(redis, worker, taken):
    redis.delete("rq:job:default-0")
    worker.take(0, [finished(taken, b"5")])

    assert not redis.keys("rq:*:default-0*")
    assert registered(redis, "finished") == registered(redis, "started") == []


def enqueue_chain(redis, func, **dependency):
    enqueue(redis, 1, func)
    depends_on = Dependency(["default-0"], **dependency)
    Queue("default", connection=redis).enqueue(
        worker_jobs.say, "after it", job_id="next", depends_on=depends_on
    )


def test_a_job_waits_for_the_one_that_it_depends_on(redis, work):
    enqueue_chain(redis, worker_jobs.nothing)

    assert registered(redis, "deferred") == ["next"]
    assert work() == 2
    assert said(redis) == ["after it"]
    assert registered(redis, "deferred") == []


def test_a_job_is_not_run_after_one_that_failed(redis, work):
    enqueue_chain(redis, worker_jobs.fail)
    work()

    assert said(redis) == []
    assert registered(redis, "deferred") == ["next"]


def test_a_job_may_be_run_also_after_one_that_failed(redis, work):
    enqueue_chain(redis, worker_jobs.fail, allow_failure=True)
    work()

    assert said(redis) == ["after it"]


def test_dependents_are_left_to_rqs_own_way_and_until_then_their_parent_is_held(redis, worker):
    enqueue_chain(redis, worker_jobs.nothing)
    (taken,), _, _ = worker.take(1)
    _, rare, _ = worker.take(0, [finished(taken)])

    assert [outcome.taken.job_id for outcome in rare] == ["default-0"]
    assert registered(redis, "started") == ["default-0"]


def test_a_full_redis_lets_a_job_with_dependents_be_settled(redis, worker):
    enqueue_chain(redis, worker_jobs.nothing)
    (taken,), _, _ = worker.take(1)
    redis.config_set("maxmemory", 1)
    try:
        _, rare, _ = worker.take(0, [finished(taken)])
    finally:
        redis.config_set("maxmemory", 0)

    assert [outcome.taken.job_id for outcome in rare] == ["default-0"]


def test_a_worker_does_not_wait_for_work_before_it_has_released_dependents(redis, worker):
    enqueue_chain(redis, worker_jobs.nothing)
    (taken,), _, _ = worker.take(1)
    _, rare, _ = worker.wait_and_take(1, [finished(taken)], wait_s=60)

    assert [outcome.taken.job_id for outcome in rare] == ["default-0"]


def copies(redis, dependent, count):
    """So many more that depend on the same job, written at once."""
    fields = redis.hgetall(keys.job(dependent))
    pipe = redis.pipeline(transaction=False)
    for number in range(count):
        job_id = f"{dependent}-{number}"
        pipe.hset(keys.job(job_id), mapping=fields)
        pipe.zadd("rq:deferred:default", {job_id: 1})
        pipe.sadd("rq:job:default-0:dependents", job_id)
        pipe.sadd(f"rq:job::{job_id}:dependencies", "default-0")
    pipe.execute()


@pytest.mark.slow
def test_of_thousands_that_depend_on_a_job_one_that_waits_on_keeps_no_other_back(redis, worker):
    enqueue_chain(redis, worker_jobs.nothing)
    (taken,), _, _ = worker.take(1)
    copies(redis, "next", 8200)
    redis.sadd("rq:job::next:dependencies", *enqueue(redis, queue="low"))
    rare_settler(redis).settle(finished(taken))

    assert status(redis) == "finished"
    assert (redis.llen("rq:queue:default"), registered(redis, "deferred")) == (8200, ["next"])


@pytest.mark.slow
def test_what_is_written_of_a_job_may_be_more_words_than_redis_takes_at_once(redis, taken):
    member = f"{taken.job_id}:{taken.execution}"
    with Recorder(redis) as recorder:
        for _ in range(110):
            recorder.sadd("numbers", *range(10_000))
        recorder.commit("rq:wip:default", member, Ending())

    assert redis.scard("numbers") == 10_000


@pytest.fixture
def hangs_up(redis, monkeypatch):
    """A Redis that hangs up on what is over 1 MB, and a worker that believes it soon."""
    monkeypatch.setattr(line, "HANGS_UP_S", 0.2)
    [most] = redis.config_get("proto-max-bulk-len").values()
    redis.config_set("proto-max-bulk-len", 1 << 20)
    yield
    redis.config_set("proto-max-bulk-len", most)


def test_a_job_of_which_redis_does_not_take_the_result_fails_with_the_reason(
    redis, taken, hangs_up
):
    value = f'"{secrets.token_hex(2_000_000)}"'.encode()
    rare_settler(redis).settle(finished(taken, value))

    assert status(redis) == "failed"
    assert "Redis hangs up on this, and on nothing else" in reason(redis)


def test_a_dependent_that_is_added_while_its_parent_is_settled_is_released(redis, worker, taken):
    settling = face(redis)
    write = settling.handle_job_success

    def add_then_write(*args, **kwargs):
        settling.handle_job_success = write
        Queue("default", connection=redis).enqueue(
            worker_jobs.nothing, job_id="next", depends_on=["default-0"]
        )
        return write(*args, **kwargs)

    settling.handle_job_success = add_then_write
    RareSettler(settling, worker.line).settle(finished(taken))

    assert queued(redis) == ["next"]
