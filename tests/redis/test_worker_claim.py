"""Claim: which jobs a worker gets, how it holds them, and what it requeues."""

import os

import pytest

from jiffy import keys
from jiffy.producer.enqueue import Queue
from jiffy.redis_io import Link
from jiffy.worker import shared_memory
from jiffy.worker.child import Child
from jiffy.worker.claim import LEASE_S, requeue_command
from jiffy.worker.finish import plan_for
from jiffy.worker.process import Signals
from jiffy.worker.shared_memory import Board
from jiffy.worker.supervisor import Supervisor
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import (
    WIP,
    child,
    child_process,
    claim,
    claimer,
    die,
    enqueue,
    finish,
    ids_of,
    outcome,
    queued,
    registered,
    rq_worker,
    said,
    status,
    traces,
)


@pytest.mark.parametrize(
    ("jobs", "workers", "share"), [(10, 3, 4), (9, 3, 3), (1, 3, 1), (2, 3, 1), (10, 1, 10)]
)
def test_a_worker_claims_its_fair_share_only(redis, jobs, workers, share):
    enqueue(redis, jobs)
    for number in range(workers):
        rq_worker(redis, f"worker-{number}").register_birth()
    rq_worker(redis, "elsewhere", queues=["mail"]).register_birth()

    assert len(claim(redis, 100)) == share


@pytest.mark.parametrize(
    ("options", "lasts_s"), [({}, LEASE_S), ({"lease_s": 0}, 600 + 60)], ids=["renewed", "not"]
)
def test_a_worker_has_a_lease_by_the_clock_of_redis(redis, options, lasts_s):
    enqueue(redis, job_timeout=600)
    before_s = redis.time()[0]
    claim(redis, **options)

    assert before_s + lasts_s <= redis.zscore(keys.LEASES, "worker-1")
    assert redis.zscore(keys.LEASES, "worker-1") <= redis.time()[0] + 1 + lasts_s


def test_a_job_that_is_claimed_alone_waits_for_no_other_and_no_other_for_it(redis):
    enqueue(redis, 4)
    redis.hset(keys.job("default-2"), "jiffy:alone", 1)
    worker, batches = claimer(redis), []
    while claimed := worker.claim(10).jobs:
        batches.append(ids_of(claimed))
        for one in claimed:
            finish(redis, one)

    assert batches == [["default-0", "default-1"], ["default-2"], ["default-3"]]


def test_of_jobs_with_large_data_fewer_are_claimed_at_once(redis):
    enqueue(redis, 6, worker_jobs.nothing)
    for number in range(6):
        redis.hset(keys.job(f"default-{number}"), "data", "x" * 400_000)

    assert ids_of(claim(redis, 10)) == ["default-0", "default-1", "default-2"]
    assert queued(redis) == ["default-3", "default-4", "default-5"]


def test_a_job_with_a_time_to_live_keeps_it_until_it_is_about_to_begin(redis):
    ids = enqueue(redis, 3, ttl=60)
    claimed = claim(redis)

    assert ids_of(claimed) == ids[:1]
    assert queued(redis) == ids[1:]
    assert [redis.ttl(keys.job(job_id)) > 0 for job_id in ids] == [False, True, True]


def test_a_worker_that_leaves_jobs_wakes_another(redis):
    enqueue(redis, 2)
    claim(redis, 1)

    assert redis.llen(keys.wake("default")) == 1


def test_a_job_is_registered_with_the_queue_that_it_was_claimed_from(redis):
    enqueue(redis)
    redis.rename(keys.queue("default"), keys.queue("other"))
    claim(redis, queues=["other"])

    assert registered(redis, "started", "other") == ["default-0"]


# Many ids without a job


@pytest.mark.parametrize("want", [1, 128])
@pytest.mark.parametrize("workers", [1, 3])
def test_ids_whose_jobs_are_gone_cost_a_bounded_step_each(redis, want, workers):
    for number in range(workers):
        rq_worker(redis, f"worker-{number}").register_birth()
    redis.rpush(keys.queue("default"), *range(2500))
    enqueue(redis)
    worker = claimer(redis)
    founds = [worker.claim(want) for _ in range(3)]

    assert [found.has_more for found in founds] == [True, True, False]
    assert [ids_of(found.jobs) for found in founds] == [[], [], ["default-0"]]
    assert queued(redis) == []


