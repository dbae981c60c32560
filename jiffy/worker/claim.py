"""Claim jobs: how many at a time, the exchange with Redis, and what it brings.

An exchange whose answer was lost is simply repeated: outcomes count once, and jobs whose
claim was never answered go back to the front of their queue.
"""

import json
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from redis.exceptions import ResponseError
from rq import Queue
from rq.defaults import DEFAULT_FAILURE_TTL

from jiffy import clock, keys
from jiffy.redis_io import Link, command, load_command, script_command

LEASE_S = 10
# Much more than these 300 years is no number of seconds for Redis.
_MOST_S = 10**10
# What a worker may hold: little enough that no job waits noticeably for one that it was taken with.
BUDGET_S = 0.03
# Enough that the round trip is a small part of it; more would only make the answers longer.
LARGEST = 128
# The share of the newest duration in the average; a jump is seen at once, in `learn`.
_NEWEST = 0.3
LAST_BATCH = 0xFFFFFFFF  # then the numbers of a process' claims begin anew
_LENGTHS = struct.Struct(">7I")


class Pace:
    """How many jobs one worker claims, by what it has learnt of the functions that it ran."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._took_s: dict[str, float] = {}
        self.want = 1  # so many jobs are claimed next

    def learn(self, func_name: str, took_s: float) -> None:
        if len(self._took_s) >= 1000:  # anyone may have written names into jobs
            self._took_s.clear()
        known = self._took_s.get(func_name, took_s)
        # Slowness is believed at once, speed only with time.
        average = max(took_s, known) if took_s > BUDGET_S else known + _NEWEST * (took_s - known)
        self._took_s[func_name] = average
        self.want = max(1, min(self._largest, self.want * 4, int(BUDGET_S / (average + 1e-6))))

    def is_quick(self, func_name: str) -> bool:
        return self._took_s.get(func_name, BUDGET_S) <= BUDGET_S / 3


class Details:
    """The fields that few jobs have, as claim.lua and recover.lua read them: names and values.

    What cannot be read counts as missing.
    """

    def __init__(self, flat: Sequence[bytes] = ()) -> None:
        names = [name.decode() for name in flat[::2]]
        self._raw = dict(zip(names, flat[1::2], strict=True))

    def raw(self, name: str) -> bytes | None:
        return self._raw.get(name)

    def text(self, name: str) -> str:
        return self._raw.get(name, b"").decode("utf-8", "replace")

    def number(self, name: str) -> int | None:
        try:
            return _bounded(self._raw.get(name, b""))
        except ValueError:
            return None

    def numbers(self, name: str) -> list[int]:
        """A list of numbers; [0] for none."""
        try:
            return [_bounded(number) for number in json.loads(self._raw[name])] or [0]
        except (KeyError, ValueError, TypeError, RecursionError, OverflowError):
            return [0]

    @property
    def failure_ttl_s(self) -> int:
        ttl_s = self.number("failure_ttl")
        return DEFAULT_FAILURE_TTL if ttl_s is None else ttl_s


def _bounded(number: Any) -> int:
    return max(-_MOST_S, min(_MOST_S, int(number)))


NO_DETAILS = Details()


@dataclass(slots=True)
class ClaimedJob:
    """A job that this worker may run and finish, and no other, under this execution.

    `kind` is "sound", "corrupt" (it cannot be run) or "expired" (it is canceled already, `data` is
    the reason).
    """

    kind: str
    job_id: str
    execution: str
    queue: str
    data: bytes = b""
    timeout_s: float = 0
    result_ttl_s: int = 0
    enqueued_s: float | None = None
    details: Details = NO_DETAILS

    @property
    def position(self) -> int:
        """Its number, from 1, in its batch."""
        return int(self.execution[24:], 16)


class FollowUp(NamedTuple):
    """Something to do for a job that has ended: "on_failure <id>"; given out `tries` times.

    `score`: what it has in the list since; another one if the job has ended like that once more.
    """

    queue: str
    line: str
    tries: int
    score: str


class ClaimReply(NamedTuple):
    """What one exchange has brought; `has_more`: looking again at once may bring more.

    `paused`: functions of which no job is to begin; `counted`: how many of the outcomes that went
    with it were written.
    """

    jobs: list[ClaimedJob]
    todo: FollowUp | None = None
    is_suspended: bool = False
    has_more: bool = False
    paused: frozenset[str] = frozenset()
    counted: int = 0


class Claimer:
    """Claims for one worker; `token` begins its executions, and is new with each process.

    `last_begun` is to be the last execution that was begun: the worker keeps nothing after that.
    """

    def __init__(
        self, link: Link, name: str, queues: Sequence[str], result_ttl_s: int,
        *, lease_s: int = LEASE_S, token: str = "",
    ) -> None:  # fmt: skip
        self._link, self.name, self._lease_s = link, name, lease_s
        self._result_ttl_s = result_ttl_s
        self.token = token or secrets.token_hex(8)
        self.batch = 0  # the number of the newest
        self.prefix = f"{self.token}{0:08x}"  # of its executions
        self.last_begun = ""
        self.queues = list(queues)

    def claim(self, want: int, wait_s: float = 0, *, before: Sequence[bytes] = ()) -> ClaimReply:
        """Send the commands `before`, wait up to `wait_s` until there may be a job, and claim up to
        `want` (0: only what is to be done beside jobs), in one round trip.
        """
        commands = [*before]
        if wait_s:
            commands.append(command("BLPOP", *map(keys.wake, self.queues), wait_s))
        try:
            replies = self._link.insist(lambda: self._exchange(commands, want))
        except ResponseError as error:
            if not wait_s or "WRONGTYPE" not in str(error):
                raise
            # Something else stands where it waits for tokens, which only we write.
            commands[-1] = command("DEL", *map(keys.wake, self.queues))
            replies = self._link.insist(lambda: self._exchange(commands, want))
        is_suspended, has_more, todo, paused, lengths, strings, details = replies[-1]
        found = FollowUp(text(todo[0]), text(todo[1]), todo[2], text(todo[3])) if todo else None
        jobs = self._read(lengths, strings)
        for position, *flat in details:
            jobs[position - 1].details = Details(flat)
        return ClaimReply(
            jobs, found, bool(is_suspended), bool(has_more), frozenset(map(text, paused)),
            replies[0] if before else 0,
        )  # fmt: skip

    def still_held(self, jobs: list[ClaimedJob]) -> list[ClaimedJob]:
        """Those of the newest claim that are still this worker's: no one has recovered them."""
        members = [f"{job.job_id}:{job.execution}" for job in jobs]
        ask = command("HMGET", keys.held(self.name), *members)
        [queues] = self._link.insist(lambda: self._link.exchange(ask)) if jobs else [()]
        return [
            job for job, queue in zip(jobs, queues, strict=True) if queue or job.kind == "expired"
        ]

    def _exchange(self, commands: Sequence[bytes], want: int) -> Any:
        """Send the commands and a claim; return the replies."""
        # A Redis that knows only this script would claim before it takes the outcomes sent with it.
        loads = [] if self.batch else [load_command("finish")]
        # Each try has a number of its own, by which claim.lua knows it.
        self.batch = _next(self.batch)
        self.prefix = f"{self.token}{self.batch:08x}"
        names = [keys.worker(self.name), keys.SUSPENDED, *map(keys.queue, self.queues)]
        arguments = [self.name, want, self._lease_s, self.prefix, self.last_begun]
        claim = script_command("claim", names, arguments)
        return self._link.exchange(*loads, *commands, claim, resend=False)[len(loads) :]

    def _read(self, lengths: bytes, strings: bytes) -> list[ClaimedJob]:
        jobs, start, prefix = [], 0, self.prefix
        for position, sizes in enumerate(_LENGTHS.iter_unpack(lengths), start=1):
            layout = _layout(sizes)
            kind, job_id, queue, data, limit, ttl, enqueued = layout.unpack_from(strings, start)
            start += layout.size
            try:
                timeout_s, ttl_s = _numbers(limit, ttl or b"%d" % self._result_ttl_s)
                (job_id + queue).decode()
            except ValueError:
                kind, timeout_s, ttl_s = b"corrupt", Queue.DEFAULT_TIMEOUT, self._result_ttl_s
            jobs.append(ClaimedJob(
                kind.decode(), text(job_id), f"{prefix}{position:08x}", text(queue), data,
                timeout_s, ttl_s, clock.rq_seconds(enqueued),
            ))  # fmt: skip
        return jobs


