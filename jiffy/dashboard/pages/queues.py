"""Queues: what waits where, for how long; pause, resume, empty.  Workers: where they are, what they
run; stop or quiet one.
"""

import json
import re

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from rq.command import PUBSUB_CHANNEL_TEMPLATE
from werkzeug.wrappers import Response

from jiffy import keys, redis_io
from jiffy.control import pauses, read, search
from jiffy.control.read import QueueCount
from jiffy.control.values import clip
from jiffy.dashboard import audit
from jiffy.dashboard.frame import census, flows
from jiffy.dashboard.pages import jobs

page = Blueprint("queues", __name__)
workers_page = Blueprint("workers", __name__)

MOST_SHOWN = 100
_ORDERS = {
    "name": lambda queue: queue.name,
    "waiting": lambda queue: (-queue.counts["queued"], queue.name),
    "oldest": lambda queue: (queue.waits_since is None, queue.waits_since, queue.name),
    "failed": lambda queue: (-queue.counts["failed"], queue.name),
}
# RQ's name of each command, or ours, and what it asks a worker to do.
_COMMANDS = {
    "workers.stop": ("shutdown", "stop: it finishes its job first"),
    "workers.quiet": ("quiet", "finish its job and to start no other"),
    "workers.resume": ("resume", "start jobs again"),
}


@page.get("/queues", endpoint="queues")
def list_queues() -> str:
    found = census()
    order = request.args.get("sort", "name")
    if order not in _ORDERS:
        abort(404, f"Queues can be sorted by {', '.join(_ORDERS)}, not by {order!r}.")
    ordered = sorted(found.queues, key=_ORDERS[order])
    first = _first_shown(len(ordered))
    return render_template(
        "queues.html", queues=ordered[first : first + MOST_SHOWN], first=first, most=MOST_SHOWN,
        pauses=_pauses("queue"), functions=_pauses("function"), flows=flows(), total=len(ordered),
        left_out=found.queues_left_out, order=order, orders=_ORDERS, apart=found.apart,
    )  # fmt: skip


@page.get("/queues/<path:name>")
def queue(name: str) -> str:
    asked = census().taken.isoformat()  # what came since is not counted
    found, inside = _found(name), read.inside(redis_io.shared(), name)
    return render_template(
        "queue.html", queue=found, inside=inside,
        pause=_pauses("queue").get(name), flow=flows().get(name), asked=asked,
        # Those of this queue wait on it, too.
        has_parked=any(state == "queued" for state, *_ in census().apart),
    )  # fmt: skip


def _first_shown(total: int) -> int:
    """From where on a page of a list shows its rows: `?from=`, where that is one."""
    first = request.args.get("from", "0")
    return min(int(first), max(0, total - 1)) if re.fullmatch("[0-9]{1,9}", first) else 0


def _pauses(kind: str) -> dict[str, pauses.PausedWork]:
    """Those in force, by the name of the queue or the path of the function."""
    seen = census()
    found = pauses.in_force(seen.paused, seen.taken)
    return {one.name: one for one in found if one.kind == kind}


def _found(name: str) -> QueueCount:
    queues = {queue.name: queue for queue in census().queues}
    if name not in queues:
        abort(404, f"There is no queue {name!r}. The first job of a queue creates it.")
    return queues[name]


@page.post("/queues/<path:name>/empty")
def empty(name: str) -> Response | str:
    """Delete what waits, as the list of jobs does it."""
    if request.form.get("typed", "").strip() != name.strip():
        abort(422, f"Type the name of the queue, {name}, to empty it. Nothing was deleted.")
    return jobs.act_on_matching("delete", f"queue:{search.exactly(name)} state:queued")


@page.post("/queues/<path:name>/pause")
def pause(name: str) -> Response:
    return _pause(queue=_found(name).name)


@page.post("/queues/<path:name>/resume")
def resume(name: str) -> Response:
    return _resume(queue=name)


@page.post("/functions/pause")
def pause_function() -> Response:
    return _pause(function=request.form.get("function", "").strip())


@page.post("/functions/resume")
def resume_function() -> Response:
    return _resume(function=request.form.get("function", ""))


def _pause(**what: str) -> Response:
    if one := _in_force(what):  # since the page was shown: this one would take its place
        abort(409, f"{one.name} is paused already, by {one.who}: {one.why}. Nothing was changed.")
    until = request.form.get("until", "").strip()
    pauses.pause(**what, why=request.form.get("why", ""), who=session["user"], until=until or None)
    return _back(what, "Paused {}. What runs already runs on." + pauses.doubt(**what))


def _resume(**what: str) -> Response:
    one = _in_force(what)
    if one and request.form.get("since", f"{one.since}") != f"{one.since}":
        abort(409, f"By now {one.name} is paused by {one.who}: {one.why}. Nothing was changed.")
    was_paused = audit.changed(pauses.resume(**what))
    return _back(what, "Resumed {}." if was_paused else "{} was not paused.")


def _in_force(what: dict[str, str]) -> pauses.PausedWork | None:
    """The pause of this queue or function, not as it was a second ago."""
    [one] = what.items()
    found = pauses.read_pauses(redis_io.shared())
    return next((pause for pause in found if (pause.kind, pause.name) == one), None)


def _back(what: dict[str, str], words: str) -> Response:
    [(kind, name)] = what.items()
    flash(words.replace("{}", clip(name, 60)))
    url = url_for("queues.queue", name=name) if kind == "queue" else url_for("queues.queues")
    return redirect(url, 303)


@workers_page.get("/workers", endpoint="workers")
def list_workers() -> str:
    seen = census()
    first = _first_shown(seen.workers)
    found = read.fleet(redis_io.shared(), MOST_SHOWN, first)
    return render_template("workers.html", fleet=found, seen=seen, first=first, most=MOST_SHOWN)


@workers_page.post("/workers/<path:name>/stop", endpoint="stop")
@workers_page.post("/workers/<path:name>/quiet", endpoint="quiet")
@workers_page.post("/workers/<path:name>/resume", endpoint="resume")
def command(name: str) -> Response:
    """Let a worker finish its job and end, or start none until it is resumed."""
    redis, (sent, words) = redis_io.shared(), _COMMANDS[str(request.endpoint)]
    if not redis.exists(keys.worker(name)):
        abort(404, f"There is no worker {name!r}: it has stopped already.")
    if not redis.publish(PUBSUB_CHANNEL_TEMPLATE % name, json.dumps({"command": sent})):
        abort(409, f"Worker {name!r} does not respond. If it is dead, it is gone within minutes.")
    flash(f"Asked {clip(name, 60)} to {words}.")
    return redirect(url_for("workers.workers"), 303)


@workers_page.post("/workers/stop-job")
def stop_job() -> Response:
    """Stop the job that a worker runs; the worker goes on."""
    job_id = request.form.get("job", "")
    flash(jobs.act_on("stop", [job_id]).refused or f"Asked the worker to stop job {job_id}.")
    return redirect(url_for("workers.workers"), 303)