# Jobs that go back


def test_jobs_of_a_claim_whose_answer_was_lost_are_claimed_again_in_order(redis):
    enqueue(redis, 5)
    worker = claimer(redis)
    unheard, heard = worker.claim(3).jobs, worker.claim(3).jobs

    assert ids_of(heard) == ids_of(unheard) == ["default-0", "default-1", "default-2"]
    assert queued(redis) == ["default-3", "default-4"]
    assert redis.zcard(WIP) == 3
    assert [finish(redis, unheard[0]), finish(redis, heard[0])] == [0, 1]


def twice(redis):
    """A worker, and its first claim, which Redis has yet to hear."""
    worker, late = (claimer(redis, token="0123456789abcdef") for _ in range(2))
    worker.claim(0)
    return worker, late


def test_an_older_claim_that_redis_hears_last_changes_nothing(redis):
    ids = enqueue(redis, 2)
    worker, late = twice(redis)
    [claimed] = worker.claim(1).jobs
    before = traces(redis)
    late.claim(1)

    assert traces(redis) == before
    assert (claimed.job_id, queued(redis)) == (ids[0], ids[1:])


def test_a_job_that_only_an_older_claim_got_is_not_lost(redis):
    enqueue(redis, 2)
    worker, late = twice(redis)
    [first] = worker.claim(1).jobs
    worker.last_begun = first.execution
    finish(redis, first)
    late.claim(1)
    [second] = worker.claim(1).jobs

    assert (second.job_id, redis.zcard(WIP)) == ("default-1", 1)


def test_a_new_process_of_a_worker_requeues_what_the_last_one_held(redis):
    enqueue(redis, 3)
    last = claimer(redis)
    last.last_begun = last.claim(2).jobs[-1].execution

    assert ids_of(claim(redis, 1)) == ["default-0"]
    assert queued(redis) == ["default-1", "default-2"]


@pytest.fixture
def tokens(redis):
    """Of two processes of worker-1, one after the other."""
    process, found = child_process(redis), []
    for _ in range(2):
        process.start()
        os.waitpid(process.pid, 0)
        found.append(process.token)
    return found


@pytest.mark.parametrize("late", [lambda dead: dead.claim(1), lambda dead: dead.requeue()])
def test_what_a_process_that_has_ended_sent_does_nothing_where_redis_hears_it_last(
    redis, tokens, late
):
    enqueue(redis, 2)
    dead, since = (claimer(redis, token=token) for token in tokens)
    dead.requeue = lambda: requeue(redis, "", dead.prefix)
    dead.claim(1)
    [runs] = since.claim(1).jobs
    before = traces(redis)
    late(dead)

    assert traces(redis) == before
    assert (runs.job_id, finish(redis, runs)) == ("default-0", 1)


@pytest.fixture
def held(redis):
    """Four jobs that worker-1 has claimed, of five."""
    enqueue(redis, 5)
    return claim(redis, 4)


def claim_of(execution):
    return execution[:16], int(execution[16:24], 16)


def requeue(redis, keep, after):
    Link(redis).exchange(requeue_command("worker-1", keep, *claim_of(after)))


def test_jobs_that_a_worker_requeues_are_queued_as_before_at_the_front(redis, held):
    redis.delete(keys.wake("default"))
    requeue(redis, keep=held[1].execution, after=held[1].execution)
    before = traces(redis)
    requeue(redis, keep=held[1].execution, after=held[1].execution)  # again

    assert traces(redis) == before
    assert queued(redis) == ["default-2", "default-3", "default-4"]
    assert {status(redis, job_id) for job_id in queued(redis)} == {"queued"}
    assert registered(redis, "started") == ["default-0", "default-1"]
    assert redis.llen(keys.wake("default")) == 1
    assert ids_of(claim(redis, 2, name="worker-2")) == ["default-2", "default-3"]


def test_a_deleted_job_is_neither_claimed_nor_given_back(redis, held):
    redis.delete(keys.job("default-1"), keys.job("default-4"))
    requeue(redis, keep="", after=held[0].execution)

    assert queued(redis) == ["default-0", "default-2", "default-3", "default-4"]
    assert ids_of(claim(redis)) == ["default-0", "default-2", "default-3"]
    assert queued(redis) == []


