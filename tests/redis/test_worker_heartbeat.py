"""Heartbeat: what a worker holds is its own for as long as its lease is renewed."""

import os
import signal
from contextlib import suppress

import pytest
import rq
from rq.command import PUBSUB_CHANNEL_TEMPLATE

import jiffy
from jiffy import actions, clock, history, keys
from jiffy.redis_io import Link
from jiffy.worker import heartbeat
from jiffy.worker.process import Signals
from jiffy.worker.recovery import Handling
from jiffy.worker.shared_memory import Running
from jiffy.worker.supervisor import Supervisor
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import (
    WIP,
    child_process,
    claim,
    claimer,
    die,
    enqueue,
    finish,
    maintain,
    queued,
    reason,
    rq_worker,
    status,
    traces,
)


def renew(redis, *names):
    """Renew the leases of workers; return those whose lease was gone."""
    workers = [one for name in names for one in (name, 1 << 20, "", "", "")]
    return Link(redis).run("heartbeat", [keys.LEASES], [10, 480, *workers])


@pytest.fixture
def claimed(redis):
    """A job that worker-1 has claimed, which has heard of no heartbeat for long."""
    rq_worker(redis).register_birth()
    enqueue(redis)
    [job] = claim(redis)
    redis.zadd(keys.LEASES, {"worker-1": 1})
    redis.zadd(WIP, {f"default-0:{job.execution}": 1})
    redis.expire(keys.worker("worker-1"), 5)
    return job


def test_a_lease_and_all_that_its_worker_holds_is_renewed_by_the_clock_of_redis(redis, claimed):
    now_s = redis.time()[0]
    execution = f"default-0:{claimed.execution}"

    assert renew(redis, "worker-1") == []
    assert now_s + 10 <= redis.zscore(keys.LEASES, "worker-1") <= redis.time()[0] + 11
    assert redis.zscore(WIP, execution) >= now_s + 90
    assert 80 < redis.ttl(keys.worker("worker-1")) <= 90
    for key in (keys.job("default-0"), keys.worker("worker-1")):
        assert clock.read(redis.hget(key, "last_heartbeat").decode()).timestamp() >= now_s
    assert float(redis.hget(f"{keys.RQ}execution:{execution}", "last_heartbeat")) >= now_s


def test_an_idle_worker_is_known_for_as_long_as_rqs(redis):
    rq_worker(redis).register_birth()
    renew(redis, "worker-1")

    assert 470 < redis.ttl(keys.worker("worker-1")) <= 480


# A SimpleWorker has no supervisor that renews what it holds.


def test_its_looking_for_work_is_its_heartbeat(redis):
    rq_worker(redis).register_birth()
    redis.hset(keys.worker("worker-1"), "last_heartbeat", "")
    redis.expire(keys.worker("worker-1"), 5)
    claim(redis, lease_s=0)

    assert redis.hget(keys.worker("worker-1"), "last_heartbeat")
    assert 470 < redis.ttl(keys.worker("worker-1")) <= 480


def test_one_that_has_ended_leaves_no_lease(redis, work):
    enqueue(redis)
    work()

    assert not redis.exists(keys.LEASES)


def test_a_worker_whose_lease_was_gone_hears_of_it_once(redis, claimed):
    redis.zrem(keys.LEASES, "worker-1")

    assert renew(redis, "worker-1") == [b"worker-1", claimed.execution.encode()]
    assert renew(redis, "worker-1") == []


def test_a_worker_whose_lease_and_job_were_taken_hears_that_it_has_neither(redis, claimed):
    die(redis, is_gone=True)

    assert renew(redis, "worker-1") == [b"worker-1", b""]


def take_away(redis, claimed):
    redis.delete(WIP, f"{keys.RQ}execution:default-0:{claimed.execution}")


def end(redis, claimed):
    finish(redis, claimed)


def delete(redis, claimed):
    redis.delete(keys.job("default-0"))


def test_what_a_worker_holds_is_registered_again_where_the_registry_is_lost(redis, claimed):
    redis.delete(WIP)
    before_s = redis.time()[0]
    renew(redis, "worker-1")

    assert redis.zscore(WIP, f"default-0:{claimed.execution}") >= before_s + 90
    assert (finish(redis, claimed), status(redis)) == (1, "finished")


@pytest.mark.parametrize("what", ["is lost", "holds something else"])
def test_what_a_worker_runs_is_its_own_again_where_its_hash_of_that(redis, claimed, what):
    redis.delete(keys.held("worker-1"))
    if what == "holds something else":
        redis.set(keys.held("worker-1"), "odd")
    before_s = redis.time()[0]
    renew(redis, "worker-1")

    member = f"default-0:{claimed.execution}"
    assert redis.hgetall(keys.held("worker-1")) == {member.encode(): b"default"}
    assert redis.zscore(WIP, member) >= before_s + 90


