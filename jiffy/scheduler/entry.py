"""An entry of the schedule: as it is written in the table, and as it is once checked.

Nothing here knows what time it is or where Redis is.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any, Unpack

from jiffy import clock, keys, ticks
from jiffy.errors import InvalidValue, did_you_mean
from jiffy.producer import functions
from jiffy.producer.enqueue import Job, enqueue
from jiffy.producer.options import NAMES, Options
from jiffy.scheduler import policy, wanted
from jiffy.scheduler.policy import Missed, Overlap, Policy
from jiffy.scheduler.timing import At, Cron, Every, Timing, within
from jiffy.scheduler.wanted import NOBODY, OnMissed, Wanted

_OWN_ID = "left out: each tick is a job with an id of its own"
_OWN_TIME = "left out: the entry says when"
_UNIQUE = "left out: a tick is enqueued once; for one job at a time there is overlap='skip'"
_ONCE = "left out: this entry comes once"
# A job's end is seen up to a minute later; of one that is gone by then nobody knows how it went.
_KEPT_FOR_PING_S = 120
# Why an option is none of an entry's.
_REFUSED = {
    "job_id": _OWN_ID, "in_": _OWN_TIME, "at": _OWN_TIME, "unique": _UNIQUE, "unique_key": _UNIQUE,
    "unique_until": _UNIQUE, "depends_on": "left out: a tick waits for its time only",
    "rate_limit": "left out: a tick waits for its time only",
}  # fmt: skip
_OPTIONS = [name for name in NAMES if name not in _REFUSED]


@dataclass(frozen=True, kw_only=True, repr=False)
class Line:
    """What somebody wrote in the table, unchecked: only the table knows its number.

    It may hold passwords and addresses that are as good, so it is never shown.
    """

    read_timing: Callable[[], Timing]
    func: functions.Function
    misplaced: tuple[object, ...]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    name: str | None
    policies: Mapping[str, Any]
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
    repeat: int | None = None,
    jitter: clock.Duration = 0,
    missed: Missed = "once",
    overlap: Overlap = "skip",
    on_missed: OnMissed | None = None,
    ping: str | None = None,
    **options: Unpack[Options],
) -> Line:
    """Enqueue `func(*args, **kwargs)` every `interval`: seconds, "90s", "1h30m" or a timedelta.

    The times lie on a grid from midnight UTC of 1970-01-01, or from `start`: "10m" is due at :00,
    :10, :20 …, however long anything takes and however often the scheduler starts.  None lies after
    `end`, nor after `repeat` ticks; each is enqueued up to `jitter` later.  `name` tells entries of
    one function apart.  `options` are those of `enqueue.options`: queue, timeout, …

    `missed`: what no scheduler enqueued in time is one job ("once"), none ("skip"), or a job each,
    100 at most ("all").  `overlap`: while the last tick's job waits or runs there is no other
    ("skip"), another ("allow"), one that waits ("queue one"), or the new one only ("replace").
    `on_missed` is told when no scheduler made a tick in time, or the entry is broken: a function,
    enqueued with the entry's name, the slot and the reason as texts, or an address to POST them to.
    `ping`: an address to GET when a job has succeeded; with `/fail` when it has not.
    """
    policies = {
        "repeat": repeat, "jitter": jitter, "missed": missed, "overlap": overlap,
        "on_missed": on_missed, "ping": ping,
    }  # fmt: skip
    return Line(
        read_timing=lambda: within(Every.read(interval), start, end), func=func,
        misplaced=misplaced, args=args, kwargs=kwargs or {}, name=name, policies=policies,
        options=options,
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
    repeat: int | None = None,
    jitter: clock.Duration = 0,
    missed: Missed = "once",
    overlap: Overlap = "allow",
    on_missed: OnMissed | None = None,
    ping: str | None = None,
    **options: Unpack[Options],
) -> Line:
    """Enqueue `func(*args, **kwargs)` by `expression`: minute, hour, day, month, weekday.

    Where it has six fields, the first is the second.  It is read on the clock of `timezone`.  When
    clocks change, a time that is skipped is due at the change, and one that comes twice is due
    once: for "every ten minutes, always" take `every`.  None lies before `start` or after `end`;
    all else as with `every`.
    """
    policies = {
        "repeat": repeat, "jitter": jitter, "missed": missed, "overlap": overlap,
        "on_missed": on_missed, "ping": ping,
    }  # fmt: skip
    return Line(
        read_timing=lambda: within(Cron.read(expression, timezone), start, end), func=func,
        misplaced=misplaced, args=args, kwargs=kwargs or {}, name=name, policies=policies,
        options=options,
    )  # fmt: skip


def at(
    moment: datetime,
    func: functions.Function,
    *misplaced: object,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    name: str | None = None,
    missed: Missed = "once",
    on_missed: OnMissed | None = None,
    ping: str | None = None,
    **options: Unpack[Options],
) -> Line:
    """Enqueue `func(*args, **kwargs)` once, at `moment`: a datetime with a zone.

    One that is first declared after its time is not enqueued; one whose time passed while no
    scheduler ran is, unless `missed` is "skip".  `on_missed` is told of both; the rest is as with
    `every`.
    """
    return Line(
        read_timing=partial(At.read, moment), func=func, misplaced=misplaced, args=args,
        kwargs=kwargs or {}, name=name, options=options,
        policies={"missed": missed, "on_missed": on_missed, "ping": ping},
    )  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A checked line: its name, when it is due, and the job that each of its ticks is a copy of."""

    name: str
    timing: Timing
    job: Job
    policy: Policy = policy.NO_POLICY
    wanted: Wanted = NOBODY

    @property
    def id(self) -> str:
        """The same at every start, so that a deploy finds the entry again."""
        return self.job.id

    def next_due(self, moment: datetime) -> float | None:
        """When its first tick after `moment` is enqueued, as rq-scheduler's sorted set has it."""
        slot = self.timing.next_after(moment)
        return None if slot is None else self.policy.due(self.id, slot).timestamp()

    def in_words(self) -> str:
        return f"{self.job.description} {self.times_in_words()}, queue {self.job.origin}"

    def times_in_words(self) -> str:
        """Its times, and what of its policy is not usual."""
        return ", ".join(filter(None, [self.timing.in_words(), self.policy.in_words(self.timing)]))

    def told(self) -> dict[str, Any]:
        """What the table says of it, apart from its times: it differs where the line does."""
        job = self.job.to_dict()
        told = {key: value for key, value in job.items() if value != "" and key in _TOLD}
        call, meta = json.loads(self.job.data), self.job.meta
        return told | {"name": self.name, "call": call, "meta": meta} | asdict(self.policy)

    def fields(self, now: datetime) -> dict[str, Any]:
        """The hash that rq-scheduler keeps of an entry, with our fields in front."""
        meta = {keys.TICK_META_FIELD: json.dumps(self.job.meta)} if self.job.meta else {}
        return {
            keys.ENTRY_FIELD: json.dumps(self.told(), sort_keys=True),
            keys.TIMING_FIELD: self.timing.text,
            keys.POLICY_FIELD: self._policy_text(),
            keys.TIMES_FIELD: self.timing.identity,
            keys.TICK_OF_FIELD: self.name,
            **meta,
            **self.job.to_dict(),
            "created_at": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "status": "scheduled",
            "meta": json.dumps(self.job.meta | self.timing.meta()),
        }

    def _policy_text(self) -> str:
        words = {"name": self.name, "queue": self.job.origin, "words": self.times_in_words()}
        return json.dumps(asdict(self.policy) | words)


