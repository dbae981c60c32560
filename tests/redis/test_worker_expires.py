"""Expires: a job that was not started in time is canceled with the reason, and never run."""

from functools import partial

import pytest
from rq.rate_limit import RateLimit

import jiffy
from jiffy import Retry, actions, enqueue, every, keys, part, wait
from jiffy.control import entries
from jiffy.errors import JobFailed
from jiffy.producer.enqueue import Job
from jiffy.redis_io import Link
from jiffy.worker import upkeep
from jobs import numbers
from tests.support import schedules
from tests.support.join_support import look as look_at_chains
from tests.support.worker_support import claim, die, finish, ids_of, queued, registered, status
from tests.support.worker_support import due as look_for_due

REASON = "Expired: not started within 10 minutes."


def add_in_time(expires="10m", **options):
    return enqueue.options(expires=expires, **options)(numbers.add, 2, 3)


def age(redis, seconds):
    """Let all jobs that are to be started in time have waited for so long."""
    for job_id in redis.zrange(keys.EXPIRING, 0, -1):
        redis.zincrby(keys.EXPIRING, -seconds, job_id)


def due(redis):
    """Look for what is due or over, as a supervisor does; return the ids that it canceled."""
    return look_for_due(redis)[1]


@pytest.fixture(params=["a worker", "a supervisor"])
def expire(redis, work, request):
    """Let so many seconds pass, and one of those two find out."""

    def pass_by(seconds):
        age(redis, seconds)
        return work() if request.param == "a worker" else due(redis)

    return pass_by


def test_a_job_that_was_not_started_in_time_is_canceled_and_never_run(redis, expire):
    late = add_in_time()
    expire(601)

    assert (status(redis, late.id), registered(redis, "canceled")) == ("canceled", [late.id])
    assert (queued(redis), registered(redis, "finished")) == ([], [])
    assert not redis.exists(keys.REGISTRIES["started"] + "default", keys.EXPIRING)
    assert not redis.keys(f"{keys.RQ}execution*") + redis.keys(f"{keys.OWN}held*")
    with pytest.raises(JobFailed) as failure:
        wait(late, timeout="5s")
    assert (failure.value.status, failure.value.reason) == ("canceled", REASON)


def test_it_is_among_the_canceled_whatever_stood_there(redis, expire):
    late = add_in_time()
    redis.set(keys.REGISTRIES["canceled"] + "default", "odd")
    expire(601)

    assert (status(redis, late.id), registered(redis, "canceled")) == ("canceled", [late.id])


@pytest.mark.parametrize(("failure_ttl", "kept_s"), [("1h", 3600), (None, 31536000), (-1, -1)])
def test_what_expired_is_kept_as_long_as_what_failed(redis, expire, failure_ttl, kept_s):
    late = add_in_time(failure_ttl=failure_ttl)
    expire(601)

    assert kept_s - 60 <= redis.ttl(keys.job(late.id)) <= kept_s


@pytest.mark.parametrize(
    ("expires", "words"), [(1, "1 second"), (90, "90 seconds"), (7200, "2 hours"), (86400, "1 day")]
)
def test_the_reason_says_how_long_it_had_in_words(redis, expires, words):
    late = add_in_time(expires)
    age(redis, expires + 1)
    due(redis)

    reason = redis.hget(keys.job(late.id), keys.REASON_FIELD).decode()
    assert reason == f"Expired: not started within {words}."


@pytest.mark.parametrize("what", ["requeued", "failed"])
def test_a_job_that_was_started_once_does_not_expire(redis, work, what):
    job = add_in_time(retry=Retry(3, pause=0))
    finish(redis, *claim(redis), what)
    age(redis, 601)

    assert due(redis) == []
    assert (work(), status(redis, job.id)) == (1, "finished")


