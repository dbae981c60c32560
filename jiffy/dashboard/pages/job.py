"""One job: its call, its progress, and how it ended."""

from flask import Blueprint, render_template

from jiffy import read, redis_io
from jiffy.errors import UnknownJob

page = Blueprint("job", __name__)


@page.get("/jobs/<job_id>")
def job(job_id: str) -> str:
    found = read.job(redis_io.shared(), job_id)
    if found is None:
        raise UnknownJob(job_id)
    return render_template("job.html", job=found)
