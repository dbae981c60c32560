"""What Redis holds, read to be shown: queues, workers, and all jobs that ended; jobs (`jobs.py`).

Jobs and users' programs may import this one.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any, Literal, NamedTuple

from redis import Redis
from redis.exceptions import RedisError

from jiffy import clock, keys, redis_io
from jiffy.control import values
from jiffy.control.jobs import APART as APART
from jiffy.control.jobs import STATES as STATES
from jiffy.control.jobs import JobView as JobView
from jiffy.control.jobs import family as family
from jiffy.control.jobs import job as job
from jiffy.control.jobs import jobs as jobs
from jiffy.control.jobs import known_job as known_job
from jiffy.control.jobs import members as members
from jiffy.control.jobs import page as page
from jiffy.control.jobs import states_of as states_of
from jiffy.control.values import Fields, clip, due, lasted_s, line, number, text
from jiffy.redis_io import Memory, source

_MOST_COUNTED = 2000  # queues and workers of a census
_MOST_NEXT, _MOST_BESIDE = 10, 100  # jobs and workers of a queue
_CHUNK = 250  # jobs of many that are in memory at a time
_LATE_S = 120  # stock RQ's workers write a heartbeat every 90 s while they run a job
WORKER_FIELDS = (
    "state", ":executions", "current_job", "queues", "hostname", "pid", "birth", "last_heartbeat",
    "successful_job_count", "failed_job_count", "total_working_time", "version",
    keys.RELEASE_FIELD, keys.DYNO_FIELD, keys.MEMORY_FIELD, keys.QUIET_FIELD,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class QueueCount:
    """A queue, how many of its jobs are in each state, and the workers that serve it."""

    name: str
    counts: Mapping[str, int]
    is_unreadable: bool  # one of its keys holds another type, or its name is not UTF-8
    waits_since: datetime | None  # when the oldest waiting job was enqueued
    workers: int  # that are alive and listen to it
    busy: int  # of these

    @property
    def is_heard(self) -> bool:
        return self.workers > 0

    @property
    def waited_s(self) -> float:
        """Of its oldest waiting job; 0 where there is none."""
        return lasted_s(self.waits_since, clock.now()) or 0.0


@dataclass(frozen=True, kw_only=True)
class Census:
    """All queues, how many workers are alive, and whether a scheduler is."""

    queues: tuple[QueueCount, ...]
    workers: int
    states: Mapping[str, int]  # of workers -> how many are in it
    releases: Mapping[str, int]  # of our workers -> how many workers run it
    memory: Memory
    paused: Mapping[bytes, bytes]  # as it is stored; see `pauses.in_force`
    ignored: Mapping[bytes, bytes]  # groups of failures; see `failures.ignore`
    # A scheduler that has died is away within some 4 s.  "none": it would have nothing to do.
    scheduler: Literal["ok", "away", "none"]
    entries: int  # of the schedule, that are to run
    next_run: datetime | None  # when the first of them does
    is_suspended: bool
    apart: tuple[tuple[str, str, int], ...]  # state, key and size of lists that are no queue's
    queues_left_out: int
    workers_left_out: int
    taken: datetime  # on Redis' clock
    problems: tuple[str, ...]  # keys that could not be read, each with the reason

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many jobs are in each state, over all queues; those of paused functions wait."""
        found = {state: sum(queue.counts[state] for queue in self.queues) for state in STATES}
        found["queued"] += sum(size for state, _, size in self.apart if state == "queued")
        return found

    @property
    def left_out(self) -> list[str]:
        """What is not counted, in words."""
        more = {"queues": self.queues_left_out, "workers": self.workers_left_out}
        return [f"{count:,} more {what}" for what, count in more.items() if count > 0]

    @property
    def waits_since(self) -> datetime | None:
        """When the oldest waiting job of all queues was enqueued."""
        return min(filter(None, (queue.waits_since for queue in self.queues)), default=None)


