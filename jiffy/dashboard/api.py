"""The operations of the HTTP API: jobs, queues and the schedule.  `schemas.py` has the types of
requests and answers; `openapi.py` makes routes and the OpenAPI document of both.

It takes tokens and knows no sessions, so no browser can be made to call it.
"""

import json
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from flask import abort, after_this_request, request, url_for
from redis import Redis
from redis.exceptions import RedisError

from jiffy import clock, json_types, keys, redis_io
from jiffy.control import bulk, entries, failures, pauses, read
from jiffy.control.audit import KINDS, AuditEntry
from jiffy.control.audit import entries as audited
from jiffy.control.read import Log
from jiffy.dashboard import audit, auth, openapi, problems, schemas
from jiffy.dashboard.frame import CURRENT_S, census, kept, newest_release
from jiffy.dashboard.openapi import operation
from jiffy.dashboard.pages.jobs import failed_group
from jiffy.dashboard.schemas import Enqueued, Entry, Function, Job, Queues, Schedule
from jiffy.errors import InvalidValue
from jiffy.producer import enqueue as producer
from jiffy.producer import functions, options, results
from jiffy.producer import job as jobs
from jiffy.producer.recipe import write
from jiffy.settings import settings

page = openapi.blueprint

# A request that waits holds a thread: the server has so many for these alone.
MOST_WAITING = 4
_slots = threading.BoundedSemaphore(MOST_WAITING)
_WAITS_S, _MOST_WAIT_S = 20, 60
_WAIT = r"^([0-5]?[0-9](\.[0-9]+)?|60)s?$"
_TIMEOUT = {
    "name": "timeout",
    "in": "query",
    "description": f"Seconds, such as 30 or 30s; at most {_MOST_WAIT_S}.",
    "schema": {"type": "string", "default": str(_WAITS_S), "pattern": _WAIT},
}
_AUDIT = [
    {"name": "kind", "in": "query", "schema": {"enum": [*KINDS]}},
    {"name": "before", "in": "query", "description": "The id of an entry: show earlier ones.",
     "schema": {"type": "string"}},
]  # fmt: skip
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.2
_MOST_ENTRIES, _MOST_TICKS = 1000, 100
_OWN_FIELDS = schemas.Call.__struct_fields__
_KNOWN_FIELDS = (*_OWN_FIELDS, *map(options.in_json, options.TABLE))


@operation("POST", "/jobs", 409, status=202)
def enqueue(body: schemas.Calls) -> Enqueued | list[Enqueued]:
    """Enqueue one job or many; all are checked first."""
    if isinstance(body, list):
        return _enqueue_many(body)
    call, given = _checked(body)
    job = producer.enqueue.options(**given).by_path(call.function, *call.args, **call.kwargs)
    if job.is_new:
        audit.note(job=job.id)
        return Enqueued(job.id, job.origin, _url(job.id))
    audit.note(jobs=0)
    queue = _queues([job.id]).get(job.id, job.origin)
    return Enqueued(job.id, queue, _url(job.id), taken=True)


def _queues(taken: Sequence[str]) -> dict[str, str]:
    """On which queue each of the jobs is that were there before, by its id."""
    with suppress(RedisError):
        return {job_id: job.queue for job_id, job in read.jobs(redis_io.shared(), taken).items()}
    return {}


def _checked(sent: Any) -> tuple[schemas.Call, dict[str, Any]]:
    """A call, and the options beside it."""
    if not isinstance(sent, dict):
        example = schemas.EXAMPLES[schemas.Call]
        abort(400, f"The body must be an object, or a list of them: {example}.")
    options.refuse_unknown(sent, _KNOWN_FIELDS)
    own = {name: sent[name] for name in sent if name in _OWN_FIELDS}
    given = {name: sent[name] for name in sent if name not in _OWN_FIELDS}
    return json_types.convert(own, schemas.Call), options.from_json(given)


def _enqueue_many(sent: Sequence[Any]) -> list[Enqueued]:
    if len(sent) > schemas.MOST_JOBS:
        abort(422, f"{len(sent):,} jobs; send at most {schemas.MOST_JOBS:,} at a time.")
    calls = []
    for index, one in enumerate(sent):
        with problems.in_item(index):
            calls.append(_checked(one))
    _check_dependencies([given for _, given in calls])
    alike, prepared = dict[str, producer.Enqueue](), []
    for index, (one, (call, given)) in enumerate(zip(sent, calls, strict=True)):
        with problems.in_item(index):
            function = functions.find(call.function, settings().jobs_modules)
            # Calls that are alike are written together.
            same = json.dumps({**one, "args": 0, "kwargs": 0, "job_id": "job_id" in one})
            if same not in alike:
                alike[same] = producer.enqueue.options(**given | {"job_id": None})
            job_id = given.get("job_id")
            prepared.append(alike[same].prepare(function, call.args, call.kwargs, job_id))
    # Where one is refused in the end, as its dependency is gone, those before it are on record.
    written = write(prepared, lambda done: audit.note(jobs=done.new))
    taken = set(written.taken)
    audit.note(jobs=written.new)
    queues = _queues([written.ids[place] for place in taken])
    return [
        Enqueued(job_id, queues.get(job_id, one.recipe.queue), _url(job_id), place in taken)
        for place, (job_id, one) in enumerate(zip(written.ids, prepared, strict=True))
    ]