def test_what_is_given_back_late_is_nothing_that_was_claimed_since(redis, held):
    worker = claimer(redis, token=held[0].execution[:16])
    worker.batch = int(held[0].execution[16:24], 16)
    worker.last_begun = held[0].execution
    since = worker.claim(2).jobs
    before = traces(redis)
    requeue(redis, keep=held[0].execution, after=held[0].execution)

    assert ids_of(since) == ["default-1", "default-2"]
    assert traces(redis) == before


def test_a_child_that_goes_on_as_it_is_halted_may_begin_all_of_its_next_batch():
    class Raced(Board):
        @property
        def running(self):
            self.hold(2, 5)
            self.begin(1, 10)
            return super().running

    raced = Raced()
    raced.hold(1, 5)
    raced.begin(1, 10)

    assert (raced.halt(), raced.begin(2, 10)) == (None, True)


def test_a_callbacks_limit_is_never_taken_for_that_of_its_job(monkeypatch):
    board, seen = Board(), []
    board.hold(1, 1)
    board.begin(1, 100)
    began = board.running.began

    class Clock:
        def monotonic(self):
            seen.append(board.running)  # as a supervisor may, at any moment
            return began + 50

    monkeypatch.setattr(shared_memory, "clock", Clock())
    board.relimit(10)

    assert [(one.began, one.limit_s) for one in seen] == [(began, 100)]
    assert (board.running.began, board.running.limit_s) == (began + 50, 10)


def test_what_has_ended_is_not_requeued_where_the_follow_up_behind_it_just_ends(redis, held):
    class Raced(Board):
        @property
        def noted(self):
            found = super().noted
            self.end()
            return found

    worker = child_process(redis, lambda board, token: 0, Raced(), pid=1)
    token, batch = claim_of(held[0].execution)
    worker.rq_worker.token, worker.processes = token[:8], int(token[8:], 16)
    worker.board.hold(batch, held[-1].position)
    worker.board.note(b",".join(plan_for(outcome(job)) for job in held))
    worker.board.begin(0, 0)
    worker.board.numbers.began -= 1
    supervisor = Supervisor([worker], Signals())
    supervisor._requeue_rest(worker)

    assert queued(redis) == ["default-4"]


class Stage:
    """Where the job below finds the board of the child that runs it."""

    board: Board
    redis: object


def note(number):
    """Job 9 plays the supervisor, for whom it has run too long."""
    Stage.redis.rpush("test:said", number)
    if number == 9:
        running = Stage.board.halt()
        [execution] = [
            member.decode().partition(":")[2]
            for member in Stage.redis.hkeys(keys.held("worker-1"))
            if int(member[-8:], 16) == running.position
        ]
        requeue(Stage.redis, keep=execution, after=execution)
        Stage.redis.rpush("test:given-back", *queued(Stage.redis))


def test_a_child_begins_nothing_that_was_given_back(redis, monkeypatch):
    monkeypatch.setattr(Stage, "board", Board(), raising=False)
    monkeypatch.setattr(Stage, "redis", redis, raising=False)
    queue = Queue("default", connection=redis)
    ids = [queue.enqueue(note, number, job_id=f"job-{number}").id for number in range(16)]
    child(redis, Stage.board).work()

    assert said(redis) == [str(number) for number in range(16)]  # each once, in order
    assert redis.lrange("test:given-back", 0, -1)[0] == b"job-10"
    assert registered(redis, "finished") == sorted(ids, key=ids.index)


def test_a_job_that_another_has_recovered_before_it_begins_is_not_run_here(redis, monkeypatch):
    send, is_halted = Child._finish, []

    def send_late(child, plans, keep=None):
        send(child, plans, keep)
        if keep and not is_halted:  # the rest of its batch goes back, and so does all that it holds
            is_halted.append(keep)
            die(redis, is_gone=True)

    monkeypatch.setattr(Child, "_finish", send_late)
    monkeypatch.setattr("jiffy.worker.child.LEASE_S", 0)
    enqueue(redis, 2)
    for name in ("once", "then"):
        Queue(connection=redis).enqueue(worker_jobs.say, name)
    child(redis).work()

    assert (len(is_halted), sorted(said(redis))) == (1, ["once", "then"])
