"""Claim jobs, and send what became of the last ones: one exchange with Redis does both.

An exchange whose answer was lost is simply repeated: outcomes count once, and jobs whose
claim was never answered go back to the front of their queue.
"""

import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from rq import Queue

from jiffy import clock, keys
from jiffy.redis_io import Link, command, script_command

LEASE_S = 10
ONLY_FINISH = -1
# Some 300 years; much more than that is no number of seconds for Redis.
LONGEST_S = 10**10
_LENGTHS = struct.Struct(">8I")


@dataclass(slots=True)
class Claimed:
    """A job that this worker may run and finish, and no other, under this execution.

    `kind` is "plain", "full" (it has rare fields: read it all), "corrupt" (it cannot be run)
    or "expired" (it is canceled already, `data` is the reason).
    """

    kind: str
    job_id: str
    execution: str
    queue: str
    data: bytes
    timeout_s: float
    result_ttl_s: int
    enqueued_s: float | None = None

    @property
    def batch(self) -> int:
        """The number of the exchange that claimed it."""
        return int(self.execution[16:24], 16)

    @property
    def position(self) -> int:
        """Its number, from 1, in its batch."""
        return int(self.execution[24:], 16)


class Todo(NamedTuple):
    """Something to do for a job that has ended: "on_failure <id>"; begun `tries` times by now."""

    queue: str
    what: str
    tries: int


class Claim(NamedTuple):
    """What one exchange has brought; `has_more`: looking again at once may bring more.

    `paused`: functions of which no job is to begin.
    """

    jobs: list[Claimed]
    todo: Todo | None = None
    is_suspended: bool = False
    has_more: bool = False
    paused: frozenset[str] = frozenset()


class Claimer:
    """Claims for one worker; `token` begins its executions, and is new with each process.

    `last_begun` is to be the last execution that was begun: the worker keeps nothing after that.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        queues: Sequence[str],
        result_ttl_s: int,
        *,
        lease_s: int = LEASE_S,
        token: str = "",
    ) -> None:
        self._link, self._name, self._lease_s = link, name, lease_s
        self._result_ttl_s = result_ttl_s
        self._token = token or secrets.token_hex(8)
        self._number = 0
        self.last_begun = ""
        self.queues = list(queues)

    def claim(self, want: int, rows: str = "", wait_s: float = 0) -> Claim:
        """Send outcomes, wait up to `wait_s` until there may be a job, and claim up to `want`.

        0: only what is to be done beside jobs; ONLY_FINISH: not even that.
        """
        wakes = [keys.wake(queue) for queue in self.queues]
        wait: list[bytes] = [command("BLPOP", *wakes, wait_s)] if wait_s else []

        def ask() -> list[Any]:
            # Each try has a number of its own, by which claim.lua knows it.
            commands = [*self._finish(rows), *wait, self._script(want)]
            return self._link.exchange(*commands, resend=False)

        *_, answer = self._link.insist(ask)
        is_suspended, has_more, todo, functions, lengths, parts = answer
        found = Todo(text(todo[0]), text(todo[1]), todo[2]) if todo else None
        paused = frozenset(map(text, functions))
        return Claim(self._read(lengths, parts), found, bool(is_suspended), bool(has_more), paused)

    def requeue_after(self, job: Claimed, rows: str = "") -> None:
        """Send outcomes, and keep of the batch no job that comes after this one."""
        requeue = requeue_command(self._name, job.execution)
        self._link.insist(lambda: self._link.exchange(*self._finish(rows), requeue))

    def finish(self, rows: str) -> None:
        """Send outcomes, and nothing else."""
        self._link.insist(lambda: self._link.exchange(*self._finish(rows)))

    def _finish(self, rows: str) -> list[bytes]:
        return [finish_command(self._name, rows)] if rows else []

    def _script(self, want: int) -> bytes:
        self._number += 1
        prefix = f"{self._token}{self._number & 0xFFFFFFFF:08x}"
        names = [keys.worker(self._name), keys.SUSPENDED, *map(keys.queue, self.queues)]
        return script_command(
            "claim", names, [self._name, want, self._lease_s, prefix, self.last_begun]
        )

    def _read(self, lengths: bytes, parts: bytes) -> list[Claimed]:
        jobs, start = [], 0
        for sizes in _LENGTHS.iter_unpack(lengths):
            layout = _layout(sizes)
            jobs.append(self._claimed(*layout.unpack_from(parts, start)))
            start += layout.size
        return jobs

    def _claimed(
        self, kind: bytes, job_id: bytes, execution: bytes, queue: bytes, data: bytes,
        timeout: bytes, result_ttl: bytes, enqueued: bytes,
    ) -> Claimed:  # fmt: skip
        try:
            timeout_s, result_ttl_s = _numbers(timeout, result_ttl or b"%d" % self._result_ttl_s)
            (job_id + queue).decode()
        except ValueError:
            kind, timeout_s, result_ttl_s = b"corrupt", Queue.DEFAULT_TIMEOUT, self._result_ttl_s
        return Claimed(
            kind.decode(), text(job_id), execution.decode(), text(queue), data, timeout_s,
            result_ttl_s, clock.rq_seconds(enqueued),
        )  # fmt: skip


# Most jobs of a batch have the same numbers, and are as long as each other.
@lru_cache(maxsize=1000)
def _numbers(timeout: bytes, result_ttl: bytes) -> tuple[float, int]:
    """Raises ValueError for what is no number, or no time that Redis understands."""
    timeout_s, result_ttl_s = float(timeout or Queue.DEFAULT_TIMEOUT), int(result_ttl)
    if not (abs(timeout_s) <= LONGEST_S and result_ttl_s <= LONGEST_S):
        raise ValueError
    return timeout_s, result_ttl_s


@lru_cache(maxsize=1000)
def _layout(sizes: tuple[int, ...]) -> struct.Struct:
    return struct.Struct("%ds" * len(sizes) % sizes)


def requeue_command(worker: str, keep: str) -> bytes:
    """The command that requeues what a worker holds beyond the execution `keep`."""
    return script_command(
        "claim", [keys.worker(worker), keys.SUSPENDED], [worker, ONLY_FINISH, LEASE_S, "", keep]
    )


def finish_command(worker: str, rows: str) -> bytes:
    """The command that writes outcomes of a worker; `rows` are JSON, with commas between."""
    # An id may be no UTF-8: it goes back as the bytes that it came as.
    packed = f"[{rows}]".encode("utf-8", "surrogateescape")
    return script_command("finish", [keys.worker(worker)], [worker, packed])


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
