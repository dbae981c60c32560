"""RQ's job with JSON inside, found by its id; and a stand-in that costs nearly nothing."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, cast

import rq.job
from redis import Redis
from rq.exceptions import NoSuchJobError
from rq.serializers import JSONSerializer

from jiffy import redis_io

# RQ's statuses, equal to them and to their values, but printed as these values.
_Status = StrEnum("_Status", {status.name: status.value for status in rq.job.JobStatus})  # type: ignore[misc]


class Job(rq.job.Job):
    """RQ's job, with JSON where RQ would take pickle."""

    # Fields of our own in its hash: RQ writes the hash and ignores them.
    own_fields: Mapping[str, Any] = MappingProxyType({})

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


def find_job(job_id: str) -> rq.job.Job | None:
    """The job with this id, as it is now; None if there is none, or none any more.

    Mirrors rq.job.Job.fetch, which raises NoSuchJobError, and ValueError for what is no id.
    """
    if not rq.job.JOB_ID_PATTERN.fullmatch(job_id):
        return None
    try:
        return Job.fetch(job_id, redis_io.shared())
    except NoSuchJobError:
        return None


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
    if job_class not in _LAZY:
        _LAZY[job_class] = _lazy(job_class)
    kind = _LAZY[job_class]
    lazy = kind.__new__(kind)
    lazy.__dict__.update(known, _job_id=job_id, connection=redis, serializer=serializer, _load=load)
    return lazy


def real(job: Any) -> rq.job.Job:
    """The same job, which may have been a stand-in.  Raises what loading it raises."""
    return job._become_real() if "_load" in vars(job) else job  # type: ignore[no-any-return]


_LAZY: dict[type[rq.job.Job], Any] = {}


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
