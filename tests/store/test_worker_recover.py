"""Rescue: what becomes of the jobs of a worker that died."""

import pytest
from jiffy.worker.rescue import Death, Verdict
from rq import Retry

from jiffy import keys
from jiffy.clock import rq_text
from jiffy.worker.board import Running
from tests.worker_support import (
    enqueue,
    face,
    finished,
    ids_of,
    job,
    queued,
    reason,
    registered,
    rescuer,
    status,
    traces,
    turns,
)

CAUSE = "signal 11 (SIGSEGV)"


def ran(taken, position=0):
    return Running(taken[0].batch, taken[position].position, began=1.0, limit_s=180)


def die(redis, running=None, **fields):
    rescuer(redis).rescue(Death(worker="worker-1", cause=CAUSE, ran=running, **fields))


def take_and_die(redis):
    """Take one job and die of it."""
    taken, _, _ = turns(redis).take(1)
    die(redis, ran(taken))


def rescues(redis, job_id="default-0"):
    return int(redis.hget(f"rq:job:{job_id}", "jiffy:crashes") or 0)


def test_the_job_that_ran_is_counted_and_its_neighbours_are_not(redis):
    enqueue(redis, 3)
    taken, _, _ = turns(redis).take(3)
    die(redis, ran(taken, position=1))

    assert [rescues(redis, job_id) for job_id in ids_of(taken)] == [0, 1, 0]


def test_all_go_back_to_the_front_in_their_old_order(redis):
    enqueue(redis, 5)
    taken, _, _ = turns(redis).take(3)
    die(redis, ran(taken, position=1))

    assert queued(redis) == [f"default-{number}" for number in range(5)]
    assert [status(redis, job_id) for job_id in queued(redis)] == ["queued"] * 5


def test_what_goes_back_is_no_longer_started(redis):
    enqueue(redis, 3)
    turns(redis).take(3)
    die(redis)

    assert registered(redis, "started") == []
    assert not redis.keys("rq:execution*")
    assert not redis.exists(keys.held("worker-1"))


def test_what_was_settled_before_the_death_stays_settled(redis):
    enqueue(redis, 3)
    worker = turns(redis)
    taken, _, _ = worker.take(3)
    worker.take(0, [finished(taken[0])], keep=taken[1:])
    die(redis, ran(taken, position=0))

    assert (status(redis), queued(redis)) == ("finished", ["default-1", "default-2"])


def test_what_ran_when_its_worker_died_is_taken_alone_from_then_on(redis):
    enqueue(redis, 3)
    take_and_die(redis)

    assert ids_of(turns(redis).take(3)[0]) == ["default-0"]


def test_after_three_deaths_a_job_fails_with_every_cause(redis):
    enqueue(redis)
    for _ in range(3):
        take_and_die(redis)

    assert (status(redis), queued(redis)) == ("failed", [])
    assert registered(redis, "failed") == ["default-0"]
    assert reason(redis).startswith("its worker died 3 times: ")
    assert reason(redis).count(f"{CAUSE} at 20") == 3
    assert registered(redis, "started") == []


def test_a_death_spends_no_retry(redis):
    enqueue(redis, retry=Retry(max=2))
    take_and_die(redis)

    assert redis.hget("rq:job:default-0", "retries_left") == b"2"


def test_a_job_that_kills_is_not_retried_either(redis):
    enqueue(redis, retry=Retry(max=2))
    for _ in range(3):
        take_and_die(redis)

    assert status(redis) == "failed"


def test_a_job_that_must_not_begin_twice_fails_at_once_with_the_cause(redis):
    enqueue(redis, 2)
    redis.hset("rq:job:default-0", "jiffy:rescue", "no")
    take_and_die(redis)

    assert (status(redis), queued(redis)) == ("failed", ["default-1"])
    assert reason(redis).startswith("its worker died once, and it must not begin twice: " + CAUSE)


