"""Every name of RQ's, rq-scheduler's and rq-dashboard's that is not public and that we use.

One place to look when one of them changes; each has a test that says what is missing.
"""

from typing import Any

from rq.callbacks import (
    execute_failure_callback,
    execute_stopped_callback,
    execute_success_callback,
)
from rq.defaults import UNSERIALIZABLE_RETURN_VALUE_PAYLOAD as UNSERIALIZABLE
from rq.job import Job, JobStatus, _current_job
from rq.worker import BaseWorker

CURRENT_JOB = _current_job
call_on_success = execute_success_callback
call_on_failure = execute_failure_callback
call_on_stopped = execute_stopped_callback

__all__ = [
    "CURRENT_JOB",
    "UNSERIALIZABLE",
    "call_on_failure",
    "call_on_stopped",
    "call_on_success",
    "is_replaced",
    "mark_failed",
    "mark_finished",
    "perform_wrapped",
]


def is_replaced(worker: BaseWorker, method: str) -> bool:
    """Whether a subclass or an integration has put something in the place of RQ's method."""
    return str(getattr(type(worker), method).__module__) != BaseWorker.__module__


def mark_finished(job: Job, value: Any) -> None:
    """Let callbacks see a job as they do in RQ: it has finished, though Redis does not say so."""
    job._result, job._status = value, JobStatus.FINISHED


def mark_failed(job: Job) -> None:
    """The same for a job that has failed."""
    job._status = JobStatus.FAILED


def perform_wrapped(worker: Any, job: Job, execution_id: str) -> Any:
    """Perform a job through `perform_job`, which an integration has wrapped; return its value.

    RQ's own steps around that do nothing here: our worker claims and finishes.  Raises what the job
    raises.
    """
    ended: list[tuple[Any, Any]] = []
    nothing = lambda *args, **kwargs: None  # noqa: E731
    worker.prepare_job_execution = nothing
    worker._finalize_success = lambda job, queue, execution, value: ended.append((value, None))
    worker._finalize_failure = lambda job, queue, execution, exc_info: ended.append(
        (None, exc_info)
    )
    worker.perform_job(job, worker.queues[0], execution_id)
    value, exc_info = ended[-1]
    if exc_info is not None:
        raise exc_info[1]
    return value