# What may differ between two versions of a table; the rest of a job's hash changes by itself.
_TOLD = {
    "description", "origin", "timeout", "result_ttl", "failure_ttl", "retries_left",
    "retry_intervals", "enqueue_at_front_on_retry", "enqueue_at_front", "ttl",
    "success_callback_name", "failure_callback_name", "stopped_callback_name",
    keys.RESCUE_FIELD, keys.MASKED_FIELD, keys.RETRY_FIELD, keys.EXPIRES_FIELD,
}  # fmt: skip


def check(line: Line) -> Entry:
    """Make `line` an entry; raises the JiffyError that says what is wrong with it."""
    args, kwargs = _arguments(line)
    function = _function(line.func)
    name = line.name or functions.path_of(function)
    chosen = enqueue.without_usual(_REFUSED).options(**_options(line))
    job = chosen.options(job_id=ticks.entry_id_of(name)).make(function, args, kwargs)
    timing = line.read_timing()
    whom = wanted.read(line.policies, name)
    if whom.ping:
        _refuse_short_lives(job)
    return Entry(name, timing, job, policy.read(line.policies, timing), whom)


def _refuse_short_lives(job: Job) -> None:
    for name in ("result_ttl", "failure_ttl"):
        kept_s = getattr(job, name)
        if kept_s is not None and 0 <= kept_s < _KEPT_FOR_PING_S:
            must = "2m or more where there is a ping: a job's end is seen up to a minute later"
            raise InvalidValue(name, kept_s, must)


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


def _options(line: Line) -> Options:
    known = [*_OPTIONS, *line.policies]
    for name in sorted(set(line.options) - set(_OPTIONS)):
        if name in _REFUSED or name in policy.NAMES:
            raise InvalidValue(name, line.options.get(name), _REFUSED.get(name, _ONCE))
        must = f"one of {', '.join(known)}{did_you_mean(name, known)}"
        raise InvalidValue("option", name, must)
    return line.options
