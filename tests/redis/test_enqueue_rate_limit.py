"""A rate limit is RQ's own: what we enqueue under one leaves the traces that RQ leaves."""

import pytest
import rq
from rq.serializers import JSONSerializer

import jiffy
from jiffy import RateLimit, SimpleWorker, keys, part, result
from jiffy.errors import InvalidValue
from tests.compat import traces
from tests.jobs.enqueue import add
from tests.redis.test_enqueue_traces import LATER, undocumented
from tests.support.worker_support import status

LIMIT = RateLimit("mail:eu", 1)


def rqs(redis, count, **options):
    queue = rq.Queue(connection=redis, serializer=JSONSerializer)
    at = options.pop("at", None)
    for number in range(count):
        options |= {"job_id": f"job-{number}", "rate_limit": LIMIT}
        if at:
            queue.enqueue_at(at, add, number, 1, **options)
        else:
            queue.enqueue(add, number, 1, **options)


def one_by_one(count, **options):
    limited = jiffy.enqueue.options(rate_limit="mail:eu:1", **options)
    for number in range(count):
        limited.options(job_id=f"job-{number}")(add, number, 1)


def in_bulk(count, **options):
    limited = jiffy.enqueue.options(rate_limit=LIMIT, **options)
    ids = [f"job-{number}" for number in range(count)]
    limited.many(add, [(number, 1) for number in range(count)], job_ids=ids)


@pytest.mark.parametrize("put", [one_by_one, in_bulk])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "options",
    [{}, {"at_front": True}, {"ttl": 100}, {"at": LATER}, {"depends_on": "parent"}],
    ids=" ".join,
)
def test_it_leaves_rqs_traces(redis, put, count, options):
    def parent():
        rq.Queue(connection=redis, serializer=JSONSerializer).enqueue(add, 1, 1, job_id="parent")

    parent()
    rqs(redis, count, **options)
    theirs = traces.take(redis)
    redis.flushall()
    parent()
    put(count, **options)

    assert undocumented(theirs, traces.take(redis)) == {}


def work(redis):
    SimpleWorker(["default", "low"], connection=redis).work(burst=True, logging_level="WARNING")


def test_parts_of_workflows_keep_to_it(redis):
    limited = [part(add, n, 1).options(rate_limit="stripe:1") for n in range(3)]
    group = jiffy.enqueue.group(limited)
    chain = jiffy.enqueue.chain(
        part(add, 1, 1), part(add, result, 1).options(rate_limit="stripe:1")
    )
    before = sorted(status(redis, job.id) for job in group.jobs)
    work(redis)

    assert before == ["queued", "rate_limited", "rate_limited"]
    assert jiffy.wait_all([*group.jobs, *chain], timeout=5) == [1, 2, 3, 2, 3]
    assert not redis.keys(f"{keys.RQ}rl:stripe:*")


@pytest.mark.parametrize(
    "limit", ["stripe", "stripe:0", ":5", 5, {"key": "stripe"}, {"key": "", "concurrency": 5},
              {"key": "stripe", "concurrency": True}],
)  # fmt: skip
def test_an_invalid_rate_limit_is_refused(limit):
    with pytest.raises(InvalidValue, match=r"^rate_limit is .*; it must be a key and how many"):
        jiffy.enqueue.options(rate_limit=limit)


def test_with_unique_it_is_refused_as_rq_does():
    with pytest.raises(InvalidValue, match="unique is '1h'; it must be given without rate_limit"):
        jiffy.enqueue.options(rate_limit="stripe:5", unique="1h")
