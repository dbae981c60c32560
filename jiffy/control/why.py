"""What is wrong, for the banners above every page; why a job is not running, and what became of it.

Pure functions over what was read.
"""

import math
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from jiffy import clock
from jiffy.control.pauses import PausedWork, in_force
from jiffy.control.read import MOST_BEFORE, Census, JobView
from jiffy.control.values import clip, lasted_s
from jiffy.history import Flow, Point
from jiffy.producer.options import in_shell

_MOST_NAMED = 5  # queues, pauses or releases
_LEAST_COMPARED = 5  # attempts; fewer say little about what is usual


class Reason(NamedTuple):
    """Something that is wrong, or why a job waits; with what to do about it, if anything."""

    text: str
    remedy: str = ""
    command: str = ""
    at: datetime | None = None  # when it is over
    name: str = ""  # of a banner, for tests and links: no-workers
    endpoint: str = ""  # of the page that shows more

    @property
    def is_wrong(self) -> bool:
        """Whether waiting alone does not help."""
        return bool(self.remedy)


def banners(census: Census) -> Iterator[Reason]:
    """What is wrong now, the worst first."""
    for problem in census.problems:
        key = problem.partition(" ")[0]
        remedy = "Neither RQ nor Jiffy wrote that: move it out of the way with"
        yield Reason(f"{problem}.", remedy, f"redis-cli rename {key} odd:{key}", name="odd-key")
    waiting = [queue for queue in census.queues if queue.counts["queued"]]
    yield from _on_workers(census, [queue.name for queue in waiting if not queue.is_heard])
    memory = census.memory
    if memory.is_nearly_full:
        text = f"Redis has used {memory.used / memory.most:.0%} of its memory."
        remedy = (
            "When it is full, no job can be enqueued: raise its limit, let results expire sooner, "
            "or delete failed jobs."
        )
        yield Reason(text, remedy, name="memory", endpoint="system.system")
    if memory.evicts:
        remedy = f"Its policy is {memory.policy}; set it to noeviction:"
        command = "redis-cli config set maxmemory-policy noeviction"
        yield Reason("Redis deletes jobs when its memory is full.", remedy, command, name="evicts")
    if memory.is_kept is False:
        remedy = "It saves nothing to disk; switch on its append-only file:"
        command = "redis-cli config set appendonly yes"
        yield Reason("A restart of Redis loses every job.", remedy, command, name="forgetful")
    if census.scheduler == "away":
        remedy = "The schedule enqueues nothing until you start one:"
        command = "python -m jiffy scheduler"
        yield Reason("No scheduler is running.", remedy, command, name="no-scheduler")
    yield from map(_paused, in_force(census.paused, census.taken)[:_MOST_NAMED])
    if len(census.releases) > 1:
        some = sorted(census.releases.items())[:_MOST_NAMED]
        named = ", ".join(f"{number:,} on {release[:12]}" for release, number in some)
        text = f"Workers run {len(census.releases)} releases: {named}."
        remedy = "During a deploy that passes; if it lasts, restart the older ones."
        yield Reason(text, remedy, name="releases", endpoint="workers.workers")


def _on_workers(census: Census, waiting: list[str]) -> Iterator[Reason]:
    """Why no worker starts the jobs of these queues, where others are heard."""
    if census.is_suspended:
        yield Reason("All workers are suspended.", "Resume them:", "rq resume", name="suspended")
    if not census.workers and (waiting or census.counts["started"]):
        command = "python -m jiffy worker"
        yield Reason("No workers are running.", "Start one:", command, name="no-workers")
    elif waiting:
        more = len(waiting) - _MOST_NAMED
        names = ", ".join(f"“{clip(name, 60)}”" for name in waiting[:_MOST_NAMED])
        names += f" and {more} more queues" if more > 0 else ""
        which = "queue" if len(waiting) == 1 else "queues"
        yield Reason(
            f"No worker listens to {which} {names}.", "Start one, or check the name:",
            f"python -m jiffy worker {in_shell(*waiting[:_MOST_NAMED])}", name="unheard",
            endpoint="queues.queues",
        )  # fmt: skip


def _paused(one: PausedWork) -> Reason:
    what = f"Queue “{one.name}”" if one.kind == "queue" else f"The function {one.name}"
    until = f" until {one.until:%Y-%m-%d %H:%M} UTC" if one.until else ""
    return Reason(
        f"{what} is paused by {one.who}{until}: {one.why}.", "Resume it:",
        f"python -m jiffy resume {one.kind} {in_shell(one.name)}", one.until, "paused",
        "queues.queues",
    )  # fmt: skip


