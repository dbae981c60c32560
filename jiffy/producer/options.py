"""How a job is to be run: one table of all options, and what is made of it.

From `TABLE` come the checks (the same for Python, a shell and JSON), the JSON Schema, the flags of
`jiffy enqueue`, the fields in Redis, and the table in docs/enqueue.md.  `Options` alone repeats the
names, for type checkers; a test holds the two equal.
"""

import json
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

import rq
import rq.job

from jiffy import clock, keys
from jiffy.errors import InvalidValue, WrongArguments, did_you_mean
from jiffy.json_types import not_json
from jiffy.producer import functions, payload
from jiffy.producer import retry as retries
from jiffy.settings import settings

Callback = functions.Function | str | rq.Callback
Dependency = rq.job.Job | str | rq.job.Dependency


class Options(TypedDict, total=False):
    """All options; see `TABLE`.  None, and what is left out, leaves it to the usual ones, then RQ.

    Durations are seconds, a string such as "5m", or a timedelta; -1 as `timeout` is no limit, as
    `result_ttl` or `failure_ttl` forever.
    """

    in_: clock.Duration | None
    at: datetime | None
    expires: clock.Duration | None
    ttl: clock.Duration | None
    queue: str | None
    at_front: bool | None
    timeout: clock.Duration | None
    result_ttl: clock.Duration | None
    failure_ttl: clock.Duration | None
    retry: int | rq.Retry | None
    rescue: bool | None
    isolate: bool | None
    on_success: Callback | None
    on_failure: Callback | None
    on_stopped: Callback | None
    job_id: str | None
    unique: clock.Duration | None
    unique_key: str | None
    unique_until: Literal["begun", "done"] | None
    depends_on: Dependency | Sequence[Dependency] | None
    rate_limit: rq.RateLimit | str | None
    description: str | None
    meta: dict[str, Any] | None


# RQ's value for "no limit" and "forever"; a shell gives it as a string.
_FOREVER = (-1, "-1")
_MOST_LETTERS = 200
_MOST_ID_LETTERS = 250  # with the longest name of an entry, and what its jobs' ids add to it
# Redis looks at all of them in one step, which is to be a short one.
_MOST_DEPENDENCIES = 10_000
_ANY_ID = re.compile(r"[A-Za-z0-9_.-]+")  # a run of the schedule has a dot where its entry has one
# How RQ's keys of a rate limit end: another limit must not be named like them.
_LIMITS_OWN = (":allowed", ":rate_limited")
# What RQ calls a callback with.
_CALLED_WITH = {
    "success": ("job", "connection", "result"),
    "failure": ("job", "connection", "type", "value", "traceback"),
    "stopped": ("job", "connection"),
}

# Readers: each is given what the error calls the option and what was given for it, and returns the
# value as it is used, which it takes too.  All raise InvalidValue.


def _whole_seconds(name: str, value: Any) -> int:
    # RQ keeps whole seconds; a limit is never rounded down to none.
    return max(1, round(_some_seconds(name, value)))


def _some_seconds(name: str, value: Any) -> float:
    seconds = clock.seconds(value, name)
    if not seconds:
        raise InvalidValue(name, value, "more than 0 seconds")
    return seconds


def _or_forever(name: str, value: Any, *, or_none: bool = False) -> int:
    if value in _FOREVER:
        return -1
    try:
        is_none = or_none and not clock.seconds(value, name)
        return 0 if is_none else _whole_seconds(name, value)
    except InvalidValue as error:
        raise error.but(must=f"{error.must}, or -1 for no limit") from None


_kept = partial(_or_forever, or_none=True)


def _checked(is_valid: Callable[[Any], object], must: str) -> Callable[[str, Any], Any]:
    def read(name: str, value: Any) -> Any:
        if not is_valid(value):
            raise InvalidValue(name, value, must)
        return value

    return read


