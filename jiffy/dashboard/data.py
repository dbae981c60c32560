"""Jobs and workers, read for showing.  All that a page, the API or `/rq/` tells of a job's data
is decoded here or in `decode.py`: bounded, never executed, and never an exception for a hash that
is corrupt: it is shown as far as it goes, with what is wrong.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import ResponseError

from jiffy import clock, keys
from jiffy.dashboard import decode, waits
from jiffy.dashboard.decode import Raw
from jiffy.dashboard.waits import Waits
from jiffy.errors import NotShown
from jiffy.producer.masking import MASK, Places, is_secret, masked, masked_text
from jiffy.producer.payload import MARK as RESULT_MARK
from jiffy.producer.progress import State
from jiffy.redis_io import script

T = TypeVar("T")

_JOB = (
    "status", "origin", "description", "data", "created_at", "enqueued_at", "started_at",
    "ended_at", "worker_name", "meta", keys.PROGRESS_FIELD, keys.MASKED_FIELD,
    keys.REASON_FIELD, keys.TICK_OF_FIELD, "retries_left", "retry_intervals", "number_of_retries",
    "repeats_left", "dependency_ids",
)  # fmt: skip
_WORKER = (
    "state", ":executions", "current_job", "queues", "hostname", "pid", "birth", "last_heartbeat",
    "successful_job_count", "failed_job_count",
)  # fmt: skip
# In a list, arguments are only looked at to find the function's name.
_MOST_BYTES_IN_LIST = 16 * 1024
_SHORT, _LONG = 300, 20_000
# In which states it is true what the hash says of it; in others it is of an earlier time.
_HAS_PROGRESS = ("started", "failed", "stopped")
_HAS_REASON = ("canceled", "queued", "scheduled")
_HAS_RETRIES = ("queued", "scheduled", "deferred", "started")
HAS_ERROR = ("failed", "stopped")  # the same of its results
_SUCCESSFUL = "1"  # rq.results.Result.Type


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job as it can be shown: texts are clipped, `problems` says what could not be read."""

    id: str
    state: str
    queue: str
    description: str
    function: str  # its path; "" where it cannot be read
    arguments: str  # as they stand in a call: 5, width=200
    created: datetime | None
    enqueued: datetime | None
    started: datetime | None
    ended: datetime | None
    worker: str
    progress: State | None
    meta: Mapping[str, Any]
    problems: tuple[str, ...]
    result: Any = None
    has_result: bool = False
    error: str = ""  # its traceback, or that of the last try; or why it was canceled
    waits_for: str = ""  # while it is scheduled or deferred: retry, time, jobs
    retries_left: int | None = None  # after the try that comes, or runs; until it is over
    retries: int | None = None  # how many there were at first, where the job says so
    depends_on: tuple[str, ...] = ()
    waits: Waits = waits.NOTHING  # while it is deferred
    due: datetime | None = None  # while it is scheduled
    entry: str = ""  # of the schedule, whose tick it is

    @property
    def is_running(self) -> bool:
        return self.state == "started"

    @property
    def title(self) -> str:
        """The description that it was given; its function where that is the call in words."""
        is_given = not self.description.startswith(f"{self.function}(")
        return (is_given and self.description) or self.function

    @property
    def waited_s(self) -> float | None:
        """From the queue to its start, or until now."""
        return self._between(self.enqueued, self.started, is_open=self.state == "queued")

    @property
    def ran_s(self) -> float | None:
        return self._between(self.started, self.ended, is_open=self.is_running)

    @property
    def waits_in_words(self) -> str:
        """Of a job that is to be tried again: how many tries are left."""
        if self.waits_for != "retry":
            return ""
        if self.retries_left is None:
            return "waits for a retry"
        of = f" of {self.retries:,}" if self.retries and self.retries > self.retries_left else ""
        return f"waits for a retry, {self.retries_left:,}{of} left"

    @property
    def cause(self) -> str:
        """The last line of its traceback, which says what went wrong."""
        return self.error.strip().rpartition("\n")[2]

    @property
    def latest(self) -> datetime | None:
        """When something last happened to it."""
        return self.ended or self.started or self.enqueued or self.created

    def _between(
        self, begin: datetime | None, end: datetime | None, *, is_open: bool
    ) -> float | None:
        if begin is not None and is_open:
            end = clock.now()
        if begin is None or end is None:
            return None
        return max(0.0, (end - begin).total_seconds())


@dataclass(frozen=True, kw_only=True)
class WorkerView:
    """A worker as it last told of itself."""

    name: str
    state: str
    queues: tuple[str, ...]
    place: str
    job_id: str
    born: datetime | None
    seen: datetime | None
    done: str
    failed: str


