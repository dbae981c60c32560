"""Entries that other programs make, through rq-scheduler's own API: when they are due next.

Their times stand in their job's meta, as JSON or, from stock RQ, as a pickle.
"""

import io
import json
import pickle
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Any, NoReturn

import rq_scheduler
from crontab import CronTab
from redis.client import Pipeline
from rq.job import Job

from jiffy import clock, keys
from jiffy.scheduler.due import Found, Tick
from jiffy.scheduler.timing import Every

_RQ_TIMEOUT_S = 180  # what RQ gives a job that asks for none


@dataclass(frozen=True)
class Plan:
    """What is to become of such an entry that is due: it is the job itself, as there."""

    found: Found
    next_due: datetime | None
    meta: bytes | None  # where it changes

    def told(self, now: str) -> list[str | bytes | float]:
        """What `entry_enqueue.lua` is told of it."""
        coming = "" if self.next_due is None else repr(self.next_due.timestamp())
        seen = repr(self.found.score)
        return [self.found.entry_id, seen, coming, now, self.meta or "", _RQ_TIMEOUT_S]

    def tick(self, queue: str, now: datetime) -> Tick:
        """What became of it."""
        entry_id, slot = self.found.entry_id, self.found.score
        return Tick(
            entry_id, entry_id, queue, slot, entry_id, round((now.timestamp() - slot) * 1000)
        )


def plan(found: Found, now: datetime) -> Plan:
    """Raises ValueError for an entry that makes no sense."""
    if found.kind == "broken":
        raise ValueError(found.text.decode())
    due = clock.from_wall(found.score)
    return Plan(found, *next_time(found.text, due, now))


def in_one_step(name: str) -> Callable[..., Job]:
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
            wake(pipe)
            pipe.execute()
        job.connection = self.connection
        return job

    return make


def wake(pipe: Pipeline) -> None:
    """Tell the scheduler that leads to look again."""
    pipe.lpush(keys.SCHEDULE_WAKE, 1)
    pipe.ltrim(keys.SCHEDULE_WAKE, 0, 0)


def next_time(
    raw_meta: bytes | None, slot: datetime, now: datetime
) -> tuple[datetime | None, bytes | None]:
    """When the entry is due after `now`, None for never again; and its meta, where that changes.

    Mirrors rq_scheduler.Scheduler.enqueue_job, except that intervals count from `slot`, so they do
    not drift, and that the next time of a cron string always lies ahead.
    Raises ValueError for a meta that cannot be read.
    """
    meta, dumps = _read(raw_meta)
    changed, coming = None, _coming(meta, slot, now)
    if meta.get("repeat") is not None:
        meta["repeat"] = max(0, int(meta["repeat"]) - 1)
        changed = dumps(meta)
        if meta["repeat"] == 0:
            coming = None
    return coming, changed


def _coming(meta: dict[str, Any], slot: datetime, now: datetime) -> datetime | None:
    if meta.get("interval"):
        return Every(int(meta["interval"]), anchor=slot).next_after(now)
    if meta.get("cron_string"):
        return _next_of_cron(meta["cron_string"], now)
    return None


def _next_of_cron(text: str, now: datetime) -> datetime | None:
    """As rq-scheduler reads it: in the syntax of the package `crontab`, on this machine's clock."""
    cron = CronTab(text)
    wall: datetime | None = now.astimezone().replace(tzinfo=None)
    while wall is not None:
        wall = cron.next(now=wall, default_utc=False, return_datetime=True)
        if wall is not None and wall.astimezone(UTC) > now:
            return wall.astimezone(UTC)
    return None


def _read(raw: bytes | None) -> tuple[dict[str, Any], Callable[[object], bytes]]:
    dumps: Callable[[object], bytes] = _to_json
    try:
        meta = json.loads(raw or b"{}")
    except ValueError:
        meta, dumps = _unpickle(raw or b""), pickle.dumps
    if not isinstance(meta, dict):
        raise ValueError("its meta is not a dict")
    return meta, dumps


def _to_json(meta: object) -> bytes:
    return json.dumps(meta).encode()


def _unpickle(raw: bytes) -> Any:
    try:
        return _Plain(io.BytesIO(raw)).load()
    except Exception as error:  # noqa: BLE001 - a pickle that is none can raise anything
        raise ValueError(f"its meta cannot be read: {error}") from None


class _Plain(pickle.Unpickler):
    """Reads numbers, texts, lists and dicts; refuses whatever names a class or would run code."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")
