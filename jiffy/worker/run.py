"""Run a job that was taken: call its function, and say what became of it.  Writes nothing to Redis.

A plain job never becomes an RQ `Job` object unless its code asks for one: making it would cost more
than most small jobs do.
"""

import asyncio
import inspect
import sys
import traceback
from collections.abc import Callable
from typing import Any

from redis import Redis
from rq.callbacks import execute_failure_callback, execute_success_callback
from rq.exceptions import DeserializationError
from rq.job import Job, JobStatus, Retry, _current_job
from rq.serializers import DefaultSerializer
from rq.timeouts import JobTimeoutException
from rq.worker import BaseWorker

from jiffy import clock
from jiffy.errors import NotAllowed, ResultTooLarge, UnserializableResult
from jiffy.retry import names_of
from jiffy.rq_job import stand_in
from jiffy.settings import settings
from jiffy.worker import guarded
from jiffy.worker.line import Line
from jiffy.worker.outcome import Again, ExcInfo, Failed, Finished, Outcome, Returned, Taken


class Interrupted(BaseException):
    """This process must stop now; the job goes back to its queue.

    A BaseException, as RQ's ShutDownImminentException is, so that `except Exception` lets it pass.
    """


class Runner:
    """Runs jobs in this process, for the worker that `face` is to RQ."""

    def __init__(
        self, face: BaseWorker, redis: Redis, allowed: tuple[str, ...],
        largest_result: int, relimit: Callable[[float], None] = lambda _: None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._face = face
        self._redis = redis
        self._line = Line(redis, tells=False)
        self._allowed = allowed
        self._largest_result = largest_result
        self._relimit = relimit
        self._is_stopping = is_stopping
        self._unpickles = "pickle" in settings().serializers
        self._functions: dict[str, Callable[..., Any]] = {}
        # A job class that runs jobs in its own way must be asked to.
        self._always_full = face.job_class.perform is not Job.perform

    def call_of(self, taken: Taken) -> Any:
        """The job's (function's name, instance, arguments, keyword arguments).

        Raises DeserializationError for what this worker's serializer cannot read.
        """
        data = guarded.inflated(taken.data)
        if not self._unpickles and guarded.is_pickled(data):
            raise DeserializationError(guarded.PICKLED)
        try:
            return self._serializer_of(data).loads(data)
        except Exception as error:  # a serializer may raise anything
            raise DeserializationError(
                f"This worker cannot read the job's data ({type(error).__name__}: {error})."
            ) from error

    def run(self, taken: Taken, call: Any) -> Outcome:
        """Run the job; return what became of it.  Nothing that it raises gets out."""
        func_name = call[0]
        started_s = clock.wall()
        try:
            if taken.kind == "full" or taken.result_ttl_s == 0 or self._always_full:
                return self._run_full(taken, func_name, started_s)
            value = self._call(taken, call)
            if isinstance(value, Retry):
                return Again(taken, func_name, started_s, clock.wall(), value, self.job(taken))
            packed = None if value is None else self._pack(taken, value)
            return Finished(taken, func_name, started_s, clock.wall(), packed)
        except Interrupted:
            return Returned(taken, func_name, started_s, clock.wall())
        except BaseException:  # noqa: BLE001 - a job may raise anything, SystemExit too
            if self._is_stopping():
                # A platform's SIGTERM reaches the programs that the job started, too: a failure
                # in a shutdown is taken for the shutdown's doing.
                return Returned(taken, func_name, started_s, clock.wall())
            return self._failed(taken, func_name, started_s, sys.exc_info())  # type: ignore[arg-type]

    def job(self, taken: Taken) -> Job:
        """The RQ job, read from Redis once that is there."""
        face = self._face
        job = self._line.insist(
            lambda: face.job_class.fetch(taken.job_id, self._redis, face.serializer)
        )
        job.origin = taken.queue
        return job

    def _call(self, taken: Taken, call: Any) -> Any:
        name, instance, args, kwargs = call
        job = stand_in(
            taken.job_id,
            self._redis,
            self._face.job_class.refresh,
            job_class=self._face.job_class,
            serializer=self._face.serializer,
        )
        token = _current_job.set(job)
        try:
            if instance:
                function = guarded.method(instance, name, self._allowed)
            else:
                function = self._function(name)
            value = function(*args, **kwargs)
            return asyncio.run(value) if inspect.iscoroutine(value) else value
        finally:
            _current_job.reset(token)

    def _function(self, name: str) -> Callable[..., Any]:
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = guarded.function(name, self._allowed)
        return function

    def _run_full(self, taken: Taken, func_name: str, started_s: float) -> Outcome:
        """Run a job the way RQ does, through its `Job` object and with its callbacks."""
        job = self.job(taken)
        guarded.check_callbacks(job)
        job.started_at = clock.from_wall(started_s)
        value = self._perform(job)
        ended_s = clock.wall()
        job.ended_at = clock.from_wall(ended_s)
        if isinstance(value, Retry):
            return Again(taken, func_name, started_s, ended_s, value, job)
        packed = None if value is None else self._pack(taken, value)
        job._status = JobStatus.FINISHED
        self._relimit(job.success_callback_timeout)
        execute_success_callback(job, self._face.death_penalty_class, value)
        return Finished(taken, func_name, started_s, ended_s, packed, job)

    def _perform(self, job: Job) -> Any:
        return job.perform()

    def _serializer_of(self, data: bytes) -> Any:
        """What the job was enqueued with: who did that also reads its result."""
        is_pickle = self._unpickles and guarded.is_pickled(data)
        return DefaultSerializer if is_pickle else self._face.serializer

    def _pack(self, taken: Taken, value: Any) -> bytes:
        """The result as it is stored.  Raises UnserializableResult or ResultTooLarge."""
        try:
            data = guarded.inflated(taken.data) if self._unpickles else b""
            packed: bytes = self._serializer_of(data).dumps(value)
        except Exception as error:
            raise UnserializableResult(value, error) from error
        if len(packed) > self._largest_result:
            raise ResultTooLarge(len(packed), self._largest_result)
        return packed

    def _failed(self, taken: Taken, func_name: str, started_s: float, exc_info: ExcInfo) -> Failed:
        """Call what wants to know of a failure, as RQ does in `BaseWorker.perform_job`."""
        ended_s = clock.wall()
        reason = "".join(traceback.format_exception(*exc_info))
        may_retry = not isinstance(exc_info[1], UnserializableResult | ResultTooLarge | NotAllowed)
        kinds = names_of(exc_info[0])
        try:
            job = self.job(taken)
        except Exception:  # noqa: BLE001 - it cannot be read, or it is gone: nobody to call
            return Failed(taken, func_name, started_s, ended_s, reason, may_retry, kinds=kinds)
        job._status = JobStatus.FAILED
        job.started_at, job.ended_at = clock.from_wall(started_s), clock.from_wall(ended_s)
        self._relimit(job.failure_callback_timeout)
        try:
            execute_failure_callback(job, self._face.death_penalty_class, *exc_info)
        except BaseException:  # noqa: BLE001 - a callback may raise anything
            exc_info = sys.exc_info()  # type: ignore[assignment]
            reason = "".join(traceback.format_exception(*exc_info))
        try:
            self._face.handle_exception(job, *exc_info)
        except Exception:  # noqa: BLE001 - nor does a broken handler end a worker
            reason = traceback.format_exc()
        return Failed(taken, func_name, started_s, ended_s, reason, may_retry, kinds=kinds)


class TimedRunner(Runner):
    """Where no supervisor watches: RQ's own timer enforces the limit, from inside."""

    def _call(self, taken: Taken, call: Any) -> Any:
        with self._limit(taken.timeout_s, taken.job_id):
            return super()._call(taken, call)

    def _perform(self, job: Job) -> Any:
        with self._limit(job.timeout or self._face.queue_class.DEFAULT_TIMEOUT, job.id):
            return super()._perform(job)

    def _limit(self, limit_s: float, job_id: str) -> Any:
        return self._face.death_penalty_class(int(limit_s), JobTimeoutException, job_id=job_id)