def test_a_job_whose_worker_died_is_recovered_where_the_hash_of_what_that_held_is_lost(
    redis, claimed
):
    redis.delete(keys.held("worker-1"))
    die(redis, claimed)

    assert queued(redis) == ["default-0"]


def test_a_claim_without_an_answer_is_put_back_where_the_registry_is_lost(redis, claimed):
    redis.delete(WIP)
    [again] = claim(redis)

    assert (again.job_id, finish(redis, again)) == ("default-0", 1)


@pytest.mark.parametrize("act", [take_away, end, delete])
def test_what_a_worker_no_longer_holds_does_not_come_back(redis, claimed, act):
    act(redis, claimed)
    before = set(traces(redis))
    renew(redis, "worker-1")

    assert set(traces(redis)) == before


def test_a_worker_that_redis_has_forgotten_is_shown_again_and_one_that_ends_no_longer(redis):
    child = child_process(redis)
    heartbeat.register(Link(redis), [child])
    registered = redis.smembers(keys.WORKERS)
    redis.flushall()
    heartbeat.renew(Link(redis), [child])

    assert redis.smembers(keys.WORKERS) == registered == {child.rq_worker.key.encode()}
    assert redis.hget(child.rq_worker.key, "queues") == b"default"
    heartbeat.give_up(Link(redis), child)
    assert not redis.exists(keys.WORKERS, keys.LEASES)


def test_a_worker_that_only_the_sets_of_workers_have_lost_is_shown_again(redis):
    child = child_process(redis)
    heartbeat.register(Link(redis), [child])
    registered = redis.smembers(keys.WORKERS)
    redis.delete(keys.WORKERS, keys.workers_of("default"))
    heartbeat.renew(Link(redis), [child])

    assert redis.smembers(keys.WORKERS) == redis.smembers(keys.workers_of("default")) == registered


def test_a_worker_whose_hash_has_expired_in_an_outage_is_shown_again(redis):
    child = child_process(redis)
    heartbeat.register(Link(redis), [child])
    registered = redis.smembers(keys.WORKERS)
    redis.delete(child.rq_worker.key)
    maintain(redis)  # another worker's supervisor may be the first to be back
    claim(redis)
    heartbeat.renew(Link(redis), [child])

    assert redis.smembers(keys.WORKERS) == redis.smembers(keys.workers_of("default")) == registered
    assert redis.hget(child.rq_worker.key, "queues") == b"default"
    assert child.death is None


def test_a_job_that_was_taken_for_dead_is_ended_though_the_first_answer_is_lost(redis):
    child = child_process(redis, lambda *_: signal.pause() or 0)
    heartbeat.register(Link(redis), [child])
    child.start()
    enqueue(redis)
    [job] = claim(redis, token=child.token)
    child.board.hold(int(job.execution[16:24], 16), 1)
    child.board.begin(1, 10)
    die(redis, is_gone=True)
    renew(redis, "worker-1")
    heartbeat.renew(Link(redis), [child])
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)

    assert child.death.cause == "its lease was lost"


def test_a_worker_that_was_taken_for_dead_begins_nothing_more_of_what_it_had_claimed(redis):
    child = child_process(redis, lambda *_: signal.pause() or 0)
    heartbeat.register(Link(redis), [child])
    enqueue(redis, 2)
    claims = claimer(redis, token=child.token)
    first, second = claims.claim(2).jobs
    child.board.hold(claims.batch, 2)
    die(redis, is_gone=True)
    heartbeat.renew(Link(redis), [child])  # between its jobs: none is to be killed

    assert not child.board.begin(second.position, 10)
    assert [one.job_id for one in claims.still_held([first, second])] == []


@pytest.fixture
def two_jobs(redis):
    """A child of which one job has begun, and what lets it end and the next one begin."""
    child = child_process(redis, lambda *_: signal.pause() or 0, must_leave=True)
    child.start()
    claims = claimer(redis, token=child.token)

    def begin():
        [job] = claims.claim(1).jobs
        child.board.hold(claims.batch, 1)
        child.board.begin(job.position, job.timeout_s)
        return job

    enqueue(redis, 2)
    first = begin()
    yield child, lambda: finish(redis, first) and begin()
    child.kill(Handling.REQUEUE, "the test is over")
    os.waitpid(child.pid, 0)


def stop(child):
    child.stop(child.execution_of(child.board.running))


def exceed_its_time(child):
    child.board.numbers.began -= 1000
    child.enforce_time(child.board.running)


def use_much_memory(child):
    child.enforce_memory()


