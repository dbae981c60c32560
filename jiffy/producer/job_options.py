"""How a job is to be run: the options of an enqueue, in RQ's words, and what each may be."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack

import rq
import rq.job

from jiffy import clock
from jiffy.errors import InvalidValue, WrongArguments
from jiffy.producer import call, functions
from jiffy.producer import retry as retries
from jiffy.settings import settings

Callback = functions.Function | str | rq.Callback
Dependency = rq.job.Job | str | rq.job.Dependency

# RQ's words for "no limit" and "for ever"; as a text they come from a shell.
_FOR_EVER = (-1, "-1")
_LONGEST_NAME = 200
# What cannot be said beside an option.
_EXCLUDED_BY = {
    "in_": ("at",),
    "at": ("in_",),
    "expires": ("ttl",),
    "ttl": ("expires",),
    "depends_on": ("at", "in_", "unique", "unique_until"),
}
# How many things RQ calls a callback with, and what they are.
_TOLD = {
    "on_success": ("job", "connection", "result"),
    "on_failure": ("job", "connection", "type", "value", "traceback"),
    "on_stopped": ("job", "connection"),
}


class Options(TypedDict, total=False):
    """All of them; None, and what is left out, is left to the function's usual options, then to RQ.

    Durations are seconds, a text such as "5m", or a timedelta; -1 as `timeout` is no limit, as
    `result_ttl` or `failure_ttl` for ever.
    """

    queue: str | None
    timeout: clock.Duration | None  # it is stopped when it runs longer (3 minutes)
    result_ttl: clock.Duration | None  # how long the result is kept (500 s); 0: not at all
    failure_ttl: clock.Duration | None  # how long a failed job is kept (a year)
    ttl: clock.Duration | None  # dropped if it has not begun by then
    expires: clock.Duration | None  # canceled, with the reason, if it has waited that long
    job_id: str | None  # refused if there is a job with it
    at_front: bool | None  # ahead of all that waits
    in_: clock.Duration | None  # that much later
    at: datetime | None  # at that time, which must have a zone
    depends_on: Dependency | Sequence[Dependency] | None  # once these have finished
    retry: int | rq.Retry | None  # try again so many times, with pauses; see jiffy.Retry
    on_success: Callback | None  # called by the worker, as in RQ
    on_failure: Callback | None
    on_stopped: Callback | None
    description: str | None  # shown in place of the call
    meta: dict[str, Any] | None
    rescue: bool | None  # False: if its worker dies it fails, it never begins a second time
    unique: clock.Duration | None  # so long the same call, or the same key, is the first job again
    unique_key: str | None
    unique_until: Literal["begun", "done"] | None  # ... but not once that job has come so far


def options(**given: Unpack[Options]) -> Options:
    """Options for the table of `enqueue.py`.  Raises InvalidValue."""
    checked(given)
    return given


def joined(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, and of what is usual all that may stand beside it; a None gives nothing."""
    said = {name: value for name, value in given.items() if value is not None}
    excluded = {other for name in said for other in _EXCLUDED_BY.get(name, ())}
    return {name: usual[name] for name in usual if name not in excluded} | said


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not None, as they are used: durations in whole seconds.

    Raises InvalidValue for an option that is unknown or wrong, and for two that contradict.
    """
    unknown = [name for name in given if name not in _READ]
    if unknown:
        raise InvalidValue("option", unknown[0], f"one of {', '.join(_READ)}")
    found = {name: _READ[name](name, value) for name, value in given.items() if value is not None}
    _refuse_contradictions({name: given[name] for name in found})
    return found


def _refuse_contradictions(given: Mapping[str, Any]) -> None:
    for name, excluded in _EXCLUDED_BY.items():
        for other in excluded:
            if name in given and other in given:
                raise InvalidValue(other, _written(given[other]), f"given without {name}")
    for name in ("unique_key", "unique_until"):
        if name in given and "unique" not in given:
            raise InvalidValue(name, given[name], "given with unique='1h' or so")


def _written(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _whole_seconds(name: str, value: clock.Duration) -> int:
    """RQ keeps whole seconds; never round a limit down to none."""
    seconds = clock.seconds(value, name)
    if not seconds:
        raise InvalidValue(name, value, "more than 0 seconds")
    return max(1, round(seconds))


def _or_for_ever(name: str, value: clock.Duration) -> int:
    return -1 if value in _FOR_EVER else _whole_seconds(name, value)


def _kept(name: str, value: clock.Duration) -> int:
    is_none = value not in _FOR_EVER and clock.seconds(value, name) == 0
    return 0 if is_none else _or_for_ever(name, value)


def _milliseconds(name: str, value: clock.Duration) -> int:
    milliseconds = round(clock.seconds(value, name) * 1000)
    if not milliseconds:
        raise InvalidValue(name, value, "more than 0 seconds")
    return milliseconds


def _seconds(name: str, value: clock.Duration) -> float:
    return clock.seconds(value, name.strip("_"))


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidValue(name, value, "a text")
    return value


def check_queue(name: str, value: object) -> str:
    """A queue's name, if all that reads it can: RQ writes a worker's queues with commas between.

    Raises InvalidValue.
    """
    if not isinstance(value, str) or not 0 < len(value.strip()) <= _LONGEST_NAME:
        raise InvalidValue(name, value, "the name of a queue")
    if "," in value or not value.isprintable():
        raise InvalidValue(name, value, "the name of a queue, without commas and line breaks")
    return value


def check_id(name: str, value: object) -> str:
    """A job's id, if RQ takes it; else InvalidValue."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        raise InvalidValue(name, value, "letters, digits, underscores and dashes")
    return value


