"""Dramatiq: https://dramatiq.io/, its default of eight threads in each process."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench import jobs
from bench.contestants import MEASURE, NAPS_AT_ONCE, REDIS_URL, RESULTS_URL, VARIANT, Count, command

PACKAGES = ("dramatiq", "redis")
VARIANTS = {"default": "as it is", "prefetch": "dramatiq_queue_prefetch=1000"}
MANY_AT_ONCE = True
DONE = Count(("DBSIZE",), db=1)

broker = RedisBroker(url=REDIS_URL)
broker.add_middleware(Results(backend=RedisBackend(url=RESULTS_URL)))
dramatiq.set_broker(broker)
actors = {
    name: dramatiq.actor(getattr(jobs, name), store_results=True)
    for name in ("noop", "stamp", "nap")
}


def workers(n: int) -> list[list[str]]:
    line = [command("dramatiq"), "bench.contestants.dramatiq", "--processes", str(n)]
    if MEASURE == "naps":
        line += ["--threads", str(NAPS_AT_ONCE)]
    if VARIANT == "prefetch":
        line = ["/usr/bin/env", "dramatiq_queue_prefetch=1000", *line]
    return [line]


def enqueue(job: str) -> None:
    actors[job].send()


def call(job: str) -> float:
    return actors[job].send().get_result(block=True, timeout=60_000)
