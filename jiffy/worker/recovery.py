"""What becomes of the jobs of a worker that died: back to their queues, or failed if they kill."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from redis.exceptions import RedisError

from jiffy import clock, keys, log
from jiffy.redis_io import Link, explained
from jiffy.worker import finish
from jiffy.worker.claim import ClaimedJob, Details, text
from jiffy.worker.finish import Outcome

MOST_CRASHES = 3
UNKNOWN_CULPRIT = "?"  # as `Death.execution`: one of the jobs that it held, and no one knows which
SWEEP_EVERY_S = 3
_SHORTEST_GAP_S, _LONGEST_GAP_S, _EXCUSED_S = 2.5, 7.0, 5.0


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


def sweep(link: Link) -> None:
    """Look for workers whose lease has run out, and recover what they held.

    Raises redis-py's errors; a repetition goes on where this one ended.
    """
    gaps = [_SHORTEST_GAP_S, _LONGEST_GAP_S, _EXCUSED_S]
    for name in link.run("find_dead", [keys.LEASES, keys.LAST_SWEEP], gaps):
        recover_gone(link, text(name))


def recover_gone(link: Link, name: str) -> None:
    """Recover what a worker held, if its lease has run out.

    Also before another one gets its name, which requeues all that is held, and counts nothing.
    """
    cause = "its machine or supervisor disappeared"
    for _ in range(2):  # where the first has finished a job, the second deletes what RQ knows of it
        recover(link, Death(worker=name, cause=cause, is_gone=True))


def recover(link: Link, death: Death, token: str = "") -> None:
    """Recover what one worker held, or its process whose executions begin with `token`.

    Safe to repeat, also where Redis hears it late: then another process of the worker has claimed.
    """
    at = clock.now().strftime("%Y-%m-%d %H:%M:%S UTC")
    arguments = [
        death.worker, int(death.is_gone), death.execution, death.handling.value,
        f"{death.cause} at {at}", MOST_CRASHES, token,
    ]  # fmt: skip
    status = "stopped" if death.handling is Handling.STOP else "failed"
    has_crashed = death.handling not in (Handling.FAIL, Handling.STOP)
    with alone(worker=death.worker):
        back, to_finish = link.run("recover", [keys.LEASES], arguments)
        for job_id in back:
            log.event("job.recovered", log.WARNING, job=text(job_id), worker=death.worker,
                      cause=death.cause)  # fmt: skip
        for queue, job_id, execution, causes, details in to_finish:
            reason = _all_crashes(text(causes)) if has_crashed else death.cause
            job = claimed(queue, job_id, execution, details)
            finish_left(link, death.worker, job, reason, status=status,
                        may_retry=not has_crashed, error_names=death.error_names)  # fmt: skip


def _all_crashes(causes: str) -> str:
    lines = causes.splitlines()
    times = ", and it must not start twice" if len(lines) == 1 else f" {len(lines)} times"
    return f"its worker died{times}: {'; '.join(lines)}"


def finish_left(
    link: Link, worker: str, job: ClaimedJob, reason: str, *, status: Any = "failed",
    may_retry: bool = True, error_names: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Finish a job whose process has died."""
    now_s = started_s = round(clock.wall(), 6)  # as exactly as RQ writes it
    with suppress(ValueError, OverflowError):  # another machine's clock may be ahead
        began_s = clock.read(job.details.text("started_at")).timestamp()
        started_s = min(max(began_s, 0), now_s)
    outcome = Outcome(
        job, "?", started_s, now_s, status, error=reason, error_names=error_names,
        may_retry=may_retry, was_killed=True,
    )  # fmt: skip
    plan = finish.plan_for(outcome)
    level = log.ERROR if outcome.has_failed else log.WARNING
    log.event(f"job.{status}", level, job=job.job_id, queue=job.queue, reason=reason)
    outcome.log_given_up()
    link.exchange(finish.finish_command(worker, plan))


@contextmanager
def alone(**of: str) -> Iterator[None]:
    """What one worker or job has keeps no other waiting."""
    try:
        yield
    except Exception as error:  # whatever is in its keys
        if isinstance(error, RedisError) and explained(error):
            raise
        log.event("recovery.failed", log.ERROR, **of, reason=repr(error))


def claimed(queue: bytes, job_id: bytes, execution: bytes, details: Sequence[bytes]) -> ClaimedJob:
    """A job as a worker that has died had claimed it."""
    return ClaimedJob("sound", text(job_id), text(execution), text(queue), details=Details(details))
