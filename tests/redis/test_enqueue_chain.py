"""Chains: one part after another, each with what the one before returned."""

import json
from itertools import pairwise

import pytest
import rq

import jiffy
from jiffy import Enqueue, Retry, actions, clock, keys, part, redis_io, result, wait
from jiffy.errors import (
    InvalidValue,
    NotImportable,
    NotThisState,
    RedisAway,
    WrongArguments,
)
from jiffy.producer.enqueue import Job
from jiffy.redis_io import Link
from jiffy.worker import upkeep
from tests.jobs import worker as worker_jobs
from tests.jobs.enqueue import add, collect, fail, fail_once, heard, nothing
from tests.jobs.worker import return_text
from tests.support.join_support import left, look, look_on, reason, status, statuses
from tests.support.newcomer import wait_until
from tests.support.worker_support import (
    claim,
    claimer,
    die,
    due,
    finish,
    finish_together,
    maintain,
    queued,
    registered,
    work_one,
)


@pytest.fixture
def chain(redis):
    """Three additions, each of the last result and one more."""
    return jiffy.enqueue.chain(part(add, 1, 1), part(add, result, 1), part(add, result, 1))


def test_a_part_takes_what_the_one_before_returned(work):
    jobs = jiffy.enqueue.chain(part(add, 2, 3), part(add, result, 10), part(add, y=result, x=100))
    work()

    assert [job.return_value() for job in jobs] == [5, 15, 115]
    assert wait(jobs[-1]) == 115


def test_the_result_may_stand_anywhere_inside_the_arguments(work):
    shape = {"a": [result, {"b": result}], "text": '{"jiffy:result": true}'}
    jobs = jiffy.enqueue.chain(part(add, 2, 3), part(collect, shape, y=[result]))
    work()

    given = {"a": [5, {"b": 5}], "text": '{"jiffy:result": true}'}
    assert wait(jobs[-1]) == [[given], {"y": [5]}]


@pytest.mark.parametrize("value", [None, '100 % of "it" \\ %1', 1e300, [{"a": []}], "ü€\n"])
def test_every_result_that_is_stored_is_handed_on_as_it_is(work, value):
    jobs = jiffy.enqueue.chain(part(collect, value), part(collect, result))
    work()

    assert wait(jobs[-1]) == [[[[value], {}]], {}]


def test_result_has_no_place_in_a_call_of_its_own(redis):
    for put in (lambda: jiffy.enqueue(add, result, 1), lambda: jiffy.enqueue_many(add, [[result]])):
        with pytest.raises(WrongArguments, match="this call has no part before it"):
            put()

    assert redis.keys() == []


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ([{"jiffy:result": True}], {}),
        ([result, {"a": [{"jiffy:result": True}]}], {}),
        ([1], {"jiffy:result": True}),
    ],
)
def test_a_value_that_looks_like_result_gets_no_result(redis, args, named):
    """Else a customer's JSON is given what an earlier part returned, as often as it asks for it."""
    with pytest.raises(WrongArguments, match=r"Part 2: .* looks like `result`"):
        jiffy.enqueue.chain(part(add, 1, 1), part(collect, *args, **named))

    assert redis.keys() == []


def test_a_result_that_is_too_large_for_its_many_places_cancels_the_part(redis, work):
    jobs = jiffy.enqueue.chain(part(return_text, 200_000), part(collect, [result] * 100))
    work()

    assert status(redis, jobs[1]) == "canceled"
    assert "is over 5000000 bytes together" in reason(redis, jobs[1])
    assert left(redis) == []


def test_a_finish_that_is_repeated_or_late_releases_the_next_part_once(redis, chain):
    [first] = claim(redis, 1)
    counted = [finish(redis, first, value=value) for value in (b"2", b"3")]

    assert counted == [1, 0]
    assert queued(redis) == [chain[1].id]
    assert json.loads(redis.hget(keys.job(chain[1].id), "data"))[2] == [2, 1]