def test_a_job_that_must_start_in_time_does_not_wait_in_a_batch(redis):
    """Once it is claimed it counts as started, so the worker that claims it starts it."""
    plain = [enqueue(numbers.add, 1, number) for number in range(2)]
    in_time = [add_in_time() for _ in range(2)]
    redis.delete(keys.wake("default"))

    assert ids_of(claim(redis)) == [job.id for job in plain]
    assert queued(redis) == [job.id for job in in_time]
    assert redis.llen(keys.wake("default")) == 1


@pytest.mark.parametrize("give_back", [lambda redis: claim(redis, 0), die], ids=["left", "died"])
def test_what_was_claimed_and_not_begun_is_still_to_start_in_time(redis, give_back):
    job = add_in_time()
    claim(redis)
    give_back(redis)
    age(redis, 601)

    assert due(redis) == [job.id]


@pytest.mark.parametrize("give_back", [lambda redis: claim(redis, 0), die], ids=["left", "died"])
def test_what_was_claimed_and_not_begun_has_its_time_to_live_again(redis, give_back):
    job = enqueue.options(ttl="10m")(numbers.add, 2, 3)
    redis.expire(job.key, 300)
    claim(redis)
    give_back(redis)

    assert 0 < redis.ttl(job.key) <= 310


def test_jobs_that_must_start_in_time_are_run_without_pauses(redis, work):
    jobs = enqueue.options(expires="10m").many(numbers.add, [(1, n) for n in range(50)])

    assert work() == 50
    assert len(registered(redis, "finished")) == len(jobs)


# However it comes to its queue


def later(redis):
    """A job for later that has just come to its queue."""
    [job] = enqueue.options(expires="10m", in_="1h").many(numbers.add, [(1, 2)])
    redis.zadd(keys.REGISTRIES["scheduled"] + "default", {job.id: 1})
    due(redis)
    return job


def scheduled(redis):
    """One of an entry of the schedule, by hand."""
    schedules.declare(redis, every("1h", numbers.add, args=[1, 2], expires="10m"))
    return Job(entries.run_now(redis, "jobs.numbers.add", "me"), redis)


def retried(redis):
    """One that was canceled, and is retried by hand."""
    job = add_in_time()
    actions.cancel(job)
    actions.retry(job)
    return job


@pytest.mark.parametrize(
    "put",
    [
        lambda redis: add_in_time(at_front=True),
        lambda redis: enqueue.options(expires="10m").many(numbers.add, [(1, 2)])[0],
        lambda redis: enqueue.chain(part(numbers.add, 1, 2).options(expires="10m"))[0],
        lambda redis: enqueue.group([part(numbers.add, 1, 2).options(expires="10m")]).jobs[0],
        later,
        retried,
        scheduled,
    ],
)
def test_however_it_came_to_its_queue_it_expires(redis, put):
    late = put(redis)
    age(redis, 595)
    assert due(redis) == []
    age(redis, 6)

    assert (due(redis), queued(redis)) == ([late.id], [])


def test_a_job_that_waits_for_others_has_its_time_from_when_it_is_released(redis, work):
    first = enqueue(numbers.add, 1, 2)
    jobs = [
        add_in_time(depends_on=first),
        enqueue.chain(part(numbers.add, 1, 2), part(numbers.add, 3, 4).options(expires="10m"))[1],
    ]
    age(redis, 601)

    assert due(redis) == []
    work()
    assert [status(redis, job.id) for job in jobs] == ["finished", "finished"]
    assert not redis.exists(keys.EXPIRING)


def test_a_job_for_later_has_its_time_from_when_it_is_due(redis):
    add_in_time(in_="1h")
    enqueue.options(expires="10m", in_="1h").many(numbers.add, [(1, 2)])
    now_s = redis.time()[0]

    for _, at in redis.zrange(keys.EXPIRING, 0, -1, withscores=True):
        assert at - now_s == pytest.approx(4200, abs=30)


def test_a_chain_is_canceled_whose_part_has_expired(redis):
    first, second = enqueue.chain(
        part(numbers.add, 1, 2).options(expires="10m"), part(numbers.add, 3, 4)
    )
    age(redis, 601)
    due(redis)
    look_at_chains(redis)

    assert [status(redis, job.id) for job in (first, second)] == ["canceled", "canceled"]
    assert REASON in redis.hget(keys.job(second.id), keys.REASON_FIELD).decode()


