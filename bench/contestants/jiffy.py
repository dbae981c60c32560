"""Jiffy: this project, as its README says."""

import sys

import bench.jobs
import jiffy
from bench.contestants import VARIANT, Count
from jiffy.producer import results

PACKAGES = ("rq", "redis")
VARIANTS = {"isolate": "ISOLATE=yes: a fork for each job, as RQ's default"}
MANY_AT_ONCE = False
DONE = Count(("ZCARD", "rq:finished:default"))


def workers(n: int) -> list[list[str]]:
    line = [sys.executable, "worker.py", "-n", str(n), "default"]
    return [["env", "ISOLATE=yes", *line] if VARIANT == "isolate" else line]


def enqueue(job: str) -> None:
    jiffy.enqueue(getattr(bench.jobs, job))


def call(job: str) -> float:
    ending = results.follow(jiffy.enqueue(getattr(bench.jobs, job)), timeout_s=60)
    assert ending is not None
    return ending.value


if hasattr(jiffy, "enqueue_many"):

    def enqueue_many(job: str, n: int) -> None:
        jiffy.enqueue_many(getattr(bench.jobs, job), [()] * n)
