"""Delayed jobs are moved to their queues when their time has come; leases are renewed."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from rq import Retry

from jiffy import clock, keys
from jiffy.queues import Queue
from jiffy.worker.line import Line
from tests import worker_jobs
from tests.worker_support import enqueue, face, job, queued, registered, status, turns

NOW = "2026-11-20T12:00:00.000000Z"


def move_due(redis, most=1000):
    (count,) = Line(redis).run("due", [keys.queue("default")], [most, 180])
    return count


def delay(redis, count=1, at=None, func=worker_jobs.nothing, **options):
    at = at or clock.now() - timedelta(seconds=1)
    queue = Queue("default", connection=redis)
    for number in range(count):
        queue.enqueue_at(at, func, job_id=f"default-{number}", **options)


def test_a_job_whose_time_has_come_is_queued(redis):
    delay(redis)
    count = move_due(redis)

    assert (count, queued(redis), status(redis)) == (1, ["default-0"], "queued")
    assert registered(redis, "scheduled") == []


def test_it_runs_then(redis, work):
    delay(redis, func=worker_jobs.tell_id)
    move_due(redis)
    work()

    assert job(redis).return_value() == "default-0"


def test_a_job_whose_time_has_not_come_waits(redis):
    delay(redis, at=clock.now() + timedelta(minutes=1))

    assert move_due(redis) == 0
    assert registered(redis, "scheduled") == ["default-0"]


def test_two_movers_move_each_job_once(redis):
    delay(redis, 300)
    with ThreadPoolExecutor(4) as movers:
        moved = sum(movers.map(lambda _: move_due(redis, most=20), range(40)))

    assert moved == 300
    assert len(queued(redis)) == len(set(queued(redis))) == 300


def test_what_is_due_first_is_queued_first(redis):
    queue = Queue("default", connection=redis)
    for seconds in (1, 3, 2):
        at = clock.now() - timedelta(seconds=seconds)
        queue.enqueue_at(at, worker_jobs.nothing, job_id=f"{seconds}-s-ago")
    move_due(redis)

    assert queued(redis) == ["3-s-ago", "2-s-ago", "1-s-ago"]


def test_a_job_for_the_front_goes_there(redis):
    Queue("default", connection=redis).enqueue(worker_jobs.nothing, job_id="waits")
    delay(redis, at_front=True)
    move_due(redis)

    assert queued(redis) == ["default-0", "waits"]


def test_a_retry_for_the_front_goes_there(redis, work):
    enqueue(redis, 1, worker_jobs.fail, retry=Retry(max=1, interval=1, enqueue_at_front=True))
    work()
    redis.zadd("rq:scheduled:default", {"default-0": 1})
    Queue("default", connection=redis).enqueue(worker_jobs.nothing, job_id="waits")
    move_due(redis)

    assert queued(redis) == ["default-0", "waits"]


def test_where_rqs_own_scheduler_is_at_work_nothing_is_moved(redis):
    delay(redis)
    redis.set("rq:scheduler-lock:default", 1)

    assert move_due(redis) == 0
    assert registered(redis, "scheduled") == ["default-0"]


def test_a_deleted_job_is_forgotten(redis):
    delay(redis)
    redis.delete("rq:job:default-0")

    assert move_due(redis) == 0
    assert (queued(redis), registered(redis, "scheduled")) == ([], [])


def test_a_corrupt_job_is_queued_all_the_same_and_the_worker_says_what_is_wrong(redis, work):
    delay(redis)
    redis.delete("rq:job:default-0")
    redis.set("rq:job:default-0", "what is this")
    move_due(redis)
    work()

    assert registered(redis, "failed") == ["default-0"]


def test_a_job_without_data_is_queued_all_the_same(redis, work):
    delay(redis)
    redis.hdel("rq:job:default-0", "data")
    move_due(redis)
    work()

    assert registered(redis, "failed") == ["default-0"]


def test_where_a_queue_is_something_else_in_redis_its_jobs_wait_and_no_others_do(redis):
    delay(redis)
    at = clock.now() - timedelta(seconds=1)
    Queue("other", connection=redis).enqueue_at(at, worker_jobs.nothing, job_id="other-0")
    redis.set(keys.queue("default"), "what is this")
    both = [keys.queue("default"), keys.queue("other")]
    Line(redis).run("due", both, [1000, 180])

    assert registered(redis, "scheduled") == ["default-0"]
    assert queued(redis, "other") == ["other-0"]


def test_what_becomes_due_wakes_a_sleeping_worker(redis):
    delay(redis)
    move_due(redis)

    assert redis.llen(keys.wake("default")) == 1


def test_a_queue_that_is_first_seen_like_this_is_shown(redis):
    delay(redis)
    redis.delete("rq:queues")
    move_due(redis)

    assert redis.smembers("rq:queues") == {b"rq:queue:default"}


# Leases


def renew(redis, *names):
    (gone,) = Line(redis).run("renew", [keys.LEASES], [10, NOW, clock.wall(), 480, *names])
    return gone


@pytest.fixture
def taken(redis):
    """A job that worker-1 holds."""
    face(redis).register_birth()
    enqueue(redis)
    return turns(redis).take(1)[0][0]


def test_a_renewed_lease_lasts_ten_seconds_by_the_clock_of_redis(redis, taken):
    redis.zadd(keys.LEASES, {"worker-1": 1})
    renew(redis, "worker-1")

    assert redis.zscore(keys.LEASES, "worker-1") > redis.time()[0] + 9


def test_what_a_worker_holds_is_renewed_with_it(redis, taken):
    member = f"default-0:{taken.execution}"
    redis.zadd("rq:wip:default", {member: 1})
    renew(redis, "worker-1")

    assert redis.zscore("rq:wip:default", member) > clock.wall() + 60
    assert redis.hget("rq:job:default-0", "last_heartbeat").decode() == NOW
    assert redis.hget("rq:worker:worker-1", "last_heartbeat").decode() == NOW


def test_whose_lease_was_gone_is_told(redis, taken):
    redis.zrem(keys.LEASES, "worker-1")

    assert renew(redis, "worker-1") == [b"worker-1"]
    assert renew(redis, "worker-1") == []


def test_a_job_that_was_taken_away_is_not_renewed(redis, taken):
    redis.delete("rq:wip:default", f"rq:execution:default-0:{taken.execution}")
    renew(redis, "worker-1")

    assert not redis.exists("rq:wip:default", f"rq:execution:default-0:{taken.execution}")


def test_a_job_whose_key_became_another_type_keeps_nobody_from_renewing(redis, taken):
    redis.delete("rq:job:default-0")
    redis.set("rq:job:default-0", "what is this")
    redis.zadd(keys.LEASES, {"worker-1": 1})
    renew(redis, "worker-1")

    assert redis.zscore(keys.LEASES, "worker-1") > redis.time()[0] + 9