def test_a_job_that_must_not_begin_twice_goes_back_if_it_had_not_begun(redis):
    enqueue(redis, 2)
    redis.hset("rq:job:default-1", "jiffy:rescue", "no")
    taken, _, _ = turns(redis).take(2)
    die(redis, ran(taken, position=0))

    assert queued(redis) == ["default-0", "default-1"]


def test_a_death_that_was_not_the_jobs_fault_is_not_counted(redis):
    enqueue(redis)
    taken, _, _ = turns(redis).take(1)
    die(redis, ran(taken), verdict=Verdict.FREE)

    assert (queued(redis), rescues(redis)) == (["default-0"], 0)


def test_a_job_that_was_killed_for_a_reason_fails_with_it(redis):
    enqueue(redis, 2)
    taken, _, _ = turns(redis).take(2)
    die(redis, ran(taken), verdict=Verdict.FAIL)

    assert (status(redis), reason(redis)) == ("failed", CAUSE)
    assert queued(redis) == ["default-1"]


def test_a_job_that_was_killed_for_a_reason_has_its_retries(redis):
    enqueue(redis, retry=Retry(max=1))
    taken, _, _ = turns(redis).take(1)
    die(redis, ran(taken), verdict=Verdict.FAIL)

    assert queued(redis) == ["default-0"]


def test_a_job_that_was_stopped_by_command_says_so(redis):
    enqueue(redis, retry=Retry(max=1))
    taken, _, _ = turns(redis).take(1)
    die(redis, ran(taken), verdict=Verdict.FAIL, was_stopped=True)

    assert (status(redis), queued(redis)) == ("stopped", [])


@pytest.fixture
def ended(redis):
    """A job that began a minute ago on worker-1 and has been stopped now; as RQ reads it."""
    face(redis).register_birth()
    enqueue(redis)
    taken, _, _ = turns(redis).take(1)
    redis.hset(keys.job("default-0"), "started_at", rq_text(redis.time()[0] - 60))
    redis.sadd("rq:worker:rescuer:executions", "another:execution")
    die(redis, ran(taken), verdict=Verdict.FAIL, was_stopped=True)
    return job(redis)


def test_a_job_that_was_ended_from_outside_says_how_long_it_ran(ended):
    result = ended.latest_result()

    assert 60 <= (ended.ended_at - ended.started_at).total_seconds() < 63
    assert (result.execution_started_at, result.execution_ended_at) == (
        ended.started_at,
        ended.ended_at,
    )


def test_a_job_that_was_ended_from_outside_says_which_worker_ran_it(redis, ended):
    assert ended.worker_name == ended.latest_result().worker_name == "worker-1"
    assert redis.hget("rq:worker:worker-1", "failed_job_count") == b"1"
    assert redis.keys("rq:worker:*:executions") == [b"rq:worker:rescuer:executions"]


@pytest.mark.parametrize("started", ["", "9999-12-31T23:59:59Z"])
def test_a_job_of_which_nobody_knows_since_when_it_ran_ends_all_the_same(redis, started):
    enqueue(redis)
    taken, _, _ = turns(redis).take(1)
    redis.hset(keys.job("default-0"), "started_at", started)
    die(redis, ran(taken), verdict=Verdict.FAIL)

    assert status(redis) == "failed"
    assert job(redis).started_at == job(redis).ended_at


def test_a_rescue_that_is_repeated_changes_nothing(redis):
    enqueue(redis, 2)
    taken, _, _ = turns(redis).take(2)
    death = Death(worker="worker-1", cause=CAUSE, ran=ran(taken))
    rescuer(redis).rescue(death)
    before = traces(redis)
    rescuer(redis).rescue(death)

    assert traces(redis) == before


def test_a_job_that_was_deleted_is_not_put_back(redis):
    enqueue(redis, 2)
    turns(redis).take(2)
    redis.delete("rq:job:default-0")
    die(redis)

    assert queued(redis) == ["default-1"]
    assert registered(redis, "started") == []