def census(redis: Redis) -> Census:
    """What the frame of every page shows, and what lists of queues and jobs begin with.

    One round trip, of a few ms of Redis' time for 300 queues.
    """
    named = [
        keys.QUEUES, keys.WORKERS, keys.ENTRIES, keys.PAUSED, keys.IGNORED, keys.LEADER,
        keys.SUSPENDED,
    ]  # fmt: skip
    with redis.pipeline(transaction=False) as pipe:
        # Not by its hash: a pipeline cannot load a script that Redis has forgotten.
        pipe.eval(source("census"), len(named), *named, _MOST_COUNTED, *keys.REGISTRIES.values())
        redis_io.ask_memory(pipe)
        found, *server = pipe.execute(raise_on_error=False)
    if isinstance(found, RedisError):
        raise found
    odd, time, named_queues, named_workers, alive, kinds, rows, apart, *rest = found
    entries, first, is_led, is_suspended, paused, ignored = rest
    heard, busy, states, releases = _workers_by(kinds)
    return Census(
        queues=tuple(sorted((_counted(row, heard, busy) for row in rows), key=lambda q: q.name)),
        workers=alive,
        states=states,
        releases=releases,
        paused=dict(zip(paused[::2], paused[1::2], strict=True)),
        ignored=dict(zip(ignored[::2], ignored[1::2], strict=True)),
        memory=Memory.of(server),
        scheduler="ok" if is_led else "away" if entries else "none",
        entries=entries,
        next_run=due(float(first)) if first else None,
        is_suspended=bool(is_suspended),
        apart=tuple(
            (text(state), key.decode("utf-8", "surrogateescape"), size)
            for state, key, size in apart
        ),
        queues_left_out=named_queues - len(rows),
        workers_left_out=max(0, named_workers - _MOST_COUNTED),
        taken=clock.from_wall(int(time)) if time else clock.now(),
        problems=tuple(f"{text(key)} does not hold a {text(kind)}"
                       for key, kind in odd),
    )  # fmt: skip


def _workers_by(kinds: Iterable[tuple[bytes, int]]) -> tuple[Counter[str], ...]:
    """How many workers listen to each queue, of these how many are busy, are in each state, and
    run each release.
    """
    heard, busy, states, releases = (Counter[str]() for _ in range(4))
    for kind, count in kinds:
        names, state, release = text(kind).split("\0")
        for name in set(names.split(",")):
            heard[name] += count
            busy[name] += count if state == "busy" else 0
        states[clip(state, values.SHORT)] += count
        releases[clip(release, values.SHORT)] += count
    del releases[""]
    return heard, busy, states, releases


def _counted(row: Sequence[Any], heard: Counter[str], busy: Counter[str]) -> QueueCount:
    key, waiting, since, *registries = row
    name = text(key).removeprefix(keys.queue(""))
    counts = dict(zip(STATES, (waiting, *registries), strict=True))
    return QueueCount(
        name=clip(name, values.SHORT),
        counts={state: found or 0 for state, found in counts.items()},
        is_unreadable=None in counts.values() or "\ufffd" in name,
        waits_since=Fields({"enqueued_at": since})("enqueued_at", values.moment, None),
        workers=heard[name],
        busy=busy[name],
    )


@dataclass(frozen=True, kw_only=True)
class WorkerView:
    """A worker as its last heartbeat left it."""

    name: str
    state: str
    queues: tuple[str, ...]
    place: str
    job_id: str
    born: datetime | None
    seen: datetime | None
    done: int
    failed: int
    worked_s: float
    version: str  # of RQ
    # Only our workers write these
    release: str
    dyno: str
    memory_bytes: int
    is_quiet: bool  # it starts no jobs until it is resumed
    is_ours: bool
    problems: tuple[str, ...]

    @property
    def is_busy(self) -> bool:
        return self.state == "busy"

    @property
    def is_late(self) -> bool:
        """Whether its heartbeat is overdue: it has died, or cannot reach Redis."""
        return self.seen is None or (clock.now() - self.seen).total_seconds() > _LATE_S

    @property
    def share(self) -> float | None:
        """How much of its life it has worked."""
        lived_s = lasted_s(self.born, clock.now())
        return min(1.0, self.worked_s / lived_s) if lived_s else None


