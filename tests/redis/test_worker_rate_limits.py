"""Rate limits of RQ: a held job is queued as soon as a slot is free, whatever freed it."""

import pytest
import rq
from rq.rate_limit import RateLimit, RateLimitRegistry
from rq.serializers import JSONSerializer

import jiffy
from jiffy import actions, keys, redis_io
from jiffy.redis_io import Link
from jiffy.worker.finish import finish_command, plan_for
from jiffy.worker.recovery import Handling
from tests.jobs import worker as worker_jobs
from tests.jobs.enqueue import add
from tests.support.worker_support import (
    WIP,
    claim,
    die,
    finish,
    job,
    maintain,
    outcome,
    queued,
    status,
)


def enqueue(
    redis, count=3, func=worker_jobs.nothing, concurrency=1, queue="default", first=0, **options
):
    """Let stock RQ enqueue "job-0", "job-1" … under one rate limit."""
    stock = rq.Queue(queue, connection=redis, serializer=JSONSerializer)
    limit = RateLimit("api", concurrency)
    return [
        stock.enqueue(func, job_id=f"job-{number}", rate_limit=limit, **options).id
        for number in range(first, first + count)
    ]


def slots(redis):
    """The jobs that have a slot, and those that wait for one."""
    found = RateLimitRegistry("api", redis)
    return found.get_allowed_job_ids(), found.get_rate_limited_job_ids()


def crash_thrice(redis, claimed):
    for _ in range(2):
        die(redis, claimed)
        [claimed] = claim(redis, 1)
    die(redis, claimed)


