"""An entry of the schedule: as it is written in the table, and as it is once checked.

Nothing here knows what time it is or where Redis is.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from jiffy import clock, functions, job_options, keys
from jiffy.errors import InvalidValue
from jiffy.job_options import Options
from jiffy.queues import Enqueue, Job
from jiffy.scheduler.timing import At, Cron, Every, Timing, within

if TYPE_CHECKING:  # typing has it from Python 3.11 on; only mypy needs it
    from typing_extensions import Unpack

# A tick has an id of its own and a time of its own, waits for none, and is unique already.
_NOT_OURS = ("job_id", "in_", "at", "depends_on", "unique", "unique_key", "unique_until")
_OPTIONS = [name for name in job_options.NAMES if name not in _NOT_OURS]
_ID_PREFIX = "entry-"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")


@dataclass(frozen=True, kw_only=True)
class Line:
    """What somebody wrote in the table, unchecked: only the table knows its number."""

    read_timing: Callable[[], Timing]
    func: functions.Function
    misplaced: tuple[object, ...]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    name: str | None
    options: Options


def every(
    interval: clock.Duration,
    func: functions.Function,
    *misplaced: object,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    name: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    **options: "Unpack[Options]",
) -> Line:
    """Enqueue `func(*args, **kwargs)` every `interval`: seconds, "90s", "1h30m" or a timedelta.

    The times lie on a grid from midnight UTC of 1970-01-01, so "10m" is due at :00, :10, :20 …,
    however long anything takes and however often the scheduler starts.  With `start` they are
    counted from there, and none lies before it; none lies after `end`.  `name` is what tells two
    entries of one function apart.  `options` are those of `enqueue.options`: queue, timeout, …
    """
    return Line(
        read_timing=lambda: within(Every.read(interval), start, end), func=func,
        misplaced=misplaced, args=args, kwargs=kwargs or {}, name=name, options=options,
    )  # fmt: skip


def cron(
    expression: str,
    func: functions.Function,
    *misplaced: object,
    timezone: str = "UTC",
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    name: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    **options: "Unpack[Options]",
) -> Line:
    """Enqueue `func(*args, **kwargs)` by `expression`: minute, hour, day, month, weekday.

    It is read on the clock of `timezone`.  When clocks change, a time that is skipped is due at the
    change, and one that comes twice is due once: for "every ten minutes, always" take `every`.
    None lies before `start` or after `end`.
    """
    return Line(
        read_timing=lambda: within(Cron.read(expression, timezone), start, end), func=func,
        misplaced=misplaced, args=args, kwargs=kwargs or {}, name=name, options=options,
    )  # fmt: skip


def at(
    moment: datetime,
    func: functions.Function,
    *misplaced: object,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    name: str | None = None,
    **options: "Unpack[Options]",
) -> Line:
    """Enqueue `func(*args, **kwargs)` once, at `moment`: a datetime with a zone."""
    return Line(
        read_timing=partial(At.read, moment), func=func, misplaced=misplaced, args=args,
        kwargs=kwargs or {}, name=name, options=options,
    )  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A checked line: its name, when it is due, and the job that each of its ticks is a copy of."""

    name: str
    timing: Timing
    job: Job

    @property
    def id(self) -> str:
        """The same at every start, so that a deploy finds the entry again."""
        return self.job.id

    def in_words(self) -> str:
        return f"{self.job.description} {self.timing.in_words()}, queue {self.job.origin}"

    def fields(self, now: datetime) -> dict[str, Any]:
        """The hash that rq-scheduler keeps of an entry, with our two fields in front."""
        job = self.job.to_dict()
        told = {key: value for key, value in job.items() if value != "" and key in _TOLD}
        told |= {"name": self.name, "call": json.loads(self.job.data), "meta": self.job.meta}
        return {
            keys.ENTRY_FIELD: json.dumps(told, sort_keys=True),
            keys.TIMING_FIELD: self.timing.text,
            **job,
            "created_at": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "status": "scheduled",
            "meta": json.dumps(self.job.meta | self.timing.meta()),
        }


# What may differ between two versions of a table; the rest of a job's hash changes by itself.
_TOLD = {
    "description", "origin", "timeout", "result_ttl", "failure_ttl", "retries_left",
    "retry_intervals", "enqueue_at_front_on_retry", "enqueue_at_front", "ttl",
    "success_callback_name", "failure_callback_name", "stopped_callback_name",
    keys.RESCUE_FIELD, keys.MASKED_FIELD,
}  # fmt: skip


def check(line: Line, enqueue: Enqueue) -> Entry:
    """Make `line` an entry; raises the JiffyError that says what is wrong with it."""
    args, kwargs = _arguments(line)
    function = _function(line.func)
    name = line.name or functions.path_of(function)
    ours: Any = dict.fromkeys(_NOT_OURS) | {"job_id": entry_id(name)}
    job = enqueue.options(**_options(line.options)).options(**ours).make(function, args, kwargs)
    return Entry(name, line.read_timing(), job)


def entry_id(name: str) -> str:
    """The id of the entry `name`: RQ takes letters, digits, dashes and underscores only."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidValue("name", name, "letters, digits, dots, dashes and underscores")
    return _ID_PREFIX + name.replace(".", "-")


def next_after(entry: Entry, moment: datetime) -> datetime | None:
    """The first time after `moment` when `entry` is due; None if it never is again."""
    return entry.timing.next_after(moment)


def times_after(entry: Entry, moment: datetime) -> Iterator[datetime]:
    """All the times after `moment` when `entry` is due: without end, for most."""
    following = next_after(entry, moment)
    while following is not None:
        yield following
        following = next_after(entry, following)


def _function(func: object) -> functions.Function:
    if not callable(func) or not hasattr(func, "__qualname__"):
        raise InvalidValue("function", func, "a function itself, such as numbers.add")
    return func


def _arguments(line: Line) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if line.misplaced:
        given = ", ".join(map(repr, line.misplaced))
        raise InvalidValue("argument", line.misplaced[0], f"written as args=[{given}]")
    if not isinstance(line.args, list | tuple):
        raise InvalidValue("args", line.args, f"a list, such as [{line.args!r}]")
    if not isinstance(line.kwargs, dict):
        raise InvalidValue("kwargs", line.kwargs, "a dict, such as {'days': 30}")
    return tuple(line.args), line.kwargs


def _options(given: Options) -> Options:
    unknown = sorted(set(given) - set(_OPTIONS))
    if unknown:
        raise InvalidValue("option", unknown[0], f"one of {', '.join(_OPTIONS)}")
    return given
