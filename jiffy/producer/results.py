"""What became of jobs: waiting for their end, seen in the stream that RQ writes results to."""

from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from redis.exceptions import ResponseError
from rq.exceptions import DeserializationError, InvalidJobOperation, NoSuchJobError
from rq.job import Job, JobStatus

from jiffy import clock, keys, redis_io, tracebacks
from jiffy.errors import InvalidValue, JiffyError, JobFailed, StillRunning
from jiffy.producer import functions
from jiffy.producer.job import ENDED
from jiffy.producer.progress import State, progress
from jiffy.settings import settings

# An end comes by itself; this is how soon it is noticed that a job is deleted, or canceled.
_FIRST_LOOK_MS, _LOOK_EVERY_MS = 100, 1000
_SHOW_EVERY_MS = 250
_AT_A_TIME = 100  # jobs whose end is noticed at once; the others' within a second, or so
_SHARE = 10  # at most a tenth of the time goes into looking at these
IS_GONE = "is gone: it was deleted, or its result was kept no longer"
_IS_ODD = "cannot be read: something else stands where Redis has its state or its result"
_SUCCESSFUL = b"1"  # rq.results.Result.Type
_REASON = keys.REASON_FIELD.encode()


def wait(job: Job, timeout: clock.Duration | None = None) -> Any:
    """Block until `job` has ended; return what it returned: `wait(job, timeout="30s")`.

    It is of the type that the function's return annotation names; without one, of JSON's types.

    Raises JobFailed, with the end of the traceback, if it failed, was stopped, canceled or deleted;
    StillRunning after `timeout`.  A job that keeps no result (result_ttl=0) gives None.
    """
    return wait_all([job], timeout)[0]


def wait_all(jobs: Iterable[Job], timeout: clock.Duration | None = None) -> list[Any]:
    """Block until all have ended; return what they returned, in order.  Raises what `wait` does."""
    limit_s = None if timeout is None else clock.seconds(timeout, "timeout")
    deadline = None if limit_s is None else clock.monotonic() + limit_s
    jobs, values = list(jobs), dict[str, Any]()
    for job in jobs:
        if not isinstance(job, Job):
            raise InvalidValue("job", job, "a job, such as find_job(id) returns")
    places = range(0, len(jobs), _AT_A_TIME)
    watches = [Watch(jobs[place : place + _AT_A_TIME]) for place in places]
    look_at_all = 0.0
    while watches:
        is_late = deadline is not None and clock.monotonic() >= deadline
        ended = watches[0].look(deadline)
        began = clock.monotonic()
        if is_late or began >= look_at_all:
            for watch in watches[1:]:
                ended += watch.look(block_ms=0)
            now = clock.monotonic()
            look_at_all = now + max(_LOOK_EVERY_MS / 1000, _SHARE * (now - began))
        values |= {job.id: _value(job, ending) for job, ending in ended}
        watches = [watch for watch in watches if watch.waiting]
        if is_late and watches:
            _raise_still_running(watches[0].waiting[0], limit_s or 0)
    return [values[job.id] for job in jobs]


def follow(
    job: Job,
    timeout_s: float | None = None,
    on_progress: Callable[[State], None] | None = None,
) -> "Ending | None":
    """Block until `job` has ended; return its ending, None after `timeout_s`."""
    watch, block_ms = Watch([job]), None if on_progress is None else _SHOW_EVERY_MS
    deadline = None if timeout_s is None else clock.monotonic() + timeout_s
    while not (ended := watch.look(deadline, block_ms)):
        with suppress(ResponseError):  # something else stands there: the next look finds it
            if on_progress is not None and (state := progress.read(job)) is not None:
                on_progress(state)
        if deadline is not None and clock.monotonic() >= deadline:
            return None
    return ended[0][1]


@dataclass(frozen=True)
class Ending:
    """How a job ended; `is_gone`: there is no such job, so its outcome is unknown, as where it
    `is_odd`: its keys hold something else.
    """

    status: JobStatus
    is_gone: bool = False
    _fields: Mapping[bytes, bytes] = field(default_factory=dict)
    _serializer: Any = None
    is_odd: bool = False

    @cached_property
    def value(self) -> Any:
        """What it returned.  Raises what its serializer does for what cannot be read."""
        raw = self._fields.get(b"return_value")
        return None if raw is None else self._serializer.loads(b64decode(raw))

    @property
    def traceback(self) -> str:
        """The traceback of what it raised, or why it was canceled; "" for nothing."""
        if (raw := self._fields.get(b"exc_string")) is not None:
            return tracebacks.unpacked(raw)
        return self._fields.get(_REASON, b"").decode("utf-8", "replace")


