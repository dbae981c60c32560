"""What Redis holds, read to be shown: jobs, queues and workers.

The one boundary for broken data.  Anyone who can write to Redis can write here: nothing is
executed, nothing grows beyond a limit, and what is returned can be shown as it is.  Strings can be
encoded, JSON is at most 200 deep, and what could not be read is named in `problems`.
"""

import base64
import binascii
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import accumulate, chain, islice
from typing import Any, Literal, NamedTuple, TypeVar

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError, ResponseError

from jiffy import clock, keys, log, redis_io
from jiffy.errors import NotShown, UnknownJob
from jiffy.producer import payload
from jiffy.producer.job import ENDED
from jiffy.producer.masking import MASK, Masked, is_secret, is_secret_place, masked, masked_text
from jiffy.producer.progress import State
from jiffy.redis_io import Memory, run_script, source
from jiffy.tracebacks import reason_of

T = TypeVar("T")
# What Redis gave for a field: its bytes, nothing, or the size of what is too large to be moved.
Raw = bytes | int | None

STATES = ("queued", *keys.REGISTRIES)
APART = ("ready_to_enqueue", "rate_limited")  # states without a registry among these
_HAS_ERROR = ("failed", "stopped")  # in which states the result is an error
_MOST_COUNTED = 2000  # queues and workers of a census
_MOST_OTHERS = 20  # jobs that one waits for
_MOST_FAMILY = 100  # jobs of a workflow
MOST_ATTEMPTS = 10  # RQ keeps no more
MOST_BEFORE = 100_000  # jobs of a queue among which one's position is looked for

# Of one value, once decompressed.  A call's arguments are far smaller; a result may be a table.
MOST_BYTES = 1024 * 1024
# In a list, where hundreds are in memory, of one value, also once decompressed: a call that
# compresses well cost minutes and gigabytes.  Of a larger one, only the function is read.
_MOST_BYTES_IN_LIST = 16 * 1024
_CHUNK = 250  # jobs of many that are in memory at a time
_SHORT, _LONG = 300, 20_000  # characters that are shown
_MOST_DEPTH = 200  # Python's own JSON goes down a thousand calls at most
_MOST_DIGITS = 15  # a float holds them all
_PICKLE = b"\x80"  # how every pickle since protocol 2 begins
_MOST_NEXT, _MOST_BESIDE = 10, 100  # jobs and workers of a queue

