"""Real schedulers tell real servers what went wrong, and are missed themselves when they die."""

import os
import signal
from datetime import UTC, datetime

import pytest

from jiffy import at, every
from jiffy.control.read import census
from jiffy.scheduler.entry import read
from jiffy.scheduler.loop import companion
from jiffy.worker import process
from jobs import numbers
from tests.support import schedules
from tests.support.newcomer import wait_until
from tests.support.receiver import receiving
from tests.support.scheduler_processes import Running


@pytest.fixture
def receiver():
    with receiving() as one:
        yield one


@pytest.fixture
def start(redis, tmp_path):
    """Put a schedule in force and start a scheduler for it: `start(every(…))`."""
    started = []

    def run(*lines):
        schedules.declare(redis, *lines)
        started.append(Running(tmp_path, read(lines)))
        return started[-1]

    yield run
    for running in started:
        running.end()


def each_second(**changes):
    return every("1s", numbers.add, args=[2, 3], overlap="allow", **changes)


def test_a_job_that_has_succeeded_pings(start, receiver, work):
    start(each_second(ping=f"{receiver.address}/ping")).until_logged("tick.enqueued")
    work()
    wait_until(lambda: receiver.heard)

    assert receiver.heard[0] == ("GET", "/ping", None)


@pytest.mark.slow
def test_a_scheduler_that_is_killed_is_away_in_ten_seconds_and_the_next_tells_what_was_missed(
    start, receiver, redis
):
    line = each_second(on_missed=f"{receiver.address}/hook")
    first = start(line)
    first.until_logged("tick.enqueued")
    wait_until(lambda: census(redis).scheduler == "ok")
    first.send(signal.SIGKILL)
    wait_until(lambda: census(redis).scheduler == "away")
    start(line).until_logged("tick.missed")
    wait_until(lambda: receiver.heard)
    [(method, path, body)] = receiver.heard

    assert (method, path, body["entry"]) == ("POST", "/hook", "jobs.numbers.add")
    assert body["slots"] >= 2
    assert body["late_s"] >= 2


def test_what_is_found_before_a_worker_starts_its_scheduler_is_reported_by_that(redis, receiver):
    past = datetime(2026, 1, 1, tzinfo=UTC)
    found = read([at(past, numbers.add, args=[2, 3], on_missed=receiver.address)])
    pid = process.fork(companion(found, redis))
    try:
        wait_until(lambda: receiver.heard)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    assert receiver.heard[0][2]["reason"] == "it was added after its time"
