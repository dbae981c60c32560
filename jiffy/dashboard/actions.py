"""What a person can do with jobs, one or many."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from rq.exceptions import InvalidJobOperation

from jiffy import keys, read, redis_io
from jiffy.dashboard import rq
from jiffy.errors import JiffyError, NotThisState, UnknownJob
from jiffy.producer import job as jobs


def delete(job_id: str) -> None:
    """Delete a job that does not run, with its result.

    Raises UnknownJob; NotThisState if it runs, or cannot be read.
    """
    redis = redis_io.shared()
    job = rq.JobToDelete(job_id, redis)
    raw: Any = redis.hget(job.key, "status")
    if raw is None:
        raise UnknownJob(job_id)
    status = read.line(raw)
    if redis.zscore(keys.ENTRIES, job_id) is not None:
        raise NotThisState(job_id, "an entry of the schedule", "Remove it from SCHEDULE.")
    if status == "started":
        raise NotThisState(job_id, "started", "Stop it first.")
    try:
        job.delete()
    except InvalidJobOperation:
        raise NotThisState(job_id, status, "It is unreadable.") from None


class Action(NamedTuple):
    """`states` are those of the jobs that it can be done with."""

    do: Callable[[str], None]
    states: tuple[str, ...]
    done: str


ACTIONS = {
    "retry": Action(jobs.retry, ("failed", "stopped", "canceled"), "Retried"),
    "cancel": Action(jobs.cancel, ("queued", "scheduled", "deferred"), "Canceled"),
    "stop": Action(jobs.stop, ("started",), "Asked to stop"),
    "delete": Action(delete, ("finished", "failed", "stopped", "canceled", "queued", "scheduled",
                              "deferred"), "Deleted"),
}  # fmt: skip


class Outcome(NamedTuple):
    """`done` jobs of those asked for; `refused` says why not, for the first of the others."""

    done: int
    others: int
    refused: str


def act(name: str, job_ids: Iterable[str]) -> Outcome:
    """Do it with each job; one that does not allow it is left as it is."""
    done, refused = 0, []
    for job_id in job_ids:
        try:
            ACTIONS[name].do(job_id)
            done += 1
        except JiffyError as error:
            refused.append(str(error))
    return Outcome(done, len(refused), refused[0] if refused else "")