JOB_FIELDS = (
    "status", "origin", "description", "data", "created_at", "enqueued_at", "started_at",
    "ended_at", "worker_name", "meta", keys.PROGRESS_FIELD, keys.MASKED_FIELD,
    keys.REASON_FIELD, keys.TICK_OF_FIELD, keys.JOIN_FIELD, "retries_left", "retry_intervals",
    "number_of_retries", "repeats_left", "dependency_ids", "rate_limit_key",
    "rate_limit_concurrency", "timeout", keys.RELEASE_FIELD,
)  # fmt: skip
# Jobs' code and producers write these, so each is measured before Redis copies it.
_MAY_BE_LARGE = ("data", "description", "meta", keys.LOG_FIELD)
WORKER_FIELDS = (
    "state", ":executions", "current_job", "queues", "hostname", "pid", "birth", "last_heartbeat",
    "successful_job_count", "failed_job_count", "total_working_time", "version",
    keys.RELEASE_FIELD, keys.DYNO_FIELD, keys.MEMORY_FIELD, keys.QUIET_FIELD,
)  # fmt: skip
# In which states it is true what the hash says; in others it is left over from an earlier one.
_HAS_PROGRESS = ("started", "failed", "stopped")
_HAS_REASON = ("canceled", "queued", "scheduled")
_HAS_RETRIES = ("queued", "scheduled", "deferred", "started")
_SUCCESSFUL = "1"  # rq.results.Result.Type
_OUTCOMES = {"1": "finished", "2": "failed", "3": "stopped", "4": "retried", "5": "failed"}
_HALF = re.compile("[\ud800-\udfff]")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)  # of JSON, or the start of one
_LATE_S = 120  # stock RQ's workers write a heartbeat every 90 s while they run a job
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_PATH = re.compile(rb'\["([\w.]+)"')  # at the beginning of a call's JSON
_CALL = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+)\(")  # RQ's description: jobs.numbers.add(2, 3)


# Values: each of these returns a good one, or raises NotShown with the reason


class _Sound(NotShown):
    """A value is sound, and is not shown all the same: it is pickled, or too large."""


def text(raw: Raw) -> str:
    """Any bytes as a string; what is not UTF-8 is replaced."""
    return _bytes(raw).decode("utf-8", "replace")


def line(raw: Raw) -> str:
    return clip(text(raw), _SHORT)


def long_text(raw: Raw) -> str:
    return clip(text(raw), _LONG)


def number(raw: Raw) -> int | None:
    """A whole number from 0; None where there is none."""
    written = line(raw)
    if written and not (written.isdecimal() and len(written) <= _MOST_DIGITS):
        raise NotShown(f"not a number: {clip(written, 60)!r}")
    return int(written) if written else None


def decimal(raw: Raw) -> float:
    """A number from 0, with decimals; 0 where there is none."""
    written = line(raw)
    try:
        found = float(written or 0)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e15:
        raise NotShown(f"not a number: {clip(written, 60)!r}")
    return found


def inflated(raw: Raw, most_bytes: int = MOST_BYTES) -> bytes:
    """The bytes behind `raw`, which may be compressed; never more than `most_bytes` of them."""
    packed = _bytes(raw)
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(packed, most_bytes)
    except zlib.error:
        return packed  # RQ reads it uncompressed just as well
    if not inflate.eof and len(plain) == most_bytes:
        raise _Sound(f"too large: more than {most_bytes:,} bytes")
    return plain if inflate.eof else packed


def value(raw: bytes) -> Any:
    """The value of JSON, NaN and infinities too; pickles stay closed."""
    if raw.startswith(_PICKLE):
        raise _Sound("pickled: not shown")
    if _depth(raw) > _MOST_DEPTH:
        raise NotShown(f"nested more than {_MOST_DEPTH} deep")
    try:
        found = json.loads(text(raw))
    except ValueError:
        raise NotShown(f"not JSON: {text(raw[:60])!r}") from None
    if b"\\ud" in raw.lower():  # half a character, perhaps: it could not be written anywhere
        escaped = _HALF.sub(
            lambda half: f"\\\\u{ord(half[0]):04x}", json.dumps(found, ensure_ascii=False)
        )
        found = json.loads(escaped)
    return found


def moment(raw: Raw) -> datetime | None:
    """The time that RQ wrote, in UTC; None where it wrote none."""
    written = line(raw)
    try:
        found = clock.read(written) if written else None
        if found is None or found.tzinfo is None:
            return found and found.replace(tzinfo=UTC)
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise NotShown(f"not a time: {clip(written, 60)!r}") from None


def due(score: float | None) -> datetime | None:
    """The time that a sorted set's score stands for; None where it stands for none."""
    try:
        return None if score is None else clock.from_wall(score)
    except (ValueError, OverflowError, OSError):
        return None


def answers(pipe: Pipeline) -> list[Any]:
    """The pipe's answers, with None for a key that holds another type than the command is for."""
    found = pipe.execute(raise_on_error=False)
    for answer in found:
        if isinstance(answer, RedisError) and "WRONGTYPE" not in str(answer):
            raise answer
    return [None if isinstance(answer, RedisError) else answer for answer in found]


def answer(command: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """The answer to one command, such as `redis.zscore`; None for a key of another type."""
    try:
        return command(*args, **options)
    except ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        return None


def _depth(raw: bytes) -> int:
    """How deep its brackets are nested, without going down into them."""
    brackets = _STRING.sub(b"", raw).translate(None, _NO_BRACKETS)
    if len(brackets) <= _MOST_DEPTH:
        return 0  # or little more
    return max(accumulate(1 if bracket in b"[{" else -1 for bracket in brackets), default=0)


def clip(long: str, most: int) -> str:
    """At most `most` characters of `long`; it says where it was cut."""
    return long if len(long) <= most else f"{long[: most - 1]}…"


def _bytes(raw: Raw) -> bytes:
    if isinstance(raw, int):
        raise _Sound(f"too large: {raw:,} bytes")
    return raw or b""


# What is read: jobs, workers, queues


@dataclass(frozen=True)
class Other:
    """A job that another waits for."""

    id: str
    state: str  # "gone" where it cannot be read

    @property
    def is_in_the_way(self) -> bool:
        """Whether it has to be retried first."""
        return self.state in ("failed", "stopped", "canceled")


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
        return _seconds(self.started, self.ended, is_open=False)


@dataclass(frozen=True)
class Slot:
    """A rate limit, and how many jobs hold its slots."""

    key: str
    limit: int
    running: int
    queued: int

    def __str__(self) -> str:
        held = f"{self.running:,} running, {self.queued:,} queued"
        return f"{self.key!r} ({self.running + self.queued:,} of {self.limit:,}: {held})"


class LogLine(NamedTuple):
    """A line that a job's code has logged."""

    at: datetime | None
    level: str
    logger: str
    text: str


class Log(NamedTuple):
    """What a job's code has logged; `left_out` lines are missing behind the first `head` ones."""

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
    others: tuple[Other, ...] = ()  # the first of those that it waits for, while it is deferred
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
        found = _CALL.match(self.description)
        return self.function or (found[1] if found else "")

    @property
    def waited_s(self) -> float | None:
        """From the queue to its start, or until now."""
        return _seconds(self.enqueued, self.started, is_open=self.state == "queued")

    @property
    def ran_s(self) -> float | None:
        return _seconds(self.started, self.ended, is_open=self.is_running)

    @property
    def waiting(self) -> str:
        """What it waits for, in words; "" where the page has more to say of it than a line."""
        if self.slot:
            return f"waiting for a slot of {self.slot}"
        if self.waits_for != "retry":
            return ""
        if self.retries_left is None:
            return "waiting for a retry"
        of = f" of {self.retries:,}" if self.retries and self.retries > self.retries_left else ""
        return f"waiting for a retry, {self.retries_left:,}{of} left"

    @cached_property
    def reason(self) -> str:
        """What went wrong, in one line."""
        return reason_of(self.error)

    @property
    def latest(self) -> datetime | None:
        """When something last happened to it."""
        return self.ended or self.started or self.enqueued or self.created


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
    is_ours: bool
    problems: tuple[str, ...]

    @property
    def is_busy(self) -> bool:
        return self.state == "busy"

    @property
    def is_late(self) -> bool:
        """Whether its heartbeat is overdue: it has died, or cannot reach Redis."""
        return self.seen is None or (clock.now() - self.seen).total_seconds() > _LATE_S

    @property
    def share(self) -> float | None:
        """How much of its life it has worked."""
        lived_s = _seconds(self.born, None, is_open=True)
        return min(1.0, self.worked_s / lived_s) if lived_s else None


@dataclass(frozen=True)
class QueueView:
    """A queue and how many of its jobs are in each state."""

    name: str
    counts: Mapping[str, int]
    is_unreadable: bool = False  # one of its keys holds another type, or its name is not UTF-8


@dataclass(frozen=True, kw_only=True)
class QueueCount(QueueView):
    """A queue, what waits on it, and the workers that serve it."""

    waits_since: datetime | None  # when the oldest waiting job was enqueued
    workers: int = 0  # that are alive and listen to it
    busy: int = 0  # of these

    @property
    def is_heard(self) -> bool:
        return self.workers > 0

    @property
    def waited_s(self) -> float:
        """Of its oldest waiting job; 0 where there is none."""
        return _seconds(self.waits_since, None, is_open=True) or 0.0


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
    scheduler: Literal["ok", "away", "none"]  # "none": it would have nothing to do
    is_suspended: bool
    apart: tuple[tuple[str, str, int], ...]  # state, key and size of lists that are no queue's
    queues_left_out: int
    workers_left_out: int
    taken: datetime  # on Redis' clock
    problems: tuple[str, ...]  # keys that could not be read, each with the reason

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state, over all queues."""
        return {state: sum(queue.counts[state] for queue in self.queues) for state in STATES}

    @property
    def left_out(self) -> list[str]:
        """What is not counted, in words."""
        more = {"queues": self.queues_left_out, "workers": self.workers_left_out}
        return [f"{count:,} more {what}" for what, count in more.items() if count > 0]

    @property
    def waits_since(self) -> datetime | None:
        """When the oldest waiting job of all queues was enqueued."""
        return min(filter(None, (queue.waits_since for queue in self.queues)), default=None)


@dataclass(frozen=True)
class Fleet:
    """Workers that are alive, busy ones first, and what they run."""

    workers: tuple[WorkerView, ...]
    jobs: Mapping[str, JobView]  # by id
    left_out: int


@dataclass(frozen=True)
class Inside:
    """What one queue's workers do, and what they do next."""

    fleet: Fleet
    next: tuple[JobView, ...]
    is_unreadable: bool  # a key of either holds another type


def _seconds(begin: datetime | None, end: datetime | None, *, is_open: bool) -> float | None:
    end = clock.now() if is_open else end
    return None if begin is None or end is None else max(0.0, (end - begin).total_seconds())


class _Fields:
    """Reads a hash field by field, and keeps what was wrong with it."""

    def __init__(self, raw: Mapping[str, Raw] | str, most_bytes: int = MOST_BYTES) -> None:
        self._raw = {} if isinstance(raw, str) else raw
        self._most_bytes = most_bytes
        self.problems = [raw] if isinstance(raw, str) else []
        self.is_broken = isinstance(raw, str)

    def __call__(self, field: str, parse: Callable[[Raw], T], otherwise: T) -> T:
        try:
            return parse(self._raw.get(field))
        except NotShown as reason:
            self.problems.append(f"{field} is {reason}")
            self.is_broken |= not isinstance(reason, _Sound)
            return otherwise

    def unpacked(self, field: str, parse: Callable[[bytes], T], otherwise: T) -> T:
        """The same of a field that may be compressed."""
        return self(field, lambda raw: parse(inflated(raw, self._most_bytes)), otherwise)

    def function(self) -> str:
        """The path at the beginning of a call, which may be too large to be shown."""
        with suppress(zlib.error, TypeError):
            start = zlib.decompressobj().decompress(self._raw.get("data") or b"", 2 * _SHORT)  # type: ignore[arg-type]
            if found := _PATH.match(start):
                return text(found[1])
        return ""


def _peek(
    redis: Redis,
    names: Sequence[str | bytes],
    fields: Sequence[str],
    most_bytes: int,
    newest: int | None = None,
) -> Iterator[_Fields | None]:
    """Some fields of many hashes in one round trip; None for a hash that is not there, or is not
    among the `newest` jobs.
    """
    asked = [f"#{newest}"] * (newest is not None)
    asked += [f"?{field}" if field in _MAY_BE_LARGE else field for field in fields]
    found = run_script(redis, "peek", names, [most_bytes, *asked]) if names else []
    for values in found:
        if isinstance(values, bytes):
            yield _Fields(f"its key holds something else than a hash: {text(values)}")
        elif all(value is None for value in values):
            yield None
        else:
            yield _Fields(dict(zip(fields, values, strict=True)), most_bytes)


# Jobs


def job(redis: Redis, job_id: str) -> JobView | None:
    """The job with its latest result; None where there is none of that id."""
    fields = (*JOB_FIELDS, keys.LOG_FIELD, keys.PARTS_FIELD, keys.PEAK_FIELD)
    [raw] = _peek(redis, [keys.job(job_id)], fields, MOST_BYTES)
    if raw is None:
        return None
    log, peak = raw(keys.LOG_FIELD, _log, NO_LOG), raw(keys.PEAK_FIELD, number, None)
    found, join = _job(job_id, raw), raw(keys.JOIN_FIELD, line, "")
    is_queued = found.state == "queued"
    with redis.pipeline(transaction=False) as pipe:
        pipe.zscore(keys.jobs_in("scheduled", found.queue), job_id)
        pipe.lpos(keys.queue(found.queue), job_id, maxlen=MOST_BEFORE if is_queued else 1)
        pipe.exists(keys.dependents(job_id))
        pipe.memory_usage(keys.results(job_id))
        score, position, dependents, size = answers(pipe)
    found = replace(
        found,
        due=due(score) if found.state == "scheduled" else None,
        position=position if is_queued else None,
        is_waited_for=bool(join or dependents),
        log=log,
        peak_bytes=peak or 0,
    )
    if found.state == "deferred":
        found = _with_others(redis, found)
    if not found.depends_on and (parts := raw(keys.PARTS_FIELD, long_text, "")):
        found = replace(found, depends_on=tuple(parts.split(",")[:_MOST_FAMILY]))
    if found.state == "rate_limited":
        limit = raw("rate_limit_concurrency", number, None) or 0
        found = replace(found, slot=_slot(redis, raw("rate_limit_key", line, ""), limit))
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
    error, found = "!exc_string", dict[str, JobView]()
    names, more = [keys.job(job_id) for job_id in job_ids], [error] * with_errors
    hashes = _peek(redis, names, [*JOB_FIELDS, *more], _MOST_BYTES_IN_LIST, newest)
    for job_id, raw in zip(job_ids, hashes, strict=True):
        if raw is not None:
            job = found[job_id] = _job(job_id, raw)
            if with_errors and job.state in _HAS_ERROR:
                found[job_id] = replace(job, error=raw(error, _traceback, "") or job.error)
    return found


def page(
    redis: Redis, queue: str, state: str, offset: int, count: int, is_newest_first: bool
) -> tuple[int, list[str]]:
    """How many jobs of a state a queue has, and the ids of some of them."""
    is_queued = state == "queued"
    name = keys.jobs_in(state, queue)
    total = answer(redis.llen if is_queued else redis.zcard, name) or 0
    first, last = offset, offset + count - 1
    if is_newest_first:
        first, last = max(0, total - 1 - last), total - 1 - first
    members = redis.lrange if is_queued else redis.zrange
    found = answer(members, name, first, last) if last >= first else ()
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
        for member in chain.from_iterable(answer or () for answer in answers(pipe)):
            raw, score = (member, None) if isinstance(member, bytes) else member
            found[text(raw).partition(":")[0]] = due(score)
    return found


def run_counts(redis: Redis) -> dict[str, int]:
    """How many runs of the schedule were enqueued, skipped and missed so far."""
    outcomes = ("enqueued", "skipped", "missed")
    found = answer(redis.hmget, keys.TICK_COUNTS, outcomes) or ()
    read = _Fields(dict(zip(outcomes, found, strict=False)))
    return {outcome: read(outcome, number, None) or 0 for outcome in outcomes}


def count_workers(redis: Redis) -> int:
    """How many are alive; the set also names some that died."""
    named = answer(redis.smembers, keys.WORKERS)
    return int(redis.exists(*named)) if named else 0


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
            self._sizes = dict(zip(names, answers(pipe), strict=True))

    def __len__(self) -> int:
        return sum(size or 0 for size in self._sizes.values())

    def __iter__(self) -> Iterator[JobView]:
        for name, size in self._sizes.items():
            members = self._redis.zscan_iter(name, count=_CHUNK) if size else iter(())
            while ids := [text(member) for member, _ in islice(members, _CHUNK)]:
                yield from jobs(self._redis, ids).values()


def _job(job_id: str, read: _Fields) -> JobView:
    hidden = read(keys.MASKED_FIELD, line, "")
    call = read.unpacked("data", lambda plain: _call(plain, hidden), None)
    state = read("status", line, "") or "unknown"
    started = read("started_at", moment, None)
    error = read(keys.REASON_FIELD, long_text, "") if state in _HAS_REASON else ""
    retries_left = read("retries_left", number, None) if state in _HAS_RETRIES else None
    # Stock RQ writes no reason.  A job that repeats was started before, too.
    was_tried = read("number_of_retries", number, None) or (started and retries_left is not None)
    is_retried = error or (was_tried and not read("repeats_left", line, ""))
    waits_for = {"deferred": "jobs", "rate_limited": "slot",
                 "scheduled": "retry" if is_retried else "time"}  # fmt: skip
    return JobView(
        id=job_id,
        state=state,
        queue=read("origin", line, ""),
        description=masked_text(read("description", text, "")[:_LONG]),
        function=clip(call.function, _SHORT) if call else read.function(),
        arguments=_written(call) if call else "",
        call=call,
        created=read("created_at", moment, None),
        enqueued=read("enqueued_at", moment, None),
        started=started,
        ended=read("ended_at", moment, None),
        worker=read("worker_name", line, ""),
        release=read(keys.RELEASE_FIELD, line, "") if state in _HAS_ERROR else "",
        entry=read(keys.TICK_OF_FIELD, line, ""),
        limit_s=read("timeout", _limit, None),
        progress=read(keys.PROGRESS_FIELD, _progress, None) if state in _HAS_PROGRESS else None,
        meta=read.unpacked("meta", _meta, {}),
        error=error,
        waits_for=waits_for.get(state, ""),
        retries_left=retries_left,
        retries=len(read.unpacked("retry_intervals", _list, [])) or None,
        depends_on=read.unpacked("dependency_ids", _ids, ()),
        problems=tuple(read.problems),
        is_unreadable=read.is_broken,
    )


def _call(plain: bytes, hidden: str) -> Call | None:
    """A job's call, out of RQ's tuple of (function, instance, args, kwargs).

    What is named like a secret is masked, and so are the positional arguments `hidden`.
    """
    match value(plain):
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
    return clip(", ".join(islice(chain(args, kwargs), _LONG // 3)), _LONG)


def _in_call(value: Any) -> str:
    if type(value) is Masked:
        return MASK
    return json.dumps(value, ensure_ascii=False).replace(payload.MARK, "result")


def _progress(raw: Raw) -> State | None:
    match value(_bytes(raw)) if raw else None:
        case None:
            return None
        case {"fraction": None | int() | float() as fraction, "note": str(note)}:
            known = fraction if fraction is not None and 0 <= fraction <= 1 else None
            return State(known, clip(note, _SHORT))
    raise NotShown("not a fraction and a note")


def _log(raw: Raw) -> Log:
    match value(_bytes(raw)) if raw else [0, 0, []]:
        case [int(left_out), int(head), list(lines)] if left_out >= 0 <= head <= len(lines):
            return Log(tuple(map(_log_line, lines)), left_out, head)
    raise NotShown("not a log")


def _log_line(written: Any) -> LogLine:
    """Control characters are shown as escapes, and secrets are masked as in a description."""
    match written:
        case [int() | float() as at, str(level), str(logger), str(message)]:
            shown = log.printable(masked_text(clip(message, _LONG)))
            return LogLine(due(at), clip(level, 20), clip(logger, _SHORT), shown)
    raise NotShown("not a log")


def _list(plain: bytes) -> list[Any]:
    found = value(plain) if plain else []
    if not isinstance(found, list):
        raise NotShown("not a list")
    return found


def _ids(plain: bytes) -> tuple[str, ...]:
    return tuple(clip(str(one), _SHORT) for one in _list(plain))


def _meta(plain: bytes) -> Mapping[str, Any]:
    found = value(plain) if plain else {}
    if not isinstance(found, dict):
        raise NotShown("not an object")
    meta: Mapping[str, Any] = masked(found)
    return meta


def _limit(raw: Raw) -> int | None:
    """RQ writes -1 where there is none."""
    return None if line(raw) == "-1" else number(raw)


def _traceback(raw: Raw) -> str:
    return long_text(inflated(_unwrapped(raw)))


def _unwrapped(raw: Raw) -> bytes:
    try:
        return base64.b64decode(_bytes(raw), validate=True)
    except binascii.Error:
        raise NotShown("not base64") from None


def _with_others(redis: Redis, job: JobView) -> JobView:
    """Parts of its chain or group that are not over; else what it depends on."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.zrange(keys.pending(job.id), 0, _MOST_OTHERS - 1)
        pipe.zcount(keys.pending(job.id), 0, "+inf")
        parts, count = answers(pipe)
    # "" is their producer, which has not written all of them yet.
    ids = [text(part) for part in parts or () if part] or job.depends_on[:_MOST_OTHERS]
    found = others(redis, ids)
    left_out = max(count or 0, len(job.depends_on)) - len(found)
    return replace(
        job, others=found, others_left_out=left_out, depends_on=job.depends_on or tuple(ids)
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


def others(redis: Redis, ids: Sequence[str]) -> tuple[Other, ...]:
    """The state of each job, in one round trip."""
    states = _peek(redis, [*map(keys.job, ids)], ["status"], _SHORT)
    return tuple(
        Other(job_id, (raw and raw("status", line, "")) or "gone")
        for job_id, raw in zip(ids, states, strict=True)
    )


def _slot(redis: Redis, key: str, limit: int) -> Slot:
    """How the slots of a rate limit are held; what holds one is queued or running."""
    name = f"{keys.RQ}rl:{key}:allowed"
    held = answer(redis.zcard, name) or 0
    ids = [keys.job(text(one)) for one in answer(redis.zrange, name, 0, _CHUNK - 1) or ()]
    states = _peek(redis, ids, ["status"], _SHORT)
    running = sum(raw is not None and raw("status", line, "") == "started" for raw in states)
    return Slot(key, limit, running, held - running)


def _with_result(redis: Redis, job: JobView, size_bytes: int) -> JobView:
    try:
        results = _results(redis, job.id, size_bytes)
        job = replace(job, attempts=tuple(_attempt(at, fields) for at, fields in results))
        found = results[0][1] if results else {}
        if line(found.get(b"type")) == _SUCCESSFUL:
            raw = found.get(b"return_value")
            result = value(_unwrapped(raw)) if raw else None
            return replace(job, has_result=True, result=result)
        if job.state in _HAS_ERROR:
            return replace(job, error=_traceback(found.get(b"exc_string")))
    except NotShown as reason:
        is_unreadable = job.is_unreadable or not isinstance(reason, _Sound)
        problems = (*job.problems, f"result is {reason}")
        return replace(job, problems=problems, is_unreadable=is_unreadable)
    return job


def _results(redis: Redis, job_id: str, size: int) -> list[tuple[bytes, Mapping[bytes, bytes]]]:
    """Its latest results, newest first: when each was written, and its fields.

    `size` is that of all of them in bytes: a stream cannot be read in part.
    """
    key = keys.results(job_id)
    if size > 10 * MOST_BYTES:
        raise _Sound(f"too large: {size:,} bytes")
    # Those that are large are of jobs that return much: their last result is enough.
    found = answer(redis.xrevrange, key, count=MOST_ATTEMPTS if size < MOST_BYTES else 1)
    if found is None:
        raise NotShown("not a stream: its key holds another type")
    return list(found)


def _attempt(written_at: bytes, fields: Mapping[bytes, bytes]) -> Attempt:
    ended = due(int(written_at.partition(b"-")[0]) / 1000)
    try:
        started = due(float(fields.get(b"execution_started_at", b"")))
    except ValueError:
        started = None
    outcome = _OUTCOMES.get(line(fields.get(b"type")), "other")
    return Attempt(outcome, line(fields.get(b"worker_name")), started, ended)


# All queues: one round trip, of a few ms of Redis' time for 300 queues


def census(redis: Redis) -> Census:
    """What the frame of every page shows, and what lists of queues and jobs begin with."""
    named = [keys.QUEUES, keys.WORKERS, keys.LEADER, keys.ENTRIES, keys.SUSPENDED]
    with redis.pipeline(transaction=False) as pipe:
        # Not by its hash: a pipeline cannot load a script that Redis has forgotten.
        pipe.eval(source("census"), len(named), *named, _MOST_COUNTED, *keys.REGISTRIES.values())
        pipe.time()
        pipe.hgetall(keys.PAUSED)
        pipe.hgetall(keys.IGNORED)
        redis_io.ask_memory(pipe)
        found, time, paused, ignored, *server = pipe.execute(raise_on_error=False)
    if isinstance(found, RedisError):
        raise found
    queues, workers, alive, is_led, count, is_suspended, kinds, rows, apart = found
    heard, busy, states, releases = _workers_by(kinds)
    return Census(
        queues=tuple(sorted((_counted(row, heard, busy) for row in rows), key=lambda q: q.name)),
        workers=alive,
        states=states,
        releases=releases,
        paused={} if isinstance(paused, RedisError) else paused,
        ignored={} if isinstance(ignored, RedisError) else ignored,
        memory=Memory.of(server),
        scheduler="ok" if is_led else "away" if count else "none",
        is_suspended=bool(is_suspended),
        apart=tuple(
            (text(state), key.decode("utf-8", "surrogateescape"), size)
            for state, key, size in apart
        ),
        queues_left_out=(queues or 0) - len(rows),
        workers_left_out=max(0, (workers or 0) - _MOST_COUNTED),
        taken=clock.now() if isinstance(time, RedisError) else clock.from_wall(time[0]),
        problems=_other_types(queues, workers, count, paused, ignored),
    )


def _other_types(
    queues: Any, workers: Any, entries: Any, paused: Any, ignored: Any
) -> tuple[str, ...]:
    """Which of these keys hold another type, by what Redis answered for each."""
    is_hash = [not (isinstance(one, RedisError) and "WRONGTYPE" in str(one))
               for one in (paused, ignored)]  # fmt: skip
    kinds_of = {
        keys.QUEUES: ("set", queues is not None),
        keys.WORKERS: ("set", workers is not None),
        keys.ENTRIES: ("sorted set", entries is not None),
        keys.PAUSED: ("hash", is_hash[0]),
        keys.IGNORED: ("hash", is_hash[1]),
    }
    return tuple(
        f"{key} holds something else than a {kind}"
        for key, (kind, is_sound) in kinds_of.items()
        if not is_sound
    )


def _workers_by(kinds: Iterable[tuple[bytes, int]]) -> tuple[Counter[str], ...]:
    """How many workers listen to each queue, of these how many are busy, are in each state, and
    run each release.
    """
    heard, busy, states, releases = (Counter[str]() for _ in range(4))
    for kind, number in kinds:
        names, state, release = text(kind).split("\0")
        for name in set(names.split(",")):
            heard[name] += number
            busy[name] += number if state == "busy" else 0
        states[line(state.encode())] += number
        releases[line(release.encode())] += number
    del releases[""]
    return heard, busy, states, releases


def _counted(row: Sequence[Any], heard: Counter[str], busy: Counter[str]) -> QueueCount:
    key, waiting, since, *registries = row
    name = text(key).removeprefix(keys.queue(""))
    counts = dict(zip(STATES, (waiting, *registries), strict=True))
    try:
        waits_since = moment(since)
    except NotShown:
        waits_since = None
    return QueueCount(
        name=clip(name, _SHORT),
        counts={state: found or 0 for state, found in counts.items()},
        is_unreadable=None in counts.values() or "\ufffd" in name,
        waits_since=waits_since,
        workers=heard[name],
        busy=busy[name],
    )


# Workers and what they run


def fleet(redis: Redis, most: int, first: int = 0) -> Fleet:
    """So many workers and their current jobs, in three round trips."""
    named = sorted(answer(redis.smembers, keys.WORKERS) or ())
    return _fleet(redis, named[first:], most)


def _fleet(redis: Redis, members: Iterable[bytes], most: int, others: Sequence[str] = ()) -> Fleet:
    """Its jobs are those that the workers run, and `others`."""
    named = sorted(members)
    found = sorted(_workers(redis, named[:most]), key=lambda one: (not one.is_busy, one.name))
    running = [worker.job_id for worker in found if worker.job_id]
    known = jobs(redis, list(dict.fromkeys([*running, *others])))
    return Fleet(tuple(found), known, max(0, len(named) - most))


def inside(redis: Redis, queue: str) -> Inside:
    """Of one queue, in three round trips."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.smembers(keys.workers_of(queue))
        pipe.lrange(keys.queue(queue), 0, _MOST_NEXT - 1)
        members, front = answers(pipe)
    ids = [text(job_id) for job_id in front or ()]
    found = _fleet(redis, members or (), _MOST_BESIDE, ids)
    following = tuple(found.jobs[job_id] for job_id in ids if job_id in found.jobs)
    return Inside(found, following, members is None or front is None)


def queue_names(redis: Redis) -> list[str]:
    queue_keys = answer(redis.smembers, keys.QUEUES)
    return sorted(text(key).removeprefix(keys.queue("")) for key in queue_keys or ())


def _workers(redis: Redis, worker_keys: Sequence[bytes]) -> list[WorkerView]:
    """Those of the workers that are alive, in one round trip."""
    hashes = _peek(redis, worker_keys, WORKER_FIELDS, _MOST_BYTES_IN_LIST)
    pairs = zip(worker_keys, hashes, strict=True)
    return [_worker(line(key), raw) for key, raw in pairs if raw is not None]


def _worker(key: str, read: _Fields) -> WorkerView:
    host, pid = read("hostname", line, ""), read("pid", line, "")
    running = read(":executions", line, "").partition(":")[0]
    return WorkerView(
        name=key.removeprefix(keys.WORKER),
        state=read("state", line, "") or "unknown",
        queues=tuple(name for name in read("queues", text, "").split(",") if name),
        place=f"{host}:{pid}" if pid else host,
        job_id=running or read("current_job", line, ""),  # of a worker of RQ 2, the hash says it
        born=read("birth", moment, None),
        seen=read("last_heartbeat", moment, None),
        done=read("successful_job_count", number, None) or 0,
        failed=read("failed_job_count", number, None) or 0,
        worked_s=read("total_working_time", decimal, 0.0),
        version=read("version", line, ""),
        release=read(keys.RELEASE_FIELD, line, ""),
        dyno=read(keys.DYNO_FIELD, line, ""),
        memory_bytes=read(keys.MEMORY_FIELD, number, None) or 0,
        is_quiet=read(keys.QUIET_FIELD, line, "") == "yes",
        is_ours=read(keys.MEMORY_FIELD, line, "") != "",
        problems=tuple(read.problems),
    )
