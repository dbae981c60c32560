"""What the first page shows, in five round trips however many jobs there are.

Counting and looking at the ends of lists costs the same for ten jobs as for ten million; only the
number of queues and workers counts, and both are cut off at a hundred.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from redis import Redis
from redis.client import Pipeline

from jiffy import keys
from jiffy.dashboard import data, decode
from jiffy.dashboard.data import JobView, WorkerView

STATES = ("queued", *keys.REGISTRIES)
MOST_QUEUES = MOST_WORKERS = 100
RECENT = 25
# What runs stands on top, but must not push everything else off the page.
_MOST_RUNNING = 10
# How many of each state are looked at to find the most recent ones.
_LOOK_AT = {"scheduled": 5, "deferred": 5, "canceled": 5}


# state -> (score, job id) of jobs
_Found = dict[str, list[tuple[float, str]]]


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
    are_workers_left_out: bool

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state, over all queues."""
        return {state: sum(queue.counts[state] for queue in self.queues) for state in STATES}

    @property
    def unheard(self) -> list[str]:
        """The queues with jobs that wait and no worker that listens; none if that is not known."""
        if not self.workers or self.are_workers_left_out:
            return []
        heard = {name for worker in self.workers for name in worker.queues}
        waiting = (queue.name for queue in self.queues if queue.counts["queued"])
        return [name for name in waiting if name not in heard]

    @property
    def busy(self) -> int:
        return sum(worker.state == "busy" for worker in self.workers)


def read(redis: Redis) -> Overview:
    """Look at everything.  Nothing is written, nor cleaned up on the way."""
    names, worker_keys, is_suspended = _read_names(redis)
    queues, found = _read_queues(redis, names[:MOST_QUEUES])
    workers = data.read_workers(redis, worker_keys[:MOST_WORKERS])
    recent = _youngest(found)
    at_work = [worker.job_id for worker in workers if worker.job_id]
    jobs = data.read_jobs(redis, list(dict.fromkeys([*recent, *at_work])))
    for score, job_id in found["scheduled"]:
        if job_id in jobs:
            jobs[job_id] = replace(jobs[job_id], due=decode.due(score))
    shown = _most_recent(jobs[job_id] for job_id in recent if job_id in jobs)
    return Overview(
        queues=queues,
        workers=sorted(workers, key=lambda worker: (worker.state != "busy", worker.name)),
        jobs=_with_errors(redis, shown),
        current=jobs,
        is_suspended=is_suspended,
        left_out=_left_out(queues=len(names), workers=len(worker_keys)),
        are_workers_left_out=len(worker_keys) > MOST_WORKERS,
    )


def _read_names(redis: Redis) -> tuple[list[str], list[str], bool]:
    """The queues' names, the workers' keys, and whether all are told to pause."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.smembers(keys.QUEUES)
        pipe.smembers(keys.WORKERS)
        pipe.exists(keys.SUSPENDED)
        queue_keys, worker_keys, is_suspended = pipe.execute()
    names = sorted(decode.text(key).removeprefix(keys.queue("")) for key in queue_keys)
    return names, sorted(map(decode.text, worker_keys)), bool(is_suspended)


def _read_queues(redis: Redis, names: list[str]) -> tuple[list[QueueView], _Found]:
    """The queues' counts, and the ids of the jobs at the young end of their lists."""
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            _ask(pipe, name)
        answers = iter(pipe.execute(raise_on_error=False))
    queues = []
    found: _Found = {state: [] for state in STATES}
    for name in names:
        counts = {}
        for state in STATES:
            counts[state] = _count(next(answers))
            found[state] += _ids(next(answers))
        queues.append(QueueView(name, counts))
    return queues, found


def _ask(pipe: Pipeline, queue: str) -> None:
    pipe.llen(keys.queue(queue))
    pipe.lrange(keys.queue(queue), -RECENT, -1)
    for state, prefix in keys.REGISTRIES.items():
        pipe.zcard(prefix + queue)
        last = _LOOK_AT.get(state, RECENT) - 1
        pipe.zrange(prefix + queue, 0, last, desc=state != "scheduled", withscores=True)


def _count(answer: Any) -> int:
    return answer if isinstance(answer, int) else 0  # an error: its key is of another type


def _ids(answer: Any) -> Iterable[tuple[float, str]]:
    """(score, job id) of a registry's members; a list's have their place as a score."""
    if not isinstance(answer, list):
        return
    for place, member in enumerate(answer):
        entry, score = member if isinstance(member, (tuple, list)) else (member, float(place))
        yield score, decode.text(entry).partition(":")[0]  # started: "job id:execution id"


def _youngest(found: _Found) -> list[str]:
    """The ids worth looking at, each once: the first of each state, over all queues."""
    ids: dict[str, None] = {}
    for state, entries in found.items():
        entries.sort(reverse=state != "scheduled")
        ids.update((job_id, None) for _, job_id in entries[: _LOOK_AT.get(state, RECENT)])
    return list(ids)


def _most_recent(jobs: Iterable[JobView]) -> list[JobView]:
    never = datetime.min.replace(tzinfo=UTC)
    by_age = sorted(jobs, key=lambda job: job.latest or never, reverse=True)
    running = [job for job in by_age if job.is_running][:_MOST_RUNNING]
    others = [job for job in by_age if not job.is_running]
    return (running + others)[:RECENT]


def _with_errors(redis: Redis, jobs: list[JobView]) -> list[JobView]:
    """With the tracebacks of those that failed; of the others, the hash has told."""
    failed = [job.id for job in jobs if job.state in data.HAS_ERROR]
    errors = data.read_errors(redis, failed)
    return [replace(job, error=errors.get(job.id, job.error)) for job in jobs]


def _left_out(queues: int, workers: int) -> tuple[str, ...]:
    more = {"queues": queues - MOST_QUEUES, "workers": workers - MOST_WORKERS}
    return tuple(f"{count} more {what}" for what, count in more.items() if count > 0)
