"""A schedule in Redis without its process: declared, and taken to its next run time by hand."""

from jiffy import clock, keys, redis_io
from jiffy.scheduler.entry import read
from jiffy.scheduler.state import Schedule


def declare(redis, *lines, now=None):
    """Put a schedule in force; `counts` of what is returned says what that has changed."""
    schedule = Schedule(redis, read(lines))
    schedule.counts = schedule.declare(now)
    return schedule


def run_next(schedule, count=1):
    """Let the next run times come, ahead of their time; return what became of them."""
    done = []
    for _ in range(count):
        if schedule.next_due is not None:
            done += schedule.enqueue_due(clock.from_wall(schedule.next_due))
    return done


def set_back(redis, schedule, entry_id, slot_s):
    """As if the run at this moment, and all after it, were still to come; return the schedule as a
    scheduler finds it that starts now."""
    redis.hset(keys.entry_state(entry_id), "slot", int(slot_s) - 1)
    again = Schedule(redis, schedule.entries.values(), schedule.since)
    again.notifier = schedule.notifier
    again.declare()
    return again


def enqueue_due(schedule):
    return schedule.enqueue_due(redis_io.now(schedule._redis))
