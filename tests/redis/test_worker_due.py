"""Due: delayed jobs go to their queues when their time has come, each once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from rq import Retry

from jiffy import clock, keys
from jiffy.producer.enqueue import Queue
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import due, enqueue, queued, registered

SCHEDULED = keys.REGISTRIES["scheduled"]


def delay(redis, count=1, since_s=1, func=worker_jobs.nothing, queue="default", **options):
    """Put jobs for later on a queue that have been due for so long."""
    at = clock.now() - timedelta(seconds=since_s)
    for number in range(count):
        Queue(queue, connection=redis).enqueue_at(at, func, job_id=f"{queue}-{number}", **options)


def test_two_movers_move_each_job_once(redis):
    delay(redis, 300)
    with ThreadPoolExecutor(4) as movers:
        moved = sum(movers.map(lambda _: due(redis, most=20)[0], range(40)))

    assert moved == 300
    assert len(queued(redis)) == len(set(queued(redis))) == 300


def test_a_job_that_is_due_first_is_queued_first(redis):
    queue = Queue("default", connection=redis)
    now = clock.now()  # RQ keeps whole seconds
    for ago_s in (1, 3, 2):
        at = now - timedelta(seconds=ago_s)
        queue.enqueue_at(at, worker_jobs.nothing, job_id=f"{ago_s}-s-ago")
    due(redis)

    assert queued(redis) == ["3-s-ago", "2-s-ago", "1-s-ago"]


def test_jobs_and_retries_for_the_front_go_there(redis, work):
    retry = Retry(max=1, interval=1, enqueue_at_front=True)
    enqueue(redis, 1, worker_jobs.fail, retry=retry)
    work()
    delay(redis, at_front=True, queue="low")
    for queue in ("default", "low"):
        redis.zadd(f"{SCHEDULED}{queue}", {f"{queue}-0": 1})
        Queue(queue, connection=redis).enqueue(worker_jobs.nothing, job_id=f"waits-{queue}")
    due(redis, queues=["default", "low"])

    assert queued(redis) == ["default-0", "waits-default"]
    assert queued(redis, "low") == ["low-0", "waits-low"]


def test_where_rqs_own_scheduler_is_at_work_nothing_is_moved(redis):
    delay(redis)
    redis.set(f"{keys.RQ}scheduler-lock:default", 1, ex=61)

    assert due(redis)[0] == 0
    assert registered(redis, "scheduled") == ["default-0"]


@pytest.mark.parametrize("lasts_s", [None, 10**9])
def test_a_lock_of_rqs_scheduler_that_does_not_end_is_none(redis, lasts_s):
    delay(redis)
    redis.set(f"{keys.RQ}scheduler-lock:default", 1, ex=lasts_s)

    assert due(redis)[0] == 1


def test_a_deleted_job_is_forgotten(redis):
    delay(redis)
    redis.delete(keys.job("default-0"))

    assert due(redis)[0] == 0
    assert (queued(redis), registered(redis, "scheduled")) == ([], [])


@pytest.mark.parametrize("becomes", ["of another type", "without data"])
def test_a_corrupt_job_is_queued_and_its_worker_says_what_is_wrong(redis, work, becomes):
    delay(redis)
    if becomes == "without data":
        redis.hdel(keys.job("default-0"), "data")
    else:
        redis.delete(keys.job("default-0"))
        redis.set(keys.job("default-0"), "odd")
    due(redis)
    work()

    assert registered(redis, "failed") == ["default-0"]


def test_jobs_whose_queue_is_something_else_wait_and_no_others_do(redis):
    delay(redis, 3)
    delay(redis, queue="other")
    redis.set(keys.queue("default"), "odd")
    due(redis, most=2, queues=["default", "other"])

    assert registered(redis, "scheduled") == ["default-0", "default-1", "default-2"]
    assert queued(redis, "other") == ["other-0"]