def read_job(redis: Redis, job_id: str) -> JobView | None:
    """The job with its latest result; None where there is none of that id."""
    found = read_jobs(redis, [job_id], most_bytes=decode.MOST_BYTES).get(job_id)
    if found is None:
        return None
    if found.state == "scheduled":
        score = redis.zscore(keys.REGISTRIES["scheduled"] + found.queue, job_id)
        found = replace(found, due=decode.due(score))
    if found.state == "deferred":
        found = _waiting(redis, found)
    return _with_result(redis, found)


def _waiting(redis: Redis, job: JobView) -> JobView:
    found = waits.read(redis, job.id, job.depends_on)
    ids = job.depends_on or tuple(other.id for other in found.others)
    return replace(job, waits=found, depends_on=ids)


def read_jobs(
    redis: Redis, job_ids: Sequence[str], *, most_bytes: int = _MOST_BYTES_IN_LIST
) -> dict[str, JobView]:
    """Those of the jobs that exist, by id, in one round trip, without their results."""
    hashes = _peek(redis, [keys.job(job_id) for job_id in job_ids], _JOB, most_bytes)
    return {
        job_id: job_view(job_id, raw)
        for job_id, raw in zip(job_ids, hashes, strict=True)
        if raw is not None
    }


def read_errors(redis: Redis, job_ids: Sequence[str]) -> dict[str, str]:
    """Those of the jobs' latest tracebacks that can be shown, in one round trip."""
    if not job_ids:
        return {}
    streams = [keys.results(job_id) for job_id in job_ids]
    answer = script(redis, "errors")(keys=streams, args=[_MOST_BYTES_IN_LIST])
    errors = {}
    for job_id, raw in zip(job_ids, answer, strict=True):
        with suppress(NotShown):
            errors[job_id] = _traceback(raw)
    return errors


def read_workers(redis: Redis, worker_keys: Sequence[str]) -> list[WorkerView]:
    """Those of the workers that are alive, in one round trip."""
    hashes = _peek(redis, worker_keys, _WORKER, _MOST_BYTES_IN_LIST)
    pairs = zip(worker_keys, hashes, strict=True)
    return [_worker_view(key, raw) for key, raw in pairs if raw is not None]


def job_view(job_id: str, raw: Mapping[str, Raw]) -> JobView:
    """What the fields of a job's hash say."""
    read = _Reading(raw)
    hidden = Places.read(read(keys.MASKED_FIELD, _line, ""))
    function, arguments = read("data", lambda data: _call(data, hidden), ("", ""))
    state = read("status", _line, "") or "unknown"
    started = read("started_at", decode.time, None)
    error = read(keys.REASON_FIELD, _text, "") if state in _HAS_REASON else ""
    retries_left = read("retries_left", _count, None) if state in _HAS_RETRIES else None
    # Stock RQ writes no reason.  A job that repeats was started before, too.
    was_tried = read("number_of_retries", _count, None) or (started and retries_left is not None)
    is_tried_again = error or (was_tried and not read("repeats_left", _line, ""))
    return JobView(
        id=job_id,
        state=state,
        queue=read("origin", _line, ""),
        description=masked_text(read("description", decode.text, "")[:_LONG]),
        function=function,
        arguments=arguments,
        created=read("created_at", decode.time, None),
        enqueued=read("enqueued_at", decode.time, None),
        started=started,
        ended=read("ended_at", decode.time, None),
        worker=read("worker_name", _line, ""),
        entry=read(keys.TICK_OF_FIELD, _line, ""),
        progress=read(keys.PROGRESS_FIELD, _progress, None) if state in _HAS_PROGRESS else None,
        meta=read("meta", _meta, {}),
        error=error,
        waits_for=_waits_for(state, bool(is_tried_again)),
        retries_left=retries_left,
        retries=len(read("retry_intervals", _list, [])) or None,
        depends_on=tuple(map(str, read("dependency_ids", _list, []))),
        problems=tuple(read.problems),
    )


def _waits_for(state: str, is_tried_again: bool) -> str:
    if state == "scheduled":
        return "retry" if is_tried_again else "time"
    return "jobs" if state == "deferred" else ""


class _Reading:
    """Reads field after field, and keeps what was wrong with them."""

    def __init__(self, raw: Mapping[str, Raw]) -> None:
        self._raw = raw
        self.problems = [str(raw["?"])] if "?" in raw else []

    def __call__(self, field: str, parse: Callable[[Raw], T], otherwise: T) -> T:
        try:
            return parse(self._raw.get(field))
        except NotShown as reason:
            self.problems.append(f"{field} is {reason}")
            return otherwise


def _peek(
    redis: Redis, names: Sequence[str], fields: Sequence[str], most_bytes: int
) -> list[Mapping[str, Raw] | None]:
    if not names:
        return []
    answer = script(redis, "peek")(keys=list(names), args=[most_bytes, *fields])
    return [_fields(fields, values) for values in answer]


