"""Sets of any size: a script looks at a part of them, and the next one goes on with the rest."""

import json

import pytest

import jiffy
from jiffy import actions, keys, part, result
from jiffy.redis_io import Link
from jiffy.worker import upkeep
from tests.jobs import worker as worker_jobs
from tests.jobs.enqueue import add
from tests.support.worker_support import (
    child,
    claim,
    die,
    enqueue,
    finish,
    queued,
    registered,
    status,
)

MANY, MOST = 3000, 1000


def calls(redis, act):
    """How many commands Redis runs while `act` is called, those of scripts included."""
    redis.config_resetstat()
    act()
    return sum(one["calls"] for one in redis.info("commandstats").values())


def due(redis):
    return upkeep.enqueue_due(Link(redis), [keys.queue("default")], 180)


def test_a_job_with_many_dependencies_is_released_in_steps(redis):
    enqueue(redis)
    jiffy.enqueue.options(job_id="dependent", depends_on="default-0")(worker_jobs.nothing)
    redis.sadd(f"{keys.RQ}job::dependent:dependencies", *range(MANY))
    [parent] = claim(redis)

    assert calls(redis, lambda: finish(redis, parent)) < 4 * MOST
    assert status(redis, "dependent") == "deferred"
    child(redis).work()
    assert status(redis, "dependent") == "finished"


def test_what_a_worker_does_not_hold_is_forgotten_in_steps(redis):
    enqueue(redis)
    claim(redis)
    held = keys.held("worker-1")
    redis.hset(held, mapping={f"{number}:1": "default" for number in range(MANY)})
    die(redis, is_gone=True)

    assert redis.hlen(held) >= MANY - MOST
    assert redis.zscore(keys.LEASES, "worker-1")  # so that it is looked at again
    while redis.zscore(keys.LEASES, "worker-1"):
        die(redis, is_gone=True)
    assert not redis.exists(held)
    assert queued(redis) == ["default-0"]


def test_of_many_pauses_some_are_read(redis):
    pause = json.dumps({"who": "ann", "why": "odd", "since": 1, "until": None})
    redis.hset(keys.PAUSED, mapping={f"func:odd.{number}": pause for number in range(MANY)})
    enqueue(redis)
    child(redis).work()

    assert status(redis) == "finished"


def test_jobs_of_many_functions_that_are_paused_no_more_go_on_in_steps(redis):
    due(redis)  # now Redis knows the scripts: one that it does not know is sent twice
    for path in range(10):
        redis.sadd(f"{keys.OWN}parked", path)
        redis.zadd(keys.parked(str(path)), dict.fromkeys(range(MOST), 0))

    assert calls(redis, lambda: due(redis)) < 3 * MOST
    while due(redis):
        pass
    assert not redis.exists(f"{keys.OWN}parked")


def test_a_long_chain_is_canceled_in_steps(redis):
    jobs = jiffy.enqueue.chain(part(worker_jobs.fail), *[part(worker_jobs.nothing)] * MANY)
    child(redis).work()

    assert len(registered(redis, "canceled")) == MOST
    due(redis)
    assert len(registered(redis, "canceled")) == 2 * MOST
    due(redis)
    assert len(registered(redis, "canceled")) == MANY
    [reason] = {redis.hget(job.key, keys.REASON_FIELD) for job in jobs[1:]}
    assert reason.startswith(
        f"A part before it, {jobs[0].id}, failed: ValueError: it broke".encode()
    )


@pytest.mark.parametrize("line", ["x" * 10**5 + "\n", "\n x" * 10**5])
def test_a_long_reason_for_a_retry_is_read_once(redis, line):
    job = jiffy.enqueue.options(in_="1h")(worker_jobs.nothing)
    redis.hset(job.key, keys.REASON_FIELD, line)
    actions.cancel(job)

    assert status(redis, job.id) == "canceled"


@pytest.mark.parametrize("count", ["3e6", "nan", "-1", "odd"])
def test_an_odd_number_of_results_is_not_counted_up_to(redis, count):
    _, last = jiffy.enqueue.chain(part(add, 1, 1), part(add, result, 1))
    redis.hset(keys.join(last.id), mapping={"needs": "end", "count": count})

    assert calls(redis, child(redis).work) < MOST
    assert status(redis, last.id) != "deferred"
