"""The process of a scheduler: it goes on until a signal says stop, and says goodbye."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

from redis import Redis
from redis.exceptions import RedisError

from jiffy import connection, log
from jiffy.scheduler.alerts import Alerts
from jiffy.scheduler.entry import Entry
from jiffy.scheduler.loop import Loop
from jiffy.scheduler.schedule import Scheduler
from jiffy.settings import settings

_GOODBYE_S = 0.5


class Stopped(BaseException):
    """A signal says stop.

    It is raised in the middle of whatever is under way: each step is one script, so any moment will
    do, and neither a wait nor a Redis that does not answer is waited for.
    """


def keep_time(
    redis: Redis,
    entries: Sequence[Entry],
    alerts: Alerts | None = None,
    since: datetime | None = None,
) -> None:
    """Enqueue what comes due until stopped; `entries` are for a Redis that has forgotten them.

    `alerts` tells whom the entries name, and what it was told before; `since` then the entries are
    in force.
    """
    where = connection.describe(settings())
    log.event("scheduler.started", redis=where, entries=len(entries), pid=os.getpid())
    loop = Loop(Scheduler(connection=redis), entries, alerts, since)
    try:
        loop.run()
    finally:
        redis.connection_pool.disconnect()  # an answer may still be on its way
        with suppress(RedisError):
            loop.leader.resign()
        log.event("scheduler.stopped", pid=os.getpid())


@contextmanager
def until_stopped() -> Iterator[None]:
    """Go on until SIGTERM or SIGINT; what the block does then must be done in half a second."""
    heard: list[int] = []

    def hear(number: int, _: object) -> None:
        if heard and number != signal.SIGALRM:  # a platform may send it twice
            return
        heard.append(number)
        signal.setitimer(signal.ITIMER_REAL, _GOODBYE_S, _GOODBYE_S)
        raise Stopped

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hear)
    try:
        yield
    except Stopped:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
