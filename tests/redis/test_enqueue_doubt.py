"""Where Redis goes away amid an enqueue, the error says what is known and how to go on."""

import os
import signal

import pytest

import jiffy
from jiffy import keys, part, redis_io
from jiffy.errors import DuplicateJob, RedisAway, RedisFull
from jiffy.producer import recipe as enqueueing
from tests.jobs.enqueue import add, collect
from tests.support.newcomer import wait_until
from tests.support.worker_support import queued, registered

KILOBYTE = "x" * 1000


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(redis_io, "PATIENCE_S", 0)


@pytest.fixture
def few_in_a_chunk(monkeypatch):
    monkeypatch.setattr(enqueueing, "MOST_JOBS", 10)
    monkeypatch.setattr(enqueueing, "WRITE_EVERY_S", 60)


def ran_and_gone(redis):
    return lambda: redis.delete(keys.queue("default"), *redis.keys(f"{keys.RQ}job:*"))


def in_doubt(act):
    with pytest.raises(RedisAway, match="did not answer") as away:
        act()
    return away.value


@pytest.mark.parametrize(
    "options", [{}, {"job_id": "one"}, {"unique": "1h"}, {"in_": "1h"}, {"result_ttl": 0}]
)
@pytest.mark.parametrize("cut", [("answered", 0), ("asked", 0)])
def test_a_job_that_may_be_there_is_named_and_repeated_with_its_id_it_is_there_once(
    redis, cutter, options, cut
):
    jiffy.enqueue(add, 1, 1)
    redis.delete(keys.queue("default"))
    cutter.cut_once(*cut)
    error = in_doubt(lambda: jiffy.enqueue.options(**options)(add, 2, 3))
    is_there = cut[0] == "answered"
    again = jiffy.enqueue.options(**options | {"job_id": error.job_id})
    if is_there:
        with pytest.raises(DuplicateJob):
            again(add, 2, 3)
    else:
        again(add, 2, 3)

    assert [
        *queued(redis),
        *map(bytes.decode, redis.zrange(f"{keys.RQ}scheduled:default", 0, -1)),
    ] == [error.job_id]
    assert f"as '{error.job_id}'; repeat with job_id='{error.job_id}'" in str(error)


def test_a_job_that_ran_and_is_gone_before_it_is_repeated_with_its_id_does_not_run_again(
    redis, cutter
):
    put = jiffy.enqueue.options(result_ttl=0)
    put(add, 1, 1)
    cutter.cut_once("answered", 0, ran_and_gone(redis))
    error = in_doubt(lambda: put(add, 2, 3))
    with pytest.raises(DuplicateJob):
        put.options(job_id=error.job_id)(add, 2, 3)

    assert queued(redis) == []


def test_no_answer_from_redis_and_no_connection_are_different_errors(redis):
    jiffy.enqueue(add, 1, 1)
    pool = redis_io.shared().connection_pool
    connection = pool.get_connection()
    connection._sock.settimeout(0.01)
    pool.release(connection)
    redis.client_pause(60_000, all=False)
    try:
        error = in_doubt(lambda: jiffy.enqueue(add, 2, 3))
    finally:
        redis.client_unpause()

    assert "did not answer (timed out): the job may have been enqueued" in str(error)
    assert error.job_id


def test_a_chain_that_may_be_there_says_how_to_find_out(redis, cutter):
    jiffy.enqueue.chain(part(add, 1, 1), part(add, 1, 1))
    redis.flushdb()
    # An answer may come before all is read.
    cutter.cut_once("answered", 0, lambda: wait_until(lambda: registered(redis, "deferred")))
    error = in_doubt(lambda: jiffy.enqueue.chain(part(add, 1, 1), part(add, 1, 1)))
    [last] = registered(redis, "deferred")

    assert str(error).endswith(f"whether there is a job '{last}'.")


@pytest.mark.parametrize(
    ("ids", "advice"),
    [
        (None, "repeated without ids of yours, they double."),
        ([f"id-{n}" for n in range(25)], "repeated with the same ids, none is doubled."),
    ],
)
def test_of_many_it_is_said_how_many_are_there_and_how_many_may_be(
    redis, cutter, few_in_a_chunk, ids, advice
):
    calls = [(n, 1) for n in range(25)]
    jiffy.enqueue_many(add, calls)
    redis.flushdb()
    cutter.cut_once("answered", 0, passing=1)
    error = in_doubt(lambda: jiffy.enqueue_many(add, calls, job_ids=ids))

    assert (error.count, error.job_id, len(queued(redis))) == (10, None, 20)
    assert "the first 10 calls are enqueued: the 10 under way may have been" in str(error)
    assert str(error).endswith(advice)


@pytest.mark.parametrize("parts", [1, 2])
def test_of_a_group_it_is_said_over_all_its_kinds(redis, cutter, few_in_a_chunk, parts):
    members = [part(add, 1, 1)] * 5 + [part(collect, 1)] * 15
    jiffy.enqueue.group(members)
    redis.flushdb()
    cutter.cut_once("answered", 0, passing=parts)
    error = in_doubt(lambda: jiffy.enqueue.group(members))

    assert error.count == {1: 5, 2: 15}[parts]


def test_of_many_that_are_unique_those_before_are_counted(redis, cutter, few_in_a_chunk):
    once = jiffy.enqueue.options(unique="1h")
    once(add, 0)
    cutter.cut_once("answered", 0, passing=1)
    error = in_doubt(lambda: once.many(add, [(n,) for n in range(1, 30)]))

    assert (error.count, len(queued(redis))) == (10, 21)


def test_a_redis_that_becomes_full_amid_many_says_how_many_are_there(redis, few_in_a_chunk):
    jiffy.enqueue_many(collect, [[KILOBYTE]])
    redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 500_000)
    try:
        with pytest.raises(RedisFull) as full:
            jiffy.enqueue_many(collect, [[KILOBYTE]] * 2000)
    finally:
        redis.config_set("maxmemory", 0)

    assert full.value.count == len(queued(redis)) - 1 > 10
    assert f"is full: only the first {full.value.count:,} calls are enqueued. " in str(full.value)


def test_ctrl_c_amid_many_leaves_the_reported_jobs_enqueued(
    redis, cutter, few_in_a_chunk, monkeypatch
):
    monkeypatch.setattr(redis_io, "PATIENCE_S", 5)
    jiffy.enqueue_many(add, [(1, 1)])
    redis.flushdb()
    reported = []
    cutter.cut_once("answered", 0, lambda: os.kill(os.getpid(), signal.SIGINT), passing=2)
    with pytest.raises(KeyboardInterrupt):
        jiffy.enqueue_many(add, ((n, 1) for n in range(1_000_000)), on_progress=reported.append)

    assert reported[-1] == len(queued(redis))
    assert redis.exists(keys.job(queued(redis)[-1]))
