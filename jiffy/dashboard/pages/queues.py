"""Queues: what waits where, for how long, and who serves it."""

from flask import Blueprint, abort, render_template, request

from jiffy import read, redis_io
from jiffy.dashboard.frame import census
from jiffy.read import QueueCount

page = Blueprint("queues", __name__)

MOST_SHOWN = 500
_ORDERS = {
    "name": lambda queue: queue.name,
    "waiting": lambda queue: (-queue.counts["queued"], queue.name),
    "oldest": lambda queue: (queue.waits_since is None, queue.waits_since, queue.name),
    "failed": lambda queue: (-queue.counts["failed"], queue.name),
}


@page.get("/queues")
def queues() -> str:
    found = census(redis_io.shared())
    order = request.args.get("sort", "name")
    if order not in _ORDERS:
        abort(404, f"Queues can be sorted by {', '.join(_ORDERS)}, not by {order!r}.")
    ordered = sorted(found.queues, key=_ORDERS[order])
    return render_template(
        "queues.html",
        queues=ordered[:MOST_SHOWN],
        left_out=len(ordered) - MOST_SHOWN + found.queues_left_out,
        order=order,
        orders=_ORDERS,
    )


@page.get("/queues/<path:name>")
def queue(name: str) -> str:
    redis = redis_io.shared()
    return render_template("queue.html", queue=_found(name), inside=read.inside(redis, name))


def _found(name: str) -> QueueCount:
    queues = {queue.name: queue for queue in census(redis_io.shared()).queues}
    if name not in queues:
        abort(404, f"There is no queue {name!r}. The first job of a queue creates it.")
    return queues[name]
