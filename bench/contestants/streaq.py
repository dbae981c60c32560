"""streaQ: https://streaq.readthedocs.io/, on uvloop as its own benchmarks are."""

from streaq import Worker

from bench import jobs
from bench.contestants import MEASURE, NAPS_AT_ONCE, REDIS_URL, Count, command

PACKAGES = ("streaq", "coredis", "uvloop")
MANY_AT_ONCE = True
DONE = Count(("ZCARD", "streaq:bench:index:results"))

options = {"concurrency": NAPS_AT_ONCE} if MEASURE == "naps" else {}
worker = Worker(
    redis_url=REDIS_URL, queue_name="bench", anyio_kwargs={"use_uvloop": True}, **options
)


@worker.task
async def noop() -> int:
    return await jobs.async_noop()


@worker.task
async def stamp() -> float:
    return await jobs.async_stamp()


@worker.task
async def nap() -> int:
    return await jobs.async_nap()


tasks = {"noop": noop, "stamp": stamp, "nap": nap}


def workers(n: int) -> list[list[str]]:
    return [[command("streaq"), "run", "bench.contestants.streaq:worker", "--workers", str(n)]]


async def connect() -> None:
    await worker.__aenter__()


async def enqueue(job: str) -> None:
    await tasks[job].enqueue()


async def enqueue_many(job: str, n: int) -> None:
    await worker.enqueue_many([tasks[job].enqueue() for _ in range(n)])


async def call(job: str) -> float:
    return (await (await tasks[job].enqueue()).result(timeout=60)).result
