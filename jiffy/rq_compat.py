"""Every name of RQ's and rq-dashboard's that is not public and that we use.

One place to look when one of them changes; tests/unit/test_rq_compat.py says in one line which one
is missing.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FunctionType, MethodType
from typing import Any

import rq.callbacks
import rq.defaults
import rq.job
import rq.webhook
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.timeouts import BaseDeathPenalty
from rq.worker import BaseWorker, DequeueStrategy

CURRENT_JOB = rq.job._current_job
UNSERIALIZABLE = rq.defaults.UNSERIALIZABLE_RETURN_VALUE_PAYLOAD
call_on_success = rq.callbacks.execute_success_callback
call_on_failure = rq.callbacks.execute_failure_callback
call_on_stopped = rq.callbacks.execute_stopped_callback


def is_replaced(owner: object, method: str) -> bool:
    """Whether a subclass or an integration has replaced RQ's method, by the module of its code."""
    found = getattr(owner, method)
    if type(found) is MethodType:
        found = found.__func__
    is_plain = type(found) is FunctionType
    return not (is_plain and found.__globals__["__name__"].startswith("rq."))


@contextmanager
def webhooks_opened_by(urlopen: Callable[..., Any]) -> Iterator[None]:
    """Let RQ send its webhooks with this function instead of urllib's, within the context."""
    before, rq.webhook.urlopen = rq.webhook.urlopen, urlopen  # type: ignore[attr-defined]
    try:
        yield
    finally:
        rq.webhook.urlopen = before  # type: ignore[attr-defined]


# rq.job


class HookedJob(Job):
    """RQ's job, which calls `after_function` inside whatever wraps its `perform`."""

    def after_function(self, pid: int) -> None:
        """The function has returned or raised; it began in the process `pid`."""

    def _execute(self) -> Any:
        pid = os.getpid()
        try:
            return super()._execute()
        finally:
            self.after_function(pid)


def meta_of(job: Job) -> bytes:
    """The meta of a job as it is stored; what could not be read is as it was."""
    return job._serialize_meta()


def mark_finished(job: Job, value: Any) -> None:
    """Let callbacks see a job as in RQ: it has finished, though Redis does not say so yet."""
    job._result, job._status = value, JobStatus.FINISHED


def mark_failed(job: Job) -> None:
    """Let callbacks see a job that has failed, as `mark_finished` does."""
    job._status = JobStatus.FAILED


# rq.queue


def enqueue_wrapped(queue: Any, job: Job, write: Callable[[Any], None], *, at_front: bool) -> None:
    """Enqueue through RQ's `enqueue_job`, wrapped by an integration; `write` is what it does."""

    def write_job(job: Job, **_: Any) -> Job:
        write(job)
        return job

    queue.setup_dependencies = lambda job, pipeline=None: job
    queue._enqueue_async_job = queue._enqueue_rate_limited_job = write_job
    # RQ takes no job with a rate limit along with a pipeline, which keeps it from writing more.
    pipeline = None if job.has_rate_limit else job.connection.pipeline()
    queue.enqueue_job(job, pipeline=pipeline, at_front=at_front)


# rq.worker


class NoPenalty(BaseDeathPenalty):
    """No timer in the child: its supervisor enforces the limit, and a job would be ended twice."""

    def setup_death_penalty(self) -> None: ...

    def cancel_death_penalty(self) -> None: ...


def handles_exceptions(worker: BaseWorker) -> bool:
    """Whether its `handle_exception` does more than to log."""
    return bool(worker._exc_handlers) or is_replaced(worker, "handle_exception")


def order_queues(worker: BaseWorker, strategy: DequeueStrategy | None) -> None:
    """Let a worker begin with its queues as given, and go on by `strategy`."""
    worker._ordered_queues = worker.queues[:]
    worker._dequeue_strategy = strategy


def serves_in_order(worker: BaseWorker) -> bool:
    """Whether the first of its queues that has a job is always the next one."""
    return worker._dequeue_strategy in (None, DequeueStrategy.DEFAULT)


def queues_after(worker: BaseWorker, taken_from: str) -> list[str]:
    """The names of the queues in the order in which to look after a job of one of them."""
    for queue in worker._ordered_queues:
        if queue.name == taken_from:
            worker.reorder_queues(queue)
            break
    return [queue.name for queue in worker._ordered_queues]


def start_scheduler(worker: BaseWorker, burst: bool, logging_level: Any) -> None:
    """Start RQ's own scheduler in a process beside the worker; in burst mode, let it work once."""
    worker._start_scheduler(burst, logging_level)


def mark_stopping(worker: BaseWorker, at: datetime) -> None:
    """Leave the marks that RQ's busy worker leaves when it is asked to stop."""
    worker._stop_requested, worker._shutdown_requested_date = True, at
    worker.set_shutdown_requested_date()


def perform_wrapped(
    worker: Any, job: Job, queue_name: str, execution_id: str,
    on_error: Callable[[BaseException], None],
) -> None:  # fmt: skip
    """Perform a job through RQ's `perform_job`, which an integration has wrapped.

    `on_error` is called inside it with what that raises; what RQ does after a job is left out.
    """
    queue = next(queue for queue in worker.queues if queue.name == queue_name)
    worker.prepare_job_execution = lambda job, remove_from_intermediate_queue: None
    worker._finalize_success = lambda job, queue, execution, value: None
    worker._finalize_failure = lambda job, queue, execution, exc_info: on_error(exc_info[1])
    execution = Execution(execution_id, job.id, job.connection, worker.name)
    worker.perform_job(job, queue, execution)


# rq_dashboard.web, which only the web app imports


def replace_in_dashboard(serializer: Any, **ours: Any) -> None:
    """Let rq-dashboard read with this serializer, and replace these names of its module."""
    from rq_dashboard import web

    for name, value in ours.items():
        getattr(web, name)
        setattr(web, name, value)
    web.config.serializer = serializer
