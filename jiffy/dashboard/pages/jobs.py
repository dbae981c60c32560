"""The list of jobs, whose filter lives in the URL, and the page of one; what can be done with one,
with some, or with all that match.  Failed jobs in groups: retry one, then the rest.
"""

import json
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from keyword import iskeyword
from typing import Any

import rq
from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from redis.exceptions import RedisError
from werkzeug.wrappers import Response

from jiffy import clock, history, redis_io
from jiffy.control import bulk, failures, read, search, why
from jiffy.control.bulk import ACTIONS, BULK, Tally
from jiffy.control.failures import Failures
from jiffy.control.read import Call, JobView
from jiffy.control.search import Cursor
from jiffy.dashboard import audit, auth, charts
from jiffy.dashboard.frame import census, flows, is_live, newest_release
from jiffy.errors import JiffyError
from jiffy.producer import options
from jiffy.producer.enqueue import usual_of
from jiffy.producer.masking import MASK
from jiffy.tracebacks import own_frames

page = Blueprint("jobs", __name__)
failures_page = Blueprint("failures", __name__)

_MOST_SELECTED, _MOST_NAMES = 1000, 100
_MOST_COPIED = 4000  # characters of a call
FILL_IN = "FILL_IN"
# Without a way back, which would cost a hundred bytes for each character.
_VALUE = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|\*{3}""")
_FORM_LASTS = timedelta(days=1)


@page.get("/jobs")
def jobs() -> str | Response:
    """A search; for a whole id, the job itself."""
    redis, wanted = redis_io.shared(), search.parse(request.args.get("q", "").strip())
    cursor = Cursor.read(request.args.get("from", ""))
    counted = census()
    found = search.search(redis, counted, wanted, cursor, is_far="far" in request.args)
    if not is_live() and [job.id for job in found.jobs] == [wanted.text]:
        return redirect(url_for("jobs.job", job_id=wanted.text))
    names = [queue.name for queue in counted.queues if " " not in queue.name][:_MOST_NAMES]
    functions = sorted({job.called for job in found.jobs if job.called})
    releases = sorted({*counted.releases, *(job.release for job in found.jobs if job.release)})
    terms = [
        *(f"state:{state}" for state in search.STATES),
        *(f"queue:{search.exactly(name)}" for name in names),
        *(f"fn:{name}" for name in functions),
        *(f"release:{search.exactly(name)}" for name in releases if " " not in name),
        *(f"{field}:" for field in search.FIELDS if field not in ("state", "queue", "fn")),
        "args.",
    ]
    states = set(wanted.states or search.STATES)
    return render_template(
        "jobs.html", wanted=wanted, found=found, cursor=cursor, terms=terms,
        rest=wanted.rest, counts=wanted.rest.counts(counted),
        actions=[name for name in BULK if states & set(ACTIONS[name].states)],
    )  # fmt: skip


@page.get("/jobs/<job_id>")
def job(job_id: str) -> str:
    """One job: its path, why it is not running, its attempts, and what can be done with it."""
    redis, seen = redis_io.shared(), census()
    found = read.known_job(redis, job_id)
    flow = flows().get(found.queue) if found.state == "queued" else None
    past = None
    if found.called and found.ran_s is not None:
        now_s = seen.taken.timestamp()
        past = history.read(redis, "function", found.called, "7d", now_s).whole
    has_family = found.depends_on or found.others or found.is_waited_for
    return render_template(
        "job.html",
        job=found,
        workflow=charts.graph(read.family(redis, job_id)) if has_family else None,
        steps=why.path(found),
        reasons=why.reasons(found, seen, flow),
        compared=why.compared(found, past) if past else None,
        own=own_frames(found.error),
        allowed=[name for name, action in ACTIONS.items() if found.state in action.states],
        fill_in=FILL_IN,
        copies=_copies(found.call, unusual_options(found)) if found.call else {},
    )


def unusual_options(job: JobView) -> dict[str, Any]:
    """Those of a job's options that another call of its function would not have by itself."""

    def is_usual(name: str, value: Any) -> bool:
        with suppress(JiffyError):  # what was stored may be no valid value
            wanted, had = (options.read({name: one})[name] for one in (value, usual[name]))
            fields = options.TABLE[name].fields
            return bool(wanted == had or (fields(wanted) and fields(wanted) == fields(had)))
        return False

    usual = {"queue": "default", "timeout": rq.Queue.DEFAULT_TIMEOUT, "rescue": True,
             "isolate": False, **usual_of(job.function)}  # fmt: skip
    given = job.options.items()
    return {name: one for name, one in given if name not in usual or not is_usual(name, one)}


