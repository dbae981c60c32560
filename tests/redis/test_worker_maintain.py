"""Maintain: what RQ's workers leave behind when they die, and what no one needs any more."""

import pytest
import rq
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from jiffy import keys
from jiffy.redis_io import Link
from jiffy.worker import recovery, upkeep
from tests.support.worker_support import (
    WIP,
    child,
    claim,
    enqueue,
    job,
    maintain,
    queued,
    registered,
    rq_worker,
    status,
    traces,
)


@pytest.mark.parametrize("lasts_s", [None, 10**9])
def test_a_mark_of_the_last_time_that_does_not_end_keeps_nothing_from_being_tidied_up(
    redis, lasts_s
):
    redis.set(f"{keys.OWN}maintained:default", "odd", ex=lasts_s)
    redis.zadd(keys.REGISTRIES["finished"] + "default", {"old": 1})
    upkeep.maintain(Link(redis), [keys.queue("default")], 60)

    assert registered(redis, "finished") == []


def start_in_stock_rq(redis, job_id="default-0", lease_until_s=1, says_so=True):
    """A worker of RQ's has begun a job and died; its lease has run out."""
    worker = rq.SimpleWorker(["default"], name="stock", connection=redis, serializer=JSONSerializer)
    started = job(redis, job_id)
    worker.prepare_execution(started)
    if says_so:
        worker.prepare_job_execution(started)
    redis.lrem(keys.queue("default"), 0, job_id)
    (member,) = [raw for raw in redis.zrange(WIP, 0, -1) if raw.startswith(job_id.encode())]
    redis.zadd(WIP, {member: lease_until_s})
    return member


@pytest.mark.parametrize("value", [b"\xff", b"unheard-of", None])
def test_an_abandoned_job_that_says_nothing_of_where_it_is_fails(redis, value):
    enqueue(redis)
    start_in_stock_rq(redis)
    if value is None:
        redis.delete(keys.job("default-0"))
        redis.set(keys.job("default-0"), "odd")
    else:
        redis.hset(keys.job("default-0"), "status", value)
    maintain(redis)

    assert (registered(redis, "failed"), registered(redis, "started")) == (["default-0"], [])


@pytest.mark.parametrize("until_s", [1, 9e9], ids=["stale", "alive"])
@pytest.mark.parametrize("where", [*JobStatus, "gone"])
def test_an_entry_that_was_left_in_the_started_registry_goes_and_its_job_stays_as_it_is(
    redis, where, until_s
):
    enqueue(redis)
    start_in_stock_rq(redis, lease_until_s=until_s)
    if where == "gone":
        redis.delete(keys.job("default-0"))
    elif where != JobStatus.STARTED:
        redis.hset(keys.job("default-0"), "status", where.value)
    before = redis.hgetall(keys.job("default-0"))
    maintain(redis)
    is_abandoned = until_s == 1 and where in (
        JobStatus.STARTED,
        JobStatus.CREATED,
        JobStatus.QUEUED,
    )

    assert registered(redis, "started") == ([] if until_s == 1 else ["default-0"])
    assert registered(redis, "failed") == (["default-0"] if is_abandoned else [])
    assert is_abandoned or redis.hgetall(keys.job("default-0")) == before


@pytest.mark.parametrize("between", ["", ":intermediate"])
def test_a_job_that_a_stock_worker_registered_and_did_not_begin_is_not_lost(redis, between):
    enqueue(redis, 3)
    start_in_stock_rq(redis, says_so=False)
    start_in_stock_rq(redis, "default-1", says_so=False)
    redis.lpush(keys.queue("default") + between, "default-1")
    maintain(redis)

    assert (registered(redis, "failed"), registered(redis, "started")) == (["default-0"], [])
    assert status(redis, "default-1") == "queued"


@pytest.mark.parametrize("odd", ["no-colon", 'id:a"b', b"id:\xff", ":", "::"])
def test_an_odd_entry_of_the_started_registry_keeps_no_other(redis, odd):
    enqueue(redis)
    start_in_stock_rq(redis)
    redis.zadd(WIP, {odd: 0})
    maintain(redis)

    assert (registered(redis, "failed"), redis.zcard(WIP)) == (["default-0"], 0)


def test_an_abandoned_job_that_stands_there_without_an_execution_fails(redis):
    """RQ 1 wrote it so."""
    enqueue(redis)
    redis.lpop(keys.queue("default"))
    redis.hset(keys.job("default-0"), "status", "started")
    redis.zadd(WIP, {"default-0": 1})
    maintain(redis)

    assert (registered(redis, "failed"), redis.zcard(WIP)) == (["default-0"], 0)


def test_a_job_that_our_worker_holds_is_not_abandoned_however_old_its_lease(redis):
    """After an outage of Redis all are that old; the heartbeat or the recovery sees to them."""
    enqueue(redis)
    [claimed] = claim(redis)
    redis.zadd(WIP, {f"default-0:{claimed.execution}": 1})
    maintain(redis)

    assert (status(redis), registered(redis, "started")) == ("started", ["default-0"])


@pytest.mark.parametrize("lease", [{}, {"worker-1": 1e15}, {"worker-1": "inf"}])
def test_a_dead_worker_whose_lease_is_gone_or_far_ahead_is_found_by_what_it_holds(redis, lease):
    enqueue(redis)
    [claimed] = claim(redis)
    redis.delete(keys.LEASES)
    redis.zadd(keys.LEASES, lease or {"another": 1e15})
    redis.zadd(WIP, {f"default-0:{claimed.execution}": 1})
    maintain(redis)
    redis.hset(keys.LAST_SWEEP, "at", redis.time()[0] - 3)
    recovery.sweep(Link(redis))

    assert queued(redis) == ["default-0"]


