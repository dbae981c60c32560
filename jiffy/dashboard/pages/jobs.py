"""The list of jobs: a filter that lives in the URL, and what to do with some or all that match."""

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from jiffy import redis_io
from jiffy.control import bulk, search
from jiffy.control.search import Cursor, Filter
from jiffy.dashboard import actions
from jiffy.dashboard.actions import ACTIONS, BULK, Outcome
from jiffy.dashboard.frame import census

page = Blueprint("jobs", __name__)

_MOST_SELECTED, _MOST_NAMES = 1000, 100


@page.get("/jobs")
def jobs() -> str:
    redis, wanted = redis_io.shared(), search.parse(request.args.get("q", "").strip())
    cursor = Cursor.read(request.args.get("from", ""))
    counted = census()
    found = search.search(redis, counted, wanted, cursor, is_far="far" in request.args)
    names = [queue.name for queue in counted.queues if " " not in queue.name][:_MOST_NAMES]
    functions = sorted({job.called for job in found.jobs if job.called})
    releases = sorted({*counted.releases, *(job.release for job in found.jobs if job.release)})
    terms = [
        *(f"state:{state}" for state in search.STATES),
        *(f"queue:{name}" for name in names),
        *(f"fn:{name}" for name in functions),
        *(f"release:{name}" for name in releases if " " not in name),
        *(f"{field}:" for field in search.FIELDS if field not in ("state", "queue", "fn")),
        "args.",
    ]
    counts = counted.counts
    for state, _, size in counted.apart:
        counts[state] = counts.get(state, 0) + size
    return render_template(
        "jobs.html", wanted=wanted, found=found, cursor=cursor, terms=terms,
        counts=counts, actions=_allowed(wanted),
    )  # fmt: skip


def _allowed(wanted: Filter) -> list[str]:
    """What can be done with some of the jobs that the filter means."""
    states = set(wanted.states or search.STATES)
    return [name for name in BULK if states & set(ACTIONS[name].states)]


@page.post("/jobs/act")
def some() -> Response | str:
    """Do something with the jobs that were selected, or ask first."""
    name, ids = _action(), request.form.getlist("id")[:_MOST_SELECTED]
    back = url_for("jobs.jobs", q=request.form.get("q", ""))
    if not ids:
        flash(f"Select the jobs to {name} first.")
    elif name == "delete" and not request.form.get("sure"):
        return render_template("sure.html", action=name, ids=ids, back=back, matching=None)
    else:
        flash(actions.act(name, ids, session["user"]).words(name))
    return redirect(back, 303)


@page.get("/jobs/all")
def all_matching() -> str:
    """Show how many jobs match before anything is done with them."""
    name, wanted = _action(), search.parse(request.args.get("q", "").strip())
    return render_template(
        "sure.html", action=name, wanted=wanted, few=bulk.FEW, most_again=bulk.MOST_AGAIN,
        matching=bulk.count(redis_io.shared(), name, wanted),
        queue=bulk.queue_of_workers(redis_io.shared()),
        back=url_for("jobs.jobs", q=wanted.text),
    )  # fmt: skip


@page.post("/jobs/all")
def act_on_all() -> Response:
    """Act on all that match: on a few at once, on many by a job."""
    name, wanted = _action(), search.parse(request.form.get("q", "").strip())
    if wanted.problems:
        abort(422, f"{wanted.problems[0]}. Nothing was done.")
    rate = bulk.read_rate(name, request.form.get("rate", "").strip())
    came = actions.act_on_all(name, wanted, session["user"], rate)
    if not isinstance(came, Outcome):
        flash(f"This job will {name} them. You can close the browser.")
        return redirect(url_for("job.job", job_id=came.id), 303)
    flash(came.words(name))
    if came.done + came.others >= bulk.FEW:
        return redirect(url_for("jobs.all_matching", q=wanted.text, action=name), 303)
    return redirect(url_for("jobs.jobs", q=wanted.text), 303)


def _action() -> str:
    # The audit has what the form says, so a query must not say otherwise.
    sent = request.form if request.method == "POST" else request.args
    name = sent.get("action", "")
    if name not in BULK:
        abort(422, f"action is {name!r}; it must be {', '.join(BULK)}.")
    return name
