"""What people do with jobs, one or many: all of it passes here, with who did it."""

from collections.abc import Iterable
from typing import NamedTuple

from rq.job import Job

from jiffy import bulk, clock, groups, log, read, redis_io, search
from jiffy.bulk import ACTIONS as ACTIONS
from jiffy.bulk import Outcome as Outcome
from jiffy.groups import Failures
from jiffy.search import Cursor, Filter

MOST_COUNTED_S = 1.0  # then "more than"
BULK = [name for name in ACTIONS if name != "stop"]  # can be done with many


def act(name: str, job_ids: Iterable[str], who: str) -> Outcome:
    """Do it with each job; one that does not allow it is left as it is."""
    outcome, ids = Outcome(), [*job_ids]
    bulk.each(name, ids, outcome)
    record(who, name, " ".join(ids), outcome.done)
    return outcome


def act_on_all(name: str, wanted: Filter, who: str, rate: float | None = None) -> Outcome | Job:
    """Do it with all that match: at once with a few, else by a job, which this returns.

    Where no worker could run that job, with the first few.  Raises NoWorkers for a `rate` then.
    """
    redis, matching = redis_io.shared(), count(wanted.within(ACTIONS[name].states))
    is_few = matching.total <= bulk.FEW and not matching.is_more
    if rate is None and (is_few or not bulk.queue_of_workers(redis)):
        outcome = bulk.few(redis, name, wanted)
        record(who, name, wanted.text, outcome.done)
        return outcome
    job = bulk.start(redis, name, wanted, who, rate)
    record(who, name, wanted.text, matching.total, job=job.id, rate=rate)
    return job


def ignore(one: Failures, who: str) -> None:
    """Hide a group of failures until it fails on a new release."""
    redis = redis_io.shared()
    groups.ignore(redis, one, who, read.census(redis).releases)
    record(who, "ignore", f"group:{one.group.key}", len(one.jobs))


def stop_ignoring(key: str, who: str) -> bool:
    """Show a group of failures again; False if it was not ignored."""
    record(who, "stop ignoring", f"group:{key}", 0)
    return groups.stop_ignoring(redis_io.shared(), key)


def record(who: str, what: str, on: str, how_many: int, **more: object) -> None:
    """Note who did what, on which jobs: ids, or the filter that they match."""
    log.event("dashboard.acted", who=who, what=what, on=read.clip(on, 300), jobs=how_many, **more)


class Matching(NamedTuple):
    """How many jobs match; `is_more` where counting all would take too long."""

    total: int
    is_more: bool
    functions: list[tuple[str, int]]


def count(wanted: Filter) -> Matching:
    """Count matching jobs, for MOST_COUNTED_S at most."""
    redis = redis_io.shared()
    lists, until = wanted.lists(read.census(redis)), clock.monotonic() + MOST_COUNTED_S
    if wanted.is_plain(lists):
        return Matching(sum(one.size for one in lists), False, [])
    functions: dict[str, int] = {}
    at: Cursor | None = Cursor()
    while at is not None and clock.monotonic() < until:
        matches, at = search.window(redis, lists, wanted, at)
        for job in matches:
            functions[job.called] = functions.get(job.called, 0) + 1
    often = sorted(functions.items(), key=lambda item: -item[1])[:5]
    return Matching(sum(functions.values()), at is not None, often)
