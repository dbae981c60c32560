"""The queues; a function and its arguments, made an RQ job.

What is put here travels as JSON, so that reading a job never runs code.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, ParamSpec

import rq
import rq.job
from redis import Redis
from rq.exceptions import DuplicateJobError
from rq.serializers import JSONSerializer

from jiffy import clock, connection, functions
from jiffy.errors import DuplicateJob, InvalidValue, WrongArguments
from jiffy.settings import settings

P = ParamSpec("P")

DEFAULT_QUEUES = ("high", "default", "low")


class Job(rq.job.Job):
    """RQ's job, with JSON where RQ would take pickle."""

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - RQ's name for it
        connection: Redis | None = None,
        serializer: Any = None,
    ) -> None:
        super().__init__(id, connection, serializer or JSONSerializer)


class Queue(rq.Queue):
    """RQ's queue, with JSON where RQ would take pickle."""

    job_class = Job

    def __init__(self, name: str = "default", *, serializer: Any = None, **options: Any) -> None:
        super().__init__(name, serializer=serializer or JSONSerializer, **options)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a job is run: each is one of RQ's own, in RQ's words; None leaves it to RQ.

    Durations are seconds, a text such as "5m", or a timedelta.
    """

    queue: str = "default"
    job_id: str | None = None
    timeout: clock.Duration | None = None
    result_ttl: clock.Duration | None = None
    failure_ttl: clock.Duration | None = None
    retry: int | rq.Retry | None = None
    at_front: bool = False
    in_: clock.Duration | None = None
    at: datetime | None = None
    description: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)


class Enqueue:
    """`enqueue(func, *args, **kwargs)`: put a call of `func` on a queue; return its RQ job.

    `func` is a function, or its path as a text.  Nothing is written unless the call fits.
    Raises UnknownFunction, NotAllowed, BrokenModule, WrongArguments, InvalidValue, DuplicateJob,
    and redis.exceptions.ConnectionError where Redis is away.
    """

    def __init__(self, options: Options) -> None:
        self._options = options

    def options(self, **changes: Any) -> "Enqueue":
        """The same with these options: `enqueue.options(queue="low", timeout="2m")(resize, …)`."""
        unknown = sorted(set(changes) - set(Options.__dataclass_fields__))
        if unknown:
            must = f"one of {', '.join(Options.__dataclass_fields__)}"
            raise InvalidValue("option", unknown[0], must)
        return Enqueue(replace(self._options, **changes))

    def __call__(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Job:
        return put(func, args, kwargs, self._options)

    def by_path(self, path: str, /, *args: Any, **kwargs: Any) -> Job:
        """The same for a function that is known by its path only."""
        return put(functions.find(path, settings().jobs_modules), args, kwargs, self._options)


enqueue = Enqueue(Options())


def put(
    func: functions.Function, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
) -> Job:
    """Check the call and its options, then write the job to Redis."""
    path = check_call(func, args, kwargs)
    queue = Queue(options.queue, connection=connection.shared())
    job = make_job(queue, path, args, kwargs, options)
    at = _due(options)
    try:
        if at is None:
            queue.enqueue_job(job, at_front=options.at_front, unique=options.job_id is not None)
        else:
            job.enqueue_at_front = options.at_front
            queue.schedule_job(job, at, unique=options.job_id is not None)
    except DuplicateJobError:
        raise DuplicateJob(job.id) from None
    return job


def check_call(func: functions.Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The path of `func`, once it is sure that workers may run it and that it takes this call."""
    path = functions.path_of(func)
    functions.find(path, settings().jobs_modules)
    functions.check(func, args, kwargs)
    return path


def make_job(
    queue: Queue, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
) -> Job:
    """The job of a checked call, written nowhere yet.

    Raises InvalidValue for an option, WrongArguments for an argument that JSON cannot carry.
    """
    retry = _retry(options.retry)
    try:
        job = queue.create_job(
            path,
            args,
            kwargs,
            timeout=_whole_seconds(options.timeout, "timeout"),
            result_ttl=_whole_seconds(options.result_ttl, "result_ttl"),
            failure_ttl=_whole_seconds(options.failure_ttl, "failure_ttl"),
            description=options.description,
            job_id=options.job_id,
            meta=options.meta,
            retry=retry,
        )
        job.data  # noqa: B018 - serializes the arguments: what cannot be sent fails here
    except TypeError as error:
        raise WrongArguments(
            f"{path}: an argument cannot be sent as JSON: {error}. "
            "Pass a number, a text, a list, a dict, or the path of a file."
        ) from None
    except ValueError as error:
        must = "letters, digits, underscores and dashes"
        raise InvalidValue("job_id", options.job_id, must) from error
    assert isinstance(job, Job)  # the queue's job class
    return job


def _retry(retry: int | rq.Retry | None) -> rq.Retry | None:
    if retry is None or isinstance(retry, rq.Retry):
        return retry
    if isinstance(retry, bool) or not isinstance(retry, int) or retry < 1:
        raise InvalidValue("retry", retry, "how many times to try again, from 1, or an rq.Retry")
    return rq.Retry(max=retry)


def _whole_seconds(duration: clock.Duration | None, name: str) -> int | None:
    """RQ keeps whole seconds; never round a limit down to none."""
    return None if duration is None else max(1, round(clock.seconds(duration, name)))


def _due(options: Options) -> datetime | None:
    if options.at is not None and options.at.tzinfo is None:
        raise InvalidValue("at", options.at.isoformat(), "a time with its zone, e.g. in UTC")
    if options.in_ is not None:
        return clock.now() + timedelta(seconds=clock.seconds(options.in_, "in"))
    return options.at
