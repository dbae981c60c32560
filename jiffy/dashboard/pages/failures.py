"""Failed jobs in groups: the same exception out of the same code.  Retry one, then the rest."""

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from jiffy import redis_io
from jiffy.control import failures, read
from jiffy.control.failures import Failures, find, note
from jiffy.dashboard import audit
from jiffy.dashboard.frame import census
from jiffy.dashboard.frame import release as newest_release
from jiffy.dashboard.pages.jobs import act_on
from jiffy.tracebacks import Group, own_frames

page = Blueprint("failures", __name__)

_SHOWN = 25


@page.get("/failures", endpoint="failures")
def groups() -> str:
    release, shows_ignored = request.args.get("release", ""), "ignored" in request.args
    seen, current = census(), newest_release()
    found = find(redis_io.shared(), seen, release=release, is_far="far" in request.args)
    shown = [one for one in found.groups if one.is_ignored == shows_ignored]
    shown.sort(key=lambda one: not one.is_new(current))
    return render_template(
        "failures.html", found=found, shown=shown, hidden=len(found.groups) - len(shown),
        shows_ignored=shows_ignored, release=release, newest_release=current,
        live=sorted(seen.releases),
    )  # fmt: skip


@page.get("/failures/<key>")
def group(key: str) -> str:
    """One group: where it comes from, its jobs, and how the trial went."""
    redis = redis_io.shared()
    found = find(redis, census(), key=key, is_far="far" in request.args)
    trial = read.job(redis, request.args["trial"]) if "trial" in request.args else None
    one = found.groups[0] if found.groups else None
    return render_template(
        "failure.html",
        key=key,
        one=one,
        found=found,
        trial=trial,
        has_failed_again=bool(trial and trial.error and Group.of(trial.error).key == key),
        own=own_frames(one.newest.error) if one else [],
        shown=_SHOWN,
        newest_release=newest_release(),
    )


@page.post("/failures/<key>/trial")
def trial(key: str) -> Response:
    """Retry the newest job of the group, to see whether it works now."""
    one = _found(key)
    note(redis_io.shared(), key, one.jobs)
    job_id = one.newest.id
    outcome = act_on("retry", [job_id])
    flash(outcome.refused or "Retried one job as a trial.")
    return redirect(url_for("failures.group", key=key, trial=job_id), 303)


@page.post("/failures/<key>/ignore")
def ignore(key: str) -> Response:
    """Hide the group until it fails on a new release."""
    one, who = _found(key), session["user"]
    failures.ignore(redis_io.shared(), one, who, census().releases)
    audit.record(who, "ignore", f"group:{key}", len(one.jobs))
    flash("Ignored the group. It comes back when it fails on a new release.")
    return redirect(url_for("failures.failures"), 303)


@page.post("/failures/<key>/stop-ignoring")
def stop_ignoring(key: str) -> Response:
    """Show the group again."""
    audit.record(session["user"], "stop ignoring", f"group:{key}", 0)
    was_ignored = failures.stop_ignoring(redis_io.shared(), key)
    flash("The group is shown again." if was_ignored else "The group was not ignored.")
    return redirect(url_for("failures.group", key=key), 303)


def _found(key: str) -> Failures:
    found = find(redis_io.shared(), census(), key=key, is_far=True)
    if not found.groups:
        abort(409, "No failed job of this group was found: they may have been retried by now.")
    return found.groups[0]
