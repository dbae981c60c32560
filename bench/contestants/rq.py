"""RQ as it is: https://python-rq.org/docs/workers/."""

from redis import Redis
from rq import Queue

from bench import jobs
from bench.contestants import REDIS_URL, VARIANT, Count, command

PACKAGES = ("rq", "redis")
VARIANTS = {"fork": "its default, a fork for each job", "simple": "SimpleWorker, in one process"}
MANY_AT_ONCE = False
DONE = Count(("ZCARD", "rq:finished:default"))

queue = Queue(connection=Redis.from_url(REDIS_URL))


def workers(n: int) -> list[list[str]]:
    # `bench.contestants` serves as RQ's settings: it has a REDIS_URL.
    line = [command("rq"), "worker-pool", "--config", "bench.contestants", "-n", str(n), "--quiet"]
    if VARIANT == "simple":
        line += ["--worker-class", "rq.worker.SimpleWorker"]
    return [line]


def enqueue(job: str) -> None:
    queue.enqueue(getattr(jobs, job))


def enqueue_many(job: str, n: int) -> None:
    queue.enqueue_many(Queue.prepare_data(getattr(jobs, job)) for _ in range(n))


def call(job: str) -> float:
    result = queue.enqueue(getattr(jobs, job)).latest_result(timeout=60)
    assert result is not None
    return result.return_value
