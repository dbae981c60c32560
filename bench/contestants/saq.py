"""SAQ: https://saq-py.readthedocs.io/, with hiredis."""

from contextlib import suppress

from saq import Queue

from bench import jobs
from bench.contestants import REDIS_URL, Count, command

PACKAGES = ("saq", "redis", "hiredis")
MANY_AT_ONCE = True
DONE = Count(("ZCARD", "saq:bench:incomplete"), is_left=True)

queue = Queue.from_url(REDIS_URL, name="bench")


async def noop(_):
    return await jobs.async_noop()


async def stamp(_):
    return await jobs.async_stamp()


async def nap(_):
    return await jobs.async_nap()


settings = {"queue": queue, "functions": [noop, stamp, nap], "concurrency": 10}


def workers(n: int) -> list[list[str]]:
    return [[command("saq"), "bench.contestants.saq.settings", "--workers", str(n)]]


async def connect() -> None:
    await queue.connect()


async def enqueue(job: str) -> None:
    await queue.enqueue(job)


async def call(job: str) -> float:
    job_put = await queue.enqueue(job)
    # A job that ends before one listens is not heard of, and read when the wait is over.
    with suppress(TimeoutError):
        await job_put.refresh(1)
    await job_put.refresh()
    return job_put.result