def test_a_part_that_another_worker_has_by_now_releases_nothing(redis, chain):
    [first] = claim(redis, 1)
    die(redis, is_gone=True)
    claim(redis, 1, name="worker-2")
    finish(redis, first, value=b"2")

    assert statuses(redis, chain) == ["started", "deferred", "deferred"]


def test_where_its_queue_is_something_else_in_redis_a_part_waits_until_it_is_not(redis):
    jobs = jiffy.enqueue.chain(part(add, 1, 1), part(add, result, 1).options(queue="low"))
    redis.set(keys.queue("low"), "a text")
    work_one(redis)
    before = statuses(redis, jobs)
    redis.delete(keys.queue("low"))
    look(redis)

    assert before == ["finished", "deferred"]
    assert queued(redis, "low") == [jobs[1].id]


@pytest.mark.parametrize("given", [{}, {"on_success": heard}, {"result_ttl": 0}], ids=" ".join)
def test_a_part_hands_its_result_on_whatever_else_there_is(work, given):
    jobs = jiffy.enqueue.chain(part(add, 1, 1).options(**given), part(add, result, 1))
    work()

    assert wait(jobs[-1]) == 3


def test_a_part_that_others_depend_on_hands_its_result_on(redis, work):
    jobs = jiffy.enqueue.chain(part(add, 1, 1), part(add, result, 1))
    after = jiffy.enqueue.options(depends_on=jobs)(nothing)
    work()

    assert (wait(jobs[-1]), statuses(redis, [after])) == (3, ["finished"])


def test_each_part_has_its_own_options_and_those_of_the_chain(redis):
    enqueue = Enqueue({add: jiffy.options(timeout="9m", queue="usual")})
    jobs = enqueue.options(queue="high").chain(
        part(add, 1, 1), part(add, result, 1).options(queue="low")
    )
    timeouts = [redis.hget(keys.job(job.id), "timeout") for job in jobs]

    assert (queued(redis, "high"), registered(redis, "deferred", "low")) == (
        [jobs[0].id],
        [jobs[1].id],
    )
    assert timeouts == [b"540", b"540"]


def test_a_part_that_waited_is_enqueued_as_its_options_say(redis):
    waits = part(add, result, 1).options(at_front=True, ttl="1h")
    jobs = jiffy.enqueue.chain(part(add, 1, 1), waits)
    [first] = claim(redis, 1)
    jiffy.enqueue(nothing)
    before = (jobs[1].description, redis.ttl(keys.job(jobs[1].id)))
    finish(redis, first, value=b"2")

    assert before == ("tests.jobs.enqueue.add(result, 1)", -1)
    assert queued(redis)[0] == jobs[1].id
    assert 0 < redis.ttl(keys.job(jobs[1].id)) <= 3600


def test_what_is_usual_for_a_function_gives_way_where_no_part_can_have_it(redis):
    enqueue = Enqueue({add: jiffy.options(unique="1h", unique_until="done", in_="5m")})
    jobs = enqueue.chain(part(add, 1, 1), part(add, result, 1))

    assert statuses(redis, jobs) == ["scheduled", "deferred"]
    with pytest.raises(InvalidValue, match=r"^Part 1: unique is '1h'; it must be left out"):
        enqueue.options(unique="1h").chain(part(add, 1, 1))


# What becomes of the rest


def test_where_a_part_fails_the_rest_is_canceled_with_the_reason(redis, work):
    jobs = jiffy.enqueue.chain(part(fail), part(add, result, 1), part(add, result, 1))
    work()

    assert statuses(redis, jobs) == ["failed", "canceled", "canceled"]
    first, second = (reason(redis, job) for job in jobs[1:])
    assert first == second
    assert first.startswith(f"A part before it, {jobs[0].id}, failed: ValueError: no card (")
    assert set(registered(redis, "canceled")) == {jobs[1].id, jobs[2].id}
    assert (registered(redis, "deferred"), left(redis)) == ([], [])


