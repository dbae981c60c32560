"""The process of a scheduler: it waits for the next run, a change or Redis, until a signal."""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from redis import Redis
from redis.exceptions import RedisError

from jiffy import clock, keys, log, redis_io
from jiffy.control import entries
from jiffy.redis_io import Link, source
from jiffy.scheduler.entry import Entry
from jiffy.scheduler.leader import Leader, wait_for_token
from jiffy.scheduler.rq_entries import Scheduler
from jiffy.scheduler.state import Look, Made, Schedule
from jiffy.settings import settings

# Programs that use rq-scheduler itself leave no token: what they add is seen by a glance.
GLANCE_EVERY_S = 2.0
# Redis' clock may be set, or run at another pace than ours.
MEASURE_EVERY_S = 60.0
# How jobs ended is looked up no more often.
FOLLOW_UP_EVERY_S = 1.0
# A look that comes a little too early finds nothing due, and has to be repeated.
_AIM_LATE_S = 0.002
# An idle Redis ends a wait up to a tenth of a second late; the rest is waited for here.
_REDIS_LATE_S = 0.15
_SUPERSEDED_PAUSE_S = _FAILED_PAUSE_S = 1.0
_FRESH_S = 10.0
_GOODBYE_S = 0.5


def start(found: Sequence[Entry]) -> None:
    """Put the entries in force, and enqueue what comes due until a signal."""
    log.setup(settings().log_level)
    redis = redis_io.connected("scheduler")
    with until_stopped():
        schedule = Schedule(redis, found)
        schedule.declare()
        run(schedule, redis)


def companion(found: Sequence[Entry], redis: Redis) -> Callable[[], int]:
    """Put the entries in force; return what a process beside a worker's children has to do.

    That process may die and be started again, perhaps amid a deploy: it counts as started now.
    """
    schedule = Schedule(redis, found)
    schedule.declare()

    def work() -> int:
        own = redis_io.connect("scheduler")
        with until_stopped():
            run(Schedule(own, found, schedule.notifier, schedule.since), own)
        return 0

    return work


def run(schedule: Schedule, redis: Redis) -> None:
    """Enqueue what comes due until an exception ends it."""
    where, count = redis_io.describe(settings()), len(schedule.entries)
    log.event("scheduler.started", redis=where, entries=count, pid=os.getpid())
    loop = Loop(schedule, redis)
    try:
        loop.run()
    finally:
        redis.connection_pool.disconnect()  # an answer may still be on its way
        with suppress(RedisError):
            loop.leader.resign()
        log.event("scheduler.stopped", pid=os.getpid())


