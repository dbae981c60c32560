"""A unique call is one job: by its arguments or a key, however many make it at the same time."""

import threading
from decimal import Decimal

import pytest

import jiffy
from jiffy import keys, redis_io
from tests.jobs import typed
from tests.jobs.enqueue import add, collect
from tests.support.newcomer import PATIENCE_S

PRODUCERS = 50


def put(*args, func=add, **options):
    return jiffy.enqueue.options(**{"unique": "1h"} | options)(func, *args)


def set_status(redis, job, status):
    redis.hset(keys.job(job.id), "status", status)


def test_the_second_call_returns_the_first_job(redis):
    first, second = put(2, 3), put(2, 3)

    assert second.id == first.id
    assert (second.args, second.get_status()) == ([2, 3], "queued")
    assert redis.llen(keys.queue("default")) == 1


def test_the_same_call_written_otherwise_is_the_same_call():
    unique = jiffy.enqueue.options(unique="1h")
    ids = {unique(add, 2, 0).id, unique(add, 2).id, unique(add, y=0, x=2).id, unique(add, x=2).id}

    assert len(ids) == 1


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [(2, 2.0, True), ([{"a": 0}], [{"a": -0.0}], True), (10**22, 1e22, True),
     (1, True, False), (2, "2.0", False), (2.5, 2, False)],
)  # fmt: skip
def test_a_whole_number_is_the_same_with_and_without_a_point(one, other, are_same):
    assert (put(one, 3).id == put(other, 3).id) == are_same


@pytest.mark.parametrize(
    ("func", "one", "other"),
    [(typed.money, 20, "20"), (typed.money, Decimal(20), 20),
     (typed.moment, "2030-01-01T12:00:00Z", "2030-01-01T12:00:00+00:00")],
)  # fmt: skip
def test_what_arrives_as_the_same_is_the_same_call(func, one, other):
    assert put(one, func=func).id == put(other, func=func).id


def test_unique_for_less_than_a_millisecond_is_as_good_as_not(redis):
    assert put(2, 3, unique=0.0001).get_status() == "queued"
    assert redis.llen(keys.queue("default")) == 1


def test_a_key_makes_calls_of_one_function_unique_if_there_is_one():
    first, second = put(2, 3, unique_key="order-7"), put(5, 5, unique_key="order-7")
    other, elsewhere = put(2, 3, unique_key="order-8"), put(1, func=collect, unique_key="order-7")

    assert first.id == second.id
    assert len({first.id, other.id, elsewhere.id}) == 3


def test_a_key_may_be_the_name_of_a_file_that_is_not_utf_8():
    first, second = put(1, unique_key="caf\udce9.jpg"), put(1, unique_key="caf\udcea.jpg")

    assert put(2, unique_key="caf\udce9.jpg").id == first.id != second.id


@pytest.mark.parametrize(
    ("options", "kept_s"),
    [
        ({}, 3600), ({"unique": "1m"}, 500), ({"result_ttl": 60}, 60), ({"result_ttl": -1}, -1),
        ({"unique_until": "done"}, 500),
    ],
)  # fmt: skip
def test_the_job_that_it_stands_for_is_there_as_long_as_it_does(redis, work, options, kept_s):
    job = put(2, 3, **options)
    work()

    assert kept_s - 30 < redis.ttl(keys.job(job.id)) <= kept_s
    assert put(2, 3, **options).get_status() in ("finished", "queued")


def test_it_ends_with_its_time(redis):
    first = put(2, 3, unique=60.5)
    [key] = redis.keys(f"{keys.OWN}unique:*")
    left_ms = redis.pttl(key)
    redis.delete(key)  # as Redis does then

    assert 0 <= left_ms <= 60_500
    assert put(2, 3).id != first.id


@pytest.mark.parametrize(
    ("until", "status", "is_past"),
    [
        (None, "finished", False), ("done", "queued", False), ("done", "started", False),
        ("done", "deferred", False), ("done", "finished", True), ("done", "failed", True),
        ("done", "canceled", True), ("begun", "queued", False), ("begun", "scheduled", False),
        ("begun", "started", True), ("begun", "stopped", True),
    ],
)  # fmt: skip
def test_it_ends_early_once_its_job_has_come_so_far(redis, until, status, is_past):
    first = put(2, 3, unique_until=until)
    set_status(redis, first, status)

    assert (put(2, 3, unique_until=until).id != first.id) == is_past


@pytest.mark.parametrize("until", ["begun", "done"])
def test_a_job_that_was_deleted_is_over(redis, until):
    first = put(2, 3, unique_until=until)
    first.delete()

    assert put(2, 3, unique_until=until).id != first.id


def test_a_unique_call_for_later_is_one_job(redis):
    assert put(2, 3, in_="5m").id == put(2, 3).id
    assert redis.zcard(f"{keys.RQ}scheduled:default") == 1
    assert redis.llen(keys.queue("default")) == 0


@pytest.mark.parametrize("ids", [None, ["a", "b", "c"]])
def test_of_many_unique_calls_the_existing_ones_are_returned(redis, ids):
    calls = [(1, 1), (2, 2), (1, 1)]
    first = jiffy.enqueue.options(unique="1h").many(add, calls)
    again = jiffy.enqueue.options(unique="1h").many(add, calls, job_ids=ids)

    assert first.ids[0] == first.ids[2] != first.ids[1]
    assert (first.ids_taken, again.ids_taken) == (first.ids[2:], first.ids)
    assert redis.llen(keys.queue("default")) == 2


@pytest.mark.parametrize("until", [None, "done"])
def test_fifty_threads_at_once_make_one_job(redis, until):
    ids, start = [], threading.Barrier(PRODUCERS, timeout=PATIENCE_S)

    def produce():
        start.wait()
        ids.append(put(2, 3, unique_until=until).id)

    threads = [threading.Thread(target=produce) for _ in range(PRODUCERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(ids), len(set(ids))) == (PRODUCERS, 1)
    assert redis.llen(keys.queue("default")) == 1
    redis_io.shared().close()  # fifty connections


@pytest.mark.parametrize("odd", ["", b"\xff\xfe", "../x", "a\nb", "x" * 1_000_000])
def test_what_is_no_id_stands_for_no_job(redis, odd):
    put(2, 3)
    [key] = redis.keys(keys.unique("*"))
    redis.set(key, odd)
    job = put(2, 3)

    assert job.is_new
    assert put(2, 3).id == job.id
