"""A schedule in Redis: how far each entry has come, and the step that enqueues a run.

The process that has SCHEDULE computes the run times.  Redis keeps the last slot of each entry, its
pause, its skips, its count and its history; one script enqueues a run, and refuses a slot that is
not newer than the last.  So any number of schedulers may do this at once and be killed at any
moment.  rq-scheduler's sorted set is written for its tools and our pages, and never relied on.
"""

import json
import logging
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import takewhile
from typing import Any, Literal, NamedTuple, TypeVar

from redis import Redis
from redis.exceptions import ResponseError

from jiffy import clock, keys, log, redis_io
from jiffy.control import entries
from jiffy.control.values import answers, value
from jiffy.cron_times import At
from jiffy.errors import NotShown
from jiffy.redis_io import explained, run_script
from jiffy.scheduler.entry import Entry
from jiffy.scheduler.notify import NO_SCHEDULER, Notifier

# A run is missed when the next one's time has come, too, or when it is later than this: a restart
# or a leader's death costs less.
MISSED_AFTER_S = 30
# So many slots of one absence are enqueued, or recorded in the history, one by one.
MOST_MISSED = 100
_AT_A_TIME = 200  # entries in one script: some 4 ms, during which Redis does nothing else
TRY_BROKEN_AGAIN_S = 10
_KEPT_S = 30 * 86400  # the state and the history of an entry that SCHEDULE no longer has
_MANY = f"{NO_SCHEDULER}; of those that follow, the last {MOST_MISSED} are recorded"
_RETIMED = "its times were changed before it was enqueued"
_TOO_LATE = "it was added after its time"
_DELETED = "its hash was deleted; it was added again"
_AHEAD = timedelta(days=1)  # a slot so far ahead does not count: Redis' clock was wrong
_ONE_MS, _ONE_S = timedelta(milliseconds=1), timedelta(seconds=1)
T = TypeVar("T")


class Made(NamedTuple):
    """What is planned for a slot, then what was done; `slots` that were missed together are one."""

    entry: Entry
    slot: datetime
    job_id: str = ""
    late_ms: int = 0
    outcome: Literal["enqueued", "skipped", "missed"] = "enqueued"
    reason: str = ""
    slots: int = 1
    was_missed: bool = False  # by MISSED_AFTER_S, whatever was then made of it