def _is_string(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


# Names stand in keys, and in lists on every page, which a long one would fill.
_short = _checked(
    lambda value: _is_string(value) and len(value) <= _MOST_LETTERS,
    f"a string of 1 to {_MOST_LETTERS} characters that is not blank",
)
read_id = _checked(
    lambda value: (
        isinstance(value, str)
        and len(value) <= _MOST_ID_LETTERS
        and rq.job.JOB_ID_PATTERN.fullmatch(value)
    ),
    f"letters, digits, underscores and dashes, {_MOST_ID_LETTERS} at most",
)
_string = _checked(_is_string, "a string that is not blank")
_bool = _checked(lambda value: isinstance(value, bool), "true or false")
_until = _checked(lambda value: value in ("begun", "done"), "'begun' or 'done'")


def read_queue(name: str, value: Any) -> str:
    """The name of a queue.  RQ writes a worker's queues with commas between them."""
    if not isinstance(value, str) or not 0 < len(value.strip()) <= len(value) <= _MOST_LETTERS:
        raise InvalidValue(name, value, "the name of a queue")
    if "," in value or not value.isprintable():
        raise InvalidValue(name, value, "the name of a queue, without commas and line breaks")
    if {"", ".", ".."}.intersection(value.split("/")):
        raise InvalidValue(name, value, "another name: its page would have the address of another")
    if value == "tries" or value.endswith(":intermediate"):
        raise InvalidValue(name, value, "another name: this one's keys in Redis hold other things")
    return value


def in_shell(*names: str) -> str:
    """Names of queues or functions as arguments of a command that people paste.

    Anyone who can enqueue chooses a name, so it must not act as a command, an option or a key.
    """
    words = ("".join(one if one.isprintable() else ascii(one)[1:-1] for one in name)
             for name in names)  # fmt: skip
    return f"{'-- ' * any(name.startswith('-') for name in names)}{shlex.join(words)}"


def _moment(name: str, value: Any) -> datetime:
    must = "a time with its zone, such as 2030-01-31T06:00:00+01:00"
    try:
        at = value if isinstance(value, datetime) else clock.read(value)
    except (ValueError, TypeError):
        raise InvalidValue(name, value, must) from None
    if at.tzinfo is None:
        raise InvalidValue(name, at.isoformat(), must)
    return clock.in_calendar(at, name)


def _dependencies(name: str, value: Any) -> list[Dependency]:
    is_one = isinstance(value, str) or not isinstance(value, Sequence)
    found = [value] if is_one else [*value]
    for one in found:
        if not isinstance(one, Dependency):
            raise InvalidValue(name, one, "a job, its id, an rq.job.Dependency, or a list of these")
    if len(ids := _ids_of(found)) > _MOST_DEPENDENCIES:
        raise InvalidValue(name, len(ids), f"{_MOST_DEPENDENCIES} jobs at most")
    for job_id in ids:
        if not _ANY_ID.fullmatch(job_id):  # it could name a key of Redis that is no job's
            raise InvalidValue(name, job_id, "the id of a job")
    return found


def _ids_of(dependencies: list[Dependency]) -> list[str]:
    """Each of the jobs once."""
    jobs = [
        job
        for one in dependencies
        for job in (one.dependencies if isinstance(one, rq.job.Dependency) else [one])
    ]
    return [*dict.fromkeys(job if isinstance(job, str) else job.id for job in jobs)]


def _callback(when: str, name: str, value: Any) -> rq.Callback:
    """RQ's own, of a function that workers may run, and can call as they do."""
    func = value.func if isinstance(value, rq.Callback) else value
    if isinstance(func, str):
        func = functions.find(func, settings().jobs_modules)
    if not callable(func):
        raise InvalidValue(name, value, "a function, its path, or an rq.Callback")
    target, called_with = payload.target(func), _CALLED_WITH[when]
    try:
        target.plan.check(target.function.__name__, called_with, {})
    except WrongArguments as error:
        raise WrongArguments(f"{name} is called with {', '.join(called_with)}: {error}") from None
    return value if isinstance(value, rq.Callback) else rq.Callback(target.path)


def _meta(name: str, value: Any) -> dict[str, Any]:
    try:
        json.dumps(value)
        if isinstance(value, dict) and not not_json(value, 200):
            return value
    except (TypeError, ValueError, RecursionError):
        pass
    raise InvalidValue(name, value, "a dict that JSON can carry, with strings as its keys")


def _rate_limit(name: str, value: Any) -> rq.RateLimit:
    key: Any = getattr(value, "key", None)
    count: Any = getattr(value, "concurrency", None)
    if isinstance(value, dict) and value.keys() == {"key", "concurrency"}:
        key, count = value["key"], value["concurrency"]
    elif isinstance(value, str) and re.fullmatch(r".+:[0-9]{1,9}", value):
        key, _, digits = value.rpartition(":")
        count = int(digits)
    is_key = _is_string(key) and len(key) <= _MOST_LETTERS and not key.endswith(_LIMITS_OWN)
    if not is_key or type(count) is not int or not 0 < count < 1_000_000_000:
        must = "a key and how many of its jobs may run at a time, such as 'stripe:5'; "
        must += f"keys have at most {_MOST_LETTERS} characters, and end in none of {_LIMITS_OWN}"
        raise InvalidValue(name, value, must)
    return value if isinstance(value, rq.RateLimit) else rq.RateLimit(key, count)


def _retry_fields(retry: rq.Retry) -> dict[str, Any]:
    fields = {"retries_left": retry.max, "retry_intervals": json.dumps(retry.intervals)}
    if retry.enqueue_at_front:
        fields["enqueue_at_front_on_retry"] = 1
    if isinstance(retry, retries.Retry) and retry.text:
        fields[keys.RETRY_FIELD] = retry.text
    return fields


def _dependency_fields(dependencies: list[Dependency]) -> dict[str, Any]:
    named = [one for one in dependencies if isinstance(one, rq.job.Dependency)]
    ids = _ids_of(dependencies)
    fields: dict[str, Any] = (
        {"dependency_id": ids[0], "dependency_ids": json.dumps(ids)} if ids else {}
    )
    if named:
        fields["allow_dependency_failures"] = int(any(one.allow_failure for one in named))
    return fields


def _field(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: value}


def in_json(name: str) -> str:
    """An option's name in JSON, where `in` is no keyword."""
    return name.rstrip("_")


_STRING = {"type": "string", "minLength": 1, "pattern": r"\S"}
_NAME = {**_STRING, "maxLength": _MOST_LETTERS}
_ID = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": _MOST_ID_LETTERS}
_PARENT = {"type": "string", "pattern": f"^{_ANY_ID.pattern}$"}
_DURATION = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": clock.LONGEST_S},
        {
            "type": "string",
            "pattern": r"^\s*(\d+(\.\d+)?|(\d+(\.\d+)?\s*(ms|[smhdw])\s*)+)\s*$",
            "examples": ["90s", "5m", "1h30m"],
        },
    ]
}
_DURATION_OR_FOREVER = {"anyOf": [{"const": -1}, *_DURATION["anyOf"]]}
_ERROR = {"type": "string", "pattern": r"^[^\W\d]\w*(\.[^\W\d]\w*)*$"}
_ERRORS = {"anyOf": [_ERROR, {"type": "array", "items": _ERROR}]}
_RETRY = {
    "type": "object",
    "required": ["max"],
    "additionalProperties": False,
    "properties": {
        "max": {"type": "integer", "minimum": 1, "maximum": retries.MOST_TRIES},
        "pause": _DURATION,
        "factor": {"type": "number", "minimum": 1, "maximum": retries.MOST_TRIES},
        "limit": _DURATION,
        "jitter": {"type": "boolean"},
        "on": _ERRORS,
        "fatal": _ERRORS,
    },
    "example": {"max": 5, "pause": "2s", "on": ["TimeoutError"]},
}
_RETRIES = {"type": "integer", "minimum": 1, "maximum": retries.MOST_TRIES}
_RATE = {"type": "string", "pattern": ":[1-9][0-9]{0,8}$", "maxLength": _MOST_LETTERS,
         "examples": ["stripe:5"]}  # fmt: skip
