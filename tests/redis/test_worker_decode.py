"""One who can write to Redis chooses among the allowed functions, and no more."""

import json
import pickle
import sys
import zlib

import pytest
import rq
from rq.exceptions import DeserializationError
from rq.serializers import DefaultSerializer, JSONSerializer, resolve_serializer

from jiffy import SimpleWorker, Worker, keys, redis_io
from jiffy.producer.enqueue import Queue
from jiffy.worker.decode import PICKLED, GuardedJob
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import WIP, queued, reason, registered, said, status

OUTSIDE = "tests.jobs.outside.leave_mark"
REFUSAL = f"jiffy.errors.NotAllowed: {OUTSIDE!r} is not under tests.jobs.worker."


class Trap:
    """Once unpickled, it leaves a mark."""

    def __reduce__(self):
        return worker_jobs.say, ("mark",)


@pytest.fixture(autouse=True)
def _nothing_outside_is_imported(redis, environ):
    environ(JOBS_MODULES="tests.jobs.worker")
    sys.modules.pop("tests.jobs.outside", None)
    yield
    assert "mark" not in said(redis)
    assert "tests.jobs.outside" not in sys.modules


@pytest.fixture
def rq_worker(redis):
    """A worker in this process."""
    return lambda: SimpleWorker(["default"], connection=redis)


@pytest.fixture
def work(rq_worker, environ):
    """Run all queued jobs; with `pickles`, pickled ones, too."""

    def work(pickles=False):
        if pickles:
            environ(JOBS_MODULES="tests.jobs.worker", SERIALIZERS="json,pickle")
        rq_worker().work(burst=True, logging_level="CRITICAL")

    return work


@pytest.fixture
def put(redis):
    """Enqueue "default-0", with more fields in its hash."""

    def put(func, *args, fields=None, **options):
        queue = Queue("default", connection=redis)
        job = queue.enqueue(func, args=args, job_id="default-0", **options)
        if fields:
            redis.hset(job.key, mapping=fields)
        return job

    return put


@pytest.fixture
def stock(redis):
    """RQ's own queue, which pickles."""
    return rq.Queue("default", connection=redis)


def plant(redis, data, **fields):
    """What anybody can write who reaches Redis."""
    redis.hset(
        keys.job("default-0"),
        mapping={"data": data, "status": "queued", "origin": "default"} | fields,
    )
    redis.rpush(keys.queue("default"), "default-0")


# Functions and callbacks


@pytest.mark.parametrize(
    "fields", [{}, {"repeats_left": 1}, {"webhooks": "[]"}, {"dependency_ids": "[]"},
               {"result_ttl": 0}, {"success_callback_name": "tests.jobs.worker.note_success"}],
)  # fmt: skip
def test_a_function_from_elsewhere_is_not_called_whatever_else_its_job_wants(
    redis, put, work, fields
):
    put(OUTSIDE, fields=fields)
    work()

    assert status(redis) == "failed"
    assert REFUSAL in reason(redis)


@pytest.mark.parametrize("instance", ["text", ["list"], {"a": "dict"}, 5])
@pytest.mark.parametrize("fields", [{}, {"webhooks": "[]"}])
def test_a_method_of_what_came_as_json_is_not_called(redis, work, instance, fields):
    plant(redis, json.dumps(["__str__", instance, [], {}]), **fields)
    work()

    assert status(redis) == "failed"
    assert ".__str__' is not under tests.jobs.worker." in reason(redis)


@pytest.mark.parametrize("when", ["success", "failure", "stopped"])
def test_a_job_with_a_callback_from_elsewhere_is_not_begun(redis, put, work, when):
    put(worker_jobs.say, "begun", fields={f"{when}_callback_name": OUTSIDE}, retry=rq.Retry(3))
    work()

    assert (status(redis), said(redis), queued(redis)) == ("failed", [], [])
    assert REFUSAL in reason(redis)