def test_a_hundred_abandoned_jobs_at_a_time_are_seen_to(redis):
    ids = enqueue(redis, 130)
    for job_id in ids:
        redis.hset(keys.job(job_id), "status", "started")
        redis.zadd(WIP, {f"{job_id}:execution": 1})
    redis.delete(keys.queue("default"))
    counts = [(maintain(redis), len(registered(redis, "failed")))[1] for _ in range(2)]

    assert counts == [100, 130]


# Other lists and registries


def test_old_ids_leave_their_registries_a_thousand_at_a_time(redis):
    finished, failed = (keys.REGISTRIES[name] + "default" for name in ("finished", "failed"))
    redis.zadd(finished, {f"old-{number}": number + 1 for number in range(2500)})
    redis.zadd(failed, {"old": 1, "for ever": -1, "new": 9e9})
    redis.zadd(finished, {"for ever": "+inf"})
    more = [maintain(redis) for _ in range(3)]

    assert more == [True, True, False]
    assert registered(redis, "finished") == ["for ever"]
    assert registered(redis, "failed") == ["for ever", "new"]


def test_a_dependent_that_a_stock_worker_left_ready_is_queued_after_a_moment(redis):
    ids = enqueue(redis, 3)
    redis.delete(keys.queue("default"))
    ready = f"{keys.RQ}ready:default"
    redis.zadd(ready, {ids[0]: 1, ids[1]: 1, ids[2]: redis.time()[0] + 1, "gone": 1})
    redis.hset(keys.job(ids[0]), "status", "ready_to_enqueue")
    redis.hset(keys.job(ids[2]), "status", "ready_to_enqueue")
    maintain(redis)

    assert (queued(redis), status(redis)) == ([ids[0]], "queued")
    assert redis.zrange(ready, 0, -1) == [ids[2].encode()]


def seen_before(redis, *ids, seconds=61):
    redis.hset(f"{keys.OWN}seen:default", mapping=dict.fromkeys(ids, redis.time()[0] - seconds))


def test_a_job_that_a_stock_worker_took_and_never_began_is_queued_again_in_a_minute(redis):
    ids = enqueue(redis, 4)
    between = f"{keys.queue('default')}:intermediate"
    redis.rename(keys.queue("default"), between)
    redis.hset(keys.job(ids[2]), "status", "started")
    redis.delete(keys.job(ids[3]))
    maintain(redis)
    first = (queued(redis), redis.lrange(between, 0, -1))
    seen_before(redis, ids[0])
    maintain(redis)

    assert first == ([], [ids[0].encode(), ids[1].encode()])
    assert (queued(redis), redis.lrange(between, 0, -1)) == ([ids[0]], [ids[1].encode()])


def test_a_job_that_is_said_to_come_there_in_the_future_is_queued_again_too(redis):
    [job_id] = enqueue(redis)
    redis.rename(keys.queue("default"), f"{keys.queue('default')}:intermediate")
    seen_before(redis, job_id, seconds=-(10**9))
    maintain(redis)
    since_s = float(redis.hget(f"{keys.OWN}seen:default", job_id))

    assert since_s <= redis.time()[0] + 1


def test_a_job_that_passes_there_twice_is_not_taken_for_one_that_stayed(redis):
    [job_id] = enqueue(redis)
    between = f"{keys.queue('default')}:intermediate"
    seen_before(redis, job_id)
    maintain(redis)
    redis.rename(keys.queue("default"), between)
    maintain(redis)

    assert queued(redis) == []


def test_workers_that_redis_has_forgotten_are_no_longer_shown(redis):
    for name in ("alive", "dead"):
        rq_worker(redis, name).register_birth()
    redis.delete(keys.worker("dead"))
    maintain(redis)

    assert redis.smembers(f"{keys.RQ}workers:default") == {keys.worker("alive").encode()}
    assert redis.smembers(keys.WORKERS) == {keys.worker("alive").encode()}


def test_it_is_done_every_few_seconds_however_many_supervisors_do_it(redis):
    maintain(redis)
    enqueue(redis)
    start_in_stock_rq(redis)
    before = traces(redis)
    upkeep.maintain(Link(redis), [keys.queue("default")], 60)

    assert traces(redis) == before


def test_rqs_groups_forget_jobs_that_are_gone(redis):
    for name, ids in (("over", ["gone"]), ("some", ["gone", "default-0"])):
        redis.sadd(f"{keys.RQ}groups", name)
        redis.sadd(f"{keys.RQ}group:{name}", *ids)
    redis.sadd(f"{keys.RQ}groups", "odd")
    redis.set(f"{keys.RQ}group:odd", "odd")
    enqueue(redis)
    maintain(redis)

    assert redis.smembers(f"{keys.RQ}groups") == {b"some", b"odd"}
    assert redis.smembers(f"{keys.RQ}group:some") == {b"default-0"}


def test_no_worker_looks_through_all_of_rqs_groups(redis):
    redis.sadd(f"{keys.RQ}groups", *range(1000))
    enqueue(redis)
    child(redis).work()

    assert redis.scard(f"{keys.RQ}groups") == 1000
    assert registered(redis, "finished") == ["default-0"]
