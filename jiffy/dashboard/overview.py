"""What the first page shows, in four round trips however many jobs there are.

Counting and looking at the ends of lists costs the same for ten jobs as for ten million; only the
number of queues and workers counts, and both are cut off at a hundred.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis import Redis

from jiffy import clock, keys
from jiffy.dashboard import data
from jiffy.dashboard.data import JobView, WorkerView

STATES = ("queued", *keys.REGISTRIES)
MOST_QUEUES = MOST_WORKERS = 100
RECENT = 25
# What runs stands on top, but must not push everything else off the page.
_MOST_RUNNING = 10
# How many of each state are looked at to find the most recent ones.
_LOOK_AT = {"scheduled": 5, "deferred": 5, "canceled": 5}


@dataclass(frozen=True)
class QueueView:
    """A queue and how many of its jobs are in each state."""

    name: str
    counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Overview:
    queues: list[QueueView]
    workers: list[WorkerView]
    jobs: list[JobView]
    current: Mapping[str, JobView]  # by id: what the workers are at
    is_suspended: bool
    left_out: tuple[str, ...]  # "3 more queues", where there are too many

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state, over all queues."""
        return {state: sum(queue.counts[state] for queue in self.queues) for state in STATES}

    @property
    def busy(self) -> int:
        return sum(worker.state == "busy" for worker in self.workers)


def read(redis: Redis) -> Overview:
    """Look at everything.  Nothing is written, nor cleaned up on the way."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.smembers(keys.QUEUES)
        pipe.smembers(keys.WORKERS)
        pipe.exists(keys.SUSPENDED)
        queue_keys, worker_keys, is_suspended = pipe.execute()
    names = sorted(_text(key).removeprefix(keys.queue("")) for key in queue_keys)
    worker_names = sorted(map(_text, worker_keys))
    queues, recent = _read_queues(redis, names[:MOST_QUEUES])
    workers = data.read_workers(redis, worker_names[:MOST_WORKERS])
    at_work = [worker.job_id for worker in workers if worker.job_id]
    jobs = data.read_jobs(redis, list(dict.fromkeys([*recent, *at_work])))
    return Overview(
        queues=queues,
        workers=sorted(workers, key=lambda worker: (worker.state != "busy", worker.name)),
        jobs=_most_recent(jobs[job_id] for job_id in recent if job_id in jobs),
        current=jobs,
        is_suspended=bool(is_suspended),
        left_out=_left_out(
            queues=len(names) - MOST_QUEUES, workers=len(worker_names) - MOST_WORKERS
        ),
    )


def _read_queues(redis: Redis, names: list[str]) -> tuple[list[QueueView], list[str]]:
    """The queues' counts, and the ids of the jobs at the young end of their lists."""
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.llen(keys.queue(name))
            pipe.lrange(keys.queue(name), -RECENT, -1)
            for state, prefix in keys.REGISTRIES.items():
                pipe.zcard(prefix + name)
                most = _LOOK_AT.get(state, RECENT)
                pipe.zrange(prefix + name, 0, most - 1, desc=state != "scheduled", withscores=True)
        answers = iter(pipe.execute(raise_on_error=False))
    queues, found = [], {state: list[tuple[float, str]]() for state in STATES}
    for name in names:
        counts = {}
        for state in STATES:
            counts[state] = _count(next(answers))
            found[state] += _ids(next(answers))
        queues.append(QueueView(name, counts))
    return queues, _youngest(found)


def _count(answer: Any) -> int:
    return answer if isinstance(answer, int) else 0  # an error: its key is of another type


def _ids(answer: Any) -> Iterable[tuple[float, str]]:
    """(score, job id) of a registry's members; a list's have their place as a score."""
    if not isinstance(answer, list):
        return
    for place, member in enumerate(answer):
        entry, score = member if isinstance(member, (tuple, list)) else (member, float(place))
        yield score, _text(entry).partition(":")[0]  # started: "job id:execution id"


def _youngest(found: dict[str, list[tuple[float, str]]]) -> list[str]:
    """The ids worth looking at, each once: the first of each state, over all queues."""
    ids: dict[str, None] = {}
    for state, entries in found.items():
        entries.sort(reverse=state != "scheduled")
        ids.update((job_id, None) for _, job_id in entries[: _LOOK_AT.get(state, RECENT)])
    return list(ids)


def _most_recent(jobs: Iterable[JobView]) -> list[JobView]:
    never = datetime.min.replace(tzinfo=clock.UTC)
    by_age = sorted(jobs, key=lambda job: job.latest or never, reverse=True)
    running = [job for job in by_age if job.is_running][:_MOST_RUNNING]
    others = [job for job in by_age if not job.is_running]
    return (running + others)[:RECENT]


def _left_out(**more: int) -> tuple[str, ...]:
    return tuple(f"{count} more {what}" for what, count in more.items() if count > 0)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
