"""Run a claimed job: call its function, and note what became of it.  Writes nothing to Redis.

A job becomes an RQ `Job` object only where its code or a callback asks for one: making it costs
more than most small jobs do.
"""

import contextvars
import inspect
import os
import sys
import traceback
from asyncio import run as run_to_its_end
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import rq
from rq.exceptions import DeserializationError
from rq.job import Job
from rq.serializers import DefaultSerializer
from rq.timeouts import JobTimeoutException
from rq.worker import BaseWorker

from jiffy import clock, hooks, keys, log, rq_compat
from jiffy.errors import NotAllowed, ResultTooLarge, UnserializableResult
from jiffy.producer import functions, retry
from jiffy.producer.job import real, stand_in
from jiffy.redis_io import Link
from jiffy.settings import settings
from jiffy.worker import decode, joblog, process, process_state
from jiffy.worker.claim import NO_DETAILS, ClaimedJob
from jiffy.worker.finish import Outcome
from jiffy.worker.shared_memory import Board

_MUST_NOT_REPEAT = "It was interrupted by a shutdown, and must not start twice (rescue=False)."
_SMALL_BYTES = 1000
_LONGEST_NAME = 300  # characters of a function
# The next try would end in the same way.
_PERMANENT = (UnserializableResult, ResultTooLarge, NotAllowed, DeserializationError)

T = TypeVar("T")


class Interrupted(BaseException):
    """This process must stop now; the job goes back to its queue.

    A BaseException, as RQ's ShutDownImminentException is, so that `except Exception` lets it pass.
    """


class Stopped(BaseException):
    """This process must end now: its job was stopped, as the supervisor will write."""


def func_name_of(call: Any) -> str:
    """The name that a job's data gives its function, for logs; "?" where it gives none."""
    name = call[0] if isinstance(call, list | tuple) and call else None
    return name if isinstance(name, str) and len(name) <= _LONGEST_NAME else "?"


