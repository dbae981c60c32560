"""Many jobs at once: from a generator, in chunks, and again without doubling any."""

import contextlib

import pytest
from redis.exceptions import ResponseError

import jiffy
from jiffy import clock, keys
from jiffy.errors import InvalidValue, WrongArguments
from jiffy.producer import recipe as enqueueing
from tests.jobs.enqueue import add, collect
from tests.support.worker_support import queued


def test_all_are_there_in_order_however_many_chunks_they_are(redis):
    count = 2 * enqueueing.MOST_JOBS + 1
    jobs = jiffy.enqueue_many(add, ((n, 1) for n in range(count)))

    assert len(jobs) == len(set(jobs.ids)) == count
    assert queued(redis) == jobs.ids
    assert [jobs[n].args for n in (0, 1, enqueueing.MOST_JOBS, -1)] == [
        [0, 1], [1, 1], [enqueueing.MOST_JOBS, 1], [count - 1, 1]
    ]  # fmt: skip


def test_of_those_that_wait_for_very_many_few_are_written_in_one_step(redis):
    parents = jiffy.enqueue_many(add, [(n, 1) for n in range(4000)]).ids
    before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    waiting = jiffy.enqueue.options(depends_on=parents).many(add, [(n, 1) for n in range(5)])

    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 3
    assert {job.get_status() for job in waiting} == {"deferred"}


def test_none_are_none(redis):
    assert list(jiffy.enqueue_many(add, [])) == []
    assert redis.keys() == []


def test_said_again_with_the_same_ids_none_is_doubled(redis):
    calls = [(n, 1) for n in range(5)]
    jiffy.enqueue_many(add, calls[:3], job_ids=["a", "b", "c"])
    again = jiffy.enqueue_many(add, calls, job_ids=["a", "b", "c", "d", "e"])

    assert (again.ids, again.ids_taken) == (["a", "b", "c", "d", "e"], ["a", "b", "c"])
    assert queued(redis) == ["a", "b", "c", "d", "e"]


def test_behind_one_that_is_there_none_waits_for_a_job_that_is_gone(redis):
    waiting = jiffy.enqueue.options(depends_on=jiffy.enqueue(add, 0, 0))
    waiting.many(add, [(1, 1)], job_ids=["one"])
    redis.delete(*map(keys.job, queued(redis)))
    with pytest.raises(WrongArguments, match=r"a job that exists\. Enqueued before it: 0"):
        waiting.many(add, [(1, 1), (2, 1)], job_ids=["one", "two"])

    assert waiting.many(add, [(1, 1)], job_ids=["one"]).ids == ["one"]
    assert not redis.exists(keys.job("two"))


def test_the_same_id_twice_is_one_job(redis):
    jobs = jiffy.enqueue_many(add, [(1, 1), (2, 2)], job_ids=["a", "a"])

    assert (queued(redis), jobs.ids_taken) == (["a"], ["a"])
    assert jobs[0].args == [1, 1]


def test_too_few_ids_are_refused_and_so_are_wrong_ones(redis):
    with pytest.raises(WrongArguments, match=r"Call 2: There is no job id for call 2\. Enqueued"):
        jiffy.enqueue_many(add, [(1, 1), (2, 2)], job_ids=["a"])
    with pytest.raises(WrongArguments, match="job_id is 'b c'; it must be letters"):
        jiffy.enqueue_many(add, [(1, 1)], job_ids=["b c"])

    assert queued(redis) == ["a"]


def test_a_call_that_does_not_fit_is_named_and_those_before_it_are_there(redis):
    with pytest.raises(WrongArguments) as refusal:
        jiffy.enqueue_many(add, [(1, 1), (2, 2), (), (4, 4)])

    assert str(refusal.value).startswith("Call 3: add() needs the argument 'x'.")
    assert str(refusal.value).endswith("Enqueued before it: 2.")
    assert len(queued(redis)) == 2


def test_what_is_no_call_is_refused(redis):
    with pytest.raises(WrongArguments, match=r"'a\.jpg' is not a call: write a tuple of arguments"):
        jiffy.enqueue_many(add, ["a.jpg"])


def test_a_source_that_breaks_leaves_what_came_before_it(redis):
    def source():
        yield 1, 1
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        jiffy.enqueue_many(add, source())

    assert len(queued(redis)) == 1


def test_a_slow_source_is_not_waited_for(redis, monkeypatch):
    redis.script_flush()
    now_s, seen = clock.monotonic(), []
    monkeypatch.setattr(clock, "monotonic", lambda: now_s)

    def source():
        nonlocal now_s
        for number in range(3):
            now_s += 60
            yield number, 1
            seen.append(redis.llen(keys.queue("default")))

    jiffy.enqueue_many(add, source())

    assert seen == [1, 2, 3]


def test_a_chunk_is_no_larger_than_redis_can_take_at_once(redis, monkeypatch):
    monkeypatch.setattr(enqueueing, "MOST_BYTES", 1000)
    reported = []
    jiffy.enqueue_many(collect, [["x" * 600]] * 4, on_progress=reported.append)

    assert reported == [2, 4]


def test_ahead_of_all_that_waits_the_last_is_the_first_as_when_put_one_by_one(redis):
    jiffy.enqueue(add, 0)
    jiffy.enqueue.options(at_front=True).many(add, [(1,), (2,)], job_ids=["a", "b"])

    assert queued(redis)[:2] == ["b", "a"]


def test_one_id_for_many_is_refused():
    with pytest.raises(InvalidValue, match="job_id is 'one'; it must be"):
        jiffy.enqueue.options(job_id="one").many(add, [(1,), (2,)])


def odd_unique_key(redis):
    unique = jiffy.enqueue.options(unique="10m")
    unique(add, 1, 1)
    [key] = redis.keys(keys.unique("*"))
    redis.flushall()
    redis.rpush(key, "odd")
    return lambda: unique.many(add, [(number, number) for number in range(3)], job_ids="abc")


def odd_job(redis):
    redis.rpush(keys.job("b"), "odd")
    return lambda: jiffy.enqueue.many(add, [(1, 1)] * 3, job_ids="abc")


@pytest.mark.parametrize("spoil", [odd_unique_key, odd_job])
def test_something_else_in_the_key_of_one_job_loses_no_other(redis, spoil):
    write = spoil(redis)
    with contextlib.suppress(ResponseError):
        write()
    redis.delete(keys.NOTHING, *redis.keys(keys.unique("*")))  # put right
    write()

    assert {"a", "c"} <= {*queued(redis)}


@pytest.mark.parametrize("key", [keys.job("parent"), keys.dependents("parent")])
def test_a_dependency_that_is_something_else_in_redis_leaves_no_job_behind(redis, key):
    jiffy.enqueue.options(job_id="parent")(add, 1, 1)
    redis.delete(key)
    redis.rpush(key, "odd")
    with pytest.raises(ResponseError):
        jiffy.enqueue.options(job_id="child", depends_on="parent")(add, 1, 1)

    assert not redis.exists(keys.job("child"))
