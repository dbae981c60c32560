"""What becomes of jobs that have ended without us: those of a worker that died, those that RQ's
workers have abandoned, and the parts of workflows that were canceled, deleted or run by others.
"""

import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from redis.exceptions import RedisError
from rq.job import JobStatus

from jiffy import clock, keys, log, tracebacks
from jiffy.redis_io import Link, explained, script_command
from jiffy.worker import finish
from jiffy.worker.claim import ClaimedJob, Details, text
from jiffy.worker.finish import Outcome, finish_command

MOST_CRASHES = 3
UNKNOWN_CULPRIT = "?"  # as `Death.execution`: one of the jobs that it held, and no one knows which
SWEEP_EVERY_S = 3
_SHORTEST_GAP_S, _LONGEST_GAP_S, _QUIET_S = 2.5, 7.0, 5.0
# The process that looks also renews leases, and its link may be slow: an answer is bounded.
_MOST_DUE, _MOST_JOBS, _MOST_PARTS, _MOST_BYTES, _LOOK_AGAIN_S = 1000, 100, 1000, 1_000_000, 1
_MOST_RESULT_BYTES = 5_000_000  # as in waiting.lua
_BETWEEN_LISTS_S = 60  # as IntermediateQueue.should_be_cleaned_up


class Handling(Enum):
    """What becomes of the job that ran when its worker died; the others just go back."""

    COUNT = "count"  # back to the front, unless it has crashed too many workers
    REQUEUE = "requeue"  # back to the front: it was not its fault
    FAIL = "fail"  # failed, for the reason given
    STOP = "stop"  # stopped by command


@dataclass(frozen=True)
class Death:
    """How a worker died; `execution` is what it ran, where its supervisor saw it."""

    worker: str
    cause: str
    execution: str = ""
    handling: Handling = Handling.COUNT
    error_names: tuple[str, ...] = ()  # as in `Outcome`
    is_gone: bool = False