@pytest.mark.parametrize("exceed", [stop, exceed_its_time, use_much_memory])
def test_a_job_is_not_killed_for_the_one_before_it(redis, environ, two_jobs, exceed):
    environ(JOB_MEMORY_MB="1")
    child, go_on = two_jobs
    kill = child.kill

    def late(*args):  # as if the supervisor were halted between its look and this
        go_on()
        kill(*args)

    child.kill = late
    exceed(child)
    child.kill = kill

    assert child.death is None
    assert [status(redis, f"default-{number}") for number in (0, 1)] == ["finished", "started"]


@pytest.mark.parametrize("give_back", [lambda redis: claim(redis, 0), die], ids=["left", "died"])
def test_a_job_that_is_stopped_before_it_begins_does_not_go_back_to_its_queue(redis, give_back):
    waits = enqueue(redis, 2)[1]
    claim(redis, 2)
    with redis.pubsub() as supervisor:
        supervisor.subscribe(PUBSUB_CHANNEL_TEMPLATE % "worker-1")
        assert supervisor.get_message(timeout=10)
        actions.stop(waits)
    give_back(redis)

    assert (status(redis, waits), queued(redis)) == ("canceled", ["default-0"])
    assert redis.hget(keys.job(waits), "jiffy:reason") == b"Stopped by command."
    assert not redis.keys(f"{keys.RQ}execution*")


def test_a_job_that_is_stopped_before_it_begins_is_killed_as_it_does(redis, two_jobs):
    child, go_on = two_jobs
    first = child.execution_of(child.board.running)
    later = f"{first[:16]}{int(first[16:24], 16) + 1:08x}{1:08x}"
    child.stop(later)
    assert child.death is None
    go_on()
    child.enforce_stop()

    assert (child.death.execution, child.death.handling) == (later, Handling.STOP)


def test_what_the_last_process_of_a_quiet_worker_claims_late_goes_back(redis):
    child = child_process(redis, is_quiet=True)
    heartbeat.register(Link(redis), [child])
    child.start()
    os.waitpid(child.pid, 0)
    child.pid = 0
    enqueue(redis)
    claim(redis, token=child.token)
    heartbeat.renew(Link(redis), [child])

    assert queued(redis) == ["default-0"]


@pytest.fixture
def begun(redis):
    """A job that must not start twice, and whose worker vanished with its machine."""
    jiffy.enqueue.options(job_id="default-0", rescue=False)(worker_jobs.nothing)
    claim(redis)
    redis.zadd(keys.LEASES, {"worker-1": 1})


def test_what_a_vanished_worker_ran_counts_where_its_name_comes_back(redis, begun):
    heartbeat.register(Link(redis), [child_process(redis)])

    assert (claim(redis), status(redis)) == ([], "failed")
    assert "must not start twice" in reason(redis)


def test_what_a_vanished_worker_ran_counts_where_a_simple_one_gets_its_name(redis, begun):
    assert not rq_worker(redis).work(burst=True)
    assert status(redis) == "failed"


@pytest.fixture
def two(redis):
    """A worker that was halted for longer than its lease, and the next one of its name."""
    both = [child_process(redis, lambda *_: signal.pause() or 0) for _ in range(2)]
    heartbeat.register(Link(redis), both[:1])
    both[0].start()
    die(redis, is_gone=True)
    heartbeat.register(Link(redis), both[1:])
    yield both
    if both[0].pid:
        both[0].kill_groups()
        os.waitpid(both[0].pid, 0)


def test_a_worker_whose_name_another_one_has_ends_and_leaves_that_one_alone(redis, two):
    enqueue(redis)
    claim(redis, token=two[1].token)
    lease = redis.zscore(keys.LEASES, "worker-1")
    supervisor = Supervisor(two[:1], Signals())
    heartbeat.renew(Link(redis), two[:1])
    assert two[0].death.cause == "another worker has its name"
    while supervisor._children:
        supervisor._watch(two[0])

    assert redis.zscore(keys.LEASES, "worker-1") == lease
    assert not redis.hexists(keys.worker("worker-1"), "death")


@pytest.mark.parametrize("fields", [{keys.TOKEN_FIELD: "odd"}, {keys.TOKEN_FIELD: "0" * 8}, None])
def test_a_worker_stays_where_one_before_it_has_its_name_in_an_older_copy(redis, two, fields):
    if fields is None:
        fields = two[0].rq_worker.serialize() | {keys.TOKEN_FIELD: two[0].rq_worker.token}
    redis.hset(keys.worker("worker-1"), mapping=fields)
    heartbeat.renew(Link(redis), two[1:])

    assert not two[1].must_leave
    token = redis.hget(keys.worker("worker-1"), keys.TOKEN_FIELD)
    assert token.decode() == two[1].rq_worker.token


def test_what_the_next_worker_of_a_name_runs_is_not_taken_from_it(redis, two):
    enqueue(redis, 2)
    replaced, since = (claimer(redis, token=child.token) for child in two)
    [runs] = since.claim(1).jobs
    late = replaced.claim(1).jobs

    assert (late, finish(redis, runs)) == ([], 1)


