"""Dependents: jobs that wait for others are released in steps, each of them once."""

import pytest

import jiffy
from jiffy import actions, keys
from jiffy.producer.enqueue import Queue
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import (
    child,
    claim,
    claimer,
    depend,
    due,
    enqueue,
    finish,
    finish_together,
    job,
    maintain,
    queued,
    registered,
    status,
    work_one,
)


@pytest.mark.parametrize("count", [2, 250])
def test_a_job_with_many_parents_is_released_by_the_last(redis, count):
    parents = enqueue(redis, count)
    Queue("default", connection=redis).enqueue(
        worker_jobs.nothing, job_id="next", depends_on=parents
    )
    *others, last = claim(redis, count)
    for one in others:
        finish(redis, one)
    before = queued(redis)
    finish(redis, last)

    assert (before, queued(redis)) == ([], ["next"])


def test_a_parent_that_is_gone_or_no_job_is_not_waited_for(redis):
    parents = enqueue(redis, 3)
    Queue("default", connection=redis).enqueue(
        worker_jobs.nothing, job_id="next", depends_on=parents
    )
    redis.delete(*map(keys.job, parents[:2]))
    redis.set(keys.job(parents[1]), "odd")
    finish(redis, *[one for one in claim(redis) if one.job_id == parents[2]])

    assert (status(redis, parents[2]), queued(redis)) == ("finished", ["next"])


def test_dependents_that_wait_no_more_are_not_released(redis):
    [parent] = enqueue(redis)
    depend(redis, job(redis, parent), 4)
    actions.cancel("dependent-1")
    job(redis, "dependent-2").delete()
    redis.delete(keys.job("dependent-3"))
    work_one(redis)

    assert queued(redis) == ["dependent-0"]


def test_the_names_of_dependents_are_gone_with_the_job_that_they_wait_for(redis):
    names = [*enqueue(redis, 2), "expires"]
    work_one(redis)
    jiffy.enqueue.options(job_id="expires", expires="1h", failure_ttl="10s")(worker_jobs.nothing)
    jiffy.enqueue.options(depends_on=names)(worker_jobs.nothing)
    redis.zadd(keys.EXPIRING, {"expires": 1})
    due(redis)
    ttls = [redis.ttl(keys.dependents(name)) for name in names]

    assert 400 < ttls[0] <= 500
    assert (ttls[1], 0 < ttls[2] <= 10) == (-1, True)


def test_what_depends_on_others_and_expires_leaves_nothing_without_end(redis):
    parent = jiffy.enqueue(worker_jobs.nothing)
    jiffy.enqueue.options(job_id="late", depends_on=parent, expires="1h")(worker_jobs.nothing)
    work_one(redis)
    redis.zadd(keys.EXPIRING, {"late": 1})
    due(redis)

    assert status(redis, "late") == "canceled"
    assert redis.ttl(f"{keys.RQ}job::late:dependencies") > 0


def test_what_depends_on_others_and_has_a_ttl_leaves_nothing_without_end(redis):
    first, second = enqueue(redis, 2)
    for job_id, parent in ("released", first), ("waits", second), ("again", second):
        options = jiffy.enqueue.options(job_id=job_id, depends_on=parent, ttl="1h")
        options(worker_jobs.nothing)
    work_one(redis)
    actions.cancel("again")
    actions.retry("again")
    ttls = [redis.ttl(key) for key in redis.keys(f"{keys.RQ}job::*:dependencies")]
    redis.delete(keys.job("waits"))  # its time is over
    maintain(redis)

    assert (len(ttls), min(ttls) > 0) == (3, True)
    assert registered(redis, "deferred") == ["again"]


@pytest.mark.parametrize("count", [1, 250])
def test_a_parent_that_is_kept_without_end_keeps_no_name_of_what_waited_for_others_too(
    redis, count
):
    kept = jiffy.enqueue.options(result_ttl=-1).many(worker_jobs.nothing, [()] * 20)
    names = [keys.dependents(parent.id) for parent in kept]
    others = enqueue(redis, count)
    jiffy.enqueue.options(depends_on=[*kept, *others])(worker_jobs.nothing)
    before = redis.exists(*names)
    for one in claim(redis, 20 + count):
        finish(redis, one)

    assert (before, len(queued(redis)), redis.exists(*names)) == (20, 1, 0)


