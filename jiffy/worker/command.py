"""Start workers, and say what they do."""

import os
import secrets
import socket
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from redis import Redis

from jiffy import connection, log
from jiffy.producer.enqueue import DEFAULT_QUEUES
from jiffy.producer.options import read_queue
from jiffy.settings import settings
from jiffy.worker import isolation, process
from jiffy.worker.board import Board
from jiffy.worker.child import Stint
from jiffy.worker.companion import Companion
from jiffy.worker.rq_worker import Worker, supervise, warn_if_forgetful

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
    part = process.part()
    config = settings()
    log.setup(config.log_level)
    log.quieten("rq.worker", "rq.job")
    queues = [read_queue("queue", name) for name in queues or DEFAULT_QUEUES]
    stint = Stint(burst, max_jobs, max_idle_time, config.max_jobs_per_child)
    if part:
        process.run(lambda: _do(part, queues, stint))
    program = Path(sys.argv[0]).name
    forks = not isolation.has_opened(program)
    redis = connection.connected("worker")
    preloads = forks and isolation.can_preload(config.jobs_modules)
    companion = Companion(prepare(redis)) if prepare else None
    log.event(
        "worker.started",
        workers=count,
        queues=",".join(queues),
        redis=connection.describe(config),
        pid=os.getpid(),
    )
    warn_if_forgetful(redis)
    if preloads:
        isolation.import_all(config.jobs_modules)
    _disconnect(redis)
    forks = forks and not isolation.has_opened(program)
    faces = [_face(queues, name, redis) for name in _names(config.dyno, count)]
    for face in faces:
        face.imports = () if preloads and forks else config.jobs_modules
    supervise(redis, faces, stint, moves_due=True, companion=companion, forks=forks)
    log.event("worker.stopped", pid=os.getpid())


def _do(part: Sequence[Any], queues: Sequence[str], stint: Stint) -> int:
    """Do what the supervisor has spawned this process for; return its exit code."""
    name, fd, token = part
    redis = connection.connect("worker")
    face = _face(queues, name, redis)
    face.imports = settings().jobs_modules
    board = Board(fd)
    os.close(fd)
    return face.work_in_child(stint, board, token)


def _face(queues: Sequence[str], name: str, redis: Redis) -> Worker:
    with warnings.catch_warnings():
        # RQ warns where it may not ask who is connected; nothing needs to know.
        warnings.filterwarnings("ignore", "CLIENT (SETNAME|LIST) command not supported")
        return Worker(queues, name, connection=redis)


def _disconnect(redis: Redis) -> None:
    """Close what forks do not use: they open connections of their own."""
    for client in (redis, connection.shared()):
        client.connection_pool.disconnect()


def _names(dyno: str | None, count: int) -> list[str]:
    # RQ shows this name: where the worker is, and which of its children.  The last part is new at
    # each start, so that a dyno that starts again is not taken for the one before.
    place = (dyno or socket.gethostname()).replace(":", "-")
    start = secrets.token_hex(2)
    return [f"{place}.{start}.{number}" for number in range(1, count + 1)]
