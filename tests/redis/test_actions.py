"""What can be done about a job: each happens wholly or not at all, and says which."""

import pytest
from redis.exceptions import ResponseError, WatchError

from jiffy import actions, enqueue, keys
from jiffy.errors import NotThisState, UnknownJob
from jiffy.producer.enqueue import Job, Queue
from jobs import numbers
from tests.compat.traces import differences, take
from tests.support.worker_support import queued, registered, status

BEGUN = ("started", "finished", "failed", "stopped", "canceled")
BEGAN = "2026-01-31T06:00:00.000000Z"


@pytest.fixture
def in_state(redis):
    """Make a job of this state: `in_state("failed")`; returns it."""

    def make(status, **options):
        job = enqueue.options(job_id=status, **options)(numbers.add, 5, 3)
        if status != "queued":
            redis.lrem(keys.queue("default"), 0, job.id)
            redis.hset(keys.job(job.id), mapping={"status": status, "started_at": BEGAN})
            registry = {"stopped": "failed"}.get(status, status)
            redis.zadd(keys.REGISTRIES[registry] + "default", {job.id: 9e9})
        return job

    return make


def waiting(**options):
    """A job that waits in the way that the options say."""
    return enqueue.options(job_id="waits", **options)(numbers.add, 5, 3)


def of_rq(found):
    return {path: value for path, value in found.items() if not path.startswith("jiffy:")}


@pytest.mark.parametrize("options", [{}, {"in_": "1h"}, {"depends_on": "parent"}])
@pytest.mark.parametrize("which", ["waits", "parent"])
def test_a_canceled_job_leaves_the_traces_that_rq_would(redis, options, which):
    found = []
    for cancel in (Job.cancel, actions.cancel):
        redis.flushall()
        enqueue.options(job_id="parent")(numbers.add, 1, 2)
        waiting(**options)
        cancel(Job.fetch(which, redis))
        found.append(of_rq(take(redis)))

    assert differences(*found) == {}


@pytest.mark.parametrize("status", BEGUN)
def test_what_has_begun_is_not_canceled_and_left_as_it_is(redis, in_state, status):
    job = in_state(status)
    before = take(redis)
    with pytest.raises(NotThisState, match=f"^Job '{status}' is {status}\\. ") as refusal:
        actions.cancel(job)

    assert differences(before, take(redis)) == {}
    assert ("Stop it instead" in str(refusal.value)) == (status == "started")


def test_a_job_that_a_worker_of_rq_has_popped_is_not_said_to_be_canceled(redis):
    job = enqueue(numbers.add, 1, 2)
    redis.lpop(keys.queue("default"))
    with pytest.raises(NotThisState, match=r"A worker is just claiming it: look again"):
        actions.cancel(job)

    assert status(redis, job.id) == "queued"


def test_a_canceled_job_that_rq_was_given_twice_does_not_run(redis):
    for _ in range(2):
        Queue("default", connection=redis).enqueue(numbers.add, 1, 2, job_id="twice")
    actions.cancel("twice")

    assert (queued(redis), status(redis, "twice")) == ([], "canceled")


def test_canceling_the_next_job_takes_no_longer_where_many_wait(redis):
    ids = [enqueue.options(job_id=f"job{number}")(numbers.add, 1, 2).id for number in range(100)]
    redis.rpush(keys.queue("default"), *map(str, range(200_000)))
    redis.config_resetstat()
    redis.lrem(keys.queue("default"), 0, "none")
    whole_us = redis.info("commandstats")["cmdstat_lrem"]["usec"]
    for one in ids:
        actions.cancel(one)

    assert redis.info("commandstats")["cmdstat_lrem"]["usec"] < 20 * whole_us  # not 100 times


def test_who_is_releasing_a_job_hears_that_it_is_canceled_meanwhile(redis):
    parent = enqueue(numbers.add, 1, 2)
    job = waiting(depends_on=parent)
    with redis.pipeline() as releasing:
        releasing.watch(parent.dependents_key)
        actions.cancel(job)
        releasing.multi()
        releasing.rpush(keys.queue("default"), job.id)

        with pytest.raises(WatchError):
            releasing.execute()