class Schedule:
    """The entries of this process, in Redis; in force `since` then, None: not yet."""

    def __init__(self, redis: Redis, found: Iterable[Entry], since: datetime | None = None) -> None:
        self.entries = {entry.id: entry for entry in found}
        self.notifier, self.since, self._redis = Notifier(self.entries.values()), since, redis
        self._slots: dict[str, datetime] = {}  # the last of each entry that is accounted for
        self._coming: dict[str, float] = {}  # when each is due next; none if it is done
        self._broken: dict[str, str] = {}
        whole = sorted(
            f"{entry.definition_json} {entry.timing.identity}" for entry in self.entries.values()
        )
        self.digest = blake2b("\n".join(whole).encode(), digest_size=16).hexdigest()

    @property
    def next_due(self) -> float | None:
        """When the next run is due; None for never."""
        return min(self._coming.values(), default=None)

    def is_ahead(self, now: datetime) -> bool:
        """Whether a slot was accounted for that does not count, since Redis' clock was wrong."""
        return any(slot > now + _AHEAD for slot in self._slots.values())

    def is_in_force(self, stored: bytes | None, now: datetime) -> bool | None:
        """Whether `stored`, of IN_FORCE, is this schedule; None: it is neither this nor newer."""
        digest, since = "", None
        with suppress(NotShown, TypeError, KeyError):  # missing, or not data of ours
            found = value(stored or b"")
            digest, since = found["table"], _moment(found["since"])
        if digest == self.digest:
            return True
        is_newer = self.since and since and self.since < since <= now + _ONE_S
        return False if is_newer else None

    def declare(self, now: datetime | None = None) -> Counter[str]:
        """Put this schedule in force: make Redis what it says, where that differs.

        Returns how many entries are new, changed, same, gone, and over before they began.
        """
        redis, now = self._redis, now or redis_io.now(self._redis)
        self.since = self.since or now
        in_force = {"table": self.digest, "since": self.since.timestamp()}
        redis.set(keys.IN_FORCE, json.dumps(in_force))
        gone = _gone(redis, self.entries.keys())
        counts = Counter({"new": 0, "changed": 0, "same": 0, "gone": len(gone), "over": 0})
        if self.entries:
            redis.sadd(keys.DECLARED, *self.entries)
        for some in _parts(list(self.entries.values())):
            counts.update(self._declare_some(some, now))
        for entry_id, name in gone.items():  # their jobs stay, and for a month pause and history
            with redis.pipeline() as pipe:
                pipe.zrem(keys.ENTRIES, entry_id)
                pipe.srem(keys.DECLARED, entry_id)
                pipe.delete(keys.job(entry_id))
                pipe.hdel(keys.entry_state(entry_id), "slot", "next", "times")
                pipe.expire(keys.entry_state(entry_id), _KEPT_S)
                pipe.expire(keys.ticks(entry_id), _KEPT_S)
                pipe.execute()
            log.event("entry.gone", entry=name, reason="it is not in SCHEDULE")
        return counts

    def enqueue_due(self, now: datetime) -> list[Made] | None:
        """Enqueue what is due, and return what was done; None if another schedule is in force."""
        due_s = now.timestamp()
        due = [entry_id for entry_id, coming_s in self._coming.items() if coming_s <= due_s]
        done: list[Made] = []
        for some in _parts(due):
            plans = [_plan(self.entries[name], self._slots[name], now) for name in some]
            if (made := self._account_for(plans, now)) is None:
                return None
            done += made
        return done

    def forget(self) -> None:
        """Another schedule is in force: of what is due meanwhile, nothing is to be made up for."""
        self._slots.clear()
        self._coming.clear()

    def _declare_some(self, some: Sequence[Entry], now: datetime) -> list[str]:
        changes, plans, projections = [], [], []
        for entry, stored in zip(some, _stored(self._redis, some), strict=True):
            last, missed = stored.last_slot(entry, now, self._slots.get(entry.id))
            coming = entry.timing.next_after(last)
            change = stored.change(entry, coming)
            changes.append(change)
            due_s = None if coming is None else entry.due(coming).timestamp()
            if change == "same" and stored.slot is not None and stored.score == due_s:
                self._note_slot(entry, last, coming)
                continue
            plans.append(_Plan(entry, last, coming, missed))
            if change != "same":
                projections.append(entry)
                facts = {"entry": entry.name, "due": entry.timing.in_words()}
                if missed:
                    facts["missed"] = ",".join(f"{one.slot:%Y-%m-%dT%H:%M:%SZ}" for one in missed)
                level = log.WARNING if missed or change == "over" else logging.INFO
                log.event(f"entry.{change}", level, **facts)
                for one in missed:
                    self.notifier.report(entry, one.slot, now, one.reason)
        self._project(projections, now)
        self._account_for(plans, now)
        return changes

    def _project(self, some: Iterable[Entry], now: datetime) -> None:
        with self._redis.pipeline() as pipe:
            for entry in some:
                pipe.delete(keys.job(entry.id))
                pipe.hset(keys.job(entry.id), mapping=entry.projection(now))  # type: ignore[arg-type]
                pipe.persist(keys.entry_state(entry.id))
                pipe.persist(keys.ticks(entry.id))
            pipe.execute()

    def _account_for(self, plans: Sequence["_Plan"], now: datetime) -> list[Made] | None:
        latest_s = int((now + _AHEAD).timestamp())
        arguments = [self.digest, *(plan.argument(latest_s) for plan in plans)]
        # Not in a pipeline: redis-py would first ask, in a round trip of its own, for the script.
        replies: Any = run_script(self._redis, "entry_run", [keys.IN_FORCE], arguments)
        if replies is None:
            return None
        done: list[Made] = []
        for plan, reply in zip(plans, replies, strict=True):
            entry = plan.entry
            if isinstance(reply, bytes):
                if explained(error := ResponseError(reply.decode(errors="replace"))):
                    raise error
                self._note_broken(entry, str(error), now)
                continue
            before, slot, is_done, has_hash, *raw = reply
            reasons = [reason.decode(errors="replace") for reason in raw]
            self._broken.pop(entry.id, None)
            last, planned = clock.from_wall(slot), plan.slots[-1].slot if plan.slots else plan.last
            coming = plan.coming if last == planned else entry.timing.next_after(last)
            self._note_slot(entry, last, None if is_done else coming)
            made = [
                one._replace(outcome="skipped", reason=reason) if reason else one
                for one, reason in zip(plan.slots, reasons, strict=True)
                if one.slot.timestamp() > before  # or another scheduler has made it
            ]
            missed = [one for one in made if not one.job_id]
            done += [missed[0]._replace(slots=len(missed))] if missed else []
            done += [one for one in made if one.job_id]
            if made and not has_hash:
                self._project([entry], now)
                log.event("entry.restored", log.WARNING, entry=entry.name, reason=_DELETED)
                self.notifier.report(entry, now, now, f"broken: {_DELETED}")
        return done

    def _note_slot(self, entry: Entry, slot: datetime, coming: datetime | None) -> None:
        self._slots[entry.id] = slot
        self._coming.pop(entry.id, None)
        if coming is not None:
            self._coming[entry.id] = entry.due(coming).timestamp()

    def _note_broken(self, entry: Entry, reason: str, now: datetime) -> None:
        if self._broken.get(entry.id) != reason:
            log.event("entry.broken", logging.ERROR, entry=entry.id, reason=reason)
            self.notifier.report(entry, now, now, f"broken: {reason}")
        self._broken[entry.id] = reason
        self._slots.setdefault(entry.id, now.replace(microsecond=0))
        self._coming[entry.id] = now.timestamp() + TRY_BROKEN_AGAIN_S


