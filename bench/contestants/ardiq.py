"""ArdiQ: https://ardiq.bytay.dev/, a worker loop in Rust."""

from ardiq import Ardiq

from bench import jobs
from bench.contestants import MEASURE, NAPS_AT_ONCE, REDIS_URL, Count, command

PACKAGES = ("ardiq", "msgpack")
MANY_AT_ONCE = True
DONE = Count(("ZCARD", "ardiq:bench:index:results"))

options = {"concurrency": NAPS_AT_ONCE} if MEASURE == "naps" else {}
app = Ardiq(redis_url=REDIS_URL, queue_name="bench", **options)
tasks = {
    name: app.task(name=name)(getattr(jobs, f"async_{name}")) for name in ("noop", "stamp", "nap")
}


def workers(n: int) -> list[list[str]]:
    line = [command("ardiq"), "run", "bench.contestants.ardiq:app", "--quiet"]
    return [[*line, "--workers", str(n)]]


async def enqueue(job: str) -> None:
    await tasks[job].enqueue()


async def enqueue_many(job: str, n: int) -> None:
    await app.enqueue_many(tasks[job].prepare() for _ in range(n))


async def call(job: str) -> float:
    return (await (await tasks[job].enqueue()).result(timeout=60)).value
