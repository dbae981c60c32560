"""For monitors: `/healthz` and, for Prometheus, `/metrics`.

Both count at most once a second, with what the pages show.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from flask import Blueprint, Response
from redis.exceptions import RedisError

import jiffy
from jiffy import clock, keys, redis_io
from jiffy.control.values import Fields, answer, number
from jiffy.dashboard.frame import census

page = Blueprint("health", __name__)

_RUNS = ("enqueued", "skipped", "missed")


@page.get("/healthz")
def healthz() -> tuple[dict[str, Any], int]:
    version = {"version": jiffy.__version__}
    try:
        redis_io.check(redis_io.shared())
        found = {"workers": census().workers, "scheduler": census().scheduler}
        # 200 without a scheduler, too: a platform would restart the web process otherwise.
        return {"redis": "ok", **found, **version}, 200
    except RedisError as error:
        known = redis_io.explained(error)
        state = "away" if known and known.exit_code == 1 else "refused"
        # Without the URL: this needs no login.
        remedy = {"remedy": known.remedy} if known else {}
        return {"redis": state, "reason": redis_io.reason_of(error), **remedy, **version}, 503


@page.get("/metrics")
def metrics() -> Response:
    """It needs a token of the API, which `auth.py` checks."""
    # It takes 0.1 s to load, and most installations never use it.
    from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

    text = generate_latest(SimpleNamespace(collect=_families))
    return Response(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _families() -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    seen = census()
    jobs = GaugeMetricFamily("jiffy_jobs", "Jobs that Redis holds.", labels=["queue", "state"])
    about = "How long the job at the front of the queue has waited."
    oldest = GaugeMetricFamily("jiffy_oldest_job_seconds", about, labels=["queue"])
    for queue in seen.queues:
        oldest.add_metric([queue.name], queue.waited_s)
        for state, count in queue.counts.items():
            jobs.add_metric([queue.name, state], count)
    workers = GaugeMetricFamily("jiffy_workers", "Workers that are alive.", labels=["state"])
    # Both are there without any worker, too.
    for state, count in ({"busy": 0, "idle": 0} | dict(seen.states)).items():
        workers.add_metric([state], count)
    yield from (jobs, oldest, workers)
    is_up = seen.scheduler == "ok"
    yield GaugeMetricFamily("jiffy_scheduler_up", "Whether a scheduler is alive.", is_up)
    yield GaugeMetricFamily("jiffy_schedule_entries", "Entries with a run to come.", seen.entries)
    if seen.next_run is not None:
        due_s = (seen.next_run - clock.now()).total_seconds()
        about = "Seconds until the next run is due; negative if it is late."
        yield GaugeMetricFamily("jiffy_schedule_next_due_seconds", about, due_s)
    runs = CounterMetricFamily("jiffy_ticks", "Runs of the schedule.", labels=["outcome"])
    found = answer(redis_io.shared().hmget, keys.TICK_COUNTS, _RUNS) or ()
    read = Fields(dict(zip(_RUNS, found, strict=False)))
    for outcome in _RUNS:
        runs.add_metric([outcome], read(outcome, number, None) or 0)
    yield runs