def _parts(whole: Sequence[T]) -> Iterable[Sequence[T]]:
    return (whole[n : n + _AT_A_TIME] for n in range(0, len(whole), _AT_A_TIME))


class _Plan(NamedTuple):
    entry: Entry
    last: datetime  # slot that is accounted for
    coming: datetime | None
    slots: Sequence[Made]

    def argument(self, latest_s: int) -> str:
        """The plan as `entry_run.lua` reads it."""
        entry, coming, runs = self.entry, self.coming, list[tuple[float, str, str]]()
        for one in self.slots:
            kind = "t" if one.job_id else "m"
            line = entries.line_of(kind, one.slot, late_ms=one.late_ms, reason=one.reason)
            runs.append((one.slot.timestamp(), line, one.job_id))
        plan = {
            "id": entry.id,
            "times": entry.timing.identity,
            "since": int(self.last.timestamp()),
            "latest": latest_s,
            "next": coming and (int(coming.timestamp()), entry.due(coming).timestamp()),
            "repeat": entry.repeat or 0,
            "overlap": entry.overlap,
            "runs": runs,
        }
        return f'{json.dumps(plan)[:-1]}, "fields": {entry.run_json}}}'


def _missed(entry: Entry, slot: datetime, reason: str) -> Made:
    return Made(entry, slot, outcome="missed", reason=reason, was_missed=True)


def _plan(entry: Entry, last: datetime, now: datetime) -> _Plan:
    slots, coming = _due(entry, last, now)
    runs = []
    for slot in slots[-(MOST_MISSED if entry.missed == "all" else 1) :]:
        late_ms = max(0, round((now - entry.due(slot)) / _ONE_MS))
        was_missed = slot != slots[-1] or late_ms > MISSED_AFTER_S * 1000
        job_id = entries.job_id_of(entry.id, slot)
        runs.append(Made(entry, slot, job_id, late_ms, was_missed=was_missed))
    if entry.missed == "skip" and runs and runs[-1].was_missed:
        runs = []
    missed = [_missed(entry, slot, NO_SCHEDULER) for slot in slots[: len(slots) - len(runs)]]
    if len(slots) > MOST_MISSED + 1:
        missed[0] = _missed(entry, slots[0], _MANY)
    return _Plan(entry, last, coming, missed + runs)


def _due(entry: Entry, last: datetime, now: datetime) -> tuple[list[datetime], datetime | None]:
    """The slots after `last` that are due, of many the first and the last 101; and the next."""
    found: list[datetime] = []
    for slot in entry.timing.after(last):
        if entry.due(slot) > now:
            return found, slot
        found.append(slot)
        if len(found) > MOST_MISSED + 1:
            break
    else:
        return found, None
    span, slots = timedelta(seconds=MOST_MISSED), deque[datetime]()
    while len(slots) <= MOST_MISSED:  # there may be too many to walk: look at 100 s, 200 s, …
        due = takewhile(lambda slot: entry.due(slot) <= now, entry.timing.after(now - span))
        slots = deque(due, maxlen=MOST_MISSED + 1)
        span *= 2
    return [found[0], *slots], entry.timing.next_after(slots[-1])


