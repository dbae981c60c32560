"""Groups: parts side by side, and one job that waits for all of them."""

import json
from base64 import b64encode
from contextlib import contextmanager

import pytest

import jiffy
from jiffy import Enqueue, clock, keys, options, part, redis_io, result, wait
from jiffy.errors import InvalidValue, JobFailed, NotImportable, RedisAway, WrongArguments
from jiffy.producer import workflows
from jiffy.producer.enqueue import Job
from jiffy.redis_io import Link
from tests.jobs.enqueue import add, collect, fail, nothing
from tests.jobs.worker import return_text
from tests.redis.test_enqueue_chain import ELSEWHERE
from tests.support.join_support import left, look, look_on, reason, status, statuses
from tests.support.worker_support import claim, finish, finish_together, queued


@pytest.fixture
def group(redis):
    """Three additions, and what collects their results."""
    return jiffy.enqueue.group([part(add, n, n) for n in range(3)], then=collect)


def outcomes(group):
    """What `then`, which is `collect`, was outcomes."""
    positional, named = wait(group.then)
    return (positional or [named["of"]])[-1]


def test_then_is_called_with_what_became_of_each_part_in_order(work):
    group = jiffy.enqueue.group([part(add, 1, 1), part(fail), part(nothing)], then=collect)
    work()

    ended = outcomes(group)
    assert ended[1].pop("error").startswith("ValueError: no card (jobs/enqueue.py:")
    assert [one["id"] for one in ended] == [job.id for job in group.jobs]
    assert [(one["status"], one["result"], one.get("error")) for one in ended] == [
        ("finished", 2, None),
        ("failed", None, None),
        ("finished", None, None),
    ]


@pytest.mark.parametrize(
    ("parts", "then", "value"),
    [
        ([], collect, [[[]], {}]),
        ([part(return_text, 900_000) for _ in range(6)], part(add, 2, 3), 5),  # it takes no results
        ([part(add, 1, 1)], None, None),
    ],
    ids=["of nothing", "without results", "without then"],
)
def test_a_group_may_have_no_parts_no_results_and_no_then(redis, work, parts, then, value):
    group = jiffy.enqueue.group(parts, then=then)
    assert then or left(redis) == []
    work()

    assert (wait(group.then) if then else group.then) == value
    assert statuses(redis, group.jobs) == ["finished"] * len(parts)


def test_then_is_enqueued_when_the_last_is_over_and_once(redis, group):
    first, second, third = claim(redis, 3)
    finish(redis, first, value=b"0")
    finish(redis, second, "failed", error="it broke")
    before = status(redis, group.then)
    for _ in range(2):
        finish(redis, third, value=b"4")

    assert before == "deferred"
    assert queued(redis) == [group.then.id]


def test_parts_may_differ_in_function_and_options(redis, work):
    enqueue = Enqueue({add: options(queue="low")})
    parts = [part(add, 1, 1), part(add, 2, 2).options(queue="high"), part(nothing), part(add, 3, 3)]
    group = enqueue.options(timeout="9m").group(parts, then=part(collect, result))
    jobs = [*group.jobs, group.then]
    timeouts = {redis.hget(keys.job(job.id), "timeout") for job in jobs}

    assert queued(redis, "low") == [group.jobs[0].id, group.jobs[3].id]
    assert (queued(redis, "high"), queued(redis)) == ([group.jobs[1].id], [group.jobs[2].id])
    assert timeouts == {b"540"}


def test_parts_in_a_row_that_are_alike_travel_together(redis):
    parts = [part(add, n, 1).options(queue="low") for n in range(500)]
    jiffy.enqueue.group(parts, then=collect)
    before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    group = jiffy.enqueue.group(parts, then=collect)

    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 3
    assert queued(redis, "low")[500:] == [job.id for job in group.jobs]


def test_the_results_of_a_group_of_thousands_are_in_order(redis):
    group = jiffy.enqueue.group([part(add, n, 0) for n in range(2500)], then=collect)
    redis.delete(*(keys.job(job.id) for job in group.jobs))
    look(redis)
    between = status(redis, group.then)
    while status(redis, group.then) == "deferred":
        look(redis)
    [ends] = group.then.args

    assert between == "deferred"  # one look is no longer than Redis can spare
    assert [one["id"] for one in ends] == [job.id for job in group.jobs]
    assert {one["status"] for one in ends} == {"gone"}


