"""The one place of the scheduler that waits: for the next time, for a change, for Redis."""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

from redis.exceptions import RedisError

from jiffy import clock, keys, log
from jiffy.redis_io import is_away, reason_of, source
from jiffy.scheduler import table
from jiffy.scheduler.alerts import Alerts
from jiffy.scheduler.due import Tick
from jiffy.scheduler.entry import Entry
from jiffy.scheduler.leader import Leader
from jiffy.scheduler.schedule import FOLLOW_UP_EVERY_S, Look, Scheduler

# Programs that use rq-scheduler itself wake nobody: what they add is seen by a glance, this often.
GLANCE_EVERY_S = 2.0
# Redis' clock may be set, or run at another pace than ours.
MEASURE_EVERY_S = 60.0
# What comes a little too early finds nothing due, and has to ask once more.
_AIM_LATE_S = 0.002
# An idle Redis ends a wait up to a tenth of a second late; the rest is waited for here.
_REDIS_LATE_S = 0.15
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0


class Loop:
    """Enqueues what comes due for as long as this scheduler leads, and else waits to lead."""

    def __init__(
        self,
        scheduler: Scheduler,
        entries: Sequence[Entry],
        alerts: Alerts | None = None,
        since: datetime | None = None,  # then the entries were put in force
    ) -> None:
        self._scheduler, self._entries, self._since = scheduler, entries, since
        self._alerts = alerts or Alerts(entries)
        self._redis = scheduler.connection
        self.leader = Leader(self._redis)
        self._absence = Absence()
        self._look_at = 0.0  # by the monotonic clock of this machine
        self._front: Any = None  # of the schedule, before the last look; None: not known
        self._due: Sequence[object] = ()  # what that look found

    def run(self) -> NoReturn:
        """Go on until an exception of a signal's ends it; outlives every absence of Redis."""
        self._alerts.start()
        while True:
            try:
                self.turn()
            except RedisError as error:
                self._redis.connection_pool.disconnect()
                self.leader.doubt()
                self._look_at = 0.0
                clock.pause(self._absence.goes_on(error))

    def turn(self) -> None:
        """Wait for what comes next, and do it."""
        leads = self.leader.leads()
        self._scheduler.heartbeat()
        if not leads:
            self._absence.ends()
            self.leader.stand_by()
            return
        if self.leader.is_new:
            self._begin()
        self._wait()
        self.work()
        # Not before: a Redis that is full answers, and yet takes no tick.
        self._absence.ends()

    def _begin(self) -> None:
        # A Redis that has lost its whole schedule has lost its leader, too; and our scripts: the
        # first tick is not to wait until they are there.
        self._redis.script_load(source("entry_ticks"))
        table.restore(self._scheduler, self._entries, self._alerts, self._since)
        self._look_at = 0.0

    def work(self) -> None:
        """Enqueue what is due, as the leader."""
        if clock.monotonic() >= self._look_at:
            self._front = None
            self._look()
        elif (front := self._glance()) != self._front:
            self._front = front
            self._look()

    def _glance(self) -> Any:
        return self._redis.zrange(keys.ENTRIES, 0, 0, withscores=True)

    def _look(self) -> None:
        # What Redis says was true a moment after we asked; and so long does it take to ask again.
        asked_at = clock.monotonic()
        seen = table.mend(self._scheduler, self._scheduler.look(), self._entries, self._alerts)
        done = self._scheduler.enqueue_due(seen)
        for tick in done:
            _note(tick)
        self._alerts.missed(done, seen.now)
        self._alerts.broken(self._scheduler.newly_broken())
        self._alerts.ended(self._scheduler.follow_up(seen))
        # Those that were due have another time now; but a broken one stays, and is not waited for.
        is_new = seen.due and seen.due != self._due
        self._due = seen.due
        if seen.due:
            self._front = None
        is_soon = is_new or self._scheduler.is_behind
        self._look_at = 0.0 if is_soon else asked_at + wait_after(seen)

    def _wait(self) -> None:
        """Until the next look is due, but no longer than to the next glance, or a change."""
        until = min(self._look_at, clock.monotonic() + GLANCE_EVERY_S)
        in_redis_s = until - clock.monotonic() - _REDIS_LATE_S
        if in_redis_s > 0 and self._redis.blpop([keys.SCHEDULE_WAKE], in_redis_s):
            self._look_at = 0.0
        elif self._look_at <= until:
            clock.pause(max(0.0, until - clock.monotonic()))


def wait_after(seen: Look) -> float:
    """How long after `seen` to look again: for the next entry, for jobs, or to set our clock."""
    waits = [MEASURE_EVERY_S]
    if seen.next_due is not None:
        waits.append((seen.next_due - seen.now).total_seconds() + _AIM_LATE_S)
    if seen.follow_up_at is not None:
        until_then = (seen.follow_up_at - seen.now).total_seconds()
        waits.append(max(FOLLOW_UP_EVERY_S, until_then))
    return min(waits)


def _note(tick: Tick) -> None:
    level = logging.WARNING if tick.outcome == "missed" else logging.INFO
    more: dict[str, object] = {"job": tick.job_id, "late_ms": tick.late_ms}
    if tick.reason:
        more = {"reason": tick.reason} | ({"slots": tick.slots} if tick.slots > 1 else {})
    slot = f"{clock.from_wall(tick.slot):%Y-%m-%dT%H:%M:%SZ}"
    name = f"tick.{tick.outcome}"
    log.event(name, level, entry=tick.name, slot=slot, queue=tick.queue, **more)


class Absence:
    """How long Redis has been away: one line in the log when it goes, one when it is back."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    def goes_on(self, error: RedisError) -> float:
        """Return how long to wait before the next try."""
        if self._began is None:
            self._began = clock.monotonic()
            event, level = ("redis.away", logging.WARNING) if is_away(error) else _REFUSED
            log.event(event, level, reason=reason_of(error))
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, _LONGEST_PAUSE_S)
        return pause_s

    def ends(self) -> None:
        if self._began is not None:
            log.event("redis.back", away=clock.in_words(clock.monotonic() - self._began))
        self._began, self._pause_s = None, _FIRST_PAUSE_S


_REFUSED = ("redis.refused", logging.ERROR)