@pytest.mark.parametrize("status", ["failed", "stopped", "canceled"])
def test_a_job_that_came_to_nothing_is_tried_again(redis, in_state, work, status):
    job = in_state(status)
    actions.retry(job)
    empty = registered(redis, "failed") + registered(redis, "canceled")
    work()

    assert empty == []
    assert job.return_value() == 8


def test_a_job_that_is_tried_again_has_the_traces_that_rq_would_leave(redis, in_state):
    found = []
    for retry in (Job.requeue, actions.retry):
        redis.flushall()
        retry(Job.fetch(in_state("failed", ttl="1h").id, redis))
        found.append(of_rq(take(redis)))

    found[0].pop("rq:job:failed.exc_info")  # of no error: nothing reads it any more

    assert differences(*found) == {}


@pytest.mark.parametrize("status", ["queued", "started", "finished"])
def test_what_waits_runs_or_has_finished_is_not_tried_again(redis, in_state, status):
    before_it = in_state(status)
    before = take(redis)
    with pytest.raises(NotThisState, match="Only a job that failed, or was stopped or canceled"):
        actions.retry(before_it)

    assert differences(before, take(redis)) == {}


def test_a_job_that_is_tried_again_starts_anew_and_wakes_a_worker_that_sleeps(redis, in_state):
    job = in_state("failed")
    redis.hset(job.key, mapping={"jiffy:crashes": 3, "jiffy:causes": "signal 11"})
    redis.expire(job.key, 60)
    redis.delete(keys.wake("default"))
    actions.retry(job)

    assert redis.hmget(job.key, "jiffy:crashes", "jiffy:causes") == [None, None]
    assert (redis.ttl(job.key), redis.llen(keys.wake("default"))) == (-1, 1)


def test_where_its_queue_is_something_else_in_redis_a_job_stays_failed(redis, in_state):
    job = in_state("failed")
    redis.set(keys.queue("default"), "what is this")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        actions.retry(job)

    assert (status(redis, job.id), registered(redis, "failed")) == ("failed", [job.id])


def test_what_depends_on_a_job_that_is_tried_again_goes_on_however_late_that_ends(redis, in_state):
    parent = in_state("failed", failure_ttl="10s")
    waiting(depends_on=parent)
    redis.expire(keys.job(parent.id), 10)
    redis.expire(keys.dependents(parent.id), 10)
    actions.retry(parent)

    assert (redis.ttl(keys.job(parent.id)), redis.ttl(keys.dependents(parent.id))) == (-1, -1)


def test_what_is_canceled_is_named_no_longer_than_the_job_that_it_waited_for(redis, in_state):
    parent = in_state("failed", failure_ttl="10s")
    job = waiting(depends_on=parent)
    redis.expire(keys.dependents(parent.id), 10)
    actions.cancel(job)

    assert redis.smembers(keys.dependents(parent.id)) == {job.id.encode()}
    assert redis.ttl(keys.dependents(parent.id)) == 10


def test_a_job_that_still_depends_on_another_waits_for_it_again(redis, work):
    parent = enqueue(numbers.add, 1, 2)
    job = waiting(depends_on=parent)
    actions.cancel(job)
    actions.retry(job)

    assert (status(redis, job.id), registered(redis, "deferred")) == ("deferred", [job.id])
    assert work() == 2


def test_a_job_whose_parent_is_over_meanwhile_goes_to_its_queue(redis, work):
    parent = enqueue(numbers.add, 1, 2)
    job = waiting(depends_on=parent)
    actions.cancel(job)
    work()
    actions.retry(job)

    assert queued(redis) == [job.id]


@pytest.mark.parametrize(
    "options", [{}, {"in_": "1h"}, {"depends_on": "parent"}, {"rate_limit": "mail:1"}]
)
@pytest.mark.parametrize("which", ["waits", "parent", "last"])
def test_a_deleted_job_leaves_the_traces_that_rq_would(redis, options, which):
    found = []
    for delete in (Job.delete, actions.delete):
        redis.flushall()
        limit = {"rate_limit": options.get("rate_limit")}
        enqueue.options(job_id="parent", **limit)(numbers.add, 1, 2)
        waiting(**options)
        enqueue.options(job_id="last", **limit)(numbers.add, 1, 2)
        delete(Job.fetch(which, redis))
        found.append(of_rq(take(redis)))

    assert differences(*found) == {}


