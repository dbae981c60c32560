"""arq: https://arq-docs.helpmanual.io/, a process for each worker."""

from arq import create_pool
from arq.connections import RedisSettings

from bench import jobs
from bench.contestants import REDIS_URL, Count, command

PACKAGES = ("arq", "redis", "hiredis")
MANY_AT_ONCE = True
DONE = Count(("ZCARD", "arq:queue"), is_left=True)


async def noop(_):
    return await jobs.async_noop()


async def stamp(_):
    return await jobs.async_stamp()


async def nap(_):
    return await jobs.async_nap()


class WorkerSettings:
    redis_settings = RedisSettings.from_dsn(REDIS_URL)
    functions = (noop, stamp, nap)


def workers(n: int) -> list[list[str]]:
    return [[command("arq"), "bench.contestants.arq.WorkerSettings"]] * n


async def connect() -> None:
    global pool
    pool = await create_pool(WorkerSettings.redis_settings)


async def enqueue(job: str) -> None:
    await pool.enqueue_job(job)


async def call(job: str) -> float:
    return await (await pool.enqueue_job(job)).result(timeout=60)
