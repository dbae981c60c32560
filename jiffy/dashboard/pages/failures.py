"""Failed jobs in groups: the same exception out of the same code.  Retry one, then the rest."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from redis import Redis
from werkzeug.wrappers import Response

from jiffy import read, redis_io, search
from jiffy.dashboard import actions
from jiffy.dashboard.frame import census
from jiffy.failures import Group, headline, own_frames
from jiffy.read import JobView
from jiffy.search import Cursor, Filter

page = Blueprint("failures", __name__)

_WINDOWS, _FAR = 1, 20  # of a search, of 500 jobs each
_SHOWN = 25


@dataclass
class Failures:
    """A group, and its jobs among those that were looked at."""

    group: Group
    jobs: list[JobView] = field(default_factory=list)

    @property
    def newest(self) -> JobView:
        return self.jobs[0]

    @property
    def first(self) -> datetime | None:
        return self.jobs[-1].latest

    @property
    def functions(self) -> list[tuple[str, int]]:
        return Counter(job.called for job in self.jobs).most_common(3)

    @property
    def headline(self) -> str:
        return headline(self.newest.error)


@dataclass(frozen=True)
class Searched:
    """The groups, the largest first, and how many failed jobs they were made of."""

    groups: list[Failures]
    looked_at: int
    total: int
    is_all: bool


@page.get("/failures")
def failures() -> str:
    found = _search(
        redis_io.shared(), search.parse("state:failed group:*"), is_far="far" in request.args
    )
    return render_template("failures.html", found=found)


@page.get("/failures/<key>")
def group(key: str) -> str:
    """One group: where it comes from, its jobs, and how the trial went."""
    redis = redis_io.shared()
    found = _search(redis, search.parse(f"state:failed group:{key}"), is_far="far" in request.args)
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
    )


@page.post("/failures/<key>/trial")
def trial(key: str) -> Response:
    """Retry the newest job of the group, to see whether it works now."""
    found = _search(redis_io.shared(), search.parse(f"state:failed group:{key}"), is_far=True)
    if not found.groups:
        abort(409, "No failed job of this group was found: they may have been retried by now.")
    job_id = found.groups[0].newest.id
    outcome = actions.act("retry", [job_id], session["user"])
    flash(outcome.refused or "Retried one job as a trial.")
    return redirect(url_for("failures.group", key=key, trial=job_id), 303)


def _search(redis: Redis, wanted: Filter, *, is_far: bool) -> Searched:
    """Group the newest failed jobs; a bounded number of them, of all queues."""
    lists = wanted.lists(census(redis))
    groups: dict[Group, Failures] = {}
    at: Cursor | None = Cursor()
    looked_at = total = sum(one.size for one in lists)
    for _ in range(_FAR if is_far else _WINDOWS):
        if at is None:
            break
        jobs, at = search.window(redis, lists, wanted, at)
        for job in jobs:
            name = Group.of(job.error)
            groups.setdefault(name, Failures(name)).jobs.append(job)
    if at is not None:
        looked_at = sum(min(one.size, at.depth) for one in lists)
    found = sorted(groups.values(), key=lambda one: -len(one.jobs))
    return Searched(found, looked_at, total, at is None)