def test_large_results_of_groups_that_end_together_are_given_in_steps(redis):
    groups = [jiffy.enqueue.group([part(nothing)], then=collect) for _ in range(8)]
    finish_together(redis, claim(redis), value=b'"%b"' % (b"x" * 2_000_000))
    released = look_on(redis, lambda: len(queued(redis)))

    assert released[:2] == [3, 6]
    assert statuses(redis, [group.then for group in groups]) == ["queued"] * 8


def test_all_finished_parts_are_read_in_one_exchange(redis):
    def lose_a_group(size):
        group = jiffy.enqueue.group([part(add, n, 0) for n in range(size)], then=collect)
        redis.delete(*(keys.job(job.id) for job in group.jobs))
        before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
        look(redis)
        assert status(redis, group.then) == "queued"
        return redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before

    lose_a_group(1)  # Redis knows the scripts from here on

    assert lose_a_group(500) == 3  # what is due, which parts have ended; then all of them


def test_a_group_whose_queue_is_something_else_in_redis_keeps_no_other_waiting(redis):
    lost = part(nothing).options(queue="low")
    stuck, others = (
        [jiffy.enqueue.group([lost], then=part(nothing).options(queue=queue)) for _ in range(4)]
        for queue in ("high", "default")
    )
    redis.delete(keys.queue("low"), *(keys.job(group.jobs[0].id) for group in stuck + others))
    redis.set(keys.queue("high"), "a text")
    look(redis)

    assert statuses(redis, [group.then for group in stuck]) == ["deferred"] * 4
    assert statuses(redis, [group.then for group in others]) == ["queued"] * 4


def test_parts_that_are_over_before_all_are_written_do_not_end_the_group(redis, work, monkeypatch):
    write, between = workflows.write, []

    def write_and_work(parts, _):
        for one in parts:
            write([one])
            work()
            look(redis)
            between.append(redis.zcard(f"{keys.RQ}deferred:default"))

    monkeypatch.setattr(workflows, "write", write_and_work)
    group = jiffy.enqueue.group([part(add, 1, 1), part(nothing), part(add, 2, 2)], then=collect)
    work()

    assert between == [1, 1, 1]
    assert [one["result"] for one in outcomes(group)] == [2, None, 4]


@pytest.mark.parametrize(
    ("end", "what"), [(end, what) for what, ends in ELSEWHERE.items() for end in ends]
)
def test_a_part_that_is_ended_elsewhere_is_over_too(redis, group, work, end, what):
    end(redis, group.jobs[0])
    work()
    look(redis)
    work()
    ends = outcomes(group)

    assert [one["status"] for one in ends] == [what.split()[-1], "finished", "finished"]
    assert ends[1]["result"] == 2


def test_a_result_that_is_too_large_is_not_read_whole_by_a_supervisor(redis, group):
    value = b64encode(json.dumps("x" * 10**7).encode())
    redis.hset(keys.job(group.jobs[0].id), "status", "finished")
    redis.xadd(keys.results(group.jobs[0].id), {"type": 1, "return_value": value})
    [[*_, latest]] = Link(redis).run("ended_parts", [keys.JOINS], ["find", 100, 1000, 10**6, 0])
    look(redis)

    assert len(latest) < len(value)
    assert "is over 5000000 bytes together" in reason(redis, group.then)


@pytest.mark.parametrize("end", ["cancel", "delete"])
def test_where_then_is_canceled_or_deleted_the_parts_go_on_and_it_does_not_come_back(
    redis, group, work, end
):
    getattr(group.then, end)()
    look(redis)
    work()
    look(redis)

    assert statuses(redis, group.jobs) == ["finished"] * 3
    assert redis.hget(keys.job(group.then.id), "status") == (
        b"canceled" if end == "cancel" else None
    )
    assert (queued(redis), left(redis)) == ([], [])