def test_a_worker_whose_name_another_one_has_begins_nothing_that_this_one_would_requeue(redis, two):
    enqueue(redis)
    replaced, since = (claimer(redis, token=child.token) for child in two)
    late = replaced.claim(1).jobs

    assert (late, len(since.claim(1).jobs)) == ([], 1)


def test_a_worker_of_a_name_begins_nothing_once_the_next_one_is_known(redis, monkeypatch):
    replaced, since = child_process(redis), child_process(redis)
    heartbeat.register(Link(redis), [replaced])
    die(redis, is_gone=True)
    enqueue(redis)
    late = []
    monkeypatch.setattr(
        since.rq_worker, "set_state", lambda _: late.extend(claim(redis, token=replaced.token))
    )
    heartbeat.register(Link(redis), [since])

    assert (late, queued(redis)) == ([], ["default-0"])


@pytest.mark.parametrize("step", ["set_state", "register_death"])
def test_a_worker_that_vanishes_as_it_begins_or_ends_leaves_its_name(redis, monkeypatch, step):
    def vanish(*_):
        raise ConnectionError

    first, second = [child_process(redis) for _ in range(2)]
    monkeypatch.setattr(first.rq_worker, step, vanish)
    with suppress(ConnectionError):
        heartbeat.register(Link(redis), [first])
        heartbeat.give_up(Link(redis), first)
    die(redis, is_gone=True)
    heartbeat.register(Link(redis), [second])

    owner = redis.hget(keys.worker("worker-1"), keys.TOKEN_FIELD)
    assert owner.decode() == second.rq_worker.token


def test_a_worker_of_rqs_stays_known_where_one_of_ours_is_to_have_its_name(redis):
    rq.SimpleWorker(["default"], "worker-1", connection=redis).register_birth()
    with pytest.raises(ValueError, match="active worker"):
        rq_worker(redis).work(burst=True)
    with pytest.raises(ValueError, match="active worker"):
        heartbeat.register(Link(redis), [child_process(redis)])

    assert redis.hexists(keys.worker("worker-1"), "birth")
    assert redis.zscore(keys.LEASES, "worker-1") is None


@pytest.mark.parametrize(
    ("claims", "is_ended"),
    [(range(1, 11), False), ([1] * 10, True), ([0] * 10, False)],
    ids=["claims", "claims no more", "still imports"],
)
@pytest.mark.parametrize("plan", [b"a plan", b""])
def test_a_child_that_runs_nothing_and_claims_nothing_is_ended(redis, claims, is_ended, plan):
    child = child_process(redis, lambda *_: signal.pause() or 0)
    child.start()
    for number in claims:
        child.board.hold(number, 0)
        child.board.note(plan)
        child.enforce_progress()

    assert bool(child.death) == is_ended
    child.kill(Handling.REQUEUE, "the test is over")
    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == -signal.SIGKILL


def test_a_child_that_takes_the_place_of_a_stuck_one_has_as_much_time(redis):
    child = child_process(redis, lambda *_: signal.pause() or 0)
    for looks in (10, 3):
        child.death = None
        child.start()
        child.board.hold(1, 0)
        for _ in range(looks):
            child.enforce_progress()
        is_ended = bool(child.death)
        child.kill(Handling.REQUEUE, "the test is over")
        os.waitpid(child.pid, 0)

    assert not is_ended


def test_a_job_that_begins_as_its_process_is_killed_for_another_never_starts_twice(redis):
    child = child_process(redis, lambda *_: signal.pause() or 0, must_leave=True)
    kill = child.kill_groups

    def go_on():  # between the look at what runs and the signal
        [second] = claims.claim(1).jobs
        child.board.hold(claims.batch, 1)
        child.board.begin(second.position, second.timeout_s)
        child.kill_groups = kill
        kill()

    enqueue(redis)
    jiffy.enqueue.options(job_id="once", rescue=False)(worker_jobs.nothing)
    child.start()
    claims = claimer(redis, token=child.execution_of(Running(0, 0, 0, 0))[:16])
    [first] = claims.claim(1).jobs
    child.board.hold(claims.batch, 1)
    child.board.begin(first.position, first.timeout_s)
    finish(redis, first)
    child.kill_groups = go_on
    child.kill(Handling.FAIL, "used 900 MB")
    redis.delete(child.rq_worker.key)
    Supervisor([child], Signals()).run()

    assert (status(redis), status(redis, "once")) == ("finished", "failed")
    assert "must not start twice" in reason(redis, "once")


def test_the_first_worker_of_a_release_writes_down_when_it_started(redis, environ):
    for number, release in enumerate(("older", "newer", "older")):
        environ(RELEASE=release)
        child = child_process(redis, name=f"w{number}")
        heartbeat.register(Link(redis), [child])

    assert list(history.releases(redis)) == ["newer", "older"]
