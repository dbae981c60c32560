"""One job: its path, why it is not running, its attempts, and what can be done with it."""

import json
import shlex
from typing import Any, TypeVar

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from jiffy import failures, pauses, read, redis_io
from jiffy.dashboard import actions, why
from jiffy.dashboard.actions import ACTIONS
from jiffy.dashboard.frame import census
from jiffy.errors import InvalidValue, NotShown, UnknownJob
from jiffy.producer.enqueue import enqueue
from jiffy.producer.masking import MASK
from jiffy.read import Call, JobView

page = Blueprint("job", __name__)

T = TypeVar("T")
_MOST_COPIED = 4000  # characters of a call


@page.get("/jobs/<job_id>")
def job(job_id: str) -> str:
    redis = redis_io.shared()
    found = _found(job_id)
    paused = pauses.read_pauses(redis) if found.state == "queued" else []
    return render_template(
        "job.html",
        job=found,
        steps=why.path(found),
        reasons=why.reasons(why.facts(found, census(redis), paused)),
        own=failures.own_frames(found.error),
        allowed=[name for name, action in ACTIONS.items() if found.state in action.states],
        copies=_copies(found.call) if found.call else {},
        as_json=_as_json,
    )


@page.post("/jobs/<job_id>/<any(retry, cancel, stop):action>")
def act(job_id: str, action: str) -> Response:
    """Do it, or say why it cannot be done; deleting is done, and asked first, as for many jobs."""
    outcome = actions.act(action, [job_id], session["user"])
    flash(outcome.refused or f"{ACTIONS[action].done} this job.")
    return redirect(url_for("job.job", job_id=job_id), 303)


@page.post("/jobs/<job_id>/again")
def again(job_id: str) -> Response:
    """Enqueue a new job of the same function, with these arguments."""
    found = _found(job_id)
    if not found.call:
        abort(409, f"The call of job {job_id!r} cannot be read, so it cannot be repeated.")
    args, kwargs = _sent("args", list), _sent("kwargs", dict)
    chosen = enqueue.options(queue=found.queue)
    made = chosen.by_path(found.call.function, *args, **kwargs)
    flash(f"Enqueued a new job on {made.origin}.")
    return redirect(url_for("job.job", job_id=made.id), 303)


def _found(job_id: str) -> JobView:
    found = read.job(redis_io.shared(), job_id)
    if found is None:
        raise UnknownJob(job_id)
    return found


def _as_json(value: Any) -> str:
    return read.clip(json.dumps(value, ensure_ascii=False), 20_000)


def _copies(call: Call) -> dict[str, str]:
    """The call, to be pasted elsewhere; secrets stay masked."""
    args = [*map(repr, call.args), *(f"{name}={one!r}" for name, one in call.kwargs.items())]
    path = ", ".join([repr(call.function), *args])
    body = json.dumps(
        {"function": call.function, "args": call.args, "kwargs": call.kwargs}, ensure_ascii=False
    )
    url = url_for("home.home", _external=True) + "api/jobs"
    curl = f'curl -X POST {url} -H "Authorization: Bearer $API_TOKEN" '
    curl += f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    made = {"Python": f"from jiffy import enqueue\n\nenqueue.by_path({path})", "curl": curl}
    return {name: text for name, text in made.items() if len(text) <= _MOST_COPIED}


def _sent(name: str, kind: type[T]) -> T:
    """A field of the form, which is JSON of this kind."""
    written = request.form.get(name, "")
    try:
        found = read.value(written.encode("utf-8", "replace"))
    except NotShown:
        found = None
    if not isinstance(found, kind) or MASK in written:
        must = "a JSON list" if kind is list else "a JSON object"
        raise InvalidValue(name, read.clip(written, 200), f"{must}, with the secrets filled in")
    return found