def _check_dependencies(options_of: Sequence[dict[str, Any]]) -> None:
    """Refuse a job that depends on one that neither exists nor is enqueued before it."""
    before: set[str] = set()
    dependencies: list[tuple[int, str]] = []
    for index, given in enumerate(options_of):
        ids = given.get("depends_on", [])
        dependencies += [(index, job_id) for job_id in ids if job_id not in before]
        before.add(given.get("job_id", ""))
    with redis_io.shared().pipeline(transaction=False) as pipe:
        for _, job_id in dependencies:
            pipe.exists(keys.job(job_id))
        for (index, job_id), exists in zip(dependencies, pipe.execute(), strict=True):
            with problems.in_item(index):
                if not exists:
                    raise InvalidValue("depends_on", job_id, "a job that exists")


@operation("GET", "/jobs/<job_id>")
def show_job(job_id: str) -> Job:
    """The state and result of a job."""
    return schemas.job(read.known_job(redis_io.shared(), job_id))


@operation("GET", "/jobs/<job_id>/logs")
def show_log(job_id: str) -> Log:
    """What a job's code has logged."""
    return read.known_job(redis_io.shared(), job_id).log


@operation("GET", "/jobs/<job_id>/wait", 422, parameters=[_TIMEOUT])
def wait_for_job(job_id: str) -> Job:
    """The job as soon as it is over.

    At the end of `timeout`, or if too many requests wait already, the answer is the job as it is
    then; with Retry-After in the second case.
    """
    given = request.args.get("timeout", str(_WAITS_S))
    if not re.fullmatch(_WAIT, given):
        must = f"seconds, such as 30 or 30s; at most {_MOST_WAIT_S}"
        raise InvalidValue("timeout", given, must)
    job = read.known_job(redis_io.shared(), job_id)
    if job.state in jobs.NOT_ENDED:
        if _slots.acquire(blocking=False):
            try:
                with auth.without_turn():
                    _wait_for(job_id, float(given.rstrip("s")))
            finally:
                _slots.release()
            job = read.known_job(redis_io.shared(), job_id)
        else:
            after_this_request(_retry_after)
    return schemas.job(job)


def _retry_after(response: Any) -> Any:
    response.headers.update(problems.LATER)
    return response


