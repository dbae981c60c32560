"""A service that leaves its work to workers: /start_task/<data>, then /task_status/<id>."""

from flask import Flask, abort, url_for
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException

from enqueue import enqueue
from jiffy import errors, find_job, wait
from jobs import long

app = Flask(__name__)


@app.route("/start_task/<data>", methods=["GET", "POST"])
def start_task(data):
    job = enqueue(long.spell, data)
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
