"""The one place of the scheduler that waits: for the next time, for Redis, for a signal to stop."""

import logging
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from redis.exceptions import RedisError

from jiffy import clock, log
from jiffy.scheduler import table
from jiffy.scheduler.due import moment
from jiffy.scheduler.entry import Entry
from jiffy.scheduler.schedule import Look, Scheduler

POLL_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


class Stop:
    """An event that a signal's handler may set.

    A threading.Event would not do: the line that the signal interrupts may hold its lock.
    """

    def __init__(self) -> None:
        self._told: SimpleQueue[None] = SimpleQueue()

    def set(self, *_: object) -> None:
        self._told.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Wait so long at most; return whether it was set."""
        try:
            self._told.get(timeout=max(0.0, timeout_s))
        except Empty:
            return False
        self.set()
        return True


def run(scheduler: Scheduler, entries: Sequence[Entry], stop: Stop) -> None:
    """Enqueue what comes due until `stop` is set; outlives every absence of Redis.

    A Redis that comes back with no schedule at all, because it keeps nothing, gets `entries` again.
    """
    absence, wait_s = Absence(), 0.0
    while not stop.wait(wait_s):
        try:
            if absence.lasts:
                table.restore(scheduler, entries)
            wait_s = turn(scheduler)
        except RedisError as error:
            scheduler.connection.connection_pool.disconnect()
            wait_s = absence.goes_on(error)
        else:
            absence.ends()


def turn(scheduler: Scheduler) -> float:
    """Enqueue what is due; return how long to wait for what comes next."""
    scheduler.heartbeat()
    seen = scheduler.look()
    for done in scheduler.enqueue_due(seen):
        slot = moment(done.slot)
        log.event(
            "tick.enqueued", entry=done.name, slot=f"{slot:%Y-%m-%dT%H:%M:%SZ}", job=done.job_id,
            queue=done.queue, late_ms=round((seen.now - slot).total_seconds() * 1000),
        )  # fmt: skip
    return wait_after(seen)


def wait_after(seen: Look) -> float:
    """Until the next entry is due; but never long, as others may add entries."""
    if seen.next_due is None:
        return POLL_S
    return min(POLL_S, (seen.next_due - seen.now).total_seconds())


class Absence:
    """How long Redis has been away: one line in the log when it goes, one when it is back."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    @property
    def lasts(self) -> bool:
        return self._began is not None

    def goes_on(self, error: Exception) -> float:
        """Return how long to wait before the next try."""
        if self._began is None:
            self._began = clock.monotonic()
            log.event("redis.away", logging.WARNING, reason=error)
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, _LONGEST_PAUSE_S)
        return pause_s

    def ends(self) -> None:
        if self._began is not None:
            log.event("redis.back", away=clock.in_words(clock.monotonic() - self._began))
        self._began, self._pause_s = None, _FIRST_PAUSE_S
