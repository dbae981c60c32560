"""A schedule in Redis: how far each entry has come, and the step that enqueues a run.

The process that has SCHEDULE computes the run times.  Redis keeps the last slot of each entry, its
pause, its skips, its count and its history; one script enqueues a run, and refuses a slot that is
not newer than the last.  So any number of schedulers may do this at once and be killed at any
moment.  rq-scheduler's sorted set is written for its tools and our pages, and never relied on.
"""

import json
import logging
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import takewhile
from typing import Any, Literal, NamedTuple

from redis import Redis
from redis.exceptions import ResponseError

from jiffy import clock, entries, keys, log
from jiffy.redis_io import is_away, script
from jiffy.scheduler.cron import At
from jiffy.scheduler.entry import Entry
from jiffy.scheduler.notify import NO_SCHEDULER, Notifier

# A run is missed when the next one's time has come, too, or when it is later than this: a restart
# or a leader's death costs less.
MISSED_AFTER_S = 30
# So many slots of one absence are enqueued, or recorded in the history, one by one.
MOST_MISSED = 100
_IN_ONE_EXCHANGE = 500
_IN_ONE_STEP = 200  # entries in one script: some 4 ms, during which Redis does nothing else
_TRY_BROKEN_AGAIN_S = 10
_KEPT_S = 30 * 86400  # the state and the history of an entry that SCHEDULE no longer has
_MANY = f"{NO_SCHEDULER}; of those that follow, the last {MOST_MISSED} are recorded"
_RETIMED = "its times were changed before it was enqueued"
_TOO_LATE = "it was declared after its time"
_DELETED = "its hash was deleted; it is declared again"
_ONE_MS = timedelta(milliseconds=1)


class Made(NamedTuple):
    """What became of a slot; `slots`: how many were missed together, from this one on."""

    entry: Entry
    slot: datetime
    job_id: str = ""
    late_ms: int = 0
    outcome: Literal["enqueued", "skipped", "missed"] = "enqueued"
    reason: str = ""
    slots: int = 1
    was_missed: bool = False  # by MISSED_AFTER_S, whatever was then made of it


class Look(NamedTuple):
    """The time by Redis' clock, the first entry in the sorted set, and when jobs may have ended."""

    now: datetime
    front: tuple[bytes, float] | None
    follow_up_at: float | None