class Recovery:
    """Puts the jobs of dead workers back on their queues, or fails those that kill."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def sweep(self) -> None:
        """Look for workers whose lease has run out, and recover what they held.

        Raises redis-py's errors; a repetition goes on where this one ended.
        """
        gaps = ["find", _SHORTEST_GAP_S, _LONGEST_GAP_S, _QUIET_S]
        names = self._link.run("recover", [keys.LEASES, keys.LAST_SWEEP], gaps)
        for name in names:
            cause = "its machine or supervisor disappeared"
            self.recover(Death(worker=text(name), cause=cause, is_gone=True))

    def recover(self, death: Death) -> None:
        """Recover what one worker held.  Safe to repeat."""
        at = clock.now().strftime("%Y-%m-%d %H:%M:%S UTC")
        arguments = [
            "recover", death.worker, int(death.is_gone), death.execution, death.handling.value,
            f"{death.cause} at {at}", MOST_CRASHES,
        ]  # fmt: skip
        status = "stopped" if death.handling is Handling.STOP else "failed"
        with _alone(worker=death.worker):
            (back, left) = self._link.run("recover", [keys.LEASES, keys.LAST_SWEEP], arguments)
            for job_id in back:
                log.event("job.recovered", log.WARNING, job=text(job_id), worker=death.worker,
                          cause=death.cause)  # fmt: skip
            for queue, job_id, execution, causes, details in left:
                has_crashed = death.handling not in (Handling.FAIL, Handling.STOP)
                reason = _all_crashes(text(causes)) if has_crashed else death.cause
                job = _claimed(queue, job_id, execution, details)
                self._finish(death.worker, job, reason, status=status, may_retry=not has_crashed,
                             error_names=death.error_names)  # fmt: skip

    def maintain(self, queue_keys: list[str], every_s: float) -> bool:
        """Tidy up after RQ's workers; return whether there is more to do at once.

        Raises redis-py's errors; safe to repeat.
        """
        (stale, has_more) = self._link.run("maintain", queue_keys, [every_s, _BETWEEN_LISTS_S])
        for queue, job_id, execution, worker, details in stale:
            job = _claimed(queue, job_id, execution, details or ())
            reason = f"Moved to FailedJobRegistry, due to AbandonedJobError, at {clock.now()}"
            with _alone(job=job.job_id):
                if details is None:  # it is elsewhere by now
                    plan = finish.plan_for(Outcome(job, "?", 0, 0, "gone"))
                    self._link.exchange(finish_command(text(worker), plan))
                else:
                    self._finish(text(worker), job, reason, status="failed")
        return bool(has_more)

    def enqueue_due(self, queue_keys: list[str], default_timeout_s: int) -> bool:
        """Enqueue delayed jobs, expire late ones, and release those whose parts ended elsewhere.

        Return whether there is more to do at once.  Raises redis-py's errors, once all others are
        done; safe to repeat.
        """
        due = script_command("due", queue_keys, [_MOST_DUE, default_timeout_s])
        limits = [_MOST_JOBS, _MOST_PARTS, _MOST_BYTES, _LOOK_AGAIN_S]
        look = script_command("ended_parts", [keys.JOINS], ["find", *limits])
        (moved, expired), found = self._link.exchange(due, look)
        for job_id, queue, reason in zip(expired[::3], expired[1::3], expired[2::3], strict=True):
            log.event("job.expired", job=text(job_id), queue=text(queue), reason=text(reason))
        if found:
            words: list[Any] = ["end"]
            for waiting, part, status, latest in found:
                words += [waiting, part, *_ending(status.decode(), latest)]
            self._link.run("ended_parts", [keys.JOINS], words)
        return bool(moved >= _MOST_DUE)

    def _finish(
        self, worker: str, job: ClaimedJob, reason: str, *, status: Any,
        may_retry: bool = True, error_names: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        now_s = started_s = round(clock.wall(), 6)  # as exactly as RQ writes it
        with suppress(ValueError, OverflowError):  # another machine's clock may be ahead
            began_s = clock.read(job.details.text("started_at")).timestamp()
            started_s = min(max(began_s, 0), now_s)
        outcome = Outcome(
            job, "?", started_s, now_s, status, error=reason, error_names=error_names,
            may_retry=may_retry, was_killed=True,
        )  # fmt: skip
        log.event(f"job.{status}", log.ERROR, job=job.job_id, queue=job.queue, reason=reason)
        outcome.log_given_up()
        self._link.exchange(finish_command(worker, finish.plan_for(outcome)))


@contextmanager
def _alone(**of: str) -> Iterator[None]:
    """What one worker or job has keeps no other waiting."""
    try:
        yield
    except Exception as error:  # whatever is in its keys
        if isinstance(error, RedisError) and explained(error):
            raise
        log.event("recovery.failed", log.ERROR, **of, reason=repr(error))


def _claimed(queue: bytes, job_id: bytes, execution: bytes, details: Sequence[bytes]) -> ClaimedJob:
    return ClaimedJob("sound", text(job_id), text(execution), text(queue), details=Details(details))


def _all_crashes(causes: str) -> str:
    lines = causes.splitlines()
    times = ", and it must not start twice" if len(lines) == 1 else f" {len(lines)} times"
    return f"its worker died{times}: {'; '.join(lines)}"


def _ending(status: str, latest: bytes) -> tuple[str, bytes, str]:
    """A part's status, result and error as JSON, from the newest entry of its results."""
    if status == JobStatus.CANCELED.value:
        return status, b"null", _reason(latest.decode("utf-8", "replace"))
    try:
        if status == JobStatus.FINISHED.value:
            value = b64decode(latest) or b"null"
            if len(value) <= _MOST_RESULT_BYTES:  # or else it is refused
                json.loads(value)  # RQ's workers may have pickled it, and pickles are not read
            return status, value, "null"
        return status, b"null", _reason(tracebacks.unpacked(latest))
    except (ValueError, RecursionError):
        return status, b"null", "null"


def _reason(error: str) -> str:
    return json.dumps(tracebacks.reason_of(error) or None)
