"""What Redis holds, read to be shown: jobs, queues, workers; what `values.py` could not read is
named in `problems`.

Jobs and users' programs may import this one.
"""

import base64
import binascii
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain, compress, islice
from typing import Any, Literal, NamedTuple

from redis import Redis
from redis.exceptions import RedisError

from jiffy import clock, keys, log, redis_io
from jiffy.control import values
from jiffy.control.values import Fields, Moment, Raw, clip, due, lasted_s, line, number, text
from jiffy.errors import NotShown, UnknownJob
from jiffy.producer import payload, retry
from jiffy.producer.job import ENDED
from jiffy.producer.masking import MASK, Masked, is_secret, is_secret_place, masked, masked_text
from jiffy.producer.progress import State
from jiffy.redis_io import Memory, run_script, source
from jiffy.tracebacks import Group, reason_of

STATES = ("queued", *keys.REGISTRIES)
APART = ("ready_to_enqueue", "rate_limited")  # states without a registry among these
_HAS_ERROR = ("failed", "stopped")  # in which states the result is an error
_ERROR = "!exc_string"  # of the newest result, where it is asked for
_MOST_OTHERS = 1000  # jobs that one waits for, or that hold slots, of which the states are read
_MOST_SHOWN = 20  # of these, as what it depends on
_MOST_FAMILY = 100  # jobs of a workflow
MOST_ATTEMPTS = 10  # RQ keeps no more
MOST_BEFORE = 100_000  # jobs of a queue among which one's position is looked for
_CHUNK = 250  # jobs of many that are in memory at a time

JOB_FIELDS = (
    "status", "origin", "description", "data", "created_at", "enqueued_at", "started_at",
    "ended_at", "worker_name", keys.PROGRESS_FIELD, keys.MASKED_FIELD,
    keys.REASON_FIELD, keys.TICK_OF_FIELD, keys.JOIN_FIELD, "retries_left", "retry_intervals",
    "number_of_retries", "repeats_left", "dependency_ids", "rate_limit_key",
    "rate_limit_concurrency", "timeout", keys.RELEASE_FIELD,
)  # fmt: skip
_OF_ONE = ("meta", keys.LOG_FIELD, keys.PARTS_FIELD, keys.PEAK_FIELD, keys.CAUSES_FIELD,
           "allow_dependency_failures", "result_ttl", "failure_ttl", "ttl", keys.EXPIRES_FIELD,
           keys.RETRY_FIELD, keys.RESCUE_FIELD, keys.ISOLATE_FIELD, "success_callback_name",
           "failure_callback_name", "stopped_callback_name")  # fmt: skip
_LASTING = {"timeout": "timeout", "result_ttl": "result_ttl", "failure_ttl": "failure_ttl",
            "ttl": "ttl", "expires": keys.EXPIRES_FIELD}  # fmt: skip