class Schedule:
    """The entries of this process, in Redis."""

    def __init__(
        self,
        redis: Redis,
        found: Iterable[Entry],
        notifier: Notifier | None = None,
        since: datetime | None = None,  # it was put in force; None: it was not yet
    ) -> None:
        self.entries = {entry.id: entry for entry in found}
        self.since = since
        self.notifier = notifier or Notifier(self.entries.values())
        self._redis = redis
        self._slots: dict[str, datetime] = {}  # the last of each entry that is accounted for
        self._coming: dict[str, float] = {}  # when each is due next; none if it is done
        self._broken: dict[str, str] = {}
        lines = sorted(json.dumps(entry.definition, sort_keys=True) for entry in found)
        identities = sorted(f"{entry.id} {entry.timing.identity}" for entry in found)
        whole = "\n".join([*lines, *identities]).encode()
        self.digest = blake2b(whole, digest_size=16).hexdigest()

    @property
    def next_due(self) -> float | None:
        """When the next run is due; None for never."""
        return min(self._coming.values(), default=None)

    def look(self) -> Look:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(keys.ENTRIES, 0, 0, withscores=True)
            pipe.zrange(keys.OPEN_TICKS, 0, 0, withscores=True)
            time, front, unfinished = pipe.execute(raise_on_error=False)
        for answer in (time, front):
            if isinstance(answer, Exception):
                raise answer
        now = clock.from_wall(time[0]) + timedelta(microseconds=time[1])
        is_open = isinstance(unfinished, list) and unfinished
        return Look(now, front[0] if front else None, unfinished[0][1] if is_open else None)

    def is_in_force(self) -> bool | None:
        """Whether this schedule is in force; None: it is not, and no newer one is."""
        found = in_force(self._redis)
        if found and found[0] == self.digest:
            return True
        return False if found and self.since and found[1] > self.since else None

    def declare(self, now: datetime | None = None) -> Counter[str]:
        """Put this schedule in force at `now`: make Redis what it says, where that differs.

        Returns how many entries are new, changed, same and gone, and how many were over before they
        began.  Entries that were made through rq-scheduler's API are left alone.
        """
        redis, now = self._redis, now or self.look().now
        self.since = self.since or now
        before = in_force(redis)
        in_words = {"table": self.digest, "since": self.since.timestamp()}
        redis.set(keys.IN_FORCE, json.dumps(in_words))
        there = _declared(redis)
        counts = Counter({"new": 0, "changed": 0, "same": 0, "gone": 0, "over": 0})
        mine = list(self.entries.values())
        if mine:
            redis.sadd(keys.DECLARED, *self.entries)
        for first in range(0, len(mine), _IN_ONE_EXCHANGE):
            counts.update(self._declare_some(mine[first : first + _IN_ONE_EXCHANGE], now))
        for entry_id in sorted(there - self.entries.keys()):
            _withdraw(redis, entry_id)
            counts["gone"] += 1
        if not before or before[0] != self.digest:
            wake(redis)
        return counts

    def enqueue_due(self, now: datetime) -> list[Made] | None:
        """Enqueue what is due at `now`; return also what was skipped and what was missed.

        None if another schedule is in force.
        """
        due_s = now.timestamp()
        plans = []
        for entry_id, coming in self._coming.items():
            if coming <= due_s:
                entry, last = self.entries[entry_id], self._slots[entry_id]
                plans.append(_Plan(entry, last, *_due(entry, last, now), now))
        done: list[Made] = []
        for first in range(0, len(plans), _IN_ONE_STEP):
            made = self._account_for(plans[first : first + _IN_ONE_STEP], now)
            if made is None:
                return None
            done += made
        return done

    def _declare_some(self, some: Sequence[Entry], now: datetime) -> list[str]:
        verdicts, plans, projections = [], [], []
        for entry, stored in zip(some, _stored(self._redis, some), strict=True):
            last, missed = stored.last_slot(entry, now)
            coming = entry.timing.next_after(last)
            verdict = stored.verdict(entry, coming)
            verdicts.append(verdict)
            if verdict == "same" and stored.is_projected(entry, coming):
                self._note_slot(entry, last, is_done=False)
                continue
            plans.append(_Plan(entry, last, [], coming, now, missed))
            if verdict != "same":
                projections.append(entry)
                _log_verdict(entry, verdict, missed)
                self.notifier.left_out(entry, missed, now)
        self._project(projections, now)
        for first in range(0, len(plans), _IN_ONE_STEP):
            self._account_for(plans[first : first + _IN_ONE_STEP], now)
        return verdicts

    def _project(self, some: Iterable[Entry], now: datetime) -> None:
        with self._redis.pipeline() as pipe:
            for entry in some:
                pipe.delete(keys.job(entry.id))
                pipe.hset(keys.job(entry.id), mapping=entry.projection(now))  # type: ignore[arg-type]
                pipe.persist(keys.entry_state(entry.id))
                pipe.persist(keys.ticks(entry.id))
            pipe.execute()

    def _account_for(self, plans: Sequence["_Plan"], now: datetime) -> list[Made] | None:
        arguments = [self.digest, *(plan.argument() for plan in plans)]
        # Not in a pipeline: redis-py would first ask, in a round trip of its own, for the script.
        answers: Any = script(self._redis, "entry_run")([keys.IN_FORCE], arguments)
        if answers is None:
            return None
        done: list[Made] = []
        for plan, answer in zip(plans, answers, strict=True):
            entry = plan.entry
            if isinstance(answer, bytes):
                if is_away(error := ResponseError(answer.decode(errors="replace"))):
                    raise error
                self._note_broken(entry, str(error), now)
                continue
            before, slot, is_done, has_hash, pause, *reasons = answer
            self._broken.pop(entry.id, None)
            self._note_slot(entry, clock.from_wall(slot), is_done=bool(is_done))
            made = plan.outcomes(pause.decode(), [reason.decode() for reason in reasons])
            done += [one for one in made if one.slot.timestamp() > before]  # or another's
            if not has_hash:
                self._project([entry], now)
                log.event("entry.mended", log.WARNING, entry=entry.name, reason=_DELETED)
                self.notifier.broken(entry, _DELETED, now)
        return done

    def _note_slot(self, entry: Entry, slot: datetime, *, is_done: bool) -> None:
        self._slots[entry.id] = slot
        coming = None if is_done else entry.timing.next_after(slot)
        if coming is None:
            self._coming.pop(entry.id, None)
        else:
            self._coming[entry.id] = entry.due(coming).timestamp()

    def _note_broken(self, entry: Entry, reason: str, now: datetime) -> None:
        """Try it again later; the others go on."""
        if self._broken.get(entry.id) != reason:
            log.event("entry.broken", logging.ERROR, entry=entry.id, reason=reason)
            self.notifier.broken(entry, reason, now)
        self._broken[entry.id] = reason
        self._slots.setdefault(entry.id, now.replace(microsecond=0))
        self._coming[entry.id] = now.timestamp() + _TRY_BROKEN_AGAIN_S