def _fields(fields: Sequence[str], values: Any) -> Mapping[str, Any] | None:
    if isinstance(values, bytes):
        return {"?": f"its key holds no hash: {decode.text(values)}"}
    if all(value is None for value in values):
        return None
    return dict(zip(fields, values, strict=True))


def _job_of(raw: Raw) -> str:
    return _line(raw).partition(":")[0]


def _line(raw: Raw) -> str:
    return decode.clip(decode.text(raw), _SHORT)


def _text(raw: Raw) -> str:
    return decode.clip(decode.text(raw), _LONG)


def _count(raw: Raw) -> int | None:
    text = _line(raw)
    if text and not text.isdecimal():
        raise NotShown(f"not a number: {text!r}")
    return int(text) if text else None


def _list(raw: Raw) -> list[Any]:
    found = decode.value(decode.inflated(raw)) if raw else []
    if not isinstance(found, list):
        raise NotShown("no list")
    return found


def _call(raw: Raw, hidden: Places) -> tuple[str, str]:
    """A job's function and arguments, out of RQ's tuple of (function, instance, args, kwargs).

    What is named like a secret is masked, and so is what stands at the places `hidden`.
    """
    call = decode.value(decode.inflated(raw))
    match call:
        case [str(function), _, list(args), dict(kwargs)]:
            by_place = [_written(value, place in hidden) for place, value in enumerate(args)]
            by_name = [f"{name}={_written(kwargs[name], is_secret(name))}" for name in kwargs]
            arguments = ", ".join(by_place + by_name)
            return decode.clip(function, _SHORT), decode.clip(arguments, _LONG)
    raise NotShown("no call of a function")


def _written(value: Any, is_secret_itself: bool) -> str:
    shown = masked(value, is_secret_itself=is_secret_itself)
    if shown is not value and is_secret_itself:
        return MASK
    return json.dumps(shown, ensure_ascii=False).replace(RESULT_MARK, "result")


def _progress(raw: Raw) -> State | None:
    state = State.decode(decode.text(raw))
    if state is None:
        return None
    told = state.fraction
    is_number = isinstance(told, int | float) and not isinstance(told, bool) and 0 <= told <= 1
    return State(told if is_number else None, decode.clip(state.note, _SHORT))


def _meta(raw: Raw) -> Mapping[str, Any]:
    if raw is None:
        return {}
    meta = decode.value(decode.inflated(raw))
    if not isinstance(meta, dict):
        raise NotShown("no object")
    masked_meta: Mapping[str, Any] = masked(meta)
    return masked_meta


def _with_result(redis: Redis, job: JobView) -> JobView:
    key = keys.results(job.id)
    try:
        # A stream cannot be read in part: ask for its size first.
        size = redis.memory_usage(key) or 0
        if size > 10 * decode.MOST_BYTES:
            raise NotShown(f"too large: {size:,} bytes")
        return _told_by(job, redis.xrevrange(key, count=1))
    except (NotShown, ResponseError) as reason:
        return replace(job, problems=(*job.problems, f"result is {reason}"))


def _told_by(job: JobView, entries: Any) -> JobView:
    if not entries:
        return job
    fields = entries[0][1]
    if decode.text(fields.get(b"type")) != _SUCCESSFUL:
        is_of_now = job.state in HAS_ERROR
        return replace(job, error=_traceback(fields.get(b"exc_string"))) if is_of_now else job
    raw = _unwrapped(fields.get(b"return_value"))
    return replace(job, has_result=True, result=decode.value(raw) if raw else None)


def _traceback(raw: bytes | None) -> str:
    return decode.clip(decode.text(decode.inflated(_unwrapped(raw))), _LONG)


def _unwrapped(raw: bytes | None) -> bytes:
    try:
        return base64.b64decode(raw or b"", validate=True)
    except binascii.Error:
        raise NotShown("not base64") from None


def _worker_view(key: str, raw: Mapping[str, Raw]) -> WorkerView:
    read = _Reading(raw)
    host, pid = read("hostname", _line, ""), read("pid", _line, "")
    return WorkerView(
        name=decode.clip(key.removeprefix(keys.WORKER), _SHORT),
        state=read("state", _line, "") or "unknown",
        queues=tuple(name for name in read("queues", decode.text, "").split(",") if name),
        place=f"{host}:{pid}" if pid else host,
        # Of a worker of RQ 2 the hash says it.
        job_id=read(":executions", _job_of, "") or read("current_job", _line, ""),
        born=read("birth", decode.time, None),
        seen=read("last_heartbeat", decode.time, None),
        done=read("successful_job_count", _line, "") or "0",
        failed=read("failed_job_count", _line, "") or "0",
    )
