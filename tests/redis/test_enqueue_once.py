"""An enqueue happens once: however often it is said, and wherever the connection is cut."""

import multiprocessing
import threading
from datetime import timedelta

import pytest
from rq.job import Dependency

import jiffy
from jiffy import clock, keys, redis_io
from jiffy.errors import InvalidValue, RedisFull
from tests.jobs import enqueue as enqueue_jobs
from tests.jobs.enqueue import add
from tests.support.cutting import Cutter
from tests.support.newcomer import PATIENCE_S
from tests.support.worker_support import claim, finish, queued, registered


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(redis_io, "FIRST_PAUSE_S", 0.0001)


def test_it_is_one_round_trip(redis):
    jiffy.enqueue(add, 1, 1)
    heard = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    jiffy.enqueue.options(queue="low", retry=3, in_="5m", unique="1h")(add, 2, 3)

    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == heard + 1


def test_it_goes_on_when_redis_has_forgotten_the_script(redis):
    jiffy.enqueue(add, 1, 1)
    redis.script_flush()
    jiffy.enqueue(add, 2, 3)
    redis.script_flush()
    jiffy.enqueue_many(add, [(1, 2)])

    assert len(queued(redis)) == 3


@pytest.mark.parametrize(
    "options",
    [{}, {"job_id": "one"}, {"result_ttl": 0}, {"ttl": 1, "job_id": "one"}, {"depends_on": "a"}],
)
def test_cut_at_any_byte_of_what_is_asked_or_answered_it_is_there_once(redis, cutter, options):
    jiffy.enqueue.options(job_id="a", queue="low")(add, 1, 1)
    put, waits = jiffy.enqueue.options(**options), "depends_on" in options
    put(add, 2, 3)  # the script is known from here on
    for after in cutter.cut_each(3):
        redis.delete(keys.queue("default"), keys.job("one"), *redis.keys(f"{keys.OWN}sent:*"))
        redis.delete(keys.REGISTRIES["deferred"] + "default", keys.dependents("a"))
        job = put(add, 2, 3)
        waiting = registered(redis, "deferred")

        assert (waiting if waits else queued(redis)) == [job.id], after
        assert (queued(redis) if waits else waiting) == [], after
        assert redis.smembers(keys.dependents("a")) == {one.encode() for one in waiting}
    assert cutter.cuts >= 100


@pytest.mark.parametrize(("ttl", "what"), [("result_ttl", "finished"), ("failure_ttl", "failed")])
@pytest.mark.parametrize("waits", [False, True])
def test_a_job_that_is_over_and_gone_before_its_producer_hears_of_it_does_not_run_again(
    redis, cutter, work, ttl, what, waits
):
    """A worker that is quicker than the answer to a producer."""
    options = {ttl: 0} | ({"depends_on": jiffy.enqueue(add, 1, 1)} if waits else {})
    jiffy.enqueue.options(**options)(add, 1, 1)  # the script is known from here on
    work()
    cutter.cut_once("answered", 0, meanwhile=lambda: finish(redis, *claim(redis), what))
    job = jiffy.enqueue.options(**options)(add, 1, 1)

    assert (cutter.cuts, queued(redis), redis.exists(keys.job(job.id))) == (1, [], 0)


def test_many_are_there_once_wherever_it_is_cut(redis, cutter):
    calls = [(n, 1) for n in range(25)]
    jiffy.enqueue_many(add, calls)
    for after in cutter.cut_each(97):
        redis.delete(keys.queue("default"))
        jobs = jiffy.enqueue_many(add, calls)

        assert queued(redis) == jobs.ids, after
        assert jobs.ids_taken == []


def test_a_queue_that_is_something_else_in_redis_leaves_nothing_behind(redis):
    redis.set(keys.queue("default"), "a text")
    before = set(redis.keys())
    for act in (lambda: jiffy.enqueue(add, 1, 2), lambda: jiffy.enqueue_many(add, [(1, 2)])):
        with pytest.raises(Exception, match="WRONGTYPE"):
            act()

    assert set(redis.keys()) - before <= {keys.QUEUES.encode()}


