"""An API on workers of its own: /add/<x>/<y>, then /task_status/<id>."""

from flask import Flask, abort, url_for
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException

from enqueue import enqueue
from jiffy import errors, find_job, wait
from jobs import numbers

app = Flask(__name__)
on_long_tasks = enqueue.options(queue="long_tasks", result_ttl="1h")


@app.route("/add/<int(signed=True):x>/<int(signed=True):y>", methods=["GET", "POST"])
def add(x, y):
    job = on_long_tasks(numbers.add, x, y)
    return {"id": job.id, "status_url": url_for("task_status", job_id=job.id)}, 202


@app.get("/task_status/<job_id>")
def task_status(job_id):
    job = find_job(job_id) or abort(404, f"There is no job {job_id}, or none any more.")
    try:
        return {"state": "finished", "result": wait(job, timeout=0)}
    except errors.StillRunning as running:
        return {"state": running.status}
    except errors.JobFailed as failed:
        return {"state": failed.status, "error": failed.reason}


@app.errorhandler(HTTPException)
def refused(error):
    return {"error": error.description}, error.code


@app.errorhandler(RedisError)
def no_queue(error):
    return {"error": "The queue does not answer.", "may_run": getattr(error, "job_id", None)}, 503