# A job: why it is not running


def obstacles(job: JobView, census: Census) -> list[Reason]:
    """Why no worker would claim the job, whatever else it waits for; the worst first."""
    pauses = [
        _paused(one)
        for one in in_force(census.paused, census.taken)
        if one.name == (job.queue if one.kind == "queue" else job.called)
    ]
    its = [one for one in census.queues if one.name == job.queue]
    is_served = census.workers and all(one.is_heard for one in its)
    return [*pauses, *_on_workers(census, [] if is_served else [job.queue])]


def reasons(job: JobView, census: Census, flow: Flow | None = None) -> list[Reason]:
    """Why the job is not running, the worst first; none if it runs, or is over.

    `flow` is that of its queue.
    """
    wrong = obstacles(job, census)
    if job.is_running:  # it says so until a worker finds that the one that ran it is dead
        return [] if census.workers else wrong
    if job.state == "queued":
        is_parked = any(job.called == one.name for one in in_force(census.paused, census.taken))
        return wrong if is_parked else [*wrong, _behind(job, census, flow, is_served=not wrong)]
    if job.state == "scheduled":
        what = "the retry" if job.waits_for == "retry" else "its time"
        if job.due is None:
            return [Reason("It is scheduled, but for no time.", "Cancel it, and enqueue it again.")]
        if job.due > census.taken:
            return [Reason(f"It waits for {what} at {job.due:%H:%M:%S} UTC", at=job.due)]
        return [Reason("It is due.", at=job.due), *wrong]
    if job.state == "deferred":
        if wrong_ones := job.in_the_way:
            more = f" and {len(wrong_ones) - 3} more" if len(wrong_ones) > 3 else ""
            remedy = "Retry what failed, was stopped or canceled; this job follows. Or cancel it."
            return [Reason(f"It waits for {', '.join(wrong_ones[:3])}{more}.", remedy)]
        if count := len(job.others) + max(0, job.others_left_out):
            return [Reason(f"It waits for {count:,} job{'s' if count != 1 else ''} to finish.")]
    if job.slot:
        return [Reason(f"It waits for a slot of the rate limit {job.slot}.")]
    if job.state == "deferred":
        remedy = "If this stays so, cancel it and retry it."
        return [Reason("The jobs that it waited for have ended, or are gone.", remedy)]
    if job.state == "ready_to_enqueue":
        return [Reason("What it waited for has ended: a worker puts it on its queue next.")]
    return []


def _behind(job: JobView, census: Census, flow: Flow | None, *, is_served: bool) -> Reason:
    before, its = job.position, [one for one in census.queues if one.name == job.queue]
    waiting = sum(one.counts["queued"] for one in its)
    busy = "".join(f", and {one.all_busy}" for one in its if is_served and one.all_busy)
    if before is None and waiting > MOST_BEFORE:
        return Reason(f"More than {MOST_BEFORE:,} jobs are ahead of it on its queue.")
    if before is None:
        remedy = "If this stays so, cancel it and enqueue it again."
        return Reason("It is not on its queue: a worker is just claiming it.", remedy)
    if before == 0:
        return Reason(f"It is the next job on its queue{busy}.")
    found = f"{'1 job is' if before == 1 else f'{before:,} jobs are'} ahead of it on its queue"
    if not (is_served and flow and flow.out_per_s):
        return Reason(f"{found}{busy}.")
    starts_in = clock.in_words(max(1, round(before / flow.out_per_s)))
    return Reason(f"{found}; at {clock.rate(flow.out_per_s)}, it starts in about {starts_in}.")


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
    held_s = lasted_s(job.created, enqueued)
    steps = [Step("created", "canceled", job.created, None, "past")]
    if job.state in ("scheduled", "deferred", "rate_limited", "ready_to_enqueue"):
        name = "waits for a retry" if job.waits_for == "retry" else job.state.replace("_", " ")
        steps.append(Step(name, job.state, job.due, None, "now"))
    elif held_s is not None and held_s > 1:
        steps.append(Step("held back", "deferred", None, held_s, "past"))
    waited_s = lasted_s(enqueued, job.started) if has_started else None
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