class _Plan(NamedTuple):
    """What is to become of an entry's slots, as far as that can be known without Redis."""

    entry: Entry
    last: datetime  # slot that is accounted for
    slots: Sequence[datetime]
    coming: datetime | None
    now: datetime
    missed: Sequence[tuple[datetime, str]] = ()

    def argument(self) -> str:
        """For `entry_run.lua`."""
        entry = self.entry
        missed, runs = self._divided()
        plan = {
            "id": entry.id,
            "times": entry.timing.identity,
            "since": int(self.last.timestamp()),
            "next": self.coming
            and (int(self.coming.timestamp()), entry.due(self.coming).timestamp()),
            "repeat": entry.repeat or 0,
            "overlap": entry.overlap,
            "missed": [
                (slot.timestamp(), entries.line_of("m", slot, slot, reason=reason))
                for slot, reason in missed
            ],
            "runs": [(run.slot.timestamp(), self._line(run), run.job_id) for run in runs],
        }
        return f'{json.dumps(plan)[:-1]}, "fields": {entry.run_json}}}'

    def outcomes(self, pause: str, reasons: Sequence[str]) -> list[Made]:
        """What became of it; `reasons`: for each of its runs why it was skipped, or "".

        Of what was missed there is one, for the first; what is paused misses nothing.
        """
        missed, runs = self._divided()
        done = []
        if missed and self.slots:
            (slot, reason), outcome = missed[0], "skipped" if pause else "missed"
            done = [
                Made(self.entry, slot, "", 0, outcome, pause or reason, len(missed), True)  # type: ignore[arg-type]
            ]
        for run, reason in zip(runs, reasons, strict=True):
            done.append(run._replace(outcome="skipped", reason=reason) if reason else run)
        return done

    def _line(self, run: Made) -> str:
        return entries.line_of("t", run.slot, self.entry.due(run.slot), late_ms=run.late_ms)

    def _divided(self) -> tuple[Sequence[tuple[datetime, str]], Sequence[Made]]:
        """The slots that are missed, and the runs to enqueue."""
        if not self.slots:
            return self.missed, []
        entry = self.entry
        count = MOST_MISSED if entry.missed == "all" else 1
        runs = []
        for slot in self.slots[-count:]:
            late_ms = max(0, round((self.now - entry.due(slot)) / _ONE_MS))
            was_missed = slot != self.slots[-1] or late_ms > MISSED_AFTER_S * 1000
            job_id = entries.job_id_of(entry.id, slot)
            runs.append(Made(entry, slot, job_id, late_ms, was_missed=was_missed))
        if entry.missed == "skip" and runs[-1].was_missed:
            runs = []
        missed = [(slot, NO_SCHEDULER) for slot in self.slots[: len(self.slots) - len(runs)]]
        if len(self.slots) > MOST_MISSED + 1:
            missed[0] = (self.slots[0], _MANY)
        return missed, runs


