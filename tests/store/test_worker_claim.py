"""Take: which jobs a worker is given, and that each is named somewhere from then on."""

import zlib

import pytest
from jiffy.worker.turn import LEASE_S
from redis.exceptions import ResponseError
from rq.suspension import suspend

from jiffy import keys
from jiffy.queues import Queue
from tests import worker_jobs
from tests.worker_support import (
    enqueue,
    face,
    finished,
    ids_of,
    queued,
    reason,
    registered,
    status,
    turns,
)


def take(redis, want=10, **options):
    taken, _, _ = turns(redis, **options).take(want)
    return taken


def test_the_first_queue_is_served_first(redis):
    enqueue(redis, 2, queue="low")
    enqueue(redis, 2, queue="high")
    taken = take(redis, want=3, queues=["high", "default", "low"])

    assert ids_of(taken) == ["high-0", "high-1", "low-0"]


def test_a_queue_is_served_in_its_order(redis):
    ids = enqueue(redis, 5)

    assert ids_of(take(redis)) == ids


def test_no_more_is_taken_than_was_asked_for(redis):
    enqueue(redis, 5)

    assert ids_of(take(redis, want=2)) == ["default-0", "default-1"]
    assert queued(redis) == ["default-2", "default-3", "default-4"]


@pytest.mark.parametrize(
    ("jobs", "workers", "share"), [(10, 3, 4), (9, 3, 3), (1, 3, 1), (2, 3, 1), (10, 1, 10)]
)
def test_a_worker_takes_its_fair_share_only(redis, jobs, workers, share):
    enqueue(redis, jobs)
    for number in range(workers):
        face(redis, f"worker-{number}").register_birth()

    assert len(take(redis, want=100)) == share


def test_workers_of_other_queues_have_no_share(redis):
    enqueue(redis, 10)
    face(redis, "worker-2", queues=["mail"]).register_birth()

    assert len(take(redis, want=100)) == 10


def test_what_is_taken_is_in_the_started_registry_with_its_execution(redis):
    enqueue(redis)
    (taken,) = take(redis)
    execution = f"default-0:{taken.execution}"

    assert redis.zrange("rq:wip:default", 0, -1) == [execution.encode()]
    assert redis.hget(f"rq:execution:{execution}", "worker_name") == b"worker-1"
    assert redis.zrange("rq:executions:default-0", 0, -1) == [taken.execution.encode()]
    assert queued(redis) == []


def test_what_is_taken_says_that_it_is_started_and_by_whom(redis):
    enqueue(redis)
    take(redis)

    assert redis.hmget("rq:job:default-0", "status", "worker_name") == [b"started", b"worker-1"]
    assert redis.hget("rq:worker:worker-1", "state") == b"busy"


def test_rq_knows_what_a_worker_runs(redis):
    worker = face(redis)
    worker.register_birth()
    enqueue(redis, 3)
    taken = take(redis, 2)
    found = worker.get_current_executions(refresh=True)

    assert {(one.id, one.job_id) for one in found} == {(t.execution, t.job_id) for t in taken}
    assert worker.current_execution_count == 2


def test_whoever_takes_has_a_lease_by_the_clock_of_redis(redis):
    enqueue(redis)
    seconds, microseconds = redis.time()
    take(redis)
    until = redis.zscore(keys.LEASES, "worker-1")

    assert until >= seconds + microseconds / 1e6 + LEASE_S
    assert until <= redis.time()[0] + 1 + LEASE_S


def test_whoever_takes_nothing_has_no_lease(redis):
    take(redis)

    assert redis.keys() == [b"rq:worker:worker-1"]


def test_suspended_workers_take_nothing(redis):
    enqueue(redis)
    suspend(redis)
    taken, _, suspended = turns(redis).take(1)

    assert (taken, suspended) == ([], True)
    assert queued(redis) == ["default-0"]
    assert redis.hget("rq:worker:worker-1", "state") == b"suspended"