# Many


def test_many_dependents_are_released_in_steps_by_any_worker(redis):
    [parent] = enqueue(redis, 1, result_ttl=0)
    depend(redis, job(redis, parent), 2000)
    [claimed] = claim(redis)
    finish(redis, claimed)
    steps = [len(queued(redis))]
    others = [claimer(redis, f"worker-{number}") for number in range(2, 4)]
    while registered(redis, "deferred"):
        before = redis.llen(keys.queue("default"))
        found = others[len(steps) % 2].claim(1)
        steps.append(redis.llen(keys.queue("default")) + len(found.jobs) - before)

    assert max(steps) < 700
    assert len(steps) >= 4
    assert sorted(registered(redis, "started") + queued(redis)) == sorted(
        f"dependent-{number}" for number in range(2000)
    )
    assert not redis.exists(keys.todo("default"))


def test_of_parents_that_end_together_the_last_ones_release_later(redis):
    parents, others = enqueue(redis, 4), enqueue(redis, 99, queue="low")
    child(redis, queues=["low"]).work()
    for parent in parents:
        after = jiffy.enqueue.options(depends_on=[parent, *others])
        after.many(worker_jobs.nothing, [()] * 60)
    finish_together(redis, claim(redis))
    at_once = len(queued(redis))
    child(redis).work()

    assert at_once == 120
    assert len(registered(redis, "finished")) == 4 + 4 * 60


def test_dependents_of_parents_that_end_together_each_get_the_slot_of_their_own_rate_limit(redis):
    """One for each customer, for instance: no other job's end would let them go on."""
    for number, parent in enumerate(enqueue(redis, 21)):
        for customer in range(60):
            after = jiffy.enqueue.options(depends_on=parent, rate_limit=f"{number}-{customer}:1")
            after(worker_jobs.nothing)
    finish_together(redis, claim(redis, want=21))
    at_once = len(queued(redis))
    child(redis).work()

    assert at_once == 17 * 60  # then a thousand slots are taken
    assert len(registered(redis, "finished")) == 21 + 21 * 60


def test_a_release_that_is_repeated_releases_nothing_twice(redis):
    [parent] = enqueue(redis)
    depend(redis, job(redis, parent), 300)
    finish(redis, *claim(redis))
    redis.zadd(keys.todo("default"), {f"release finished 0 {parent}": 1})
    child(redis).work()

    assert len(registered(redis, "finished")) == 301


@pytest.mark.parametrize("joins", [False, True], ids=["alone", "with one more meanwhile"])
def test_dependents_are_released_however_late_and_gone_their_parent_is(redis, joins):
    [parent] = enqueue(redis, 1, result_ttl=1)
    [other] = enqueue(redis, 1, queue="low")
    depend(redis, job(redis, parent), 300)
    finish(redis, *claim(redis))
    if joins:
        jiffy.enqueue.options(job_id="more", depends_on=[parent, other])(worker_jobs.nothing)
    name, before = keys.dependents(parent), redis.ttl(keys.dependents(parent))
    redis.delete(keys.job(parent))
    child(redis).work()

    assert before == -1
    assert registered(redis, "deferred") == (["more"] if joins else [])
    assert not redis.exists(name)


def test_dependents_are_released_though_redis_clock_was_set_back_meanwhile(redis):
    [parent] = enqueue(redis)
    depend(redis, job(redis, parent), 300)
    finish(redis, *claim(redis))
    redis.zincrby(keys.todo("default"), 3600, redis.zrange(keys.todo("default"), 0, 0)[0])
    child(redis).work()

    assert registered(redis, "deferred") == []


@pytest.mark.parametrize("lost", [keys.todo("default"), keys.dependents("default-0")])
def test_dependents_are_released_though_what_is_to_be_done_or_who_waits_is_lost(redis, lost):
    [parent] = enqueue(redis)
    depend(redis, job(redis, parent), 1000)
    [claimed] = claim(redis)
    finish(redis, claimed)
    redis.delete(lost)
    before, worker = len(registered(redis, "deferred")), claimer(redis)
    for _ in range(100):
        maintain(redis)
        while worker.claim(0).has_more:
            pass

    assert before > 0
    assert (len(queued(redis)), registered(redis, "deferred")) == (1000, [])