class Watch:
    """Watches jobs until they have ended."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = {job.id: job for job in jobs}
        self._seen: dict[str, bytes] = {}  # job id -> the last entry of its stream
        self._entries: dict[str, dict[bytes, bytes]] = {}
        self._block_ms = _FIRST_LOOK_MS

    @property
    def waiting(self) -> list[Job]:
        """Those that have not ended yet."""
        return list(self._jobs.values())

    def look(
        self, deadline: float | None = None, block_ms: int | None = None
    ) -> list[tuple[Job, Ending]]:
        """Wait for news, not past `deadline`; return those that have ended, once each.

        With `block_ms=0` it only looks: a wait holds a connection.
        """
        if block_ms is None:
            block_ms, self._block_ms = self._block_ms, _LOOK_EVERY_MS
        if deadline is not None and block_ms:
            block_ms = max(1, min(block_ms, int((deadline - clock.monotonic()) * 1000)))
        try:
            statuses, news = self._read(block_ms)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return [(self._jobs.pop(id_), Ending(JobStatus.FAILED, is_odd=True))
                    for id_ in self._odd()]  # fmt: skip
        for job_id, (entry_id, fields) in news.items():
            self._seen[job_id], self._entries[job_id] = entry_id, fields
        ended = []
        for job, (status, reason) in zip(self.waiting, statuses, strict=True):
            if reason is not None and status == JobStatus.CANCELED.value.encode():
                self._entries[job.id] = {_REASON: reason}
            ending = self._ending(job, status, is_new=job.id in news)
            if ending is not None:
                del self._jobs[job.id]
                ended.append((job, ending))
        return ended

    def _read(self, block_ms: int) -> tuple[list[Any], dict[str, tuple[bytes, dict[bytes, bytes]]]]:
        """The statuses and reasons, then the newest entry of each stream, in one round trip."""
        ids = list(self._jobs)
        since = [self._seen.get(job_id, b"0-0") for job_id in ids]
        streams = [keys.results(job_id) for job_id in ids]
        block = ("BLOCK", block_ms) if block_ms else ()
        commands = [
            *(redis_io.command("HMGET", keys.job(id_), "status", keys.REASON_FIELD) for id_ in ids),
            redis_io.command("XREAD", *block, "STREAMS", *streams, *since),
        ]
        redis = self._jobs[ids[0]].connection
        *statuses, reply = redis_io.patiently(redis, lambda: redis_io.exchange(redis, *commands))
        news = {}
        # Pairs, or a dict where a client of the user's speaks RESP 3.
        for stream, entries in dict(reply or ()).items():
            entry_id, flat = entries[-1]
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            news[ids[streams.index(stream.decode())]] = entry_id, fields
        return statuses, news

    def _odd(self) -> list[str]:
        """The ids of those of which a key holds something else."""
        ids = self._jobs.keys()
        with next(iter(self._jobs.values())).connection.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.type(keys.job(job_id))
                pipe.type(keys.results(job_id))
            kinds = pipe.execute()
        found = zip(ids, kinds[::2], kinds[1::2], strict=True)
        return [
            id_
            for id_, job, results in found
            if job not in (b"none", b"hash") or results not in (b"none", b"stream")
        ]

    def _ending(self, job: Job, status: bytes | None, *, is_new: bool) -> Ending | None:
        fields = self._entries.get(job.id, {})
        if is_new and fields.get(b"type") != _SUCCESSFUL:
            # Not the end if it is retried; its status was read before this came.
            raw: Any = job.connection.hget(keys.job(job.id), "status")
            status = None if raw is None else bytes(raw)
        elif is_new:
            status = JobStatus.FINISHED.value.encode()
        if status is None:
            return Ending(JobStatus.FINISHED, is_gone=True)
        if status.decode("utf-8", "replace") not in ENDED:
            return None
        return Ending(JobStatus(status.decode()), False, fields, job.serializer)


def problem(job: Job, ending: Ending) -> str:
    """Why it is not known what a job has come to, as "is gone: …"; "" if it is."""
    try:
        _ = ending.value
        is_lost = ending.is_gone and job.result_ttl != 0
    except NoSuchJobError:  # only its id was known
        is_lost = True
    except (ValueError, RecursionError):
        return _IS_ODD
    return _IS_ODD if ending.is_odd else IS_GONE if is_lost else ""


def _value(job: Job, ending: Ending) -> Any:
    if unknown := problem(job, ending):
        raise JobFailed(job.id, unknown)
    if ending.status != JobStatus.FINISHED:
        raise JobFailed(job.id, ending.status.value, ending.traceback)
    value, function = ending.value, vars(job).get("function")
    if value is not None and not function and "_load" not in vars(job):  # else Redis has its name
        with suppress(JiffyError, DeserializationError):
            function = functions.find(str(job.func_name), settings().jobs_modules)
    return functions.arrived(function, value) if function else value


def _raise_still_running(job: Job, limit_s: float) -> None:
    try:
        status = job.get_status()
    except InvalidJobOperation:  # it is gone
        return
    except ValueError:  # it is none of RQ's
        raise StillRunning(job.id, "in an unknown state", clock.in_words(limit_s)) from None
    if status in ENDED:
        return
    raw: Any = None
    if status in (JobStatus.SCHEDULED, JobStatus.QUEUED):  # what it raised, if it is retried
        raw = job.connection.hget(job.key, keys.REASON_FIELD)
    reason = tracebacks.reason_of(raw.decode("utf-8", "replace")) if raw else ""
    raise StillRunning(job.id, status.value, clock.in_words(limit_s), reason)
