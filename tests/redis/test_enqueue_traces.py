"""What we enqueue is what RQ enqueues, key by key: stock RQ reads it, runs it, cancels it."""

from datetime import timedelta
from functools import partial

import pytest
import rq
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

import jiffy
from jiffy import clock, keys
from tests.compat import traces
from tests.jobs import enqueue as enqueue_jobs
from tests.jobs.enqueue import add

LATER = clock.now() + timedelta(hours=1)
RETRY = rq.Retry(3, [1, 2], enqueue_at_front=True)
CALLBACK = rq.Callback(enqueue_jobs.heard, timeout="2m")
SAME = [
    {},
    {"at_front": True},
    {"result_ttl": 60, "failure_ttl": 3600, "ttl": 100},
    {"result_ttl": -1},
    {"retry": RETRY},
    {"on_success": CALLBACK, "on_failure": CALLBACK, "on_stopped": CALLBACK},
    {"meta": {"who": "me"}, "description": "adds"},
    {"depends_on": "first"},
    {"at": LATER, "at_front": True},
    *({"rate_limit": rq.RateLimit("mail:eu", 1)} | more
      for more in ({}, {"at_front": True}, {"ttl": 100}, {"at": LATER}, {"depends_on": "first"})),
]  # fmt: skip


@pytest.fixture
def rqs(redis):
    return rq.Queue("default", connection=redis, serializer=JSONSerializer)


def undocumented(theirs, ours):
    """Where they differ, but for what is ours alone: RQ passes over it."""
    return {
        path: values
        for path, values in traces.differences(theirs, ours).items()
        if "jiffy:" not in path
    }


def by_rq(queue, count, at=None, **options):
    put = partial(queue.enqueue_at, at) if at else queue.enqueue
    for number in range(count):
        put(add, x=2, y=number, job_id=f"job-{number}", **options)


def one_by_one(count, **options):
    for number in range(count):
        jiffy.enqueue.options(**options, job_id=f"job-{number}")(add, x=2, y=number)


def in_bulk(count, **options):
    calls = {f"job-{number}": {"x": 2, "y": number} for number in range(count)}
    jiffy.enqueue.options(**options).many(add, calls.values(), job_ids=calls)


@pytest.mark.parametrize("put", [one_by_one, in_bulk])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("options", SAME, ids=" ".join)
def test_jobs_of_ours_are_written_as_rqs(redis, rqs, put, count, options):
    rqs.enqueue(add, 1, 1, job_id="first")
    by_rq(rqs, count, **options)
    theirs = traces.take(redis)
    redis.flushall()
    rqs.enqueue(add, 1, 1, job_id="first")
    put(count, **options)

    assert undocumented(theirs, traces.take(redis)) == {}


def test_stock_rq_runs_it(redis, rqs):
    one, two = jiffy.enqueue(add, 2, 3), jiffy.enqueue_many(add, [(5, 6)])[0]
    rq.SimpleWorker([rqs], connection=redis, serializer=JSONSerializer).work(
        burst=True, logging_level="WARNING"
    )

    assert (one.return_value(), two.return_value()) == (5, 11)


def test_what_enqueue_returns_knows_what_it_was_made_of_without_asking_redis(redis):
    job = jiffy.enqueue.options(timeout="2m", meta={"who": "me"}, queue="low")(add, 2, y=3)
    redis.flushall()

    assert isinstance(job, RqJob)
    assert (job.origin, job.timeout, job.meta) == ("low", 120, {"who": "me"})
    assert (job.args, job.kwargs) == ([2], {"y": 3})
    assert (job.created_at, job.get_status(refresh=False)) == (job.enqueued_at, "queued")


def test_the_places_of_secrets_stand_in_the_job(redis):
    one = jiffy.enqueue(enqueue_jobs.log_in, "ada", "hunter2")
    two = jiffy.enqueue_many(enqueue_jobs.log_in, [("ada", "hunter2")])[0]

    for job in (one, two):
        stored = redis.hgetall(keys.job(job.id))
        assert stored[b"jiffy:masked"] == b"1,2-"
        assert stored[b"description"] == b"tests.jobs.enqueue.log_in('ada', ***)"