class Runner:
    """Runs jobs in this process, for a worker, which RQ knows as `rq_worker`, inside its hooks."""

    def __init__(
        self, rq_worker: BaseWorker, link: Link, board: Board, around: Sequence[hooks.AroundJob]
    ) -> None:
        self.rq_worker, self.link, self.board, self._around = rq_worker, link, board, around
        self._penalty = rq_worker.death_penalty_class
        # By a supervisor, which enforces limits and replaces this process; or else RQ's timer does.
        self.is_watched = self._penalty is rq_compat.NoPenalty
        self.pid = os.getpid()
        config = settings()
        self._allowed, self._largest_result = config.jobs_modules, config.result_max_bytes
        self._unpickles = "pickle" in config.serializers
        self._functions: dict[str, Callable[..., Any]] = {}
        self._on_import: Callable[[], None]
        self._job: Job
        # What a subclass or an integration (Sentry) has put in the place of RQ's is called.
        self._job_class = decode.guarded(rq_worker.job_class)
        self._wraps = rq_compat.is_replaced(rq_worker, "perform_job")
        self._performs = rq_compat.is_replaced(self._job_class, "perform")
        self._handles = rq_compat.handles_exceptions(rq_worker)

    def start(self, on_import: Callable[[], None]) -> None:
        """Jobs are about to come.  `on_import` is called when one of them had to be imported."""
        self._context, self._on_import = contextvars.copy_context(), on_import

    def decode(self, job: ClaimedJob) -> Any:
        """The job's (function's name, instance, arguments, keyword arguments).

        Raises DeserializationError for what this worker's serializer cannot read.
        """
        if job.kind == "corrupt":
            raise DeserializationError(
                "This job's data in Redis is incomplete or invalid: it cannot be run."
            )
        data = decode.inflated(job.data)
        is_pickled = decode.is_pickled(data)
        if is_pickled and not self._unpickles:
            raise DeserializationError(decode.PICKLED)
        try:
            call = DefaultSerializer.loads(data) if is_pickled else decode.loads_json(data)
            name, _, args, kwargs = call
            if isinstance(name, str) and args is not None and kwargs is not None:
                return call
        except Exception as error:  # a serializer may raise anything
            raise DeserializationError(
                f"This worker cannot read the job's data ({type(error).__name__}: {error})."
            ) from error
        raise DeserializationError("This job's data is not a function's name and its arguments.")

    def run(self, outcome: Outcome, call: Any) -> None:
        """Run the job, and write into `outcome` what became of it; to be called `in_context`.

        Nothing that it raises gets out.
        """
        job, kind = outcome.job, self._job_class
        # RQ's job, one for all who ask during this run; read from Redis when it is needed.
        self._job = stand_in(
            job.job_id, self.link.redis, kind.refresh,
            job_class=kind, serializer=self.rq_worker.serializer,
        )  # fmt: skip
        log.job_id = job.job_id
        try:
            # A job with a callback that is not allowed does not begin.
            for when in decode.CALLBACKS if job.details is not NO_DETAILS else ():
                if name := job.details.text(f"{when}_callback_name"):
                    decode.function(name, self._allowed)
            if self._wraps:
                self._run_wrapped(outcome)
            elif self.is_watched:
                self._run_function(outcome, call)
            else:
                with self._penalty(int(job.timeout_s), JobTimeoutException, job_id=job.job_id):
                    self._run_function(outcome, call)
            if outcome.status == "unknown":
                outcome.status = "finished"
        except BaseException as error:  # noqa: BLE001 - a job may raise anything, SystemExit too
            self.note_error(outcome, error)
        finally:  # also if one comes while its failure is noted: the log is not the next job's
            log.job_id = ""
            if not joblog.current.is_empty:
                outcome.logged = joblog.current.take()

    def _run_function(self, outcome: Outcome, call: Any) -> None:
        token = rq_compat.CURRENT_JOB.set(self._job)
        try:
            if self._around:
                self._inside_hooks(outcome, partial(self._perform, call))
            else:
                self._returned(outcome, self._perform(call))
        finally:
            process.end_copy(self.pid)
            rq_compat.CURRENT_JOB.reset(token)

    def _inside_hooks(self, outcome: Outcome, perform: Callable[[], Any]) -> Any:
        """Perform the job and call its callback, which is part of it, inside its hooks."""

        def inner() -> Any:
            value = self.call_user_code(perform)  # a copy of this process must not leave the hooks
            self._returned(outcome, value)
            return value

        return hooks.inside(self._around, self._job, inner)

    def _perform(self, call: Any) -> Any:
        if self._performs:
            return self._rq_job().perform()
        name, instance, args, kwargs = call
        if instance:
            function = decode.method(instance, name, self._allowed)
        else:
            function = self._function(name)
        value = function(*args, **kwargs)
        if not inspect.iscoroutine(value):
            return value
        before = process_state.event_loop()
        try:
            return run_to_its_end(value)
        finally:  # the next job finds no loop that is closed
            process_state.restore_event_loop(before)

    def _function(self, name: str) -> Callable[..., Any]:
        function = self._functions.get(name)
        if function is None:
            known = len(sys.modules)
            # Not in the job's context: what a module sets as it is imported is there for all jobs.
            function = self._context.run(decode.function, name, self._allowed)
            function = self._functions[name] = functions.typed(function)
            if len(sys.modules) > known:
                self._on_import()
        return function

    def _returned(self, outcome: Outcome, value: Any) -> None:
        """The job returned `value`: it has finished, unless its callback or a hook raises."""
        ended_s = clock.wall()
        if isinstance(value, rq.Retry):
            outcome.retry = retry.read("retry", value)
            try:
                outcome.value = self._pack(outcome, value)
            except UnserializableResult:  # JSON cannot pack one
                outcome.value = self._pack(outcome, rq_compat.UNSERIALIZABLE)
        elif value is not None:
            outcome.value = self._pack(outcome, value)
        if outcome.retry is None and outcome.job.details.raw("success_callback_name"):
            rq_job = self._rq_job()
            rq_compat.mark_finished(rq_job, value)
            self.board.relimit(rq_job.success_callback_timeout)
            self.call_user_code(rq_compat.call_on_success, rq_job, self._penalty, value)
        outcome.ended_s = ended_s

    def _pack(self, outcome: Outcome, value: Any) -> bytes:
        """The result as it is stored.  Raises UnserializableResult or ResultTooLarge."""
        try:
            # As it was enqueued: who did that also reads its result.
            if self._unpickles and decode.is_pickled(decode.inflated(outcome.job.data)):
                packed = DefaultSerializer.dumps(value)
            else:
                function = self._function(outcome.func_name)
                packed = functions.pack_result(function, value, decode.dumps_json)
        except Exception as error:
            raise UnserializableResult(value, error) from error
        if len(packed) > self._largest_result:
            raise ResultTooLarge(len(packed), self._largest_result)
        return packed

    def note_error(
        self, outcome: Outcome, error: BaseException, *, in_its_code: bool = True
    ) -> None:  # fmt: skip
        """Note that the job raised, and call all that is to know of it, as RQ does.

        With `in_its_code` False its data could not be read, or an interrupt or a limit came just
        before the job's first line or just after its last.
        """
        if outcome.status != "unknown":
            return
        if isinstance(error, Stopped) and self.board.interrupt_reason == Board.STOP:
            outcome.status = "stopped"
            return
        outcome.ended_s = clock.wall()
        # A platform's SIGTERM reaches the programs that the job started, too: a failure in a
        # shutdown is taken for the shutdown's doing.
        is_due = in_its_code or isinstance(error, Interrupted)
        if is_due and self.board.is_retiring_for_good:
            outcome.status = "requeued"
            if outcome.job.details.text(keys.RESCUE_FIELD) == "no":
                outcome.fail(_MUST_NOT_REPEAT, may_retry=False)
            return
        names, may_retry = retry.names_of(type(error)), not isinstance(error, _PERMANENT)
        if not in_its_code:
            outcome.fail(f"{error}" or names[0], names=names, may_retry=may_retry)
            return
        if isinstance(error, TypeError):  # perhaps the caller knows newer parameters
            functions.note_outdated(error, outcome.func_name)
        if outcome.job.details.raw("failure_callback_name") or self._handles:
            error = self._on_failure(outcome, error)
        try:
            text = "".join(traceback.format_exception(error))
        except Exception as odd:  # noqa: BLE001 - such as a SyntaxError with no number as its place
            text = f"{names[0]}: it cannot be written as text ({odd!r})"
        outcome.fail(text, names=names, may_retry=may_retry)
        outcome.is_recorded = not self.rq_worker.disable_default_exception_handler

    def _on_failure(self, outcome: Outcome, error: BaseException) -> BaseException:
        """Call what wants to know of a failure; return the error to be written, maybe its own."""
        try:
            rq_job = self._rq_job()
        except Exception:  # noqa: BLE001 - it cannot be read, or is gone: there is nothing to call
            return error
        rq_compat.mark_failed(rq_job)
        rq_job.started_at = clock.from_wall(outcome.started_s)
        rq_job.ended_at = clock.from_wall(outcome.ended_s)
        self.board.relimit(rq_job.failure_callback_timeout)
        callback = partial(rq_compat.call_on_failure, rq_job, self._penalty)
        for tell in (callback, partial(self.rq_worker.handle_exception, rq_job)):
            try:
                self.call_user_code(tell, type(error), error, error.__traceback__)
            except (Interrupted, Stopped):
                raise
            except BaseException as raised:  # noqa: BLE001 - SystemExit, too, ends no worker
                error = raised
        return error

    def _run_wrapped(self, outcome: Outcome) -> None:
        """Call the job and its callbacks inside of what has been put around RQ's `perform_job`."""
        job: Any = self._rq_job()
        job.perform = partial(self._inside_hooks, outcome, job.perform)
        try:
            rq_compat.perform_wrapped(
                self.rq_worker, job, outcome.job.queue, outcome.job.execution,
                lambda error: self.note_error(outcome, error),
            )  # fmt: skip
        except BaseException:
            if not outcome.ended_s:  # or else the job had ended
                raise
        if not outcome.ended_s:
            raise RuntimeError(f"perform_job of {type(self.rq_worker)} did not perform the job.")

    def _rq_job(self) -> Job:
        """The job as RQ has it, read from Redis."""
        return self.link.insist(lambda: real(self._job))

    def call_user_code(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a user's code.  A copy of this process that it forks ends when it comes back."""
        try:
            return call(*args, **kwargs)
        finally:
            process.end_copy(self.pid)

    def in_context(self, do: Callable[..., object], *args: Any) -> None:
        """Do it in a context of its own, as imports have left it."""
        process_state.fresh(self._context).run(do, *args)

    def foresee(self, job: ClaimedJob) -> None:
        """Look up the function of a job that a fork has run, so that the next fork need not."""
        if len(job.data) > _SMALL_BYTES or decode.is_pickled(data := decode.inflated(job.data)):
            return
        with suppress(Exception):  # as in the fork, where that is why the job has failed
            name = func_name_of(decode.loads_json(data))
            if name.rpartition(".")[0] in sys.modules:  # forks import the others for themselves
                self._function(name)
