"""What can be done with a job that was enqueued: cancel it, retry it, stop it.

Each is one step in Redis, which is done or refused; of the job only its state is read.
"""

import json

import rq.job
from redis import Redis
from rq.command import PUBSUB_CHANNEL_TEMPLATE

from jiffy import keys, redis_io
from jiffy.errors import NotThisState, UnknownJob, WorkerDeaf
from jiffy.producer.enqueue import Queue

AnyJob = rq.job.Job | str

_WAITS = ("queued", "scheduled", "deferred", "ready_to_enqueue", "rate_limited")
# By action and the job's status what to do instead; the last is for all other statuses.
_REMEDIES = {
    "cancel": {
        "queued": "A worker is just claiming it: look again, then stop it.",
        "started": "Stop it instead.",
        "": "Only a job that has not started can be canceled.",
    },
    "retry": {
        "canceled": "It needs what another part returns: retry that part, and it follows.",
        "": "Only a job that failed, or was stopped or canceled, can be retried.",
    },
    "stop": {
        **dict.fromkeys(_WAITS, "Cancel it instead."),
        "": "Only a job that has started can be stopped.",
    },
}


def cancel(job: AnyJob) -> None:
    """Take a job that has not started off its queue: it is canceled, and will not run.

    Jobs that depend on it go on waiting.  Mirrors rq.job.Job.cancel, but never cancels what runs.
    Raises UnknownJob; NotThisState if it has started or ended.
    """
    redis, job_id = _find(job)
    _check("cancel", job_id, *redis_io.run_script(redis, "cancel", [keys.job(job_id)], [job_id]))


def retry(job: AnyJob) -> None:
    """Put a job that failed, was stopped or canceled at the end of its queue.

    One that still depends on others waits for them.  Mirrors rq.job.Job.requeue, which only knows
    failed ones.  Raises UnknownJob; NotThisState if it waits, runs or has finished.
    """
    redis, job_id = _find(job)
    args = [job_id, Queue.DEFAULT_TIMEOUT]
    _check("retry", job_id, *redis_io.run_script(redis, "retry", [keys.job(job_id)], args))


def stop(job: AnyJob) -> None:
    """Let the worker that runs a job stop it, which takes a moment; it is not retried.

    Mirrors rq.command.send_stop_job_command.  Raises UnknownJob; NotThisState if it does not run;
    WorkerDeaf if its worker does not listen.
    """
    redis, job_id = _find(job)
    command = json.dumps({"command": "stop-job", "job_id": job_id})
    args = [PUBSUB_CHANNEL_TEMPLATE % "", command]
    status, worker, heard = redis_io.run_script(redis, "stop", [keys.job(job_id)], args)
    _check("stop", job_id, status, heard >= 0)
    if not heard:
        raise WorkerDeaf(worker.decode("utf-8", "replace"), job_id)


def _find(job: AnyJob) -> tuple[Redis, str]:
    return (redis_io.shared(), job) if isinstance(job, str) else (job.connection, job.id)


def _check(action: str, job_id: str, raw_status: bytes, is_done: object) -> None:
    status = raw_status.decode("utf-8", "replace")
    if is_done:
        return
    if not status:
        raise UnknownJob(job_id)
    remedies = _REMEDIES[action]
    raise NotThisState(job_id, status, remedies.get(status, remedies[""]))