ENDS = {
    "finished": lambda redis, claimed: finish(redis, claimed),
    "failed": lambda redis, claimed: finish(redis, claimed, "failed", error="it broke"),
    "stopped": lambda redis, claimed: finish(redis, claimed, "stopped", error="stopped"),
    "retried later": lambda redis, claimed: finish(redis, claimed, retry=rq.Retry(3, interval=60)),
    "killed": lambda redis, claimed: die(redis, claimed, handling=Handling.FAIL),
    "stopped by command": lambda redis, claimed: die(redis, claimed, handling=Handling.STOP),
    "quarantined": crash_thrice,
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_end_of_a_job_that_the_started_registry_has_lost_counts(redis, end):
    first, second = enqueue(redis, 2)
    [claimed] = claim(redis)
    redis.delete(WIP)
    end(redis, claimed)

    assert status(redis, first) != "started"
    assert (status(redis, second), slots(redis)) == ("queued", ([second], []))


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("ttl", [{}, {"result_ttl": 0, "failure_ttl": 0}], ids=["kept", "gone"])
def test_the_end_of_a_job_frees_its_slot_for_the_oldest_that_waits(redis, end, ttl):
    first, second, third = enqueue(redis, **ttl)
    [claimed] = claim(redis)
    before = slots(redis)
    redis.delete(keys.wake("default"))
    end(redis, claimed)

    assert before == ([first], [second, third])
    assert (slots(redis), queued(redis)) == (([second], [third]), [second])
    assert status(redis, second) == "queued"
    assert redis.llen(keys.wake("default")) == 1


def test_parts_of_workflows_keep_to_it(redis, work):
    limited = jiffy.part(add, 1, 1).options(rate_limit="stripe:1")
    group = jiffy.enqueue.group([limited] * 3)
    chain = jiffy.enqueue.chain(jiffy.part(add, 1, 1), limited)
    before = sorted(status(redis, job.id) for job in group.jobs)
    work()

    assert before == ["queued", "rate_limited", "rate_limited"]
    assert jiffy.wait_all([*group.jobs, *chain], timeout=60) == [2] * 5
    assert not redis.keys(f"{keys.RQ}rl:stripe:*")


@pytest.mark.parametrize(
    "end",
    [
        lambda redis, claimed: finish(redis, claimed, "requeued"),
        lambda redis, claimed: finish(redis, claimed, retry=rq.Retry(3)),
        lambda redis, claimed: die(redis, claimed),
        lambda redis, claimed: die(redis, claimed, is_gone=True),
    ],
    ids=["requeued", "retried at once", "crashed", "vanished"],
)
def test_a_job_that_is_queued_again_keeps_its_slot(redis, end):
    first, second, third = enqueue(redis)
    end(redis, *claim(redis))

    assert (slots(redis), queued(redis)) == (([first], [second, third]), [first])


def test_a_late_outcome_of_a_worker_that_was_away_leaves_its_job_waiting_for_a_slot(redis):
    first, second = enqueue(redis, 2)
    [late] = claim(redis)
    die(redis, is_gone=True)
    finish(redis, *claim(redis, name="worker-2"), "failed", worker="worker-2", error="it broke")
    actions.retry(job(redis, first))
    finish(redis, late)

    assert (status(redis, first), slots(redis)) == ("rate_limited", ([second], [first]))


def test_a_job_that_has_lost_its_slot_and_is_retried_at_once_waits_for_another(redis):
    [first] = enqueue(redis, 1, retry=rq.Retry(3))
    [claimed] = claim(redis)
    redis.delete(f"{keys.RQ}rl:api:allowed")
    [second] = enqueue(redis, 1, first=1)
    finish(redis, claimed, "failed", error="it broke")

    assert slots(redis) == ([second], [first])


def test_a_job_that_is_retried_by_hand_waits_for_a_slot(redis):
    first, second = enqueue(redis, 2)
    finish(redis, *claim(redis), "failed", error="it broke")
    actions.retry(first)

    assert (slots(redis), queued(redis)) == (([second], [first]), [second])


# What ends a job without a worker of ours


@pytest.mark.parametrize("held", [False, True])
def test_a_job_that_is_canceled_frees_its_slot(redis, held):
    first, second, third = enqueue(redis)
    actions.cancel(second if held else first)

    assert slots(redis) == (([first], [third]) if held else ([second], [third]))


def test_a_job_that_expired_frees_its_slot(redis):
    first, second, _ = enqueue(redis)
    redis.hset(keys.job(first), keys.EXPIRES_FIELD, 600)
    redis.zadd(keys.EXPIRING, {first: 1})
    claim(redis)

    assert status(redis, first) == "canceled"
    assert slots(redis)[0] == [second]


def delete(redis, job_id):
    redis.delete(keys.job(job_id))
    redis.lrem(keys.queue("default"), 0, job_id)


def cancel_as_rq_does(redis, job_id):
    rq.job.Job.fetch(job_id, redis, JSONSerializer).cancel()


def delete_with_the_hash_of_its_limit(redis, job_id):
    redis.delete(f"{keys.RQ}rl:api")
    delete(redis, job_id)


def finish_in_rq_2_12(redis, job_id):
    """It knows no rate limits."""
    redis.lpop(keys.queue("default"))
    redis.hset(keys.job(job_id), "status", "finished")


def start_and_die_in_stock_rq(redis, job_id):
    redis.lpop(keys.queue("default"))
    redis.hset(keys.job(job_id), "status", "started")
    redis.zadd(WIP, {f"{job_id}:execution": 1})


@pytest.mark.parametrize(
    "end",
    [delete, delete_with_the_hash_of_its_limit, finish_in_rq_2_12, start_and_die_in_stock_rq],
)
def test_a_slot_that_was_not_freed_is_found_by_maintenance(redis, end):
    first, second, third = enqueue(redis)
    end(redis, first)
    maintain(redis)

    assert (slots(redis), queued(redis)) == (([second], [third]), [second])


@pytest.mark.parametrize("end", [delete, cancel_as_rq_does])
def test_a_job_that_is_ended_while_it_runs_keeps_its_slot_until_then(redis, end):
    first, second = enqueue(redis, 2)
    [claimed] = claim(redis)
    end(redis, first)
    maintain(redis)
    between = slots(redis)
    finish(redis, claimed, "failed", error="it broke")
    maintain(redis)

    assert (between, slots(redis)) == (([first], [second]), ([second], []))


def test_a_limit_whose_key_is_something_else_keeps_no_slot_of_another(redis):
    first, second = enqueue(redis, 2)
    redis.sadd(f"{keys.RQ}rl-keys", "odd")
    redis.set(f"{keys.RQ}rl:odd:allowed", "odd")
    delete(redis, first)
    maintain(redis)

    assert slots(redis) == ([second], [])


def test_of_jobs_that_wait_for_a_slot_all_whose_queue_is_something_else_are_passed_over(redis):
    _, *odd = enqueue(redis, 30)
    redis.zadd(f"{keys.RQ}rl:api:rate_limited", dict.fromkeys(odd, 1))
    for job_id in odd:
        redis.hset(keys.job(job_id), "origin", "odd")
    redis.set(keys.queue("odd"), "odd")
    rq.Queue("low", connection=redis, serializer=JSONSerializer).enqueue(
        worker_jobs.nothing, job_id="good", rate_limit=RateLimit("api", 1)
    )
    [claimed] = claim(redis, 1)
    finish(redis, claimed)

    assert queued(redis, "low") == ["good"]
    assert slots(redis)[0] == ["good"]
    assert sorted(slots(redis)[1]) == sorted(odd)


def test_a_slot_among_hundreds_is_found_in_time(redis):
    ids = enqueue(redis, 2, concurrency=200)
    redis.delete(keys.queue("default"))
    allowed = f"{keys.RQ}rl:api:allowed"
    for number in range(150):
        redis.hset(keys.job(f"runs-{number}"), "status", "started")
        redis.zadd(allowed, {f"runs-{number}": number})
    redis.delete(*map(keys.job, ids))
    for _ in range(20):
        maintain(redis)

    assert redis.zcard(allowed) == 150


def test_a_limit_that_is_raised_lets_thousands_go_on_in_steps(redis):
    """Else one script holds up Redis for all that wait, once for each job that ends in it."""
    limited = jiffy.enqueue.options(rate_limit="api:3")
    limited.many(worker_jobs.nothing, [()] * 4000)
    claimed = claim(redis)
    redis.hset(f"{keys.RQ}rl:api", "concurrency", 10_000)
    plans = b",".join(plan_for(outcome(one)) for one in claimed)
    Link(redis).exchange(finish_command("worker-1", plans))
    after_one_script = len(queued(redis))
    for _ in range(4):
        maintain(redis)

    assert (len(claimed), after_one_script) == (3, 1002)
    assert slots(redis)[1] == []


def test_where_a_slot_leads_to_a_queue_that_is_something_else_it_is_not_lost(redis):
    enqueue(redis, 2, queue="low")
    [claimed] = claim(redis, queues=["low"])
    redis.set(keys.queue("low"), "odd")
    finish(redis, claimed)
    between = slots(redis)
    redis.delete(keys.queue("low"))
    maintain(redis)

    assert between == ([], ["job-1"])
    assert (slots(redis), queued(redis, "low")) == ((["job-1"], []), ["job-1"])
    assert job(redis, "job-1").get_status() == "queued"


def test_after_a_release_with_a_new_script_who_is_held_at_the_front_runs_next(redis):
    """Redis knows all scripts but the one that writes outcomes."""
    enqueue(redis, 1)
    jiffy.enqueue.options(queue="default", job_id="another")(worker_jobs.nothing)
    enqueue(redis, 1, first=1, at_front=True)
    redis.script_flush()
    for script in redis_io._LUA.keys() - {"finish"}:
        redis.script_load(redis_io.source(script))
    jiffy.SimpleWorker(["default"], connection=redis).work(burst=True, max_jobs=2)

    assert (status(redis, "job-1"), queued(redis)) == ("finished", ["another"])
