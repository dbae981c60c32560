"""The calls that a POST asks for: all are read and checked, then written, in bulk where alike."""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from flask import abort
from redis.exceptions import RedisError

from jiffy import connection, keys
from jiffy.dashboard.api import kinds
from jiffy.dashboard.api.kinds import Kind
from jiffy.dashboard.api.wrong import told_where, unknown
from jiffy.errors import InvalidValue, RedisAway, RedisFull
from jiffy.producer import functions
from jiffy.producer.bulk import Both
from jiffy.producer.enqueue import Enqueue, Job, enqueue
from jiffy.read import jobs as read_jobs
from jiffy.settings import settings

MOST_JOBS = 1000
EXAMPLE = {"function": "jobs.numbers.add", "args": [5, 3]}

# The call itself: JSON's name -> what it is, in words, and its kind.
CALL: dict[str, tuple[str, Kind]] = {
    "function": ("The path of a function under JOBS_MODULES.", kinds.PATH),
    "args": ("Its arguments by place.", kinds.LIST),
    "kwargs": ("Its arguments by name.", kinds.OBJECT),
}
# How it is to be run: JSON's name of an option (jiffy.producer.job_options) -> the same.
OPTIONS: dict[str, tuple[str, Kind]] = {
    "queue": ("The queue; 'default' if there is none.", kinds.NAME),
    "job_id": ("The job's id; one that is taken is refused.", kinds.ID),
    "timeout": ("It is stopped when it runs longer; -1: never.", kinds.SPAN_OR_FOREVER),
    "result_ttl": ("How long its result is kept; -1: for ever.", kinds.SPAN_OR_FOREVER),
    "failure_ttl": ("How long it is kept if it failed; -1: for ever.", kinds.SPAN_OR_FOREVER),
    "ttl": ("Dropped if it has not begun by then.", kinds.SPAN),
    "expires": ("Canceled, with the reason, if it has waited that long.", kinds.SPAN),
    "retry": ("How many times to try again, or how.", kinds.TRIES),
    "at_front": ("Ahead of all that waits.", kinds.YES_NO),
    "in": ("That much later.", kinds.SPAN),
    "at": ("At that time.", kinds.MOMENT),
    "depends_on": ("Once these jobs have finished.", kinds.IDS),
    "on_success": ("A function that is called when it has finished.", kinds.PATH),
    "on_failure": ("... when it has failed.", kinds.PATH),
    "on_stopped": ("... when it was stopped.", kinds.PATH),
    "description": ("Shown in place of the call.", kinds.TEXT),
    "meta": ("Whatever is to be kept with it.", kinds.OBJECT),
    "rescue": ("false: if its worker dies, it never begins a second time.", kinds.YES_NO),
    "unique": ("So long the same call, or key, is the first job again.", kinds.SPAN),
    "unique_key": ("In place of the call.", kinds.NAME),
    "unique_until": ("... but not once that job has come so far.", kinds.BEGUN_OR_DONE),
}


@dataclass(frozen=True)
class Call:
    """A call as it was asked for; `place` is where it stands among many, from 0."""

    asked: dict[str, Any]
    place: int | None
    path: str
    arguments: Both
    options: dict[str, Any]

    @property
    def kind(self) -> str:
        """The same text for calls that can be written together."""
        alike = {name: self.asked[name] for name in self.asked if name not in _OF_EACH}
        return json.dumps([alike, "job_id" in self.asked], sort_keys=True)


_OF_EACH = ("args", "kwargs", "job_id")


def read(asked: Any, place: int | None = None) -> Call:
    """The call that an object of JSON asks for; else the request ends with 400 or 422."""
    if not isinstance(asked, dict):
        which = "" if place is None else f"job {place + 1}: "
        abort(400, f"{which}The body must be an object, or a list of them: {json.dumps(EXAMPLE)}.")
    with told_where(asked, place):
        path = _of_call(asked, "function", None)
        arguments = Both(_of_call(asked, "args", []), _of_call(asked, "kwargs", {}))
        options = dict(_option(name, asked[name]) for name in asked if name not in CALL)
        return Call(asked, place, path, arguments, options)


def put_one(call: Call) -> Job:
    """Write it; else the request ends with what is wrong."""
    with told_where(call.asked, call.place):
        chosen = enqueue.options(**call.options)
        return chosen.by_path(call.path, *call.arguments.args, **call.arguments.kwargs)


def put_many(calls: list[Call]) -> list[dict[str, Any]]:
    """Check them all, then write them; returns id, queue, and whether it was there, in order."""
    _check_parents(calls)
    runs = [_checked(list(run)) for _, run in groupby(calls, key=lambda call: call.kind)]
    made: list[dict[str, Any]] = []
    for run in runs:
        try:
            made += run.put()
        except (RedisAway, RedisFull) as error:
            raise error.after(len(made)) from error
    _tell_queues([told for told in made if "taken" in told])
    return made


def _tell_queues(taken: list[dict[str, Any]]) -> None:
    """What was there is where it is, not where it was asked for, if Redis is there to say it."""
    with suppress(RedisError):
        there = read_jobs(connection.shared(), [told["id"] for told in taken])
        for told in taken:
            if told["id"] in there:
                told["queue"] = there[told["id"]].queue


@dataclass(frozen=True)
class _Run:
    """Calls of one function with the same options."""

    calls: list[Call]
    enqueue: Enqueue
    function: functions.Function

    def put(self) -> Iterator[dict[str, Any]]:
        arguments = [call.arguments for call in self.calls]
        given = [call.options["job_id"] for call in self.calls if "job_id" in call.options]
        jobs = self.enqueue.many(self.function, arguments, job_ids=given or None)
        taken = set(jobs.places_taken)
        for place, job_id in enumerate(jobs.ids):
            yield {"id": job_id, "queue": jobs.queue} | ({"taken": True} if place in taken else {})


def _checked(calls: list[Call]) -> _Run:
    first = calls[0]
    alike = {name: value for name, value in first.options.items() if name != "job_id"}
    with told_where(first.asked, first.place):
        function = functions.find(first.path, settings().jobs_modules)
        chosen = enqueue.options(**alike)
    for call in calls:
        with told_where(call.asked, call.place):
            named = chosen.options(**call.options) if "job_id" in call.options else chosen
            named.check(function, call.arguments.args, call.arguments.kwargs)
    return _Run(calls, chosen, function)


def _check_parents(calls: Iterable[Call]) -> None:
    """Refuse a call that depends on a job that is neither there nor before it."""
    before: set[str] = set()
    parents: list[tuple[Call, str]] = []
    for call in calls:
        named = call.options.get("depends_on", [])
        ids = [named] if isinstance(named, str) else named
        parents += [(call, job_id) for job_id in ids if job_id not in before]
        before.add(call.options.get("job_id", ""))
    with connection.shared().pipeline(transaction=False) as pipe:
        for _, job_id in parents:
            pipe.exists(keys.job(job_id))
        for (call, job_id), is_there in zip(parents, pipe.execute(), strict=True):
            if not is_there:
                with told_where(call.asked, call.place):
                    raise InvalidValue("depends_on", job_id, "a job that is there")


def _of_call(asked: dict[str, Any], name: str, otherwise: Any) -> Any:
    return CALL[name][1].read(name, asked.get(name, otherwise))


def _option(name: str, value: Any) -> tuple[str, Any]:
    """An option as `enqueue.options` takes it."""
    if name not in OPTIONS:
        raise unknown("option", name, (*CALL, *OPTIONS), {"id": "job_id"})
    return ("in_" if name == "in" else name), OPTIONS[name][1].read(name, value)
