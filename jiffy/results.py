"""What became of a job: waiting for its end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rq.exceptions import InvalidJobOperation
from rq.job import Job, JobStatus
from rq.results import Result

from jiffy import clock, job_progress, keys

OVER = {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED}
_LOOK_EVERY_MS = 250


@dataclass(frozen=True)
class Ending:
    """How a job ended: its status, what it returned, or the traceback of what it raised."""

    status: JobStatus
    value: Any = None
    traceback: str = ""


def wait(
    job: Job,
    timeout_s: float | None = None,
    on_progress: Callable[[job_progress.State], None] = lambda _: None,
) -> Ending | None:
    """Block until `job` is over and return its ending; None after `timeout_s`.

    It hears of the end at once, through the stream that RQ writes results to; `on_progress` is
    called with what the job says of itself meanwhile.
    """
    deadline = None if timeout_s is None else clock.monotonic() + timeout_s
    seen = "0-0"
    while deadline is None or clock.monotonic() < deadline:
        ending = _ending(job)
        if ending is not None:
            return ending
        state = job_progress.read(job)
        if state is not None:
            on_progress(state)
        answer: Any = job.connection.xread({keys.results(job.id): seen}, block=_LOOK_EVERY_MS)
        for _, entries in answer:
            seen = entries[-1][0]
    return None


def _ending(job: Job) -> Ending | None:
    try:
        status = job.get_status()
    except InvalidJobOperation:  # gone already: its result was not to be kept
        return Ending(JobStatus.FINISHED)
    if status not in OVER:
        return None
    result = Result.fetch_latest(job, serializer=job.serializer)
    if result is None:
        return Ending(status)
    return Ending(status, result.return_value, result.exc_string or "")
