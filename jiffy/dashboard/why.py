"""Why a job is not running, and what happened to it so far: pure functions over what was read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from jiffy import clock
from jiffy.control.pauses import Pause
from jiffy.control.read import MOST_BEFORE, Census, JobView, QueueCount
from jiffy.dashboard.pages import rate
from jiffy.history import Flow, Point

_LEAST_COMPARED = 5  # attempts; fewer say little about what is usual


@dataclass(frozen=True)
class Facts:
    """What decides when a job runs, as of one moment."""

    job: JobView
    census: Census
    pauses: Sequence[Pause] = ()
    flow: Flow | None = None  # of its queue
    now: datetime = field(default_factory=clock.now)

    @property
    def queue(self) -> QueueCount | None:
        """None where it is not known, or has no jobs."""
        return next((one for one in self.census.queues if one.name == self.job.queue), None)


class Reason(NamedTuple):
    """One reason, with what to do about it, if anything has to be done."""

    text: str
    remedy: str = ""
    command: str = ""
    at: datetime | None = None  # when it is over

    @property
    def is_wrong(self) -> bool:
        """Whether waiting alone does not help."""
        return bool(self.remedy)


def reasons(facts: Facts) -> list[Reason]:
    """Why the job is not running, the worst first; none if it runs, or is over."""
    job = facts.job
    if job.state == "queued":
        paused, missing = _paused(facts), _no_worker(facts)
        is_parked = any(facts.job.called == one.name for one in facts.pauses)
        behind = [] if is_parked else _behind(facts, is_served=not paused and not missing)
        return paused + missing + behind
    if job.state == "scheduled":
        what = "the retry" if job.waits_for == "retry" else "its time"
        if job.due is None:
            return [Reason("It is scheduled, but for no time.", "Cancel it, and enqueue it again.")]
        if job.due > facts.now:
            return [Reason(f"It waits for {what} at {job.due:%H:%M:%S} UTC", at=job.due)]
        return [Reason("It is due.", at=job.due), *_no_worker(facts)]
    if job.state == "deferred":
        return _waits_for_jobs(job)
    if job.slot:
        return [Reason(f"It waits for a slot of the rate limit {job.slot}.")]
    if job.state == "ready_to_enqueue":
        return [Reason("What it waited for is over: a worker puts it on its queue next.")]
    return []


def _paused(facts: Facts) -> list[Reason]:
    found = []
    for one in facts.pauses:
        if one.name == (facts.job.queue if one.kind == "queue" else facts.job.called):
            what = f"Queue “{one.name}”" if one.kind == "queue" else f"The function {one.name}"
            until = f" until {one.until:%Y-%m-%d %H:%M} UTC" if one.until else ""
            text = f"{what} is paused by {one.who}{until}: {one.why}."
            command = f"jiffy resume {one.kind} {one.name}"
            found.append(Reason(text, "Resume it:", command, one.until))
    return found


def _no_worker(facts: Facts) -> list[Reason]:
    census, name, queue = facts.census, facts.job.queue, facts.queue
    found = []
    if census.is_suspended:
        found.append(Reason("All workers are suspended.", "Resume them:", "rq resume"))
    if not census.workers:
        remedy = "Start one:", "python -m jiffy worker"
        found.append(Reason("No workers are running.", *remedy))
    elif queue and not queue.is_heard:
        remedy = "Start one, or check the name:", f"python -m jiffy worker {name}"
        found.append(Reason(f"No worker listens to queue “{name}”.", *remedy))
    return found


def _behind(facts: Facts, *, is_served: bool) -> list[Reason]:
    before, waiting = facts.job.position, facts.queue.counts["queued"] if facts.queue else 0
    if before is None and waiting > MOST_BEFORE:
        return [Reason(f"More than {MOST_BEFORE:,} jobs stand before it on its queue.")]
    if before is None:
        remedy = "If this stays so, cancel it and enqueue it again."
        return [Reason("It is not on its queue: a worker is just claiming it.", remedy)]
    if before:
        jobs = "1 job stands" if before == 1 else f"{before:,} jobs stand"
        found, out_per_s = f"{jobs} before it on its queue", facts.flow and facts.flow.out_per_s
        if not out_per_s or not is_served:
            return [Reason(f"{found}.")]
        starts_in = clock.in_words(max(1, round(before / out_per_s)))
        return [Reason(f"{found}; at {rate(out_per_s)}, it starts in about {starts_in}.")]
    busy = "It is the next one of its queue: the workers that listen are busy."
    return [Reason(busy if is_served else "It is the next one of its queue.")]


def _waits_for_jobs(job: JobView) -> list[Reason]:
    wrong = [one for one in job.others if one.is_in_the_way]
    if wrong:
        ids = ", ".join(f"{one.id} ({one.state})" for one in wrong[:3])
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        remedy = "Retry what failed, was stopped or canceled; this job follows. Or cancel it."
        return [Reason(f"It waits for {ids}{more}.", remedy)]
    count = len(job.others) + max(0, job.others_left_out)
    return [Reason(f"It waits for {count:,} job{'s' if count != 1 else ''} to finish.")]


class Step(NamedTuple):
    """A state on a job's path."""

    name: str
    kind: str  # the state that colours it
    at: datetime | None
    took_s: float | None  # how long it was in this state
    place: str  # past, now or next


