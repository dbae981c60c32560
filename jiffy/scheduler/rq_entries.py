"""rq-scheduler's Scheduler, its API and its keys, with JSON and safe steps; and the entries that
programs make through it at run time.

Such an entry is the job itself, and its times stand in the job's meta, as JSON or, from stock RQ,
as a pickle.  Entries of SCHEDULE, which the same sorted set shows, are none of these.
"""

import io
import json
import logging
import pickle
import pickletools
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, NoReturn

import rq_scheduler
from crontab import CronTab
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError
from rq_scheduler.utils import to_unix

from jiffy import clock, keys, log, redis_io
from jiffy.producer.enqueue import Job, Queue
from jiffy.redis_io import explained, run_script
from jiffy.scheduler.state import TRY_BROKEN_AGAIN_S

_AT_A_TIME = 100  # so that no run of SCHEDULE is late for them
_MOST_BROKEN_TRIED = 100  # in TRY_BROKEN_AGAIN_S
_MOST_META_BYTES, _MOST_CRON_LETTERS = 100_000, 1000
# Of a pickle: keys of a dict may all have one hash, then its time grows with their square.
_MOST_OPERATIONS = 2000


def _in_one_step(name: str) -> Callable[..., Job]:
    """The method of that name of rq-scheduler's, which sends all that it writes in one step.

    The first time of a cron string is that of `next_time`: its own is right only where this
    machine's clock shows UTC.
    """
    method = getattr(rq_scheduler.Scheduler, name)

    @wraps(method)
    def make(self: rq_scheduler.Scheduler, *args: Any, **kwargs: Any) -> Job:
        with self.connection.pipeline() as pipe:
            recorder = copy(self)
            recorder.connection = pipe
            job: Job = method(recorder, *args, **kwargs)
            if name == "cron":
                first = _next_of_cron(job.meta["cron_string"], clock.now())
                pipe.zadd(keys.ENTRIES, {job.id: first.timestamp()} if first else {})
            _wake(pipe)
            pipe.execute()
        job.connection = self.connection
        return job

    return make


class Scheduler(rq_scheduler.Scheduler):  # type: ignore[misc]
    """rq-scheduler's Scheduler without its races; its keys stand behind RQ_KEY_PREFIX."""

    redis_scheduler_namespace_prefix = f"{keys.RQ}scheduler_instance:"
    scheduler_key = f"{keys.RQ}scheduler"
    scheduler_lock_key = keys.STOCK_LOCK
    scheduled_jobs_key = keys.ENTRIES
    job_class = Job
    queue_class = Queue

    enqueue_at = _in_one_step("enqueue_at")
    enqueue_in = _in_one_step("enqueue_in")
    schedule = _in_one_step("schedule")
    cron = _in_one_step("cron")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._broken: dict[str, tuple[str, float]] = {}  # why, and when to try it again
        self.is_behind = False  # there may be more to enqueue now

    def enqueue_jobs(self) -> list[str]:
        """Enqueue what is due now; return the ids of what this call, and no other, enqueued."""
        now, most = redis_io.now(self.connection), _AT_A_TIME + len(self._broken)
        due = self.connection.zrangebyscore(
            keys.ENTRIES, "-inf", now.timestamp(), 0, most, withscores=True
        )
        self.is_behind = len(due) == most
        seen = {_text(raw) for raw, _ in due}
        self._broken = {name: self._broken[name] for name in self._broken.keys() & seen}
        done = [self._enqueue(raw, score, now) for raw, score in due]
        return [entry_id for entry_id in done if entry_id]

    def enqueue_job(self, job: Job) -> None:
        """Enqueue the entry `job` as it is here, now, whatever its time is."""
        score = self.connection.zscore(keys.ENTRIES, job.id)
        if score is None:
            super().enqueue_job(job)
            return
        job.save()
        self._enqueue(job.id.encode(), score, clock.now())
        with suppress(NoSuchJobError):  # it may have ended and been deleted already
            job.refresh()  # type: ignore[no-untyped-call]

    def change_execution_time(self, job: Job, date_time: datetime) -> None:
        """As rq-scheduler's; an entry that is enqueued at this moment is not put back."""
        with self.connection.pipeline() as pipe:
            pipe.zscore(keys.ENTRIES, job.id)
            pipe.zadd(keys.ENTRIES, {job.id: to_unix(date_time)}, xx=True)
            _wake(pipe)
            if pipe.execute()[0] is None:
                raise ValueError("Job not in scheduled jobs queue")

    def _enqueue(self, raw_id: bytes, score: float, now: datetime) -> str | None:
        """A broken entry is tried again later; the others go on."""
        entry_id = _text(raw_id)
        reason, again_at = self._broken.pop(entry_id, ("", 0.0))
        if clock.monotonic() >= again_at:
            try:
                return self._enqueue_or_forget(raw_id.decode(), score, now)
            except Exception as error:  # whatever is in a hash, the others go on
                if isinstance(error, RedisError) and explained(error):
                    raise
                found = f"{type(error).__name__}: {error}"
                # Of many, a few at a time.
                pause_s = TRY_BROKEN_AGAIN_S * max(1.0, len(self._broken) / _MOST_BROKEN_TRIED)
                again_at = clock.monotonic() + pause_s
            if found != reason:
                log.event("entry.broken", logging.ERROR, entry=entry_id, reason=found)
            reason = found
        self._broken[entry_id] = reason, again_at
        return None

    def _enqueue_or_forget(self, entry_id: str, score: float, now: datetime) -> str | None:
        fields = (keys.TICK_OF_FIELD, "meta", "created_at")
        name, meta, created = self.connection.hmget(keys.job(entry_id), *fields)
        if name or self.connection.sismember(keys.DECLARED, entry_id):
            return None  # of SCHEDULE
        if created is None and not self.connection.exists(keys.job(entry_id)):
            self.connection.zrem(keys.ENTRIES, entry_id)
            log.event("entry.gone", log.WARNING, entry=entry_id, reason="its job was deleted")
            return None
        coming, changed = next_time(meta, clock.from_wall(score), now)
        next_due = "" if coming is None else repr(coming.timestamp())
        arguments = [entry_id, repr(score), next_due, changed or "", Queue.DEFAULT_TIMEOUT]
        queue = run_script(self.connection, "rq_entry", [keys.ENTRIES], arguments)
        if not queue:
            return None
        slot, late_ms = clock.from_wall(score), round((now.timestamp() - score) * 1000)
        known = {"entry": entry_id, "slot": f"{slot:%Y-%m-%dT%H:%M:%SZ}", "queue": queue.decode()}
        log.event("tick.enqueued", **known, job=entry_id, late_ms=late_ms)
        return entry_id


