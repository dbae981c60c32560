"""Taskiq: https://taskiq-python.github.io/, with taskiq-redis and uvloop."""

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from bench import jobs
from bench.contestants import (
    MEASURE,
    NAPS_AT_ONCE,
    REDIS_URL,
    RESULTS_URL,
    VARIANT,
    Count,
    command,
)

PACKAGES = ("taskiq", "taskiq-redis", "redis", "uvloop")
VARIANTS = {"stream": "as its README has it", "list": "for those who want no acknowledgements"}
MANY_AT_ONCE = True
DONE = Count(("DBSIZE",), db=1)

Broker = ListQueueBroker if VARIANT == "list" else RedisStreamBroker
# redis-py 8 waits 5 s for an answer unless told otherwise; Taskiq waits as long as it takes for its
# next job, so its workers would die of being idle.
broker = Broker(url=REDIS_URL, socket_timeout=None).with_result_backend(
    RedisAsyncResultBackend(RESULTS_URL)
)
tasks = {
    name: broker.task(task_name=name)(getattr(jobs, f"async_{name}"))
    for name in ("noop", "stamp", "nap")
}


def workers(n: int) -> list[list[str]]:
    line = [command("taskiq"), "worker", "bench.contestants.taskiq:broker", "--workers", str(n)]
    return [[*line, "--max-async-tasks", str(NAPS_AT_ONCE)] if MEASURE == "naps" else line]


async def connect() -> None:
    await broker.startup()


async def enqueue(job: str) -> None:
    await tasks[job].kiq()


async def call(job: str) -> float:
    return (await (await tasks[job].kiq()).wait_result(timeout=60)).return_value