class Fleet(NamedTuple):
    """Workers that are alive, busy ones first, what they run, and what they run next."""

    workers: Sequence[WorkerView]
    jobs: Mapping[str, JobView]  # by id
    left_out: int
    next: Sequence[JobView] = ()  # of one queue
    is_unreadable: bool = False  # a key of that queue holds another type


def fleet(redis: Redis, most: int, first: int = 0) -> Fleet:
    """So many workers and their current jobs, in three round trips."""
    return _fleet(redis, sorted(values.answer(redis.smembers, keys.WORKERS) or ())[first:], most)


def inside(redis: Redis, queue: str) -> Fleet:
    """Of one queue, in three round trips."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.smembers(keys.workers_of(queue))
        pipe.lrange(keys.queue(queue), 0, _MOST_NEXT - 1)
        members, front = values.answers(pipe)
    ids = [text(job_id) for job_id in front or ()]
    found = _fleet(redis, sorted(members or ()), _MOST_BESIDE, ids)
    following = [found.jobs[job_id] for job_id in ids if job_id in found.jobs]
    return found._replace(next=following, is_unreadable=members is None or front is None)


def _fleet(redis: Redis, named: Sequence[bytes], most: int, others: Sequence[str] = ()) -> Fleet:
    """Those of the workers that are alive; its jobs are those that they run, and `others`."""
    hashes = values.peek(redis, named[:most], WORKER_FIELDS, values.MOST_BYTES_IN_LIST)
    workers = [_worker(line(key), raw) for key, raw in zip(named, hashes, strict=False) if raw]
    workers.sort(key=lambda one: (not one.is_busy, one.name))
    running = [worker.job_id for worker in workers if worker.job_id]
    known = jobs(redis, list(dict.fromkeys([*running, *others])))
    return Fleet(workers, known, max(0, len(named) - most))


def _worker(key: str, read: Fields) -> WorkerView:
    host, pid = read("hostname", line, ""), read("pid", line, "")
    running = read(":executions", line, "").partition(":")[0]
    return WorkerView(
        name=key.removeprefix(keys.WORKER),
        state=read("state", line, "") or "unknown",
        queues=tuple(name for name in read("queues", text, "").split(",") if name),
        place=f"{host}:{pid}" if pid else host,
        job_id=running or read("current_job", line, ""),  # of a worker of RQ 2, the hash says it
        born=read("birth", values.moment, None),
        seen=read("last_heartbeat", values.moment, None),
        done=read("successful_job_count", number, None) or 0,
        failed=read("failed_job_count", number, None) or 0,
        worked_s=read("total_working_time", values.decimal, 0.0),
        version=read("version", line, ""),
        release=read(keys.RELEASE_FIELD, line, ""),
        dyno=read(keys.DYNO_FIELD, line, ""),
        memory_bytes=read(keys.MEMORY_FIELD, number, None) or 0,
        is_quiet=read(keys.QUIET_FIELD, line, "") == "yes",
        is_ours=read(keys.MEMORY_FIELD, line, "") != "",
        problems=tuple(read.problems),
    )


def queue_names(redis: Redis) -> list[str]:
    queue_keys = values.answer(redis.smembers, keys.QUEUES)
    return sorted(text(key).removeprefix(keys.queue("")) for key in queue_keys or ())


class EndedJobs:
    """Every job that finished or failed and that Redis still has; few in memory at a time.

    A job that ends meanwhile may be missed.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        names = [keys.jobs_in(state, queue) for queue in queue_names(redis)
                 for state in ("finished", "failed")]  # fmt: skip
        with redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(name)
            self._sizes = dict(zip(names, values.answers(pipe), strict=True))

    def __len__(self) -> int:
        return sum(size or 0 for size in self._sizes.values())

    def __iter__(self) -> Iterator[JobView]:
        for name, size in self._sizes.items():
            members = self._redis.zscan_iter(name, count=_CHUNK) if size else iter(())
            while ids := [text(member) for member, _ in islice(members, _CHUNK)]:
                yield from jobs(self._redis, ids).values()
