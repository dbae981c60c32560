"""A job: RQ's own with JSON inside, a stand-in for it, and what can be done with it.

`jiffy.actions` is this module: cancel, retry, delete and stop are one step in Redis each, which is
done or refused; of the job only its state is read.
"""

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Any, cast

import rq
import rq.job
from redis import Redis
from rq.command import PUBSUB_CHANNEL_TEMPLATE
from rq.exceptions import NoSuchJobError
from rq.serializers import JSONSerializer

from jiffy import keys, redis_io
from jiffy.errors import NotThisState, UnknownJob, WorkerDeaf

AnyJob = rq.job.Job | str

WAITING = ("queued", "scheduled", "deferred", "ready_to_enqueue", "rate_limited")
NOT_ENDED = (*WAITING, "started")
ENDED = ("finished", "failed", "stopped", "canceled")
# By action and the job's status what to do instead; the last is for all other statuses.
_REMEDIES = {
    "cancel": {
        "queued": "A worker is just claiming it: look again, then stop it.",
        "started": "Stop it instead.",
        "scheduled": "Its time has just come, or it is an entry of the schedule: look there.",
        "": "Only a job that has not started can be canceled.",
    },
    "retry": {
        "canceled": "It comes after another part of its workflow: retry that part first.",
        "": "Only a job that failed, or was stopped or canceled, can be retried.",
    },
    "delete": {
        "started": "Stop it first.",
        "": "It is an entry of the schedule: look there.",
    },
    "stop": {
        **dict.fromkeys(WAITING, "Cancel it instead."),
        "": "Only a job that has started can be stopped.",
    },
}
# RQ's statuses, equal to them and to their values, but printed as these values.
_Status = StrEnum("_Status", {status.name: status.value for status in rq.job.JobStatus})  # type: ignore[misc]


class Job(rq.job.Job):
    """RQ's job, with JSON where RQ would take pickle."""

    # Fields of our own in its hash: RQ writes the hash and ignores them.
    own_fields: Mapping[str, Any] = MappingProxyType({})
    is_new = True  # False: with `unique`, the same call was made before, and this is its job

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - RQ's name for it
        connection: Redis | None = None,
        serializer: Any = None,
    ) -> None:
        super().__init__(id, connection, serializer or JSONSerializer)

    def get_status(self, refresh: bool = True) -> rq.job.JobStatus:
        """RQ's, but it is printed as its value: `finished`."""
        return cast(rq.job.JobStatus, _Status(super().get_status(refresh)))

    def to_dict(self, include_meta: bool = True, include_result: bool = True) -> dict[str, Any]:
        return {**super().to_dict(include_meta, include_result), **self.own_fields}


class Queue(rq.Queue):
    """RQ's queue, with JSON where RQ would take pickle."""

    job_class = Job

    def __init__(self, name: str = "default", *, serializer: Any = None, **options: Any) -> None:
        super().__init__(name, serializer=serializer or JSONSerializer, **options)


def find_job(job_id: str) -> rq.job.Job | None:
    """The job with this id, None if there is none (any more); mirrors rq.job.Job.fetch."""
    if not rq.job.JOB_ID_PATTERN.fullmatch(job_id):
        return None
    try:
        return Job.fetch(job_id, redis_io.shared())
    except NoSuchJobError:
        return None


def cancel(job: AnyJob, seen: str = "") -> None:
    """Take a job that has not started off its queue; jobs that depend on it go on waiting.

    Mirrors rq.job.Job.cancel, but never cancels what runs.  Raises UnknownJob, NotThisState; that
    also where it is not in the state in which it was `seen`, if that is given.
    """
    _act("cancel", job, seen)


def retry(job: AnyJob, seen: str = "") -> None:
    """Put a job that failed, was stopped or canceled at the end of its queue.

    One that depends on others waits for them.  Mirrors rq.job.Job.requeue, which only knows failed
    ones; `seen` is as for `cancel`.  Raises UnknownJob, NotThisState.
    """
    _act("retry", job, seen)