def _due(entry: Entry, last: datetime, now: datetime) -> tuple[list[datetime], datetime | None]:
    """The slots after `last` that are due, and the one to come; of more than a hundred, the first
    and the last 101."""
    slots: list[datetime] = []
    for slot in entry.timing.after(last):
        if entry.due(slot) > now:
            return slots, slot
        slots.append(slot)
        if len(slots) > MOST_MISSED + 1:
            break
    else:
        return slots, None
    span = timedelta(seconds=MOST_MISSED)
    while True:  # too many to walk through: look at the last hundred seconds, two hundred, …
        found = takewhile(lambda slot: entry.due(slot) <= now, entry.timing.after(now - span))
        tail = deque(found, maxlen=MOST_MISSED + 1)
        if len(tail) > MOST_MISSED:
            return [slots[0], *tail], entry.timing.next_after(tail[-1])
        span *= 2


class _Stored(NamedTuple):
    """What Redis holds of an entry: None for what is not there, or is nonsense."""

    definition: bytes | None
    times: bytes | None
    slot: bytes | None
    coming: bytes | None
    score: float | None

    def verdict(self, entry: Entry, coming: datetime | None) -> str:
        definition = json.dumps(entry.definition, sort_keys=True).encode()
        are_same_times = self.times == entry.timing.identity.encode()
        if are_same_times and self.definition == definition:
            return "same"
        if coming is None and not are_same_times:
            return "over"
        return "changed" if self.definition else "new"

    def is_projected(self, entry: Entry, coming: datetime | None) -> bool:
        due_s = None if coming is None else entry.due(coming).timestamp()
        return self.slot is not None and self.score == due_s

    def last_slot(
        self, entry: Entry, now: datetime
    ) -> tuple[datetime, Sequence[tuple[datetime, str]]]:
        """The last slot that is accounted for; and slots that will have no job, and why.

        What is due at this moment stays so, also by other times that have it, too.
        """
        this_second, score = now.replace(microsecond=0), self.score
        if self.times == entry.timing.identity.encode():
            with suppress(ValueError, TypeError, OverflowError, OSError):
                return clock.from_wall(float(self.slot)), ()  # type: ignore[arg-type]
            # A release before this one kept no slot: the entry waits for the one at its score.
            return (this_second if score is None else _slot_before(entry, score, this_second)), ()
        missed: list[tuple[datetime, str]] = []
        if self.times and score is not None and score <= now.timestamp():
            due = clock.from_wall(int(self.coming or score))
            if entry.timing.has(due):
                return due - timedelta(seconds=1), ()
            missed.append((due, _RETIMED))
        if isinstance(entry.timing, At) and entry.timing.moment <= now:
            missed.append((entry.timing.moment, _TOO_LATE))
        return this_second, missed


def _stored(redis: Redis, some: Sequence[Entry]) -> list[_Stored]:
    with redis.pipeline(transaction=False) as pipe:
        for entry in some:
            pipe.hmget(keys.job(entry.id), keys.ENTRY_FIELD, keys.TIMES_FIELD)
            pipe.hmget(keys.entry_state(entry.id), "times", "slot", "next")
            pipe.zscore(keys.ENTRIES, entry.id)
        found = iter(pipe.execute(raise_on_error=False))
    stored = []
    for job, state, score in zip(found, found, found, strict=True):
        definition, old_times = job if isinstance(job, list) else (None, None)
        times, slot, coming = state if isinstance(state, list) else (None, None, None)
        stored.append(_Stored(definition, times or old_times, slot, coming, score))
    return stored


def _slot_before(entry: Entry, score: float, otherwise: datetime) -> datetime:
    """The second before the slot that is due at `score`."""
    with suppress(ValueError, OverflowError, OSError):
        due = clock.from_wall(score) - _ONE_MS
        later = entry.timing.after(due - timedelta(seconds=entry.jitter_s + 1))
        found = next((slot for slot in later if entry.due(slot) >= due), None)
        return otherwise if found is None else found - timedelta(seconds=1)
    return otherwise


