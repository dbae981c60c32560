"""Jobs as they can be shown; their `problems` name what `values.py` could not read."""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import chain, islice
from typing import Any, NamedTuple

from redis import Redis

from jiffy import clock, keys, log
from jiffy.control import values
from jiffy.control.values import Fields, Moment, Raw, clip, due, lasted_s, line, number, text
from jiffy.errors import NotShown, UnknownJob
from jiffy.producer import payload
from jiffy.producer.job import ENDED
from jiffy.producer.masking import MASK, Masked, is_secret, is_secret_place, masked, masked_text
from jiffy.producer.progress import State
from jiffy.redis_io import run_script
from jiffy.tracebacks import Group, reason_of

STATES = ("queued", *keys.REGISTRIES)
APART = ("ready_to_enqueue", "rate_limited")  # states without a registry among these
_HAS_ERROR = ("failed", "stopped")  # in which states the result is an error
_ERROR = "!exc_string"  # of the newest result, where it is asked for
_MOST_OTHERS = 20  # jobs that one waits for
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
_OF_ONE = ("meta", keys.LOG_FIELD, keys.PARTS_FIELD, keys.PEAK_FIELD, keys.CAUSES_FIELD)
# In which states it is true what the hash says; in others it is left over from an earlier one.
_HAS_PROGRESS = ("started", "failed", "stopped")
_HAS_REASON = ("canceled", "queued", "scheduled")
_HAS_RETRIES = ("queued", "scheduled", "deferred", "started")
_SUCCESSFUL = "1"  # rq.results.Result.Type
_OUTCOMES = {"1": "finished", "2": "failed", "3": "stopped", "4": "retried", "5": "failed"}
_CALL = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+)\(")  # RQ's description: jobs.numbers.add(2, 3)


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
    """One time that a job ran."""

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
    others: Mapping[str, str] = field(default_factory=dict)  # while deferred: ids, and states
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
    def latest(self) -> datetime | None:
        """When something last happened to it."""
        return self.ended or self.started or self.enqueued or self.created


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
        pipe.lpos(keys.queue(found.queue), job_id, maxlen=MOST_BEFORE if is_queued else 1)
        pipe.exists(keys.dependents(job_id))
        pipe.memory_usage(keys.results(job_id))
        score, position, dependents, size = values.answers(pipe)
    parts = read(keys.PARTS_FIELD, values.long_text, "")
    found = replace(
        found,
        due=due(score) if found.state == "scheduled" else None,
        position=position if is_queued else None,
        is_waited_for=bool(dependents or read(keys.JOIN_FIELD, line, "")),
        log=log,
        crashes=tuple(read(keys.CAUSES_FIELD, values.long_text, "").splitlines()),
        peak_bytes=peak or 0,
    )
    if found.state == "deferred":
        found = _with_others(redis, found)
    if parts and not found.depends_on:
        found = replace(found, depends_on=tuple(parts.split(",")[:_MOST_FAMILY]))
    if found.state == "rate_limited":
        limit = read("rate_limit_concurrency", number, None) or 0
        found = replace(found, slot=_slot(redis, read("rate_limit_key", line, ""), limit))
    return _with_result(redis, found, size or 0)


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


def page(
    redis: Redis, queue: str, state: str, offset: int, count: int, is_newest_first: bool
) -> tuple[int, list[str]]:
    """How many jobs of a state a queue has, and the ids of some of them."""
    is_queued = state == "queued"
    name = keys.jobs_in(state, queue)
    total = values.answer(redis.llen if is_queued else redis.zcard, name) or 0
    first, last = offset, offset + count - 1
    if is_newest_first:
        first, last = max(0, total - 1 - last), total - 1 - first
    members = redis.lrange if is_queued else redis.zrange
    found = values.answer(members, name, first, last) if last >= first else ()
    ids = [text(member).partition(":")[0] for member in found or ()]
    return total, ids[::-1] if is_newest_first else ids


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
        limit_s=read("timeout", _limit, None),
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


def _limit(raw: Raw) -> int | None:
    """RQ writes -1 where there is none."""
    return None if line(raw) == "-1" else number(raw)


def _traceback(raw: Raw) -> str:
    return values.long_text(values.inflated(_unwrapped(raw)))


def _unwrapped(raw: Raw) -> bytes:
    try:
        return base64.b64decode(values.unread(raw), validate=True)
    except binascii.Error:
        raise NotShown("not base64") from None


def _with_others(redis: Redis, job: JobView) -> JobView:
    """Parts of its chain or group that are not over; else what it depends on."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.zrange(keys.pending(job.id), 0, _MOST_OTHERS - 1)
        pipe.zcount(keys.pending(job.id), 0, "+inf")
        parts, count = values.answers(pipe)
    # "" is their producer, which has not written all of them yet.
    ids = tuple(text(part) for part in parts or () if part) or job.depends_on[:_MOST_OTHERS]
    left_out = max(count or 0, len(job.depends_on)) - len(ids)
    return replace(
        job,
        others=states_of(redis, ids),
        others_left_out=left_out,
        depends_on=job.depends_on or ids,
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


def _slot(redis: Redis, key: str, limit: int) -> Slot:
    """How the slots of a rate limit are held; what holds one is queued or running."""
    name = f"{keys.RQ}rl:{key}:allowed"
    held = values.answer(redis.zcard, name) or 0
    ids = [text(one) for one in values.answer(redis.zrange, name, 0, _CHUNK - 1) or ()]
    running = sum(state == "started" for state in states_of(redis, ids).values())
    return Slot(key, limit, running, held - running)


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