@pytest.mark.parametrize("state", ["finished", "failed", "stopped", "canceled"])
def test_a_deleted_job_that_has_ended_leaves_nothing(redis, in_state, state):
    job = in_state(state)
    redis.xadd(keys.results(job.id), {"type": "1"})
    redis.zadd(keys.RQ + f"executions:{job.id}", {"run": 9e9})
    actions.delete(job, seen=state)

    assert set(redis.keys()) <= {keys.RQ.encode() + b"queues", keys.wake("default").encode()}


@pytest.mark.parametrize(
    ("status", "seen", "said"),
    [("started", "", "Stop it first"), ("finished", "failed", "It has changed meanwhile")],
)
def test_what_runs_or_has_changed_is_not_deleted(redis, in_state, status, seen, said):
    job = in_state(status)
    before = take(redis)
    with pytest.raises(NotThisState, match=said):
        actions.delete(job, seen)

    assert differences(before, take(redis)) == {}


@pytest.mark.parametrize("seen", ["", "failed"])
def test_an_entry_of_the_schedule_is_not_deleted_as_a_job(redis, in_state, seen):
    job = in_state("failed")
    redis.zadd(keys.ENTRIES, {job.id: 9e9})
    with pytest.raises(NotThisState, match="It is an entry of the schedule: look there"):
        actions.delete(job, seen)

    assert redis.exists(job.key)


@pytest.mark.parametrize("act", [actions.cancel, actions.retry, actions.stop, actions.delete])
def test_nothing_is_done_about_what_is_no_job(redis, act):
    redis.set(keys.job("odd"), "text")
    for job_id in ("nope", "odd"):
        with pytest.raises(UnknownJob, match=f"^No job '{job_id}'"):
            act(job_id)

    assert (redis.get(keys.job("odd")), redis.dbsize()) == (b"text", 1)


# RQ's own keys, in which something else stands: what is done is done wholly, and said to be.


@pytest.mark.parametrize(
    "key",
    [
        keys.REGISTRIES["canceled"] + "default",
        keys.dependents("parent"),
        f"{keys.RQ}job::waits:dependencies",
    ],
)
def test_a_job_is_canceled_whatever_stands_in_the_keys_around_it(redis, key):
    enqueue.options(job_id="parent")(numbers.add, 1, 2)
    job = waiting(depends_on="parent", expires="10m")
    redis.delete(key)
    redis.set(key, "odd")
    actions.cancel(job)

    assert (status(redis, job.id), registered(redis, "canceled")) == ("canceled", [job.id])
    assert registered(redis, "deferred") == []


@pytest.mark.parametrize("was", ["failed", "canceled"])
def test_a_job_is_retried_whatever_stands_where_it_was_listed(redis, in_state, was):
    job = in_state(was)
    redis.hset(keys.job(job.id), keys.REASON_FIELD, "a reason")
    redis.delete(keys.REGISTRIES[was] + "default")
    redis.set(keys.REGISTRIES[was] + "default", "odd")
    actions.retry(job)

    assert (status(redis, job.id), queued(redis)) == ("queued", [job.id])
    assert not redis.hexists(keys.job(job.id), keys.REASON_FIELD)


@pytest.mark.parametrize(
    "key", [keys.ENTRIES, keys.DECLARED, keys.REGISTRIES["failed"] + "default"]
)
def test_a_job_is_deleted_whatever_stands_in_the_keys_around_it(redis, in_state, key):
    job = in_state("failed")
    redis.delete(key)
    redis.set(key, "odd")
    actions.delete(job)

    assert not redis.exists(keys.job(job.id))


@pytest.mark.parametrize("seen", ["deferred", "canceled"])
def test_a_job_that_depends_on_others_is_deleted_from_a_full_redis(redis, seen):
    enqueue.options(job_id="parent")(numbers.add, 1, 2)
    job = waiting(depends_on="parent")
    if seen == "canceled":
        actions.cancel(job)
    redis.config_set("maxmemory", 1)
    try:
        actions.delete(job, seen)
    finally:
        redis.config_set("maxmemory", 0)

    assert not redis.exists(keys.job(job.id))
