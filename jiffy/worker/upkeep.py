"""What each supervisor does now and then for all of its queues, beside its own jobs: tidy up after
RQ's workers, enqueue what is due, and end what workflows wait for in vain.
"""

import json
from base64 import b64decode
from typing import Any

from rq.job import JobStatus

from jiffy import clock, keys, log, tracebacks
from jiffy.redis_io import Link, script_command
from jiffy.worker import finish, recovery
from jiffy.worker.claim import text
from jiffy.worker.finish import Outcome

# The process that looks also renews leases, and its link may be slow: an answer is bounded.
_MOST_DUE, _MOST_JOBS, _MOST_PARTS, _MOST_BYTES, _LOOK_AGAIN_S = 1000, 100, 1000, 1_000_000, 1
_MOST_RESULT_BYTES = 5_000_000  # as in waiting.lua
_BETWEEN_LISTS_S = 60  # as IntermediateQueue.should_be_cleaned_up


def maintain(link: Link, queue_keys: list[str], every_s: float) -> bool:
    """Tidy up after RQ's workers; return whether there is more to do at once.

    Raises redis-py's errors; safe to repeat.
    """
    stale, has_more = link.run("maintain", queue_keys, [every_s, _BETWEEN_LISTS_S])
    for queue, job_id, execution, worker, details in stale:
        job = recovery.claimed(queue, job_id, execution, details or ())
        reason = f"Moved to FailedJobRegistry, due to AbandonedJobError, at {clock.now()}"
        with recovery.alone(job=job.job_id):
            if details is None:  # it is elsewhere by now
                plan = finish.plan_for(Outcome(job, "?", 0, 0, "gone"))
                link.exchange(finish.finish_command(text(worker), plan))
            else:
                recovery.finish_left(link, text(worker), job, reason)
    return bool(has_more)


def enqueue_due(link: Link, queue_keys: list[str], default_timeout_s: int) -> bool:
    """Enqueue delayed jobs, expire late ones, and release those whose parts ended elsewhere.

    Return whether there is more to do at once.  Raises redis-py's errors, once all others are
    done; safe to repeat.
    """
    due = script_command("due", queue_keys, [_MOST_DUE, default_timeout_s])
    limits = [_MOST_JOBS, _MOST_PARTS, _MOST_BYTES, _LOOK_AGAIN_S]
    look = script_command("ended_parts", [keys.JOINS], ["find", *limits])
    (moved, expired, has_late), found = link.exchange(due, look)
    has_more = bool(moved >= _MOST_DUE or has_late)
    for job_id, queue, reason in zip(expired[::3], expired[1::3], expired[2::3], strict=True):
        log.event("job.expired", job=text(job_id), queue=text(queue), reason=text(reason))
    if found:
        words: list[Any] = ["end"]
        for waiting, part, status, latest in found:
            words += [waiting, part, *_ending(status.decode(), latest)]
        has_more |= link.run("ended_parts", [keys.JOINS], words) == 1
    return has_more


def _ending(status: str, latest: bytes) -> tuple[str, bytes, str]:
    """A part's status, result and error as JSON, from the newest entry of its results."""
    try:
        if status == JobStatus.FINISHED.value:
            value = b64decode(latest) or b"null"
            if len(value) <= _MOST_RESULT_BYTES:  # or else it is refused
                json.loads(value)  # RQ's workers may have pickled it, and pickles are not read
            return status, value, "null"
        is_canceled = status == JobStatus.CANCELED.value
        error = latest.decode("utf-8", "replace") if is_canceled else tracebacks.unpacked(latest)
        return status, b"null", json.dumps(tracebacks.reason_of(error) or None)
    except (ValueError, RecursionError):
        return status, b"null", "null"