@pytest.mark.parametrize(
    ("failure_ttl", "kept"), [(0, [1, 0, -2]), (-1, [-1]), ("1h", range(3500, 3601))]
)
def test_what_is_canceled_is_kept_as_long_as_what_failed(redis, work, failure_ttl, kept):
    jobs = jiffy.enqueue.options(failure_ttl=failure_ttl).chain(part(fail), part(nothing))
    work()

    assert redis.ttl(keys.job(jobs[1].id)) in kept


def test_long_chains_that_break_together_are_canceled_in_steps(redis):
    for _ in range(5):
        jiffy.enqueue.chain(*[part(nothing)] * 400)
    finish_together(redis, claim(redis), "failed")
    canceled = look_on(redis, lambda: len(registered(redis, "canceled")))

    assert max(later - one for one, later in pairwise([0, *canceled])) == 1000
    assert (canceled[-1], left(redis)) == (5 * 399, [])


def test_of_what_was_canceled_and_is_gone_rqs_registry_forgets(redis, work):
    for _ in range(5):
        jobs = jiffy.enqueue.chain(part(fail), part(nothing))
        work()
        redis.delete(keys.job(jobs[1].id))

    assert len(registered(redis, "canceled")) == 1


def test_of_what_was_canceled_and_is_gone_rqs_registry_forgets_also_behind_what_is_kept(redis):
    jobs = [jiffy.enqueue.options(expires="1h")(nothing) for _ in range(60)]
    for job in jobs:
        redis.zadd(keys.EXPIRING, {job.id: 1})
        due(redis)
        if job not in jobs[:2]:
            redis.delete(keys.job(job.id))

    assert len(registered(redis, "canceled")) < 20


def test_a_part_that_is_tried_again_does_not_break_the_chain(redis, work):
    jobs = jiffy.enqueue.options(retry=Retry(2, pause=0)).chain(
        part(worker_jobs.fail_until_the_last_try), part(collect, result)
    )
    work_one(redis)
    between = statuses(redis, jobs)
    work()

    assert between == ["queued", "deferred"]
    assert wait(jobs[-1]) == [["at last"], {}]


def cancel_as_rq_does(redis, job):
    Job.fetch(job.id, connection=redis).cancel()


def cancel(redis, job):
    actions.cancel(job.id)


def delete(redis, job):
    Job.fetch(job.id, connection=redis).delete()


def run_out(redis, job):
    redis.delete(keys.job(job.id))


def stop(redis, job):
    finish(redis, *claim(redis, 1), "stopped", error="Job stopped by user.")


def make_unreadable(redis, job):
    redis.hset(keys.job(job.id), "data", "[")
    work_one(redis)


def fail_in_stock_rq(redis, job):
    redis.hset(keys.job(job.id), "data", json.dumps(["tests.jobs.enqueue.fail", None, [], {}]))
    worker = rq.SimpleWorker(["default"], connection=redis, serializer="json")
    worker.work(burst=True, logging_level="CRITICAL")


ELSEWHERE = {
    "was canceled": [cancel, cancel_as_rq_does],
    "is gone": [delete, run_out],
    "failed": [make_unreadable, fail_in_stock_rq],
    "was stopped": [stop],
}


@pytest.mark.parametrize(
    ("end", "what"), [(end, what) for what, ends in ELSEWHERE.items() for end in ends]
)
def test_a_part_that_is_ended_elsewhere_breaks_the_chain_too(redis, chain, end, what):
    end(redis, chain[0])
    look(redis)

    assert statuses(redis, chain[1:]) == ["canceled", "canceled"]
    assert reason(redis, chain[2]).startswith(f"A part before it, {chain[0].id}, {what}")
    assert left(redis) == []


