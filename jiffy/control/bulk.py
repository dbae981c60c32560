"""Acting on many jobs: on a few at once, on many by a job of our own, which a worker runs.

That job needs no browser, can be stopped and goes on after a crash: what it has come to stands in
its metadata.  It acts once on each job that matches as it begins, however often one fails again.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import rq
from redis import Redis
from redis.exceptions import ResponseError

from jiffy import clock, keys, redis_io
from jiffy.control import failures, pauses, read, search, values
from jiffy.control.read import JobView
from jiffy.control.search import Cursor, Filter
from jiffy.errors import InvalidValue, JiffyError, NoWorkers
from jiffy.producer import functions as paths
from jiffy.producer import job as jobs
from jiffy.producer.enqueue import Queue
from jiffy.producer.progress import progress

MOST_COUNTED_S = 1.0  # then "more than"
FEW = 500  # are acted upon at once
LOWEST_RATE, HIGHEST_RATE = 0.01, 1000  # jobs a second
MOST_AGAIN = 3  # retried ones that fail again; then the others are left
_MOST_ASKED = 1000  # retried jobs, after each step, whether they have failed
STEP = 100  # jobs; after each step its progress is written
_KEPT_S = 7 * 24 * 3600
_ACT = f"{paths.OWN}.act"
_MOST_WORKERS = 500  # that are asked for their queues


class Action(NamedTuple):
    """`states` are those of the jobs that it can be done with."""

    do: Callable[[str, str], None]  # with a job's id, and the state in which it was seen
    states: tuple[str, ...]
    done: str


ACTIONS = {
    "retry": Action(jobs.retry, ("failed", "stopped", "canceled"), "Retried"),
    "cancel": Action(jobs.cancel, jobs.WAITING, "Canceled"),
    "stop": Action(lambda job_id, _: jobs.stop(job_id), ("started",), "Asked to stop"),
    "delete": Action(jobs.delete, (*jobs.ENDED, *jobs.WAITING), "Deleted"),
}
BULK = [name for name in ACTIONS if name != "stop"]  # can be done with many


@dataclass
class Tally:
    """What has come of an action; `refused` says why not, for the first of the `others`."""

    total: int = 0  # that matched
    done: int = 0
    others: int = 0  # whose state had changed meanwhile, or that do not allow it
    refused: str = ""
    failed_again: int = 0

    def words(self, name: str) -> str:
        """Retried 3 jobs. 1 left as they are: …"""
        jobs = "1 job" if self.done == 1 else f"{self.done:,} jobs"
        words = f"{ACTIONS[name].done} {jobs}."
        if self.others:
            words += f" {self.others:,} left as they are: {self.refused}"
        if self.failed_again >= MOST_AGAIN:
            left = self.total - self.done - self.others
            words += f" Stopped because {self.failed_again} failed again; {left:,} are left."
        return words


def each(name: str, seen: Mapping[str, str], tally: Tally) -> list[str]:
    """Act on each job, by its id, and add to `tally`; return those that allowed the action.

    `seen` has the state that each was in, "" where any will do.
    Raises redis-py's errors, but not for what one job's keys hold.
    """
    done = []
    for job_id, state in seen.items():
        try:
            ACTIONS[name].do(job_id, state)
            done.append(job_id)
            tally.done += 1  # also where Redis takes no more soon
        except (JiffyError, ResponseError) as error:
            if isinstance(error, ResponseError) and redis_io.explained(error):
                raise  # the others would be passed over
            tally.others += 1
            tally.refused = tally.refused or str(error)
    return done


class Matching(NamedTuple):
    """How many jobs match; `is_more` where counting all would take too long."""

    total: int
    is_more: bool
    functions: list[tuple[str, int]]

    def __str__(self) -> str:
        more = "more than " if self.is_more else ""
        return f"{more}{self.total:,} job{'s' if self.total != 1 else ''}"


def count(redis: Redis, name: str, wanted: Filter) -> Matching:
    """Count the jobs that match and that it can be done with, for MOST_COUNTED_S at most."""
    wanted = wanted.within(ACTIONS[name].states)
    lists, until = wanted.lists(read.census(redis)), clock.monotonic() + MOST_COUNTED_S
    if wanted.is_plain(lists):
        return Matching(sum(one.size for one in lists), False, [])
    functions: Counter[str] = Counter()
    at: Cursor | None = Cursor()
    while at is not None and clock.monotonic() < until:
        matches, at = search.window(redis, lists, wanted, at)
        functions.update(job.called for job in matches if _is_meant(name, job))
    return Matching(functions.total(), at is not None, functions.most_common(5))


def read_rate(name: str, written: str | float | None) -> float | None:
    """Jobs a second; None for as fast as it goes.  Raises InvalidValue."""
    if written is None or written == "":
        return None
    with suppress(ValueError):
        if name == "retry" and LOWEST_RATE <= float(written) <= HIGHEST_RATE:
            return float(written)
    must = f"jobs a second, from {LOWEST_RATE} to {HIGHEST_RATE:,}, and only for retry"
    raise InvalidValue("rate", written, must)


def read_filter(written: str, name: str = "filter") -> Filter:
    """The filter of one who does not see first what matches: it must not be blank.

    Raises InvalidValue, which calls it `name`; a variable of a shell may not be set.
    """
    wanted = search.parse(written)
    if wanted.problems:
        raise InvalidValue(name, written, f"a filter: {wanted.problems[0]}")
    if not written.strip():
        raise InvalidValue(name, written, "a filter; 'queue:*' means every job")
    return wanted


def act_on_all(
    redis: Redis, name: str, wanted: Filter, who: str, rate: float | None, asked: datetime,
    tally: Tally,
) -> rq.job.Job | None:  # fmt: skip
    """Act on all jobs that match since before they were `asked` for: on a few at once, and add to
    `tally`, else by a job, which this returns.

    Where no worker could run that job, with the first few.  Raises NoWorkers for a `rate` then.
    """
    matching = count(redis, name, wanted)
    if rate is not None or matching.total > FEW or matching.is_more:
        try:
            return start(redis, name, wanted, who, rate, asked)
        except NoWorkers:
            if rate is not None:
                raise
    ids = [job.id for job in islice(_matching(redis, name, wanted, asked), FEW)][::-1]
    for place in range(0, len(ids), STEP):
        step(redis, name, wanted, asked, ids[place : place + STEP], tally)
    return None


def start(
    redis: Redis, name: str, wanted: Filter, who: str, rate: float | None, asked: datetime
) -> rq.job.Job:
    """Enqueue the job that does it with all that match, where our workers find it first.

    With a `rate`, so many jobs a second, it ends when MOST_AGAIN of them fail again.
    Raises NoWorkers.
    """
    queue = queue_of_workers(redis)
    if queue is None:
        raise NoWorkers(name)
    given = {"action": name, "matching": wanted.text, "who": who, "rate": rate}
    return Queue(queue, connection=redis).enqueue_call(
        _ACT,
        kwargs={**given, "start": asked.isoformat()},
        timeout=-1,
        result_ttl=_KEPT_S,
        description=f"{name.capitalize()} all jobs that match {wanted.text or 'no filter'}",
        at_front=True,
    )


def queue_of_workers(redis: Redis) -> str | None:
    """The queue that most of our workers listen to; None where there is none, or all are paused
    or quiet.
    """
    now, heard = redis_io.now(redis), Counter[str]()
    alive = keys.LEASES, now.timestamp(), "+inf", 0, _MOST_WORKERS
    names = values.answer(redis.zrangebyscore, *alive) or ()
    hashes = [keys.worker(values.text(name)) for name in names]
    for one in values.peek(redis, hashes, ["queues", keys.QUIET_FIELD], values.MOST_BYTES_IN_LIST):
        if one and one(keys.QUIET_FIELD, values.line, "") != "yes":
            heard.update(one("queues", values.text, "").split(","))
    paused = pauses.in_force(values.answer(redis.hgetall, keys.PAUSED) or {}, now)
    for name in ("", *(one.name for one in paused if one.kind == "queue")):
        del heard[name]
    return max(heard, key=lambda queue: (heard[queue], queue), default=None)


def act(
    action: str, matching: str, who: str, start: str, rate: float | None = None
) -> dict[str, Any]:
    """The job of `start`: what came of it, counted.  `who` asked for it, at `start`."""
    redis, job = redis_io.shared(), rq.get_current_job()
    tally = Tally(**(job.meta.get("bulk") or {})) if job else Tally()
    progress.update(None, "counting")
    asked = clock.read(start)
    wanted = search.parse(matching, asked)
    if wanted.problems:  # to a worker of another release: what is left out would widen it
        raise InvalidValue("matching", matching, f"a filter: {wanted.problems[0]}")
    for _ in steps(redis, action, wanted, asked, rate, tally):
        ended = tally.done + tally.others
        again = f", {tally.failed_again:,} failed again" if tally.failed_again else ""
        progress.update(ended / tally.total, f"{ended:,} of {tally.total:,}{again}")
        if job:
            job.meta["bulk"] = asdict(tally)
            job.save_meta()
    return {"summary": tally.words(action), **asdict(tally)}


def steps(
    redis: Redis, name: str, wanted: Filter, start: datetime, rate: float | None, tally: Tally
) -> Iterator[None]:
    """Act on all that match since before `start`, the oldest first; yield after each step."""
    began, sent = clock.monotonic(), 0
    size = max(1, min(STEP, int(rate))) if rate else STEP
    seen, runs = set[str](), list[str]()
    # Lists move while they are read: look again until nothing new is found.
    while ids := [job.id for job in _matching(redis, name, wanted, start) if job.id not in seen]:
        seen.update(ids)
        ids.reverse()
        tally.total = tally.done + tally.others + len(ids)
        for place in range(0, len(ids), size):
            if rate:
                clock.pause(max(0.0, began + sent / rate - clock.monotonic()))
                states = read.states_of(redis, runs[:_MOST_ASKED])
                runs[:_MOST_ASKED] = [one for one in states if states[one] in jobs.NOT_ENDED]
                tally.failed_again += sum(one == "failed" for one in states.values())
                if tally.failed_again >= MOST_AGAIN:
                    return
            runs += step(redis, name, wanted, start, ids[place : place + size], tally)
            sent += size
            yield


def step(
    redis: Redis, name: str, wanted: Filter, start: datetime, ids: Sequence[str], tally: Tally
) -> list[str]:
    """Act on those that still match: long after they were listed, someone may have retried one."""
    wanted = wanted.within(ACTIONS[name].states)
    found = read.jobs(redis, ids, with_errors=True).values()
    due = [job for job in found if wanted.matches(job) and _is_due(name, job, start)]
    too_late = _canceled_since(redis, due, start)
    still = {job.id: job.state for job in due if job.id not in too_late}
    if changed := len(ids) - len(still):
        tally.others += changed
        tally.refused = tally.refused or "They have changed meanwhile."
    return each(name, still, tally)


def _canceled_since(redis: Redis, jobs: Sequence[JobView], start: datetime) -> set[str]:
    """Those that were canceled after `start`, which only their registry says."""
    canceled = [job for job in jobs if job.state == "canceled"]
    if not canceled:
        return set()
    with redis.pipeline(transaction=False) as pipe:
        for job in canceled:
            pipe.zscore(keys.jobs_in("canceled", job.queue), job.id)
        scores = values.answers(pipe)
    # RQ writes no time, but one that never comes.
    first, last = start.timestamp(), redis_io.now(redis).timestamp() + 60
    return {job.id for job, at in zip(canceled, scores, strict=True) if at and first < at < last}


def _is_meant(name: str, job: JobView) -> bool:
    """A bulk action that was stopped, perhaps a deletion, goes on only if it is retried alone."""
    return name != "retry" or job.called != _ACT


def _matching(redis: Redis, name: str, wanted: Filter, start: datetime) -> Iterator[JobView]:
    """Those to which nothing has happened since `start`, newest first."""
    wanted = wanted.within(ACTIONS[name].states)
    lists = wanted.lists(read.census(redis))
    at: Cursor | None = Cursor()
    while at is not None:
        found, at = search.window(redis, lists, wanted, at, search.WINDOW)
        match wanted.fields.get("group"):
            case (str(key),) if key != "*":
                failures.note(redis, key, found)
        yield from (job for job in found if _is_due(name, job, start))


def _is_due(name: str, job: JobView, start: datetime) -> bool:
    """Whether nothing has happened to it since `start`, and the action is for it."""
    return (job.latest is None or job.latest <= start) and _is_meant(name, job)
