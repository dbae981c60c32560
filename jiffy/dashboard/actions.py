"""What people do with jobs on the pages, one or many: all of it is recorded here."""

from collections.abc import Iterable

from rq.job import Job

from jiffy import log, redis_io
from jiffy.control import bulk, failures, read
from jiffy.control.bulk import ACTIONS as ACTIONS
from jiffy.control.bulk import Outcome as Outcome
from jiffy.control.failures import Failures
from jiffy.control.search import Filter
from jiffy.dashboard import audit
from jiffy.errors import InvalidValue

BULK = [name for name in ACTIONS if name != "stop"]  # can be done with many


def act(name: str, job_ids: Iterable[str], who: str) -> Outcome:
    """Act on each job; one that does not allow the action is left as it is."""
    outcome, ids = Outcome(), [*job_ids]
    bulk.each(name, ids, outcome)
    record(who, name, " ".join(ids), outcome.done)
    return outcome


def act_on_all(name: str, wanted: Filter, who: str, rate: float | None = None) -> Outcome | Job:
    """Act on all jobs that match: on a few at once, else by a job, which this returns.

    Where no worker could run that job, with the first few.  Raises NoWorkers for a `rate` then.
    """
    redis = redis_io.shared()
    matching = bulk.count(redis, name, wanted)
    is_few = matching.total <= bulk.FEW and not matching.is_more
    if rate is None and (is_few or not bulk.queue_of_workers(redis)):
        outcome = bulk.few(redis, name, wanted)
        record(who, name, wanted.text, outcome.done)
        return outcome
    return start(name, wanted, who, rate)


def start(name: str, wanted: Filter, who: str, rate: float | None = None) -> Job:
    """Let a job act on all that match.  Raises NoWorkers, and InvalidValue for a bad filter."""
    if wanted.problems:
        raise InvalidValue("filter", wanted.text, f"one that is understood: {wanted.problems[0]}")
    job = bulk.start(redis_io.shared(), name, wanted, who, rate)
    record(who, name, wanted.text, None, job=job.id, rate=rate)
    return job


def ignore(one: Failures, who: str) -> None:
    """Hide a group of failures until it fails on a new release."""
    redis = redis_io.shared()
    failures.ignore(redis, one, who, read.census(redis).releases)
    record(who, "ignore", f"group:{one.group.key}", len(one.jobs))


def stop_ignoring(key: str, who: str) -> bool:
    """Show a group of failures again; False if it was not ignored."""
    record(who, "stop ignoring", f"group:{key}", 0)
    return failures.stop_ignoring(redis_io.shared(), key)


def record(who: str, what: str, on: str, how_many: int | None, **more: object) -> None:
    """Note who did what, on which jobs: ids, or the filter that they match."""
    audit.note(jobs=how_many, **more)
    log.event("dashboard.acted", who=who, what=what, on=read.clip(on, 300), jobs=how_many, **more)