def test_a_deleted_job_is_passed_over(redis):
    enqueue(redis, 3)
    redis.delete("rq:job:default-1")

    assert ids_of(take(redis)) == ["default-0", "default-2"]
    assert queued(redis) == []


def test_a_queue_that_is_no_list_keeps_nobody_from_the_others(redis):
    redis.set("rq:queue:high", "what is this")
    enqueue(redis)

    assert ids_of(take(redis, queues=["high", "default"])) == ["default-0"]


def test_what_may_have_killed_a_worker_is_taken_alone(redis):
    enqueue(redis, 4)
    redis.hset("rq:job:default-2", "jiffy:alone", 1)
    worker = turns(redis)
    batches = []
    while taken := worker.take(10)[0]:
        batches.append(ids_of(taken))
        worker.take(0, [finished(job) for job in taken])

    assert batches == [["default-0", "default-1"], ["default-2"], ["default-3"]]


def test_what_is_taken_alone_keeps_its_queue_in_order(redis):
    enqueue(redis, 4)
    redis.hset("rq:job:default-0", "jiffy:alone", 1)

    assert ids_of(take(redis)) == ["default-0"]
    assert queued(redis) == ["default-1", "default-2", "default-3"]


def test_what_has_a_time_to_live_keeps_it_until_it_is_about_to_begin(redis):
    ids = enqueue(redis, 3, ttl=60)
    taken = take(redis)

    assert ids_of(taken) == ids[:1]
    assert [redis.ttl(keys.job(job_id)) for job_id in ids] == [-1, 60, 60]


def test_whoever_leaves_something_wakes_another(redis):
    enqueue(redis, 2)
    take(redis, want=1)

    assert redis.llen(keys.wake("default")) == 1


def test_a_job_is_registered_with_the_queue_that_it_was_taken_from(redis):
    enqueue(redis)
    redis.rename("rq:queue:default", "rq:queue:other")
    take(redis, queues=["other"])

    assert registered(redis, "started", "other") == ["default-0"]


# What a job may have become.  Each is followed by a good one, which must run all the same.


def of_another_type(redis, key):
    redis.delete(key)
    redis.rpush(key, "a", "list")


def without_data(redis, key):
    redis.hdel(key, "data")


def with_data_that_nobody_can_read(redis, key):
    redis.hset(key, "data", b"\x80\x04\xff\x00")


def with_data_that_is_no_call(redis, key):
    redis.hset(key, "data", b'{"function": "jobs.numbers.add"}')


def with_data_that_calls_a_number(redis, key):
    redis.hset(key, "data", b"[5, null, [], {}]")


def with_arguments_that_are_numbers(redis, key):
    redis.hset(key, "data", b'["tests.worker_jobs.nothing", null, 5, 6]')


def with_a_time_limit_in_words(redis, key):
    redis.hset(key, "timeout", "soon")


def with_a_ttl_in_words(redis, key):
    redis.hset(key, "result_ttl", "long")


def with_a_function_that_is_not_there(redis, key):
    redis.hset(key, "data", b'["tests.worker_jobs.nothing_at_all", null, [], {}]')


CORRUPT = [
    of_another_type,
    without_data,
    with_data_that_nobody_can_read,
    with_data_that_is_no_call,
    with_data_that_calls_a_number,
    with_arguments_that_are_numbers,
    with_a_time_limit_in_words,
    with_a_ttl_in_words,
    with_a_function_that_is_not_there,
]


def the_rest(redis, key):
    """What a corrupt job is made of, apart from what a worker writes."""
    if redis.type(key) != b"hash":
        return redis.lrange(key, 0, -1)
    data, *fields = redis.hmget(key, "data", "timeout", "result_ttl", "description", "origin")
    return [decompressed(data), *fields]


def decompressed(data):
    """RQ's own methods compress it as they write a job; what it says is the same."""
    return zlib.decompress(data) if data and data.startswith(b"x\x9c") else data


