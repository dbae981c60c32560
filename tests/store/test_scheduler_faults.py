"""A scheduler is killed between any two of its words with Redis; the next one makes it good."""

from collections import Counter

import pytest

from jiffy import connection, keys
from jiffy.scheduler import cron, every, table
from jiffy.scheduler.leader import LEASE_S, Leader
from jiffy.scheduler.loop import Loop
from jiffy.scheduler.schedule import Scheduler
from jobs import numbers
from tests import dying

# 40 deaths and more, each with a process of its own.
pytestmark = pytest.mark.timeout(60)


def read(*lines):
    entries, wrong = table.read(lines)
    assert wrong == []
    return entries


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
    scheduler = Scheduler(connection=redis)
    table.apply(scheduler, read(*lines), scheduler.look().now)
    return Loop(scheduler, read(*lines))


def come_and_go(redis):
    """Start, work, and leave the lead to others."""
    loop = start(redis, NOW)
    if loop.leader.leads():
        loop.work()
        loop.work()
    loop.leader.resign()


def let_lease_run_out(redis):
    redis.delete(keys.LEADER)


def slots(redis):
    """How often each tick of each entry was enqueued."""
    return Counter(raw.decode() for raw in redis.lrange(keys.queue("default"), 0, -1))


def test_killed_anywhere_on_its_way_the_next_one_makes_each_tick_once(redis):
    def overdue(client):
        """As it was when the scheduler of the last release ended."""
        start(client, BEFORE)
        for name in ("same", "changed"):
            client.zadd(keys.ENTRIES, {f"entry-{name}": client.time()[0] - 1})

    overdue(redis)
    deaths = 0
    for _ in dying.at_each_step(redis, come_and_go):
        deaths += 1
        let_lease_run_out(redis)
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
        overdue(redis)
    assert deaths > 40


def test_killed_anywhere_on_its_way_to_the_lead_or_from_it_it_leaves_it_free_in_time(redis):
    def lead_for_a_while(client):
        leader = Leader(client)
        assert leader.leads()
        leader.doubt()
        assert leader.leads()
        leader.resign()

    for _ in dying.at_each_step(redis, lead_for_a_while):
        assert redis.pttl(keys.LEADER) in range(-2, int(LEASE_S * 1000) + 1)
        assert redis.pttl(keys.LEADER) != -1  # without an end
        let_lease_run_out(redis)
        with connection.connect("test") as another:
            lead_for_a_while(another)
        redis.flushall()
