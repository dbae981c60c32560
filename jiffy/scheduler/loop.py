"""The process of a scheduler: it waits for the next run, a change or Redis, until a signal.

Any number of them may run.  None leads: the script that enqueues a run does so once, for whichever
scheduler is the first to ask.
"""

import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import chain
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from jiffy import clock, keys, log, redis_io
from jiffy.control import entries
from jiffy.control.values import answers
from jiffy.producer import project
from jiffy.redis_io import Link
from jiffy.scheduler.entry import Entry
from jiffy.scheduler.rq_entries import Scheduler
from jiffy.scheduler.state import Made, Schedule
from jiffy.settings import settings

# Programs that use rq-scheduler itself wake nothing, and Redis' clock may be set, or drift.
LOOK_EVERY_S = 2.0
ALIVE_MS = 4000  # after a look
# How jobs ended is looked up no more often.
FOLLOW_UP_EVERY_S = 1.0
# A look that comes a little too early finds nothing due, and has to be repeated.
_AIM_LATE_S = 0.002
# An idle Redis ends a wait up to a tenth of a second late; the rest is waited for here.
_REDIS_LATE_S = 0.15
# A deploy that ends well needs less until its own scheduler is there again after a crash.
TAKE_OVER_AFTER_S = 30
_PAUSE_S = 1.0  # of a scheduler that failed, or whose schedule is not in force


def start(found: Sequence[Entry], module: str) -> None:
    """Put the entries in force, and enqueue what comes due until a signal.

    With RELOAD this program starts anew when the code of `module`, or of the jobs, has changed.
    """
    log.setup(settings().log_level)
    config, redis = settings(), redis_io.connected("scheduler")
    redis_io.check_rights(redis)
    reload = _reloading((*config.jobs_modules, module)) if config.reload else None
    run(redis, found, each_turn=reload)


def companion(found: Sequence[Entry], redis: Redis) -> Callable[[], int]:
    """What a process beside a worker's children has to do: the same.

    That process may die and be started again, perhaps amid a deploy: it counts as started now.
    """
    since = redis_io.now(redis)
    return lambda: run(redis_io.connect("scheduler"), found, since)


def run(
    redis: Redis,
    found: Sequence[Entry],
    since: datetime | None = None,
    each_turn: Callable[[], None] | None = None,
) -> int:
    """Put the entries, which count as declared at `since`, in force; go on until a signal."""
    with _until_stopped():
        log.event(
            "scheduler.started",
            redis=redis_io.describe(settings()), entries=len(found), pid=os.getpid(),
        )  # fmt: skip
        Loop(Schedule(redis, found, since), redis).run(each_turn or (lambda: None))
    log.event("scheduler.stopped", pid=os.getpid())
    return 0


def _reloading(modules: Sequence[str]) -> Callable[[], None]:
    """What looks whether code has changed; if so, and it is valid, this program starts anew."""

    def stamps() -> dict[Path, float]:
        roots = map(Path, project.roots(modules))
        files = [[root] if root.is_file() else root.rglob("*.py") for root in roots]
        found = {}
        for file in chain.from_iterable(files):
            with suppress(FileNotFoundError):  # Emacs' lock of a file is a link to nothing
                found[file] = file.stat().st_mtime
        return found

    command, before = [sys.executable, *sys.orig_argv[1:]], stamps()

    def look() -> None:
        nonlocal before
        if before == (now := stamps()):
            return
        before = now
        check = subprocess.run([*command, "--check"], stdout=subprocess.DEVNULL, check=False)
        if check.returncode == 0:
            os.execv(command[0], command)
        log.event("reload.failed", log.ERROR, effect="the scheduler keeps the schedule it has")

    return look


@contextmanager
def _until_stopped() -> Iterator[None]:
    """Go on until SIGTERM or SIGINT, which raise an exception amid whatever is under way: each
    step is one script."""

    def stop(*_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):  # a platform may send them twice
            signal.signal(number, signal.SIG_IGN)
        raise _Stopped

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with suppress(_Stopped):
        yield


class _Stopped(BaseException):
    """A signal has asked this process to stop."""