# In which states it is true what the hash says; in others it is left over from an earlier one.
_HAS_PROGRESS = ("started", "failed", "stopped")
_HAS_REASON = ("canceled", "queued", "scheduled")
_HAS_RETRIES = ("queued", "scheduled", "deferred", "started")
_SUCCESSFUL = "1"  # rq.results.Result.Type
_OUTCOMES = {"1": "finished", "2": "failed", "3": "stopped", "4": "retried", "5": "failed"}
_CALL = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+)\(")  # RQ's description: jobs.numbers.add(2, 3)
_MOST_COUNTED = 2000  # queues and workers of a census
_MOST_NAMED = 10_000  # workers, of which most may be gone
_MOST_NEXT, _MOST_BESIDE = 10, 100  # jobs and workers of a queue
_LATE_S = 120  # stock RQ's workers write a heartbeat every 90 s while they run a job
_OURS_LATE_S = 30  # ours every 3.3 s
WORKER_FIELDS = (
    "state", ":executions", "current_job", "queues", "hostname", "pid", "birth", "last_heartbeat",
    "successful_job_count", "failed_job_count", "total_working_time", "version",
    keys.RELEASE_FIELD, keys.DYNO_FIELD, keys.MEMORY_FIELD, keys.QUIET_FIELD,
)  # fmt: skip


class Relative(NamedTuple):
    """A job of a workflow, and the ids of those that run before it and after it."""

    id: str
    state: str  # "gone" where it cannot be read
    title: str
    before: Sequence[str]
    after: Sequence[str]


class Family(NamedTuple):
    """The jobs of a workflow, the nearest first; at least `left_out` more were seen."""

    jobs: Sequence[Relative]
    left_out: int


@dataclass(frozen=True)
class Attempt:
    outcome: str  # finished, failed, stopped or retried
    worker: str
    started: datetime | None  # None in what RQ before 3.0 wrote
    ended: datetime | None

    @property
    def ran_s(self) -> float | None:
        return lasted_s(self.started, self.ended)


@dataclass(frozen=True)
class Slot:
    """A rate limit, and how many of the jobs that hold its slots are running and queued."""

    key: str
    limit: int
    running: int
    queued: int

    def __str__(self) -> str:
        held = f"{self.running:,} running, {self.queued:,} queued"
        return f"{self.key!r} ({self.running + self.queued:,} of {self.limit:,}: {held})"


@dataclass(frozen=True)
class LogLine:
    """A line that a job's code has logged."""

    at: Moment | None
    level: str
    logger: str
    text: str


@dataclass(frozen=True)
class Log:
    """What a job's code has logged in its last attempt that logged; while it runs, it grows.

    left_out: How many lines are missing.
    head: Behind so many lines; 0: before the first.
    """

    lines: tuple[LogLine, ...] = ()
    left_out: int = 0
    head: int = 0


NO_LOG = Log()


class Call(NamedTuple):
    """A call as it can be shown: what is named like a secret is masked."""

    function: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job as it can be shown: strings are clipped, `problems` says what could not be read."""

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
    is_unreadable: bool  # some of it is broken, and not only pickled or too large
    release: str = ""  # on which it failed
    result: Any = None
    has_result: bool = False
    error: str = ""  # its traceback, or that of the last attempt; or why it was canceled
    waits_for: str = ""  # retry, time, jobs, slot
    retries_left: int | None = None  # after the coming or running attempt; None once it is over
    retries: int | None = None  # how many there were at first, where the job says so
    depends_on: tuple[str, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)  # while deferred: not over, by id
    others_left_out: int = 0
    slot: Slot | None = None  # the rate limit that it waits for, while it is rate_limited
    due: datetime | None = None  # while it is scheduled
    entry: str = ""  # of the schedule, that enqueued it
    limit_s: int | None = None  # how long it may run
    call: Call | None = None  # its function and arguments, with masks
    # Of a job that is read alone:
    attempts: tuple[Attempt, ...] = ()  # the last ones, newest first
    position: int | None = None  # how many jobs stand before it on its queue
    is_waited_for: bool = False  # by another job
    log: Log = NO_LOG  # of its last attempt that logged
    crashes: tuple[str, ...] = ()  # why and when its process died, the first one first
    peak_bytes: int = 0  # the most memory that the process of its last attempt had; 0: unknown
    options: Mapping[str, Any] = field(default_factory=dict)  # as it was enqueued, in JSON's form

    @property
    def is_running(self) -> bool:
        return self.state == "started"

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def title(self) -> str:
        """The description that it was given; its function where that is only the call."""
        is_given = not self.description.startswith(f"{self.function}(")
        return (is_given and self.description) or self.function

    @property
    def called(self) -> str:
        """Its function, also where only the description says it; "" where nothing does."""
        if self.function:
            return self.function
        found = _CALL.match(self.description)
        return found[1] if found else ""

    @property
    def in_the_way(self) -> list[str]:
        """Which of the others have to be retried first, each with its state."""
        ended = ("failed", "stopped", "canceled")
        return [f"{one} ({state})" for one, state in self.others.items() if state in ended]

    @property
    def waited_s(self) -> float | None:
        """From the queue to its start, or until now."""
        return lasted_s(self.enqueued, clock.now() if self.state == "queued" else self.started)

    @property
    def ran_s(self) -> float | None:
        return lasted_s(self.started, clock.now() if self.is_running else self.ended)

    @cached_property
    def group(self) -> Group:
        """With which other failures it belongs together."""
        return Group.of(self.error)

    @cached_property
    def reason(self) -> str:
        """What went wrong, in one line."""
        return reason_of(self.error)

    @property
    def mark(self) -> str:
        """Another one as soon as something has happened to it."""
        said = self.state, self.enqueued, self.started, self.ended
        return f"{zlib.crc32(repr(said).encode()):x}"

    @property
    def latest(self) -> datetime | None:
        """When something last happened to it."""
        moments = filter(None, (self.ended, self.started, self.enqueued, self.created))
        # One that is tried again was enqueued after it had ended.
        return next(moments, None) if self.has_ended else max(moments, default=None)


def job(redis: Redis, job_id: str) -> JobView | None:
    """The job with its latest result; None where there is none of that id."""
    [read] = values.peek(redis, [keys.job(job_id)], (*JOB_FIELDS, *_OF_ONE), values.MOST_BYTES)
    if read is None:
        return None
    log, peak = read(keys.LOG_FIELD, _log, NO_LOG), read(keys.PEAK_FIELD, number, None)
    found = _job(job_id, read)
    is_queued = found.state == "queued"
    with redis.pipeline(transaction=False) as pipe:
        pipe.zscore(keys.jobs_in("scheduled", found.queue), job_id)
        pipe.zscore(keys.ENTRIES, job_id)
        pipe.lpos(keys.queue(found.queue), job_id, maxlen=MOST_BEFORE if is_queued else 1)
        pipe.exists(keys.dependents(job_id))
        pipe.memory_usage(keys.results(job_id))
        score, of_entry, position, dependents, size = values.answers(pipe)
    parts = read(keys.PARTS_FIELD, values.long_text, "")
    found = replace(
        found,
        due=due(of_entry if score is None else score) if found.state == "scheduled" else None,
        position=position if is_queued else None,
        is_waited_for=bool(dependents or read(keys.JOIN_FIELD, line, "")),
        log=log,
        crashes=tuple(read(keys.CAUSES_FIELD, values.long_text, "").splitlines()),
        peak_bytes=peak or 0,
        options=_options(found, read),
    )
    if found.state == "deferred":
        may_fail = read("allow_dependency_failures", line, "") == "1"
        found = _with_others(redis, found, ("finished", "gone", *["failed"] * may_fail))
    if parts and not found.depends_on:
        found = replace(found, depends_on=tuple(parts.split(",")[:_MOST_FAMILY]))
    if found.state == "rate_limited":
        key, limit = read("rate_limit_key", line, ""), read("rate_limit_concurrency", number, None)
        holders = f"{keys.RQ}rl:{key}:allowed"  # which are queued or running
        held = values.answer(redis.zcard, holders) or 0
        ids = [text(one) for one in values.answer(redis.zrange, holders, 0, _MOST_OTHERS - 1) or ()]
        running = sum(state == "started" for state in states_of(redis, ids).values())
        found = replace(found, slot=Slot(key, limit or 0, running, held - running))
    found = _with_result(redis, found, size or 0)
    # Both may have been deleted, or expired, since the hash was read: it would have returned None.
    is_gone = found.has_ended and not found.attempts and not redis.exists(keys.job(job_id))
    return None if is_gone else found


def known_job(redis: Redis, job_id: str) -> JobView:
    """The same; raises UnknownJob where there is none."""
    found = job(redis, job_id)
    if found is None:
        raise UnknownJob(job_id)
    return found


def jobs(
    redis: Redis, job_ids: Sequence[str], *, with_errors: bool = False, newest: int | None = None
) -> dict[str, JobView]:
    """Those of the jobs that exist, by id, in one round trip, without their results.

    `with_errors`: those that failed with their latest traceback.  `newest`: only so many, to which
    something happened last.
    """
    names, fields = [keys.job(job_id) for job_id in job_ids], [*JOB_FIELDS, *[_ERROR] * with_errors]
    hashes = values.peek(redis, names, fields, values.MOST_BYTES_IN_LIST, newest)
    found = zip(job_ids, hashes, strict=True)
    return {job_id: _job(job_id, read) for job_id, read in found if read is not None}


def members(
    redis: Redis, lists: Iterable[tuple[str, str]], offset: int, count: int
) -> dict[str, datetime | None]:
    """The ids of the next few jobs of each list, by its state and key, in one round trip.

    The newest first; of scheduled ones those that are due soonest, with that time.
    """
    found: dict[str, datetime | None] = {}
    with redis.pipeline(transaction=False) as pipe:
        first, last = offset, offset + count - 1
        for state, key in lists:
            if key.startswith(keys.queue("")):
                pipe.lrange(key, -last - 1, -first - 1)
            elif state == "scheduled":
                pipe.zrange(key, first, last, withscores=True)
            else:
                pipe.zrange(key, first, last, desc=True)
        for member in chain.from_iterable(answer or () for answer in values.answers(pipe)):
            raw, score = (member, None) if isinstance(member, bytes) else member
            found[text(raw).partition(":")[0]] = due(score)
    return found


def _job(job_id: str, read: Fields) -> JobView:
    hidden = read(keys.MASKED_FIELD, line, "")
    call = read.unpacked("data", lambda found: _call(found, hidden), None)
    state = read("status", line, "") or "unknown"
    started = read("started_at", values.moment, None)
    error = read(keys.REASON_FIELD, values.long_text, "") if state in _HAS_REASON else ""
    error = read(_ERROR, _traceback, "") if state in _HAS_ERROR else error
    retries_left = read("retries_left", number, None) if state in _HAS_RETRIES else None
    # Stock RQ writes no reason.  A job that repeats was started before, too.
    was_tried = read("number_of_retries", number, None) or (started and retries_left is not None)
    is_retried = error or (was_tried and not read("repeats_left", line, ""))
    depends_on = read.json("dependency_ids", list, [])
    waits_for = {"deferred": "jobs", "rate_limited": "slot",
                 "scheduled": "retry" if is_retried else "time"}  # fmt: skip
    return JobView(
        id=job_id,
        state=state,
        queue=read("origin", line, ""),
        description=masked_text(read("description", values.long_text, "")),
        function=clip(call.function, values.SHORT) if call else read.function(),
        arguments=_written(call) if call else "",
        call=call,
        created=read("created_at", values.moment, None),
        enqueued=read("enqueued_at", values.moment, None),
        started=started,
        ended=read("ended_at", values.moment, None),
        worker=read("worker_name", line, ""),
        release=read(keys.RELEASE_FIELD, line, "") if state in _HAS_ERROR else "",
        entry=read(keys.TICK_OF_FIELD, line, ""),
        # RQ writes -1 where there is none.
        limit_s=read("timeout", lambda raw: None if line(raw) == "-1" else number(raw), None),
        progress=read(keys.PROGRESS_FIELD, _progress, None) if state in _HAS_PROGRESS else None,
        meta=masked(read.json("meta", dict, {})),
        error=error,
        waits_for=waits_for.get(state, ""),
        retries_left=retries_left,
        retries=len(read.json("retry_intervals", list, [])) or None,
        depends_on=tuple(clip(str(one), values.SHORT) for one in depends_on),
        problems=tuple(read.problems),
        is_unreadable=read.is_broken,
    )


def _options(job: JobView, read: Fields) -> dict[str, Any]:
    """The options that its hash still says, with values that the API takes; -1: no limit."""
    found: dict[str, Any] = {"queue": job.queue}
    for name, key in _LASTING.items():
        lasts_s: int | None = read(key, lambda raw: -1 if line(raw) == "-1" else number(raw), None)
        found[name] = clock.in_units(lasts_s) if lasts_s and lasts_s > 0 else lasts_s
    pauses = read.json("retry_intervals", list, [])
    # A job that returns a Retry is counted as retried, too, and has none left to count.
    left = read("retries_left", number, None)
    done = 0 if left is None else read("number_of_retries", number, None) or 0
    is_sound = all(type(one) in (int, float) and 0 <= one < 1e9 for one in pauses)
    if (count := max(len(pauses), (left or 0) + done)) and is_sound:
        found["retry"] = retry.given(pauses or [0], count, read(keys.RETRY_FIELD, text, ""))
    found["rescue"] = read(keys.RESCUE_FIELD, line, "") != "no"
    found["isolate"] = read(keys.ISOLATE_FIELD, line, "") == "yes"
    for when in ("success", "failure", "stopped"):
        found[f"on_{when}"] = read(f"{when}_callback_name", line, "") or None
    if limit := read("rate_limit_key", line, ""):
        found["rate_limit"] = f"{limit}:{read('rate_limit_concurrency', number, None) or 1}"
    return {name: value for name, value in found.items() if value is not None and value != ""}


def _call(found: Any, hidden: str) -> Call | None:
    """A job's call, out of RQ's tuple of (function, instance, args, kwargs).

    What is named like a secret is masked, and so are the positional arguments `hidden`.
    """
    match found:
        case [str(function), _, list(args), dict(kwargs)]:
            shown = [
                masked(one, is_secret_itself=is_secret_place(hidden, place))
                for place, one in enumerate(args)
            ]
            named = {
                name: masked(one, is_secret_itself=is_secret(name)) for name, one in kwargs.items()
            }
            return Call(function, tuple(shown), named)
    raise NotShown("not a call of a function")


def _written(call: Call) -> str:
    """The arguments as they stand in a call; more are not shown, however short they are."""
    args = map(_in_call, call.args)
    kwargs = (f"{name}={_in_call(one)}" for name, one in call.kwargs.items())
    return clip(", ".join(islice(chain(args, kwargs), values.LONG // 3)), values.LONG)


def _in_call(value: Any) -> str:
    if type(value) is Masked:
        return MASK
    return json.dumps(value, ensure_ascii=False).replace(payload.MARK, "result")


def _progress(raw: Raw) -> State | None:
    match values.value(values.unread(raw)) if raw else None:
        case None:
            return None
        case {"fraction": None | int() | float() as fraction, "note": str(note)}:
            known = fraction if fraction is not None and 0 <= fraction <= 1 else None
            return State(known, clip(note, values.SHORT))
    raise NotShown("not a fraction and a note")


def _log(raw: Raw) -> Log:
    match values.value(values.unread(raw)) if raw else [0, 0, []]:
        case [int(left_out), int(head), list(lines)] if left_out >= 0 <= head <= len(lines):
            return Log(tuple(map(_log_line, lines)), left_out, head)
    raise NotShown("not a log")


def _log_line(written: Any) -> LogLine:
    """Control characters are shown as escapes, and secrets are masked as in a description."""
    match written:
        case [int() | float() as at, str(level), str(logger), str(message)]:
            shown = log.printable(masked_text(clip(message, values.LONG)))
            return LogLine(due(at), clip(level, 20), clip(logger, values.SHORT), shown)
    raise NotShown("not a log")


def _traceback(raw: Raw) -> str:
    return values.long_text(values.inflated(_unwrapped(raw)))


def _unwrapped(raw: Raw) -> bytes:
    try:
        return base64.b64decode(values.unread(raw), validate=True)
    except binascii.Error:
        raise NotShown("not base64") from None


def _with_others(redis: Redis, job: JobView, over: Sequence[str]) -> JobView:
    """With what it waits for: the parts of its chain or group, or else those that it depends on,
    without those whose state is one of `over`.
    """
    with redis.pipeline(transaction=False) as pipe:
        pipe.zrange(keys.pending(job.id), 0, _MOST_OTHERS - 1)
        pipe.zcount(keys.pending(job.id), 0, "+inf")
        parts, count = values.answers(pipe)
    # "" is their producer, which has not written all of them yet.
    ids = tuple(text(part) for part in parts or () if part) or job.depends_on[:_MOST_OTHERS]
    left_out = max(count or 0, len(job.depends_on)) - len(ids)
    states = states_of(redis, ids)
    return replace(
        job,
        others={one: states[one] for one in ids if states[one] not in over},
        others_left_out=left_out,
        depends_on=job.depends_on or ids[:_MOST_SHOWN],
    )


def family(redis: Redis, job_id: str) -> Family:
    """The jobs of its workflow, in one round trip."""
    left_out, found = run_script(redis, "family", [keys.job(job_id)], [job_id, _MOST_FAMILY])
    return Family(
        [
            Relative(
                line(one), line(status) or "gone", masked_text(line(title)),
                [*map(line, before)], [*map(line, after)],
            )
            for one, status, title, before, after in found
        ],
        left_out,
    )  # fmt: skip


def states_of(redis: Redis, ids: Sequence[str]) -> dict[str, str]:
    """The state of each job, "gone" where it cannot be read, in one round trip."""
    found = values.peek(redis, [*map(keys.job, ids)], ["status"], values.SHORT)
    return {
        job_id: (read and read("status", line, "")) or "gone"
        for job_id, read in zip(ids, found, strict=True)
    }


def _with_result(redis: Redis, job: JobView, size_bytes: int) -> JobView:
    """With its latest attempts, newest first; `size_bytes` is that of all that is kept of them."""
    try:
        if size_bytes > 10 * values.MOST_BYTES:  # a stream cannot be read in part
            raise values.Sound(f"too large: {size_bytes:,} bytes")
        # Those that are large are of jobs that return much: their last result is enough.
        most = MOST_ATTEMPTS if size_bytes < values.MOST_BYTES else 1
        results = values.answer(redis.xrevrange, keys.results(job.id), count=most)
        if results is None:
            raise NotShown("not a stream: its key holds another type")
        attempts = [_attempt(at, fields) for at, fields in results]
        if attempts and job.state == "stopped":  # RQ writes that it failed
            attempts[0] = replace(attempts[0], outcome="stopped")
        job = replace(job, attempts=tuple(attempts))
        found = results[0][1] if results else {}
        if line(found.get(b"type")) == _SUCCESSFUL:
            raw = found.get(b"return_value")
            result = values.value(_unwrapped(raw)) if raw else None
            return replace(job, has_result=True, result=result)
        if job.state in _HAS_ERROR:
            return replace(job, error=_traceback(found.get(b"exc_string")))
    except NotShown as reason:
        is_unreadable = job.is_unreadable or not isinstance(reason, values.Sound)
        problems = (*job.problems, f"result is {reason}")
        return replace(job, problems=problems, is_unreadable=is_unreadable)
    return job


def _attempt(written_at: bytes, fields: Mapping[bytes, bytes]) -> Attempt:
    read = Fields({line(name): raw for name, raw in fields.items()})
    written_s = int(written_at.partition(b"-")[0]) / 1000
    return Attempt(
        outcome=_OUTCOMES.get(read("type", line, ""), "other"),
        worker=read("worker_name", line, ""),
        started=due(read("execution_started_at", values.decimal, 0.0) or None),
        ended=due(read("execution_ended_at", values.decimal, 0.0) or written_s),
    )


# Queues and workers


@dataclass(frozen=True, kw_only=True)
class QueueCount:
    """A queue, how many of its jobs are in each state, and the workers that serve it."""

    name: str
    counts: Mapping[str, int]
    is_unreadable: bool  # one of its keys holds another type, or its name is not UTF-8
    waits_since: datetime | None  # when the oldest waiting job was enqueued
    workers: int  # that are alive and listen to it; quiet ones do not
    busy: int  # of these

    @property
    def is_heard(self) -> bool:
        return self.workers > 0

    @property
    def all_busy(self) -> str:
        """That each worker that listens to it runs a job, in words; "" where it is not so."""
        if not 0 < self.workers <= self.busy:
            return ""
        return (
            "its one worker is busy"
            if self.workers == 1
            else f"all {self.workers:,} workers are busy"
        )

    def waited_s(self, now: datetime) -> float:
        """Of its oldest waiting job, by Redis' clock; 0 where there is none."""
        return lasted_s(self.waits_since, now) or 0.0


@dataclass(frozen=True, kw_only=True)
class Census:
    """All queues, how many workers are alive, and whether a scheduler is."""

    queues: tuple[QueueCount, ...]
    workers: int
    states: Mapping[str, int]  # of workers -> how many are in it
    releases: Mapping[str, int]  # of our workers -> how many workers run it
    memory: Memory
    paused: Mapping[bytes, bytes]  # as it is stored; see `pauses.in_force`
    ignored: Mapping[bytes, bytes]  # groups of failures; see `failures.ignore`
    # A scheduler that has died is away within some 4 s.  "none": it would have nothing to do.
    scheduler: Literal["ok", "away", "none"]
    entries: int  # of the schedule, that are to run
    next_run: datetime | None  # when the first of them does
    is_suspended: bool
    apart: tuple[tuple[str, str, int], ...]  # state, key and size of lists that are no queue's
    queues_left_out: int
    workers_left_out: int
    taken: datetime  # on Redis' clock
    problems: tuple[str, ...]  # keys that could not be read, each with the reason

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many jobs are in each state, over all queues; those of paused functions wait."""
        found = {state: sum(queue.counts[state] for queue in self.queues) for state in STATES}
        found["queued"] += self.counts_apart["queued"]
        return found

    @cached_property
    def counts_apart(self) -> Counter[str]:
        """How many jobs are in each state and on no queue's list: of paused functions, …"""
        found = Counter[str]()
        for state, _, size in self.apart:
            found[state] += size
        return found

    @property
    def left_out(self) -> list[str]:
        """What is not counted, in words."""
        more = {"queues": self.queues_left_out, "workers": self.workers_left_out}
        return [f"{count:,} more {what}" for what, count in more.items() if count > 0]

    @property
    def waits_since(self) -> datetime | None:
        """When the oldest waiting job of all queues was enqueued."""
        return min(filter(None, (queue.waits_since for queue in self.queues)), default=None)


def census(redis: Redis) -> Census:
    """What the frame of every page shows, and what lists of queues and jobs begin with.

    One round trip, of a few ms of Redis' time for 300 queues.
    """
    named = [
        keys.QUEUES, keys.WORKERS, keys.ENTRIES, keys.PAUSED, keys.IGNORED, keys.LEADER,
        keys.SUSPENDED,
    ]  # fmt: skip
    with redis.pipeline(transaction=False) as pipe:
        # Not by its hash: a pipeline cannot load a script that Redis has forgotten.
        pipe.eval(source("counts"), len(named), *named, _MOST_COUNTED, *keys.REGISTRIES.values())
        redis_io.ask_memory(pipe)
        found, *server = pipe.execute(raise_on_error=False)
    if isinstance(found, RedisError):
        raise found
    odd, time, named_queues, named_workers, alive, kinds, rows, apart, *rest = found
    entries, first, is_led, is_suspended, paused, ignored = rest
    heard, busy, states, releases = _workers_by(kinds)
    return Census(
        queues=tuple(sorted((_counted(row, heard, busy) for row in rows), key=lambda q: q.name)),
        workers=alive,
        states=states,
        releases=releases,
        paused=dict(zip(paused[::2], paused[1::2], strict=True)),
        ignored=dict(zip(ignored[::2], ignored[1::2], strict=True)),
        memory=Memory.of(server),
        scheduler="ok" if is_led else "away" if entries else "none",
        entries=entries,
        next_run=due(float(first)) if first else None,
        is_suspended=bool(is_suspended),
        apart=tuple(
            (text(state), key.decode("utf-8", "surrogateescape"), size)
            for state, key, size in apart
        ),
        queues_left_out=named_queues - len(rows),
        workers_left_out=max(0, named_workers - _MOST_COUNTED),
        taken=clock.from_wall(float(time)) if time else clock.now(),
        problems=tuple(f"{text(key)} does not hold a {text(kind)}"
                       for key, kind in odd),
    )  # fmt: skip


def _workers_by(kinds: Iterable[tuple[bytes, int]]) -> tuple[Counter[str], ...]:
    """How many workers listen to each queue, of these how many are busy, are in each state, and
    run each release.
    """
    heard, busy, states, releases = (Counter[str]() for _ in range(4))
    for kind, count in kinds:
        names, state, release = text(kind).split("\0")
        for name in set(names.split(",")):
            heard[name] += count
            busy[name] += count if state == "busy" else 0
        states[clip(state, values.SHORT)] += count
        releases[clip(release, values.SHORT)] += count
    del releases[""]
    return heard, busy, states, releases


def _counted(row: Sequence[Any], heard: Counter[str], busy: Counter[str]) -> QueueCount:
    key, waiting, since, *registries = row
    name = text(key).removeprefix(keys.queue(""))
    counts = dict(zip(STATES, (waiting, *registries), strict=True))
    return QueueCount(
        name=clip(name, values.SHORT),
        counts={state: found or 0 for state, found in counts.items()},
        is_unreadable=None in counts.values() or "\ufffd" in name,
        waits_since=Fields({"enqueued_at": since})("enqueued_at", values.moment, None),
        workers=heard[name],
        busy=busy[name],
    )


@dataclass(frozen=True, kw_only=True)
class WorkerView:
    """A worker as its last heartbeat left it."""

    name: str
    state: str
    queues: tuple[str, ...]
    place: str
    job_id: str
    born: datetime | None
    seen: datetime | None
    done: int
    failed: int
    worked_s: float
    version: str  # of RQ
    # Only our workers write these
    release: str
    dyno: str
    memory_bytes: int
    is_quiet: bool  # it starts no jobs until it is resumed
    is_late: bool  # its heartbeat is overdue: it has died, or cannot reach Redis
    is_ours: bool
    problems: tuple[str, ...]

    @property
    def is_busy(self) -> bool:
        return self.state == "busy"

    @property
    def share(self) -> float | None:
        """How much of its life it has worked."""
        lived_s = lasted_s(self.born, clock.now())
        return min(1.0, self.worked_s / lived_s) if lived_s else None


class Fleet(NamedTuple):
    """Workers that are alive, busy ones first, what they run, and what they run next."""

    workers: Sequence[WorkerView]
    jobs: Mapping[str, JobView]  # by id
    left_out: int
    next: Sequence[JobView] = ()  # of one queue
    is_unreadable: bool = False  # a key of that queue holds another type


def fleet(redis: Redis, most: int, first: int = 0) -> Fleet:
    """So many workers and their current jobs, in four round trips."""
    return _fleet(redis, values.answer(redis.smembers, keys.WORKERS) or (), most, first=first)


def inside(redis: Redis, queue: str) -> Fleet:
    """Of one queue, in four round trips."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.smembers(keys.workers_of(queue))
        pipe.lrange(keys.queue(queue), 0, _MOST_NEXT - 1)
        members, front = values.answers(pipe)
    ids = [text(job_id) for job_id in front or ()]
    found = _fleet(redis, members or (), _MOST_BESIDE, ids)
    following = [found.jobs[job_id] for job_id in ids if job_id in found.jobs]
    return found._replace(next=following, is_unreadable=members is None or front is None)


def _fleet(
    redis: Redis, members: Iterable[bytes], most: int, others: Sequence[str] = (), first: int = 0
) -> Fleet:
    """Those of the workers that are alive; its jobs are those that they run, and `others`."""
    # Of another key, this user of Redis may not ask.
    named = sorted(one for one in members if one.startswith(keys.WORKER.encode()))[:_MOST_NAMED]
    # RQ keeps the names of workers that died, which would fill pages.
    with redis.pipeline(transaction=False) as pipe:
        for key in named:
            pipe.exists(key)
        pipe.time()
        *are_there, (now_s, _) = pipe.execute()
    named = [*compress(named, are_there)][first:]
    hashes = values.peek(redis, named[:most], WORKER_FIELDS, values.MOST_BYTES_IN_LIST)
    found = zip(named, hashes, strict=False)
    workers = [_worker(line(key), raw, clock.from_wall(now_s)) for key, raw in found if raw]
    workers.sort(key=lambda one: (not one.is_busy, one.name))
    running = [worker.job_id for worker in workers if worker.job_id]
    known = jobs(redis, list(dict.fromkeys([*running, *others])))
    return Fleet(workers, known, max(0, len(named) - most))


def _worker(key: str, read: Fields, now: datetime) -> WorkerView:
    host, pid = read("hostname", line, ""), read("pid", line, "")
    seen = read("last_heartbeat", values.moment, None)
    is_ours = read(keys.MEMORY_FIELD, line, "") != ""
    most = timedelta(seconds=_OURS_LATE_S if is_ours else _LATE_S)
    running = read(":executions", line, "").partition(":")[0]
    return WorkerView(
        name=key.removeprefix(keys.WORKER),
        state=read("state", line, "") or "unknown",
        queues=tuple(name for name in read("queues", text, "").split(",") if name),
        place=f"{host}:{pid}" if pid else host,
        job_id=running or read("current_job", line, ""),  # of a worker of RQ 2, the hash says it
        born=read("birth", values.moment, None),
        seen=seen,
        done=read("successful_job_count", number, None) or 0,
        failed=read("failed_job_count", number, None) or 0,
        worked_s=read("total_working_time", values.decimal, 0.0),
        version=read("version", line, ""),
        release=read(keys.RELEASE_FIELD, line, ""),
        dyno=read(keys.DYNO_FIELD, line, ""),
        memory_bytes=read(keys.MEMORY_FIELD, number, None) or 0,
        is_quiet=read(keys.QUIET_FIELD, line, "") == "yes",
        is_late=seen is None or now - seen > most,
        is_ours=is_ours,
        problems=tuple(read.problems),
    )


def queue_names(redis: Redis) -> list[str]:
    queue_keys = values.answer(redis.smembers, keys.QUEUES)
    return sorted(text(key).removeprefix(keys.queue("")) for key in queue_keys or ())


class EndedJobs:
    """Every job that finished or failed and that Redis still has; few in memory at a time.

    A job that ends meanwhile may be missed.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        names = [keys.jobs_in(state, queue) for queue in queue_names(redis)
                 for state in ("finished", "failed")]  # fmt: skip
        with redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(name)
            self._sizes = dict(zip(names, values.answers(pipe), strict=True))

    def __len__(self) -> int:
        return sum(size or 0 for size in self._sizes.values())

    def __iter__(self) -> Iterator[JobView]:
        for name, size in self._sizes.items():
            members = self._redis.zscan_iter(name, count=_CHUNK) if size else iter(())
            while ids := [text(member) for member, _ in islice(members, _CHUNK)]:
                yield from jobs(self._redis, ids).values()
