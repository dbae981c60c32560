"""One job: its path, why it is not running, its attempts, and what can be done with it."""

import json
import shlex

from flask import Blueprint, flash, redirect, render_template, session, url_for
from werkzeug.wrappers import Response

from jiffy import history, redis_io
from jiffy.control import pauses, read
from jiffy.control.read import Call
from jiffy.dashboard import actions, graph, why
from jiffy.dashboard.actions import ACTIONS
from jiffy.dashboard.frame import census, flows
from jiffy.tracebacks import own_frames

page = Blueprint("job", __name__)

_MOST_COPIED = 4000  # characters of a call


@page.get("/jobs/<job_id>")
def job(job_id: str) -> str:
    redis = redis_io.shared()
    found = read.known_job(redis_io.shared(), job_id)
    paused = pauses.in_force(census().paused) if found.state == "queued" else []
    flow = flows().get(found.queue) if found.state == "queued" else None
    has_run = found.called and found.ran_s is not None
    now_s = census().taken.timestamp()
    past = has_run and history.read(redis, "function", found.called, "7d", now_s).whole
    has_family = found.depends_on or found.others or found.is_waited_for
    return render_template(
        "job.html",
        job=found,
        workflow=graph.graph(read.family(redis, job_id)) if has_family else None,
        steps=why.path(found),
        reasons=why.reasons(why.Facts(found, census(), paused, flow)),
        compared=why.compared(found, past) if past else None,
        own=own_frames(found.error),
        allowed=[name for name, action in ACTIONS.items() if found.state in action.states],
        copies=_copies(found.call) if found.call else {},
    )


@page.post("/jobs/<job_id>/<any(retry, cancel, stop):action>")
def act(job_id: str, action: str) -> Response:
    """Act on the job, or say why not; `jobs.some` deletes, since it asks first."""
    outcome = actions.act(action, [job_id], session["user"])
    flash(outcome.refused or f"{ACTIONS[action].done} this job.")
    return redirect(url_for("job.job", job_id=job_id), 303)


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
