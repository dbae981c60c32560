"""Expires: what nobody has begun in time is canceled with the reason, and never run."""

from datetime import UTC, datetime, timedelta

import pytest

from jiffy import actions, clock, enqueue, entries, every, keys, part, wait
from jiffy.clock import rq_text
from jiffy.errors import InvalidValue, JobFailed
from jiffy.worker import joins, overdue
from jiffy.worker.line import Line
from jobs import numbers
from tests.worker_support import (
    failed,
    ids_of,
    queued,
    rare_settler,
    registered,
    status,
    turns,
)

REASON = "It had not begun 10m after it was enqueued, so it expired."


@pytest.fixture
def aged(redis):
    """Let a job have been on its queue for so many seconds."""

    def age(job, seconds):
        then = redis.time()[0] - seconds
        redis.hset(keys.job(job.id), "enqueued_at", rq_text(then))

    return age


def add_in_time(expires="10m", **options):
    return enqueue.options(expires=expires, **options)(numbers.add, 2, 3)


def test_a_job_that_was_not_begun_in_time_is_canceled_and_never_run(redis, aged, work):
    late = add_in_time()
    aged(late, 601)

    assert work() == 0
    assert (status(redis, late.id), registered(redis, "canceled")) == ("canceled", [late.id])
    assert queued(redis) == registered(redis, "started") == []
    assert redis.hget(keys.job(late.id), keys.REASON_FIELD).decode() == REASON


def test_a_job_that_is_begun_in_time_runs(redis, aged, work):
    in_time = add_in_time()
    aged(in_time, 598)

    assert work() == 1
    assert in_time.return_value() == 5


def test_who_waits_for_what_expired_hears_why_it_never_ran(aged, work):
    late = add_in_time()
    aged(late, 601)
    work()
    with pytest.raises(JobFailed) as failure:
        wait(late, timeout="5s")

    assert (failure.value.status, failure.value.reason) == ("canceled", REASON)


def test_an_expired_job_leaves_no_execution_behind(redis, aged, work):
    late = add_in_time()
    aged(late, 601)
    work()

    assert redis.keys("rq:execution*") == []
    assert redis.keys("jiffy:held:*") == []
    assert redis.ttl(keys.job(late.id)) > 0


def test_what_expired_is_kept_as_long_as_what_failed(redis, aged, work):
    late = add_in_time(failure_ttl="1h")
    aged(late, 601)
    work()

    assert 3590 < redis.ttl(keys.job(late.id)) <= 3600


def test_a_job_that_has_begun_once_does_not_expire(redis, aged, work):
    """It was rescued, or is tried again: it has waited for its turn already."""
    again = add_in_time()
    redis.hset(keys.job(again.id), "started_at", rq_text(redis.time()[0] - 602))
    aged(again, 601)

    assert work() == 1
    assert again.return_value() == 5


def test_a_delayed_job_has_its_time_from_when_it_is_due(redis, work):
    """It was made long before that."""
    later = add_in_time(in_="1h")
    now_s = redis.time()[0]
    redis.hset(keys.job(later.id), "created_at", rq_text(now_s - 3600))
    redis.zadd("rq:scheduled:default", {later.id: now_s})
    Line(redis).run("due", ["rq:queue:default"], [1000, 180])

    assert work() == 1


def test_a_job_of_which_nobody_knows_since_when_it_waits_does_not_expire(redis, work):
    odd = add_in_time()
    redis.hset(keys.job(odd.id), "enqueued_at", "yesterday")

    assert work() == 1


@pytest.mark.parametrize("expires", ["", "soon", "0x10", "-1", "nan", "9" * 400])
def test_a_time_that_is_none_is_passed_over(redis, aged, work, expires):
    odd = add_in_time()
    redis.hset(keys.job(odd.id), keys.EXPIRES_FIELD, expires)
    aged(odd, 601)

    assert work() == 1


def test_expired_jobs_do_not_keep_others_from_running(redis, aged, work):
    late = [add_in_time() for _ in range(5)]
    for job in late:
        aged(job, 601)
    fresh = enqueue(numbers.add, 2, 3)

    assert work() == 1
    assert fresh.return_value() == 5
    assert set(registered(redis, "canceled")) == {job.id for job in late}


@pytest.mark.parametrize(
    ("expires", "words"),
    [(45, "45 s"), (90, "90 s"), (120, "2m"), (7200, "2h"), (5400, "90m"), (86400, "1d")],
)
def test_the_reason_says_how_long_it_had_in_words(redis, aged, work, expires, words):
    late = add_in_time(expires)
    aged(late, expires + 1)
    work()

    reason = redis.hget(keys.job(late.id), keys.REASON_FIELD).decode()
    assert reason == f"It had not begun {words} after it was enqueued, so it expired."