class Loop:
    """Looks at what is due, and waits for the next look."""

    def __init__(self, schedule: Schedule, redis: Redis) -> None:
        self._schedule, self._redis = schedule, redis
        self._stock = Scheduler(connection=redis)
        self._link = Link(redis)
        self._who = json.dumps({"who": f"{settings().dyno or socket.gethostname()}:{os.getpid()}"})
        self._is_declared = False  # since Redis was away
        self._newer_seen_at: float | None = None  # a scheduler of the newer schedule in force
        self._look_at = self._follow_up_at = 0.0  # by the monotonic clock of this machine

    def run(self, each_turn: Callable[[], None]) -> None:
        """Go on until an exception of a signal's ends it; outlives every absence of Redis, and odd
        data in it.
        """
        self._schedule.notifier.start()
        while True:
            try:
                self._wait()
                each_turn()
                self.look()
                self._link.note_back()
            except RedisError as error:
                self._start_anew()
                clock.pause(self._link.note_away(error))
            except Exception as error:  # noqa: BLE001 - whatever stands in Redis, the next look comes
                self._start_anew()
                log.event("scheduler.failed", log.ERROR, reason=repr(error))
                clock.pause(_PAUSE_S)

    def _start_anew(self) -> None:
        self._redis.connection_pool.disconnect()
        self._look_at, self._is_declared, self._newer_seen_at = 0.0, False, None

    def look(self) -> None:
        """Enqueue what is due, unless a newer schedule is in force; set when to look again."""
        # What Redis answers was true a moment after the question; and so long does the next take.
        asked_at, schedule = clock.monotonic(), self._schedule
        now, in_force, first_s, follow_up_s = self._ask()
        is_in_force, now_s = schedule.is_in_force(in_force, now), now.timestamp()
        self._look_at = 0.0
        if is_in_force is False and not self._takes_over():
            clock.pause(_PAUSE_S)
            return
        self._newer_seen_at = None
        coming_s = schedule.next_due
        is_shown = first_s is not None and (coming_s is None or first_s < coming_s + _AIM_LATE_S)
        is_lost = coming_s is not None and coming_s > now_s and not is_shown
        if not (self._is_declared and is_in_force) or is_lost or schedule.is_ahead(now):
            schedule.declare()  # anew where Redis has lost something, or its clock was set
            self._is_declared = True
        made = schedule.enqueue_due(now)
        if made is None:  # another schedule has come into force
            return
        for one in made:
            _log(one)
        schedule.notifier.missed(made, now)
        is_another_due = not made and first_s is not None and first_s <= now_s
        others = self._stock.enqueue_jobs() if is_another_due else []
        is_behind = follow_up_s is not None and follow_up_s <= now_s and self._follow_up(now)
        is_behind |= is_another_due and self._stock.is_behind
        self._note_alive()
        # Until the next run, or until jobs may have ended.
        waits = [LOOK_EVERY_S, max(FOLLOW_UP_EVERY_S, (follow_up_s or math.inf) - now_s)]
        for due_s in (first_s, schedule.next_due):
            waits += [due_s - now_s + _AIM_LATE_S] if due_s is not None and due_s > now_s else []
        if not (made or others or is_behind):
            self._look_at = asked_at + min(waits)

    def _takes_over(self) -> bool:
        """Whether this schedule comes into force again, though a newer one is: that has had no
        scheduler for so long that its release was taken back, and this process left running.
        """
        now_s = clock.monotonic()
        if self._newer_seen_at is None:
            log.event("scheduler.waiting", reason="a newer schedule is in force")
            self._schedule.forget()
            self._is_declared = False
        # What lasts longer than ours is none's.
        if self._newer_seen_at is None or 0 < self._redis.pttl(keys.LEADER) <= ALIVE_MS:
            self._newer_seen_at = now_s
        if now_s - self._newer_seen_at < TAKE_OVER_AFTER_S:
            return False
        reason = f"the newer schedule has had no scheduler for {TAKE_OVER_AFTER_S} s"
        log.event("scheduler.resumed", log.WARNING, reason=reason)
        return True

    def _ask(self) -> tuple[datetime, bytes | None, float | None, float | None]:
        """The time by Redis' clock, which schedule is in force, when the first in the sorted set is
        due, and when jobs may have ended."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.get(keys.IN_FORCE)
            for key in (keys.ENTRIES, keys.OPEN_TICKS):
                pipe.zrange(key, 0, 0, withscores=True)
            (seconds, micros), in_force, *firsts = answers(pipe)
        due_s, ended_s = (found[0][1] if found else None for found in firsts)
        return clock.from_wall(seconds + micros / 1e6), in_force, due_s, ended_s

    def _note_alive(self) -> None:
        """Leave word that a scheduler is alive: a full Redis, which takes no run, refuses that too.

        A stock `rqscheduler` would end at an entry that is JSON, and enqueue others twice: it is
        locked out, and where there are entries also while no scheduler of ours is alive.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(keys.LEADER, self._who, px=ALIVE_MS)
            pipe.set(keys.STOCK_LOCK, self._who, px=None if self._schedule.entries else ALIVE_MS)
            pipe.execute()

    def _follow_up(self, now: datetime) -> bool:
        """See how jobs ended, for the history and for pings; return whether more wait for that."""
        if clock.monotonic() < self._follow_up_at:
            return False
        ended, is_behind = entries.follow_up(self._redis, now)
        known = self._schedule.entries
        self._schedule.notifier.ended((known[key], one) for key, one in ended if key in known)
        if not is_behind:
            self._follow_up_at = clock.monotonic() + FOLLOW_UP_EVERY_S
        return is_behind

    def _wait(self) -> None:
        """Until the next look is due, or until a change."""
        in_redis_s = self._look_at - clock.monotonic() - _REDIS_LATE_S
        try:
            if in_redis_s > 0 and self._redis.blpop([keys.SCHEDULE_WAKE], in_redis_s):
                return
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            self._redis.delete(keys.SCHEDULE_WAKE)  # not data of ours
        clock.pause(max(0.0, self._look_at - clock.monotonic()))


def _log(one: Made) -> None:
    level = logging.WARNING if one.outcome == "missed" else logging.INFO
    more: dict[str, object] = {"job": one.job_id, "late_ms": one.late_ms}
    if one.reason:
        more = {"reason": one.reason} | ({"slots": one.slots} if one.slots > 1 else {})
    slot, queue = f"{one.slot:%Y-%m-%dT%H:%M:%SZ}", one.entry.job.recipe.queue
    log.event(f"tick.{one.outcome}", level, entry=one.entry.name, slot=slot, queue=queue, **more)
