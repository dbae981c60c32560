"""Huey: https://huey.readthedocs.io/, with processes, and results pushed to those who wait."""

from huey import RedisHuey

from bench import jobs
from bench.contestants import MEASURE, REDIS_URL, Count, command

PACKAGES = ("huey", "redis")
MANY_AT_ONCE = False
DONE = Count(("HLEN", "huey.results.bench"))

huey = RedisHuey("bench", url=REDIS_URL, notify_result=MEASURE == "latency")
tasks = {name: huey.task()(getattr(jobs, name)) for name in ("noop", "stamp", "nap")}


def workers(n: int) -> list[list[str]]:
    consumer = command("huey_consumer")
    return [[consumer, "bench.contestants.huey.huey", "-k", "process", "-w", str(n), "--quiet"]]


def enqueue(job: str) -> None:
    tasks[job]()


def call(job: str) -> float:
    return tasks[job]()(blocking=True, timeout=60)
