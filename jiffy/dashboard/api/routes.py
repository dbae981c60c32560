"""The addresses of the API."""

import re
import socket
import threading

from flask import Blueprint, Response, abort, request, url_for

from jiffy import clock, connection, read
from jiffy.dashboard.api import body, calls, document, tokens, told
from jiffy.errors import InvalidValue, UnknownJob
from jiffy.producer import actions, results
from jiffy.producer.job import Job, stand_in
from jiffy.read import JobView

blueprint = Blueprint("api", __name__, url_prefix="/api")
blueprint.before_app_request(tokens.require)

# Who waits holds a thread: of the server's eight, half are left to the others.
MOST_WAITING = 4
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.2
_places = threading.BoundedSemaphore(MOST_WAITING)


@blueprint.post("/jobs")
def create() -> Response:
    asked = body.read()
    if isinstance(asked, list):
        return _create_many(asked)
    job = calls.put_one(calls.read(asked))
    address = _address(job.id)
    made = {"id": job.id, "queue": job.origin, "status_url": address}
    return told.answer(made, 202, Location=address)


def _create_many(asked: list[object]) -> Response:
    if len(asked) > calls.MOST_JOBS:
        abort(422, f"{len(asked):,} jobs; send at most {calls.MOST_JOBS:,} at a time.")
    wanted = [calls.read(one, place) for place, one in enumerate(asked)]
    made = calls.put_many(wanted)
    jobs = _address("-").removesuffix("-")
    return told.answer([one | {"status_url": f"{jobs}{one['id']}"} for one in made], 202)


@blueprint.get("/jobs/<job_id>")
def show(job_id: str) -> Response:
    return told.answer(told.job(_found(job_id)))


@blueprint.get("/jobs/<job_id>/wait")
def wait(job_id: str) -> Response:
    limit_s = _limit_s()
    job = _found(job_id)
    if job.state not in _COMES_TO_AN_END:
        return told.answer(told.job(job))
    if not _places.acquire(blocking=False):
        return told.answer(told.job(job), Retry_After="2")
    try:
        _wait_for(job_id, limit_s)
    finally:
        _places.release()
    return show(job_id)


def _wait_for(job_id: str, limit_s: float) -> None:
    """Until it is over, or the time is, or the client has disconnected.

    It looks again and again: to wait in Redis would hold one of the process's few connections.
    """
    watch = results.Watch([stand_in(job_id, connection.shared(), Job.refresh)])
    give_up_at, pause_s = clock.monotonic() + limit_s, _FIRST_PAUSE_S
    while not watch.look(block_ms=0):
        left_s = give_up_at - clock.monotonic()
        if left_s <= 0 or _has_hung_up():
            return
        clock.pause(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def _has_hung_up() -> bool:
    """Whether nobody is there any more to read the answer; False where the server hides that."""
    line = request.environ.get("gunicorn.socket") or request.environ.get("werkzeug.socket")
    try:
        return line is not None and not line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False  # there, and silent
    except OSError:
        return True


_COMES_TO_AN_END = {
    "queued", "scheduled", "deferred", "ready_to_enqueue", "rate_limited", "started",
}  # fmt: skip


def _limit_s() -> float:
    given = request.args.get("timeout", str(document.WAITS_S))
    if not re.fullmatch(document.WAIT, given):
        must = f"seconds, such as 30 or 30s; {document.MOST_WAIT_S} at most"
        raise InvalidValue("timeout", given, must)
    return float(given.rstrip("s"))


@blueprint.delete("/jobs/<job_id>")
def cancel(job_id: str) -> Response:
    actions.cancel(job_id)
    return show(job_id)


@blueprint.post("/jobs/<job_id>/retry")
def retry(job_id: str) -> Response:
    actions.retry(job_id)
    return told.answer(told.job(_found(job_id)), 202)


@blueprint.post("/jobs/<job_id>/stop")
def stop(job_id: str) -> Response:
    actions.stop(job_id)
    return told.answer(told.job(_found(job_id)), 202)


@blueprint.get("/queues")
def queues() -> Response:
    return told.answer(told.queues(read.overview(connection.shared())))


@blueprint.get("/openapi.json")
def openapi() -> Response:
    return told.answer(document.whole(request.root_url))


def _found(job_id: str) -> JobView:
    found = read.job(connection.shared(), job_id)
    if found is None:
        raise UnknownJob(job_id)
    return found


def _address(job_id: str) -> str:
    return url_for("api.show", job_id=job_id, _external=True)
