"""The schedule as it stands in Redis: rq-scheduler's, with each of its steps made safe.

A tick is enqueued and its entry moved on in one script, which refuses a slot that is done.  So any
number of schedulers may do this at the same moment, and be killed at any; none of it needs a lock.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import rq_scheduler
from redis.exceptions import RedisError, ResponseError
from rq.exceptions import NoSuchJobError
from rq.utils import utcformat
from rq_scheduler.utils import to_unix

from jiffy import clock, keys, log, ticks
from jiffy.producer.enqueue import Job, Queue
from jiffy.redis_io import is_away, script
from jiffy.scheduler import foreign
from jiffy.scheduler.declared import withdraw
from jiffy.scheduler.due import Found, Plan, Tick, plan

_AT_A_TIME = 1000  # entries that one look tells of; the rest is told of by the next
_IN_ONE_STEP = 200  # entries in one script: some 4 ms, during which Redis does nothing else
_FOLLOWED_AT_A_TIME = 500
# What became of the jobs of ticks is looked up no more often, for the history.
FOLLOW_UP_EVERY_S = 1.0
_BEAT_EVERY_S = 5
_ASIDE = timedelta(seconds=10)  # how soon a broken entry is tried again
_LATEST_S = 250_000_000_000  # in the year 9892


@dataclass(frozen=True)
class Look:
    """What one look at the schedule found, by Redis' clock."""

    now: datetime
    due: Sequence[Found]
    next_due: datetime | None
    follow_up_at: datetime | None = None  # when jobs of ticks may be over


class Ended(NamedTuple):
    """A tick whose job is over."""

    entry_id: str
    name: str
    tick: ticks.Tick


class Broken(NamedTuple):
    """An entry that cannot be enqueued, and since when."""

    entry_id: str
    reason: str
    at: datetime


