"""Celery: https://docs.celeryq.dev/, its three kinds of worker for plain functions.

For many short tasks its guide to optimizing wants a large prefetch multiplier, "64, or 128".
"""

from celery import Celery

from bench import jobs
from bench.contestants import MEASURE, REDIS_URL, RESULTS_URL, VARIANT, Count, command

PACKAGES = ("celery", "kombu", "redis")
VARIANTS = {"prefork": "its default: processes", "threads": "one process", "solo": "n processes"}
MANY_AT_ONCE = False
DONE = Count(("DBSIZE",), db=1)

app = Celery("bench", broker=REDIS_URL, backend=RESULTS_URL)
if MEASURE.startswith("drain"):
    app.conf.worker_prefetch_multiplier = 128
tasks = {name: app.task(getattr(jobs, name)) for name in ("noop", "stamp", "nap")}


def workers(n: int) -> list[list[str]]:
    line = [command("celery"), "--app", "bench.contestants.celery", "worker", "--pool", VARIANT]
    if VARIANT == "solo":
        return [[*line, "--hostname", f"worker{number}"] for number in range(n)]
    return [[*line, "--concurrency", str(n)]]


def enqueue(job: str) -> None:
    tasks[job].delay()


def call(job: str) -> float:
    return tasks[job].delay().get(timeout=60)