def delete(job: AnyJob, seen: str = "") -> None:
    """Delete a job that does not run, with its result; jobs that depend on it go on waiting.

    Mirrors rq.job.Job.delete.  Raises UnknownJob, NotThisState; `seen` is as for `cancel`.
    """
    _act("delete", job, seen)


def stop(job: AnyJob) -> None:
    """Let the worker that runs a job stop it, which takes a moment; it is not retried.

    Mirrors rq.command.send_stop_job_command.  Raises UnknownJob, NotThisState, or WorkerDeaf if its
    worker does not listen.
    """
    job_id, worker, heard = _act("stop", job)
    if not heard:
        raise WorkerDeaf(worker.decode("utf-8", "replace"), job_id)


def _act(action: str, job: AnyJob, seen: str = "") -> Any:
    """Do it in one step; return the job's id, and what else the script returns."""
    redis, job_id = (redis_io.shared(), job) if isinstance(job, str) else (job.connection, job.id)
    command = json.dumps({"command": "stop-job", "job_id": job_id})
    args = [job_id, action, rq.Queue.DEFAULT_TIMEOUT, PUBSUB_CHANNEL_TEMPLATE % "", command, seen]
    raw, is_done, *more = redis_io.run_script(redis, "job_action", [keys.job(job_id)], args)
    status = raw.decode("utf-8", "replace")
    if not status:
        raise UnknownJob(job_id)
    if not is_done:
        remedies = _REMEDIES[action]
        remedy = remedies.get(status, remedies[""])
        changed = "It has changed meanwhile."
        raise NotThisState(job_id, status, remedy if seen in ("", status) else changed)
    return job_id, *more


def made_of(fields: Mapping[str, Any], job_id: str, redis: Redis) -> Job:
    """The job whose hash these fields are, written or not."""
    job = Job(job_id, redis)
    fill(job, fields)
    return job


def fill(job: Job, fields: Mapping[str, Any]) -> None:
    """Give `job` these fields, as if it had been read from Redis."""
    job.restore({name: str(value).encode("utf-8", "replace") for name, value in fields.items()})
    job.own_fields = {name: fields[name] for name in fields if name.startswith("jiffy:")}


def stand_in(
    job_id: str,
    redis: Redis,
    load: Callable[[Any], object],
    *,
    job_class: type[rq.job.Job] = Job,
    serializer: Any = JSONSerializer,
    **known: Any,
) -> Any:
    """A job that knows its id and the attributes `known`; `load` gives it the others."""
    kind = _lazy(job_class)  # type: ignore[arg-type] # mypy: its instances are hashed
    lazy = kind.__new__(kind)
    lazy.__dict__.update(known, _job_id=job_id, connection=redis, serializer=serializer, _load=load)
    return lazy


def real(job: Any) -> rq.job.Job:
    """RQ's job itself, where `job` may be a stand-in.  Raises what loading it raises."""
    return job._become_real() if "_load" in vars(job) else job  # type: ignore[no-any-return]


@cache
def _lazy(job_class: type[rq.job.Job]) -> Any:
    """Its objects become a real `job_class` when more is read of them than they know."""

    class Lazy(job_class):  # type: ignore[misc, valid-type]
        @property
        def id(self) -> str:
            return str(self.__dict__["_job_id"])

        def __getattr__(self, name: str) -> Any:
            # Only called for what is missing: nearly all that RQ's `Job` keeps in its attributes.
            if name.startswith("__"):
                raise AttributeError(name)
            return getattr(self._become_real(), name)

        def __setattr__(self, name: str, value: Any) -> None:
            setattr(self._become_real(), name, value)

        def _become_real(self) -> rq.job.Job:
            before = dict(self.__dict__)
            object.__setattr__(self, "__class__", job_class)
            self.__init__(self._job_id, self.connection, self.serializer)  # type: ignore[misc]
            del self.__dict__["_load"], self.__dict__["_job_id"]
            try:
                before["_load"](self)
            except BaseException:  # Redis is away: it can be tried again
                self.__dict__.clear()
                self.__dict__.update(before)
                object.__setattr__(self, "__class__", Lazy)
                raise
            return self

    Lazy.__name__, Lazy.__qualname__ = job_class.__name__, job_class.__qualname__
    return Lazy