def _wait_for(job_id: str, limit_s: float) -> None:
    """Until it is over, or the time is, or the client has disconnected.

    It polls: to wait in Redis would hold one of the process's few connections.
    """
    # Servers other than ours may hide it.
    has_disconnected = request.environ.get("waitress.client_disconnected", bool)
    watch = results.Watch([jobs.stand_in(job_id, redis_io.shared(), jobs.Job.refresh)])
    give_up_at, pause_s = clock.monotonic() + limit_s, _FIRST_PAUSE_S
    while not watch.look(block_ms=0):
        left_s = give_up_at - clock.monotonic()
        if left_s <= 0 or has_disconnected():
            return
        clock.pause(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


@operation("DELETE", "/jobs/<job_id>", 409)
def cancel_job(job_id: str) -> Job:
    """Cancel a job that has not started."""
    jobs.cancel(job_id)
    return schemas.job(read.known_job(redis_io.shared(), job_id))


@operation("POST", "/jobs/<job_id>/retry", 409, status=202)
def retry_job(job_id: str) -> Job:
    """Retry a failed, stopped or canceled job."""
    jobs.retry(job_id)
    return schemas.job(read.known_job(redis_io.shared(), job_id))


@operation("POST", "/jobs/<job_id>/stop", 409, status=202)
def stop_job(job_id: str) -> Job:
    """Stop a job that runs."""
    jobs.stop(job_id)
    return schemas.job(read.known_job(redis_io.shared(), job_id))


def _url(job_id: str) -> str:
    return auth.own_url(url_for("api.show_job", job_id=job_id))


@operation("POST", "/bulk", 409, status=202)
def act_in_bulk(body: schemas.Bulk) -> Enqueued:
    """Retry, cancel or delete all jobs that match, by a job that a worker runs."""
    rate = bulk.read_rate(body.action, body.rate)
    wanted = bulk.read_filter(body.filter)
    redis = redis_io.shared()
    job = bulk.start(redis, body.action, wanted, body.who, rate, redis_io.now(redis))
    audit.note(job=job.id)
    return Enqueued(job.id, job.origin, _url(job.id))


@operation("GET", "/failures")
def list_failures() -> schemas.FailureGroups:
    """The newest failed jobs, in groups."""

    def read(redis: Redis) -> schemas.FailureGroups:
        found, release = failures.find(redis, census(), is_far=True), newest_release()
        groups = [
            schemas.FailureGroup(
                one.group.key,
                len(one.jobs),
                one.headline,
                one.group.where,
                one.first,
                one.newest.latest,
                [name for name, _ in one.functions],
                [*one.releases],
                one.is_new(release if found.is_all else ""),
                one.ignored.who if one.ignored and one.is_ignored else None,
                one.newest.id,
            )
            for one in found.groups[: failures.MOST_GROUPS]
        ]
        more = len(found.groups) - len(groups)
        left_out = [f"{more:,} more groups"] if more else []
        return schemas.FailureGroups(groups, found.looked_at, found.total, left_out)

    return kept("failures", read, CURRENT_S)


@operation("POST", "/failures/<key>/ignore", 409)
def ignore_failures(key: str, body: schemas.Who) -> schemas.Nothing:
    """Hide a group of failures until it fails on a new release."""
    failures.ignore(redis_io.shared(), failed_group(key), body.who, census().releases)
    return schemas.Nothing()


@operation("POST", "/failures/<key>/stop-ignoring")
def stop_ignoring_failures(key: str, body: schemas.Nothing) -> schemas.Nothing:
    """Show a group of failures again."""
    audit.changed(failures.stop_ignoring(redis_io.shared(), key))
    return body


@operation("GET", "/functions")
def list_functions() -> list[Function]:
    """The functions under JOBS_MODULES, and what each takes."""
    paths = functions.all_paths(settings().jobs_modules)
    return [Function(**functions.described(path)) for path in paths]


@operation("GET", "/queues")
def list_queues() -> Queues:
    """All queues, and how many workers listen to each."""
    seen = census()
    listed = [schemas.Queue(one.name, dict(one.counts), one.workers) for one in seen.queues]
    return Queues(listed, dict(seen.counts_apart), seen.is_suspended, seen.left_out)


@operation("GET", "/pauses")
def list_pauses() -> list[pauses.PausedWork]:
    """All queues and functions that are paused."""
    return pauses.read_pauses(redis_io.shared())


@operation("POST", "/pauses")
def pause(body: schemas.Pause) -> list[pauses.PausedWork]:
    """Let workers start no job of a queue or of a function."""
    what = {"queue": body.queue or None, "function": body.function or None}
    pauses.pause(**what, why=body.why, who=body.who, until=body.until or None)
    return list_pauses()


@operation("POST", "/pauses/resume")
def resume(body: schemas.Resume) -> list[pauses.PausedWork]:
    """End the pause of a queue or of a function."""
    audit.changed(pauses.resume(queue=body.queue or None, function=body.function or None))
    return list_pauses()


@operation("GET", "/schedule")
def show_schedule() -> Schedule:
    """All entries of the schedule."""
    seen = census()
    listed = [*map(schemas.entry, entries.read(redis_io.shared(), _MOST_ENTRIES))]
    more = seen.entries - len(listed)
    return Schedule(seen.scheduler, listed, [f"{more} more entries"] if more > 0 else [])


@operation("GET", "/schedule/<name>", 422)
def show_entry(name: str) -> Entry:
    """An entry and its last runs."""
    history = entries.history(redis_io.shared(), name, _MOST_TICKS)
    return schemas.entry(entries.find(redis_io.shared(), name), history)


@operation("POST", "/schedule/<name>/pause")
def pause_entry(name: str, body: schemas.PauseEntry) -> Entry:
    """Skip an entry's runs until it is resumed."""
    until = body.until or None
    entries.pause(redis_io.shared(), name, who=body.who, why=body.why, until=until)
    return schemas.entry(entries.find(redis_io.shared(), name))


@operation("POST", "/schedule/<name>/resume")
def resume_entry(name: str, body: schemas.Nothing) -> Entry:
    """End an entry's pause."""
    audit.changed(entries.resume(redis_io.shared(), name))
    return schemas.entry(entries.find(redis_io.shared(), name))


@operation("POST", "/schedule/<name>/skip")
def skip_entry(name: str, body: schemas.SkipEntry) -> Entry:
    """Skip the next runs of an entry."""
    entries.skip_next(redis_io.shared(), name, body.count)
    return schemas.entry(entries.find(redis_io.shared(), name))


@operation("POST", "/schedule/<name>/run", status=202)
def run_entry(name: str, body: schemas.Who) -> Enqueued:
    """Enqueue a job of an entry now."""
    queue = entries.find(redis_io.shared(), name).queue
    job_id = entries.run_now(redis_io.shared(), name, body.who)
    audit.note(job=job_id)
    return Enqueued(job_id, queue, _url(job_id))


@operation("GET", "/audit", 422, parameters=_AUDIT)
def list_audit() -> list[AuditEntry]:
    """Who changed what, the newest first: 100 entries."""
    kind = request.args.get("kind", KINDS[0])
    if kind not in KINDS:
        raise InvalidValue("kind", kind, ", ".join(KINDS))
    return audited(redis_io.shared(), kind, request.args.get("before", ""))


@operation("GET", "/openapi.json")
def describe() -> dict[str, Any]:
    """This document."""
    return openapi.document(auth.own_url(request.script_root))
