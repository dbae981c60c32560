"""What goes from step to step: a job taken, and what became of it."""

import json
from base64 import b64encode
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rq.job import Job, Retry

from jiffy import clock

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


@dataclass(slots=True)
class Taken:
    """A job that this worker holds: it alone may run and settle it, under this execution.

    `kind` is "plain", "member" (the same, and another job waits for it), "full" (RQ's own methods
    must settle it), "corrupt" (it cannot be run) or "expired" (it is canceled already, `data` says
    why, and nobody holds it).
    """

    kind: str
    job_id: str
    execution: str
    queue: str
    data: bytes
    timeout_s: float
    result_ttl_s: int

    @property
    def position(self) -> int:
        """Its number, from 1, among those that one turn took."""
        return int(self.execution[24:], 16)

    @property
    def batch(self) -> int:
        """The number of the turn that took it (see `Turns`)."""
        return int(self.execution[16:24], 16)


@dataclass(slots=True)
class Outcome:
    """What became of a job that was begun; times are seconds since the epoch."""

    taken: Taken
    func_name: str
    started_s: float
    ended_s: float


@dataclass(slots=True)
class Finished(Outcome):
    """It returned.  `job` is there where RQ's own methods must settle it."""

    value: bytes | None
    job: Job | None = None
    _row: str = ""

    @property
    def row(self) -> str:
        """What `turn.lua` is told of it, in JSON; packed once."""
        if not self._row:
            taken = self.taken
            row = [
                taken.queue,
                taken.job_id,
                taken.execution,
                clock.rq_text(self.started_s),
                clock.rq_text(self.ended_s),
                f"{self.started_s}",  # Valkey's Lua would write a number as 1.7e+9
                f"{self.ended_s}",
                taken.result_ttl_s,
                self.value is not None and b64encode(self.value).decode(),
            ]
            if taken.kind == "member":
                row.append((self.value or b"null").decode("utf-8", "replace"))
            self._row = json.dumps(row)
        return self._row


@dataclass(slots=True)
class Failed(Outcome):
    """It raised, or it was ended from outside; its callbacks and handlers have been called.

    `kinds` are the names of what it raised (`retry.names_of`); `objection`, once it is settled, is
    why a job that had tries left was not tried again.
    """

    reason: str
    may_retry: bool = True
    was_stopped: bool = False
    kinds: tuple[str, ...] = ()
    objection: str = ""


@dataclass(slots=True)
class Again(Outcome):
    """It returned a `Retry`."""

    retry: Retry
    job: Job


@dataclass(slots=True)
class Returned(Outcome):
    """It was interrupted by a deploy: back to the front, as if it had never begun."""


def func_name_of(call: Any) -> str:
    """The name that a job's data gives its function, for logs; "?" where it gives none."""
    return call[0] if isinstance(call, list | tuple) and call and isinstance(call[0], str) else "?"
