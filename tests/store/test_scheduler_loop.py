"""The loop outlives whatever happens to Redis, and ends when told to."""

from logging.handlers import QueueHandler
from queue import Queue
from threading import Thread

import pytest
from redis import Redis

from jiffy import devredis, keys, log
from jiffy.scheduler import every, loop, table
from jiffy.scheduler.schedule import Scheduler
from jobs import numbers


@pytest.fixture
def own_redis(tmp_path):
    """A Redis that a test may stop and start again; it keeps nothing."""
    address = devredis.start(tmp_path, keep=False)
    client = Redis.from_url(address)
    yield client
    client.close()
    devredis.stop(address)


@pytest.fixture
def running():
    """Run the loop beside the test: `running(scheduler, entries)`; it ends with the test."""
    stop, threads = loop.Stop(), []

    def start(scheduler, entries):
        thread = Thread(target=loop.run, args=(scheduler, entries, stop))
        thread.start()
        threads.append(thread)
        return thread

    start.stop = stop
    yield start
    stop.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def logged():
    """Wait for an event in the log and return its line: `logged("redis.away")`."""
    lines = Queue()
    handler = QueueHandler(lines)
    log.logger.addHandler(handler)
    log.logger.setLevel("INFO")

    def wait(event):
        while True:
            line = lines.get(timeout=8).getMessage()
            if line.startswith(event):
                return line

    yield wait
    log.logger.removeHandler(handler)
    log.logger.setLevel("NOTSET")


def entries():
    return table.read([every(1, numbers.add, args=[2, 3])])[0]


def test_ticks_arrive_until_it_is_told_to_stop(redis, running, logged):
    scheduler = Scheduler(connection=redis)
    table.apply(scheduler, entries(), scheduler.look().now)
    thread = running(scheduler, entries())
    logged("tick.enqueued")
    running.stop.set()
    thread.join()

    assert redis.llen(keys.queue("default")) >= 1


def test_an_absence_of_redis_is_outlived_and_a_lost_schedule_restored(
    own_redis, tmp_path, running, logged
):
    scheduler = Scheduler(connection=own_redis)
    table.apply(scheduler, entries(), scheduler.look().now)
    running(scheduler, entries())
    devredis.stop(f"unix://{tmp_path / 'redis.sock'}")  # by a client of its own: the loop has one
    logged("redis.away")
    devredis.start(tmp_path, keep=False)
    logged("redis.back")

    assert "entry=jobs.numbers.add" in logged("tick.enqueued")


def test_stopping_is_not_forgotten():
    stop = loop.Stop()
    stop.set()

    assert stop.wait(5)
    assert stop.wait(5)
