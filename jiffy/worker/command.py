"""The command behind `python worker.py`: start workers, and say what they do."""

import argparse
import os
import secrets
import socket
from collections.abc import Callable, Sequence

from redis import Redis

from jiffy import connection, functions, log
from jiffy.errors import BrokenModule, InvalidValue
from jiffy.job_options import check_queue
from jiffy.program import in_one_line
from jiffy.queues import DEFAULT_QUEUES
from jiffy.settings import Settings, settings
from jiffy.worker.child import Stint
from jiffy.worker.companion import Companion
from jiffy.worker.rq_face import Worker, supervise, warn_if_forgetful

# Prepares a scheduler, or ends this process; returns what the scheduler's own process has to do.
PrepareScheduler = Callable[[Redis], Callable[[], int]]


def worker_command(
    argv: Sequence[str] | None = None, *, scheduler: PrepareScheduler | None = None
) -> int:
    """Run jobs until told to stop; return the exit code.

    With the option `--with-scheduler` also what `scheduler` returns, in a process of its own.
    """
    with in_one_line():
        config = settings()
        asked = _parser(config, has_scheduler=scheduler is not None).parse_args(argv)
        if asked.n < 1:
            raise InvalidValue("-n", asked.n, "1 or more")
        log.setup(config.log_level)
        log.quieten("rq.worker", "rq.job")
        redis = connection.connect("worker")
        redis.ping()
        companion = Companion(scheduler(redis)) if scheduler and asked.with_scheduler else None
        queues = [check_queue("queue", name) for name in asked.queues or DEFAULT_QUEUES]
        log.event(
            "worker.started",
            workers=asked.n,
            queues=",".join(queues),
            redis=connection.describe(config),
            pid=os.getpid(),
        )
        warn_if_forgetful(redis)
        _preload(config.jobs_modules)
        stint = Stint(asked.burst, asked.max_jobs, asked.max_idle_time, config.max_jobs_per_child)
        faces = _faces(redis, queues, asked.n, config.dyno)
        supervise(redis, faces, stint, moves_due=True, companion=companion)
        log.event("worker.stopped", pid=os.getpid())
    return 0


def _parser(config: Settings, *, has_scheduler: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python worker.py", description="Run jobs.")
    parser.add_argument(
        "queues", nargs="*", metavar="QUEUE",
        help=f"the first is served first (default: {' '.join(DEFAULT_QUEUES)})",
    )  # fmt: skip
    parser.add_argument(
        "-n",
        type=int,
        default=config.workers,
        help="how many jobs at a time (default: %(default)s)",
    )
    parser.add_argument("--burst", action="store_true", help="stop when the queues are empty")
    parser.add_argument("--max-jobs", type=int, metavar="N", help="stop after N jobs, each worker")
    parser.add_argument(
        "--max-idle-time", type=int, metavar="S", help="stop after S seconds without a job"
    )
    if has_scheduler:
        what = "also do what `python scheduler.py` does"
        parser.add_argument("--with-scheduler", action="store_true", help=what)
    return parser


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