def test_results_that_are_too_large_together_cancel_then_with_the_reason(redis, work):
    size = 900_000
    group = jiffy.enqueue.group([part(return_text, size) for _ in range(6)], then=collect)
    work()
    with pytest.raises(JobFailed, match="What its parts returned is over 5000000 bytes together"):
        wait(group.then, timeout="5s")

    assert statuses(redis, group.jobs) == ["finished"] * 6
    assert left(redis) == []


@pytest.mark.parametrize(
    ("parts", "then", "error", "message"),
    [
        (part(add, 1), collect, InvalidValue, r"parts is .* must be a list, as group\(\[part"),
        ([part(add, 1), part(add)], collect, WrongArguments, "Part 2: .* needs the argument 'x'"),
        ([part(add, 1), part(add, result)], collect, WrongArguments, "Part 2: only `then`"),
        ([part(add, 1)], nothing, WrongArguments, "nothing"),
        ([part(add, 1)], "no function", NotImportable, "then: 'no function' is a string"),
        ([part(add, 1).options(unique="1h")], collect, InvalidValue, "Part 1: unique"),
        ([part(add, 1)], part(collect, result).options(in_="5m"), InvalidValue, "in_"),
    ],
)
def test_nothing_is_written_if_any_part_is_wrong(redis, parts, then, error, message):
    with pytest.raises(error, match=message):
        jiffy.enqueue.group(parts, then=then)

    assert redis.keys("*") == []


# The producer takes long, or dies in the middle


def test_a_producer_that_takes_long_is_waited_for(redis, work, monkeypatch):
    now_s = clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: now_s)

    @contextmanager
    def take_40_s(job):
        nonlocal now_s
        now_s += 40
        for pending in redis.keys("jiffy:pending:*"):
            redis.zincrby(pending, 40, "")
        look(redis)
        yield

    enqueue = Enqueue(around=[take_40_s])
    group = enqueue.group([part(add, n, n) for n in range(10)], then=collect)
    work()

    assert [one["result"] for one in outcomes(group)] == [2 * n for n in range(10)]


def write_a_group():
    return jiffy.enqueue.group([part(add, 1, 1), part(nothing)], then=collect)


# It says four things: who waits, the part of one function, that of another, that this was all.
@pytest.mark.parametrize("passing", range(4))
@pytest.mark.parametrize("cut", [("asked", 0), ("asked", 90), ("answered", 0), ("answered", 1)])
def test_wherever_it_is_cut_it_is_there_once(redis, cutter, work, passing, cut):
    write_a_group()
    redis.flushdb()
    cutter.cut_once(*cut, passing=passing)
    group = write_a_group()
    count = work()

    assert (cutter.cuts, count) == (1, 3)
    assert [one["result"] for one in outcomes(group)] == [2, None]


@pytest.mark.parametrize("which", range(4))
def test_what_reaches_redis_a_second_time_when_all_is_written_changes_nothing(
    redis, work, monkeypatch, which
):
    write_a_group()  # Redis has the scripts
    redis.flushdb()
    sent, send = [], redis_io._send
    with monkeypatch.context() as patch:
        patch.setattr(redis_io, "_send", lambda redis, raw: sent.append(raw) or send(redis, raw))
        group = write_a_group()
    redis_io.exchange(redis, sent[which])
    count = work()

    assert (len(sent), count) == (4, 3)
    assert [one["result"] for one in outcomes(group)] == [2, None]


@pytest.mark.parametrize("passing", [1, 2, 3])
def test_what_waits_for_a_producer_that_has_died_is_canceled_in_the_end(
    redis, cutter, work, monkeypatch, passing
):
    monkeypatch.setattr(redis_io, "PATIENCE_S", 0)
    write_a_group()
    redis.flushdb()
    cutter.cut_once("asked", 0, lambda: cutter.refuse(1), passing=passing)
    with pytest.raises(RedisAway):
        write_a_group()
    [then_id] = redis.zrange(f"{keys.RQ}deferred:default", 0, -1)
    then = Job(then_id.decode(), redis)
    ran = work()
    look(redis)
    between = status(redis, then)
    redis.zadd(keys.pending(then.id), {"": -1})  # its time was over long ago
    look(redis)

    assert (between, ran) == ("deferred", passing - 1)
    assert reason(redis, then) == "Its producer ended before all parts were written."
    assert (status(redis, then), queued(redis), left(redis)) == ("canceled", [], [])