def path(job: JobView) -> list[Step]:
    """Created, held back, waiting, running, ended: each with its time, the coming ones without."""
    enqueued = job.enqueued if job.state not in ("scheduled", "deferred", "rate_limited") else None
    has_started = job.started is not None and job.state not in ("queued", "scheduled", "deferred")
    held_s = _between(job.created, enqueued)
    steps = [Step("created", "canceled", job.created, None, "past")]
    if job.state in ("scheduled", "deferred", "rate_limited", "ready_to_enqueue"):
        name = "waits for a retry" if job.waits_for == "retry" else job.state.replace("_", " ")
        steps.append(Step(name, job.state, job.due, None, "now"))
    elif held_s is not None and held_s > 1:
        steps.append(Step("held back", "deferred", None, held_s, "past"))
    waited_s = _between(enqueued, job.started) if has_started else None
    place = "now" if job.state == "queued" else "past" if enqueued else "next"
    if enqueued or not job.has_ended:
        steps.append(Step("waiting", "queued", enqueued, waited_s, place))
    if has_started or not job.has_ended:
        place = "now" if job.is_running else "past" if has_started else "next"
        started = job.started if has_started else None
        steps.append(Step("running", "started", started, job.ran_s if has_started else None, place))
    if job.has_ended:
        steps.append(Step(job.state, job.state, job.ended, None, "now"))
    else:
        steps.append(Step("finished", "finished", None, None, "next"))
    return steps


def _between(begin: datetime | None, end: datetime | None) -> float | None:
    return None if begin is None or end is None else max(0.0, (end - begin).total_seconds())


class Compared(NamedTuple):
    """How long a job ran, beside the attempts of its function; places are percents of a scale on
    which each step is so many times the one before.
    """

    words: str
    past: Point
    p50: float
    p95: float
    this: float


def compared(job: JobView, past: Point) -> Compared | None:
    """None where there is nothing to compare."""
    p50_s, p95_s, ran_s = past.ran.p50_s, past.ran.p95_s, job.ran_s
    if p50_s is None or p95_s is None or ran_s is None or past.attempts < _LEAST_COMPARED:
        return None
    scale = [math.log10(max(one, 1e-4)) for one in (p50_s, p95_s, ran_s)]
    low, width = min(scale) - 0.3, max(scale) - min(scale) + 0.6
    if ran_s <= p95_s:
        words = "as usual" if ran_s >= p50_s / 4 else "quicker than usual"
    else:
        words = "slower than usual" if ran_s < 4 * p95_s else "much slower than usual"
    return Compared(words, past, *(round((one - low) / width * 100, 1) for one in scale))
