"""The loop is on time, hears of changes, and outlives whatever happens to Redis."""

import json
import os
import signal
from datetime import timedelta

import pytest
import rq_scheduler

from jiffy import every, keys, redis_io
from jiffy.control.read import census
from jiffy.scheduler.entry import read
from jiffy.scheduler.loop import ALIVE_MS, Loop
from jiffy.scheduler.rq_entries import Scheduler
from jobs import numbers
from tests.support import schedules
from tests.support.worker_support import queued


@pytest.fixture
def own_redis(redis_of_its_own):
    """A Redis that a test may fill or end."""
    return redis_of_its_own()


@pytest.fixture
def start(start_scheduler):
    """Start a scheduler: `start(entries, redis)`."""

    def run(entries, redis):
        return start_scheduler(entries, f"unix://{redis.connection_pool.connection_kwargs['path']}")

    return run


def entries(*lines):
    return read(lines or [every(1, numbers.add, args=[2, 3], overlap="allow")])


def declare(redis, *lines):
    schedules.declare(redis, *(lines or [every(1, numbers.add, args=[2, 3], overlap="allow")]))
    return entries(*lines)


def test_a_change_of_the_schedule_wakes_an_idle_scheduler(redis, start):
    running = start(declare(redis, every("7d", numbers.add, args=[2, 3])), redis)
    running.until_logged("scheduler.started")
    Scheduler(connection=redis).enqueue_in(timedelta(0), numbers.add, 2, 3)

    running.until(lambda: not redis.exists(keys.SCHEDULE_WAKE))
    running.until_logged("tick.enqueued")


def test_what_stock_rq_scheduler_adds_is_seen_without_being_woken(redis, start):
    running = start(declare(redis, every("7d", numbers.add, args=[2, 3])), redis)
    running.until(lambda: redis.exists(keys.LEADER))
    rq_scheduler.Scheduler(connection=redis).enqueue_in(timedelta(0), numbers.add, 2, 3)

    running.until_logged("tick.enqueued")


@pytest.mark.slow
def test_while_redis_is_full_it_is_away_and_so_are_the_schedulers(own_redis, start):
    running = start(declare(own_redis), own_redis)
    running.until_logged("tick.enqueued")
    before = len(running.lines("tick.enqueued"))
    own_redis.config_set("maxmemory", 1)
    running.until_logged("redis.away")
    running.until(lambda: census(own_redis).scheduler == "away")
    assert running.lines("redis.back") == []
    own_redis.config_set("maxmemory", 0)
    running.until_logged("redis.back")
    running.until_logged("tick.enqueued", count=before + 1)

    running.until(lambda: census(own_redis).scheduler == "ok")
    assert len(running.lines("redis.away")) == len(running.lines("redis.back")) == 1


def test_redis_says_which_scheduler_looked_last_and_forgets_it_once_that_is_dead(redis, environ):
    environ(DYNO="worker.2")
    Loop(schedules.declare(redis), redis).look()

    assert json.loads(redis.get(keys.LEADER)) == {"who": f"worker.2:{os.getpid()}"}
    assert 0 < redis.pttl(keys.LEADER) <= ALIVE_MS


def test_once_redis_clock_that_was_days_ahead_is_right_again_a_scheduler_goes_on(redis):
    schedule = schedules.declare(redis, every("1h", numbers.add, args=[2, 3], overlap="allow"))
    loop = Loop(schedule, redis)
    loop.look()
    schedule.enqueue_due(redis_io.now(redis) + timedelta(days=3))
    loop.look()

    assert schedule.next_due < redis_io.now(redis).timestamp() + 3601
    assert [one.outcome for one in schedules.run_next(schedule)] == ["enqueued"]


@pytest.mark.slow
def test_when_one_of_two_is_killed_or_frozen_the_other_goes_on_at_once(redis, start):
    first, second = (start(declare(redis), redis) for _ in range(2))
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for one in (first, second):
            one.until_logged("scheduler.started")
        first.send(number)
        before = len(second.lines("tick.enqueued"))
        second.until(lambda before=before: len(second.lines("tick.enqueued")) > before + 2)

    assert len(queued(redis)) == len(set(queued(redis)))
    assert "tick.missed" not in second.log


def test_a_signal_ends_it_while_redis_is_away(own_redis, start):
    running = start(declare(own_redis), own_redis)
    running.until(lambda: own_redis.exists(keys.LEADER))
    own_redis.shutdown()
    running.until_logged("redis.away")
    running.send(signal.SIGTERM)

    assert running.wait() == 0