def test_whoever_takes_an_expired_job_holds_nothing(redis, aged):
    late = add_in_time()
    aged(late, 601)
    line = turns(redis)
    (taken,), _, _ = line.take(1)
    line.take(0)

    assert (taken.kind, taken.data.decode()) == ("expired", REASON)
    assert queued(redis) == registered(redis, "started") == []


def test_an_odd_time_to_keep_it_stops_nobody(redis, aged, work):
    late = add_in_time()
    redis.hset(keys.job(late.id), "failure_ttl", "1e300")
    aged(late, 601)
    work()

    assert status(redis, late.id) == "canceled"


def test_a_job_that_must_begin_in_time_does_not_wait_in_a_batch(redis):
    """Once it is taken it counts as begun, so whoever takes it begins it."""
    plain = [enqueue(numbers.add, 1, number) for number in range(2)]
    in_time = [add_in_time() for _ in range(2)]
    redis.delete("jiffy:wake:default")

    assert ids_of(turns(redis).take(10)[0]) == [job.id for job in plain]
    assert queued(redis) == [job.id for job in in_time]
    assert redis.llen("jiffy:wake:default") == 1


def test_jobs_that_must_begin_in_time_are_run_without_pauses(redis, work):
    jobs = enqueue.options(expires="10m").many(numbers.add, [(1, n) for n in range(50)])

    assert work() == 50
    assert len(registered(redis, "finished")) == len(jobs)


@pytest.mark.parametrize(
    "moment",
    ["1999-12-31T23:59:59.999999Z", "2000-02-29T00:00:00Z", "2024-02-29T12:30:15.5Z",
     "2025-03-01T00:00:00.000000Z", "2026-01-31T06:07:08.9Z"],
)  # fmt: skip
def test_times_are_read_as_they_are_written_in_any_year(redis, work, moment):
    """What was enqueued then expires a second after, not before."""
    seconds = "%S.%f" if "." in moment else "%S"
    then = datetime.strptime(moment, f"%Y-%m-%dT%H:%M:{seconds}%z")
    since_s = (datetime.fromtimestamp(redis.time()[0], UTC) - then) / timedelta(seconds=1)
    early, late = add_in_time(), add_in_time()
    for job, expires in ((early, since_s + 5), (late, since_s - 5)):
        redis.hset(
            keys.job(job.id), mapping={"enqueued_at": moment, keys.EXPIRES_FIELD: int(expires)}
        )
    work()

    assert (status(redis, early.id), status(redis, late.id)) == ("finished", "canceled")


def test_a_retry_does_not_expire_while_it_waits(redis, aged, work):
    job = add_in_time(retry=3)
    (taken,), _, _ = turns(redis).take(1)
    rare_settler(redis).settle(failed(taken))
    aged(job, 601)

    assert work() == 1
    assert status(redis, job.id) == "finished"


def test_two_ends_are_refused():
    with pytest.raises(InvalidValue, match=r"ttl is .*; it must be given without expires"):
        enqueue.options(ttl="1m", expires="1m")


# Where no worker comes to take it: supervisors look for what is over its time


@pytest.fixture
def look(redis):
    """Look as a supervisor does, after so many seconds; returns the ids of what was canceled."""

    def after(seconds=0):
        for job_id, score in redis.zrange(keys.EXPIRING, 0, -1, withscores=True):
            redis.zadd(keys.EXPIRING, {job_id: score - seconds})
            enqueued = seconds and redis.hget(keys.job(job_id.decode()), "enqueued_at")
            if enqueued:
                then = clock.read(enqueued.decode()).timestamp() - seconds
                redis.hset(keys.job(job_id.decode()), "enqueued_at", rq_text(then))
        (canceled,) = Line(redis).exchange(overdue.look())
        overdue.tell(canceled)
        return [raw.decode() for raw in canceled[::3]]

    return after


def looked_at(redis):
    """The jobs that will be looked at, each with in how many seconds."""
    found = redis.zrange(keys.EXPIRING, 0, -1, withscores=True)
    return {raw.decode(): round(at - redis.time()[0]) for raw, at in found}


def test_a_job_that_no_worker_reaches_is_canceled_in_time(redis, look, caplog):
    late = add_in_time()
    with caplog.at_level("INFO", "jiffy"):
        assert look(598) == []
        assert look(4) == [late.id]

    assert (status(redis, late.id), registered(redis, "canceled")) == ("canceled", [late.id])
    assert queued(redis) == []
    assert f"job.expired job={late.id} queue=default reason='{REASON}'" in caplog.text
    with pytest.raises(JobFailed, match=REASON):
        wait(late)


def later(redis):
    """A job for later that has just come to its queue."""
    [job] = enqueue.options(expires="10m", in_="1h").many(numbers.add, [(1, 2)])
    assert [*looked_at(redis)] == [job.id]
    now_s = redis.time()[0]
    redis.zadd("rq:scheduled:default", {job.id: now_s})
    redis.zadd(keys.EXPIRING, {job.id: now_s + 600})
    Line(redis).run("due", ["rq:queue:default"], [1000, 180])
    return job