@pytest.mark.parametrize("corrupt", CORRUPT)
def test_a_corrupt_job_fails_with_a_reason_and_its_neighbours_run(redis, work, corrupt):
    enqueue(redis, 3)
    corrupt(redis, "rq:job:default-1")
    before = the_rest(redis, "rq:job:default-1")
    work()

    assert registered(redis, "failed") == ["default-1"]
    assert len(reason(redis, "default-1")) > 20
    assert the_rest(redis, "rq:job:default-1") == before
    assert registered(redis, "finished") == ["default-0", "default-2"]
    assert registered(redis, "started") == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", b"\xff"),
        ("status", b"unheard-of"),
        ("created_at", b"yesterday"),
        ("enqueued_at", b"\xff\xfe"),
        ("result_ttl", b"1e999"),
        ("result_ttl", b"99999999999999999999"),
        ("failure_ttl", b"99999999999999999999"),
        ("failure_ttl", b"never"),
        ("timeout", b"1e999"),
        ("timeout", b"nan"),
        ("timeout", b"99999999999999999999"),
        ("description", b"\xff\xfe"),
        ("origin", b"\xff\xfe"),
        ("dependency_ids", b"not json"),
        ("retries_left", b"some"),
        ("retry_intervals", b"not json"),
        ("repeats_left", b"some"),
        ("success_callback_name", b"no.such.module.callback"),
        ("success_callback_name", b"\xff"),
        ("failure_callback_name", b"no.such.module.callback"),
        ("webhooks", b"not json"),
        ("group_id", b"\xff"),
        ("meta", b"\x80\x04"),
        ("serializer_name", b"no.such.Serializer"),
    ],
)
@pytest.mark.parametrize("func", [worker_jobs.nothing, worker_jobs.fail])
def test_no_field_of_a_job_ends_a_worker(redis, work, field, value, func):
    enqueue(redis)
    enqueue(redis, 1, func, queue="odd")
    enqueue(redis, queue="more")
    redis.hset("rq:job:odd-0", field, value)
    work("default", "odd", "more")

    assert registered(redis, "finished", "default") == ["default-0"]
    assert registered(redis, "finished", "more") == ["more-0"]
    assert queued(redis, "odd") == []
    assert is_settled(redis, "odd-0")


def is_settled(redis, job_id):
    """Whether it stands in a registry of what is over, and in none of what is not."""
    where = [key.decode("latin-1") for key in redis.keys("rq:*") if names(redis, key, job_id)]
    return bool(where) and all(key.startswith(("rq:finished:", "rq:failed:")) for key in where)


def names(redis, key, job_id):
    try:
        return any(raw.startswith(job_id.encode()) for raw in redis.zrange(key, 0, -1))
    except ResponseError:
        return False


def test_a_job_with_an_id_that_is_no_text_is_settled_and_its_neighbours_run(redis, work):
    enqueue(redis, 2)
    odd = b"odd-\xff"
    redis.rename("rq:job:default-0", b"rq:job:" + odd)
    redis.lset("rq:queue:default", 0, odd)
    work()

    assert registered(redis, "finished")[-1:] == ["default-1"]
    assert redis.zscore("rq:failed:default", odd) or redis.zscore("rq:finished:default", odd)
    assert redis.zcard("rq:wip:default") == 0


def test_a_function_named_with_half_a_character_fails_and_its_neighbours_run(redis):
    enqueue(redis, 2)
    redis.hset("rq:job:default-0", "data", b'["tests.\\udcff", null, [], {}]')
    face(redis).work(burst=True, logging_level="CRITICAL")  # RQ's log has it as it is

    assert (status(redis, "default-0"), status(redis, "default-1")) == ("failed", "finished")


def test_a_pickle_is_never_loaded_by_a_worker_that_reads_json(redis, work):
    queue = Queue("default", connection=redis, serializer="pickle")
    queue.enqueue(worker_jobs.say, "boo", job_id="default-0")
    work()

    assert status(redis) == "failed"
    assert not redis.exists(worker_jobs.SAID)