def test_a_part_that_is_ended_elsewhere_breaks_the_chain_though_the_list_of_what_waits_is_lost(
    redis, chain
):
    redis.delete(keys.JOINS)
    redis.set(keys.JOINS, "odd")
    maintain(redis)
    delete(redis, chain[0])
    look(redis)

    assert statuses(redis, chain[1:]) == ["canceled", "canceled"]


def test_a_part_that_is_canceled_breaks_the_chain_though_redis_clock_was_set_back(redis, chain):
    cancel(redis, chain[0])
    for waiting in redis.zrange(keys.JOINS, 0, -1):
        redis.zincrby(keys.JOINS, 3600, waiting)
    upkeep.enqueue_due(Link(redis), [keys.NOTHING], default_timeout_s=180)

    assert statuses(redis, chain) == ["canceled"] * 3


@pytest.mark.parametrize(
    ("end", "what"),
    [(cancel, "was canceled"), (cancel_as_rq_does, "was canceled"), (delete, "is gone")],
)
def test_where_a_part_that_waits_is_ended_those_after_it_are_canceled(
    redis, chain, work, end, what
):
    end(redis, chain[1])
    look(redis)
    work()
    look(redis)

    assert statuses(redis, [chain[0], chain[2]]) == ["finished", "canceled"]
    assert reason(redis, chain[2]) == f"A part before it, {chain[1].id}, {what}"
    assert (queued(redis), left(redis)) == ([], [])


def test_a_part_that_stock_rq_has_finished_hands_its_result_on(redis, chain, work):
    worker = rq.SimpleWorker(["default"], connection=redis, serializer="json")
    worker.work(burst=True, logging_level="WARNING")
    look(redis)
    work()

    assert wait(chain[-1]) == 4


@pytest.mark.parametrize("second", [part(add, result, 1), part(add, 1, 1)])
def test_the_rest_of_a_broken_chain_cannot_be_tried_again_before_it(redis, work, second):
    """Even if all that failed or was canceled is retried at once."""
    jobs = jiffy.enqueue.chain(part(fail), second, part(nothing))
    work()
    for job in jobs[1:]:
        with pytest.raises(NotThisState, match="retry that part first"):
            actions.retry(job.id)

    assert queued(redis) == []


def test_what_was_canceled_of_a_chain_is_retried_in_its_order(redis, work):
    chain = jiffy.enqueue.chain(*[part(nothing)] * 3)
    for job in chain:
        actions.cancel(job.id)
    look(redis)
    tried = []
    for job in chain:
        actions.retry(job.id)
        for other in chain[chain.index(job) + 1 :]:
            with pytest.raises(NotThisState, match="retry that part first"):
                actions.retry(other.id)
        tried += queued(redis)
        work()

    assert tried == [job.id for job in chain]


def test_the_rest_of_a_chain_whose_part_is_gone_can_be_tried_again(redis, work):
    jobs = jiffy.enqueue.chain(part(fail), part(nothing), part(nothing))
    work()
    jobs[0].delete()
    actions.retry(jobs[1].id)
    work()

    assert statuses(redis, jobs[1:]) == ["finished"] * 2


def requeue_as_rq_does(job):
    Job.fetch(job.id, connection=job.connection).requeue()


@pytest.mark.parametrize("again", [actions.retry, requeue_as_rq_does])
def test_a_failed_part_that_is_retried_and_finishes_takes_its_chain_up_again(redis, work, again):
    jobs = jiffy.enqueue.chain(
        part(worker_jobs.nothing), part(fail_once), part(collect, result), part(nothing)
    )
    work()
    broken = statuses(redis, jobs)
    again(jobs[1])
    work()

    assert broken == ["finished", "failed", "canceled", "canceled"]
    assert statuses(redis, jobs) == ["finished"] * 4
    assert jobs[2].return_value() == [["at last"], {}]
    assert [reason(redis, job) for job in jobs] == [""] * 4
    assert (registered(redis, "canceled"), registered(redis, "deferred")) == ([], [])
    assert left(redis) == []


