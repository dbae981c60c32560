"""Chains and groups: tell a job that waits for others of their end, whoever has ended them.

Our workers do so as they settle (`commit.lua`).  What is canceled or deleted, or settled by RQ's
own workers, is found here.
"""

import json
import zlib
from base64 import b64decode
from typing import Any, NamedTuple

from rq.job import JobStatus

from jiffy import clock, keys
from jiffy.worker.line import Line, Words
from jiffy.worker.outcome import Finished, Outcome

_OVER = (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)
# Who looks also renews leases, and its link may be slow: what it finds is told at once.
_MOST_JOINS, _MOST_MEMBERS, _MOST_BYTES, _LOOK_AGAIN_S = 100, 1000, 1_000_000, 1
_LONGEST_ERROR = 500  # characters of its last line


class Ending(NamedTuple):
    """How a job ended, as a job that waits for it is told: result and error are JSON."""

    status: str = ""  # it is not over: it is tried again
    value: bytes = b"null"
    error: str = "null"


def ending_of(outcome: Outcome, status: JobStatus | None) -> Ending:
    """What became of a job that `outcome` has left with this status."""
    if isinstance(outcome, Finished):
        return Ending(JobStatus.FINISHED.value, outcome.value or b"null")
    if status not in _OVER:
        return Ending()
    return Ending(status.value, error=_last_line(getattr(outcome, "reason", "")))


def look() -> Words:
    """The command that finds what nobody has told of; its answer is for `tell`."""
    limits = [_MOST_JOINS, _MOST_MEMBERS, _MOST_BYTES, _LOOK_AGAIN_S]
    return Line.script("join_look", [keys.JOINS], limits)


def tell(line: Line, found: list[Any]) -> None:
    """Tell those that wait of what was found, in one exchange.

    Raises redis-py's errors, for one that Redis refuses too when it has heard all; safe to repeat.
    """
    if not found:
        return
    words: list[Any] = [clock.rq_text(clock.wall())]
    for waiting, member, status, latest in found:
        words += [waiting, member, *_read(status.decode(), latest)]
    line.run("join_over", [], words)


def _read(status: str, latest: bytes) -> Ending:
    """An ending, from the newest entry of its results as RQ wrote it; or why it was canceled."""
    if status == JobStatus.CANCELED.value:
        return Ending(status, error=_last_line(latest.decode("utf-8", "replace")))
    try:
        if status == JobStatus.FINISHED.value:
            value = b64decode(latest) or b"null"
            json.loads(value)  # RQ's workers may have pickled it, and that nobody reads
            return Ending(status, value)
        return Ending(status, error=_last_line(zlib.decompress(b64decode(latest)).decode()))
    except (ValueError, zlib.error):
        return Ending(status)


def _last_line(reason: str) -> str:
    lines = reason.encode("utf-8", "replace").decode().strip().splitlines()
    return json.dumps(lines[-1][:_LONGEST_ERROR] if lines else None)