@pytest.mark.parametrize("callback", [OUTSIDE, "tests.jobs.worker.fail_as_callback"])
def test_rqs_housekeeping_goes_on_after_a_callback_that_is_refused_or_broken(
    redis, rq_worker, callback
):
    for job_id in ("lost-1", "lost-2"):
        Queue("default", connection=redis).enqueue(worker_jobs.nothing, job_id=job_id)
        abandoned = {"failure_callback_name": callback, "status": "started"}
        redis.hset(keys.job(job_id), mapping=abandoned)
        redis.zadd(WIP, {f"{job_id}:an-execution": 1})
    rq_worker().run_maintenance_tasks()

    assert registered(redis, "failed") == ["lost-1", "lost-2"]
    assert registered(redis, "started") == []


# Pickles


@pytest.mark.parametrize("packed", [bytes, zlib.compress])
@pytest.mark.parametrize("fields", [{}, {"webhooks": "[]"}, {"meta": pickle.dumps(Trap())}])
def test_a_pickled_job_fails_unread_with_what_to_do(redis, work, packed, fields):
    plant(redis, packed(pickle.dumps(("tests.jobs.worker.say", None, (Trap(),), {}))), **fields)
    work()

    assert (status(redis), reason(redis)) == ("failed", PICKLED)
    assert "SERIALIZERS=json,pickle" in PICKLED
    assert "JSONSerializer" in PICKLED


class Careless:
    """A serializer that a caller passes to a worker."""

    dumps, loads = pickle.dumps, pickle.loads


@pytest.mark.parametrize("kind", [SimpleWorker, Worker])
@pytest.mark.parametrize("serializer", [None, "pickle", pickle, DefaultSerializer, Careless])
def test_whatever_serializer_a_worker_is_given_the_setting_decides(redis, kind, serializer):
    plant(redis, pickle.dumps(("tests.jobs.worker.say", None, (Trap(),), {})))
    queue = rq.Queue("default", connection=redis, serializer=serializer)
    worker = kind([queue], connection=redis, serializer=serializer, job_class=OfOnesOwn)
    worker.work(burst=True, logging_level="CRITICAL")

    assert (status(redis), reason(redis)) == ("failed", PICKLED)
    assert queue.serializer is resolve_serializer(serializer)


class OfOnesOwn(rq.job.Job):
    """A class of jobs that runs them in its own way."""

    def perform(self):
        return super().perform() + 1


@pytest.mark.parametrize(("func", "becomes"), [(worker_jobs.add, "finished"), (OUTSIDE, "failed")])
def test_a_job_class_of_ones_own_is_held_to_the_same_rules(redis, put, func, becomes):
    put(func, 2, 3)
    worker = SimpleWorker(["default"], connection=redis, job_class=OfOnesOwn)
    worker.work(burst=True, logging_level="CRITICAL")

    assert status(redis) == becomes
    assert GuardedJob.fetch("default-0", redis).return_value() == (
        6 if becomes == "finished" else None
    )


def test_rqs_housekeeping_inflates_no_more_than_a_worker_would(redis):
    for field in ("data", "exc_info"):
        bomb = {"data": b"[]", field: zlib.compress(b"0" * (101 << 20))}
        redis.hset(keys.job(field), mapping={"created_at": "2026-01-01T00:00:00Z", **bomb})

        with pytest.raises(DeserializationError, match="over 100 MB"):
            GuardedJob.fetch(field, redis)


def test_data_of_few_bytes_with_millions_of_values_fails_its_job(redis, put, work):
    """Each takes some 72 bytes of memory: 100 kB took gigabytes."""
    put(worker_jobs.nothing)
    call = b'["tests.jobs.worker.nothing", null, [%b{}], {}]' % (b"{}," * 3_000_000)
    redis.hset(keys.job("default-0"), "data", zlib.compress(call))
    work()

    assert status(redis) == "failed"
    assert "has 6,000,007 values" in reason(redis, "default-0")


def test_the_meta_of_a_json_job_is_not_unpickled_either(redis, put, work):
    put(worker_jobs.add, 2, 3, fields={"meta": pickle.dumps(Trap()), "webhooks": "[]"})
    work(pickles=True)

    assert status(redis) == "finished"