def _log_verdict(entry: Entry, verdict: str, missed: Sequence[tuple[datetime, str]]) -> None:
    """As a warning if it leaves out a slot."""
    slots = ",".join(f"{slot:%Y-%m-%dT%H:%M:%SZ}" for slot, _ in missed)
    more = {"missed": slots} if slots else {}
    level = log.WARNING if slots or verdict == "over" else logging.INFO
    log.event(f"entry.{verdict}", level, entry=entry.name, due=entry.timing.in_words(), **more)


def in_force(redis: Redis) -> tuple[str, datetime] | None:
    """A digest of the schedule that was put in force last, and when; None if that is lost."""
    with suppress(ResponseError, ValueError, TypeError, KeyError):  # somebody's nonsense
        stored = json.loads(redis.get(keys.IN_FORCE) or "")
        return stored["table"], clock.from_wall(stored["since"])
    return None


def wake(redis: Any) -> None:
    """Let the scheduler that leads look again."""
    redis.delete(keys.SCHEDULE_WAKE)
    redis.rpush(keys.SCHEDULE_WAKE, 1)


def _declared(redis: Redis) -> set[str]:
    try:
        members: Any = redis.smembers(keys.DECLARED)
    except ResponseError as error:
        if is_away(error):
            raise
        redis.delete(keys.DECLARED)  # somebody's nonsense
        members = ()
    return {raw.decode("utf-8", "replace") for raw in members}


def _withdraw(redis: Redis, entry_id: str) -> None:
    """Take an entry off the schedule; its jobs stay, and for a month its pause and its history."""
    name: Any = redis.hget(keys.job(entry_id), keys.TICK_OF_FIELD)
    with redis.pipeline() as pipe:
        pipe.zrem(keys.ENTRIES, entry_id)
        pipe.srem(keys.DECLARED, entry_id)
        pipe.delete(keys.job(entry_id))
        pipe.hdel(keys.entry_state(entry_id), "slot", "next", "times")
        pipe.expire(keys.entry_state(entry_id), _KEPT_S)
        pipe.expire(keys.ticks(entry_id), _KEPT_S)
        pipe.execute()
    name = name.decode(errors="replace") if name else entry_id
    log.event("entry.gone", entry=name, reason="it is not in SCHEDULE")


class Change(NamedTuple):
    """What declaring a schedule changes of an entry: `what` is a list of (what, before, after)."""

    kind: Literal["new", "changed", "same", "gone"]
    name: str
    what: Sequence[tuple[str, Any, Any]] = ()


def differences(redis: Redis, found: Sequence[Entry]) -> list[Change]:
    """What `declare` would change; nothing is written."""
    there = _declared(redis)
    with redis.pipeline(transaction=False) as pipe:
        for entry in found:
            pipe.hget(keys.job(entry.id), keys.ENTRY_FIELD)
        answers = pipe.execute(raise_on_error=False)
    changes = [_change(entry, raw) for entry, raw in zip(found, answers, strict=True)]
    gone = sorted(there - {entry.id for entry in found})
    names: list[Any] = [redis.hget(keys.job(entry_id), keys.TICK_OF_FIELD) for entry_id in gone]
    return changes + [
        Change("gone", name.decode() if name else entry_id)
        for name, entry_id in zip(names, gone, strict=True)
    ]


def _change(entry: Entry, raw: Any) -> Change:
    if raw is None:
        return Change("new", entry.name)
    try:
        was, becomes = json.loads(raw), entry.definition
        known = was.keys()
    except (ValueError, TypeError, AttributeError):  # somebody's nonsense
        return Change("changed", entry.name, [("entry", "cannot be read", "as in SCHEDULE")])
    what = [
        (name, was.get(name), becomes.get(name))
        for name in sorted(known | becomes.keys(), key=lambda name: (name != "times", name))
        if was.get(name) != becomes.get(name)
    ]
    return Change("changed" if what else "same", entry.name, what)