@contextmanager
def until_stopped() -> Iterator[None]:
    """Go on until SIGTERM or SIGINT; what is done then must be done in half a second.

    The signal raises an exception amid whatever is under way: each step is one script.
    """
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        if received and number != signal.SIGALRM:  # a platform may send it twice
            return
        received.append(number)
        signal.setitimer(signal.ITIMER_REAL, _GOODBYE_S, _GOODBYE_S)
        raise _Stopped

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        yield
    except _Stopped:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Loop:
    """Enqueues what comes due for as long as this scheduler leads, and else waits to lead."""

    def __init__(self, schedule: Schedule, redis: Redis) -> None:
        self._schedule, self._redis = schedule, redis
        self._stock = Scheduler(connection=redis)
        self.leader = Leader(redis, keeps_stock_out=bool(schedule.entries))
        self._link = Link(redis)
        self._is_in_force = False  # unless it is known to be, see whether it is
        self._look_at = 0.0  # by the monotonic clock of this machine
        self._front: object = None  # of the sorted set, at the last look; None: not known
        self._follow_up_at = 0.0

    def run(self) -> NoReturn:
        """Go on until an exception of a signal's ends it; outlives every absence of Redis, and odd
        data in it.
        """
        self._schedule.notifier.start()
        while True:
            try:
                self.turn()
            except RedisError as error:
                self._start_anew()
                clock.pause(self._link.note_away(error))
            except Exception as error:  # noqa: BLE001 - whatever stands in Redis, the next turn comes
                self._start_anew()
                log.event("scheduler.failed", log.ERROR, reason=repr(error))
                clock.pause(_FAILED_PAUSE_S)

    def _start_anew(self) -> None:
        self._redis.connection_pool.disconnect()
        self.leader.doubt()
        self._look_at, self._is_in_force = 0.0, False

    def turn(self) -> None:
        """Wait for what comes next, and do it."""
        if not (self.leader.is_held and self._is_in_force) and not self._can_lead():
            return
        if not self.leader.leads():
            self._link.note_back()
            self.leader.stand_by()
            return
        if self.leader.is_new:
            # The first run is not to wait for our script, nor for what another leader has made.
            self._redis.script_load(source("entry_run"))
            if clock.monotonic() > self._schedule.declared_at + _FRESH_S:
                self._schedule.declare()
            self._is_in_force, self._look_at = True, 0.0
        self._wait()
        self.work()
        # Not before: a Redis that is full answers, and yet takes no run.
        self._link.note_back()

    def work(self) -> None:
        """Enqueue what is due, as the leader."""
        if clock.monotonic() >= self._look_at:
            self._front = None
            self._look()
        elif (front := self._redis.zrange(keys.ENTRIES, 0, 0, withscores=True)) != self._front:
            self._look()
            self._front = front

    def _can_lead(self) -> bool:
        is_in_force = self._schedule.is_in_force()
        if is_in_force is False:
            if self.leader.is_held:
                self.leader.resign()
            self._link.note_back()
            clock.pause(_SUPERSEDED_PAUSE_S)
            return False
        if is_in_force is None:
            self._schedule.declare()
        self._is_in_force = True
        return True

    def _look(self) -> None:
        # What Redis answers was true a moment after the question; and so long does the next take.
        asked_at = clock.monotonic()
        seen, schedule = self._schedule.look(), self._schedule
        now_s, first_s, coming_s = seen.now.timestamp(), seen.first_s, schedule.next_due
        is_lost = coming_s is not None and (first_s is None or first_s > coming_s + _AIM_LATE_S)
        if is_lost and schedule.is_in_force() is not False:
            schedule.declare()  # an entry was removed from the sorted set, or all of Redis was lost
        made = schedule.enqueue_due(seen.now)
        if made is None:  # another schedule is in force, or Redis has lost which
            self._look_at, self._is_in_force = 0.0, False
            return
        for one in made:
            _log(one)
        schedule.notifier.missed(made, seen.now)
        is_another_due = not made and first_s is not None and first_s <= now_s
        others = self._stock.enqueue_jobs() if is_another_due else []
        is_behind = self._follow_up(seen)
        # Until the next run, or until jobs may have ended, or our clock is to be compared.
        waits = [MEASURE_EVERY_S]
        for due_s in (first_s, schedule.next_due):
            waits += [due_s - now_s + _AIM_LATE_S] if due_s is not None and due_s > now_s else []
        if seen.follow_up_s is not None:
            waits.append(max(FOLLOW_UP_EVERY_S, seen.follow_up_s - now_s))
        self._look_at = 0.0 if made or others or is_behind else asked_at + min(waits)

    def _follow_up(self, seen: Look) -> bool:
        """See how jobs ended, for the history and for pings; return whether more wait for that."""
        is_time = seen.follow_up_s is not None and seen.follow_up_s <= seen.now.timestamp()
        if not is_time or clock.monotonic() < self._follow_up_at:
            return False
        ended, is_behind = entries.follow_up(self._redis, seen.now)
        known = self._schedule.entries
        self._schedule.notifier.ended((known[key], one) for key, one in ended if key in known)
        if not is_behind:
            self._follow_up_at = clock.monotonic() + FOLLOW_UP_EVERY_S
        return is_behind

    def _wait(self) -> None:
        """Until the next look is due, but no longer than to the next glance, or a change."""
        until = min(self._look_at, clock.monotonic() + GLANCE_EVERY_S)
        in_redis_s = until - clock.monotonic() - _REDIS_LATE_S
        if in_redis_s > 0 and wait_for_token(self._redis, keys.SCHEDULE_WAKE, in_redis_s):
            self._look_at, self._is_in_force = 0.0, False
        elif self._look_at <= until:
            clock.pause(max(0.0, until - clock.monotonic()))


class _Stopped(BaseException):
    """A signal has asked this process to stop."""


def _log(one: Made) -> None:
    level = logging.WARNING if one.outcome == "missed" else logging.INFO
    more: dict[str, object] = {"job": one.job_id, "late_ms": one.late_ms}
    if one.reason:
        more = {"reason": one.reason} | ({"slots": one.slots} if one.slots > 1 else {})
    slot, queue = f"{one.slot:%Y-%m-%dT%H:%M:%SZ}", one.entry.job.origin
    log.event(f"tick.{one.outcome}", level, entry=one.entry.name, slot=slot, queue=queue, **more)
