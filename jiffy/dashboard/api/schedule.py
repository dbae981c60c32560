"""The addresses under /api/schedule: what runs when, and what one may do to an entry."""

from flask import Response, url_for

from jiffy import connection, entries
from jiffy.dashboard.api import orders, told
from jiffy.dashboard.api.routes import blueprint
from jiffy.errors import InvalidValue

MOST_ENTRIES, MOST_TICKS = 1000, 100


@blueprint.get("/schedule")
def show_schedule() -> Response:
    redis = connection.shared()
    return told.answer(told.schedule(entries.glance(redis), entries.read(redis, MOST_ENTRIES)))


@blueprint.get("/schedule/<name>")
def show_entry(name: str) -> Response:
    redis = connection.shared()
    history = entries.history(redis, name, MOST_TICKS)
    return told.answer(told.entry(entries.find(redis, name)) | told.history(history))


@blueprint.post("/schedule/<name>/pause")
def pause(name: str) -> Response:
    with orders.read(orders.PAUSE) as given:
        if "why" not in given:
            raise InvalidValue("why", None, "given: a text, shown wherever the entry is")
        until = entries.moment(given["until"]) if "until" in given else None
        who = given.get("who", orders.WHO)
        entries.pause(connection.shared(), name, who=who, why=given["why"], until=until)
    return _as_it_is(name)


@blueprint.post("/schedule/<name>/resume")
def resume(name: str) -> Response:
    with orders.read(orders.NOTHING):
        entries.resume(connection.shared(), name)
    return _as_it_is(name)


@blueprint.post("/schedule/<name>/skip")
def skip(name: str) -> Response:
    with orders.read(orders.SKIP) as given:
        entries.skip_next(connection.shared(), name, given.get("count", 1))
    return _as_it_is(name)


@blueprint.post("/schedule/<name>/run")
def run(name: str) -> Response:
    redis = connection.shared()
    with orders.read(orders.RUN) as given:
        found = entries.find(redis, name)
        job_id = entries.run_now(redis, name, given.get("who", orders.WHO))
    address = url_for("api.show", job_id=job_id, _external=True)
    made = {"id": job_id, "queue": found.queue, "status_url": address}
    return told.answer(made, 202, Location=address)


def _as_it_is(name: str) -> Response:
    return told.answer(told.entry(entries.find(connection.shared(), name)))