def test_so_it_does_where_the_job_goes_rqs_way(redis, stock, work):
    callback = rq.Callback(worker_jobs.note_success)
    job = stock.enqueue(worker_jobs.collect, 1, 2, on_success=callback, job_id="default-0")
    work(pickles=True)

    assert job.return_value() == {1, 2}
    assert said(redis) == ["success of default-0: {1, 2}"]


def test_its_jobs_wait_for_each_other_and_for_jobs_of_json(redis, stock, work):
    first = stock.enqueue(worker_jobs.say, "first", job_id="default-0")
    json_queue = rq.Queue("default", connection=redis, serializer=JSONSerializer)
    second = json_queue.enqueue(worker_jobs.say, "second", depends_on=first)
    third = stock.enqueue(worker_jobs.collect, 3, depends_on=second)
    work(pickles=True)

    assert said(redis) == ["first", "second"]
    assert third.return_value() == {3}


def test_a_method_of_an_allowed_class_is_called(stock, work):
    job = stock.enqueue(worker_jobs.Counter(5).add, 3)
    work(pickles=True)

    assert job.return_value() == 8


@pytest.mark.parametrize("fields", [{}, {"webhooks": "[]"}])
def test_the_function_of_a_pickled_job_must_be_allowed_too(redis, work, fields):
    plant(redis, pickle.dumps((OUTSIDE, None, (), {})), **fields)
    work(pickles=True)

    assert status(redis) == "failed"
    assert REFUSAL in reason(redis)


@pytest.mark.parametrize("fields", [{}, {"webhooks": "[]"}])
def test_so_must_be_the_class_of_its_method(redis, work, fields):
    plant(redis, pickle.dumps(("keys", {"a": 1}, (), {})), **fields)
    work(pickles=True)

    assert "NotAllowed: 'builtins.dict.keys' is not under" in reason(redis)


def test_a_broken_pickle_is_failed_with_the_reason(redis, work):
    plant(redis, b"\x80\x05broken")
    work(pickles=True)

    assert "cannot read the job's data" in reason(redis)


def test_the_trap_of_these_tests_works(redis):
    pickle.loads(pickle.dumps(Trap()))

    assert said(redis) == ["mark"]
    with redis_io.connect("test") as client:
        client.delete(worker_jobs.SAID)


# Workers of one's own


class Announcing(SimpleWorker):
    def execute_job(self, job, queue):
        worker_jobs.say("begun")
        return super().execute_job(job, queue)


class AnnouncingToo(Worker):
    def execute_job(self, job, queue):
        worker_jobs.say("begun")
        return super().execute_job(job, queue)


class OwnQueue(rq.Queue):
    redis_queue_namespace_prefix = "own:queue:"


OWN = [(Announcing, rq.Queue), (AnnouncingToo, rq.Queue), (SimpleWorker, OwnQueue)]


@pytest.mark.parametrize(("kind", "queue_class"), OWN)
@pytest.mark.parametrize("func", [worker_jobs.add, OUTSIDE])
def test_what_a_class_has_of_its_own_is_heeded_by_rqs_loop(redis, caplog, kind, queue_class, func):
    caplog.set_level("INFO", "jiffy")
    queue = queue_class("default", connection=redis, serializer="json")
    callback = rq.Callback(worker_jobs.note_success)
    queue.enqueue(func, 2, 3, job_id="default-0", on_success=callback)
    kind([queue], connection=redis, queue_class=queue_class).work(burst=True)
    done = ["success of default-0: 5"] if func is worker_jobs.add else []

    assert said(redis) == (["begun"] if queue_class is rq.Queue else []) + done
    assert status(redis) == ("finished" if done else "failed")
    assert "worker.rq_loop" in caplog.text


@pytest.mark.parametrize(("kind", "queue_class"), OWN[:2])
def test_rqs_loop_unpickles_nothing_either(redis, kind, queue_class):
    call = ("tests.jobs.worker.say", None, (Trap(),), {})
    plant(redis, pickle.dumps(call), meta=pickle.dumps(Trap()), result=pickle.dumps(Trap()))
    kind(["default"], connection=redis, serializer="pickle").work(burst=True)

    assert (status(redis), said(redis)) == ("failed", ["begun"])
