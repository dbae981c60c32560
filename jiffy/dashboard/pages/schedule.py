"""The schedule: the runs of each entry, and what can be done with it."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from flask import Blueprint, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from jiffy import redis_io
from jiffy.control import entries
from jiffy.control.entries import Run
from jiffy.dashboard import times
from jiffy.dashboard.pages import duration

page = Blueprint("schedule", __name__)

MOST_ENTRIES, MOST_RUNS = 200, 100
MOST_BARS, HEIGHT, STEP = 60, 56, 12
_LEAST = 4  # the height of the bar of a job that took no time


@page.get("/schedule")
def schedule() -> str:
    redis = redis_io.shared()
    found, seen = entries.read(redis, MOST_ENTRIES), entries.glance(redis)
    return render_template("schedule.html", schedule=seen, entries=found)


@page.get("/schedule/<name>")
def entry(name: str) -> str:
    redis = redis_io.shared()
    found, seen = entries.find(redis, name), entries.glance(redis)
    runs = entries.history(redis, name, MOST_RUNS)
    return render_template(
        "entry.html", schedule=seen, entry=found, runs=runs, bars=_bars(runs[:MOST_BARS]),
        following=times.following(found),
    )  # fmt: skip


@page.post("/schedule/<name>/pause")
def pause(name: str) -> Response:
    until = request.form.get("until", "").strip()
    entries.pause(
        redis_io.shared(),
        name,
        who=session["user"],
        why=request.form.get("why", ""),
        until=entries.moment(until) if until else None,
    )
    return _back(name)


@page.post("/schedule/<name>/resume")
def resume(name: str) -> Response:
    entries.resume(redis_io.shared(), name)
    return _back(name)


@page.post("/schedule/<name>/run")
def run(name: str) -> Response:
    entries.run_now(redis_io.shared(), name, session["user"])
    return _back(name)


@page.post("/schedule/<name>/skip")
def skip(name: str) -> Response:
    """Skip the next `count` runs; 0 takes that back."""
    count: Any = request.form.get("count", "1")
    if re.fullmatch("[0-9]{1,4}", count):  # anything else is refused as it is
        count = int(count)
    entries.skip_next(redis_io.shared(), name, count)
    return _back(name)


def _back(name: str) -> Response:
    return redirect(url_for("schedule.entry", name=name), 303)


class _Bar(NamedTuple):
    """A run in the picture; `outcome` colours it, `title` says it in words."""

    x: int
    y: float
    height: float
    outcome: str
    title: str


def _bars(runs: Sequence[Run]) -> list[_Bar]:
    """A bar for each run, given newest first, as high as its job took long; oldest on the left."""
    longest_s = max((run.duration_s or 0 for run in runs), default=0) or 1
    bars = []
    for place, run in enumerate(reversed(runs)):
        height = round(_LEAST + (run.duration_s or 0) / longest_s * (HEIGHT - _LEAST), 1)
        took = f", took {duration(run.duration_s)}" if run.duration_s is not None else ""
        title = f"{run.slot:%Y-%m-%d %H:%M:%S} UTC: {run.outcome}{took}"
        bars.append(_Bar(place * STEP, round(HEIGHT - height, 1), height, run.outcome, title))
    return bars
