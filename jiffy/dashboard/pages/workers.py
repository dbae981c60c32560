"""Workers: where they are, what they run, and how to stop one."""

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from rq.command import send_command
from werkzeug.wrappers import Response

from jiffy import keys, redis_io
from jiffy.control import read
from jiffy.dashboard import actions
from jiffy.dashboard.frame import census
from jiffy.dashboard.pages import first_shown

page = Blueprint("workers", __name__)

MOST_SHOWN = 100


@page.get("/workers")
def workers() -> str:
    seen = census()
    first = first_shown(seen.workers)
    found = read.fleet(redis_io.shared(), MOST_SHOWN, first)
    return render_template("workers.html", fleet=found, seen=seen, first=first, most=MOST_SHOWN)


@page.post("/workers/<name>/stop")
def stop(name: str) -> Response:
    """Let a worker finish its job, and end."""
    return _command(name, "shutdown", f"Asked {name} to stop: it finishes its job first.")


@page.post("/workers/<name>/quiet")
def quiet(name: str) -> Response:
    """Let a worker finish its job, and start none until it is resumed; it stays in the list."""
    return _command(name, "quiet", f"Asked {name} to finish its job and to start no other.")


@page.post("/workers/<name>/resume")
def resume(name: str) -> Response:
    return _command(name, "resume", f"Asked {name} to start jobs again.")


@page.post("/workers/stop-job")
def stop_job() -> Response:
    """Stop the job that a worker runs; the worker goes on."""
    job_id = request.form.get("job", "")
    outcome = actions.act("stop", [job_id], session["user"])
    flash(outcome.refused or f"Asked the worker to stop job {job_id}.")
    return redirect(url_for("workers.workers"), 303)


def _command(name: str, command: str, words: str) -> Response:
    redis = redis_io.shared()
    if not redis.exists(keys.worker(name)):
        abort(404, f"There is no worker {name!r}: it has stopped already.")
    send_command(redis, name, command)
    flash(words)
    return redirect(url_for("workers.workers"), 303)