def _yes_no(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidValue(name, value, "True or False")
    return value


def _moment(name: str, value: object) -> datetime:
    if not isinstance(value, datetime):
        raise InvalidValue(name, value, "a datetime with its zone")
    if value.tzinfo is None:
        raise InvalidValue(name, _written(value), "a time with its zone, e.g. in UTC")
    return clock.in_calendar(value, name)


def _dependencies(name: str, value: Any) -> list[Dependency]:
    is_one = isinstance(value, str) or not isinstance(value, Sequence)
    found = [value] if is_one else [*value]
    for one in found:
        if not isinstance(one, Dependency):
            raise InvalidValue(name, one, "a job, its id, an rq.job.Dependency, or a list of these")
    return found


def _retry(name: str, value: object) -> rq.Retry:
    if isinstance(value, rq.Retry):
        return value
    return retries.from_json(value)


def _callback(name: str, value: Any) -> rq.Callback:
    """RQ's own, of a function that workers may run, and can call as they do."""
    if isinstance(value, rq.Callback):
        _callback(name, value.func)
        return value
    if isinstance(value, str):
        value = functions.find(value, settings().jobs_modules)
    if not callable(value):
        raise InvalidValue(name, value, "a function, its path, or an rq.Callback")
    target = call.target(value)
    try:
        target.check(_TOLD[name], {})
    except WrongArguments as error:
        raise WrongArguments(f"{name} is called with {', '.join(_TOLD[name])}: {error}") from None
    return rq.Callback(target.path)


def _meta(name: str, value: object) -> dict[str, Any]:
    try:
        json.dumps(value)
        if isinstance(value, dict) and not call.has_other_keys([value]):
            return value
    except (TypeError, ValueError, RecursionError):
        pass
    raise InvalidValue(name, value, "a dict that JSON can carry, with texts as its keys")


def _until(name: str, value: object) -> str:
    if value not in ("begun", "done"):
        raise InvalidValue(name, value, "'begun' or 'done'")
    return str(value)


_READ: dict[str, Callable[[str, Any], Any]] = {
    "queue": check_queue,
    "timeout": _or_for_ever,
    "result_ttl": _kept,
    "failure_ttl": _kept,
    "ttl": _whole_seconds,
    "expires": _whole_seconds,
    "job_id": check_id,
    "at_front": _yes_no,
    "in_": _seconds,
    "at": _moment,
    "depends_on": _dependencies,
    "retry": _retry,
    "on_success": _callback,
    "on_failure": _callback,
    "on_stopped": _callback,
    "description": _text,
    "meta": _meta,
    "rescue": _yes_no,
    "unique": _milliseconds,
    "unique_key": _text,
    "unique_until": _until,
}
NAMES = tuple(_READ)
