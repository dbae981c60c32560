"""What can be done about a job that was enqueued: cancel it, try it again, stop it.

Each is one step in Redis, which is done or refused; nothing of the job is read but its state.
"""

import json
from typing import Any

import rq.job
from redis import Redis
from rq.command import PUBSUB_CHANNEL_TEMPLATE

from jiffy import connection, keys
from jiffy.errors import NotThisState, UnknownJob, WorkerDeaf
from jiffy.producer.enqueue import Queue
from jiffy.redis_io import script

AnyJob = rq.job.Job | str

_REMEDIES = {
    "cancel": {
        "queued": "A worker is just taking it: look again, then stop it.",
        "started": "Stop it instead.",
    },
    "retry": {"canceled": "It needs what another part returns: retry that part, and it follows."},
    "stop": dict.fromkeys(
        ("queued", "scheduled", "deferred", "ready_to_enqueue", "rate_limited"),
        "Cancel it instead.",
    ),
}
_POSSIBLE = {
    "cancel": "Only what has not begun can be canceled.",
    "retry": "Only what failed, or was stopped or canceled, can be tried again.",
    "stop": "Only what has started can be stopped.",
}


def cancel(job: AnyJob) -> None:
    """Take a job that has not begun off its queue: it is canceled, and will not run.

    Jobs that depend on it wait on.  Mirrors rq.job.Job.cancel, but never cancels what runs.
    Raises UnknownJob; NotThisState if it has begun or is over.
    """
    redis, job_id = _place(job)
    answer = script(redis, "cancel")(keys=[keys.job(job_id)], args=[job_id])
    _check("cancel", job_id, answer)


def retry(job: AnyJob) -> None:
    """Put a job that failed, was stopped or canceled at the end of its queue.

    One that still depends on others waits for them.  Mirrors rq.job.Job.requeue, which only knows
    failed ones.  Raises UnknownJob; NotThisState if it waits, runs or has finished.
    """
    redis, job_id = _place(job)
    arguments: list[str | int] = [job_id, Queue.DEFAULT_TIMEOUT]
    answer = script(redis, "retry")(keys=[keys.job(job_id)], args=arguments)
    _check("retry", job_id, answer)


def stop(job: AnyJob) -> None:
    """Tell the worker that runs a job to stop it, which takes a moment; it is not tried again.

    Mirrors rq.command.send_stop_job_command.  Raises UnknownJob; NotThisState if it does not run;
    WorkerDeaf if its worker does not listen.
    """
    redis, job_id = _place(job)
    command = json.dumps({"command": "stop-job", "job_id": job_id})
    channel = PUBSUB_CHANNEL_TEMPLATE % ""
    status, worker, heard = script(redis, "stop")(keys=[keys.job(job_id)], args=[channel, command])
    _check("stop", job_id, (status, heard >= 0))
    if not heard:
        raise WorkerDeaf(worker.decode("utf-8", "replace"), job_id)


def _place(job: AnyJob) -> tuple[Redis, str]:
    """Where the job is, and its id."""
    if isinstance(job, str):
        return connection.shared(), job
    return job.connection, job.id


def _check(action: str, job_id: str, answer: Any) -> None:
    raw, is_done = answer
    if is_done:
        return
    status = raw.decode("utf-8", "replace")
    if not status:
        raise UnknownJob(job_id)
    raise NotThisState(job_id, status, _REMEDIES[action].get(status, _POSSIBLE[action]))