def _copies(call: Call, given: dict[str, Any]) -> dict[str, str]:
    """The call, to be pasted elsewhere; what is masked is to be filled in first."""
    # Stock RQ sends any string; not each may stand before "=".
    odd = {name for name in call.kwargs if not name.isidentifier() or iskeyword(name)}
    others = {name: call.kwargs[name] for name in call.kwargs if name in odd}
    named = [f"{name}={one!r}" for name, one in call.kwargs.items() if name not in odd]
    args = [*map(repr, call.args), *named]
    path = ", ".join([repr(call.function), *args, *([f"**{others!r}"] if others else [])])
    chosen = ", ".join(f"{name}={one!r}" for name, one in given.items())
    python = f"enqueue{f'.options({chosen})' if given else ''}.by_path({path})"
    sent = {"function": call.function, "args": call.args, "kwargs": call.kwargs, **given}
    written = _to_fill_in(json.dumps(sent, ensure_ascii=False))
    # A control character would be a keystroke in the terminal into which it is pasted.
    body = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in written)
    url = shlex.quote(auth.own_url(url_for("api.enqueue")))
    curl = f'curl -X POST {url} -H "Authorization: Bearer $API_TOKEN" '
    curl += f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    made = {"Python": f"from jiffy import enqueue\n\n{_to_fill_in(python)}", "curl": curl}
    return {name: text for name, text in made.items() if len(text) <= _MOST_COPIED}


def _to_fill_in(written: str) -> str:
    """With a bare word, which neither Python nor JSON takes, for each value that has a mask."""
    return _VALUE.sub(lambda found: FILL_IN if MASK in found[0] else found[0], written)


# Actions, all of them on record


def act_on(name: str, job_ids: Sequence[str]) -> Tally:
    """Act on each job; one that does not allow the action, or is not as it was shown any more, is
    left as it is.
    """
    tally = Tally()
    try:
        done = bulk.each(name, _as_shown(job_ids, tally), tally)
    finally:
        audit.note(jobs=tally.done)
    if len(job_ids) > 1:  # among them, ids of no jobs would hide the others
        audit.note(done=" ".join(done))
    return tally


def _as_shown(job_ids: Sequence[str], tally: Tally) -> dict[str, str]:
    """Those to which nothing has happened since the form was shown, perhaps long ago, each with
    its state; where it does not say how they were, all.
    """
    marks, seen = _marks(), dict.fromkeys(job_ids, "")
    found = read.jobs(redis_io.shared(), job_ids) if marks else {}
    for job_id, job in found.items():
        seen[job_id] = job.state
        if marks.get(job_id) != job.mark:
            del seen[job_id]
            tally.others += 1
            tally.refused = tally.refused or f"{job_id} has changed since it was shown."
    return seen


def _marks() -> dict[str, str]:
    """How the jobs of the form were as it was shown, by their ids."""
    said = (one.partition(" ") for one in request.form.getlist("seen"))
    return {job_id: mark for mark, _, job_id in said}


@page.post("/jobs/<job_id>/<any(retry, cancel, stop):action>")
def act(job_id: str, action: str) -> Response:
    """Act on the job, or say why not; `some` deletes, since it asks first."""
    flash(act_on(action, [job_id]).refused or f"{ACTIONS[action].done} this job.")
    return redirect(url_for("jobs.job", job_id=job_id), 303)


@page.post("/jobs/act")
def some() -> Response | str:
    """Do something with the jobs that were selected, or ask first."""
    name, ids = _action(), request.form.getlist("id")[:_MOST_SELECTED]
    back = _list_of(request.form.get("q", ""))
    audit.note(jobs=0)  # so far
    if not ids:
        flash(f"Select the jobs to {name} first.")
    elif name == "delete" and not request.form.get("sure"):
        return render_template("sure.html", action=name, ids=ids, back=back, marks=_marks())
    else:
        flash(act_on(name, ids).words(name))
    return redirect(back, 303)


@page.get("/jobs/all")
def all_matching() -> str:
    """Show how many jobs match before anything is done with them."""
    # What comes while they are counted is left alone.
    name, asked = _action(), redis_io.now(redis_io.shared())
    wanted = _understood(request.args.get("q", ""), asked)
    return render_template(
        "sure.html", action=name, wanted=wanted, few=bulk.FEW, most_again=bulk.MOST_AGAIN,
        matching=bulk.count(redis_io.shared(), name, wanted),
        queue=bulk.queue_of_workers(redis_io.shared()),
        back=url_for("jobs.jobs", q=wanted.text), asked=asked.isoformat(),
    )  # fmt: skip


@page.post("/jobs/all")
def act_on_all() -> Response:
    """Act on all that match: on a few at once, on many by a job."""
    if "q" not in request.form:  # an empty one means every job
        abort(422, "The form has no filter. Nothing was done.")
    return act_on_matching(_action(), request.form["q"])


def act_on_matching(name: str, matching: str) -> Response:
    """Act on what matched when the form was shown, which says how many."""
    asked = _asked()
    wanted = _understood(matching, asked)
    rate = bulk.read_rate(name, request.form.get("rate", "").strip())
    tally, redis, who = Tally(), redis_io.shared(), session["user"]
    try:
        job = bulk.act_on_all(redis, name, wanted, who, rate, asked, tally)
    except RedisError:
        audit.note(jobs=tally.done)
        raise
    if job:
        audit.note(job=job.id)
        flash(f"This job will {name} them. You can close the browser.")
        return redirect(url_for("jobs.job", job_id=job.id), 303)
    audit.note(jobs=tally.done)
    flash(tally.words(name))
    if tally.done + tally.others >= bulk.FEW:
        again = url_for("jobs.all_matching", q=wanted.text, action=name)
        return redirect(auth.short(again, url_for("jobs.jobs")), 303)
    return redirect(_list_of(wanted.text), 303)