def test_jobs_without_such_a_time_are_never_looked_at(redis):
    enqueue(numbers.add, 1, 2)
    enqueue.many(numbers.add, [(1, 2)])
    enqueue.chain(part(numbers.add, 1, 2), part(numbers.add, 3, 4))

    assert not redis.exists(keys.EXPIRING)


def test_a_job_that_waits_for_a_slot_of_its_rate_limit_expires_too(redis):
    queue = jiffy.Queue("default", connection=redis)
    for job_id in ("has-a-slot", "is-held"):
        queue.enqueue(numbers.add, 1, 2, job_id=job_id, rate_limit=RateLimit("api", 1))
    redis.hset(keys.job("is-held"), keys.EXPIRES_FIELD, 600)
    redis.zadd(keys.EXPIRING, {"is-held": 1})

    assert (due(redis), status(redis, "is-held")) == (["is-held"], "canceled")
    assert not redis.exists(f"{keys.RQ}rl:api:rate_limited")


# What a supervisor must leave alone


@pytest.mark.parametrize("act", ["pop", "start", "retry", "finish", "delete", "spoil"])
def test_a_job_that_is_no_longer_on_its_queue_is_left_as_it_is(redis, act):
    job = add_in_time()
    key = keys.job(job.id)
    if act == "pop":  # a worker of RQ's that has not said so yet
        redis.lpop(keys.queue("default"))
    elif act in ("delete", "spoil"):
        redis.delete(key)
    else:
        becomes = {"start": "started", "retry": "scheduled", "finish": "finished"}[act]
        redis.hset(key, "status", becomes)
    if act == "spoil":
        redis.set(key, "odd")
    before = redis.dump(key)
    age(redis, 601)

    assert due(redis) == []
    assert redis.dump(key) == before
    assert not redis.exists(keys.EXPIRING)


def test_a_queue_that_is_something_else_keeps_no_other_from_expiring(redis):
    add_in_time(queue="odd")
    late = add_in_time()
    redis.delete(keys.queue("odd"))
    redis.set(keys.queue("odd"), "odd")
    age(redis, 601)

    assert due(redis) == [late.id]


def test_many_expire_in_steps_the_oldest_first(redis):
    jobs = enqueue.options(expires="10m").many(numbers.add, [(1, n) for n in range(800)])
    age(redis, 601)

    assert (len(due(redis)), len(due(redis))) == (500, 300)
    assert redis.zcard(keys.REGISTRIES["canceled"] + "default") == len(jobs)
    assert queued(redis) == []


def test_where_many_are_late_the_others_are_looked_at_at_once(redis):
    look = partial(upkeep.enqueue_due, Link(redis), [keys.queue("low")], 180)
    look()  # from here on Redis has all scripts, or the first answer would be lost
    enqueue.options(expires="10m").many(numbers.add, [(1, n) for n in range(800)])
    age(redis, 601)

    assert ([look(), look()], queued(redis)) == ([True, False], [])


def test_far_behind_in_a_long_queue_few_expire_at_a_time(redis):
    pipe = redis.pipeline(transaction=False)
    for _ in range(15):
        pipe.rpush(keys.queue("default"), *range(10_000))
    pipe.execute()
    late = [add_in_time() for _ in range(4)]
    age(redis, 601)

    assert [len(due(redis)) for _ in range(2)] == [2, 2]
    assert {status(redis, job.id) for job in late} == {"canceled"}


def test_a_parked_job_whose_place_is_something_else_keeps_no_other_from_expiring(redis):
    mine = add_in_time()
    redis.set(keys.parked("odd"), "odd")
    odd = {"status": "queued", "origin": "default", "jiffy:expires": 1, "jiffy:parked": "odd"}
    redis.hset(keys.job("odd"), mapping=odd)
    age(redis, 601)
    redis.zadd(keys.EXPIRING, {"odd": 0})

    assert due(redis) == [mine.id]