def retried(redis):
    """One that was canceled, and is tried again by hand."""
    job = add_in_time()
    actions.cancel(job)
    redis.delete(keys.EXPIRING)
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
    ],
)
def test_however_it_came_to_its_queue_it_expires(redis, look, put):
    late = put(redis)

    assert look(598) == []
    assert look(5) == [late.id]
    assert queued(redis) == []


def test_a_tick_of_the_schedule_expires(redis, look, declare, scheduler):
    declare(every("1h", numbers.add, args=[1, 2], expires="10m"))
    entries.run_now(redis, "jobs.numbers.add", "me")
    [tick] = queued(redis)

    assert look(601) == [tick]


def test_a_job_that_waits_for_others_has_its_time_from_when_it_is_released(redis, look, work):
    first = enqueue(numbers.add, 1, 2)
    jobs = [
        add_in_time(depends_on=first),
        enqueue.chain(part(numbers.add, 1, 2), part(numbers.add, 3, 4).options(expires="10m"))[1],
    ]

    assert look(601) == look(601) == []
    work()
    assert [status(redis, job.id) for job in jobs] == ["finished", "finished"]
    assert looked_at(redis) == {}


def test_what_was_taken_in_time_is_looked_at_no_more(redis):
    add_in_time()
    turns(redis).take(1)

    assert looked_at(redis) == {}


def test_a_job_for_later_is_not_looked_at_before_that(redis):
    add_in_time(in_="1h")
    enqueue.options(expires="10m", in_="1h").many(numbers.add, [(1, 2)])

    assert all(4198 <= after_s <= 4202 for after_s in looked_at(redis).values())


def test_what_was_left_on_its_queue_is_still_looked_at(redis):
    """Behind another, as it is to be taken alone."""
    enqueue(numbers.add, 1, 2)
    late = add_in_time()
    turns(redis).take(10)

    assert queued(redis) == list(looked_at(redis)) == [late.id]


@pytest.mark.parametrize("act", ["pop", "start", "retry", "finish", "delete", "spoil"])
def test_what_somebody_else_has_taken_is_left_as_it_is(redis, look, act):
    job = add_in_time()
    key = keys.job(job.id)
    if act == "pop":  # a worker of RQ's that has not told yet
        redis.lpop("rq:queue:default")
    elif act == "start":
        redis.hset(key, "status", "started")
    elif act == "retry":
        redis.hset(key, mapping={"status": "scheduled", "started_at": rq_text(1)})
    elif act == "finish":
        redis.hset(key, "status", "finished")
    else:
        redis.delete(key)
    if act == "spoil":
        redis.set(key, "what is this")
    before = redis.dump(key)

    assert look() == []
    redis.zadd(keys.EXPIRING, {job.id: 1})
    if act in ("pop", "start", "finish"):
        redis.hset(key, "enqueued_at", rq_text(1))
        before = redis.dump(key)
    assert look() == []
    assert (redis.dump(key), looked_at(redis)) == (before, {})


def test_a_queue_that_is_something_else_in_redis_keeps_no_other_from_expiring(redis, look):
    add_in_time(queue="odd")
    late = add_in_time()
    redis.delete("rq:queue:odd")
    redis.set("rq:queue:odd", "what is this")

    assert look(601) == [late.id]


def test_many_expire_in_steps_the_oldest_first(redis, look):
    jobs = enqueue.options(expires="10m").many(numbers.add, [(1, n) for n in range(800)])
    first = look(601)

    assert len(first) == 500
    assert len(look()) == 300
    assert redis.zcard("rq:canceled:default") == len(jobs)
    assert queued(redis) == []


def test_far_behind_in_a_long_queue_few_expire_at_a_time(redis, look, monkeypatch):
    monkeypatch.setattr(overdue, "_MOST_PLACES", 100)
    enqueue.many(numbers.add, [(1, n) for n in range(60)])
    late = [add_in_time() for _ in range(4)]

    assert len(look(601)) == 2
    assert len(look()) == 2
    assert {status(redis, job.id) for job in late} == {"canceled"}


def test_a_chain_hears_that_its_part_has_expired(redis, look):
    first, second = enqueue.chain(
        part(numbers.add, 1, 2).options(expires="10m"), part(numbers.add, 3, 4)
    )
    look(601)
    line = Line(redis)
    redis.zadd(keys.JOINS, {second.id: 0})
    joins.tell(line, *line.exchange(joins.look()))

    assert [status(redis, job.id) for job in (first, second)] == ["canceled", "canceled"]
    assert REASON in redis.hget(keys.job(second.id), keys.REASON_FIELD).decode()


def test_jobs_without_such_a_time_are_never_looked_at(redis):
    enqueue(numbers.add, 1, 2)
    enqueue.many(numbers.add, [(1, 2)])
    enqueue.chain(part(numbers.add, 1, 2), part(numbers.add, 3, 4))

    assert not redis.exists(keys.EXPIRING)
