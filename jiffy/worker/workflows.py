"""Chains and groups: find parts that have ended without us, and tell the jobs that wait for them.

Our workers do so as they finish a job (finish.lua).  What is canceled, deleted, or run by RQ's own
workers, is found here.
"""

import json
import zlib
from base64 import b64decode
from typing import Any

from rq.job import JobStatus

from jiffy import keys
from jiffy.redis_io import Link, script_command
from jiffy.worker.finish import last_line

# The process that looks also renews leases, and its link may be slow: an answer is bounded.
_MOST_JOBS, _MOST_PARTS, _MOST_BYTES, _LOOK_AGAIN_S = 100, 1000, 1_000_000, 1


def look() -> bytes:
    """The command that finds such parts; its answer is for `notify`."""
    limits = [_MOST_JOBS, _MOST_PARTS, _MOST_BYTES, _LOOK_AGAIN_S]
    return script_command("join_look", [keys.JOINS], limits)


def notify(line: Link, found: list[Any]) -> None:
    """Tell the jobs that wait of what was found, in one exchange.

    Raises redis-py's errors, for one that Redis refuses too when it has heard all; safe to repeat.
    """
    if found:
        words: list[Any] = []
        for waiting, part, status, latest in found:
            words += [waiting, part, *_ending(status.decode(), latest)]
        line.run("join_over", [keys.JOINS], words)


def _ending(status: str, latest: bytes) -> tuple[str, bytes, str]:
    """A part's status, result and error as JSON, from the newest entry of its results."""
    if status == JobStatus.CANCELED.value:
        return status, b"null", last_line(latest.decode("utf-8", "replace"))
    try:
        if status == JobStatus.FINISHED.value:
            value = b64decode(latest) or b"null"
            json.loads(value)  # RQ's workers may have pickled it, and pickles are not read
            return status, value, "null"
        error = zlib.decompressobj().decompress(b64decode(latest), _MOST_BYTES)
        return status, b"null", last_line(error.decode("utf-8", "replace"))
    except (ValueError, zlib.error, RecursionError):
        return status, b"null", "null"
