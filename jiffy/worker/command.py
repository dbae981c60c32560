"""Start workers, and say what they do."""

import os
import secrets
import socket
from collections.abc import Callable, Sequence

from redis import Redis

from jiffy import connection, functions, log
from jiffy.errors import BrokenModule
from jiffy.job_options import check_queue
from jiffy.queues import DEFAULT_QUEUES
from jiffy.settings import settings
from jiffy.worker.child import Stint
from jiffy.worker.companion import Companion
from jiffy.worker.rq_face import Worker, supervise, warn_if_forgetful

# Prepares a scheduler, or ends this process; returns what the scheduler's own process has to do.
PrepareScheduler = Callable[[Redis], Callable[[], int]]


def run_workers(
    count: int,
    queues: Sequence[str],
    *,
    burst: bool = False,
    max_jobs: int | None = None,
    max_idle_time: int | None = None,
    prepare: PrepareScheduler | None = None,
) -> None:
    """Run jobs, so many at a time, until told to stop; and a scheduler, in a process of its own."""
    config = settings()
    log.setup(config.log_level)
    log.quieten("rq.worker", "rq.job")
    redis = connection.connect("worker")
    redis.ping()
    companion = Companion(prepare(redis)) if prepare else None
    queues = [check_queue("queue", name) for name in queues or DEFAULT_QUEUES]
    log.event(
        "worker.started",
        workers=count,
        queues=",".join(queues),
        redis=connection.describe(config),
        pid=os.getpid(),
    )
    warn_if_forgetful(redis)
    _preload(config.jobs_modules)
    stint = Stint(burst, max_jobs, max_idle_time, config.max_jobs_per_child)
    faces = _faces(redis, queues, count, config.dyno)
    supervise(redis, faces, stint, moves_due=True, companion=companion)
    log.event("worker.stopped", pid=os.getpid())


def _faces(redis: Redis, queues: Sequence[str], count: int, dyno: str | None) -> list[Worker]:
    # RQ shows this name: where the worker is, and which of its children.  The last part is new at
    # each start, so that a dyno that starts again is not taken for the one before.
    place = (dyno or socket.gethostname()).replace(":", "-")
    start = secrets.token_hex(2)
    names = [f"{place}.{start}.{number}" for number in range(1, count + 1)]
    return [Worker(queues, name, connection=redis) for name in names]


def _preload(modules: tuple[str, ...]) -> None:
    """Import what jobs are made of before the children are forked: they share its memory."""
    for name in modules:
        try:
            functions.load(name)
        except BrokenModule as error:  # its jobs fail with this reason; the others run
            log.event("module.broken", log.ERROR, module=name, reason=error)
