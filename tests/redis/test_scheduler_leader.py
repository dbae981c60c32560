"""One scheduler leads, the others wait; the next one takes over in seconds, or at once."""

import json
import os
import signal
import socket
from contextlib import contextmanager

import pytest
from redis.exceptions import OutOfMemoryError

from jiffy import keys, redis_io
from jiffy.scheduler.leader import LEASE_S, Leader
from tests.support.newcomer import wait_until
from tests.support.scheduler_processes import Running


@pytest.fixture
def leader(redis):
    """Make one that wants to lead: `leader()`, on a connection of its own."""
    clients = []

    def make():
        clients.append(redis_io.connect("test"))
        return Leader(clients[-1])

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def start(tmp_path):
    """Start a scheduler; none is left behind."""
    started = []

    def run():
        started.append(Running(tmp_path, []))
        return started[-1]

    yield run
    for running in started:
        running.end()


@pytest.fixture
def full(redis):
    """`with full():` Redis takes nothing more."""

    @contextmanager
    def fill():
        redis.config_set("maxmemory", 1)
        try:
            yield
        finally:
            redis.config_set("maxmemory", 0)

    return fill


def leading_pid(redis):
    told = redis.get(keys.LEADER)
    return told and int(json.loads(told)["who"].rpartition(":")[2])


def test_redis_has_the_leader_and_since_when_for_as_long_as_its_lease(redis, leader):
    leader().leads()
    words = json.loads(redis.get(keys.LEADER))

    assert words["who"] == f"{socket.gethostname()}:{os.getpid()}"
    assert words["since"].endswith("Z")
    assert 0 < redis.pttl(keys.LEADER) <= LEASE_S * 1000


def test_a_leader_is_new_when_it_takes_the_lead_not_when_it_keeps_it(redis, leader):
    one = leader()
    assert (one.leads(), one.is_new) == (True, True)
    one.doubt()
    assert (one.leads(), one.is_new) == (True, False)
    redis.flushall()
    one.doubt()

    assert (one.leads(), one.is_new) == (True, True)


def test_a_leader_on_a_full_redis_lets_its_lease_run_out(redis, leader, full):
    one = leader()
    one.leads()
    with full():
        one.doubt()
        redis.pexpire(keys.LEADER, 100)
        for _ in range(2):
            with pytest.raises(OutOfMemoryError):
                one.leads()
        assert redis.pttl(keys.LEADER) <= 100

    assert one.leads()


def test_a_lead_that_was_taken_while_the_answer_was_lost_is_known_again(leader):
    one = unanswered(leader())

    assert one.leads()


def test_a_scheduler_that_is_stopped_while_it_takes_the_lead_leaves_it(redis, leader):
    unanswered(leader()).resign()

    assert not redis.exists(keys.LEADER)


def unanswered(leader):
    """As it is when its claim was granted, and the wait for the answer was broken off."""
    assert leader.leads()
    leader.is_held = False
    return leader


def test_a_leader_that_resigns_wakes_one_that_waits(redis, leader):
    first, second = leader(), leader()
    first.leads()
    assert not second.leads()
    first.resign()
    assert redis.llen(keys.LEADER_LEFT) == 1
    second.stand_by()

    assert not redis.exists(keys.LEADER_LEFT)
    assert second.leads()


def test_a_leader_that_lost_the_lead_notices_and_does_not_take_it_back(redis, leader):
    late, other = leader(), leader()
    late.leads()
    redis.delete(keys.LEADER)  # its lease has run out
    assert other.leads()
    held = redis.get(keys.LEADER)
    late.resign()
    late.doubt()

    assert not late.leads()
    assert redis.get(keys.LEADER) == held


@pytest.mark.parametrize("text", ["", "text", "[]", "{"])
def test_whatever_stands_there_is_respected_until_it_runs_out(redis, leader, text):
    redis.set(keys.LEADER, text, px=60_000)
    one = leader()
    assert not one.leads()
    redis.pexpire(keys.LEADER, 1)

    wait_until(one.leads)


def test_the_next_takes_over_at_once_when_the_leader_is_reported_to_stop(redis, start):
    first = start()
    first.until_logged("leader.gained")
    second = start()
    second.until_logged("leader.followed")
    first.send(signal.SIGTERM)
    assert first.wait() == 0

    second.until(lambda: leading_pid(redis) == second.pid)
    assert f"who={socket.gethostname()}:{first.pid}" in second.lines("leader.followed")[0]


@pytest.mark.slow
def test_a_leader_that_was_frozen_steps_back_when_it_goes_on(redis, start):
    first = start()
    first.until_logged("leader.gained")
    second = start()
    second.until_logged("leader.followed")
    first.send(signal.SIGSTOP)
    second.until(lambda: leading_pid(redis) == second.pid)
    first.send(signal.SIGCONT)
    first.until_logged("leader.lost")

    assert leading_pid(redis) == second.pid
