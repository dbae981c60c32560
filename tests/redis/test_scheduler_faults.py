"""A scheduler is killed between any two of its words with Redis; the next one makes it good."""

import os
import signal
from collections import Counter
from datetime import datetime, timedelta

import pytest

from jiffy import clock, cron, every, keys
from jiffy.control import entries
from jiffy.scheduler.entry import read
from jiffy.scheduler.loop import Loop
from jobs import numbers
from tests.support import dying, schedules
from tests.support.newcomer import wait_until

pytestmark = pytest.mark.slow  # 40 deaths and more, each with a process of its own
HOUR = timedelta(hours=1)


def weekly(name, **changes):
    return every("7d", numbers.add, **{"args": [2, 3], "name": name} | changes)


BEFORE = [weekly("same"), weekly("changed"), weekly("gone"), weekly("retimed")]
NOW = [
    weekly("same"),
    weekly("changed", args=[4, 5]),
    cron("0 6 1 1 *", numbers.add, args=[2, 3], name="retimed"),
    weekly("new"),
]


def start(redis, lines):
    """Do what a scheduler does first; return its loop."""
    return Loop(schedules.declare(redis, *lines), redis)


def overdue(redis, *entry_ids, seconds=7 * 86400):
    """As if the last run of these were still to come."""
    for entry_id in entry_ids:
        redis.hincrby(keys.entry_state(entry_id), "slot", -seconds)


def come_and_go(redis):
    """Start, look, and end."""
    loop = start(redis, NOW)
    loop.look()
    loop.look()


def slots(redis):
    """How often each tick of each entry was enqueued."""
    return Counter(raw.decode() for raw in redis.lrange(keys.queue("default"), 0, -1))


def test_killed_anywhere_on_its_way_the_next_one_makes_each_run_once(redis):
    def begin():
        """As it was when the scheduler of the last release ended."""
        start(redis, BEFORE)
        overdue(redis, "entry-same", "entry-changed")

    begin()
    deaths = 0
    for _ in dying.at_each_step(redis, come_and_go):
        deaths += 1
        come_and_go(redis)
        names = sorted(job_id.rpartition("-")[0] for job_id in slots(redis))

        assert names == ["changed", "same"]
        assert set(slots(redis).values()) == {1}
        assert {raw.decode() for raw in redis.zrange(keys.ENTRIES, 0, -1)} == {
            "entry-same", "entry-changed", "entry-retimed", "entry-new",
        }  # fmt: skip
        assert redis.zrangebyscore(keys.ENTRIES, 0, redis.time()[0]) == []
        assert not redis.exists(keys.job("entry-gone"))
        redis.flushall()
        begin()
    assert deaths > 20


def each_second(**changes):
    return every(1, numbers.add, args=[2, 3], name="tick", **{"overlap": "allow"} | changes)


def seconds_made(redis):
    """How often each second's tick was enqueued."""
    made = Counter()
    for job_id, count in slots(redis).items():
        made[second_of(job_id)] += count
    return made


def second_of(job_id):
    moment = datetime.strptime(f"{job_id}+0000", "tick-%Y%m%dT%H%M%SZ%z")
    return int(moment.timestamp())


def test_killed_anywhere_the_runs_of_a_past_window_are_all_made_up_once(redis):
    def work_off(client):
        loop = start(client, [each_second(missed="all")])
        loop.look()
        loop.look()

    def miss_some(client):
        start(client, [each_second(missed="all")])
        overdue(client, "entry-tick", seconds=5)
        return int(client.hget(keys.entry_state("entry-tick"), "slot")) + 1

    begin = miss_some(redis)
    for _ in dying.at_each_step(redis, work_off):
        work_off(redis)
        made = seconds_made(redis)

        assert set(made.values()) == {1}
        assert set(range(begin, begin + 5)) <= made.keys()
        redis.flushall()
        begin = miss_some(redis)


def test_killed_anywhere_an_operation_is_done_or_not_and_nothing_between(redis):
    def operate(client):
        entries.pause(client, "weekly", who="ann", why="a move", until=clock.now() + HOUR)
        entries.skip_next(client, "weekly", 2)
        entries.run_now(client, "weekly", who="ann")
        entries.resume(client, "weekly")

    start(redis, [weekly("weekly")])
    for _ in dying.at_each_step(redis, operate):
        [state] = entries.read(redis)
        [job_id] = slots(redis) or [None]

        assert state.skip in (0, 2)
        assert state.paused is None or state.paused.who == "ann"
        assert job_id is None or redis.hget(keys.job(job_id), "status") == b"queued"
        assert len(entries.history(redis, "weekly")) == len(slots(redis)) <= 1
        redis.flushall()
        start(redis, [weekly("weekly")])


def start_on(redis, start_scheduler):
    """Start a scheduler of this Redis, with a tick each second."""
    start(redis, [each_second(missed="all")])
    url = f"unix://{redis.connection_pool.connection_kwargs['path']}"
    return start_scheduler(read([each_second(missed="all")]), url)


def is_read(redis):
    """Whether each second from the first to the last has one tick."""
    made = seconds_made(redis)
    return set(made.values()) == {1} and made.keys() == {*range(min(made), max(made) + 1)}


def test_two_schedulers_that_are_killed_all_the_time_make_each_run_once(redis, start_scheduler):
    declared = read([each_second(missed="all")])
    start(redis, [each_second(missed="all")])
    running = [start_scheduler(declared) for _ in range(2)]
    for turn in range(6):
        count = len(slots(redis))
        wait_until(lambda count=count: len(slots(redis)) > count)
        running[turn % 2].end()
        running[turn % 2] = start_scheduler(declared)

    assert is_read(redis)


def test_a_redis_that_does_not_answer_for_a_while_costs_no_run(redis_of_its_own, start_scheduler):
    redis = redis_of_its_own()
    server = redis.info("server")["process_id"]
    running = start_on(redis, start_scheduler)
    running.until(lambda: slots(redis))
    os.kill(server, signal.SIGSTOP)
    stopped_at = clock.monotonic()
    wait_until(lambda: clock.monotonic() > stopped_at + 3)
    os.kill(server, signal.SIGCONT)
    count = len(slots(redis))
    running.until(lambda: len(slots(redis)) > count + 3)

    assert is_read(redis)


def test_a_redis_that_is_killed_and_started_again_on_its_data_costs_no_run(
    redis_of_its_own, start_scheduler
):
    redis = redis_of_its_own()
    running = start_on(redis, start_scheduler)
    for times in (1, 2):
        running.until(lambda redis=redis: slots(redis))
        os.kill(redis.info("server")["process_id"], signal.SIGKILL)
        running.until_logged("redis.away", count=times)
        redis = redis_of_its_own()
        running.until_logged("redis.back", count=times)
    count = len(slots(redis))
    running.until(lambda: len(slots(redis)) > count)

    assert is_read(redis)
