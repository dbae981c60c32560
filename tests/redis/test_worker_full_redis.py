"""A full Redis (noeviction) refuses what is new; workers finish what is there, and lose nothing."""

import pytest
from rq import Repeat, Retry

from jiffy import keys
from jiffy.producer.enqueue import Queue
from jiffy.redis_io import Link
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import (
    child,
    claim,
    claimer,
    die,
    due,
    enqueue,
    finish,
    ids_of,
    maintain,
    queued,
    registered,
    rq_worker,
    status,
)


@pytest.fixture
def fill(redis):
    """Let Redis be full from here on."""
    yield lambda: redis.config_set("maxmemory", 1)
    redis.config_set("maxmemory", 0)


@pytest.mark.parametrize(
    ("func", "options", "ran"),
    [
        (worker_jobs.nothing, {}, 1),
        (worker_jobs.fail, {}, 1),
        (worker_jobs.fail, {"retry": Retry(2)}, 3),
        (worker_jobs.fail, {"retry": Retry(2, 60)}, 1),
        (worker_jobs.nothing, {"repeat": Repeat(2)}, 3),
        (worker_jobs.nothing, {"ttl": 60}, 1),
    ],
)
def test_jobs_are_drained_from_a_full_redis(redis, fill, func, options, ran):
    enqueue(redis, 1, func, **options)
    Queue("default", connection=redis).enqueue(
        worker_jobs.nothing, job_id="next", depends_on=["default-0"]
    )
    rq_worker(redis).register_birth()
    fill()

    assert child(redis).work() >= ran
    assert queued(redis) == registered(redis, "started") == []


def test_a_worker_in_a_full_redis_gives_back_renews_recovers_and_moves(redis, fill):
    enqueue(redis, 4)
    rq_worker(redis).register_birth()
    worker = claimer(redis)
    worker.claim(3)
    redis.zadd(keys.REGISTRIES["scheduled"] + "default", {"default-3": 1})
    redis.delete(keys.queue("default"))
    fill()
    heard = worker.claim(2).jobs
    Link(redis).run("heartbeat", [keys.LEASES], [-1, 480, "worker-1", 0, "", "", ""])
    due(redis)
    finish(redis, heard[0], "requeued")
    die(redis, heard[1], is_gone=True)
    maintain(redis)

    assert ids_of(claim(redis, name="worker-2")) == ["default-1"]
    assert queued(redis) == ["default-0", "default-2", "default-3"]
    assert status(redis, "default-1") == "started"