class Scheduler(rq_scheduler.Scheduler):  # type: ignore[misc]
    """rq-scheduler's Scheduler, its keys and its API, with JSON and without its races."""

    job_class = Job
    queue_class = Queue
    redis_scheduler_namespace_prefix = f"{keys.RQ}scheduler_instance:"
    scheduler_key, scheduler_lock_key = f"{keys.RQ}scheduler", keys.STOCK_LOCK
    scheduled_jobs_key = keys.ENTRIES

    enqueue_at = foreign.in_one_step("enqueue_at")
    enqueue_in = foreign.in_one_step("enqueue_in")
    schedule = foreign.in_one_step("schedule")
    cron = foreign.in_one_step("cron")

    def __init__(
        self, queue_name: str = "default", queue: Any = None, interval: float = 1, **others: Any
    ) -> None:
        super().__init__(queue_name, queue, interval, **others)
        self._born, self._lasts_s = clock.now(), int(interval) + 10
        self._next_beat = 0.0
        self._next_follow_up = 0.0
        self.is_behind = False  # whether the last follow-up left some for another, at once
        self._aside: dict[str, tuple[str, datetime]] = {}
        self._broken: list[Broken] = []

    def look(self, *entry_ids: str) -> Look:
        """See what is due, in one round trip; or how these entries stand, due or not."""
        most = _AT_A_TIME + len(self._aside)
        seconds, micros, next_due, follow_up_at, *flat = script(self.connection, "entries_due")(
            [keys.ENTRIES, keys.OPEN_TICKS], [most, *entry_ids]
        )
        now = clock.from_wall(int(seconds)) + timedelta(microseconds=int(micros))
        told = zip(*[iter(flat)] * 5, strict=True)
        due = [_found(i, float(at), kind.decode(), *more) for i, at, kind, *more in told]
        return Look(now, due, _moment(next_due), _moment(follow_up_at))

    def enqueue_jobs(self) -> list[Tick]:
        """Enqueue what is due now; return the ticks that this call, and no other scheduler, did."""
        return [tick for tick in self.enqueue_due(self.look()) if tick.outcome == "enqueued"]

    def enqueue_due(self, seen: Look) -> list[Tick]:
        """The same for what `seen` says is due; return also what was skipped and what was missed.

        A broken entry is set aside for a while; the others go on.
        """
        plans: list[Plan] = []
        others: list[foreign.Plan] = []
        for found in seen.due:
            if not self._is_aside(found.entry_id, seen.now):
                try:
                    if found.kind == "gone":
                        self._forget(found.entry_id)
                    elif found.kind == "table":
                        plans.append(plan(found, seen.now))
                    else:
                        others.append(foreign.plan(found, seen.now))
                except Exception as error:  # noqa: BLE001 - whatever is in a hash, the others go on
                    self._set_aside(found.entry_id, error, seen.now)
        return self._make(plans, seen.now) + self._enqueue(others, seen.now)

    def newly_broken(self) -> list[Broken]:
        """The entries that were set aside since the last call."""
        found, self._broken = self._broken, []
        return found

    def enqueue_job(self, job: Job) -> None:
        """Enqueue the entry `job` as it is here, now, whatever its time is."""
        seen = self.look(job.id)
        if not seen.due:
            super().enqueue_job(job)
            return
        job.save()
        self.enqueue_due(self.look(job.id))
        with suppress(NoSuchJobError):  # it may be done and gone already
            job.refresh()  # type: ignore[no-untyped-call]

    def follow_up(self, seen: Look) -> list[Ended]:
        """See what became of the jobs of ticks, for the history; return those that are over.

        500 at most, so that it never keeps a tick waiting: `is_behind` says whether more wait to be
        looked at.  Where none do, once a second at most.
        """
        self.is_behind = False
        if seen.follow_up_at is None or seen.follow_up_at > seen.now:
            return []
        if clock.monotonic() < self._next_follow_up:
            return []
        step = script(self.connection, "entry_follow")
        looked_at, *told = step([keys.OPEN_TICKS], [_FOLLOWED_AT_A_TIME])
        self.is_behind = looked_at == _FOLLOWED_AT_A_TIME
        if not self.is_behind:
            self._next_follow_up = clock.monotonic() + FOLLOW_UP_EVERY_S
        # A long reason may have been cut in the middle of a character.
        texts = [raw.decode("utf-8", "replace") for raw in told]
        return [
            Ended(entry_id, name, ticks.tick_of(entry_id, line))
            for entry_id, name, line in zip(*[iter(texts)] * 3, strict=True)
        ]

    def change_execution_time(self, job: Job, date_time: datetime) -> None:
        """As rq-scheduler's; an entry that is enqueued at this moment is not put back."""
        with self.connection.pipeline() as pipe:
            pipe.zscore(keys.ENTRIES, job.id)
            pipe.zadd(keys.ENTRIES, {job.id: to_unix(date_time)}, xx=True)
            foreign.wake(pipe)
            if pipe.execute()[0] is None:
                raise ValueError("Job not in scheduled jobs queue")

    def heartbeat(self) -> None:
        """Tell, under rq-scheduler's key, that this scheduler lives; it need not be told often."""
        if clock.monotonic() < self._next_beat:
            return
        self._next_beat = clock.monotonic() + _BEAT_EVERY_S
        if not self.connection.expire(self.key, self._lasts_s):
            self.connection.hset(self.key, "birth", self._born.timestamp())
            self.connection.expire(self.key, self._lasts_s)

    def _make(self, plans: Sequence[Plan], now: datetime) -> list[Tick]:
        """The ticks of entries of the table."""
        # Not in a pipeline: redis-py would first ask, in a round trip of its own, for the script.
        step, answers, done = script(self.connection, "entry_ticks"), [], []
        told = (now.timestamp(), utcformat(now))
        for first in range(0, len(plans), _IN_ONE_STEP):
            some = [plan.told() for plan in plans[first : first + _IN_ONE_STEP]]
            answers += step([keys.ENTRIES, keys.OPEN_TICKS, keys.QUEUES], [*told, *some])
        for made, answer in zip(plans, answers, strict=True):
            if isinstance(answer, bytes):
                self._refused(made.found.entry_id, ResponseError(answer.decode()), now)
            elif answer != 0:
                done += made.outcomes([reason.decode() for reason in answer])
                self._aside.pop(made.found.entry_id, None)
        return done

    def _enqueue(self, plans: Sequence[foreign.Plan], now: datetime) -> list[Tick]:
        """The entries that other programs made: each is the job itself."""
        step, done = script(self.connection, "entry_enqueue"), []
        with self.connection.pipeline(transaction=False) as pipe:
            for made in plans:
                hashes = [keys.ENTRIES, keys.job(made.found.entry_id), keys.QUEUES]
                step(hashes, made.told(utcformat(now)), client=pipe)
            answers = pipe.execute(raise_on_error=False)
        for made, answer in zip(plans, answers, strict=True):
            if isinstance(answer, RedisError):
                self._refused(made.found.entry_id, answer, now)
            elif answer:
                done.append(made.tick(answer.decode(), now))
                self._aside.pop(made.found.entry_id, None)
        return done

    def _refused(self, entry_id: str, error: RedisError, now: datetime) -> None:
        if is_away(error):
            raise error
        self._set_aside(entry_id, error, now)

    def _forget(self, entry_id: str) -> None:
        """Raises NoSuchJobError for an entry of a table: only a table takes away what one made."""
        if self.connection.sismember(keys.DECLARED, entry_id):
            raise NoSuchJobError("its job was deleted")
        withdraw(self.connection, entry_id)
        log.event("entry.gone", logging.WARNING, entry=entry_id, reason="its job was deleted")

    def _set_aside(self, entry_id: str, error: Exception, now: datetime) -> None:
        reason = f"{type(error).__name__}: {error}"
        if self._aside.get(entry_id, ("",))[0] != reason:
            log.event("entry.broken", logging.ERROR, entry=entry_id, reason=reason)
            self._broken.append(Broken(entry_id, reason, now))
        self._aside[entry_id] = (reason, now + _ASIDE)

    def _is_aside(self, entry_id: str, now: datetime) -> bool:
        return entry_id in self._aside and now < self._aside[entry_id][1]


def _found(raw_id: bytes, score: float, kind: str, *more: bytes) -> Found:
    try:
        return Found(raw_id.decode(), score, kind, *more)
    except UnicodeDecodeError as error:
        return Found(raw_id.decode(errors="backslashreplace"), score, "broken", f"{error}".encode())


def _moment(score: bytes) -> datetime | None:
    """When that is; one that no calendar has is as far away as one can be."""
    return clock.from_wall(min(float(score), _LATEST_S)) if score else None
