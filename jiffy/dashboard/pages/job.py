"""One job: what it was asked to do, how far it is, what became of it."""

from flask import Blueprint, render_template

from jiffy import connection
from jiffy.dashboard import data
from jiffy.errors import UnknownJob

page = Blueprint("job", __name__)


@page.get("/jobs/<job_id>")
def job(job_id: str) -> str:
    found = data.read_job(connection.shared(), job_id)
    if found is None:
        raise UnknownJob(job_id)
    return render_template("job.html", job=found)
