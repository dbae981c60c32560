"""One job: what it was asked to do, how far it is, what became of it."""

from flask import Blueprint, abort, render_template

from jiffy import connection
from jiffy.dashboard import data

page = Blueprint("job", __name__)

GONE = (
    "No job {!r}. Finished jobs are kept for a while only: 500 seconds unless they say otherwise."
)


@page.get("/jobs/<job_id>")
def job(job_id: str) -> str:
    found = data.read_job(connection.shared(), job_id)
    if found is None:
        abort(404, GONE.format(job_id))
    return render_template("job.html", job=found)