def _list_of(matching: str) -> str:
    return auth.short(url_for("jobs.jobs", q=matching), url_for("jobs.jobs"))


def _understood(matching: str, asked: datetime) -> search.Filter:
    """The filter, if all of it is one: what is left out of it would widen what it means."""
    wanted = search.parse(matching.strip(), asked)
    if wanted.problems:
        abort(422, f"{wanted.problems[0]}. Nothing was done.")
    return wanted


def _asked() -> datetime:
    """When the form was shown; now, for one that does not say so.  By Redis' clock: others may have
    another, and what happened to a job a moment ago would lie ahead.
    """
    now = redis_io.now(redis_io.shared())
    with suppress(ValueError, TypeError):  # none, or one without a zone
        asked = min(now, clock.read(request.form.get("asked", "")))
        if now - asked > _FORM_LASTS:
            abort(409, "This form is over a day old: load it again. Nothing was done.")
        return asked
    return now


def _action() -> str:
    # The audit has what the form says, so a query must not say otherwise.
    sent = request.form if request.method == "POST" else request.args
    name = sent.get("action", "")
    if name not in BULK:
        abort(422, f"action is {name!r}; it must be {', '.join(BULK)}.")
    return name


# Groups of failed jobs: the same exception out of the same code


@failures_page.get("/failures", endpoint="failures")
def groups() -> str:
    release, shows_ignored = request.args.get("release", ""), "ignored" in request.args
    seen = census()
    found = failures.find(redis_io.shared(), seen, release=release, is_far="far" in request.args)
    # New is what failed on no other: of one release alone, or a part, that cannot be told.
    current = newest_release() if found.is_all and not release else ""
    shown = [one for one in found.groups if one.is_ignored == shows_ignored]
    shown.sort(key=lambda one: not one.is_new(current))
    return render_template(
        "failures.html", found=found, shown=shown[: failures.MOST_GROUPS],
        more=len(shown) - failures.MOST_GROUPS,
        hidden=len(found.groups) - len(shown),
        shows_ignored=shows_ignored, release=release, newest_release=current,
        live=sorted(seen.releases),
    )  # fmt: skip


@failures_page.get("/failures/<key>")
def group(key: str) -> str:
    """One group: where it comes from, its jobs, and how the trial went."""
    redis = redis_io.shared()
    found = failures.find(redis, census(), key=key, is_far="far" in request.args)
    tried, sealed = (request.args.get(name, "") for name in ("trial", "of"))
    is_one = auth.same(sealed, _seal(key, tried))  # not any job that a link names
    trial = read.job(redis, tried) if is_one else None
    one = found.groups[0] if found.groups else None
    return render_template(
        "failure.html",
        key=key,
        one=one,
        found=found,
        trial=trial,
        has_failed_again=bool(trial and trial.error and trial.group.key == key),
        own=own_frames(one.newest.error) if one else [],
        shown=failures.SHOWN,
        newest_release=newest_release() if found.is_all else "",
    )


@failures_page.post("/failures/<key>/trial")
def trial(key: str) -> Response:
    """Retry the newest job of the group, to see whether it works now."""
    one = failed_group(key, request.form.get("release", ""))
    failures.note(redis_io.shared(), key, one.jobs)
    job_id = one.newest.id
    tally = act_on("retry", [job_id])
    audit.note(job=job_id)
    flash(tally.refused or "Retried one job as a trial.")
    shown = url_for("failures.group", key=key, of=_seal(key, job_id), trial=job_id)
    return redirect(shown, 303)


def _seal(key: str, job_id: str) -> str:
    """What the link to a trial of this group carries."""
    return auth.seal(f"trial of {key}: {job_id}".encode("utf-8", "surrogateescape"))


@failures_page.post("/failures/<key>/ignore")
def ignore(key: str) -> Response:
    """Hide the group until it fails on a new release."""
    one, live = failed_group(key), census().releases
    failures.ignore(redis_io.shared(), one, session["user"], live)
    until = "It comes back when it fails on a new release."
    if not (live or one.releases):
        until = "It stays so until it is shown again: no worker says on which RELEASE it runs."
    flash(f"Ignored the group. {until}")
    return redirect(url_for("failures.failures"), 303)


@failures_page.post("/failures/<key>/stop-ignoring")
def stop_ignoring(key: str) -> Response:
    was_ignored = audit.changed(failures.stop_ignoring(redis_io.shared(), key))
    flash("The group is shown again." if was_ignored else "The group was not ignored.")
    return redirect(url_for("failures.group", key=key), 303)


def failed_group(key: str, release: str = "") -> Failures:
    """The group with its jobs, of one release perhaps; 409 where it has none."""
    found = failures.find(redis_io.shared(), census(), key=key, release=release, is_far=True)
    if not found.groups:
        abort(409, "No failed job of this group was found: they may have been retried by now.")
    return found.groups[0]
