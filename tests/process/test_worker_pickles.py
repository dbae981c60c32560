"""Real workers beside a stock producer, which pickles its jobs."""

import pickle

import pytest
import rq

from jiffy import keys
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import reason, said, status

pytestmark = pytest.mark.slow


class Trap:
    """Once unpickled, it leaves a mark."""

    def __reduce__(self):
        return worker_jobs.say, ("mark",)


@pytest.fixture
def stock(redis):
    return rq.Queue("default", connection=redis)


def test_a_stock_producers_job_is_failed_with_the_remedy(start_worker, redis, stock):
    job = stock.enqueue(worker_jobs.collect, 1, 2, job_id="default-0")
    worker = start_worker()
    worker.until(lambda: job.get_status() == "failed")

    assert "SERIALIZERS=json,pickle" in reason(redis)


def test_a_planted_pickle_is_not_executed(start_worker, redis):
    call = ("tests.jobs.worker.say", None, (Trap(),), {})
    fields = {"data": pickle.dumps(call), "meta": pickle.dumps(Trap()), "status": "queued"}
    redis.hset(keys.job("default-0"), mapping=fields)
    redis.rpush(keys.queue("default"), "default-0")
    worker = start_worker()
    worker.until(lambda: status(redis) == "failed")

    assert said(redis) == []


def test_where_pickles_are_accepted_the_stock_producer_reads_its_result(start_worker, redis, stock):
    job = stock.enqueue(worker_jobs.collect, 1, 2)
    outside = stock.enqueue("tests.jobs.outside.leave_mark")
    worker = start_worker(SERIALIZERS="json,pickle")
    worker.until(lambda: outside.get_status() == "failed")

    assert (job.return_value(), said(redis)) == ({1, 2}, [])
    assert "NotAllowed" in outside.latest_result().exc_string


def test_a_serializer_that_is_none_stops_a_worker_in_one_line(start_worker):
    worker = start_worker(SERIALIZERS="pickle")

    assert worker.wait() == 2
    assert worker.log == "SERIALIZERS is 'pickle'; it must be json or json,pickle.\n"
