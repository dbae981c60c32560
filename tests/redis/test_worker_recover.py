"""Recover: what becomes of the jobs of a worker that died, and how it is found to be dead."""

import re
from unittest.mock import Mock

import pytest
from redis.exceptions import ConnectionError as LineCut
from rq import Repeat, Retry

from jiffy import keys
from jiffy.clock import rq_text
from jiffy.redis_io import Link
from jiffy.worker import recovery
from jiffy.worker.child import RetireWhen
from jiffy.worker.recovery import Handling
from tests.support.worker_support import (
    CAUSE,
    WIP,
    child,
    claim,
    claimer,
    die,
    enqueue,
    finish,
    ids_of,
    job,
    queued,
    reason,
    registered,
    rq_worker,
    status,
    traces,
    work_one,
)


def claim_and_die(redis, **fields):
    [ran] = claim(redis, 1)
    die(redis, ran, **fields)


def crashes(redis, *ids):
    return [int(redis.hget(keys.job(job_id), "jiffy:crashes") or 0) for job_id in ids]


def test_all_jobs_go_back_to_the_front_in_order_and_only_the_one_that_ran_is_counted(redis):
    ids = enqueue(redis, 5)
    claimed = claim(redis, 3)
    redis.delete(keys.wake("default"))
    die(redis, claimed[1])

    assert (queued(redis), [status(redis, one) for one in ids]) == (ids, ["queued"] * 5)
    assert crashes(redis, *ids) == [0, 1, 0, 0, 0]
    assert not redis.exists(WIP, keys.held("worker-1"), *redis.keys(f"{keys.RQ}execution*"))
    assert redis.llen(keys.wake("default")) == 1


def test_a_job_that_was_deleted_is_not_put_back(redis):
    enqueue(redis, 2)
    claim(redis)
    redis.delete(keys.job("default-0"))
    die(redis)

    assert (queued(redis), registered(redis, "started")) == (["default-1"], [])


def test_a_job_that_ran_when_its_worker_died_is_claimed_alone_from_then_on(redis):
    enqueue(redis, 3)
    claim_and_die(redis)

    assert ids_of(claim(redis, 3)) == ["default-0"]


def test_a_crash_is_counted_once_however_long_the_queue_holds_something_else(redis):
    enqueue(redis)
    claim(redis)
    redis.set(keys.queue("default"), "odd")
    for _ in range(4):
        die(redis, is_gone=True)
    redis.delete(keys.queue("default"))
    die(redis, is_gone=True)

    assert (crashes(redis, "default-0"), queued(redis)) == ([1], ["default-0"])


@pytest.mark.parametrize("is_gone", [False, True], ids=["its process", "its machine"])
def test_a_job_that_crashed_three_workers_is_quarantined_with_every_cause(redis, caplog, is_gone):
    enqueue(redis, retry=Retry(max=2))
    for _ in range(3):
        [ran] = claim(redis, 1)
        die(redis, None if is_gone else ran, is_gone=is_gone)

    assert (registered(redis, "failed"), queued(redis)) == (["default-0"], [])
    assert registered(redis, "started") == []
    assert reason(redis).startswith("its worker died 3 times: ")
    assert reason(redis).count(f"{CAUSE} at 20") == 3
    assert job(redis).retries_left == 2
    assert re.findall(r"ERROR .*(job\.\w+)", caplog.text) == ["job.failed"]


@pytest.mark.parametrize("count", ["nan", "-1e9", "odd"])
def test_an_odd_count_of_crashes_spares_no_job(redis, count):
    enqueue(redis)
    redis.hset(keys.job("default-0"), "jiffy:crashes", count)
    for _ in range(3):
        claim_and_die(redis)

    assert registered(redis, "failed") == ["default-0"]


def test_crashes_count_since_the_last_time_that_the_job_finished(redis):
    enqueue(redis, repeat=Repeat(times=3))
    for _ in range(3):
        claim_and_die(redis)
        work_one(redis)
    claim_and_die(redis)

    assert (crashes(redis, "default-0"), queued(redis)) == ([1], ["default-0"])


def test_a_job_that_has_finished_is_no_longer_claimed_alone(redis):
    ids = enqueue(redis, 3, repeat=Repeat(times=1))
    claim(redis)
    die(redis, is_gone=True)
    child(redis, retire_when=RetireWhen(burst=True, max_jobs=3)).work()

    assert ids_of(claim(redis)) == ids


