"""Every name of RQ's, rq-scheduler's and rq-dashboard's that is not public and that we use.

One place to look when one of them changes; each has a test that says what is missing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, TracebackType
from typing import Any

import rq.webhook
from rq.callbacks import (
    execute_failure_callback,
    execute_stopped_callback,
    execute_success_callback,
)
from rq.defaults import UNSERIALIZABLE_RETURN_VALUE_PAYLOAD as UNSERIALIZABLE
from rq.executions import Execution
from rq.job import Job, JobStatus, _current_job
from rq.queue import Queue
from rq.timeouts import BaseDeathPenalty

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

CURRENT_JOB = _current_job
call_on_success = execute_success_callback
call_on_failure = execute_failure_callback
call_on_stopped = execute_stopped_callback

__all__ = [
    "CURRENT_JOB",
    "UNSERIALIZABLE",
    "ExcInfo",
    "NoPenalty",
    "call_on_failure",
    "call_on_stopped",
    "call_on_success",
    "has_own_prefix",
    "is_replaced",
    "mark_failed",
    "mark_finished",
    "perform_wrapped",
    "webhooks_opened_by",
]


def is_replaced(kind: type, method: str) -> bool:
    """Whether a subclass or an integration has put something in the place of RQ's method.

    Told by where its code is from: wrappers take over the name and the module of what they wrap.
    """
    found = getattr(kind, method)
    is_plain = type(found) is FunctionType
    return not (is_plain and found.__globals__["__name__"].startswith("rq."))


def has_own_prefix(kind: type[Job] | type[Queue]) -> bool:
    """Whether a class of jobs or queues gives its keys in Redis a prefix of its own."""
    prefixes = {Job: "redis_job_namespace_prefix", Queue: "redis_queue_namespace_prefix"}
    return any(
        issubclass(kind, base) and getattr(kind, name) != getattr(base, name)
        for base, name in prefixes.items()
    )


@contextmanager
def webhooks_opened_by(urlopen: Callable[..., Any]) -> Iterator[None]:
    """Have RQ's webhooks sent by this function in the place of urllib's, within the context."""
    before, rq.webhook.urlopen = rq.webhook.urlopen, urlopen  # type: ignore[attr-defined]
    try:
        yield
    finally:
        rq.webhook.urlopen = before  # type: ignore[attr-defined]


def mark_finished(job: Job, value: Any) -> None:
    """Let callbacks see a job as they do in RQ: it has finished, though Redis does not say so."""
    job._result, job._status = value, JobStatus.FINISHED


def mark_failed(job: Job) -> None:
    """The same for a job that has failed."""
    job._status = JobStatus.FAILED


class NoPenalty(BaseDeathPenalty):
    """No time limit from inside, where a supervisor enforces it: a job would be ended twice."""

    def setup_death_penalty(self) -> None:
        """Set no timer."""

    def cancel_death_penalty(self) -> None:
        """Nothing to cancel."""


def perform_wrapped(
    worker: Any, job: Job, queue_name: str, execution_id: str,
    on_value: Callable[[Any], None], on_error: Callable[[ExcInfo], None],
) -> None:  # fmt: skip
    """Perform a job by RQ's `perform_job`, around which somebody has put something.

    What RQ does before and after, our worker does itself: one of the two functions is called
    instead, inside of `perform_job`.  What `on_value` raises goes to `on_error`.
    """
    queue = next(queue for queue in worker.queues if queue.name == queue_name)
    worker.prepare_job_execution = lambda job, remove_from_intermediate_queue: None
    worker._finalize_success = lambda job, queue, execution, value: on_value(value)
    worker._finalize_failure = lambda job, queue, execution, exc_info: on_error(exc_info)
    execution = Execution(execution_id, job.id, job.connection, worker.name)
    worker.perform_job(job, queue, execution)
