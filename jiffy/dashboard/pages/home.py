"""The first page: what happened, where jobs wait, and what costs and fails most."""

from typing import Any

from flask import Blueprint, abort, render_template, request

from jiffy import history, redis_io
from jiffy.control import failures, search
from jiffy.control.search import Cursor
from jiffy.dashboard import charts
from jiffy.dashboard.frame import census, flows, releases

page = Blueprint("home", __name__)

# The others have pages of their own.
MOST_QUEUES, MOST_JOBS, MOST_FUNCTIONS, MOST_RELEASES, MOST_FAILURES = 8, 8, 6, 3, 4
MOST_LOOKED = 100  # of the newest jobs, for those that failed
SPANS = ("1h", "24h", "7d", "90d")
_TIMES = {
    "waited": lambda point: point.waited.p50_s,
    "waited-p95": lambda point: point.waited.p95_s,
    "ran": lambda point: point.ran.p50_s,
    "ran-p95": lambda point: point.ran.p95_s,
}


@page.get("/")
def home() -> str:
    span: Any = request.args.get("span", "1h")
    if span not in SPANS:
        abort(404, f"span is {span!r}; it must be {', '.join(SPANS)}.")
    redis = redis_io.shared()
    seen = census()
    past = history.glance(redis, span, seen.taken.timestamp())
    wanted = search.parse("")
    jobs, _ = search.window(redis, wanted.lists(seen), wanted, Cursor(), newest=MOST_LOOKED)
    waiting = sorted(seen.queues, key=lambda queue: (-queue.waited_s(seen.taken), queue.name))
    flowing = flows()
    deploys = charts.marks(releases(), past.series.whole)
    failing = [pair for pair in past.functions.items() if pair[1].failed]
    return render_template(
        "home.html",
        seen=seen,
        past=past.series.whole,
        flows=flowing,
        in_per_s=sum(flow.in_per_s for flow in flowing.values()),
        out_per_s=sum(flow.out_per_s for flow in flowing.values()),
        deploys=deploys[:MOST_RELEASES],
        columns=charts.columns(past.series.points),
        lines=charts.lines(past.series.points, _TIMES),
        span=span,
        spans=SPANS,
        costly=list(past.functions.items())[:MOST_FUNCTIONS],
        failing=sorted(failing, key=lambda pair: -pair[1].failed)[:MOST_FUNCTIONS],
        jobs=jobs[:MOST_JOBS],
        newest=failures.newest(seen, jobs, MOST_FAILURES),
        queues=waiting[:MOST_QUEUES],
    )
