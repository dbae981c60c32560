"""The list of jobs: a filter that lives in the URL, and what to do with some or all that match."""

from typing import NamedTuple

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from jiffy import clock, read, redis_io, search
from jiffy.dashboard.actions import ACTIONS, Outcome, act
from jiffy.dashboard.frame import census
from jiffy.search import Cursor, Filter

page = Blueprint("jobs", __name__)

MOST_COUNTED_S = 1.0  # then "more than"
CHUNK, CHUNK_S = 1000, 2.0  # what one request does at most
_MOST_NAMES = 100
_BULK = {name: action for name, action in ACTIONS.items() if name != "stop"}


@page.get("/jobs")
def jobs() -> str:
    redis, wanted = redis_io.shared(), search.parse(request.args.get("q", "").strip())
    cursor = Cursor.read(request.args.get("from", ""))
    counted = census(redis)
    found = search.search(redis, counted, wanted, cursor, is_far="far" in request.args)
    names = [queue.name for queue in counted.queues if " " not in queue.name][:_MOST_NAMES]
    functions = sorted({job.called for job in found.jobs if job.called})
    terms = [
        *(f"state:{state}" for state in (*read.STATES, "stopped")),
        *(f"queue:{name}" for name in names),
        *(f"fn:{name}" for name in functions),
        *(f"{field}:" for field in search.FIELDS if field not in ("state", "queue", "fn")),
        "args.",
    ]
    return render_template(
        "jobs.html", wanted=wanted, found=found, cursor=cursor, terms=terms,
        counts=counted.counts, actions=_allowed(wanted),
    )  # fmt: skip


def _allowed(wanted: Filter) -> list[str]:
    """What can be done with some of the jobs that the filter means."""
    states = set(wanted.states or read.STATES)
    return [name for name, action in _BULK.items() if states & set(action.states)]


class Matching(NamedTuple):
    """How many jobs match; `is_more` where counting all would take too long."""

    total: int
    is_more: bool
    functions: list[tuple[str, int]]


@page.post("/jobs/act")
def some() -> Response | str:
    """Do something with the jobs that were selected, or ask first."""
    name, ids = _action(), request.form.getlist("id")[:CHUNK]
    back = url_for("jobs.jobs", q=request.form.get("q", ""))
    if request.form.get("all"):
        return redirect(url_for("jobs.all_matching", q=request.form.get("q", ""), action=name), 303)
    if not ids:
        flash(f"Select the jobs to {name} first.")
    elif name == "delete" and not request.form.get("sure"):
        return render_template("sure.html", action=name, ids=ids, back=back, matching=None)
    else:
        flash(in_words(name, act(name, ids)))
    return redirect(back, 303)


@page.get("/jobs/all")
def all_matching() -> str:
    """Show how many jobs match before anything is done with them."""
    name, wanted = _action(), search.parse(request.args.get("q", "").strip())
    return render_template(
        "sure.html", action=name, wanted=wanted, matching=count(wanted.within(_BULK[name].states)),
        back=url_for("jobs.jobs", q=wanted.text),
    )  # fmt: skip


@page.post("/jobs/all")
def act_on_all() -> Response | str:
    """Do it with the next CHUNK of the jobs that match; the page goes on until none is left."""
    name, wanted = _action(), search.parse(request.form.get("q", "").strip())
    if wanted.problems:
        abort(422, f"{wanted.problems[0]}. Nothing was done.")
    done, others = (int(request.form.get(field) or 0) for field in ("done", "others"))
    cursor = Cursor.read(request.form.get("from", ""))
    outcome, at = _act_on_some(name, wanted.within(_BULK[name].states), cursor)
    done, others = done + outcome.done, others + outcome.others
    if at is None:
        flash(in_words(name, Outcome(done, others, outcome.refused)))
        return redirect(url_for("jobs.jobs", q=wanted.text), 303)
    return render_template(
        "going.html", action=name, wanted=wanted, done=done, others=others, at=at,
        word=_BULK[name].done, back=url_for("jobs.jobs", q=wanted.text),
    )  # fmt: skip


def _act_on_some(name: str, wanted: Filter, cursor: Cursor) -> tuple[Outcome, Cursor | None]:
    redis = redis_io.shared()
    until, done, others, refused = clock.monotonic() + CHUNK_S, 0, 0, ""
    at: Cursor | None = cursor
    while at is not None and done < CHUNK and clock.monotonic() < until:
        # Counted anew: what was acted upon has left its list.
        lists = wanted.lists(read.census(redis))
        matches, following = search.window(redis, lists, wanted, at)
        outcome = act(name, [job.id for job in matches])
        done, others, refused = (
            done + outcome.done,
            others + outcome.others,
            outcome.refused or refused,
        )
        if following and outcome.done:  # the rest of each list has moved up, by no more than that
            following = Cursor(max(at.depth, following.depth - outcome.done))
        at = following
    return Outcome(done, others, refused), at


def count(wanted: Filter) -> Matching:
    """Count matching jobs, for MOST_COUNTED_S at most."""
    redis = redis_io.shared()
    lists, until = wanted.lists(read.census(redis)), clock.monotonic() + MOST_COUNTED_S
    if wanted.is_plain:
        return Matching(sum(one.size for one in lists), False, [])
    functions: dict[str, int] = {}
    at: Cursor | None = Cursor()
    while at is not None and clock.monotonic() < until:
        matches, at = search.window(redis, lists, wanted, at)
        for job in matches:
            functions[job.called] = functions.get(job.called, 0) + 1
    often = sorted(functions.items(), key=lambda item: -item[1])[:5]
    return Matching(sum(functions.values()), at is not None, often)


def in_words(name: str, outcome: Outcome) -> str:
    """Retried 3 jobs; 1 was left as it is: …"""
    jobs = "1 job" if outcome.done == 1 else f"{outcome.done:,} jobs"
    left = f" {outcome.others:,} left as they are: {outcome.refused}" if outcome.others else ""
    return f"{ACTIONS[name].done} {jobs}.{left}"


def _action() -> str:
    name = request.values.get("action", "")
    if name not in _BULK:
        abort(422, f"action is {name!r}; it must be {', '.join(_BULK)}.")
    return name