def _text(raw_id: bytes) -> str:
    return raw_id.decode(errors="backslashreplace")


def _wake(redis: Any) -> None:
    """Let a scheduler look again."""
    redis.delete(keys.SCHEDULE_WAKE)
    redis.rpush(keys.SCHEDULE_WAKE, 1)


def next_time(
    raw_meta: bytes | None, slot: datetime, now: datetime
) -> tuple[datetime | None, bytes | None]:
    """When the entry is due after `now`, None for never again; and its meta, where that changes.

    Mirrors rq_scheduler.Scheduler.enqueue_job, except that intervals count from `slot`, so they do
    not drift, and that the next time of a cron string always lies ahead.
    """
    dumps: Callable[[object], bytes] = lambda meta: json.dumps(meta).encode()  # noqa: E731
    raw_meta = raw_meta or b"{}"
    if len(raw_meta) > _MOST_META_BYTES:
        raise ValueError(f"its meta has {len(raw_meta):,} bytes; {_MOST_META_BYTES:,} are read")
    try:
        meta = json.loads(raw_meta)
    except ValueError:
        meta, dumps = _unpickled(raw_meta), pickle.dumps
    if not isinstance(meta, dict):
        raise ValueError("its meta is not a dict")
    coming, changed = None, None
    if meta.get("interval"):
        step = timedelta(seconds=int(meta["interval"]))
        if step < timedelta(seconds=1):  # it would be due without end
            raise ValueError(f"its interval is {meta['interval']!r}; it must be a second or more")
        coming = slot + ((now - slot) // step + 1) * step
    elif meta.get("cron_string"):
        coming = _next_of_cron(meta["cron_string"], now)
    if meta.get("repeat") is not None:
        meta["repeat"] = max(0, int(meta["repeat"]) - 1)
        changed = dumps(meta)
        coming = coming if meta["repeat"] else None
    return coming, changed


def _next_of_cron(text: str, now: datetime) -> datetime | None:
    """As rq-scheduler reads it: in the syntax of the package `crontab`, on this machine's clock."""
    if len(text) > _MOST_CRON_LETTERS:
        raise ValueError(f"its cron string has {len(text):,} characters")
    cron: Any = CronTab(text)
    shown: datetime | None = now.astimezone().replace(tzinfo=None)
    while shown := cron.next(now=shown, default_utc=False, return_datetime=True):
        found: datetime = shown.astimezone(UTC)
        if found > now:
            return found
    return None


class _Left:
    """Stands for what a pickle holds beside numbers, strings, lists and dicts: a date, perhaps.

    Nothing is made of it, and it cannot be written back.
    """

    def __init__(self, *_: object, **__: object) -> None: ...

    __setstate__ = append = extend = __setitem__ = __init__

    def __reduce__(self) -> NoReturn:
        raise pickle.PicklingError("its meta holds more than numbers, strings, lists and dicts")


def _unpickled(raw: bytes) -> Any:
    """The numbers, strings, lists and dicts of a pickle.  Raises pickle.UnpicklingError."""

    class Plain(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return _Left

    # Room is made for places that a pickle only names: ten bytes could ask for gigabytes.
    for number, (operation, argument, _) in enumerate(pickletools.genops(raw)):
        if number > _MOST_OPERATIONS:
            raise pickle.UnpicklingError(f"it has over {_MOST_OPERATIONS:,} operations")
        if "PUT" in operation.name and int(argument or 0) > len(raw):
            raise pickle.UnpicklingError(f"it stores something at {argument:,}")
    return Plain(io.BytesIO(raw)).load()