@pytest.mark.parametrize(
    ("fields", "queue", "count"),
    [
        ({}, ["default-0"], 1),
        ({"handling": Handling.REQUEUE}, ["default-0"], 0),
        ({"handling": Handling.FAIL}, ["default-0"], 0),
        ({"handling": Handling.STOP}, [], 0),
    ],
    ids=["crashed", "interrupted", "killed", "stopped"],
)
def test_only_a_job_that_was_killed_for_a_reason_uses_a_retry(redis, caplog, fields, queue, count):
    enqueue(redis, retry=Retry(max=2))
    claim_and_die(redis, **fields)
    is_killed = fields.get("handling") is Handling.FAIL and queue

    assert (queued(redis), crashes(redis, "default-0")) == (queue, [count])
    assert job(redis).retries_left == (1 if is_killed else 2)
    assert status(redis) == ("queued" if queue else "stopped")
    assert "ERROR" not in caplog.text  # it is tried again, or someone wanted that


@pytest.mark.parametrize(
    "fields", [{}, {"handling": Handling.REQUEUE}, {"is_gone": True, "execution": ""}]
)
def test_a_job_that_must_not_start_twice_is_claimed_alone_and_fails_with_its_worker(redis, fields):
    enqueue(redis, 2)
    redis.hset(keys.job("default-0"), keys.RESCUE_FIELD, "no")
    die(redis, *claim(redis), **fields)

    assert (status(redis), queued(redis)) == ("failed", ["default-1"])
    assert reason(redis).startswith("its worker died, and it must not start twice: " + CAUSE)


@pytest.mark.parametrize("fields", [{}, {"is_gone": True}, {"handling": Handling.FAIL}])
def test_a_recovery_that_is_repeated_changes_nothing(redis, fields):
    rq_worker(redis).register_birth()
    enqueue(redis, 2)
    ran = claim(redis)[0]
    die(redis, ran, **fields)
    before = traces(redis)
    die(redis, ran, **fields)

    assert traces(redis) == before


def test_a_recovery_that_is_cut_off_before_it_has_failed_a_job_does_so_the_next_time(
    redis, monkeypatch
):
    enqueue(redis, 2)
    ran = claim(redis)[0]
    with monkeypatch.context() as patch:
        patch.setattr(recovery, "finish_left", Mock(side_effect=LineCut))
        with pytest.raises(LineCut):
            die(redis, ran, handling=Handling.FAIL)
    between = registered(redis, "started")
    die(redis, ran, handling=Handling.FAIL)

    assert (between, status(redis), queued(redis)) == (["default-0"], "failed", ["default-1"])


# What a job that was ended from outside says


@pytest.mark.parametrize("began_s", [60, None, -1e9], ids=["a minute ago", "unknown", "later"])
def test_a_job_that_was_ended_from_outside_says_how_long_and_where_it_ran(redis, began_s):
    rq_worker(redis).register_birth()
    enqueue(redis)
    [ran] = claim(redis)
    text = "" if began_s is None else rq_text(redis.time()[0] - began_s)
    redis.hset(keys.job("default-0"), "started_at", text)
    die(redis, ran, handling=Handling.STOP)
    ended = job(redis)
    result = ended.latest_result()
    ran_s = (ended.ended_at - ended.started_at).total_seconds()

    assert 60 <= ran_s < 120 if began_s == 60 else ran_s == 0
    assert (result.execution_started_at, result.execution_ended_at) == (
        ended.started_at,
        ended.ended_at,
    )
    assert ended.worker_name == result.worker_name == "worker-1"
    assert redis.hget(keys.worker("worker-1"), "failed_job_count") == b"1"


# The supervisor is gone too: nothing saw which job ran


def test_of_several_jobs_of_a_machine_that_vanished_each_runs_alone_and_none_is_counted(redis):
    ids = enqueue(redis, 3)
    claim(redis)
    die(redis, is_gone=True)

    assert crashes(redis, *ids) == [0, 0, 0]
    assert ids_of(claim(redis)) == ["default-0"]


def test_a_worker_whose_machine_vanished_is_no_longer_shown(redis):
    rq_worker(redis).register_birth()
    enqueue(redis)
    claim(redis)
    die(redis, is_gone=True)

    assert not redis.exists(
        keys.worker("worker-1"), keys.WORKERS, f"{keys.RQ}workers:default", keys.LEASES
    )


# The sweep that finds the dead


def test_a_worker_that_comes_back_just_as_it_is_found_dead_keeps_what_it_runs(redis):
    enqueue(redis)
    claim(redis)
    recovery.recover(Link(redis), recovery.Death("worker-1", CAUSE, is_gone=True))

    assert (queued(redis), registered(redis, "started")) == ([], ["default-0"])
    assert redis.zscore(keys.LEASES, "worker-1") is not None


