"""What runs when, what became of it, and what one may do to an entry."""

import re
from typing import Any

from flask import Blueprint, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from jiffy import connection, entries
from jiffy.dashboard import bars

page = Blueprint("schedule", __name__)

MOST_ENTRIES, MOST_TICKS = 200, 100


@page.get("/schedule")
def schedule() -> str:
    redis = connection.shared()
    seen = entries.glance(redis)
    return render_template(
        "schedule.html", schedule=seen, entries=entries.read(redis, MOST_ENTRIES)
    )


@page.get("/schedule/<name>")
def entry(name: str) -> str:
    redis = connection.shared()
    found = entries.find(redis, name)
    ticks = entries.history(redis, name, MOST_TICKS)
    seen = entries.glance(redis)
    return render_template(
        "entry.html", schedule=seen, entry=found, ticks=ticks, bars=bars.of(ticks)
    )


@page.post("/schedule/<name>/pause")
def pause(name: str) -> Response:
    until = request.form.get("until", "").strip()
    entries.pause(
        connection.shared(),
        name,
        who=session["user"],
        why=request.form.get("why", ""),
        until=entries.moment(until) if until else None,
    )
    return _back(name)


@page.post("/schedule/<name>/resume")
def resume(name: str) -> Response:
    entries.resume(connection.shared(), name)
    return _back(name)


@page.post("/schedule/<name>/run")
def run(name: str) -> Response:
    entries.run_now(connection.shared(), name, session["user"])
    return _back(name)


@page.post("/schedule/<name>/skip")
def skip(name: str) -> Response:
    """`count` ticks; 0 takes it back."""
    count: Any = request.form.get("count", "1")
    if re.fullmatch("[0-9]{1,4}", count):  # whatever else it is is refused, as it is
        count = int(count)
    entries.skip_next(connection.shared(), name, count)
    return _back(name)


def _back(name: str) -> Response:
    return redirect(url_for("schedule.entry", name=name), 303)