# Most jobs of a batch have the same numbers, and are as long as each other.
@lru_cache(maxsize=1000)
def _numbers(timeout: bytes, result_ttl: bytes) -> tuple[float, int]:
    """Raises ValueError for what is no number, or no time that Redis understands."""
    if len(timeout) > 30:  # however many zeros it begins with, it stays in memory
        raise ValueError
    timeout_s, result_ttl_s = float(timeout or Queue.DEFAULT_TIMEOUT), int(result_ttl)
    if not (abs(timeout_s) <= _MOST_S and result_ttl_s <= _MOST_S):
        raise ValueError
    return timeout_s, result_ttl_s


@lru_cache(maxsize=1000)
def _layout(sizes: tuple[int, ...]) -> struct.Struct:
    return struct.Struct("%ds" * len(sizes) % sizes)


def _next(batch: int) -> int:
    return (batch + 1) & LAST_BATCH


def requeue_command(worker: str, keep: str, token: str, batch: int) -> bytes:
    """Requeue what a worker holds beyond the execution `keep`: a claim from no queue.

    `token` and `batch` are those of its newest claim.  This one takes the number of the next, so it
    does nothing where Redis hears it after that.
    """
    prefix = f"{token}{_next(batch):08x}"
    return script_command(
        "claim", [keys.worker(worker), keys.SUSPENDED], [worker, 0, LEASE_S, prefix, keep]
    )


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
