"""What is measured, and how: each measurement of one contestant gives a few figures.

Every contestant has the same work and the same Redis, which is empty before each measurement.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from threading import Event

from bench import server
from bench.stage import Fell, Stage
from jiffy.clock import monotonic

Figures = dict[str, float]

LATENCY_LIMIT_S = 20
IDLE_S = 5
NAPS_AT_ONCE = 10


@dataclass(frozen=True)
class Plan:
    """How much of everything; `deadline_s` is when a contestant is no longer waited for."""

    jobs: int = 20_000
    naps: int = 1_000
    calls: int = 300
    deadline_s: float = 60

    def quick(self) -> "Plan":
        return Plan(jobs=500, naps=50, calls=30, deadline_s=30)


def drain(stage: Stage, plan: Plan, workers: int) -> Figures:
    """A full queue of jobs that do nothing before workers that stand ready."""
    stage.start_workers(workers)
    stage.freeze()
    stage.fill("noop", plan.jobs)
    before = stage.traffic()
    took_s, done = _race(stage, plan.jobs, plan.deadline_s, warmed=workers)
    spent = stage.traffic() - before
    return {
        "jobs_per_s": done / took_s,
        "commands_per_job": spent.commands / done,
        "round_trips_per_job": spent.reads / done,
        "not_done": plan.jobs - done,
    }


def enqueue(stage: Stage, plan: Plan) -> Figures:
    """How fast one producer fills a queue that no worker reads."""
    stage.ask("enqueue", job="noop", n=10)  # the connection, and what is made once
    before = stage.traffic()
    figures = {"one_by_one_per_s": plan.jobs / stage.ask("enqueue", job="noop", n=plan.jobs)}
    spent = stage.traffic() - before
    figures["commands_per_job"] = spent.commands / plan.jobs
    figures["round_trips_per_job"] = spent.reads / plan.jobs
    if stage.about["has_bulk"]:
        took_s = stage.ask("enqueue_many", job="noop", n=plan.jobs)
        figures["bulk_per_s"] = plan.jobs / took_s
    return figures


def latency(stage: Stage, plan: Plan) -> Figures:
    """One job at a time, from the call to its first line and to its result, two idle workers."""
    stage.start_workers(2)
    stage.ask("latency", n=3, limit_s=LATENCY_LIMIT_S)
    taken = stage.ask("latency", n=plan.calls, limit_s=LATENCY_LIMIT_S)
    begun, ended = (sorted(seconds) for seconds in zip(*taken, strict=True))
    return {
        "begun_ms": median(begun) * 1000,
        "begun_p99_ms": _p99(begun) * 1000,
        "result_ms": median(ended) * 1000,
        "result_p99_ms": _p99(ended) * 1000,
    }


def naps(stage: Stage, plan: Plan) -> Figures:
    """Jobs that only wait, ten at a time: a hundred a second is the ceiling."""
    workers = 1 if stage.about["many_at_once"] else NAPS_AT_ONCE
    stage.start_workers(workers)
    stage.freeze()
    stage.fill("nap", plan.naps)
    took_s, done = _race(stage, plan.naps, plan.deadline_s, warmed=workers)
    return {"jobs_per_s": done / took_s, "not_done": plan.naps - done}


def footprint(stage: Stage, plan: Plan) -> Figures:
    """What ten workers need that have worked and are idle."""
    del plan
    stage.ask("enqueue", job="noop", n=1)  # the producer's connections are there now
    others = server.clients(stage.redis)
    stage.start_workers(10)
    used, began = stage.crowd.cpu_s(), monotonic()
    Event().wait(IDLE_S)
    share = (stage.crowd.cpu_s() - used) / (monotonic() - began)
    return {
        "pss_mb": stage.crowd.pss_bytes() / 1e6,
        "processes": len(stage.crowd.pids()),
        "connections": server.clients(stage.redis) - others,
        "idle_cpu_percent": share * 100,
    }


def _race(stage: Stage, jobs: int, deadline_s: float, *, warmed: int) -> tuple[float, int]:
    """Let the workers go; return the seconds they took and how many jobs they did."""
    already = stage.done(jobs + warmed)
    began = monotonic()
    stage.thaw()
    is_done = stage.wait_for(jobs + warmed, deadline_s, jobs + warmed)
    took_s = monotonic() - began
    done = jobs if is_done else stage.done(jobs + warmed) - already
    if done <= 0:
        raise Fell(f"none of {jobs} jobs was done in {took_s:.0f} s")
    return took_s, done


def _p99(ordered: list[float]) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


@dataclass(frozen=True)
class Measure:
    """A measurement, and the table it becomes: a figure's name -> its heading and format."""

    name: str
    title: str
    run: Callable[[Stage, Plan], Figures]
    columns: dict[str, tuple[str, str]]
    is_distant: bool = False  # its workers reach Redis through `bench.proxy`


_DRAIN = {
    "jobs_per_s": ("jobs/s", ",.0f"),
    "commands_per_job": ("commands a job", ".1f"),
    "round_trips_per_job": ("round trips a job", ".2f"),
}

MEASURES = {
    measure.name: measure
    for measure in (
        Measure("drain2", "Jobs that do nothing, 2 workers", lambda s, p: drain(s, p, 2), _DRAIN),
        Measure(
            "drain10", "Jobs that do nothing, 10 workers", lambda s, p: drain(s, p, 10), _DRAIN
        ),
        Measure(
            "drain-far",
            "Jobs that do nothing, 2 workers, Redis further away",
            lambda s, p: drain(s, p, 2),
            _DRAIN,
            is_distant=True,
        ),
        Measure(
            "enqueue",
            "Enqueueing, one producer",
            enqueue,
            {
                "one_by_one_per_s": ("one by one, jobs/s", ",.0f"),
                "bulk_per_s": ("in bulk, jobs/s", ",.0f"),
                "commands_per_job": ("commands a job", ".1f"),
                "round_trips_per_job": ("round trips a job", ".2f"),
            },
        ),
        Measure(
            "latency",
            "Latency, 2 idle workers",
            latency,
            {
                "begun_ms": ("to the first line, ms", ".2f"),
                "begun_p99_ms": ("p99", ".2f"),
                "result_ms": ("to the result, ms", ".2f"),
                "result_p99_ms": ("p99", ".2f"),
            },
        ),
        Measure(
            "naps",
            "Jobs that wait 100 ms, 10 at a time (ceiling 100/s)",
            naps,
            {"jobs_per_s": ("jobs/s", ".1f")},
        ),
        Measure(
            "footprint",
            "10 idle workers",
            footprint,
            {
                "pss_mb": ("PSS, MB", ".0f"),
                "processes": ("processes", ".0f"),
                "connections": ("connections to Redis", ".0f"),
                "idle_cpu_percent": ("CPU, % of a core", ".2f"),
            },
        ),
    )
}
