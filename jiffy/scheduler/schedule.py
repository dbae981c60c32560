"""The schedule as it stands in Redis: rq-scheduler's, with each of its steps made safe.

A tick is enqueued and its entry moved on in one script, which refuses a slot that is done.  So any
number of schedulers may do this at the same moment, and be killed at any; none of it needs a lock.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import rq_scheduler
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError
from rq.exceptions import NoSuchJobError

from jiffy import clock, keys, log
from jiffy.queues import Job, Queue
from jiffy.scheduler.due import RawHash, Tick, moment, tick
from jiffy.scheduler.entry import Entry
from jiffy.scripts import script

_AT_A_TIME = 500
_BEAT_EVERY_S = 3
_ASIDE = timedelta(seconds=10)  # how soon a broken entry is tried again


@dataclass(frozen=True)
class Look:
    """What one look at the schedule found, by Redis' clock."""

    now: datetime
    due: Sequence[tuple[str, float]]
    next_due: datetime | None


class Scheduler(rq_scheduler.Scheduler):  # type: ignore[misc]
    """rq-scheduler's Scheduler, its keys and its API, with JSON and without its races."""

    job_class = Job
    queue_class = Queue

    def __init__(
        self, queue_name: str = "default", queue: Any = None, interval: float = 1, **others: Any
    ) -> None:
        super().__init__(queue_name, queue, interval, **others)
        self._born = clock.now()
        self._next_beat = 0.0
        self._aside: dict[str, tuple[str, datetime]] = {}

    def look(self) -> Look:
        """See what is due, in one round trip."""
        seconds, micros, next_score, flat = script(self.connection, "entries_due")([keys.ENTRIES])
        now = moment(int(seconds)) + timedelta(microseconds=int(micros))
        due = [(flat[i].decode(), float(flat[i + 1])) for i in range(0, len(flat), 2)]
        return Look(now, due, moment(float(next_score)) if next_score else None)

    def enqueue_jobs(self) -> list[Tick]:
        """Enqueue what is due now; return the ticks that this call, and no other scheduler, did."""
        return self.enqueue_due(self.look())

    def enqueue_due(self, seen: Look) -> list[Tick]:
        """The same for what `seen` says is due.  A broken entry is set aside; the others go on."""
        waiting = iter(entry for entry in seen.due if not self._is_aside(entry[0], seen.now))
        done: list[Tick] = []
        while some := list(islice(waiting, _AT_A_TIME)):
            done += self._enqueue(list(self._ticks(some, seen.now)), seen.now)
        return done

    def enqueue_job(self, job: Job) -> None:
        """Enqueue the entry `job` as it is here, now, whatever its time is."""
        slot, now = self.connection.zscore(keys.ENTRIES, job.id), clock.now()
        if slot is None:
            super().enqueue_job(job)
            return
        job.save()
        self._enqueue(list(self._ticks([(job.id, slot)], now)), now)
        with suppress(NoSuchJobError):  # it may be done and gone already
            job.refresh()

    def declare(self, entry: Entry, now: datetime) -> str:
        """Make the entry what the table says; return "new", "changed" or "same".

        One that was there keeps its next time, unless it is its times that changed.
        """
        fields = [part for pair in entry.fields(now).items() for part in pair]
        coming = entry.timing.next_after(now)
        next_slot = "" if coming is None else coming.timestamp()
        answer: bytes = script(self.connection, "entry_declare")(
            [keys.ENTRIES, keys.job(entry.id)], [entry.id, next_slot, *fields]
        )
        return answer.decode()

    def declared(self) -> set[str]:
        """The ids of the entries that a table made."""
        ids = [raw.decode() for raw in self.connection.zrange(keys.ENTRIES, 0, -1)]
        with self.connection.pipeline(transaction=False) as pipe:
            for entry_id in ids:
                pipe.hexists(keys.job(entry_id), keys.ENTRY_FIELD)
            made = pipe.execute(raise_on_error=False)
        return {entry_id for entry_id, is_ours in zip(ids, made, strict=True) if is_ours is True}

    def withdraw(self, entry_id: str) -> None:
        """Take an entry off the schedule; the jobs that it made stay."""
        with self.connection.pipeline() as pipe:
            pipe.zrem(keys.ENTRIES, entry_id)
            pipe.delete(keys.job(entry_id))
            pipe.execute()

    def heartbeat(self) -> None:
        """Tell, under rq-scheduler's key, that this scheduler lives; it need not be told often."""
        if clock.monotonic() < self._next_beat:
            return
        self._next_beat = clock.monotonic() + _BEAT_EVERY_S
        with self.connection.pipeline() as pipe:
            pipe.hset(self.key, "birth", self._born.timestamp())
            pipe.expire(self.key, int(self._interval) + 10)
            pipe.execute()

    def _ticks(self, due: Sequence[tuple[str, float]], now: datetime) -> Iterator[Tick]:
        with self.connection.pipeline(transaction=False) as pipe:
            for entry_id, _ in due:
                pipe.hgetall(keys.job(entry_id))
            hashes: list[RawHash | RedisError] = pipe.execute(raise_on_error=False)
        for (entry_id, slot), raw in zip(due, hashes, strict=True):
            try:
                if isinstance(raw, RedisError):
                    raise raw
                if raw.get(b"dependency_ids"):
                    super().enqueue_job(self.job_class.fetch(entry_id, self.connection))
                elif raw:
                    yield tick(entry_id, slot, raw, now)
                else:
                    self._forget(entry_id)
            except Exception as error:  # noqa: BLE001 - whatever is in a hash, the others go on
                self._set_aside(entry_id, error, now)

    def _enqueue(self, ticks: Sequence[Tick], now: datetime) -> list[Tick]:
        step = script(self.connection, "entry_tick")
        with self.connection.pipeline(transaction=False) as pipe:
            for due in ticks:
                step(*_keys_and_args(due), client=pipe)
            answers = pipe.execute(raise_on_error=False)
        done = []
        for due, answer in zip(ticks, answers, strict=True):
            if isinstance(answer, RedisConnectionError | ReadOnlyError):
                raise answer
            if isinstance(answer, Exception):
                self._set_aside(due.entry_id, answer, now)
            elif answer == 1:
                done.append(due)
        return done

    def _forget(self, entry_id: str) -> None:
        self.connection.zrem(keys.ENTRIES, entry_id)
        log.event("entry.gone", logging.WARNING, entry=entry_id, reason="its job was deleted")

    def _set_aside(self, entry_id: str, error: Exception, now: datetime) -> None:
        reason = f"{type(error).__name__}: {error}"
        if self._aside.get(entry_id, ("",))[0] != reason:
            log.event("entry.broken", logging.ERROR, entry=entry_id, reason=reason)
        self._aside[entry_id] = (reason, now + _ASIDE)

    def _is_aside(self, entry_id: str, now: datetime) -> bool:
        return entry_id in self._aside and now < self._aside[entry_id][1]


def _keys_and_args(due: Tick) -> tuple[list[str], list[Any]]:
    hashes = [keys.job(due.entry_id), keys.job(due.job_id)]
    fields = [part for pair in due.fields.items() for part in pair]
    next_slot = "" if due.next_slot is None else due.next_slot
    push = "LPUSH" if due.at_front else "RPUSH"
    ttl_s = "" if due.ttl_s is None else due.ttl_s
    return (
        [keys.ENTRIES, *hashes, keys.queue(due.queue), keys.QUEUES],
        [due.entry_id, due.slot, next_slot, due.job_id, push, ttl_s, *fields],
    )
