"""Waiting for results, as a caller wants it: the value, or an error that says what went wrong."""

import shlex
from collections.abc import Iterable
from itertools import islice
from typing import Any

from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job, JobStatus

from jiffy import clock, keys, redis_io
from jiffy.errors import JobFailed, StillRunning
from jiffy.producer.results import OVER, Ending, Watch

_AT_A_TIME = 100
# A worker moves on what is scheduled or deferred, too.
_NOT_CLAIMED = {JobStatus.QUEUED, JobStatus.SCHEDULED, JobStatus.DEFERRED}


def wait(job: Job, timeout: clock.Duration | None = None) -> Any:
    """Block until `job` is over; return what it returned: `wait(job, timeout="30s")`.

    Raises JobFailed, with the end of the traceback, if it failed, was stopped, canceled or deleted;
    StillRunning after `timeout`.  A job that keeps no result (result_ttl=0) gives None.
    """
    return wait_all([job], timeout)[0]


def wait_all(jobs: Iterable[Job], timeout: clock.Duration | None = None) -> list[Any]:
    """Block until all `jobs` are over; return what they returned, in order.

    Raises what `wait` does as soon as it sees that one of them failed; the others go on.
    """
    limit_s = None if timeout is None else clock.seconds(timeout, "timeout")
    deadline = None if limit_s is None else clock.monotonic() + limit_s
    coming, values = iter(jobs), list[Any]()
    while some := list(islice(coming, _AT_A_TIME)):
        found: dict[str, Any] = {}
        watch = Watch(some)
        while watch.waiting:
            for job, ending in watch.look(deadline):
                found[job.id] = _value(job, ending)
            if watch.waiting and deadline is not None and clock.monotonic() >= deadline:
                _check_over(watch.waiting[0], limit_s or 0)
        values += [found[job.id] for job in some]
    return values


def obstacle(job: Job) -> str:
    """Why no worker claims `job` as things are, and what to do; "" if one may, or has."""
    redis = job.connection

    def look() -> tuple[bytes | None, int, int]:
        with redis.pipeline(transaction=False) as pipe:
            pipe.hget(keys.job(job.id), "status")
            pipe.exists(keys.SUSPENDED)
            pipe.smembers(keys.workers_of(job.origin))
            status, is_suspended, workers = pipe.execute()
        return status, is_suspended, redis.exists(*workers) if workers else 0

    status, is_suspended, alive = redis_io.patiently(redis, look)
    if status is None or status.decode() not in _NOT_CLAIMED:
        return ""
    if is_suspended:
        return "All workers are suspended: resume them with 'rq resume'."
    if alive:
        return ""
    start = f"python -m jiffy worker {shlex.quote(job.origin)}"
    return f"No worker listens to queue {job.origin!r}: start one with '{start}'."


def _value(job: Job, ending: Ending) -> Any:
    if ending.is_gone and not _keeps_nothing(job):
        raise JobFailed(job.id, "is gone: it was deleted, or its result was kept no longer")
    if ending.status != JobStatus.FINISHED:
        raise JobFailed(job.id, ending.status.value, ending.traceback)
    return ending.value


def _keeps_nothing(job: Job) -> bool:
    try:
        return job.result_ttl == 0
    except NoSuchJobError:  # somebody else's, of which only the id was known
        return False


def _check_over(job: Job, limit_s: float) -> None:
    """Raise StillRunning; but not for a job that has ended since the last look."""
    try:
        status = job.get_status()
    except InvalidJobOperation:  # it is gone
        return
    if status not in OVER:
        raise StillRunning(job.id, status.value, clock.in_words(limit_s), _why_again(job, status))


def _why_again(job: Job, status: JobStatus) -> str:
    """What a job raised that is to be tried again; "" for the others."""
    if status not in (JobStatus.SCHEDULED, JobStatus.QUEUED):
        return ""
    raw: Any = job.connection.hget(job.key, keys.REASON_FIELD)
    return raw.decode("utf-8", "replace").splitlines()[-1] if raw else ""
