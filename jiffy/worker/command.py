"""The command behind `python worker.py`: start workers, and say what they do."""

import argparse
import os
from collections.abc import Sequence

from jiffy import connection, log
from jiffy.errors import InvalidValue, in_one_line
from jiffy.queues import DEFAULT_QUEUES
from jiffy.settings import settings
from jiffy.worker.pool import Pool


def worker_command(argv: Sequence[str] | None = None) -> int:
    """Run jobs until told to stop; return the exit code."""
    with in_one_line():
        asked = _parser().parse_args(argv)
        if asked.n < 1:
            raise InvalidValue("-n", asked.n, "1 or more")
        log.setup(settings().log_level)
        redis = connection.connect("worker")
        redis.ping()
        queues = asked.queues or list(DEFAULT_QUEUES)
        log.event(
            "worker.started",
            workers=asked.n,
            queues=",".join(queues),
            redis=connection.describe(settings()),
            pid=os.getpid(),
        )
        Pool(queues, redis, num_workers=asked.n).start(burst=asked.burst)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python worker.py", description="Run jobs.")
    parser.add_argument(
        "queues", nargs="*", metavar="QUEUE", help="first is served first (default: %(default)s)",
        default=[],
    )  # fmt: skip
    parser.add_argument(
        "-n", type=int, default=settings().workers, help="how many at a time (default: %(default)s)"
    )
    parser.add_argument("--burst", action="store_true", help="stop when the queues are empty")
    return parser
