"""Release: what a child took goes back while one of its jobs takes long."""

import pytest
from redis import Redis

from jiffy import keys
from jiffy.queues import Queue
from jiffy.worker.board import Board
from jiffy.worker.line import Line
from tests.worker_support import (
    child,
    enqueue,
    finished,
    ids_of,
    queued,
    registered,
    said,
    status,
    traces,
    turns,
)


def release(redis, batch, position):
    names = [keys.held("worker-1"), keys.executions("worker-1")]
    (count,) = Line(redis).run("release", names, [f"{batch:08x}", position])
    return count


@pytest.fixture
def taken(redis):
    """Four jobs that worker-1 holds, of five."""
    enqueue(redis, 5)
    return turns(redis).take(4)[0]


def test_what_follows_the_job_that_runs_goes_back_to_the_front_in_order(redis, taken):
    assert release(redis, taken[0].batch, 2) == 2
    assert queued(redis) == ["default-2", "default-3", "default-4"]
    assert [status(redis, job_id) for job_id in queued(redis)] == ["queued"] * 3


def test_what_ran_and_what_runs_is_kept(redis, taken):
    release(redis, taken[0].batch, 2)

    assert registered(redis, "started") == ["default-0", "default-1"]


def test_if_none_runs_all_goes_back(redis, taken):
    release(redis, taken[0].batch, 0)

    assert queued(redis) == [f"default-{number}" for number in range(5)]
    assert not redis.exists(keys.held("worker-1"))


def test_another_turns_jobs_are_not_given_back(redis, taken):
    before = traces(redis)

    assert release(redis, taken[0].batch + 1, 0) == 0
    assert traces(redis) == before


def test_to_give_back_again_changes_nothing(redis, taken):
    release(redis, taken[0].batch, 2)
    before = traces(redis)

    assert release(redis, taken[0].batch, 2) == 0
    assert traces(redis) == before


def test_what_was_given_back_is_no_longer_the_childs_to_settle(redis, taken):
    worker = turns(redis)
    release(redis, taken[0].batch, 1)
    worker.take(0, [finished(taken[0]), finished(taken[1])])

    assert (status(redis, "default-0"), status(redis, "default-1")) == ("finished", "queued")


def test_what_is_given_back_can_be_taken_by_another_at_once(redis, taken):
    release(redis, taken[0].batch, 1)

    assert ids_of(turns(redis, "worker-2").take(2)[0]) == ["default-1", "default-2"]


def test_what_is_given_back_wakes_a_sleeping_worker(redis, taken):
    redis.delete(keys.wake("default"))
    release(redis, taken[0].batch, 1)

    assert redis.llen(keys.wake("default")) == 1


# A child, and in the midst of its batch its supervisor


class Stage:
    """Where the job below finds the board of the child that runs it."""

    board: Board
    redis: Redis


def note(number):
    """Job 9 plays the supervisor, to whom it has lasted too long."""
    Stage.redis.rpush("test:said", number)
    if number == 9:
        Stage.board.halt()
        running = Stage.board.running
        release(Stage.redis, running.batch, running.position)
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
