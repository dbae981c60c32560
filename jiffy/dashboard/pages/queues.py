"""Queues: what waits where, for how long, and who serves it; pause, resume, empty."""

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from jiffy import redis_io
from jiffy.control import pauses, read
from jiffy.control.read import QueueCount
from jiffy.dashboard import charts
from jiffy.dashboard.frame import census, flows
from jiffy.dashboard.pages import first_shown, jobs

page = Blueprint("queues", __name__)

MOST_SHOWN = 100
_ORDERS = {
    "name": lambda queue: queue.name,
    "waiting": lambda queue: (-queue.counts["queued"], queue.name),
    "oldest": lambda queue: (queue.waits_since is None, queue.waits_since, queue.name),
    "failed": lambda queue: (-queue.counts["failed"], queue.name),
}


@page.get("/queues")
def queues() -> str:
    found = census()
    order = request.args.get("sort", "name")
    if order not in _ORDERS:
        abort(404, f"Queues can be sorted by {', '.join(_ORDERS)}, not by {order!r}.")
    ordered = sorted(found.queues, key=_ORDERS[order])
    first = first_shown(len(ordered))
    return render_template(
        "queues.html", queues=ordered[first : first + MOST_SHOWN], first=first, most=MOST_SHOWN,
        pauses=_pauses(), flows=flows(), spark=charts.spark, total=len(ordered),
        left_out=found.queues_left_out, order=order, orders=_ORDERS,
    )  # fmt: skip


@page.get("/queues/<path:name>")
def queue(name: str) -> str:
    found, inside = _found(name), read.inside(redis_io.shared(), name)
    return render_template(
        "queue.html", queue=found, inside=inside, pause=_pauses().get(name),
        flow=flows().get(name), spark=charts.spark,
    )  # fmt: skip


@page.post("/queues/<path:name>/pause")
def pause(name: str) -> Response:
    return _pause(_found(name).name, queue=name)


@page.post("/queues/<path:name>/resume")
def resume(name: str) -> Response:
    return _resume(name, queue=name)


@page.post("/queues/<path:name>/empty")
def empty(name: str) -> Response | str:
    """Delete what waits, as the list of jobs does it; the form has the fields for that."""
    if request.form.get("typed", "").strip() != name:
        abort(422, f"Type the name of the queue, {name}, to empty it. Nothing was deleted.")
    return jobs.act_on_all()


@page.post("/functions/pause")
def pause_function() -> Response:
    path = request.form.get("function", "").strip()
    return _pause(path, function=path)


@page.post("/functions/resume")
def resume_function() -> Response:
    path = request.form.get("function", "")
    return _resume(path, function=path)


def _pause(name: str, **what: str) -> Response:
    until = request.form.get("until", "").strip()
    pauses.pause(**what, why=request.form.get("why", ""), who=session["user"], until=until or None)
    flash(f"Paused {name}. What runs already runs on.")
    return _back(what)


def _resume(name: str, **what: str) -> Response:
    was_paused = pauses.resume(**what)
    flash(f"Resumed {name}." if was_paused else f"{name} was not paused.")
    return _back(what)


def _back(what: dict[str, str]) -> Response:
    if "queue" in what:
        return redirect(url_for("queues.queue", name=what["queue"]), 303)
    return redirect(url_for("queues.queues"), 303)


def _pauses() -> dict[str, pauses.Pause]:
    """Those in force, by the name of the queue or the path of the function."""
    return {one.name: one for one in pauses.in_force(census().paused)}


def _found(name: str) -> QueueCount:
    queues = {queue.name: queue for queue in census().queues}
    if name not in queues:
        abort(404, f"There is no queue {name!r}. The first job of a queue creates it.")
    return queues[name]
