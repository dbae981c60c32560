"""A job's progress, as it reports it: `for row in progress(rows)`, `progress.update(0.4)`.

It is kept in a field of the job's own hash, so it is gone when the job is.  Outside a worker both
do nothing, so that a job's function can be called and tested like any other.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import RedisError
from rq import get_current_job
from rq.job import Job

from jiffy import clock, keys
from jiffy.errors import InvalidValue

T = TypeVar("T")

WRITE_EVERY_S = 0.25

_WRITE_IF_THERE = """
-- Write fields of a job if the job still exists.
-- KEYS: the job's hash
-- ARGV: field, value, ...
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], unpack(ARGV)) end
"""


def write_if_there(redis: Redis, key: str, fields: Mapping[str, Any]) -> None:
    """Write fields of a job; one that was deleted does not come back, to stay forever."""
    redis.eval(_WRITE_IF_THERE, 1, key, *chain.from_iterable(fields.items()))


@dataclass(frozen=True)
class State:
    """How far a job is: `fraction` from 0 to 1, or None where the end is not known."""

    fraction: float | None
    note: str = ""

    @classmethod
    def decode(cls, raw: bytes | str | None) -> "State | None":
        """Read what `Progress.update` wrote; None for nothing, and for what is not ours."""
        try:
            value = json.loads(raw or b"null")
            fraction = value and value["fraction"]
            if fraction is not None:
                fraction = min(1.0, max(0.0, float(fraction)))
            return cls(fraction, str(value["note"])) if value else None
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return None


class Progress:
    """The progress of the job that runs in this process; `read` has that of any."""

    def __init__(self) -> None:
        self._job_id: str | None = None
        self._next_write = 0.0

    def __call__(self, rows: Iterable[T], total: int | None = None, note: str = "") -> Iterator[T]:
        """Yield each of `rows` and report how many are done, of `total` where that is known."""
        if total is None and isinstance(rows, Sized):
            total = len(rows)
        for done, row in enumerate(rows):
            if total:
                self.update(min(done / total, 1), note or f"{done:,} of {total:,}")
            else:
                self.update(None, note or f"{done:,} done")
            yield row

    def update(self, fraction: float | None, note: str = "") -> None:
        """Report that the job is at `fraction` (0 to 1; None: not known), and what it does now.

        Call it as often as is convenient: four a second are written.  Raises InvalidValue.
        """
        if fraction is not None and not 0 <= fraction <= 1:
            raise InvalidValue("progress", fraction, "a fraction from 0 to 1, or None")
        job, now = get_current_job(), clock.monotonic()
        if job is None or (job.id == self._job_id and now < self._next_write):
            return
        self._job_id, self._next_write = job.id, now + WRITE_EVERY_S
        known = None if fraction is None else float(fraction)  # a Decimal, or one of numpy's
        value = json.dumps({"fraction": known, "note": note[:200]})
        with suppress(RedisError):  # it is only shown: the job goes on
            write_if_there(job.connection, job.key, {keys.PROGRESS_FIELD: value})

    @staticmethod
    def read(job: Job) -> State | None:
        """What `job`, anywhere, has reported last; None if it never did."""
        return State.decode(job.connection.hget(job.key, keys.PROGRESS_FIELD))


progress = Progress()