def test_what_waits_for_another_job_is_left_as_it_is_by_what_looks_for_lost_releases(redis):
    parents = enqueue(redis, 2)
    Queue("default", connection=redis).enqueue(
        worker_jobs.nothing, job_id="next", depends_on=parents
    )
    work_one(redis)
    maintain(redis)

    assert not redis.exists(keys.todo("default"))
    assert registered(redis, "deferred") == ["next"]


def test_dependents_that_are_left_are_named_as_long_as_their_parent_is_kept(redis):
    [parent] = enqueue(redis, 1, result_ttl=600)
    [other] = enqueue(redis, 1, queue="low")
    depend(redis, job(redis, parent), 300)
    redis.sadd(f"{keys.RQ}job::dependent-7:dependencies", other)
    finish(redis, *claim(redis))
    before = redis.ttl(keys.dependents(parent))
    child(redis).work()

    assert (before, 0 < redis.ttl(keys.dependents(parent)) <= 600) == (-1, True)


def test_dependents_wait_on_for_a_job_that_is_tried_again_while_they_are_looked_at(redis):
    parent = jiffy.enqueue.options(ttl="1m")(worker_jobs.nothing)
    depend(redis, parent, 300)
    finish(redis, *claim(redis), "failed")
    actions.retry(parent)
    worker, name = claimer(redis), keys.dependents(parent.id)
    while redis.exists(keys.todo("default")):
        worker.claim(0)
    worker.claim(1)

    assert registered(redis, "started") == [parent.id]
    assert (redis.scard(name), redis.ttl(name)) == (300, -1)


def test_dependents_wait_for_another_job_that_has_the_id_of_one_that_has_ended(redis):
    """The names of that one's are still looked at."""
    importing = jiffy.enqueue.options(job_id="import", result_ttl=0)
    after = jiffy.enqueue.options(depends_on="import", queue="low")
    importing(worker_jobs.nothing)
    after.many(worker_jobs.nothing, [()] * 200)
    finish(redis, *claim(redis))
    left = len(registered(redis, "deferred", "low"))
    importing(worker_jobs.nothing)
    after.many(worker_jobs.nothing, [()] * 200)
    again = claim(redis)
    waits = len(registered(redis, "deferred", "low"))
    finish(redis, *again)
    child(redis).work()

    assert left > 0
    assert waits == left + 200
    assert registered(redis, "deferred", "low") == []


def test_dependents_that_another_redis_has_in_another_order_are_released(redis):
    [parent] = enqueue(redis)
    depend(redis, job(redis, parent), 1000)
    finish(redis, *claim(redis))
    # A Redis that starts anew has its own order: the first ones may be those that came last.
    [(line, due_s)] = redis.zrange(keys.todo("default"), 0, -1, withscores=True)
    cursor, last = line.split()[2], 0
    while cursor != b"0":
        last, (cursor, _) = cursor, redis.sscan(keys.dependents(parent), cursor, count=100)
        cursor = b"%d" % cursor
    redis.delete(keys.todo("default"))
    redis.zadd(keys.todo("default"), {line.replace(line.split()[2], last): due_s})
    child(redis).work()

    assert len(registered(redis, "finished")) == 1001


def test_of_many_that_wait_for_another_parent_too_those_stay(redis):
    [parent] = enqueue(redis)
    [other] = enqueue(redis, queue="low")
    depend(redis, job(redis, parent), 200)
    redis.sadd(f"{keys.RQ}job::dependent-7:dependencies", other)
    child(redis).work()

    assert registered(redis, "deferred") == ["dependent-7"]
    assert len(registered(redis, "finished")) == 200


def test_a_dependent_that_stock_rq_has_made_ready_can_be_canceled(redis):
    [parent] = enqueue(redis)
    depend(redis, job(redis, parent), 1)
    redis.hset(keys.job(parent), "status", "finished")
    Queue("default", connection=redis).move_dependents_to_ready(job(redis, parent))
    before = status(redis, "dependent-0")
    actions.cancel("dependent-0")

    assert (before, status(redis, "dependent-0")) == ("ready_to_enqueue", "canceled")
    assert not redis.exists(f"{keys.RQ}ready:default")
