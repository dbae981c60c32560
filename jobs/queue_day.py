"""What the queues did in the last day, read out of Redis.

Jobs are only read, never unpickled: what is told here of one stands beside its arguments in plain
text, and of the arguments no more than the function's name is looked at.
"""

import heapq
import re
import zlib
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from redis import Redis

from jiffy import progress

HOURS = 24
FAILURES_SHOWN = 20
STATES = ("finished", "failed")
UNKNOWN = "(unknown)"
# So many jobs travel in one round trip, and no more are held in memory at a time.
CHUNK = 250
_FIELDS = ("description", "enqueued_at", "started_at", "ended_at")
_CALL = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+)\(")  # RQ's description: jobs.numbers.add(2, 3)
_CALL_IN_JSON = re.compile(rb'\["([A-Za-z_]\w*(?:\.\w+)+)",')
# A text of a few bytes may unpack to gigabytes; so much is enough to see what it is.
_NAME_BYTES = 1_000
_TRACEBACK_BYTES = 1_000_000


@dataclass
class Line:
    """One function on one queue; durations in seconds, one per job where they are known."""

    queue: str
    function: str
    finished: int = 0
    failed: int = 0
    runs_s: list[float] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Ended:
    """A job that is over: where it ran, what it called, when it waited, began and ended."""

    job_id: str
    state: str
    queue: str
    function: str
    enqueued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime


@dataclass
class Day:
    """The 24 hours before `until`."""

    until: datetime
    lines: dict[tuple[str, str], Line] = field(default_factory=dict)
    # Jobs that ended in each hour, the oldest hour first.
    hours: dict[str, list[int]] = field(
        default_factory=lambda: {state: [0] * HOURS for state in STATES}
    )
    waiting: dict[str, int] = field(default_factory=dict)  # by queue, now
    # The latest failures, newest first, each with the last line of its traceback.
    failures: list[tuple[Ended, str]] = field(default_factory=list)

    def add(self, job: Ended) -> bool:
        """Count `job` and return True, unless it ended before this day, or after."""
        hours_ago = (self.until - job.ended_at) // timedelta(hours=1)
        if not 0 <= hours_ago < HOURS:
            return False
        self.hours[job.state][HOURS - 1 - hours_ago] += 1
        line = self.lines.setdefault((job.queue, job.function), Line(job.queue, job.function))
        if job.state == "finished":
            line.finished += 1
        else:
            line.failed += 1
        if job.started_at:
            line.runs_s.append((job.ended_at - job.started_at).total_seconds())
        if job.started_at and job.enqueued_at:
            line.waits_s.append((job.started_at - job.enqueued_at).total_seconds())
        return True


def read(redis: Redis, until: datetime) -> Day:
    """Read the day before `until`, telling the job's progress; never more than a chunk at a time.

    Only what Redis still has is seen: RQ forgets a finished job when its `result_ttl` (500 s unless
    set) is over, a failed one after its `failure_ttl`.  A job that ends meanwhile may be missed.
    """
    day = Day(until)
    queues = sorted(_text(key).removeprefix("rq:queue:") for key in redis.smembers("rq:queues"))
    day.waiting, total = _sizes(redis, queues)
    done, latest = 0, list[Ended]()
    for state, queue, ids in _chunks(redis, queues):
        jobs = [job for job in _ended(redis, state, queue, ids) if day.add(job)]
        failed = [job for job in jobs if state == "failed"]
        latest = heapq.nlargest(FAILURES_SHOWN, latest + failed, key=lambda job: job.ended_at)
        done += len(ids)
        progress.update(min(1, done / total) if total else None, f"{done:,} of {total:,} jobs read")
    day.failures = list(zip(latest, _reasons(redis, latest), strict=True))
    return day


def _sizes(redis: Redis, queues: list[str]) -> tuple[dict[str, int], int]:
    """How many jobs wait on each queue, and how many that are over there are to read."""
    with redis.pipeline(transaction=False) as pipe:
        for queue in queues:
            pipe.llen(f"rq:queue:{queue}")
        for state in STATES:
            for queue in queues:
                pipe.zcard(f"rq:{state}:{queue}")
        sizes = pipe.execute()
    return dict(zip(queues, sizes, strict=False)), sum(sizes[len(queues) :])


def _chunks(redis: Redis, queues: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (state, queue, ids) until every job that is over was named."""
    for state in STATES:
        for queue in queues:
            cursor = -1
            while cursor != 0:
                key = f"rq:{state}:{queue}"
                cursor, found = redis.zscan(key, max(0, cursor), count=CHUNK)
                # A small set comes whole, whatever `count` says.
                ids = [_text(job_id) for job_id, _ in found]
                for start in range(0, len(ids), CHUNK):
                    yield state, queue, ids[start : start + CHUNK]


def _ended(redis: Redis, state: str, queue: str, ids: list[str]) -> list[Ended]:
    """The jobs of `ids`, without those that are gone meanwhile or do not tell when they ended."""
    with redis.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hmget(f"rq:job:{job_id}", _FIELDS)
        told = [[_text(value) for value in values] for values in pipe.execute()]
    functions = _functions(redis, {job_id: row[0] for job_id, row in zip(ids, told, strict=True)})
    jobs = []
    for job_id, (_, *times) in zip(ids, told, strict=True):
        enqueued_at, started_at, ended_at = map(_time, times)
        if ended_at:
            function = functions[job_id]
            jobs.append(Ended(job_id, state, queue, function, enqueued_at, started_at, ended_at))
    return jobs


def _functions(redis: Redis, descriptions: dict[str, str]) -> dict[str, str]:
    """What each job calls: out of its description, or for one of its own words out of its data."""
    calls = {job_id: _CALL.match(text) for job_id, text in descriptions.items()}
    unclear = [job_id for job_id, call in calls.items() if not call]
    with redis.pipeline(transaction=False) as pipe:
        for job_id in unclear:
            pipe.hget(f"rq:job:{job_id}", "data")
        in_data = dict(zip(unclear, map(_function_in, pipe.execute()), strict=True))
    return in_data | {job_id: call[1] for job_id, call in calls.items() if call}


def _function_in(data: bytes | None) -> str:
    """The function's name, with which a job's data begins if they are JSON."""
    begins = _unpacked(data or b"", _NAME_BYTES)
    call = _CALL_IN_JSON.match(begins.replace(b" ", b""))
    return call[1].decode() if call else UNKNOWN


def _reasons(redis: Redis, failed: list[Ended]) -> list[str]:
    """The last line of each job's traceback."""
    with redis.pipeline(transaction=False) as pipe:
        for job in failed:
            pipe.xrevrange(f"rq:results:{job.job_id}", count=1)
        results = pipe.execute()
    return [_reason(found[0][1]) if found else "" for found in results]


def _reason(result: dict[bytes, bytes]) -> str:
    try:
        packed = b64decode(result.get(b"exc_string", b""))
    except ValueError:
        return ""
    lines = _text(_unpacked(packed, _TRACEBACK_BYTES)).strip().splitlines()
    return lines[-1] if lines else ""


def _unpacked(packed: bytes, limit: int) -> bytes:
    """The first `limit` bytes of what `packed` holds; of itself if it is not compressed."""
    try:
        return zlib.decompressobj().decompress(packed, limit)
    except zlib.error:
        return packed[:limit]


def _text(raw: Any) -> str:
    return bytes(raw or b"").decode(errors="replace")


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None