_RATE_LIMIT = {
    "type": "object",
    "required": ["key", "concurrency"],
    "additionalProperties": False,
    "properties": {
        "key": _NAME,
        "concurrency": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    },
    "example": {"key": "stripe", "concurrency": 5},
}


class Option(NamedTuple):
    """A row of the table."""

    meaning: str  # what it does, as an order, without the dot
    otherwise: str  # what holds where it is left out; "" for nothing
    flag: str  # in a shell; "" for none
    example: str  # what stands behind the flag; "" where it is a switch
    read: Callable[[str, Any], Any]
    schema: Mapping[str, Any]
    fields: Callable[[Any], dict[str, Any]] = lambda _: {}  # of the job's hash, for its value
    excludes: tuple[str, ...] = ()  # options that it cannot stand beside
    needs: str = ""  # an option that it cannot be without


def _callback_option(when: str, has_ended: str) -> Option:
    return Option(
        f"Let the worker call this function when it {has_ended}", "", f"--on-{when}", "PATH",
        partial(_callback, when), _NAME,
        lambda callback: {
            f"{when}_callback_name": callback.name, f"{when}_callback_timeout": callback.timeout,
        },
    )  # fmt: skip


# `expires` becomes the first field of a job's hash: there the scripts look for it.
TABLE: dict[str, Option] = {
    "in_": Option(
        "Run it that much later", "at once", "--in", "5m",
        lambda name, value: clock.seconds(value, name), _DURATION, excludes=("at",),
    ),
    "at": Option(
        "Run it at that time, which must have a zone", "at once", "--at", "TIME",
        _moment, {"type": "string", "format": "date-time"}, excludes=("in_",),
    ),
    "expires": Option(
        "Cancel it, with the reason, if it has not started within that time", "it waits",
        "--expires", "10m", _whole_seconds, _DURATION, _field(keys.EXPIRES_FIELD), ("ttl",),
    ),
    "ttl": Option(
        "Delete it without a trace, as RQ does, if it has not started within that time", "it waits",
        "--ttl", "10m", _whole_seconds, _DURATION, _field("ttl"), ("expires",),
    ),
    "queue": Option("Put it on this queue", "`default`", "--queue", "NAME", read_queue, _NAME),
    "at_front": Option(
        "Put it ahead of all that waits on its queue", "the end", "--at-front", "",
        _bool, {"type": "boolean"},
    ),
    "timeout": Option(
        "Stop it when it runs longer; -1: never", "3 minutes", "--timeout", "2m",
        _or_forever, _DURATION_OR_FOREVER, _field("timeout"),
    ),
    "result_ttl": Option(
        "Keep its result that long; 0: not at all, -1: forever", "500 s", "--result-ttl", "1h",
        _kept, _DURATION_OR_FOREVER, _field("result_ttl"),
    ),
    "failure_ttl": Option(
        "Keep it that long if it failed; 0: not at all, -1: forever", "a year",
        "--failure-ttl", "30d", _kept, _DURATION_OR_FOREVER, _field("failure_ttl"),
    ),
    "retry": Option(
        "Retry it so many times if it fails, with growing pauses", "it fails", "--retry", "5",
        retries.read, {"anyOf": [_RETRIES, _RETRY]}, _retry_fields,
    ),
    "rescue": Option(
        "`False`: if its worker dies it fails, and never starts a second time", "it starts again",
        "--no-rescue", "", _bool, {"type": "boolean"},
        lambda value: {} if value else {keys.RESCUE_FIELD: "no"},
    ),
    "isolate": Option(
        "Run it in a process of its own", "jobs share one", "--isolate", "",
        _bool, {"type": "boolean"},
        lambda value: {keys.ISOLATE_FIELD: "yes"} if value else {},
    ),
    "on_success": _callback_option("success", "has finished"),
    "on_failure": _callback_option("failure", "has failed"),
    "on_stopped": _callback_option("stopped", "was stopped"),
    "job_id": Option(
        "Its id; refused if there is a job with it", "a random one", "--id", "ID", read_id,
        _ID,
    ),
    "unique": Option(
        "For so long, the same call returns the first job", "each call is a job",
        "--unique", "1h", _some_seconds, _DURATION,
    ),
    "unique_key": Option(
        "What makes it the same call of a function", "its arguments", "--unique-key", "KEY",
        _short, _NAME, needs="unique",
    ),
    "unique_until": Option(
        "`begun` or `done`: unique no longer than that", "its time", "--unique-until", "STATE",
        _until, {"enum": ["begun", "done"]}, needs="unique",
    ),
    "depends_on": Option(
        "Run it once these jobs have finished", "", "--depends-on", "ID", _dependencies,
        {"anyOf": [_PARENT, {"type": "array", "items": _PARENT}]}, _dependency_fields,
        excludes=("at", "in_", "unique", "unique_key", "unique_until"),
    ),
    "rate_limit": Option(
        "Let only so many jobs with this key run at a time; the others wait for a slot",
        "no limit", "--rate-limit", "KEY:COUNT", _rate_limit, {"anyOf": [_RATE, _RATE_LIMIT]},
        lambda limit: {
            "rate_limit_key": limit.key, "rate_limit_concurrency": limit.concurrency,
        },
        excludes=("unique", "unique_key", "unique_until"),
    ),
    "description": Option(
        "What pages show in place of the call", "the call", "--description", "TEXT",
        _string, _STRING,
    ),
    "meta": Option(
        "A dict of your own that it carries", "", "", "", _meta, {"type": "object"},
        lambda value: {"meta": json.dumps(value)} if value else {},
    ),
}  # fmt: skip