@pytest.mark.parametrize("end", [cancel, cancel_as_rq_does])
def test_a_part_that_was_canceled_on_purpose_stays_so(redis, work, end):
    jobs = jiffy.enqueue.chain(part(fail_once), part(nothing), part(nothing))
    end(redis, jobs[1])
    look(redis)
    work()
    actions.retry(jobs[0])
    work()

    assert statuses(redis, jobs) == ["finished", "canceled", "canceled"]


# Nothing is written unless all of it is right


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([], InvalidValue, "chain is .*; it must be one part or more"),
        ([part(add, 1), add], InvalidValue, r"Part 2: it is .* as part\(function"),
        ([[part(add, 1)]], InvalidValue, "Part 1: .* one by one: chain"),
        ([part(add, 1), part(add)], WrongArguments, "Part 2: .*add.* needs the argument 'x'"),
        ([part(add, 1), part(lambda: 1)], NotImportable, "Part 2: .*is a lambda"),
        ([part(add, 1), part(add, {1})], WrongArguments, "Part 2: .*is a set"),
        ([part(add, result)], WrongArguments, "Part 1: there is no part before it"),
        *[
            ([part(add, 1), part(add, 2).options(**odd)], InvalidValue,
             rf"Part 2: {name} is .*; it must be left out: tests.jobs.enqueue.add ")
            for odd in ({"unique": "1h"}, {"depends_on": "another"}, {"job_id": "mine"},
                        {"in_": "5m"}, {"at": clock.now()})
            for name in odd
        ],
    ],
)  # fmt: skip
def test_a_wrong_part_is_refused_with_its_number(redis, parts, error, message):
    with pytest.raises(error, match=message):
        jiffy.enqueue.chain(*parts)

    assert redis.keys("*") == []


def write_a_chain():
    return jiffy.enqueue.chain(part(add, 1, 1), part(add, result, 1), part(add, result, 1))


def test_cut_at_any_byte_of_what_is_asked_or_answered_it_is_there_once(redis, cutter):
    write_a_chain()
    for after in cutter.cut_each(211, 3):
        redis.flushdb()
        jobs = write_a_chain()

        assert statuses(redis, jobs) == ["queued", "deferred", "deferred"], after
        assert queued(redis) == [jobs[0].id], after
        assert redis.zcard(keys.pending(jobs[1].id)) == 1, after
    assert cutter.cuts >= 20  # where a message came in parts, the last part counts


@pytest.mark.parametrize("options", [{}, {"result_ttl": 0}])
def test_a_chain_that_is_over_before_its_producer_hears_of_it_does_not_run_again(
    redis, cutter, options
):
    def write():
        return jiffy.enqueue.options(**options).chain(part(add, 1, 1), part(add, result, 1))

    def run_all():
        """A worker that is quicker than the answer to a producer."""
        wait_until(lambda: queued(redis))  # an answer may come before all is read
        worker = claimer(redis)
        while jobs := worker.claim(1).jobs:
            finish(redis, *jobs, value=b"1")

    write()
    redis.flushdb()
    cutter.cut_once("answered", 0, meanwhile=run_all)
    jobs = write()

    assert (cutter.cuts, queued(redis), left(redis)) == (1, [], [])
    assert redis.exists(*(keys.job(job.id) for job in jobs)) == (0 if options else 2)


def test_a_producer_that_is_cut_off_for_good_leaves_nothing(redis, cutter, monkeypatch):
    monkeypatch.setattr(redis_io, "PATIENCE_S", 0)
    write_a_chain()
    asked, _ = cutter.heard
    for n in range(0, asked, 997):
        redis.flushdb()
        cutter.cut_once("asked", n)
        with pytest.raises(RedisAway):
            write_a_chain()

        assert redis.keys(f"{keys.RQ}*") == [], n