@pytest.fixture
def dead(redis):
    """A worker that holds a job and whose lease has run out."""
    enqueue(redis)
    claim(redis)
    redis.zadd(keys.LEASES, {"worker-1": 1})


def sweep(redis, seconds_ago, quiet_until=0):
    """Sweep so long after the last time."""
    at = redis.time()[0] - seconds_ago
    redis.hset(keys.LAST_SWEEP, mapping={"at": at, "quiet_until": quiet_until})
    recovery.sweep(Link(redis))


@pytest.mark.usefixtures("dead")
@pytest.mark.parametrize("name", ["", "\xff", " ", "a:b", "x" * 10**5])
def test_an_odd_name_among_the_dead_keeps_no_other_from_its_recovery(redis, name):
    redis.zadd(keys.LEASES, {name.encode("latin-1"): 0})
    sweep(redis, seconds_ago=3)

    assert (queued(redis), redis.zcard(keys.LEASES)) == (["default-0"], 0)


@pytest.mark.usefixtures("dead")
@pytest.mark.parametrize(
    ("seconds_ago", "quiet_s"),
    [(0, 0), (3, 5), (60, 0), (-60, 0), (10**9, 0)],
    ids=["just after another", "while the living renew theirs", "after an outage", "clock back",
         "never before"],
)  # fmt: skip
def test_no_worker_is_declared_dead_too_early(redis, seconds_ago, quiet_s):
    """In an outage all leases run out, those of the living too."""
    before_s = redis.time()[0]
    sweep(redis, seconds_ago, quiet_until=before_s + quiet_s if quiet_s else 0)

    assert registered(redis, "started") == ["default-0"]
    if abs(seconds_ago) > 3:
        assert float(redis.hget(keys.LAST_SWEEP, "quiet_until")) > before_s + 3


def test_a_job_that_began_before_1970_keeps_no_other_from_its_recovery(redis):
    for number in range(2):
        enqueue(redis, queue=f"queue-{number}")
        redis.hset(keys.job(f"queue-{number}-0"), keys.RESCUE_FIELD, "no")
        claim(redis, name=f"worker-{number}", queues=[f"queue-{number}"])
        redis.zadd(keys.LEASES, {f"worker-{number}": number})
    redis.hset(keys.job("queue-0-0"), "started_at", "1969-12-31T23:59:59.9Z")
    sweep(redis, seconds_ago=3)

    assert [registered(redis, "failed", f"queue-{number}") for number in range(2)] == [
        ["queue-0-0"], ["queue-1-0"],
    ]  # fmt: skip


@pytest.mark.usefixtures("dead")
@pytest.mark.parametrize("odd", ["held", "queue"])
def test_a_hundred_workers_that_cannot_be_recovered_keep_no_other_from_it(redis, odd):
    for number in range(100):
        held = keys.held(f"odd-{number}")
        redis.zadd(keys.LEASES, {f"odd-{number}": 0})
        if odd == "held":
            redis.hset(held, mapping={f"odd{field}": "default" for field in range(1001)})
        else:
            redis.hset(held, "other:1", "odd")
    redis.set(keys.queue("odd"), "odd")
    redis.zadd(f"{keys.RQ}wip:odd", {"other:1": 1})
    redis.hset(keys.job("other"), "data", "odd")
    sweep(redis, seconds_ago=3)
    sweep(redis, seconds_ago=3)

    assert queued(redis) == ["default-0"]


def test_where_redis_clock_was_set_back_leases_end_as_much_earlier(redis):
    now = redis.time()[0]
    redis.zadd(keys.LEASES, {"before": now + 3610, "since": now + 10})
    sweep(redis, seconds_ago=-3600)

    assert now + 5 <= redis.zscore(keys.LEASES, "before") <= now + 15
    assert redis.zscore(keys.LEASES, "since") == now + 10


def test_a_recovery_that_redis_hears_late_leaves_what_the_next_process_has_claimed(redis):
    ids = enqueue(redis, 2)
    dead = claimer(redis)
    ran = dead.claim(1).jobs[0].execution
    death = recovery.Death("worker-1", CAUSE, ran)
    recovery.recover(Link(redis), death, ran[:16])
    [again] = claimer(redis).claim(1).jobs
    before = redis.hget(keys.worker("worker-1"), "state")
    recovery.recover(Link(redis), death, ran[:16])

    assert (again.job_id, queued(redis)) == (ids[0], ids[1:])
    assert redis.hget(keys.worker("worker-1"), "state") == before == b"busy"
    assert finish(redis, again) == 1