def options(**given: Unpack[Options]) -> Options:
    """Options for the table of `enqueue.py`.  Raises InvalidValue."""
    read(given)
    return given


def read(given: Mapping[str, Any], spell: Callable[[str], str] = str) -> dict[str, Any]:
    """Those that are not None, as they are used, in the table's order; reading them again is safe.

    `spell` is how errors write a name.  Raises InvalidValue, or what `functions.find` does.
    """
    refuse_unknown(given, TABLE)
    found = {name: given[name] for name in TABLE if given.get(name) is not None}
    found = {name: TABLE[name].read(spell(name), value) for name, value in found.items()}
    for name in found:
        for other in TABLE[name].excludes:
            if other in found:
                value = given[other]
                shown = value.isoformat() if isinstance(value, datetime) else value
                raise InvalidValue(spell(other), shown, f"given without {spell(name)}")
        needed = TABLE[name].needs
        if needed and needed not in found:
            must = f"given with {spell(needed)}, such as {TABLE[needed].example}"
            raise InvalidValue(spell(name), given[name], must)
    return found


def refuse_unknown(given: Iterable[str], known: Collection[str]) -> None:
    """Raise InvalidValue for a name that is not `known`."""
    for name in given:
        if name not in known:
            must = f"one of {', '.join(known)}{did_you_mean(name, known)}"
            raise InvalidValue("option", name, must)


def merged(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, and of what is usual all that may stand beside it; a None gives nothing."""
    set_ = {name: value for name, value in given.items() if value is not None}
    excluded = {other for name in set_ if name in TABLE for other in TABLE[name].excludes}
    return {name: usual[name] for name in usual if name not in excluded} | set_


def from_json(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a JSON object; an error's `name` is that in JSON, such as `retry.pause`."""
    names = {in_json(name): name for name in TABLE}
    refuse_unknown(given, names)
    return read({names[name]: value for name, value in given.items()}, in_json)


def schema() -> dict[str, Any]:
    """The properties of an object of options, as JSON Schema has them."""
    return {
        in_json(name): {**option.schema, "description": f"{option.meaning}.".replace("`", "'")}
        for name, option in TABLE.items()
    }
