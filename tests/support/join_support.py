"""What the tests of chains and groups share."""

import redis as redis_py

from jiffy import keys
from jiffy.redis_io import Link, source
from jiffy.worker import upkeep


def look(redis: redis_py.Redis) -> None:
    """Find parts that ended without us, as each supervisor does once a second."""
    redis.script_load(source("due"))  # or all is sent twice, and the first finds it
    for waiting in redis.zrange(keys.JOINS, 0, -1):
        redis.zadd(keys.JOINS, {waiting: 0})
    upkeep.enqueue_due(Link(redis), [keys.NOTHING], default_timeout_s=180)


def look_on(redis, count):
    """Look as long as there is more to do at once; return what `count` says after each look."""
    counts, has_more = [count()], True
    while has_more:
        has_more = upkeep.enqueue_due(Link(redis), [keys.NOTHING], default_timeout_s=180)
        counts.append(count())
    return counts


def status(redis, job):
    return redis.hget(keys.job(job.id), "status").decode()


def statuses(redis, jobs):
    return [status(redis, job) for job in jobs]


def reason(redis, job):
    """Why it was canceled."""
    return (redis.hget(keys.job(job.id), keys.REASON_FIELD) or b"").decode()


def left(redis):
    """What is in Redis of those that wait for others."""
    found = redis.keys("jiffy:join*") + redis.keys("jiffy:pending*")
    return [key.decode() for key in found]