def test_what_is_put_back_wakes_a_sleeping_worker(redis):
    enqueue(redis)
    turns(redis).take(1)
    die(redis)

    assert redis.llen(keys.wake("default")) == 1


# The supervisor is gone too: nobody knows which job ran


def vanish(redis):
    die(redis, is_gone=True)


def test_a_lone_job_of_a_machine_that_vanished_is_counted(redis):
    enqueue(redis)
    turns(redis).take(1)
    vanish(redis)

    assert (queued(redis), rescues(redis)) == (["default-0"], 1)


def test_of_several_jobs_of_a_machine_that_vanished_none_is_counted_but_each_runs_alone(redis):
    enqueue(redis, 3)
    turns(redis).take(3)
    vanish(redis)

    assert [rescues(redis, job_id) for job_id in queued(redis)] == [0, 0, 0]
    assert ids_of(turns(redis).take(3)[0]) == ["default-0"]


def test_a_job_after_which_three_machines_vanished_fails(redis):
    enqueue(redis)
    for _ in range(3):
        turns(redis).take(1)
        vanish(redis)

    assert (status(redis), queued(redis)) == ("failed", [])


def test_a_worker_whose_machine_vanished_is_no_longer_shown(redis):
    face(redis).register_birth()
    enqueue(redis)
    turns(redis).take(1)
    vanish(redis)

    assert not redis.exists("rq:worker:worker-1", "rq:workers", "rq:workers:default")
    assert redis.zscore(keys.LEASES, "worker-1") is None


# The sweep that finds them


@pytest.fixture
def dead(redis):
    """A worker that holds a job and whose lease has run out."""
    enqueue(redis)
    turns(redis).take(1)
    redis.zadd(keys.LEASES, {"worker-1": 1})


def last_sweep(redis, seconds_ago, quiet_until=0):
    now_s = redis.time()[0]
    redis.hset(keys.LAST_SWEEP, mapping={"at": now_s - seconds_ago, "quiet_until": quiet_until})


@pytest.mark.usefixtures("dead")
def test_a_sweep_rescues_the_jobs_of_whom_has_not_renewed_its_lease(redis):
    last_sweep(redis, seconds_ago=3)
    rescuer(redis).sweep()

    assert queued(redis) == ["default-0"]
    assert redis.zcard(keys.LEASES) == 0


def test_a_sweep_leaves_those_alone_who_live(redis):
    enqueue(redis)
    turns(redis).take(1)
    last_sweep(redis, seconds_ago=3)
    rescuer(redis).sweep()

    assert (queued(redis), registered(redis, "started")) == ([], ["default-0"])


@pytest.mark.usefixtures("dead")
def test_whoever_has_just_swept_need_not_be_repeated(redis):
    last_sweep(redis, seconds_ago=1)
    before = traces(redis)
    rescuer(redis).sweep()

    assert traces(redis) == before


@pytest.mark.usefixtures("dead")
@pytest.mark.parametrize("seconds_ago", [60, -60])
def test_after_an_outage_nobody_is_declared_dead_at_once(redis, seconds_ago):
    """All leases ran out meanwhile, those of the living too.  Nor if the clock jumps back."""
    last_sweep(redis, seconds_ago)
    rescuer(redis).sweep()

    assert registered(redis, "started") == ["default-0"]
    assert float(redis.hget(keys.LAST_SWEEP, "quiet_until")) > redis.time()[0] + 3


@pytest.mark.usefixtures("dead")
def test_while_it_is_quiet_nobody_is_declared_dead(redis):
    last_sweep(redis, seconds_ago=3, quiet_until=redis.time()[0] + 2)
    rescuer(redis).sweep()

    assert registered(redis, "started") == ["default-0"]


@pytest.mark.usefixtures("dead")
def test_on_an_empty_redis_nobody_is_declared_dead_at_once(redis):
    rescuer(redis).sweep()

    assert registered(redis, "started") == ["default-0"]