def test_redis_that_is_full_is_one_clear_error(redis, monkeypatch):
    monkeypatch.setattr(redis_io, "PATIENCE_S", 0.1)
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisFull, match="is full: nothing was enqueued"):
            jiffy.enqueue(add, 1, 2)
    finally:
        redis.config_set("maxmemory", 0)

    assert redis.keys() == []


def test_redis_that_comes_back_is_waited_for(redis, redis_address, environ):
    with Cutter(redis_address) as cutter:
        environ(JOBS_MODULES="jobs,tests", REDIS_URL=cutter.url)
        redis_io.shared.cache_clear()
        cutter.refuse(times=3)
        jiffy.enqueue(add, 1, 2)
        redis_io.shared().close()
        redis_io.shared.cache_clear()

    assert len(queued(redis)) == 1


def test_a_sleeping_worker_is_woken_once(redis):
    for _ in range(3):
        jiffy.enqueue(add, 1, 2)

    assert redis.lrange(keys.wake("default"), 0, -1) == [b"1"]


def test_of_many_jobs_many_sleeping_workers_hear(redis):
    jiffy.enqueue_many(add, [(1, 2)] * 5)
    jiffy.enqueue.options(queue="low").many(add, [(1, 2)] * 100)

    assert (redis.llen(keys.wake("default")), redis.llen(keys.wake("low"))) == (5, 32)


def test_a_job_for_later_is_never_too_early(redis):
    at = clock.now() + timedelta(seconds=10.5)
    job = jiffy.enqueue.options(at=at)(add, 1, 2)

    assert (
        at.timestamp() <= redis.zscore(f"{keys.RQ}scheduled:default", job.id) < at.timestamp() + 1
    )


def test_a_dependency_that_is_not_there_is_refused(redis):
    with pytest.raises(InvalidValue, match="depends_on is 'nobody'; it must be a job that exists"):
        jiffy.enqueue.options(depends_on="nobody")(add, 1, 2)

    assert redis.keys() == []


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_a_job_does_not_wait_for_what_is_over_already(redis, status):
    first = jiffy.enqueue(add, 1, 1)
    redis.hset(keys.job(first.id), "status", status)
    redis.delete(keys.queue("default"))
    job = jiffy.enqueue.options(depends_on=Dependency(first, allow_failure=True))(add, 2, 3)

    assert (queued(redis), job.get_status()) == ([job.id], "queued")


def test_forked_processes_may_enqueue_like_a_preloaded_web_server(redis):
    jiffy.enqueue(add, 0, 0)  # the connection is open when the others are forked
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_put_many, args=(50,)) for _ in range(4)]
    for process in processes:
        process.start()
    _put_many(50)
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * 4
    assert len(set(queued(redis))) == 251


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_process_that_is_forked_while_threads_enqueue_may_enqueue_too(redis, monkeypatch):
    redis_io.shared.cache_clear()
    pool = redis_io.shared().connection_pool
    is_inside, go_on, make = threading.Event(), threading.Event(), pool.make_connection

    def make_slowly():
        is_inside.set()
        assert go_on.wait(2 * PATIENCE_S)
        return make()

    monkeypatch.setattr(pool, "make_connection", make_slowly)
    thread = threading.Thread(target=_put_many, args=(1,))
    thread.start()
    assert is_inside.wait(PATIENCE_S)
    child = multiprocessing.get_context("fork").Process(target=_put_many, args=(1,))
    child.start()
    child.join(PATIENCE_S)
    child.kill()
    go_on.set()
    thread.join()

    assert child.exitcode == 0
    assert len(queued(redis)) == 2


def _put_many(count):
    for _ in range(count):
        jiffy.enqueue(enqueue_jobs.nothing)