class _Stored(NamedTuple):
    """What Redis holds of an entry; None for what is missing or of another type."""

    definition: bytes | None
    times: bytes | None
    slot: bytes | None
    coming: bytes | None
    score: float | None

    def change(self, entry: Entry, coming: datetime | None) -> str:
        are_same_times = self.times == entry.timing.identity.encode()
        if are_same_times and self.definition == entry.definition_json.encode():
            return "same"
        if coming is None and not are_same_times:
            return "over"
        return "changed" if self.definition else "new"

    def last_slot(
        self, entry: Entry, now: datetime, known: datetime | None
    ) -> tuple[datetime, Sequence[Made]]:
        """The last slot that is accounted for; and slots that will have no job, and why.

        What is due at this moment stays so, also by other times that have it, too.  `known` is what
        this process knows of it, where Redis has lost it.
        """
        this_second, score = now.replace(microsecond=0), self.score
        if self.times == entry.timing.identity.encode():
            slot = _moment(self.slot)
            return slot if slot and slot <= now + _AHEAD else this_second, ()
        if known and not self.times:
            return min(known, this_second), ()
        missed = []
        if self.times and score is not None and score <= now.timestamp():
            due = (_moment(self.coming) or _moment(score) or now).replace(microsecond=0)
            if entry.timing.next_after(due - _ONE_MS) == due:
                return due - _ONE_S, ()
            missed.append(_missed(entry, due, _RETIMED))
        if isinstance(entry.timing, At) and entry.timing.moment <= now:
            missed.append(_missed(entry, entry.timing.moment, _TOO_LATE))
        return this_second, missed


def _moment(raw: Any) -> datetime | None:
    with suppress(ValueError, TypeError, OverflowError, OSError):
        if 0 <= float(raw) <= clock.wall() + clock.LONGEST_S:
            return clock.from_wall(float(raw))
    return None  # missing, or not data of ours


def _stored(redis: Redis, some: Sequence[Entry]) -> list[_Stored]:
    with redis.pipeline(transaction=False) as pipe:
        for entry in some:
            pipe.hget(keys.job(entry.id), keys.ENTRY_FIELD)
            pipe.hmget(keys.entry_state(entry.id), "times", "slot", "next")
            pipe.zscore(keys.ENTRIES, entry.id)
        found = iter(answers(pipe))
    facts = zip(found, found, found, strict=True)
    nothing = (None, None, None)
    return [_Stored._make([what, *(state or nothing), score]) for what, state, score in facts]


def _gone(redis: Redis, kept: Collection[str]) -> dict[str, str]:
    with redis.pipeline(transaction=False) as pipe:
        pipe.smembers(keys.DECLARED)
        [members] = answers(pipe)
        if members is None:  # not data of ours
            redis.delete(keys.DECLARED)
        declared = {raw.decode("utf-8", "replace") for raw in members or ()}
        gone = sorted(declared.difference(kept))
        for entry_id in gone:
            pipe.hget(keys.job(entry_id), keys.TICK_OF_FIELD)
        names = [name.decode(errors="replace") if name else None for name in answers(pipe)]
    return {entry_id: name or entry_id for entry_id, name in zip(gone, names, strict=True)}


class Change(NamedTuple):
    """What declaring a schedule changes of an entry: `what` is a list of (what, before, after)."""

    kind: Literal["new", "changed", "same", "gone"]
    name: str
    what: Sequence[tuple[str, Any, Any]] = ()


def differences(redis: Redis, found: Sequence[Entry]) -> list[Change]:
    """What `declare` would change; nothing is written."""
    changes = []
    for entry, stored in zip(found, _stored(redis, found), strict=True):
        becomes = entry.definition
        try:
            was = json.loads(stored.definition or "{}")
            names = sorted(was.keys() | becomes.keys(), key=lambda name: (name != "times", name))
            pairs = [(name, was.get(name), becomes.get(name)) for name in names]
        except (ValueError, AttributeError, RecursionError):  # not data of ours
            pairs = [("entry", "cannot be read", "as in SCHEDULE")]
        what = [pair for pair in pairs if pair[1] != pair[2]] if stored.definition else []
        kind: Any = "changed" if what else "same" if stored.definition else "new"
        changes.append(Change(kind, entry.name, what))
    gone = _gone(redis, [entry.id for entry in found])
    return changes + [Change("gone", name) for name in gone.values()]
