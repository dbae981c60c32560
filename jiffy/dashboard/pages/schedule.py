"""The schedule: the runs of each entry, and what can be done with it."""

import re
from typing import Any

from flask import Blueprint, abort, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from jiffy import redis_io
from jiffy.control import entries
from jiffy.dashboard import audit, charts, words
from jiffy.dashboard.frame import census

page = Blueprint("schedule", __name__)

MOST_ENTRIES, MOST_RUNS, MOST_BARS = 200, 100, 60


@page.get("/schedule")
def schedule() -> str:
    found = entries.read(redis_io.shared(), MOST_ENTRIES)
    return render_template("schedule.html", total=census().entries, entries=found)


@page.get("/schedule/<name>")
def entry(name: str) -> str:
    redis = redis_io.shared()
    found = entries.find(redis, name)
    runs = entries.history(redis, name, MOST_RUNS)
    return render_template(
        "entry.html", entry=found, runs=runs, bars=charts.runs(runs[:MOST_BARS]),
        following=words.following(found),
    )  # fmt: skip


@page.post("/schedule/<name>/pause")
def pause(name: str) -> Response:
    if one := entries.find(redis_io.shared(), name).paused:  # since the page was shown
        abort(409, f"{name} is paused already, by {one.who}: {one.why}. Nothing was changed.")
    why, until = request.form.get("why", ""), request.form.get("until", "").strip() or None
    entries.pause(redis_io.shared(), name, who=session["user"], why=why, until=until)
    return _back(name)


@page.post("/schedule/<name>/resume")
def resume(name: str) -> Response:
    one = entries.find(redis_io.shared(), name).paused
    if one and request.form.get("since", f"{one.since}") != f"{one.since}":
        abort(409, f"By now {name} is paused by {one.who}: {one.why}. Nothing was changed.")
    audit.changed(entries.resume(redis_io.shared(), name))
    return _back(name)


@page.post("/schedule/<name>/run")
def run(name: str) -> Response:
    audit.note(job=entries.run_now(redis_io.shared(), name, session["user"]))
    return _back(name)


@page.post("/schedule/<name>/skip")
def skip(name: str) -> Response:
    """Skip the next `count` runs; 0 takes that back."""
    count: Any = request.form.get("count", "1")
    if re.fullmatch("[0-9]{1,4}", count):  # anything else is refused as it is
        count = int(count)
    # Since the page was shown, the run that it named may have begun, or others were skipped.
    found = entries.find(redis_io.shared(), name)
    shown = request.form.get("shown", now := f"{found.skip or found.next_at}")
    # Of the skips that it named, some may be over.
    left = map(str, range(found.skip, entries.MOST_SKIPPED + 1)) if count == 0 else ()
    if shown != now and shown not in left:
        abort(409, "The next run, or what is skipped, is another by now. Nothing was changed.")
    entries.skip_next(redis_io.shared(), name, count)
    return _back(name)


def _back(name: str) -> Response:
    return redirect(url_for("schedule.entry", name=name), 303)
